"""Webhooks, build events and the app's spans go through `spanhook serve` and the Collector into a real OpenSearch, and
every panel of the dashboards is right."""

import json
import pathlib
import statistics

import pytest
from collector import Collector, binary, until
from dashboards import OBJECTS, Period, chosen, documents, options, rows, saved, state, vega
from opensearch import FOLDER, ROOT, Node
from reported import HOUR, SINCE, UNTIL, post, request
from runner import execution
from serve import Serve
from test_opensearch import USED

EVENTS = ROOT / "events"
PERIOD = Period(SINCE, UNTIL)
SECOND = 10**9
SHOP = [f"shop-{number:02}" for number in range(1, 14)]
LATEST, FAILED = SHOP[12], SHOP[11]
# A run whose test failed, and its second attempt, for which the build that had succeeded came again.
DELIVERIES = [
    "job-build", "job-test-failed", "job-deploy-skipped", "run-failed",
    "job-build-reused", "job-test-attempt-2", "job-deploy-attempt-2", "run-attempt-2",
]
RUN, CLUSTER_RUN = "16200000001", "5b1f0c7e-0000-4000-8000-000000000001"
# Of a runner, without the webhook of its pipeline.
STAGES = [("get_sources", 4), ("acme/setup", 3), ("step_script", 25)]
EXECUTION = execution(700210, 9106, SINCE + 8 * HOUR, STAGES)
MOBILE = "cedf175c-c537-49f8-9b5c-95892f0b2407"


def sample(name):
    return json.loads((EVENTS / f"{name}.json").read_text())


def build(correlation, hours, number, project="acme/shop", **chunks):
    """What a job reports of a build that ended then: the bundler's plugin doesn't know the project."""
    end = SINCE + hours * HOUR
    metadata = sample("build-events/ci-build-metadata")
    metadata |= {"timestamp": end, "correlation_id": correlation, "project": project}
    metadata["metrics"] = {"duration_seconds": 300 + number}
    bundle = sample("build-events/webpack-build-stats") | {"timestamp": end - 10, "correlation_id": correlation}
    if correlation == FAILED:
        metadata["job_status"] = "failed"
        bundle |= {"errors_count": 2}
    chunks = {"main": (400_000 + 1000 * number, 100 + number), "480": (22, 1), **chunks}
    bundle["details"] = {
        "largest_assets": [
            {"name": f"static/js/vendor.8a7f1c{number:02}.js", "size": 912_004 + number},
            {"name": "static/css/main.e5414484.css", "size": 88_120},
        ],
        "chunks": [{"name": name, "size": size, "modules": modules} for name, (size, modules) in chunks.items()],
    }
    return [metadata, bundle]


REPORTED = [
    *(it for number, id in enumerate(SHOP[:-1], 1) for it in build(id, number, number)),
    *build(LATEST, 13, 13, checkout=(50_000, 7)),
    # Between these, of another project: it is none of the ten before.
    *build("other-1", 6.5, 0, "acme/other", main=(9_999_999, 1)),
    *build("other-2", 12.5, 0, "acme/other", main=(9_999_999, 1)),
    *sample("build-events/mobile"),
    sample("build-events/bundle-with-packages") | {"timestamp": SINCE + HOUR // 2},
]
PACKAGES = "shop-app-31"
REQUESTS = [
    *[request(FAILED, it, 100 + it) for it in range(101)],
    *[request(LATEST, it, 2 * (100 + it), error=it < 10) for it in range(101)],
    # The server has a build of its own; baggage told it who called.
    *[request("api-7", it, 50, "shop-api", "7", kind=2, called_by=LATEST) for it in range(3)],
]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node with everything in it, each delivery made twice."""
    folder = tmp_path_factory.mktemp("opensearch")
    with Node(folder / "node") as node:
        node.load()
        with (
            Collector(
                folder / "collector", "opensearch.yaml", program="otelcol-opensearch", OPENSEARCH_ENDPOINT=node.endpoint
            ) as collector,
            Collector(
                folder / "gateway", "gateway.yaml", "gitlab-runner.yaml", EXPORT_ENDPOINT=collector.endpoint
            ) as gateway,
            Serve(folder / "serve", collector) as serve,
        ):
            for _ in range(2):
                assert gateway.send(EXECUTION) == 200
                answer = serve.report(REPORTED)
                assert answer["status"] == "accepted" and "unread" not in answer
                for name in DELIVERIES:
                    assert serve.github(sample(f"github/workflow-{name}"))["status"] == "accepted"
                assert serve.cluster(sample("kubernetes/batch-of-a-tekton-run"))["status"] == "accepted"
                post(collector, [{"traces": REQUESTS}])
            until(lambda: serve.queued() == 0)
            until(lambda: gateway.metric("otelcol_exporter_sent_spans") == 2 * (1 + len(STAGES)))
            assert "ERROR" not in serve.log() and "error" not in collector.log()
        node.call("POST", "ss4o_*/_refresh")
        yield node


@pytest.fixture(scope="module")
def parts():
    parts = binary("otelcol-opensearch").parents[1]
    if not (parts / "vega" / "node_modules").exists():
        pytest.skip("Vega is not installed below SPANHOOK_PARTS: tests/parts/install.sh vega")
    return parts


@pytest.fixture
def panel(node, parts):
    """What a panel shows, with a correlation id chosen or none."""

    def panel(id, correlation_id=None):
        item = saved(id)
        filters = [chosen("correlation_id", correlation_id)] if correlation_id else []
        if item["type"] == "search":
            return documents(node, item, filters, PERIOD)
        if state(item)["type"] == "vega":
            data, svg = vega(node, parts, item, filters, PERIOD)
            assert svg.startswith("<svg")
            return data
        return rows(node, item, filters, PERIOD)

    return panel


def test_the_templates_pipelines_and_mapping_are_taken_as_they_are(node):
    for name in ("spans", "logs"):
        assert f"spanhook-{name}" in node.call("GET", f"_ingest/pipeline/spanhook-{name}")
    for index, settings in node.call("GET", "ss4o_*/_settings").items():
        name = {"traces": "spans", "logs": "logs"}[index.split("_")[1].split("-")[0]]
        assert settings["settings"]["index"]["default_pipeline"] == f"spanhook-{name}"
    # Without the plugin of the policy nothing else of the README is left out.
    with pytest.raises(OSError, match="400"):
        node.call("PUT", "_plugins/_ism/policies/spanhook", json.loads((FOLDER / "ism-policy.json").read_text()))


def test_what_is_delivered_twice_is_one_document(node):
    documents = node.documents("ss4o_traces-ci-*")
    kinds = [it["attributes"].get("spanhook.kind") for it in documents.values()]
    # Of the two attempts together what test_samples.py counts of each.
    assert {kind: kinds.count(kind) for kind in {*kinds} - {None}} == {
        "run": 2 + 1, "job": 5 + 1, "queue": 4 + 2, "step": 17 + 2, "marker": 1,
        "pod": 1, "container": kinds.count("container"), "schedule": 1, "pull": 1,
        "execution": 1, "runner_stage": 2, "function": 1,
    }
    # A build and its bundle; artifact and mark; requests.
    assert kinds.count(None) == 2 * 15 + 2 + 1 + len(REQUESTS)
    records = node.documents("ss4o_logs-ci-*")
    # Of a bundle, its assets and its chunks; of the artifact its parts; the mark and the event of another type;
    # a bundle with an asset, three chunks and their packages.
    assert len(records) == 14 * (1 + 2 + 2) + 1 + 1 + 4 + 2 + (1 + 1 + 3 + 6)
    assert all(document["correlation_id"] for document in records.values())


def test_a_document_is_found_by_its_build(node):
    documents = [it for it in node.documents("ss4o_traces-ci-*").values() if "correlation_id" in it]
    apps = [it for it in documents if it["resource"].get("spanhook.provider") is None]
    found = {(it["resource"]["service.name"], it["kind"], it["correlation_id"]) for it in apps}
    # And of a run it is the run's own.
    runs = {it["correlation_id"] for it in documents if it["attributes"].get("spanhook.kind") in ("run", "job")}
    assert runs == {RUN, CLUSTER_RUN}
    # Of a server it is the caller's build, not its own.
    assert {it for it in found if it[1] != "Internal"} == {
        ("shop-api", "Server", LATEST), ("shop-web", "Client", LATEST), ("shop-web", "Client", FAILED),
    }


@pytest.mark.parametrize("item, index, field, counted", USED)
def test_a_field_of_the_dashboards_is_there_and_can_be_used(node, item, index, field, counted):
    capabilities = node.field({"spanhook-spans": "ss4o_traces-ci-*", "spanhook-logs": "ss4o_logs-ci-*"}[index], field)
    assert capabilities and capabilities["searchable"], field
    assert capabilities["aggregatable"] or not counted, field


def only(rows, *columns):
    return [tuple(row[column] for column in columns) for row in rows]


def test_the_results_of_runs_are_counted_over_time(panel):
    # Both attempts and the run of the cluster began between nine and twelve.
    assert panel("spanhook-results") == [
        ("2026-11-02T09:00:00.000Z", "success", 2), ("2026-11-02T09:00:00.000Z", "failure", 1),
    ]


def test_the_duration_of_runs_has_a_median_and_95_percent(panel):
    spans = panel("spanhook-spans-of-a-run")
    runs = [it for it in spans if it["attributes.spanhook.kind"] == "run"]
    lengths = [it["durationInNanos"] for it in runs if it["resource.cicd.pipeline.name"] == "CI"]
    (pipeline, median, high), (other, *_) = panel("spanhook-durations")
    assert (pipeline, other) == ("CI", "build-shop") and len(lengths) == 2
    assert median == pytest.approx(statistics.mean(lengths))
    assert median < high <= max(lengths)


def test_failed_jobs_have_their_reasons(panel):
    assert panel("spanhook-failures") == [("step_failure", "CI", 1)]


def test_the_slowest_steps_come_first(panel):
    found = panel("spanhook-steps")
    assert found[:4] == [
        ("Test", "call / test (24, chromium)", 442.5 * SECOND), ("build", "compile", 194 * SECOND),
        ("Build", "build", 184 * SECOND), ("Deploy", "deploy", 46 * SECOND),
    ]
    assert found == sorted(found, key=lambda it: -it[2]) and len(found) == 14


def test_the_slowest_pulls_and_scheduling_of_a_cluster_are_told(panel):
    assert panel("spanhook-pulls") == [("golang", 27.25)]
    assert panel("spanhook-scheduling") == [("node-1", "ci", 2 * SECOND)]


def test_the_stages_of_runners_and_ci_functions_are_told(panel):
    assert panel("spanhook-runner-stages") == [
        ("step_script", "runner_stage", 25 * SECOND), ("get_sources", "runner_stage", 4 * SECOND),
        ("acme/setup", "function", 3 * SECOND),
    ]


def test_spans_are_listed_in_order(panel):
    found = panel("spanhook-spans-of-a-run")
    of_cluster = [it for it in found if it["correlation_id"] == CLUSTER_RUN]
    assert len(found) == 29 + 2 * 15 + 2 + len(REQUESTS) + len(of_cluster) + 1 + 1 + len(STAGES)
    jobs = [it for it in found if it["attributes.spanhook.kind"] == "job" and it not in of_cluster]
    assert {(it["resource.spanhook.provider"], it["resource.cicd.pipeline.name"]) for it in jobs} == {("github", "CI")}
    assert [it["attributes.spanhook.attempt"] for it in jobs] == [1, 1, 1, 2, 2]


def test_a_chunk_is_told_against_the_ten_builds_before(panel):
    data = panel("spanhook-release-chunks", LATEST)
    assert only(data["near"], "id", "rank") == [(id, rank) for rank, id in enumerate(reversed(SHOP[2:]), 1)]
    # The failed one of the ten has no sizes; those of the other project don't count.
    before = [400_000 + 1000 * number for number in range(3, 12)]
    assert only(data["now"], "name", "size", "modules", "median", "builds", "told") == [
        ("main", 413_000, 113, statistics.median(before), 9, "413,000, +1.5%"),
        ("checkout", 50_000, 7, None, None, "50,000, new"),
        ("480", 22, 1, 22, 9, "22, +0.0%"),
    ]
    shown = [it for it in data["sizes"] if it["name"] == "main" and it["rank"] > 1]
    assert sorted(it["size"] for it in shown) == before


@pytest.mark.parametrize(
    "correlation_id, build, before",
    [(None, LATEST, 10), (SHOP[4], SHOP[4], 4), ("other-2", "other-2", 1), (SHOP[0], SHOP[0], 0)],
)
def test_this_build_is_the_chosen_one_or_the_latest(panel, correlation_id, build, before):
    data = panel("spanhook-release-chunks", correlation_id)
    assert [it["id"] for it in data["this"]] == [build]
    assert len(data["near"]) == 1 + before and len({it["project"] for it in data["near"]}) == 1
    assert {it["key"] for it in data["now"]} == {build}


def test_a_failed_build_has_no_chunks_and_an_unknown_one_is_no_error(panel):
    assert panel("spanhook-release-chunks", FAILED)["now"] == []
    for id in ("spanhook-release-chunks", "spanhook-release-durations"):
        data = panel(id, "unknown")
        assert data["this"] == data["near"] == data["now"] == []


def test_the_duration_of_a_build_is_told_with_those_before(panel):
    now = panel("spanhook-release-durations", LATEST)["now"]
    assert only(now, "id", "seconds", "result") == [
        (id, 300 + number, "failure" if id == FAILED else "success") for number, id in enumerate(SHOP, 1) if number > 2
    ]


def test_the_sizes_of_bundles_and_artifacts_are_told_by_build(panel):
    sized = {id for id in [*SHOP, "other-1", "other-2", PACKAGES]} - {FAILED}
    assert {it[0] for it in panel("spanhook-release-bundles")} == sized
    assert panel("spanhook-release-bundles", LATEST) == [(LATEST, "webpack", 1_843_201)]
    assert panel("spanhook-release-artifacts") == [(MOBILE, "app.aab", 38_112_004)]
    assert panel("spanhook-release-artifacts", LATEST) == []


def test_the_largest_assets_and_parts_come_first(panel):
    assert panel("spanhook-release-assets", SHOP[6]) == [
        ("static/js/vendor.js", "webpack", SHOP[6], 912_011), ("static/css/main.css", "webpack", SHOP[6], 88_120),
    ]
    assert panel("spanhook-release-assets")[0] == ("static/js/vendor.js", "webpack", LATEST, 912_017)
    assert panel("spanhook-release-parts", MOBILE) == [
        (part, "app.aab", MOBILE, size)
        for part, size in [("lib/arm64-v8a", 14_220_110), ("dex", 12_004_112), ("res", 8_110_220), ("assets", 3_777_562)]
    ]
    assert panel("spanhook-release-parts", LATEST) == []


def test_the_packages_of_chunks_are_told_by_chunk(panel):
    assert panel("spanhook-release-packages", PACKAGES) == [
        (chunk, package, PACKAGES, size) for chunk, package, size in [
            ("vendor", "react-dom", 260_100), ("vendor", "@acme/ui", 120_000), ("vendor", "(rest)", 20_110),
            ("main", "(own)", 180_000), ("main", "zod", 60_000), ("settings", "(own)", 100),
        ]
    ]
    assert panel("spanhook-release-packages", LATEST) == []


def test_api_errors_and_latency_are_told_by_build(panel):
    milliseconds = SECOND // 1000
    found = panel("spanhook-release-requests")
    expected = {
        (FAILED, "shop-web", "Client"): (101, 0, 150, 195),
        (LATEST, "shop-web", "Client"): (101, 10 / 101, 300, 390),
        (LATEST, "shop-api", "Server"): (3, 0, 50, 50),
    }
    assert {it[:3] for it in found} == expected.keys()
    for *keys, requests, errors, median, high in found:
        assert (requests, errors) == pytest.approx(expected[tuple(keys)][:2])
        assert [it / milliseconds for it in (median, high)] == pytest.approx(expected[tuple(keys)][2:], rel=0.01)
    chosen_alone = {it[:3] for it in panel("spanhook-release-requests", LATEST)}
    assert chosen_alone == expected.keys() - {(FAILED, "shop-web", "Client")}


def test_everything_that_was_reported_of_a_build_is_listed(panel):
    columns = ["name", "resource.cicd.pipeline.name", "attributes.cicd.pipeline.result", "attributes.build.bundle.size"]
    assert only(panel("spanhook-release-events", LATEST), *columns) == [
        ("webpack compile", None, None, 1_843_201), ("build acme/shop", "acme/shop", "success", None),
    ]
    failed = only(panel("spanhook-release-failures"), "correlation_id", "name", "attributes.error.type")
    # The run that failed is there too, with its job and its step.
    assert [it for it in failed if it[0] != RUN] == [
        (FAILED, "webpack compile", "compile_error"), (FAILED, "build acme/shop", "failed"),
    ]
    assert {it[0] for it in failed} == {FAILED, RUN}
    assert only(panel("spanhook-release-runs", RUN), "attributes.spanhook.kind") == [
        *[(kind,) for kind in ("run", "job", "job", "job", "run", "job", "job")],
    ]
    assert panel("spanhook-release-runs", LATEST) == []
    assert panel("spanhook-release-failures", LATEST) == []
    (stats,) = panel("spanhook-release-logs", LATEST)
    assert len(json.loads(stats["body"])["chunks"]) == 3
    assert [it["body"][:20] for it in panel("spanhook-release-logs", MOBILE)] == ['{"access_token":"[bl', "upload finished"]


def test_the_controls_offer_what_is_there(node):
    release = options(node, saved("spanhook-release-controls"), 0, [], PERIOD)
    assert set(release) == {*SHOP, "other-1", "other-2", PACKAGES, MOBILE, RUN, CLUSTER_RUN}
    labels = [it["label"] for it in state(saved("spanhook-controls"))["params"]["controls"]]
    runs = saved("spanhook-controls")
    offered = {label: options(node, runs, number, [], PERIOD) for number, label in enumerate(labels)}
    assert set(offered["Provider"]) == {"github", "gitlab", "tekton", "kubernetes"}
    assert set(offered["Pipeline"]) == {"CI", "build-shop", "acme/shop", "acme/other", "acme/shop-android", "acme/shop-app"}
    assert set(offered["Correlation id"]) == set(release)
    assert "16200000001" in offered["Run"] and len(offered["Trace"]) == 20


def test_every_panel_is_checked():
    text = pathlib.Path(__file__).read_text()
    for item in OBJECTS:
        if item["type"] in ("search", "visualization"):
            assert f'"{item["id"]}"' in text, item["id"]


def test_metrics_do_not_pile_up_when_opensearch_is_the_only_store(node, tmp_path):
    with (
        Collector(
            tmp_path / "collector", "opensearch.yaml", program="otelcol-opensearch", OPENSEARCH_ENDPOINT=node.endpoint,
            OPENSEARCH_INDEX="ss4o_traces-ci-metrics", OPENSEARCH_LOGS_INDEX="ss4o_logs-ci-metrics",
        ) as collector,
        Serve(tmp_path / "serve", collector, WEBHOOK_METRICS="true") as serve,
    ):
        points = 0
        for number in range(20):
            points += serve.report(build(f"metrics-{number}", number, 0))["points"]
            for name in DELIVERIES[:4]:
                serve.github(sample(f"github/workflow-{name}"))
            until(lambda: serve.queued() == 0, 20)
        counters = serve.counters()
        assert points == 20 * 11 and collector.metric("otelcol_exporter_sent_metric_points_total") > points
        assert {name: counters[name] for name in ("retried", "dead_lettered", "misconfigured", "partially_rejected")} == {
            "retried": 0, "dead_lettered": 0, "misconfigured": 0, "partially_rejected": 0,
        }
        for signal in ("metric_points", "spans", "log_records"):
            assert collector.metric(f"otelcol_exporter_send_failed_{signal}_total") == 0
            assert collector.metric(f"otelcol_receiver_refused_{signal}_total") == 0
        assert collector.metric("otelcol_exporter_queue_size") == 0
        # What was dropped is said, and not for every request.
        assert 1 <= collector.log().count('"otelcol.component.id": "debug/dropped"') <= 60
        assert "ERROR" not in serve.log()
