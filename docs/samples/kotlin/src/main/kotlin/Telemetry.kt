package com.example.shop

import io.opentelemetry.api.baggage.Baggage
import io.opentelemetry.api.baggage.propagation.W3CBaggagePropagator
import io.opentelemetry.api.common.AttributeKey.stringKey
import io.opentelemetry.api.common.Attributes
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator
import io.opentelemetry.context.Context
import io.opentelemetry.context.propagation.TextMapPropagator
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter
import io.opentelemetry.instrumentation.okhttp.v3_0.OkHttpTelemetry
import io.opentelemetry.sdk.OpenTelemetrySdk
import io.opentelemetry.sdk.resources.Resource
import io.opentelemetry.sdk.trace.SdkTracerProvider
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor
import okhttp3.Call
import okhttp3.Interceptor
import okhttp3.OkHttpClient
import okhttp3.Response

/** In an Android app: `BuildConfig.BUILD_ID` and `BuildConfig.VERSION_NAME`. */
class Telemetry(private val buildId: String, version: String, traces: String) {
    // Without propagators: they would send the headers to every host.
    val sdk: OpenTelemetrySdk = OpenTelemetrySdk.builder()
        .setTracerProvider(
            SdkTracerProvider.builder()
                .setResource(
                    Resource.getDefault().merge(
                        Resource.create(
                            Attributes.of(
                                stringKey("service.name"), "shop-android",
                                stringKey("service.version"), version,
                                stringKey("app.build_id"), buildId,
                            ),
                        ),
                    ),
                )
                .addSpanProcessor(
                    BatchSpanProcessor.builder(OtlpHttpSpanExporter.builder().setEndpoint(traces).build()).build(),
                )
                .build(),
        )
        .build()

    /** A span for each request, and for `ownHosts` what joins it to the server's span and the build. */
    fun calls(client: OkHttpClient, ownHosts: Set<String>): Call.Factory =
        OkHttpTelemetry.create(sdk).createCallFactory(
            // A network interceptor: headers of an application interceptor follow a redirect to another host.
            client.newBuilder().addNetworkInterceptor(OwnHosts(ownHosts, buildId)).build(),
        )
}

private class OwnHosts(private val hosts: Set<String>, private val buildId: String) : Interceptor {
    private val propagator = TextMapPropagator.composite(
        W3CTraceContextPropagator.getInstance(),
        W3CBaggagePropagator.getInstance(),
    )

    override fun intercept(chain: Interceptor.Chain): Response {
        val request = chain.request()
        if (request.url.host !in hosts) return chain.proceed(request)
        val current = Context.current()
        val baggage = Baggage.fromContext(current).toBuilder().put("app.build_id", buildId).build()
        val headers = request.newBuilder()
        propagator.inject(current.with(baggage), headers) { carrier, name, value -> carrier?.header(name, value) }
        return chain.proceed(headers.build())
    }
}
