-- Why do jobs fail?
-- from, to: the period; repository: '' for all.
SELECT
    error_type,
    result,
    count() AS jobs,
    jobs / sum(jobs) OVER () AS share,
    uniqExact(repository, pipeline, job) AS distinct_jobs,
    max(timestamp) AS last_seen,
    argMax(job_url, timestamp) AS latest_job_url,
    argMax(trace_id, timestamp) AS latest_trace_id
FROM ci_job_telemetry
WHERE kind = 'job'
    AND error_type != ''
    AND timestamp >= {from:DateTime} AND timestamp < {to:DateTime}
    AND ({repository:String} = '' OR repository = {repository:String})
GROUP BY error_type, result
ORDER BY jobs DESC;
