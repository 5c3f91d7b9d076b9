-- How large are the bundles of a build against the ten builds before it, of the same project and branch?
-- correlation_id: the build.
WITH branch AS (
    SELECT repository, ref FROM ci_builds WHERE correlation_id = {correlation_id:String}
    ORDER BY kind = 'bundle' DESC, timestamp DESC LIMIT 1
)
SELECT
    bundler,
    bundle,
    timestamp,
    correlation_id,
    revision,
    bundle_size,
    -- Over what is shown: the oldest of the eleven has nothing before it.
    bundle_size - lagInFrame(bundle_size) OVER before AS change,
    bundle_size / quantileExact(0.5)(bundle_size) OVER ten AS of_median,
    asset_count,
    chunk_count,
    seconds AS compile_seconds
FROM (
    SELECT * FROM ci_builds
    -- A failed build has no size, and does not count.
    WHERE kind = 'bundle' AND bundle_size IS NOT NULL
        AND (repository, ref) IN branch
        AND timestamp <= (SELECT max(timestamp) FROM ci_builds WHERE correlation_id = {correlation_id:String})
    ORDER BY timestamp DESC LIMIT 11 BY bundler, bundle
)
WINDOW
    before AS (PARTITION BY bundler, bundle ORDER BY timestamp ROWS BETWEEN 1 PRECEDING AND CURRENT ROW),
    ten AS (PARTITION BY bundler, bundle ORDER BY timestamp ROWS BETWEEN 10 PRECEDING AND 1 PRECEDING)
ORDER BY bundler, bundle, timestamp DESC;
