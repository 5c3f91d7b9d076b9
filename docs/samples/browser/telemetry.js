import { propagation } from "@opentelemetry/api";
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from "@opentelemetry/core";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { registerInstrumentations } from "@opentelemetry/instrumentation";
import { FetchInstrumentation } from "@opentelemetry/instrumentation-fetch";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, WebTracerProvider } from "@opentelemetry/sdk-trace-web";

/** Adds the build to whatever baggage a request has. */
class BuildBaggage extends W3CBaggagePropagator {
  inject(context, carrier, setter) {
    const baggage = propagation.getBaggage(context) ?? propagation.createBaggage();
    const more = baggage.setEntry("app.build_id", { value: __BUILD_ID__ });
    super.inject(propagation.setBaggage(context, more), carrier, setter);
  }
}

const provider = new WebTracerProvider({
  resource: resourceFromAttributes({
    "service.name": "shop-web",
    "service.version": __APP_VERSION__,
    "app.build_id": __BUILD_ID__,
  }),
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url: __OTLP_TRACES__ }))],
});
provider.register({
  propagator: new CompositePropagator({ propagators: [new W3CTraceContextPropagator(), new BuildBaggage()] }),
});
registerInstrumentations({
  instrumentations: [
    new FetchInstrumentation({
      // Only these hosts, and the page's own, get traceparent and baggage. They must allow both headers (CORS).
      propagateTraceHeaderCorsUrls: [/^https:\/\/api\.example\.com\//],
      ignoreUrls: [__OTLP_TRACES__],
    }),
  ],
});
addEventListener("visibilitychange", () => document.hidden && provider.forceFlush());
