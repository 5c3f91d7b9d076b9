import Foundation
import OpenTelemetryApi
import OpenTelemetryProtocolExporterHttp
import OpenTelemetrySdk
import URLSessionInstrumentation

/// Sends a span for each request, and to the app's own hosts what joins it to the server's span and the build.
final class Telemetry {
    private let instrumentation: URLSessionInstrumentation

    init(traces: URL, ownHosts: Set<String>, bundle: Bundle = .main) {
        func info(_ key: String) -> String { bundle.object(forInfoDictionaryKey: key) as? String ?? "local" }
        let buildId = info("SpanhookBuildId")

        OpenTelemetry.registerTracerProvider(
            tracerProvider: TracerProviderBuilder()
                .with(resource: Resource(attributes: [
                    "service.name": .string("shop-ios"),
                    "service.version": .string(info("CFBundleShortVersionString")),
                    "app.build_id": .string(buildId),
                ]))
                .add(spanProcessor: BatchSpanProcessor(spanExporter: OtlpHttpTraceExporter(endpoint: traces)))
                .build()
        )
        OpenTelemetry.registerPropagators(
            textPropagators: [W3CTraceContextPropagator()],
            baggagePropagator: W3CBaggagePropagator()
        )

        let isOwn = { (request: URLRequest) in request.url?.host.map(ownHosts.contains) ?? false }
        instrumentation = URLSessionInstrumentation(
            configuration: URLSessionInstrumentationConfiguration(
                // The spans themselves are sent without a span of their own.
                shouldInstrument: { $0.url?.host != traces.host },
                shouldInjectTracingHeaders: isOwn,
                baggageProvider: { request, _ in
                    guard isOwn(request),
                          let key = EntryKey(name: "app.build_id"),
                          let value = EntryValue(string: buildId)
                    else { return nil }
                    return OpenTelemetry.instance.baggageManager.baggageBuilder()
                        .put(key: key, value: value, metadata: nil)
                        .build()
                }
            )
        )
    }
}
