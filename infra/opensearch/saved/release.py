"""One build by its correlation id."""

from . import neighbours
from .objects import LOGS, SPANS, bars, controls, dashboard, index_pattern, of, search, table, terms, vega

FORMATS = {
    f"attributes.build.{name}.size": {"id": "bytes", "params": {}} for name in ("asset", "chunk", "chunk.package", "artifact.part")
}
REPORTED = "resource.correlation_id: * and not attributes.spanhook.kind: *"


def make():
    filters = controls("spanhook-release-controls", "spanhook release: filter", [
        ("1", "correlation_id", "Correlation id", 100),
    ])
    chunks = vega(
        "spanhook-release-chunks", "spanhook release: chunk size against the ten builds before", neighbours.chunks(),
    )
    durations = vega(
        "spanhook-release-durations", "spanhook release: build duration and the ten builds before",
        neighbours.durations(),
    )
    bundles = bars(
        "spanhook-release-bundles", "spanhook release: bundle size", SPANS, "attributes.build.bundle.size: *",
        "Bytes", of("max", "attributes.build.bundle.size", "Bytes"),
        [terms("correlation_id", 20), terms("attributes.build.bundler.name", 20)],
    )
    artifacts = bars(
        "spanhook-release-artifacts", "spanhook release: artifact size", SPANS, "attributes.build.artifact.size: *",
        "Bytes", of("max", "attributes.build.artifact.size", "Bytes"),
        [terms("correlation_id", 20), terms("attributes.artifact.filename", 20)],
    )
    assets = table(
        "spanhook-release-assets", "spanhook release: largest assets", LOGS, "attributes.build.asset.size: *",
        [of("max", "attributes.build.asset.size", "Size")],
        [
            terms("attributes.build.asset.name", 20, "Asset"), terms("attributes.build.bundler.name", 5, "Bundler"),
            # Without a choice: the build in which it was largest.
            terms("correlation_id", 1, "Correlation id"),
        ],
    )
    parts = table(
        "spanhook-release-parts", "spanhook release: largest parts of artifacts", LOGS,
        "attributes.build.artifact.part.size: *",
        [of("max", "attributes.build.artifact.part.size", "Size")],
        [
            terms("attributes.build.artifact.part.name", 20, "Part"),
            terms("attributes.build.artifact.name", 5, "Artifact"),
            terms("correlation_id", 1, "Correlation id"),
        ],
    )
    packages = table(
        "spanhook-release-packages", "spanhook release: largest npm packages of chunks", LOGS,
        "attributes.build.chunk.package.size: *",
        [of("max", "attributes.build.chunk.package.size", "Size")],
        [
            terms("attributes.build.chunk.name", 10, "Chunk"), terms("attributes.build.package.name", 12, "Package"),
            terms("correlation_id", 1, "Correlation id"),
        ],
    )
    requests = table(
        "spanhook-release-requests", "spanhook release: API errors and latency by build", SPANS,
        # A build's own spans carry the id too.
        "correlation_id: * and not instrumentationScope.name: spanhook and (kind: Client or kind: Server)",
        [
            ("count", {"customLabel": "Requests"}),
            of("avg", "failed", "Errors"),
            of("percentiles", "durationInNanos", "Duration", percents=[50, 95]),
        ],
        [
            terms("correlation_id", 11, "Correlation id", by=("max", {"field": "startTime"})),
            terms("resource.service.name", 10, "Service"),
            terms("kind", 2, "Side"),
        ],
    )
    events = search("spanhook-release-events", "spanhook release: what builds reported", SPANS, REPORTED, [
        "resource.cicd.pipeline.name", "resource.vcs.ref.head.name", "resource.vcs.ref.head.revision",
        "correlation_id", "name", "attributes.cicd.pipeline.result", "attributes.build.result",
        "attributes.error.type", "durationInNanos", "attributes.build.bundle.size", "attributes.build.bundle.assets",
        "attributes.build.bundle.chunks", "attributes.build.artifact.size", "attributes.build.artifact.variant",
    ], ["startTime", "desc"])
    runs = search(
        "spanhook-release-runs", "spanhook release: runs and jobs", SPANS,
        "resource.correlation_id: * and (attributes.spanhook.kind: run or attributes.spanhook.kind: job)",
        [
            "resource.spanhook.provider", "resource.cicd.pipeline.name", "correlation_id", "name",
            "attributes.spanhook.kind", "attributes.cicd.pipeline.task.run.result", "attributes.cicd.pipeline.result",
            "attributes.error.type", "durationInNanos", "traceId",
        ],
        ["startTime", "asc"],
    )
    failures = search(
        "spanhook-release-failures", "spanhook release: failures", SPANS,
        "resource.correlation_id: * and attributes.error.type: *",
        ["resource.cicd.pipeline.name", "correlation_id", "name", "attributes.error.type", "durationInNanos", "traceId"],
        ["startTime", "desc"],
    )
    logs = search(
        "spanhook-release-logs", "spanhook release: other events", LOGS,
        "correlation_id: * and not attributes.build.asset.name: * and not attributes.build.chunk.name: *"
        " and not attributes.build.artifact.part.name: *",
        ["correlation_id", "attributes.build.bundler.name", "attributes.build.bundle.name", "body"],
        ["@timestamp", "desc"],
    )
    return [
        index_pattern(LOGS, "ss4o_logs-ci-*", "@timestamp", FORMATS),
        filters, chunks, durations, bundles, artifacts, assets, parts, packages, requests, events, runs, failures, logs,
        dashboard(
            "spanhook-release", "CI release",
            "One build by its correlation id: chunks against the builds before it, sizes, durations, failures, and how"
            " the app runs.",
            "now-30d",
            [
                (6, [filters]), (16, [chunks, durations]), (14, [bundles, artifacts]), (16, [assets, parts]), (16, [packages]),
                (14, [requests]), (16, [events]), (14, [runs]), (12, [failures]), (20, [logs]),
            ],
        ),
    ]
