-- Which images take longest to pull?
-- The pure time leaves out what a pull waited for others on its node, and is counted where it is told. An image that
-- was on its node was not pulled. from, to: the period; repository: '' for all.
SELECT
    image,
    count() AS pulls,
    countIf(error_type != '') AS failures,
    max(image_size) AS bytes,
    quantile(0.5)(pull_duration_ns) / 1e9 AS p50_seconds,
    quantile(0.95)(pull_duration_ns) / 1e9 AS p95_seconds,
    max(pull_duration_ns) / 1e9 AS max_seconds,
    sum(pull_duration_ns) / 1e9 AS total_seconds,
    sumIf(duration_ns - pull_duration_ns, pull_duration_ns < duration_ns) / 1e9 AS waited_seconds,
    argMax(trace_id, pull_duration_ns) AS slowest_trace_id
FROM ci_job_telemetry
WHERE kind = 'pull'
    AND timestamp >= {from:DateTime} AND timestamp < {to:DateTime}
    AND ({repository:String} = '' OR repository = {repository:String})
GROUP BY image
ORDER BY p95_seconds DESC NULLS LAST, failures DESC
LIMIT 50;
