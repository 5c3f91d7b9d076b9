-- What happened in one run, in order of time?
-- trace_id: the run.
SELECT
    timestamp,
    kind,
    span_name,
    stage,
    job,
    result,
    error_type,
    duration_ns / 1e9 AS seconds,
    queue_duration_ns / 1e9 AS queue_seconds,
    coalesce(nullIf(runner_name, ''), node) AS runner_name,
    attempt,
    if(kind = 'run', run_url, job_url) AS url,
    span_id,
    parent_span_id
FROM ci_job_telemetry
WHERE trace_id = {trace_id:String}
ORDER BY timestamp, indexOf([
    'event', 'run', 'pipeline_run', 'stage', 'queue', 'job', 'retry', 'pod', 'schedule', 'pull', 'container', 'execution',
    'step', 'runner_stage', 'function', 'activity', 'marker'
], kind), end_timestamp, span_name;
