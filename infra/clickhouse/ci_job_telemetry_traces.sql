-- One row a span of a CI run, with a typed column for what people filter and group by. Filled from
-- otel_traces, and kept for longer. Apply otel_traces.sql first.

CREATE TABLE IF NOT EXISTS ci_job_telemetry_traces (
    timestamp DateTime64(9) CODEC(Delta, ZSTD(1)) COMMENT 'start of the span',
    end_timestamp DateTime64(9) CODEC(Delta, ZSTD(1)),
    duration_ns UInt64 CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    parent_span_id String CODEC(ZSTD(1)),
    span_name LowCardinality(String) CODEC(ZSTD(1)),
    kind LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'what the span stands for: run, job, step and so on, as in docs/adding-a-provider.md',
    provider LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'the CI system, as in its spans',
    instance LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'the cluster, else the host of the run''s page',
    service_name LowCardinality(String) CODEC(ZSTD(1)),
    repository LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'owner/name',
    pipeline LowCardinality(String) CODEC(ZSTD(1)),
    run_id String CODEC(ZSTD(1)),
    run_url String CODEC(ZSTD(1)),
    correlation_id String CODEC(ZSTD(1)) COMMENT 'joins the run, its jobs and the builds that they report: docs/correlation-id.md',
    job LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'also of what belongs to a job: its queue time, steps, tries, Pods',
    job_id String CODEC(ZSTD(1)),
    job_url String CODEC(ZSTD(1)),
    stage LowCardinality(String) CODEC(ZSTD(1)),
    result LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'of runs, jobs and tries of jobs',
    error_type LowCardinality(String) CODEC(ZSTD(1)),
    queue_duration_ns Nullable(UInt64) CODEC(ZSTD(1)) COMMENT 'NULL where the provider does not say',
    run_duration_ns Nullable(UInt64) CODEC(ZSTD(1))
        COMMENT 'the time at work as the provider counts it, NULL where it does not say',
    runner_id String CODEC(ZSTD(1)),
    runner_name LowCardinality(String) CODEC(ZSTD(1)),
    runner_type LowCardinality(String) CODEC(ZSTD(1)),
    runner_tags Array(LowCardinality(String)) CODEC(ZSTD(1)) COMMENT 'or labels, where it has those',
    ref LowCardinality(String) CODEC(ZSTD(1)),
    ref_type LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'branch or tag',
    revision String CODEC(ZSTD(1)),
    change_id String CODEC(ZSTD(1)) COMMENT 'merge or pull request',
    trigger LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'of runs: what began them',
    attempt UInt16 CODEC(ZSTD(1)) COMMENT 'of runs and jobs: 1 for the first try, 0 where it is not known',
    namespace LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'this and what follows: of what runs in a cluster',
    node LowCardinality(String) CODEC(ZSTD(1)),
    pod String CODEC(ZSTD(1)) COMMENT 'its name: also of a job and of a try, which have one',
    container LowCardinality(String) CODEC(ZSTD(1)),
    image LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'its name without a tag',
    image_size Nullable(UInt64) CODEC(ZSTD(1)) COMMENT 'of a pull, in bytes',
    pull_duration_ns Nullable(UInt64) CODEC(ZSTD(1)) COMMENT 'of a pull without the time that it waited for others',
    inserted_at DateTime64(3) DEFAULT now64(3) CODEC(Delta, ZSTD(1)),
    -- One run by its ids, without a read of the whole table.
    INDEX idx_trace_id trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_run_id run_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_correlation_id correlation_id TYPE bloom_filter(0.001) GRANULARITY 1
)
-- A run that ends again after a retry may send its run and stage spans again, longer: the latest end
-- wins. So no time may be in the key, or the two would stay side by side.
ENGINE = ReplacingMergeTree(end_timestamp)
PARTITION BY toYYYYMM(timestamp)
PRIMARY KEY (repository, pipeline, trace_id)
ORDER BY (repository, pipeline, trace_id, span_id)
TTL toDateTime(timestamp) + toIntervalDay(400)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS ci_job_telemetry_traces_mv
TO ci_job_telemetry_traces
AS WITH
    -- No provider is named here: every span says whose it is and what it stands for. What only some
    -- of them tell is called alike behind their name.
    ResourceAttributes['spanhook.provider'] AS ci,
    SpanAttributes['spanhook.kind'] AS span_kind,
    if(span_kind = 'run', '.pipeline', '.job') AS subject,
    -- The Map holds texts only; an attribute that is not there is the empty text, and so NULL.
    toFloat64OrNull(SpanAttributes[concat(ci, subject, '.queued_duration')]) AS queued_seconds,
    toFloat64OrNull(SpanAttributes[concat(ci, subject, '.duration')]) AS work_seconds,
    toFloat64OrNull(SpanAttributes['k8s.image.pull.duration']) AS pull_seconds,
    ResourceAttributes['k8s.cluster.name'] AS cluster
SELECT
    Timestamp AS timestamp,
    addNanoseconds(Timestamp, Duration) AS end_timestamp,
    Duration AS duration_ns,
    TraceId AS trace_id,
    SpanId AS span_id,
    ParentSpanId AS parent_span_id,
    SpanName AS span_name,
    span_kind AS kind,
    ci AS provider,
    if(cluster = '', extract(run_url, '^https?://([^/]+)'), cluster) AS instance,
    ServiceName AS service_name,
    trim(BOTH '/' FROM concat(
        ResourceAttributes['vcs.owner.name'], '/', ResourceAttributes['vcs.repository.name']
    )) AS repository,
    ResourceAttributes['cicd.pipeline.name'] AS pipeline,
    -- A runner's process tells of many runs under one resource.
    coalesce(nullIf(ResourceAttributes['cicd.pipeline.run.id'], ''), SpanAttributes['cicd.pipeline.run.id']) AS run_id,
    ResourceAttributes['cicd.pipeline.run.url.full'] AS run_url,
    ResourceAttributes['correlation_id'] AS correlation_id,
    SpanAttributes[if(span_kind = 'job', 'cicd.pipeline.task.name', 'spanhook.job')] AS job,
    SpanAttributes['cicd.pipeline.task.run.id'] AS job_id,
    SpanAttributes['cicd.pipeline.task.run.url.full'] AS job_url,
    SpanAttributes['spanhook.stage'] AS stage,
    SpanAttributes[multiIf(
        span_kind IN ('run', 'pipeline_run'), 'cicd.pipeline.result',
        span_kind = 'retry', concat(ci, '.try.result'),
        'cicd.pipeline.task.run.result')] AS result,
    SpanAttributes['error.type'] AS error_type,
    if(span_kind = 'queue',
        toNullable(Duration),
        accurateCastOrNull(round(queued_seconds * 1e9), 'UInt64')) AS queue_duration_ns,
    accurateCastOrNull(round(work_seconds * 1e9), 'UInt64') AS run_duration_ns,
    ResourceAttributes['cicd.worker.id'] AS runner_id,
    ResourceAttributes['cicd.worker.name'] AS runner_name,
    ResourceAttributes[concat(ci, '.runner.type')] AS runner_type,
    JSONExtract(coalesce(
        nullIf(ResourceAttributes[concat(ci, '.runner.tags')], ''),
        ResourceAttributes[concat(ci, '.runner.labels')]), 'Array(String)') AS runner_tags,
    ResourceAttributes['vcs.ref.head.name'] AS ref,
    ResourceAttributes['vcs.ref.head.type'] AS ref_type,
    ResourceAttributes['vcs.ref.head.revision'] AS revision,
    ResourceAttributes['vcs.change.id'] AS change_id,
    SpanAttributes['spanhook.trigger'] AS trigger,
    toUInt16OrZero(SpanAttributes['spanhook.attempt']) AS attempt,
    ResourceAttributes['k8s.namespace.name'] AS namespace,
    SpanAttributes['k8s.node.name'] AS node,
    SpanAttributes['k8s.pod.name'] AS pod,
    SpanAttributes['k8s.container.name'] AS container,
    SpanAttributes['container.image.name'] AS image,
    toUInt64OrNull(SpanAttributes['k8s.image.size']) AS image_size,
    accurateCastOrNull(round(pull_seconds * 1e9), 'UInt64') AS pull_duration_ns
FROM otel_traces
-- By scope, not by service: a service's name is the operator's choice (a setting of each provider) and may be
-- that of anything else, while the scope says what made the span. What a runner's own spans stand for the
-- Collector says (../collector), under their own scope.
-- Without a provider it is spanhook's own telemetry, or a build event: its attributes are the sender's,
-- who is no CI server, and it has tables of its own. What brought a run (an event, a pull request) has
-- no run's id: the runs are in its trace.
WHERE (ScopeName = 'spanhook' OR span_kind IN ('execution', 'runner_stage', 'function'))
    AND ResourceAttributes['spanhook.provider'] != ''
    AND span_kind NOT IN ('', 'ping');

-- What people and dashboards query: each span once, also before a merge.
CREATE VIEW IF NOT EXISTS ci_job_telemetry AS SELECT * FROM ci_job_telemetry_traces FINAL;
