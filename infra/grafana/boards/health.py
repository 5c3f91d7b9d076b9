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

    # What the view takes in, as its own statement has it.
    taken_in = (
        "(ScopeName = 'spanhook' OR SpanAttributes['spanhook.kind'] IN ('execution', 'runner_stage', 'function'))"
        " AND ResourceAttributes['spanhook.provider'] != '' AND SpanAttributes['spanhook.kind'] NOT IN ('', 'ping')"
    )
    rows = f"""SELECT ResourceAttributes['spanhook.provider'] AS provider, uniqExact(TraceId, SpanId) AS raw, 0 AS shown
        FROM otel_traces WHERE $__timeFilter(Timestamp) AND {taken_in} GROUP BY provider
        UNION ALL SELECT provider, 0, uniqExact(trace_id, span_id)
        FROM ci_job_telemetry_traces WHERE $__timeFilter(timestamp) GROUP BY provider"""
    spans_of = "sumIf(Value, MetricName = 'spanhook.{}' AND Attributes['reason'] = 'forwarded')".format
    decision = "transform(Attributes['reason'], ['accepted', 'denied', 'not_sampled'], ['on', 'off', 'sampled away'], '')"

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
                stat(
                    "Share lost", "Spans that the Collector refused for good, of all that were sent. The aim is below 0.1 %.",
                    f"""SELECT {spans_of('partially_rejected')} / nullIf({spans_of('spans')} + {spans_of('partially_rejected')}, 0)
                        FROM otel_metrics_sum WHERE {own}""",
                    units.PercentUnit, [("green", None), ("red", 0.001)], width=8,
                ),
                stat(
                    "Share missing in the view", "CI spans of otel_traces that have no row in ci_job_telemetry. The aim is below 0.1 %.",
                    f"SELECT greatest(1 - sum(shown) / nullIf(sum(raw), 0), 0) FROM ({rows})",
                    units.PercentUnit, [("green", None), ("red", 0.001)], width=8,
                ),
                stat(
                    "End of a job to its row, p95",
                    "Also what the provider took to tell: GitLab tells of a pipeline's jobs when that ends. Alarm from five minutes.",
                    f"""SELECT quantile(0.95)(greatest(dateDiff('millisecond', end_timestamp, inserted_at), 0)) / 1e3
                        FROM ci_job_telemetry WHERE {stored} AND kind = 'job'""",
                    units.Seconds, [("green", None), ("yellow", 60), ("red", 300)], width=8,
                ),
            ]),
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
            (8, [
                series(
                    "Deliveries by the project's rule",
                    "Deliveries of projects that are on, switched off by PROJECT_RULES, or outside their share.",
                    f"""SELECT $__timeInterval(TimeUnix) AS time, {decision} AS rule, sum(Value) AS deliveries
                        FROM otel_metrics_sum WHERE {own} AND MetricName = 'spanhook.verified' AND rule != ''
                        GROUP BY time, rule ORDER BY time, rule""",
                    label="rule", bars=True, colors={"on": "green", "off": "gray", "sampled away": "yellow"},
                ),
                table(
                    "Rows of the view", "CI spans of otel_traces, and those that the view has of them. It keeps them longer.",
                    f"""SELECT provider AS Provider, sum(raw) AS `In otel_traces`, sum(shown) AS `In the view`,
                        greatest(`In otel_traces` - `In the view`, 0) AS Missing
                        FROM ({rows}) GROUP BY provider ORDER BY Missing DESC, provider""",
                    width=12,
                ),
            ]),
            (7, [
                table(
                    "Projects", "Repositories that sent spans: those that are on. What is switched off has no row.",
                    f"""SELECT provider AS Provider, repository AS Repository, uniqExactIf(trace_id, kind = 'run') AS Runs,
                        count() AS Spans, max(inserted_at) AS `Last stored`
                        FROM ci_job_telemetry WHERE {stored} AND repository != ''
                        GROUP BY provider, repository ORDER BY `Last stored` DESC LIMIT 200""",
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
