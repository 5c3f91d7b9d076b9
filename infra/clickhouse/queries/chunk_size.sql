-- How large is each chunk of a build against the ten builds before it, of the same project and branch?
-- correlation_id: the build. Of a bundle the ten largest chunks are reported.
WITH branch AS (
    SELECT repository, ref FROM ci_builds WHERE correlation_id = {correlation_id:String}
    ORDER BY kind = 'bundle' DESC, timestamp DESC LIMIT 1
), builds AS (
    SELECT correlation_id, max(timestamp) AS built_at
    FROM ci_builds
    -- A failed build has no chunks, and does not count.
    WHERE kind = 'bundle' AND bundle_size IS NOT NULL AND (repository, ref) IN branch
    GROUP BY correlation_id
    HAVING built_at <= (SELECT max(timestamp) FROM ci_builds WHERE correlation_id = {correlation_id:String})
    ORDER BY built_at DESC LIMIT 11
)
SELECT
    bundler,
    bundle,
    chunk,
    anyIf(chunks.size, this) AS size,
    anyIf(chunks.modules, this) AS modules,
    anyIf(chunks.initial, this) AS initial,
    -- NULL of a chunk that is new.
    nullIf(quantileExactIf(0.5)(chunks.size, NOT this), 0) AS median_before,
    toInt64(size) - toInt64(median_before) AS change,
    size / median_before AS of_median,
    countIf(NOT this) AS builds_before
FROM (
    SELECT *, correlation_id = {correlation_id:String} AS this
    FROM ci_build_chunks
    WHERE correlation_id IN (SELECT correlation_id FROM builds)
) AS chunks
GROUP BY bundler, bundle, chunk
HAVING countIf(this) > 0
ORDER BY size DESC, bundler, bundle, chunk;
