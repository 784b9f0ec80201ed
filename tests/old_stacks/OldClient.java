// Calls a URL by HttpsURLConnection, the way that old clients did; Java's properties say by which TLS.
import java.net.URL;
import java.util.Base64;
import javax.net.ssl.HttpsURLConnection;

public class OldClient {
    public static void main(String[] arguments) throws Exception {
        HttpsURLConnection call = (HttpsURLConnection) new URL(arguments[0]).openConnection();
        String pair = Base64.getEncoder().encodeToString(arguments[1].getBytes());
        call.setRequestProperty("Authorization", "Basic " + pair);
        System.out.println(call.getResponseCode());
    }
}
