-- Which jobs both failed and succeeded on the same revision?
-- A job that passed when it was tried again is one of them, also where its tries are no jobs.
-- from, to: the period; repository: '' for all.
SELECT
    repository,
    pipeline,
    job,
    count() AS flaky_revisions,
    sum(failures) AS failed_jobs,
    sum(successes) AS successful_jobs,
    argMax(revision, last_seen) AS latest_revision,
    argMax(failed_job_url, last_seen) AS latest_failed_job_url,
    argMax(failed_trace_id, last_seen) AS latest_failed_trace_id
FROM (
    SELECT
        repository,
        pipeline,
        job,
        revision,
        countIf(result IN ('failure', 'error', 'timeout')) AS failures,
        countIf(result = 'success') AS successes,
        max(timestamp) AS last_seen,
        -- A try has no page of its own.
        argMax(job_url, (job_url != '', result != 'success', timestamp)) AS failed_job_url,
        argMaxIf(trace_id, timestamp, result != 'success') AS failed_trace_id
    FROM ci_job_telemetry
    WHERE kind IN ('job', 'retry')
        AND revision != ''
        AND timestamp >= {from:DateTime} AND timestamp < {to:DateTime}
        AND ({repository:String} = '' OR repository = {repository:String})
    GROUP BY repository, pipeline, job, revision
    HAVING failures > 0 AND successes > 0
)
GROUP BY repository, pipeline, job
ORDER BY flaky_revisions DESC, failed_jobs DESC
LIMIT 50;
