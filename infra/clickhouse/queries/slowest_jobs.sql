-- Which jobs take longest, and which run of each was the slowest?
-- from, to: the period; repository, pipeline: '' for all.
SELECT
    repository,
    pipeline,
    job,
    count() AS jobs,
    quantile(0.5)(duration_ns) / 1e9 AS p50_seconds,
    quantile(0.95)(duration_ns) / 1e9 AS p95_seconds,
    max(duration_ns) / 1e9 AS max_seconds,
    argMax(job_url, duration_ns) AS slowest_job_url,
    argMax(trace_id, duration_ns) AS slowest_trace_id
FROM ci_job_telemetry
WHERE kind = 'job'
    -- It did not run: its time is none.
    AND result != 'skip'
    AND timestamp >= {from:DateTime} AND timestamp < {to:DateTime}
    AND ({repository:String} = '' OR repository = {repository:String})
    AND ({pipeline:String} = '' OR pipeline = {pipeline:String})
GROUP BY repository, pipeline, job
ORDER BY p95_seconds DESC
LIMIT 50;
