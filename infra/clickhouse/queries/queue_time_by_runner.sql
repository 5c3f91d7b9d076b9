-- On which runners do jobs wait longest for their start?
-- The job's own figure, because a queue span does not know its runner. Not every provider tells it. In a cluster any
-- node may run a job: its namespace stands for the runner.
-- from, to: the period; repository: '' for all.
SELECT
    runner_type,
    runner_name,
    runner_id,
    namespace,
    arraySort(arrayDistinct(arrayFlatten(groupUniqArray(runner_tags)))) AS tags,
    count() AS jobs,
    quantile(0.5)(queue_duration_ns) / 1e9 AS p50_queue_seconds,
    quantile(0.95)(queue_duration_ns) / 1e9 AS p95_queue_seconds,
    max(queue_duration_ns) / 1e9 AS max_queue_seconds,
    sum(duration_ns) / 1e9 AS busy_seconds
FROM ci_job_telemetry
WHERE kind = 'job'
    AND queue_duration_ns IS NOT NULL
    AND timestamp >= {from:DateTime} AND timestamp < {to:DateTime}
    AND ({repository:String} = '' OR repository = {repository:String})
GROUP BY runner_type, runner_name, runner_id, namespace
ORDER BY p95_queue_seconds DESC
LIMIT 50;
