-- What build events report: one row a build, a bundle and an artifact, and their assets and parts. Filled
-- from otel_traces and otel_metrics_gauge, and kept for longer. Apply otel_traces.sql and
-- otel_metrics.sql first.

CREATE TABLE IF NOT EXISTS ci_build_spans (
    timestamp DateTime64(9) CODEC(Delta, ZSTD(1)) COMMENT 'when it was done: the end of the span',
    kind LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'build, bundle or artifact',
    correlation_id String CODEC(ZSTD(1)) COMMENT 'of everything that belongs to one build',
    run_id String CODEC(ZSTD(1)) COMMENT 'of the CI run, as in ci_job_telemetry, else the correlation id',
    repository LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'owner/name of the project',
    ref LowCardinality(String) CODEC(ZSTD(1)),
    revision String CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    result LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'of builds and bundles, where the sender says it',
    error_type LowCardinality(String) CODEC(ZSTD(1)),
    duration_ns UInt64 CODEC(ZSTD(1)) COMMENT 'of the build, or of the compilation of a bundle',
    bundler LowCardinality(String) CODEC(ZSTD(1)),
    bundle LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'its name, where a build has several',
    bundle_size Nullable(UInt64) CODEC(ZSTD(1)) COMMENT 'NULL of a failed one: what it left is not its size',
    asset_count Nullable(UInt64) CODEC(ZSTD(1)),
    chunk_count Nullable(UInt64) CODEC(ZSTD(1)),
    artifact LowCardinality(String) CODEC(ZSTD(1)),
    variant LowCardinality(String) CODEC(ZSTD(1)),
    artifact_version LowCardinality(String) CODEC(ZSTD(1)),
    artifact_size Nullable(UInt64) CODEC(ZSTD(1)),
    inserted_at DateTime64(3) DEFAULT now64(3) CODEC(Delta, ZSTD(1)),
    INDEX idx_trace_id trace_id TYPE bloom_filter(0.001) GRANULARITY 1
)
-- An event without a time of its own that is sent again has the same span id and another time, so no
-- time may be in the key.
ENGINE = ReplacingMergeTree(timestamp)
PARTITION BY toYYYYMM(timestamp)
PRIMARY KEY correlation_id
ORDER BY (correlation_id, trace_id, span_id)
TTL toDateTime(timestamp) + toIntervalDay(400)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS ci_build_spans_mv
TO ci_build_spans
AS WITH
    -- Both the name and the attribute: a mark has any name and any attributes, and is none of these.
    multiIf(
        SpanName = trim(concat('build ', ResourceAttributes['cicd.pipeline.name'])), 'build',
        SpanName = concat(SpanAttributes['build.bundler.name'], ' compile'), 'bundle',
        SpanName = concat('artifact ', SpanAttributes['artifact.filename'])
            AND SpanAttributes['build.artifact.size'] != '', 'artifact',
        '') AS span_kind
SELECT
    addNanoseconds(Timestamp, Duration) AS timestamp,
    span_kind AS kind,
    ResourceAttributes['correlation_id'] AS correlation_id,
    ResourceAttributes['cicd.pipeline.run.id'] AS run_id,
    trim(BOTH '/' FROM concat(
        ResourceAttributes['vcs.owner.name'], '/', ResourceAttributes['vcs.repository.name']
    )) AS repository,
    ResourceAttributes['vcs.ref.head.name'] AS ref,
    ResourceAttributes['vcs.ref.head.revision'] AS revision,
    TraceId AS trace_id,
    SpanId AS span_id,
    if(span_kind = 'build',
        SpanAttributes['cicd.pipeline.result'],
        SpanAttributes['build.result']) AS result,
    SpanAttributes['error.type'] AS error_type,
    Duration AS duration_ns,
    SpanAttributes['build.bundler.name'] AS bundler,
    SpanAttributes['build.bundle.name'] AS bundle,
    -- The Map holds texts only; an attribute that is not there is the empty text, and so NULL.
    toUInt64OrNull(SpanAttributes['build.bundle.size']) AS bundle_size,
    toUInt64OrNull(SpanAttributes['build.bundle.assets']) AS asset_count,
    toUInt64OrNull(SpanAttributes['build.bundle.chunks']) AS chunk_count,
    SpanAttributes['artifact.filename'] AS artifact,
    SpanAttributes['build.artifact.variant'] AS variant,
    SpanAttributes['artifact.version'] AS artifact_version,
    toUInt64OrNull(SpanAttributes['build.artifact.size']) AS artifact_size
FROM otel_traces
-- With a provider it is a span of a run, which has the same correlation id, and may have such a name.
WHERE ScopeName = 'spanhook'
    AND ResourceAttributes['correlation_id'] != ''
    AND ResourceAttributes['spanhook.provider'] = ''
    AND span_kind != '';

-- What people and dashboards query: each build, bundle and artifact of a correlation id once. When a job
-- was retried, and reported again, it is the last report.
-- A bundler's plugin may not know the project, the branch or the revision: they then come from the other
-- events of the same build, if these agree.
CREATE VIEW IF NOT EXISTS ci_builds AS
SELECT
    timestamp,
    kind,
    own.correlation_id AS correlation_id,
    run_id,
    if(own.repository = '', known.repository, own.repository) AS repository,
    if(own.ref = '', known.ref, own.ref) AS ref,
    if(own.revision = '', known.revision, own.revision) AS revision,
    trace_id,
    span_id,
    result,
    error_type,
    duration_ns / 1e9 AS seconds,
    bundler,
    bundle,
    bundle_size,
    asset_count,
    chunk_count,
    artifact,
    variant,
    artifact_version,
    artifact_size
FROM (
    -- Without FINAL: this takes one of what is there twice, too.
    SELECT * FROM ci_build_spans
    ORDER BY timestamp DESC, span_id
    LIMIT 1 BY correlation_id, repository, kind, bundler, bundle, artifact, variant
) AS own
-- Not window functions, which take five times as long over all builds.
LEFT JOIN (
    SELECT
        correlation_id,
        if(minIf(spans.repository, spans.repository != '') = max(spans.repository), max(spans.repository), '')
            AS repository,
        if(minIf(spans.ref, spans.ref != '') = max(spans.ref), max(spans.ref), '') AS ref,
        if(minIf(spans.revision, spans.revision != '') = max(spans.revision), max(spans.revision), '')
            AS revision
    FROM ci_build_spans AS spans
    GROUP BY correlation_id
) AS known ON known.correlation_id = own.correlation_id;

CREATE TABLE IF NOT EXISTS ci_build_parts (
    timestamp DateTime CODEC(Delta, ZSTD(1)),
    correlation_id String CODEC(ZSTD(1)),
    repository LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'owner/name, where the event itself says it',
    bundler LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'of an asset of a bundle',
    bundle LowCardinality(String) CODEC(ZSTD(1)),
    artifact LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'of a part of an artifact',
    variant LowCardinality(String) CODEC(ZSTD(1)),
    name LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'of an asset without its content hash, or of a part',
    size UInt64 CODEC(ZSTD(1)),
    inserted_at DateTime64(3) DEFAULT now64(3) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(timestamp)
PARTITION BY toYYYYMM(timestamp)
PRIMARY KEY correlation_id
ORDER BY (correlation_id, repository, bundler, bundle, artifact, variant, name)
TTL timestamp + toIntervalDay(400)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS ci_build_parts_mv
TO ci_build_parts
AS SELECT
    TimeUnix AS timestamp,
    ResourceAttributes['correlation_id'] AS correlation_id,
    trim(BOTH '/' FROM concat(
        ResourceAttributes['vcs.owner.name'], '/', ResourceAttributes['vcs.repository.name']
    )) AS repository,
    Attributes['build.bundler.name'] AS bundler,
    Attributes['build.bundle.name'] AS bundle,
    Attributes['build.artifact.name'] AS artifact,
    Attributes['build.artifact.variant'] AS variant,
    Attributes[if(MetricName = 'build.asset.size', 'build.asset.name', 'build.artifact.part.name')] AS name,
    toUInt64(Value) AS size
FROM otel_metrics_gauge
WHERE ScopeName = 'spanhook'
    AND MetricName IN ('build.asset.size', 'build.artifact.part.size')
    AND ResourceAttributes['correlation_id'] != ''
    -- A measure has any name, also one of these.
    AND name != '';

-- Each asset and part of a correlation id once: those of the last report, since after a retry there may
-- be fewer.
CREATE VIEW IF NOT EXISTS ci_build_assets AS
SELECT * EXCEPT (inserted_at, reported)
FROM (
    SELECT
        *,
        max(timestamp) OVER (
            PARTITION BY correlation_id, repository, bundler, bundle, artifact, variant
        ) AS reported
    FROM ci_build_parts FINAL
)
WHERE timestamp = reported;

-- Chunks of bundles, and what their modules weigh by npm package: from the log records, which have all
-- figures of one at once.
CREATE TABLE IF NOT EXISTS ci_build_chunk_parts (
    timestamp DateTime CODEC(Delta, ZSTD(1)),
    correlation_id String CODEC(ZSTD(1)),
    repository LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'owner/name, where the event itself says it',
    bundler LowCardinality(String) CODEC(ZSTD(1)),
    bundle LowCardinality(String) CODEC(ZSTD(1)),
    chunk LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'its name without its content hash',
    package LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'empty of the chunk itself, (own) of the code of the app, (rest) of smaller packages',
    size UInt64 CODEC(ZSTD(1)),
    modules Nullable(UInt64) CODEC(ZSTD(1)),
    initial Nullable(Bool) CODEC(ZSTD(1)) COMMENT 'whether a page loads it at once',
    inserted_at DateTime64(3) DEFAULT now64(3) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(timestamp)
PARTITION BY toYYYYMM(timestamp)
PRIMARY KEY correlation_id
ORDER BY (correlation_id, repository, bundler, bundle, chunk, package)
TTL timestamp + toIntervalDay(400)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS ci_build_chunk_parts_mv
TO ci_build_chunk_parts
AS SELECT
    Timestamp AS timestamp,
    ResourceAttributes['correlation_id'] AS correlation_id,
    trim(BOTH '/' FROM concat(
        ResourceAttributes['vcs.owner.name'], '/', ResourceAttributes['vcs.repository.name']
    )) AS repository,
    LogAttributes['build.bundler.name'] AS bundler,
    LogAttributes['build.bundle.name'] AS bundle,
    LogAttributes['build.chunk.name'] AS chunk,
    LogAttributes['build.package.name'] AS package,
    toUInt64OrZero(LogAttributes[concat(EventName, '.size')]) AS size,
    -- The Map holds texts only; an attribute that is not there is the empty text, and so NULL.
    toUInt64OrNull(LogAttributes[concat(EventName, '.modules')]) AS modules,
    if(mapContains(LogAttributes, 'build.chunk.initial'), LogAttributes['build.chunk.initial'] = 'true', NULL)
        AS initial
FROM otel_logs
WHERE ScopeName = 'spanhook'
    AND EventName IN ('build.chunk', 'build.chunk.package')
    AND ResourceAttributes['correlation_id'] != ''
    -- A mark has any name, also one of these.
    AND chunk != '' AND (package != '') = (EventName = 'build.chunk.package');

-- Each chunk of a correlation id once: those of the last report.
CREATE VIEW IF NOT EXISTS ci_build_chunks AS
SELECT * EXCEPT (inserted_at, reported, package)
FROM (
    SELECT
        *,
        max(timestamp) OVER (PARTITION BY correlation_id, repository, bundler, bundle) AS reported
    FROM ci_build_chunk_parts FINAL
)
WHERE timestamp = reported AND package = '';

-- And each package of each chunk.
CREATE VIEW IF NOT EXISTS ci_build_packages AS
SELECT * EXCEPT (inserted_at, reported)
FROM (
    SELECT
        *,
        max(timestamp) OVER (PARTITION BY correlation_id, repository, bundler, bundle) AS reported
    FROM ci_build_chunk_parts FINAL
)
WHERE timestamp = reported AND package != '';
