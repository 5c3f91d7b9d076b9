-- How long do runs take and how many fail, by the metrics of webhooks (WEBHOOK_METRICS), each run counted once?
-- A delivery that came twice and a GitLab pipeline that ended again are points of the same span: the latest counts.
-- from, to: the period; repository: '' for all.
WITH runs AS (
    SELECT
        repository,
        pipeline,
        max(result_of_state) AS result, -- only one state has it
        sum(value) AS seconds,
        sumIf(value, state = 'pending') AS pending_seconds
    FROM (
        SELECT
            trim(BOTH '/' FROM concat(
                ResourceAttributes['vcs.owner.name'], '/', ResourceAttributes['vcs.repository.name']
            )) AS repository,
            Attributes['cicd.pipeline.name'] AS pipeline,
            Attributes['cicd.pipeline.run.state'] AS state,
            Attributes['cicd.pipeline.result'] AS result_of_state,
            Exemplars.TraceId[1] AS trace_id,
            Exemplars.SpanId[1] AS span_id,
            Sum AS value -- a point is one run
        FROM otel_metrics_histogram
        WHERE MetricName = 'cicd.pipeline.run.duration'
            AND ScopeName = 'spanhook' AND ResourceAttributes['spanhook.provider'] != '' -- no build event
            AND TimeUnix >= {from:DateTime} AND TimeUnix < {to:DateTime}
        ORDER BY TimeUnix DESC
        LIMIT 1 BY trace_id, span_id, state
    )
    GROUP BY repository, pipeline, trace_id, span_id
)
SELECT
    repository,
    pipeline,
    count() AS runs,
    countIf(result IN ('failure', 'error', 'timeout')) / runs AS failed,
    quantile(0.5)(seconds) AS p50_seconds,
    quantile(0.95)(seconds) AS p95_seconds,
    quantile(0.95)(pending_seconds) AS p95_pending_seconds
FROM runs
WHERE {repository:String} = '' OR repository = {repository:String}
GROUP BY repository, pipeline
ORDER BY p95_seconds DESC
LIMIT 50;
