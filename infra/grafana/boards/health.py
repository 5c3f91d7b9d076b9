"""spanhook itself."""

from grafana_foundation_sdk.models import units

from .panels import FEW, GREEN_RED, PLAIN, board, series, stat, table


def make():
    # spanhook exports deltas, so a sum over any period is right.
    own = "$__timeFilter(TimeUnix) AND ScopeName = 'spanhook'"
    lag = f"{own} AND MetricName = 'spanhook.delivery_lag'"
    webhook = "$__timeFilter(Timestamp) AND ScopeName = 'spanhook' AND SpanName LIKE 'POST /%'"
    # The second condition leaves out whole partitions; hardly a run is delivered a month late.
    stored = "$__timeFilter(inserted_at) AND timestamp >= $__fromTime - INTERVAL 31 DAY"

    def counted(title, description, metric, thresholds):
        return stat(
            title, description,
            f"""SELECT sum(Value) FROM otel_metrics_sum
                WHERE {own} AND MetricName = 'spanhook.{metric}'""",
            thresholds=thresholds, width=4,
        )

    return board(
        "spanhook-health", "spanhook health",
        "spanhook itself. The counters come over OTLP, from functions that have TELEMETRY_OTLP_ENDPOINT;"
        " those of the webhook functions on Lambda are in CloudWatch only.",
        [],
        [
            (4, [
                counted("Messages delivered", "Messages that the Collector took.", "delivered", PLAIN),
                counted("Spans delivered", "Spans in these messages.", "spans", PLAIN),
                counted("Retries", "Messages that waited for another try.", "retried", FEW),
                counted("Dead-lettered", "Messages that need a person: see why, mend it, redrive.",
                        "dead_lettered", GREEN_RED),
                counted("Spans refused", "Spans that the Collector refused within a request that it took.",
                        "partially_rejected", GREEN_RED),
                counted("Misconfigured", "Answers that only an operator can mend, such as 401 and 404.",
                        "misconfigured", GREEN_RED),
            ]),
            (8, [
                series(
                    "Counters", "All counters, by name.",
                    f"""SELECT $__timeInterval(TimeUnix) AS time, replaceOne(MetricName, 'spanhook.', '') AS metric,
                        sum(Value) AS value FROM otel_metrics_sum WHERE {own} AND MetricName LIKE 'spanhook.%'
                        GROUP BY time, metric ORDER BY time, metric""",
                    label="metric",
                ),
                series(
                    "Delivery lag as counted", "From the end of the work to the Collector's acknowledgement.",
                    f"""SELECT $__timeInterval(TimeUnix) AS time, sum(Sum) / nullIf(sum(Count), 0) AS mean,
                        max(Max) AS longest FROM otel_metrics_histogram WHERE {lag} GROUP BY time ORDER BY time""",
                    unit=units.Milliseconds,
                ),
            ]),
            (8, [
                series(
                    "Deliveries", "Verified deliveries that gave spans, from the webhook functions' own spans.",
                    f"""SELECT $__timeInterval(Timestamp) AS time, SpanName AS route,
                        uniqExact(TraceId, SpanId) AS deliveries FROM otel_traces WHERE {webhook}
                        GROUP BY time, route ORDER BY time, route""",
                    label="route", bars=True,
                ),
                series(
                    "Answer time, p95", "How long a provider waited for the answer. GitLab gives up after 10 s.",
                    f"""SELECT $__timeInterval(Timestamp) AS time, SpanName AS route,
                        quantile(0.95)(Duration) / 1e9 AS p95
                        FROM (SELECT * FROM otel_traces WHERE {webhook} LIMIT 1 BY TraceId, SpanId)
                        GROUP BY time, route ORDER BY time, route""",
                    unit=units.Seconds, label="route",
                ),
            ]),
            (8, [
                series(
                    "Delivery lag as stored",
                    "From the end of a run to its row in ClickHouse. A redelivered run counts from its last delivery.",
                    f"""SELECT $__timeInterval(inserted_at) AS time,
                        quantile(0.5)(greatest(dateDiff('millisecond', end_timestamp, inserted_at), 0)) / 1e3 AS p50,
                        quantile(0.95)(greatest(dateDiff('millisecond', end_timestamp, inserted_at), 0)) / 1e3 AS p95
                        FROM ci_job_telemetry WHERE {stored} AND kind = 'run' GROUP BY time ORDER BY time""",
                    unit=units.Seconds,
                ),
                series(
                    "Spans stored",
                    "CI spans by the time they were stored. A provider that falls silent may have lost its webhook.",
                    f"""SELECT $__timeInterval(inserted_at) AS time, provider, count() AS spans
                        FROM ci_job_telemetry WHERE {stored}
                        GROUP BY time, provider ORDER BY time, provider""",
                    label="provider", bars=True,
                ),
            ]),
            (7, [
                table(
                    "Providers", "How long ago the latest span of each provider was stored.",
                    f"""SELECT provider AS Provider, instance AS Instance, count() AS Spans,
                        uniqExact(trace_id) AS Runs, max(inserted_at) AS `Last stored`,
                        dateDiff('second', max(inserted_at), now64(3)) AS Age
                        FROM ci_job_telemetry WHERE {stored}
                        GROUP BY provider, instance ORDER BY Age DESC""",
                    units_of={"Age": units.Seconds}, width=12,
                ),
                table(
                    "Duplicates",
                    "Spans that arrived more than once. Some are normal; the views count each once.",
                    """SELECT ServiceName AS Service, count() AS Rows, uniqExact(TraceId, SpanId) AS Spans,
                        1 - Spans / Rows AS Duplicates FROM otel_traces
                        WHERE $__timeFilter(Timestamp) AND ScopeName = 'spanhook'
                        GROUP BY ServiceName ORDER BY Rows DESC""",
                    units_of={"Duplicates": units.PercentUnit}, width=12,
                ),
            ]),
        ],
        period="now-24h",
    )
