-- Which steps of jobs take longest, and how often do they fail?
-- Of providers that tell steps. from, to: the period; repository, pipeline: '' for all.
SELECT
    repository,
    pipeline,
    job,
    span_name AS step,
    count() AS steps,
    countIf(error_type != '') AS failures,
    quantile(0.5)(duration_ns) / 1e9 AS p50_seconds,
    quantile(0.95)(duration_ns) / 1e9 AS p95_seconds,
    max(duration_ns) / 1e9 AS max_seconds,
    sum(duration_ns) / 1e9 AS total_seconds,
    argMax(trace_id, duration_ns) AS slowest_trace_id
FROM ci_job_telemetry
WHERE kind = 'step'
    AND timestamp >= {from:DateTime} AND timestamp < {to:DateTime}
    AND ({repository:String} = '' OR repository = {repository:String})
    AND ({pipeline:String} = '' OR pipeline = {pipeline:String})
GROUP BY repository, pipeline, job, step
ORDER BY p95_seconds DESC
LIMIT 50;
