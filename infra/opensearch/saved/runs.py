"""CI runs, as webhooks tell them."""

from .objects import (
    ALL,
    SPANS,
    bars,
    controls,
    count,
    dashboard,
    histogram,
    index_pattern,
    of,
    over_time,
    search,
    terms,
)

FORMATS = {
    "durationInNanos": {
        "id": "duration",
        "params": {"inputFormat": "nanoseconds", "outputFormat": "asSeconds", "outputPrecision": 1},
    },
    "failed": {"id": "percent", "params": {"pattern": "0.[00]%"}},
    "attributes.cicd.pipeline.task.run.url.full": {"id": "url", "params": {}},
    "resource.cicd.pipeline.run.url.full": {"id": "url", "params": {}},
    "attributes.build.bundle.size": {"id": "bytes", "params": {}},
    "attributes.build.artifact.size": {"id": "bytes", "params": {}},
}


def make():
    filters = controls("spanhook-controls", "spanhook: filters", [
        ("5", "resource.spanhook.provider", "Provider", 20),
        ("1", "resource.cicd.pipeline.name", "Pipeline", 20),
        ("2", "resource.cicd.pipeline.run.id", "Run", 20),
        ("3", "correlation_id", "Correlation id", 20),
        ("4", "traceId", "Trace", 20),
    ])
    results = histogram(
        "spanhook-results", "spanhook: results of runs over time", SPANS, "attributes.spanhook.kind: run",
        "Runs", count("Runs"), [over_time("startTime"), terms("attributes.cicd.pipeline.result", 10, other=True)],
    )
    durations = bars(
        "spanhook-durations", "spanhook: duration of runs by pipeline", SPANS,
        "attributes.spanhook.kind: run and not attributes.cicd.pipeline.result: skip",
        "Median and 95 %", of("percentiles", "durationInNanos", None, percents=[50, 95]),
        [terms("resource.cicd.pipeline.name", 20, by=("count", {}))],
    )
    failures = bars(
        "spanhook-failures", "spanhook: reasons of failed jobs", SPANS,
        "attributes.spanhook.kind: job and attributes.error.type: *", "Jobs", count("Jobs"),
        [terms("attributes.error.type", 20, other=True), terms("resource.cicd.pipeline.name", 10, other=True)],
        mode="stacked",
    )
    steps = bars(
        "spanhook-steps", "spanhook: slowest steps of jobs", SPANS, "attributes.spanhook.kind: step",
        "Mean duration", of("avg", "durationInNanos", "Mean duration"),
        [terms("name", 15, "Step"), terms("attributes.spanhook.job", 10, "Job")],
    )
    stages = bars(
        "spanhook-runner-stages", "spanhook: stages of runners and CI functions", SPANS,
        "attributes.spanhook.kind: runner_stage or attributes.spanhook.kind: function",
        "Mean duration", of("avg", "durationInNanos", "Mean duration"),
        [terms("name", 20, "Stage"), terms("attributes.spanhook.kind", 2, "Kind")],
    )
    pulls = bars(
        "spanhook-pulls", "spanhook: slowest image pulls", SPANS, "attributes.spanhook.kind: pull",
        "Mean pure pull time (s)", of("avg", "attributes.k8s.image.pull.duration", "Mean pure pull time (s)"),
        [terms("attributes.container.image.name", 15, "Image")],
    )
    scheduling = bars(
        "spanhook-scheduling", "spanhook: slowest scheduling", SPANS, "attributes.spanhook.kind: schedule",
        "Mean time until a Pod had a node", of("avg", "durationInNanos", "Mean time until a Pod had a node"),
        [terms("attributes.k8s.node.name", 15, "Node"), terms("resource.k8s.namespace.name", 10, "Namespace")],
    )
    spans = search("spanhook-spans-of-a-run", "spanhook: spans", SPANS, ALL, [
        "resource.spanhook.provider", "resource.cicd.pipeline.name", "name", "attributes.spanhook.kind",
        "attributes.spanhook.attempt", "attributes.cicd.pipeline.task.run.result", "attributes.cicd.pipeline.result",
        "attributes.error.type", "durationInNanos", "resource.cicd.pipeline.run.id", "correlation_id", "traceId",
    ], ["startTime", "asc"])
    return [
        index_pattern(SPANS, "ss4o_traces-ci-*", "startTime", FORMATS),
        filters, results, durations, failures, steps, stages, pulls, scheduling, spans,
        dashboard(
            "spanhook", "CI runs", "Spans that spanhook made of CI webhooks, one run or all of them.", "now-7d",
            [
                (7, [filters]), (14, [results, durations]), (12, [failures, steps]), (12, [stages, pulls, scheduling]),
                (24, [spans]),
            ],
        ),
    ]
