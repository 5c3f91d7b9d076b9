const { propagation, SpanKind } = require("@opentelemetry/api");
const { OTLPTraceExporter } = require("@opentelemetry/exporter-trace-otlp-http");
const { HttpInstrumentation } = require("@opentelemetry/instrumentation-http");
const { NodeSDK, tracing } = require("@opentelemetry/sdk-node");

/** Writes the caller's build on the span of a request: baggage by itself is stored nowhere. */
const callersBuild = {
  onStart(span, context) {
    const build = propagation.getBaggage(context)?.getEntry("app.build_id")?.value;
    // Anyone can send anything: nothing that is no id, and nothing long.
    if (span.kind === SpanKind.SERVER && /^[\w.:/-]{1,64}$/.test(build ?? "")) {
      span.setAttribute("app.build_id", build);
    }
  },
  onEnd() {},
  forceFlush: async () => {},
  shutdown: async () => {},
};

// The server's own build is OTEL_RESOURCE_ATTRIBUTES=app.build_id=$CORRELATION_ID,service.version=…
const sdk = new NodeSDK({
  spanProcessors: [callersBuild, new tracing.BatchSpanProcessor(new OTLPTraceExporter())],
  instrumentations: [new HttpInstrumentation()],
});
sdk.start();
process.once("SIGTERM", () => sdk.shutdown().then(() => process.exit(0)));
