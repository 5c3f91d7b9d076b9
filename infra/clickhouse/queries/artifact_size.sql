-- How did the size of each artifact change from build to build?
-- from, to: the period; repository: '' for all.
SELECT
    repository,
    ref,
    artifact,
    variant,
    timestamp,
    correlation_id,
    artifact_version,
    artifact_size,
    artifact_size - lagInFrame(artifact_size) OVER before AS change,
    trace_id
FROM ci_builds
WHERE kind = 'artifact'
    AND timestamp >= {from:DateTime} AND timestamp < {to:DateTime}
    AND ({repository:String} = '' OR repository = {repository:String})
WINDOW before AS (
    PARTITION BY repository, ref, artifact, variant ORDER BY timestamp ROWS BETWEEN 1 PRECEDING AND CURRENT ROW
)
ORDER BY repository, ref, artifact, variant, timestamp DESC;
