package com.example.shop

import okhttp3.OkHttpClient
import okhttp3.Request

/** Gets each address; only the host `API_HOST` is the app's own. */
fun main(addresses: Array<String>) {
    fun env(name: String) = requireNotNull(System.getenv(name)) { "set $name" }
    val telemetry = Telemetry(env("CORRELATION_ID"), env("APP_VERSION"), env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
    val client = OkHttpClient()
    val calls = telemetry.calls(client, setOf(env("API_HOST")))
    for (address in addresses) {
        calls.newCall(Request.Builder().url(address).build()).execute().use { println("${it.code} $address") }
    }
    telemetry.sdk.close()
    client.dispatcher.executorService.shutdown()
    client.connectionPool.evictAll()
}
