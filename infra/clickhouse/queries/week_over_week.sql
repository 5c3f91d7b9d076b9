-- How did each pipeline change from the week before `to` to the one before that?
-- to: the end of the newer week; repository: '' for all.
WITH timestamp >= {to:DateTime} - INTERVAL 1 WEEK AS is_new
SELECT
    repository,
    pipeline,
    countIf(is_new) AS runs,
    countIf(NOT is_new) AS runs_before,
    countIf(is_new AND result = 'success') / nullIf(runs, 0) AS success_rate,
    countIf(NOT is_new AND result = 'success') / nullIf(runs_before, 0) AS success_rate_before,
    quantileIf(0.5)(duration_ns, is_new) / 1e9 AS p50_seconds,
    quantileIf(0.5)(duration_ns, NOT is_new) / 1e9 AS p50_seconds_before,
    p50_seconds / nullIf(p50_seconds_before, 0) - 1 AS p50_change
FROM ci_job_telemetry
WHERE kind = 'run'
    AND timestamp >= {to:DateTime} - INTERVAL 2 WEEK AND timestamp < {to:DateTime}
    AND ({repository:String} = '' OR repository = {repository:String})
GROUP BY repository, pipeline
ORDER BY p50_change DESC NULLS LAST
LIMIT 50;
