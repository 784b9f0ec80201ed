import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import javax.xml.parsers.DocumentBuilderFactory;
import org.w3c.dom.Document;
import org.w3c.dom.NodeList;

/**
 * A shop, as Java with HttpURLConnection does it, in the paths of 2008. It sends Basic at once, for
 * HttpURLConnection would wait to be asked.
 *
 * It knows v1 only. Prints a line a call: its name, the status, what it read.
 */
public class Shop {
    private static final String MESSAGE =
        "<invoice-message><subject>Your invoice</subject><body>Thank you &amp; goodbye</body>"
        + "<recipients>Jane Doe &lt;jane@doe.org&gt;</recipients></invoice-message>";
    private static final String PAYMENT =
        "<payment><amount type=\"decimal\">1.50</amount><notes>Wire</notes></payment>";

    public static void main(String[] steps) throws Exception {
        for (String step : steps) {
            switch (step) {
                case "list": read(step, "/invoice/1420/messages", "invoice-message", true); break;
                case "show": read(step, "/invoice/1420/messages/409", "body", false); break;
                case "send": write(step, "/invoice/1420/messages", MESSAGE); break;
                case "payments": read(step, "/invoice/1420/payments", "payment", true); break;
                case "pay": write(step, "/invoice/1420/payments", PAYMENT); break;
                case "clients": read(step, "/clients", "name", false); break;
                default: throw new IllegalArgumentException(step);
            }
        }
    }

    private static HttpURLConnection open(String path) throws IOException {
        String pair = System.getenv("HARVEST_LOGIN") + ":" + System.getenv("HARVEST_PASSWORD");
        URL url = new URL(System.getenv("HARVEST_URL") + path);
        HttpURLConnection connection = (HttpURLConnection) url.openConnection();
        connection.setRequestProperty("Authorization", "Basic "
            + Base64.getEncoder().encodeToString(pair.getBytes(StandardCharsets.UTF_8)));
        return connection;
    }

    private static void read(String step, String path, String name, boolean counting)
            throws Exception {
        HttpURLConnection connection = open(path);
        int status = connection.getResponseCode();
        String read = "";
        if (status < 300) {
            try (InputStream body = connection.getInputStream()) {
                Document document =
                    DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(body);
                NodeList found = document.getElementsByTagName(name);
                read = counting
                    ? String.valueOf(found.getLength())
                    : found.item(0).getTextContent();
            }
        }
        tell(step, status, read);
    }

    private static void write(String step, String path, String body) throws IOException {
        HttpURLConnection connection = open(path);
        connection.setRequestMethod("POST");
        connection.setDoOutput(true);
        connection.setRequestProperty("Content-Type", "application/xml");
        connection.getOutputStream().write(body.getBytes(StandardCharsets.UTF_8));
        int status = connection.getResponseCode();
        String location = connection.getHeaderField("Location");
        tell(step, status, location == null ? "" : location.replaceAll(".*/", ""));
    }

    private static void tell(String step, int status, String read) {
        System.out.println(step + "\t" + status + "\t" + read);
    }
}
