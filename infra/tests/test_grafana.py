"""The dashboards of infra/grafana: every query runs, every panel is described, every link leads somewhere."""

import json
import re
import runpy
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from clickhouse import SQL, engine, generated, quoted
from runs import CHAIN, SECOND

FOLDER = SQL.parent / "grafana"
DASHBOARDS = {path.name: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))}
PANELS = [
    pytest.param(dashboard, panel, id=f"{dashboard['uid']}: {panel['title']}")
    for dashboard in DASHBOARDS.values()
    for panel in dashboard["panels"]
]
# Runners' own spans come from no webhook: test_runner.py has them.
OF_RUNNERS = ("Time by runner stage", "Runner stages")
CI_PANELS = [
    it for it in PANELS
    if it.values[0]["uid"] not in ("spanhook-health", "spanhook-release") and it.values[1]["title"] not in OF_RUNNERS
]
VARIABLES = [
    pytest.param(variable, id=f"{dashboard['uid']}: {variable['name']}")
    for dashboard in DASHBOARDS.values()
    for variable in dashboard["templating"]["list"]
    if variable["type"] == "query" and dashboard["uid"] != "spanhook-release"
]
HOUR = 3600


def expand(sql, since, until, **values):
    """What the datasource makes of a query. A variable without a value is at All."""
    sql = re.sub(
        # One level of brackets is what the conditions have.
        r"\$__conditionalAll\(((?:[^()]|\([^()]*\))*), \$(\w+)\)",
        lambda it: it[1] if it[2] in values else "1=1",
        sql,
    )
    sql = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 >= toDateTime({since}) AND \1 <= toDateTime({until})", sql)
    sql = re.sub(r"\$__timeInterval\((\w+)\)", rf"toStartOfInterval(toDateTime(\1), INTERVAL {HOUR} second)", sql)
    sql = sql.replace("$__fromTime", f"toDateTime({since})").replace("$__toTime", f"toDateTime({until})")
    sql = sql.replace("$__interval_s", str(HOUR))
    sql = re.sub(r"\$\{(\w+):singlequote\}", lambda it: quoted(values.get(it[1], "")), sql)
    assert "$" not in sql, f"something is not filled in: {sql}"
    return sql


@pytest.fixture(scope="module")
def empty():
    clickhouse = engine()
    clickhouse.create("empty")
    clickhouse.create_tables()
    return clickhouse


@pytest.fixture(scope="module")
def spans():
    """The generated spans, the period that they are of, and a pipeline of each provider."""
    clickhouse = generated()
    clickhouse.use("generated")
    (period,) = clickhouse.rows("""
        SELECT toUnixTimestamp(min(timestamp)) AS since, toUnixTimestamp(max(timestamp)) + 1 AS until
        FROM ci_job_telemetry_traces
    """)
    chosen = clickhouse.rows("""
        SELECT provider, repository, pipeline FROM ci_job_telemetry_traces
        WHERE kind = 'run' GROUP BY provider, repository, pipeline
        ORDER BY count() DESC, repository LIMIT 1 BY provider
    """)
    # The jobs of a run may be another provider's.
    jobs = {row["provider"] for row in clickhouse.rows("SELECT DISTINCT provider FROM ci_job_telemetry_traces WHERE kind = 'job'")}
    chosen = {it.pop("provider") if it["provider"] not in jobs else it["provider"]: it for it in chosen}
    return clickhouse, period, chosen


def test_the_committed_dashboards_are_what_the_script_makes(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    build = runpy.run_path(str(FOLDER / "build.py"))["build"]
    assert {path.name: path.read_text() for path in (FOLDER / "dashboards").iterdir()} == build()


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_a_panel_is_fully_described(dashboard, panel):
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["title"] and panel["description"].endswith(".")
    assert defaults["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        assert target["format"] == (0 if panel["type"] == "timeseries" else 1)


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_a_number_in_a_table_has_a_unit(dashboard, panel):
    if panel["type"] != "table":
        return
    units = {it["matcher"]["options"] for it in panel["fieldConfig"]["overrides"]
             if any(property["id"] == "unit" for property in it["properties"])}
    columns = re.findall(r" / 1e9 AS (`[^`]+`|\w+)", panel["targets"][0]["rawSql"])
    # A query of ../clickhouse names its columns so, and the panel shows them under other names.
    shown = {column.strip("`") for column in columns if not column.endswith("_seconds")}
    assert shown <= units


@pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)
def test_panels_do_not_overlap_and_fill_their_rows(dashboard):
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    height = max(y for _, y in cells) + 1
    assert len(cells) == 24 * height
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_links_lead_to_dashboards_that_exist():
    text = json.dumps(list(DASHBOARDS.values()))
    linked = set(re.findall(r"/d/([\w-]+)", text))
    assert linked and linked <= {dashboard["uid"] for dashboard in DASHBOARDS.values()}
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_a_panel_runs_on_empty_tables(dashboard, panel, empty):
    empty.use("empty")
    for target in panel["targets"]:
        empty.rows(expand(target["rawSql"], 0, HOUR))
        empty.rows(expand(target["rawSql"], 0, HOUR, provider="gitlab", repository="a/b", pipeline="it's"))


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_has_values(variable, spans):
    clickhouse, period, chosen = spans
    clickhouse.use("generated")
    sql = variable["query"]["rawSql"]
    for values in chosen.values():
        assert clickhouse.rows(expand(sql, **period, **values))


@pytest.mark.parametrize(("dashboard", "panel"), CI_PANELS)
def test_a_panel_shows_the_generated_spans(dashboard, panel, spans):
    clickhouse, period, chosen = spans
    clickhouse.use("generated")
    # With everything selected, and with one pipeline alone, of whatever provider tells what is shown.
    selections = [chosen[name] for name in chosen if tells(name, panel)]
    assert selections
    if dashboard["uid"] != "spanhook-pipeline":
        selections.append({})
    for values in selections:
        for target in panel["targets"]:
            rows = clickhouse.rows(expand(target["rawSql"], **period, **values))
            assert rows and any(value not in (None, 0, "") for value in rows[0].values())


def tells(provider, panel):
    (sql,) = [target["rawSql"] for target in panel["targets"]]
    in_cluster = provider in ("lighthouse", "tekton")
    if "image" in sql and "kind = 'pull'" in sql or "kind IN ('pod', 'schedule')" in sql:
        return provider == "lighthouse"
    if "nullIf(sum(total_seconds)" in sql:  # the share of a part that Pods alone have
        return provider == "lighthouse"
    if "kind = 'step'" in sql and "total_seconds" not in sql:
        return in_cluster or provider == "github"
    if "runner_name != ''" in sql and "namespace != ''" not in sql:
        return not in_cluster and provider != "circleci"
    # CircleCI names no runner, and does not tell how long a job waited.
    return provider != "circleci" or not ("runner_name != ''" in sql or "queue_duration_ns IS NOT NULL" in sql)


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_no_panel_names_a_provider(dashboard, panel):
    text = " ".join(target["rawSql"] for target in panel["targets"]).lower()
    assert not [it for it in ("circleci", "gitlab", "github", "kubernetes", "tekton", "lighthouse") if it in text]


@pytest.mark.parametrize("title", ["Where the time goes", "Latest runs", "Pipelines", "Longest waits"])
def test_the_parts_of_the_wait_add_up_to_the_wait(title, spans):
    clickhouse, period, _ = spans
    clickhouse.use("generated")
    (panel,) = (it for it in DASHBOARDS["first-command.json"]["panels"] if it["title"] == title)
    rows = clickhouse.rows(expand(panel["targets"][0]["rawSql"], **period))
    assert len(rows) >= 20
    parts = [[row[part] for part in ("Webhook", "Queue", "Schedule", "Pull", "Start")] for row in rows]
    assert all(it >= 0 for row in parts for it in row)
    if "Total" in rows[0]:
        for row, it in zip(rows, parts, strict=True):
            assert sum(it) == pytest.approx(row["Total"])


def test_a_trace_link_shows_each_span_of_a_trace_once(spans):
    clickhouse, period, _ = spans
    clickhouse.use("generated")
    trace = clickhouse.value("SELECT any(trace_id) FROM ci_job_telemetry_traces WHERE kind = 'run'")
    links = [
        property["value"][0]["url"]
        for dashboard in DASHBOARDS.values()
        for panel in dashboard["panels"]
        for override in panel["fieldConfig"]["overrides"] if override["matcher"]["options"] == "Trace"
        for property in override["properties"]
    ]
    assert links
    for url in set(links):
        query = link_query(url, trace)
        assert (query["queryType"], query["format"]) == ("traces", 3)
        rows = clickhouse.rows(query["rawSql"])
        assert {"traceID", "spanID", "parentSpanID", "serviceName", "operationName", "startTime", "duration",
                "tags", "serviceTags"} <= rows[0].keys()
        spans_of_trace = "SELECT uniqExact(SpanId) FROM otel_traces WHERE TraceId = {trace:String}"
        assert len(rows) == clickhouse.value(spans_of_trace, trace=trace)


def link_query(url, trace):
    """The query of an Explore link, after Grafana filled in its variables."""
    values = {"__value.raw": trace, "datasource": "ch", "__from": "0", "__to": "1"}
    url = re.sub(r"\$\{([\w.]+)\}", lambda it: values[it[1]], url)
    (panes,) = parse_qs(urlsplit(url).query)["panes"]
    (pane,) = json.loads(panes).values()
    return pane["queries"][0]


def test_own_health_shows_what_spanhook_exports():
    clickhouse = engine()
    clickhouse.create("health")
    clickhouse.create_tables()
    now = int(time.time())
    own = {"ServiceName": "spanhook-forwarder", "ScopeName": "spanhook", "TimeUnix": now}
    names = ["delivered", "spans", "retried", "dead_lettered", "partially_rejected", "misconfigured"]
    forwarded = {**own, "Attributes": {"reason": "forwarded"}}
    counters = [{**forwarded, "MetricName": f"spanhook.{name}", "Value": 2} for name in names for _ in range(2)]
    decisions = {"accepted": 30, "denied": 5, "not_sampled": 3, "nothing_to_tell": 9}
    verified = [
        {**own, "ServiceName": "serve", "MetricName": "spanhook.verified", "Value": number, "Attributes": {"reason": reason}}
        for reason, number in decisions.items()
    ]
    clickhouse.insert("otel_metrics_sum", counters + verified)
    clickhouse.insert(
        "otel_metrics_histogram",
        [{**own, "MetricName": "spanhook.delivery_lag", "Sum": 600, "Count": 3, "Max": 400}],
    )
    run = {**CHAIN.rows[0], "Timestamp": (now - 130) * SECOND}
    (job, *_) = (row for row in CHAIN.rows if row["SpanAttributes"]["spanhook.kind"] == "job")
    job = {**job, "Timestamp": (now - 400) * SECOND, "Duration": 10 * SECOND}
    delivery = {**run, "SpanId": "2" * 16, "SpanName": "POST /gitlab", "ResourceAttributes": {}}
    for _ in range(2):
        clickhouse.insert("otel_traces", [run, job, delivery])

    shown = {
        panel["title"]: clickhouse.rows(expand(panel["targets"][0]["rawSql"], now - HOUR, now + HOUR))
        for panel in DASHBOARDS["health.json"]["panels"]
    }
    assert all(shown.values())
    for panel in DASHBOARDS["health.json"]["panels"]:
        if panel["type"] == "stat" and panel["gridPos"]["w"] == 4:
            # Deltas: two exports of 2 are 4.
            assert list(shown[panel["title"]][0].values()) == [4], panel["title"]
    (lag,) = shown["Delivery lag as counted"]
    assert (lag["mean"], lag["longest"]) == (200, 400)
    assert {row["metric"] for row in shown["Counters"]} == {*names, "verified"}
    value = {title: next(iter(rows[0].values())) for title, rows in shown.items()}
    assert (value["Share lost"], value["Share missing in the view"]) == (0.5, 0)
    assert 389 < value["End of a job to its row, p95"] < 450
    assert {row["rule"]: row["deliveries"] for row in shown["Deliveries by the project's rule"]} == {
        "on": 30, "off": 5, "sampled away": 3,
    }
    assert shown["Rows of the view"] == [{"Provider": "gitlab", "In otel_traces": 2, "In the view": 2, "Missing": 0}]
    (project,) = shown["Projects"]
    assert (project["Repository"], project["Runs"], project["Spans"]) == ("acme/shop", 1, 2)
    (deliveries,) = shown["Deliveries"]
    assert (deliveries["route"], deliveries["deliveries"]) == ("POST /gitlab", 1)
    (stored,) = shown["Delivery lag as stored"]
    assert 29 < stored["p95"] < 60  # the run took 100 s of the 130
    assert [(row["provider"], row["spans"]) for row in shown["Spans stored"]] == [("gitlab", 2)]
    (duplicates,) = shown["Duplicates"]
    assert (duplicates["Rows"], duplicates["Spans"], duplicates["Duplicates"]) == (6, 3, 0.5)


def test_own_health_tells_of_spans_that_the_view_has_not():
    clickhouse = engine()
    clickhouse.create("missing")
    clickhouse.create_tables()
    now = int(time.time())
    rows = [{**row, "Timestamp": now * SECOND} for row in CHAIN.rows]
    clickhouse.insert("otel_traces", rows[:3])
    clickhouse.execute("DROP VIEW ci_job_telemetry_traces_mv")
    clickhouse.insert("otel_traces", rows[3:4])
    panels = {it["title"]: it["targets"][0]["rawSql"] for it in DASHBOARDS["health.json"]["panels"]}
    shown = {title: clickhouse.rows(expand(sql, now - HOUR, now + HOUR)) for title, sql in panels.items()}
    assert list(shown["Share missing in the view"][0].values()) == [0.25]
    assert shown["Rows of the view"] == [{"Provider": "gitlab", "In otel_traces": 4, "In the view": 3, "Missing": 1}]


def test_what_own_health_counts_is_what_the_view_takes_in():
    view = " ".join((SQL / "ci_job_telemetry_traces.sql").read_text().split("FROM otel_traces", 1)[1].split())
    (panel,) = (it for it in DASHBOARDS["health.json"]["panels"] if it["title"] == "Rows of the view")
    for condition in re.findall(r"ScopeName = '\w+'|IN \([^)]*\)", panel["targets"][0]["rawSql"]):
        assert condition in view, condition
