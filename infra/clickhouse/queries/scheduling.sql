-- In which namespaces, and on which nodes, do Pods wait longest for a node?
-- One that had it within the second waited for nothing, and one that never had it has none.
-- from, to: the period; repository: '' for all.
SELECT
    instance,
    namespace,
    node,
    count() AS pods,
    countIf(error_type != '') AS failures,
    quantile(0.5)(waited_ns) / 1e9 AS p50_seconds,
    quantile(0.95)(waited_ns) / 1e9 AS p95_seconds,
    max(waited_ns) / 1e9 AS max_seconds,
    sum(waited_ns) / 1e9 AS total_seconds,
    argMax(trace_id, waited_ns) AS longest_trace_id
FROM (
    SELECT
        trace_id,
        if(kind = 'pod', span_id, parent_span_id) AS pod_span_id,
        anyIf(telemetry.instance, kind = 'pod') AS instance,
        anyIf(telemetry.namespace, kind = 'pod') AS namespace,
        anyIf(telemetry.node, kind = 'pod') AS node,
        anyIf(telemetry.error_type, kind = 'pod') AS error_type,
        sumIf(duration_ns, kind = 'schedule') AS waited_ns
    FROM ci_job_telemetry AS telemetry
    WHERE kind IN ('pod', 'schedule')
        AND timestamp >= {from:DateTime} AND timestamp < {to:DateTime}
        AND ({repository:String} = '' OR repository = {repository:String})
    GROUP BY trace_id, pod_span_id
    HAVING countIf(kind = 'pod') > 0
)
GROUP BY instance, namespace, node
ORDER BY p95_seconds DESC
LIMIT 50;
