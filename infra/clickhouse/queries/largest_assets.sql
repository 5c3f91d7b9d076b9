-- Which assets of a build are the largest, and which parts of its artifacts?
-- At most ten of a bundle or artifact are reported. correlation_id: the build.
SELECT
    if(artifact = '', bundler, artifact) AS source,
    if(artifact = '', bundle, variant) AS source_name,
    name,
    size,
    size / sum(size) OVER (PARTITION BY source, source_name) AS share_of_shown
FROM ci_build_assets
WHERE correlation_id = {correlation_id:String}
ORDER BY size DESC, name;
