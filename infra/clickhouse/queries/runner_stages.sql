-- What does a runner do with the time of a job, from its own spans?
-- Of runners that send them. from, to: the period; repository, pipeline: '' for all.
SELECT
    repository,
    pipeline,
    job,
    span_name AS stage,
    count() AS spans,
    countIf(error_type != '') AS failures,
    quantile(0.5)(duration_ns) / 1e9 AS p50_seconds,
    quantile(0.95)(duration_ns) / 1e9 AS p95_seconds,
    max(duration_ns) / 1e9 AS max_seconds,
    sum(duration_ns) / 1e9 AS total_seconds,
    argMax(trace_id, duration_ns) AS slowest_trace_id
FROM (
    SELECT trace_id, job_id, span_name, error_type, duration_ns FROM ci_job_telemetry
    WHERE kind IN ('runner_stage', 'function')
        AND timestamp >= {from:DateTime} AND timestamp < {to:DateTime}
) AS stages
-- A runner knows ids alone.
INNER JOIN (
    SELECT trace_id, job_id, repository, pipeline, job FROM ci_job_telemetry
    WHERE kind = 'job' AND job_id != ''
        AND timestamp >= {from:DateTime} AND timestamp < {to:DateTime}
        AND ({repository:String} = '' OR repository = {repository:String})
        AND ({pipeline:String} = '' OR pipeline = {pipeline:String})
) AS jobs USING (trace_id, job_id)
GROUP BY repository, pipeline, job, stage
ORDER BY total_seconds DESC
LIMIT 50;
