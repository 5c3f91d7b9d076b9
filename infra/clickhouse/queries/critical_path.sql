-- Which chain of jobs determined when the run ended?
-- From the job that ended last, back to the one that ended last before it started, and so on. A
-- webhook does not tell what a job needs, so this takes the latest job that had ended by then.
-- trace_id: the run.
WITH (
    SELECT arrayFold(
        (path, it) -> if(empty(path) OR it.2 <= path[-1].1, arrayPushBack(path, it), path),
        arrayReverseSort(it -> (it.2, it.1), groupArray((timestamp, end_timestamp, span_id))),
        []::Array(Tuple(DateTime64(9), DateTime64(9), String)))
    FROM ci_job_telemetry
    WHERE kind = 'job' AND result != 'skip' AND trace_id = {trace_id:String}
) AS path
SELECT
    row_number() OVER (ORDER BY timestamp, end_timestamp) AS step,
    stage,
    job,
    result,
    timestamp,
    -- From the end of the job before it, or the start of the run, to its own start.
    dateDiff('millisecond', lagInFrame(end_timestamp, 1, run_start) OVER (
        ORDER BY timestamp, end_timestamp ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    ), timestamp) / 1e3 AS wait_seconds,
    queue_duration_ns / 1e9 AS queue_seconds,
    duration_ns / 1e9 AS seconds,
    job_url
FROM (
    SELECT *, minIf(timestamp, kind = 'run') OVER () AS known_start, min(timestamp) OVER () AS first_start,
        -- The run's own span may not have arrived yet.
        if(countIf(kind = 'run') OVER () > 0, known_start, first_start) AS run_start
    FROM ci_job_telemetry
    WHERE trace_id = {trace_id:String}
)
WHERE has(arrayMap(it -> it.3, path), span_id)
ORDER BY step;
