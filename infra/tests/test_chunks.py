"""Chunks and their npm packages go through the real Collector, and their queries and panels are right."""

import functools

import pytest
from clickhouse import engine, query, serve
from collector import Collector, until
from reported import DAY, HOUR, SINCE, UNTIL, count, post, snapshot
from test_clickhouse import OVERLAY
from test_grafana import DASHBOARDS, expand

PANELS = {panel["title"]: panel for panel in DASHBOARDS["release.json"]["panels"]}
# Two builds; then one whose react-dom is larger, which has another lazy chunk.
FIRST, SECOND, LATEST = "shop-app-29", "shop-app-30", "shop-app-31"
EVENTS = [
    snapshot("bundle-with-packages", FIRST, 0),
    snapshot("bundle-with-packages", SECOND, HOUR),
    snapshot(
        "bundle-with-packages", LATEST, 2 * HOUR,
        **{"400210": "420210", "260100": "280100", '"settings"': '"profile"'},
    ),
]


@functools.cache
def stored(folder):
    clickhouse = engine()
    clickhouse.create("chunks")
    clickhouse.create_tables()
    clickhouse.execute("SYSTEM STOP MERGES ci_build_chunk_parts")
    with serve(clickhouse) as endpoint, Collector(
        folder, "clickhouse.yaml", OVERLAY, CLICKHOUSE_ENDPOINT=endpoint, CLICKHOUSE_DATABASE="chunks"
    ) as collector:
        for _ in range(2):
            post(collector, EVENTS)
        for table, signal in {"otel_traces": "traces", "otel_logs": "logs"}.items():
            rows = 2 * count(EVENTS, signal)
            until(lambda: clickhouse.value(f"SELECT count() FROM chunks.{table}") == rows, 30)
    return clickhouse


@pytest.fixture
def chunks(tmp_path_factory):
    clickhouse = stored(tmp_path_factory.getbasetemp() / "chunks")
    clickhouse.use("chunks")
    return clickhouse


@pytest.fixture
def ask(chunks):
    return lambda name, correlation_id: chunks.rows(query(name), correlation_id=correlation_id)


@pytest.fixture
def panel(chunks):
    def panel(title, correlation_id):
        return chunks.rows(expand(PANELS[title]["targets"][0]["rawSql"], SINCE, UNTIL, correlation_id=correlation_id))

    return panel


def test_each_chunk_is_one_row_with_its_figures(chunks):
    assert chunks.value("SELECT count() FROM ci_build_chunk_parts") == 2 * 3 * 9
    rows = chunks.rows(f"SELECT * FROM ci_build_chunks WHERE correlation_id = '{FIRST}' ORDER BY size DESC")
    assert rows[0] == {
        "timestamp": "2026-11-02 09:41:55", "correlation_id": FIRST, "repository": "acme/shop-app",
        "bundler": "rspack", "bundle": "", "chunk": "vendor", "size": 400210, "modules": 98, "initial": True,
    }
    assert [(row["chunk"], row["size"], row["modules"], row["initial"]) for row in rows[1:]] == [
        ("main", 240000, 31, True), ("settings", 100, 1, False),
    ]


def test_a_chunk_that_is_no_longer_made_is_not_in_the_last_report(chunks):
    clickhouse = engine()
    clickhouse.create("chunks_again")
    clickhouse.create_tables()
    clickhouse.execute("""
        INSERT INTO ci_build_chunk_parts (timestamp, correlation_id, bundler, chunk, package, size) VALUES
        (100, '1', 'vite', 'old', '', 1), (100, '1', 'vite', 'main', '', 2), (100, '1', 'vite', 'main', 'react', 2),
        (200, '1', 'vite', 'main', '', 3), (200, '1', 'vite', 'main', 'preact', 3)
    """)
    assert clickhouse.rows("SELECT chunk, size FROM ci_build_chunks") == [{"chunk": "main", "size": 3}]
    assert clickhouse.rows("SELECT package, size FROM ci_build_packages") == [{"package": "preact", "size": 3}]


def test_a_chunk_is_compared_with_the_builds_before(ask):
    vendor, main, profile = ask("chunk_size", LATEST)
    assert (vendor["chunk"], vendor["size"], vendor["median_before"], vendor["change"], vendor["builds_before"]) == (
        "vendor", 420210, 400210, 20000, 2
    )
    assert vendor["of_median"] == pytest.approx(420210 / 400210)
    assert (main["chunk"], main["change"], main["modules"], main["initial"]) == ("main", 0, 31, True)
    # A new one, and the one that went is not among this build's.
    assert (profile["chunk"], profile["median_before"], profile["change"], profile["initial"]) == (
        "profile", None, None, False
    )
    # Builds after the one asked for do not count.
    assert [row["builds_before"] for row in ask("chunk_size", FIRST)] == [0, 0, 0]


def test_how_much_of_a_chunk_is_third_party_is_told_by_package(ask):
    rows = ask("chunk_packages", LATEST)
    assert [(row["chunk"], row["package"], row["size"], row["modules"]) for row in rows] == [
        ("vendor", "react-dom", 280100, 12), ("vendor", "@acme/ui", 120000, 80), ("vendor", "(rest)", 20110, 6),
        ("main", "(own)", 180000, 30), ("main", "zod", 60000, 1), ("profile", "(own)", 100, 1),
    ]
    shares = {row["chunk"]: row["third_party_share"] for row in rows}
    assert shares == {"vendor": 1, "main": pytest.approx(0.25), "profile": 0}
    assert rows[0]["share"] == pytest.approx(280100 / 420210)


def test_chunks_and_their_packages_are_shown(panel):
    vendor = panel("Chunks", LATEST)[0]
    assert (vendor["Chunk"], vendor["Bundle"], vendor["Size"], vendor["Change"]) == ("vendor", "rspack", 420210, 20000)
    assert vendor["Against the median"] == pytest.approx(20000 / 400210)
    zod = next(row for row in panel("Third-party code of chunks", LATEST) if row["Package"] == "zod")
    assert (zod["Chunk"], zod["Third-party"], zod["Share"]) == ("main", pytest.approx(0.25), pytest.approx(0.25))
    assert panel("Chunks", "unknown") == panel("Third-party code of chunks", "unknown") == []


def test_a_mark_that_is_called_like_a_chunk_is_none(chunks):
    clickhouse = engine()
    clickhouse.create("chunk_marks")
    clickhouse.create_tables()
    clickhouse.execute(f"""
        INSERT INTO otel_logs (Timestamp, ScopeName, EventName, ResourceAttributes, LogAttributes) SELECT
            toDateTime64({SINCE + DAY}, 9), 'spanhook', arrayJoin(['build.chunk', 'build.chunk.package']),
            map('correlation_id', '1'), map('build.chunk.name', arrayJoin(['', 'main']))
    """)
    # Only the chunk itself needs no more than a name.
    assert clickhouse.rows("SELECT chunk, size, modules, initial FROM ci_build_chunks") == [
        {"chunk": "main", "size": 0, "modules": None, "initial": None},
    ]
    assert clickhouse.value("SELECT count() FROM ci_build_packages") == 0
