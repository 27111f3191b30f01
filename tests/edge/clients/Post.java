import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Posts a body with the default client, which offers HTTP/2 by Upgrade; prints status and body. */
public class Post {
    public static void main(String[] arguments) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(arguments[0]))
            .header("Content-Type", arguments[1])
            .POST(HttpRequest.BodyPublishers.ofString(arguments[2]));
        if (arguments.length > 3) {
            request.header("Authorization", "Bearer " + arguments[3]);
        }
        HttpResponse<String> response =
            HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofString());
        System.out.println(response.statusCode());
        System.out.println(response.body());
    }
}
