"""Build events and the app's own spans go through the real Collector, and every release query and panel is right."""

import functools
import hashlib
import re
import time
from pathlib import Path

import pytest
from clickhouse import QUERIES, RELEASE_QUERIES, engine, generated, query, serve
from collector import Collector, until
from reported import (
    BROKEN,
    DAY,
    EVENTS,
    HOUR,
    MOBILE,
    ONE,
    REQUESTS,
    SIGNALS,
    SINCE,
    TWO,
    TWO_SIZE,
    UNTIL,
    VENDOR,
    VENDOR_TWO,
    count,
    post,
    snapshot,
)
from runs import Run
from test_clickhouse import OVERLAY, otlp
from test_grafana import DASHBOARDS, expand

RELEASE = {panel["title"]: panel for panel in DASHBOARDS["release.json"]["panels"]}


@functools.cache
def stored(folder):
    """The engine with everything in the database `release`, each request sent twice."""
    clickhouse = engine()
    clickhouse.create("release")
    clickhouse.create_tables()
    for table in ("ci_build_spans", "ci_build_parts", "ci_job_telemetry_traces"):
        clickhouse.execute(f"SYSTEM STOP MERGES {table}")
    run = Run(int(BROKEN), at=SINCE + 11 * HOUR - 1_780_272_000).job("bundle", 0, 60, "failure")
    bodies = [*EVENTS, {"traces": REQUESTS}, {"traces": [otlp(row) for row in run.rows]}]
    with serve(clickhouse) as endpoint:
        with Collector(
            folder, "clickhouse.yaml", OVERLAY, CLICKHOUSE_ENDPOINT=endpoint, CLICKHOUSE_DATABASE="release"
        ) as collector:
            for _ in range(2):
                post(collector, bodies)
            for table, signal in {"otel_traces": "traces", "otel_logs": "logs"}.items():
                rows = 2 * count(bodies, signal)
                until(lambda: clickhouse.value(f"SELECT count() FROM release.{table}") == rows, 30)
            points = 2 * count(bodies, "metrics")
            until(lambda: clickhouse.value("""SELECT (SELECT count() FROM release.otel_metrics_gauge)
                + (SELECT count() FROM release.otel_metrics_histogram)""") == points, 30)
    return clickhouse


@pytest.fixture
def release(tmp_path_factory):
    clickhouse = stored(tmp_path_factory.getbasetemp() / "release")
    clickhouse.use("release")
    return clickhouse


@pytest.fixture
def ask(release):
    def ask(name, correlation_id="", **params):
        given = {"correlation_id": correlation_id, "from": SINCE, "to": UNTIL, "repository": "", **params}
        return release.rows(query(name), **given)

    return ask


@pytest.fixture
def panel(release):
    """Rows of a panel of the dashboard."""

    def panel(title, correlation_id):
        sql = RELEASE[title]["targets"][0]["rawSql"]
        return release.rows(expand(sql, SINCE, UNTIL, correlation_id=correlation_id))

    return panel


def only(rows, **values):
    (row,) = [row for row in rows if values.items() <= row.items()]
    return row


def test_each_build_bundle_and_artifact_is_one_row(release):
    assert release.value("SELECT count() FROM ci_build_spans") == 2 * 8
    rows = release.rows("SELECT kind, correlation_id FROM ci_builds ORDER BY ALL")
    assert [(row["kind"], row["correlation_id"]) for row in rows] == [
        ("artifact", MOBILE), ("artifact", "next-run"),
        ("build", ONE), ("build", TWO), ("build", BROKEN),
        ("bundle", ONE), ("bundle", TWO), ("bundle", BROKEN),
    ]


def test_a_bundle_has_its_figures_and_what_the_build_knows(release):
    (row,) = release.rows(f"SELECT * FROM ci_builds WHERE correlation_id = '{ONE}' AND kind = 'bundle'")
    for name in ("trace_id", "span_id"):
        assert row.pop(name)
    assert row == {
        "timestamp": "2026-11-02 09:41:55.250000000",
        "kind": "bundle",
        "correlation_id": ONE,
        "run_id": ONE,
        "repository": "acme/shop",
        "ref": "main",
        "revision": "4bf92f3577b34da6a3ce929d0e0e47364bf92f35",
        "result": "",
        "error_type": "",
        "seconds": 48.211,
        "bundler": "webpack",
        "bundle": "",
        "bundle_size": 1843201,
        "asset_count": 14,
        "chunk_count": 5,
        "artifact": "",
        "variant": "",
        "artifact_version": "",
        "artifact_size": None,
    }


def test_a_failed_build_has_its_reason_and_no_size(release):
    rows = release.rows(f"SELECT * FROM ci_builds WHERE correlation_id = '{BROKEN}' ORDER BY kind")
    assert [(row["result"], row["error_type"], row["bundle_size"]) for row in rows] == [
        ("failure", "failed", None), ("failure", "compile_error", None),
    ]


def test_an_artifact_has_its_variant_and_size(release):
    (row,) = release.rows(f"SELECT * FROM ci_builds WHERE correlation_id = '{MOBILE}'")
    assert (row["repository"], row["artifact"], row["variant"], row["artifact_version"], row["artifact_size"]) == (
        "acme/shop-android", "app.aab", "release", "4.2.0", 38112004
    )


def test_build_events_stay_out_of_the_table_of_ci_jobs(release):
    rows = release.rows("SELECT kind, job FROM ci_job_telemetry")
    assert rows == [{"kind": "job", "job": "bundle"}]


def test_a_mark_is_no_ci_job_and_no_build_whatever_its_attributes():
    clickhouse = engine()
    clickhouse.create("marks")
    clickhouse.create_tables()
    mark = Run(1).job("deploy", 0, 60).rows[0]
    del mark["ResourceAttributes"]["spanhook.provider"]
    mark["ResourceAttributes"]["correlation_id"] = "1"
    mark["SpanAttributes"] |= {"build.bundler.name": "webpack", "artifact.filename": "app.aab"}
    clickhouse.insert("otel_traces", [mark])
    for view in ("ci_job_telemetry", "ci_builds"):
        assert clickhouse.value(f"SELECT count() FROM {view}") == 0


def test_what_two_projects_report_with_one_correlation_id_is_not_mixed(release):
    clickhouse = engine()
    clickhouse.create("shared")
    clickhouse.create_tables()
    rows = [build_row("shared", project, "build", 0) for project in ("shop", "site")]
    rows.append(build_row("shared", "", "bundle", 0))
    clickhouse.insert("otel_traces", rows)
    found = clickhouse.rows("SELECT kind, repository FROM ci_builds ORDER BY ALL")
    assert [(row["kind"], row["repository"]) for row in found] == [
        ("build", "acme/shop"), ("build", "acme/site"), ("bundle", ""),
    ]


def build_row(correlation, project, kind, at, size=1000):
    """A span of a build event as a row of otel_traces."""
    row = Run(1, at=at).job("x", 0, 60).rows[0]
    ids = hashlib.sha256(f"{correlation} {project} {kind} {at}".encode()).hexdigest()
    resource = {"correlation_id": correlation, "app.build_id": correlation, "cicd.pipeline.run.id": correlation}
    if project:
        resource |= {
            "vcs.owner.name": "acme", "vcs.repository.name": project, "vcs.ref.head.name": "main",
            "cicd.pipeline.name": f"acme/{project}",
        }
    name, attributes = {
        "build": (f"build acme/{project}", {"cicd.pipeline.result": "success"}),
        "bundle": ("vite compile", {"build.bundler.name": "vite", "build.bundle.size": str(size)}),
        "artifact": ("artifact app.aab", {"artifact.filename": "app.aab", "build.artifact.size": str(size)}),
    }[kind]
    return {
        **row, "TraceId": ids[:32], "SpanId": ids[32:48], "ServiceName": project or "build", "SpanName": name,
        "ResourceAttributes": resource, "SpanAttributes": attributes,
    }


def test_a_bundle_is_compared_with_ten_builds_and_no_more():
    clickhouse = engine()
    clickhouse.create("history")
    clickhouse.create_tables()
    builds = [build_row(f"b{it}", "shop", "bundle", it * HOUR, 1000 + it) for it in range(15)]
    clickhouse.insert("otel_traces", builds)
    rows = clickhouse.rows(query("bundle_size"), correlation_id="b13")
    assert [row["correlation_id"] for row in rows] == [f"b{it}" for it in range(13, 2, -1)]
    assert (rows[0]["bundle_size"], rows[0]["change"]) == (1013, 1)
    assert rows[0]["of_median"] == pytest.approx(1013 / 1007, abs=0.002)
    sql = expand(RELEASE["Bundle size by build"]["targets"][0]["rawSql"], SINCE, UNTIL, correlation_id="b13")
    assert [row["Size"] for row in clickhouse.rows(sql)] == list(range(1013, 1002, -1))


def test_a_retried_job_is_counted_by_its_last_report():
    clickhouse = engine()
    clickhouse.create("retried_build")
    clickhouse.create_tables()
    for at, size in ((60, 1200), (0, 1000)):  # the first report comes last
        clickhouse.insert("otel_traces", [build_row("r", "shop", "bundle", at, size)])
    assert clickhouse.rows("SELECT bundle_size FROM ci_builds") == [{"bundle_size": 1200}]
    for at, names in ((60, ["main.js"]), (0, ["main.js", "old.js"])):
        clickhouse.insert("otel_metrics_gauge", [
            {
                "ResourceAttributes": {"correlation_id": "r"}, "ScopeName": "spanhook", "ServiceName": "shop",
                "MetricName": "build.asset.size", "TimeUnix": SINCE + at, "Value": 10 + at,
                "Attributes": {"build.bundler.name": "vite", "build.asset.name": name},
            }
            for name in names
        ])
    assert clickhouse.rows("SELECT name, size FROM ci_build_assets") == [{"name": "main.js", "size": 70}]


BUILDS = 100_000


@functools.cache
def many():
    """The generated spans, many builds of 40 projects, and 100 requests of each of the latest thousand."""
    clickhouse = generated()
    clickhouse.create("many_builds")
    clickhouse.create_tables()
    clickhouse.execute(f"""
        INSERT INTO ci_build_spans (timestamp, kind, correlation_id, run_id, repository, ref, revision, trace_id,
            span_id, result, duration_ns, bundler, bundle_size, artifact, artifact_size)
        WITH intDiv(number, 3) AS build, ['build', 'bundle', 'artifact'][number % 3 + 1] AS event
        SELECT toDateTime64({SINCE} - 300 * {DAY} + 259 * build, 9), event, toString(build), toString(build),
            if(event = 'bundle', '', concat('acme/p', toString(build % 40))), if(event = 'bundle', '', 'main'),
            hex(sipHash128(build)), hex(sipHash128(build, 't')), hex(sipHash64(number)), 'success', 1e11,
            if(event = 'bundle', 'webpack', ''), if(event = 'bundle', 1000000 + number, NULL),
            if(event = 'artifact', 'app.aab', ''), if(event = 'artifact', 1000000 + number, NULL)
        FROM numbers({3 * BUILDS})
    """)
    clickhouse.execute(f"""
        INSERT INTO ci_build_parts (timestamp, correlation_id, bundler, name, size)
        SELECT toDateTime({SINCE} - 300 * {DAY} + 259 * intDiv(number, 10)), toString(intDiv(number, 10)), 'webpack',
            concat('asset-', toString(number % 10)), number FROM numbers({10 * BUILDS})
    """)
    clickhouse.execute(f"""
        INSERT INTO ci_build_chunk_parts (timestamp, correlation_id, bundler, chunk, package, size)
        SELECT toDateTime({SINCE} - 300 * {DAY} + 259 * intDiv(number, 20)), toString(intDiv(number, 20)), 'webpack',
            concat('chunk-', toString(number % 10)), if(number % 20 < 10, '', 'react'), number FROM numbers({20 * BUILDS})
    """)
    clickhouse.execute("INSERT INTO otel_traces SELECT * FROM generated.otel_traces")
    clickhouse.execute(f"""
        INSERT INTO otel_traces (Timestamp, TraceId, SpanId, SpanKind, ServiceName, ResourceAttributes, ScopeName, Duration)
        SELECT toDateTime64({SINCE} + number, 9), hex(sipHash128(number)), hex(sipHash64(number)), 'Client', 'shop-web',
            map('service.name', 'shop-web', 'app.build_id', toString({BUILDS} - 1 - number % 1000)), 'fetch', 1e8
        FROM numbers(100000)
    """)
    return clickhouse


@pytest.mark.parametrize("name", sorted(RELEASE_QUERIES))
def test_release_queries_among_many_builds_are_quick(name):
    clickhouse = many()
    clickhouse.use("many_builds")
    ids = {"correlation_id": str(BUILDS - 1), "from": SINCE - DAY, "to": UNTIL, "repository": "acme/p7"}
    took = []
    for _ in range(3):
        start = time.perf_counter()
        rows = clickhouse.rows(query(name), **ids)
        took.append(time.perf_counter() - start)
    assert rows
    print(f"\n{name}: {min(took) * 1e3:.0f} ms")
    assert min(took) < 5


@pytest.mark.parametrize("name", sorted(RELEASE_QUERIES))
def test_every_release_query_says_what_it_answers(name):
    first, *_ = (QUERIES / f"{name}.sql").read_text().splitlines()
    assert first.startswith("-- ") and first.endswith("?")


def test_a_bundle_is_compared_with_the_one_before(ask):
    two, one = ask("bundle_size", TWO)
    assert (two["correlation_id"], two["bundle_size"], two["change"]) == (TWO, TWO_SIZE, TWO_SIZE - 1843201)
    assert two["of_median"] == pytest.approx(TWO_SIZE / 1843201)
    assert (one["correlation_id"], one["bundle_size"], one["compile_seconds"]) == (ONE, 1843201, 48.211)
    assert one["change"] is None and one["of_median"] is None
    # Builds after the one asked for do not count.
    assert [row["correlation_id"] for row in ask("bundle_size", ONE)] == [ONE]


def test_the_largest_assets_and_parts_are_told_once(ask):
    assets = ask("largest_assets", ONE)
    assert [(row["source"], row["name"], row["size"]) for row in assets] == [
        ("webpack", "static/js/vendor.js", VENDOR),
        ("webpack", "static/js/main.js", 403117),
        ("webpack", "static/css/main.css", 88120),
    ]
    assert sum(row["share_of_shown"] for row in assets) == pytest.approx(1)
    parts = ask("largest_assets", MOBILE)
    assert [(row["source"], row["source_name"], row["name"]) for row in parts] == [
        ("app.aab", "release", it) for it in ("lib/arm64-v8a", "dex", "res", "assets")
    ]
    assert [row["size"] for row in parts] == [14220110, 12004112, 8110220, 3777562]


def test_the_size_of_an_artifact_has_a_history(ask):
    later, first = ask("artifact_size")
    assert (later["correlation_id"], later["artifact_size"], later["change"]) == ("next-run", 39112004, 1_000_000)
    assert (first["correlation_id"], first["artifact_size"], first["change"]) == (MOBILE, 38112004, None)
    assert not ask("artifact_size", repository="acme/shop")


def test_latency_is_told_by_build(ask):
    rows = ask("latency_by_build", TWO)
    assert [(row["correlation_id"], row["service_name"], row["service_version"], row["kind"]) for row in rows] == [
        (TWO, "shop-api", "7", "Server"), (TWO, "shop-web", "1.5.0", "Client"), (ONE, "shop-web", "1.4.0", "Client"),
    ]
    api, two, one = rows
    assert (api["requests"], api["p95_seconds"]) == (3, 0.05)
    assert (two["requests"], two["error_rate"]) == (101, pytest.approx(10 / 101))
    assert (two["p50_seconds"], two["p95_seconds"]) == pytest.approx((0.3, 0.39))
    assert (one["requests"], one["error_rate"]) == (101, 0)
    assert (one["p50_seconds"], one["p95_seconds"]) == pytest.approx((0.15, 0.195))
    assert (two["bundle_bytes"], one["bundle_bytes"]) == (TWO_SIZE, 1843201)


def test_the_figures_of_a_build_are_shown(panel):
    shown = {
        title: next(iter(panel(title, TWO)[0].values()))
        for title, it in RELEASE.items() if it["type"] == "stat"
    }
    assert shown == {
        "Bundle size": TWO_SIZE,
        "Against the last ten": pytest.approx(TWO_SIZE / 1843201 - 1),
        "Build duration": 300,
        "API latency, p95": pytest.approx(0.39),
    }
    # Nothing before it, and no size at all.
    for correlation_id in (ONE, BROKEN):
        assert list(panel("Against the last ten", correlation_id)[0].values()) == [None]


def test_everything_of_a_build_is_shown(panel):
    bundle, metadata = panel("This build", TWO)
    assert (bundle["Kind"], bundle["Name"], bundle["Size"], bundle["Repository"]) == (
        "bundle", "webpack", TWO_SIZE, "acme/shop"
    )
    assert (metadata["Kind"], metadata["Result"], metadata["Duration"]) == ("build", "success", 300)
    (artifact,) = panel("This build", MOBILE)
    assert (artifact["Name"], artifact["Size"], artifact["Duration"]) == ("app.aab release", 38112004, None)


def test_bars_compare_the_builds(panel):
    assert panel("Bundle size by build", BROKEN) == [
        {"Build": f"11-02 10:41 {TWO}", "Size": TWO_SIZE}, {"Build": f"11-02 09:41 {ONE}", "Size": 1843201},
    ]
    assert [row["Duration"] for row in panel("Build duration by build", BROKEN)] == [312.5, 300, 312.5]
    assert panel("Largest assets", TWO)[0] == {"Asset": "static/js/vendor.js", "Size": VENDOR_TWO}
    assert [row["Size"] for row in panel("Largest assets", ONE)] == [VENDOR, 403117, 88120]


def test_artifacts_are_compared(panel):
    rows = panel("Artifact size by build", "next-run")
    assert [(row["Correlation id"], row["Size"], row["Change"]) for row in rows] == [
        ("next-run", 39112004, 1_000_000), (MOBILE, 38112004, None),
    ]


def test_latency_is_shown_for_the_build_and_its_neighbours(panel):
    rows = panel("API latency by build", BROKEN)
    assert [(row["Correlation id"], row["Service"], row["Requests"]) for row in rows] == [
        (TWO, "shop-api", 3), (TWO, "shop-web", 101), (ONE, "shop-web", 101),
    ]
    assert only(rows, Service="shop-web", Version="1.4.0")["p95"] == pytest.approx(0.195)


def test_failures_have_their_reasons(panel):
    rows = panel("Failures", BROKEN)
    assert [(row["Kind"], row["Name"], row["Error"]) for row in rows] == [
        ("build", "acme/shop", "failed"), ("bundle", "vite", "compile_error"), ("job", "bundle", "script_failure"),
    ]
    assert {row["Correlation id"] for row in rows} == {BROKEN}
    assert panel("Failures", TWO) == []


def test_the_runs_of_a_build_are_beside_it(panel):
    rows = panel("Runs and jobs", BROKEN)
    assert [(row["Kind"], row["Job"], row["Result"], row["Error"]) for row in rows] == [
        ("job", "bundle", "failure", "script_failure"),
    ]
    assert rows[0]["Trace"] == f"{int(BROKEN):032x}"
    assert panel("Runs and jobs", TWO) == []


def test_a_run_is_no_build_though_it_has_a_correlation_id(release):
    kinds = release.rows("SELECT DISTINCT provider, correlation_id FROM ci_job_telemetry")
    assert kinds == [{"provider": "gitlab", "correlation_id": BROKEN}]
    assert release.value(f"SELECT count() FROM ci_build_spans WHERE trace_id = '{int(BROKEN):032x}'") == 0


def test_the_only_filter_is_the_correlation_id_and_the_latest_build_is_first(release):
    _, variable = DASHBOARDS["release.json"]["templating"]["list"]
    assert variable["name"] == "correlation_id" and not variable["multi"] and not variable["includeAll"]
    rows = release.rows(expand(variable["query"]["rawSql"], SINCE, UNTIL))
    assert [row["correlation_id"] for row in rows] == ["next-run", BROKEN, TWO, MOBILE, ONE]


def test_every_panel_is_tested():
    text = "".join((Path(__file__).parent / f"{name}.py").read_text() for name in ("test_release", "test_chunks"))
    assert not {title for title in RELEASE if f'"{title}"' not in text}


def test_no_signal_is_lost_when_clickhouse_is_down_and_the_collector_dies(tmp_path):
    clickhouse = engine()
    clickhouse.create("outage")
    clickhouse.create_tables()
    events = [snapshot("webpack-build-stats", ONE)]
    retries = "exporters: { clickhouse: { retry_on_failure: { initial_interval: 100ms, max_interval: 500ms } } }"

    def collector(endpoint):
        return Collector(
            tmp_path, "clickhouse.yaml", OVERLAY, retries, CLICKHOUSE_ENDPOINT=endpoint, CLICKHOUSE_DATABASE="outage"
        )

    with collector("http://127.0.0.1:9") as it:
        post(it, events)
        it.kill()
    tables = ("otel_traces", "otel_metrics_gauge", "otel_logs")
    assert [clickhouse.value(f"SELECT count() FROM outage.{table}") for table in tables] == [0, 0, 0]
    with serve(clickhouse) as endpoint, collector(endpoint):
        for table, signal in zip(tables, SIGNALS, strict=True):
            until(lambda: clickhouse.value(f"SELECT count() FROM outage.{table}") == count(events, signal), 30)


DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_on_the_correlation_id_leads_to_files_that_exist():
    page = (DOCS / "correlation-id.md").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", page)
    assert links and all((DOCS / link).exists() for link in links)


def test_page_samples_and_package_use_the_same_names():
    define = (DOCS.parent / "packages" / "bundler" / "src" / "define.ts").read_text()
    (constant,) = set(re.findall(r"__\w+__", define))
    for path in ("correlation-id.md", "samples/browser/build.mjs", "samples/browser/telemetry.js"):
        assert constant in (DOCS / path).read_text()
    apps = ("kotlin/src/main/kotlin/Telemetry.kt", "swift/Telemetry.swift")
    for path in ("browser/telemetry.js", "server/telemetry.cjs", *apps):
        assert '"app.build_id"' in (DOCS / "samples" / path).read_text()
