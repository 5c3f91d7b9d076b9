-- How quick is the app at run time, by build: this one and the ten before it on its branch?
-- Spans with app.build_id, see docs/correlation-id.md: a span of the app counts for the build of its
-- resource, a request that a server took counts also for the build that the caller's baggage named.
-- correlation_id: the build; from, to: when the app ran.
WITH branch AS (
    SELECT repository, ref FROM ci_builds WHERE correlation_id = {correlation_id:String}
    ORDER BY kind = 'build' DESC, timestamp DESC LIMIT 1
), builds AS (
    SELECT
        correlation_id,
        max(timestamp) AS built_at,
        sumIf(bundle_size, kind = 'bundle') AS bundle_bytes,
        sumIf(artifact_size, kind = 'artifact') AS artifact_bytes
    FROM ci_builds
    WHERE (repository, ref) IN branch
    GROUP BY correlation_id
    HAVING built_at <= (SELECT max(timestamp) FROM ci_builds WHERE correlation_id = {correlation_id:String})
    ORDER BY built_at DESC LIMIT 11
)
SELECT
    builds.built_at AS built_at,
    spans.build_id AS correlation_id,
    builds.bundle_bytes AS bundle_bytes,
    builds.artifact_bytes AS artifact_bytes,
    spans.service_name AS service_name,
    spans.service_version AS service_version,
    spans.kind AS kind,
    count() AS requests,
    countIf(spans.failed) / requests AS error_rate,
    quantile(0.5)(spans.duration_ns) / 1e9 AS p50_seconds,
    quantile(0.95)(spans.duration_ns) / 1e9 AS p95_seconds
FROM (
    SELECT
        arrayJoin(arrayDistinct([ResourceAttributes['app.build_id'], SpanAttributes['app.build_id']])) AS build_id,
        ServiceName AS service_name,
        ResourceAttributes['service.version'] AS service_version,
        SpanKind AS kind,
        StatusCode = 'Error' AS failed,
        Duration AS duration_ns
    FROM otel_traces
    -- A build's own spans carry the id too.
    WHERE ScopeName != 'spanhook' AND SpanKind IN ('Client', 'Server')
        AND Timestamp >= {from:DateTime} AND Timestamp < {to:DateTime}
        AND (ResourceAttributes['app.build_id'] IN (SELECT correlation_id FROM builds)
            OR SpanAttributes['app.build_id'] IN (SELECT correlation_id FROM builds))
    LIMIT 1 BY TraceId, SpanId, build_id
) AS spans
JOIN builds ON builds.correlation_id = spans.build_id
GROUP BY ALL
ORDER BY built_at DESC, service_name, service_version, kind;
