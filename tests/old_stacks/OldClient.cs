// Calls a URL by HttpWebRequest and TLS 1.0, as .NET 3.5 did. Whom Mono trusts is not tried here.
using System;
using System.Net;
using System.Text;

class OldClient
{
    static void Main(string[] arguments)
    {
        ServicePointManager.SecurityProtocol = SecurityProtocolType.Tls;
        ServicePointManager.ServerCertificateValidationCallback = delegate { return true; };
        HttpWebRequest call = (HttpWebRequest) WebRequest.Create(arguments[0]);
        string pair = Convert.ToBase64String(Encoding.ASCII.GetBytes(arguments[1]));
        call.Headers["Authorization"] = "Basic " + pair;
        using (HttpWebResponse answer = (HttpWebResponse) call.GetResponse())
            Console.WriteLine((int) answer.StatusCode);
    }
}
