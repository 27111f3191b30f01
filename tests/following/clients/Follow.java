// Fetches each URL of the standard input with java.net.http.HttpClient and follows redirects.
// With FOLLOW_BODY in the environment it sends a POST with so many bytes.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

class Follow {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newBuilder().followRedirects(HttpClient.Redirect.ALWAYS).build();
        var lines = new BufferedReader(new InputStreamReader(System.in));
        var size = Integer.parseInt(System.getenv().getOrDefault("FOLLOW_BODY", "0"));
        for (String url; (url = lines.readLine()) != null; ) {
            try {
                var request = HttpRequest.newBuilder(URI.create(url));
                if (size > 0) {
                    request.POST(HttpRequest.BodyPublishers.ofString("x".repeat(size)));
                }
                client.send(request.build(), HttpResponse.BodyHandlers.discarding());
            } catch (Exception error) {
                System.err.println(url + ": " + error);
            }
        }
    }
}
