-- How much of each chunk of a build is third-party, and which npm packages are that?
-- correlation_id: the build. Shares are of the modules' sizes: of a minimized chunk webpack, rspack, Vite and
-- Rollup tell these before minimizing.
SELECT
    bundler,
    bundle,
    chunk,
    package,
    size,
    modules,
    size / sum(size) OVER of_chunk AS share,
    sumIf(size, package != '(own)') OVER of_chunk / sum(size) OVER of_chunk AS third_party_share
FROM ci_build_packages
WHERE correlation_id = {correlation_id:String}
WINDOW of_chunk AS (PARTITION BY bundler, bundle, chunk)
ORDER BY sum(size) OVER of_chunk DESC, bundler, bundle, chunk, size DESC, package;
