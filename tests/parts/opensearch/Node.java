import java.io.IOException;
import java.nio.file.Path;
import org.codelibs.opensearch.runner.OpenSearchRunner;

/** One node: the runner's own main() takes no settings and no port above 9299, and hides errors. */
final class Node {
    /** Arguments: the port of HTTP on 127.0.0.1, and a folder for what the node writes. */
    public static void main(String[] arguments) throws InterruptedException {
        var runner = new OpenSearchRunner();
        runner.setMaxHttpPort(-1); // else it looks for a free one, and finds none above 9299
        Runtime.getRuntime().addShutdownHook(new Thread(() -> close(runner)));
        runner.onBuild((number, settings) -> settings
            .put("network.host", "127.0.0.1")
            .put("http.port", arguments[0])
            .put("transport.port", "0")
            .put("discovery.type", "single-node")
            // The runner's node would run no ingest pipelines.
            .putList("node.roles", "cluster_manager", "data", "ingest"));
        runner.build("-basePath", Path.of(arguments[1]).toAbsolutePath().toString(), "-numOfNode", "1");
        Thread.currentThread().join(); // until a signal comes: the node itself keeps no process alive
    }

    private static void close(OpenSearchRunner runner) {
        try {
            runner.close();
        } catch (IOException error) {
            error.printStackTrace();
        }
    }

    private Node() {}
}
