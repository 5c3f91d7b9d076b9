"""The tables and queries of infra/clickhouse, on a real engine."""

import json
import random
import re
import time

import pytest
from clickhouse import CI_QUERIES, QUERIES, SQL, engine, generated, query, serve, statements
from collector import START as SPANS_START
from collector import Collector, run_points, until
from runs import BROKEN, CHAIN, CLUSTER, FLAKY_BEFORE, PERIOD, RUNS, SECOND, SLOW, WEEK, Run, chain, cluster


@pytest.fixture(scope="module")
def known():
    """A database with the known spans, each of them twice."""
    clickhouse = engine()
    clickhouse.create("known")
    clickhouse.create_tables()
    # Two inserts and no merge: each span is in two parts.
    clickhouse.execute("SYSTEM STOP MERGES ci_job_telemetry_traces")
    for _ in range(2):
        clickhouse.insert("otel_traces", [row for run in RUNS for row in run.rows])
    return clickhouse


@pytest.fixture
def ask(known):
    def ask(name, **params):
        known.use("known")
        return known.rows(query(name), **{**PERIOD, **params})

    return ask


@pytest.mark.parametrize("name", sorted(CI_QUERIES))
def test_every_query_says_what_it_answers_and_gives_rows(name, ask):
    first, *_ = (QUERIES / f"{name}.sql").read_text().splitlines()
    assert first.startswith("-- ") and first.endswith("?")
    assert ask(name, trace_id=CHAIN.trace)


def test_every_span_of_a_run_has_its_kind(known):
    known.use("known")
    kinds = known.rows("SELECT kind, count() AS n FROM ci_job_telemetry GROUP BY kind ORDER BY kind")
    assert {row["kind"]: row["n"] for row in kinds} == {
        "event": 1, "job": 12, "pipeline_run": 1, "pod": 3, "pull": 2, "queue": 7, "retry": 1, "run": 6,
        "schedule": 2, "stage": 3, "step": 4,
    }


def test_a_job_row_has_every_typed_column(known):
    known.use("known")
    (row,) = known.rows(
        "SELECT * FROM ci_job_telemetry WHERE kind = 'job' AND job = 'test' AND trace_id = {trace:String}",
        trace=CHAIN.trace,
    )
    assert row.pop("inserted_at")
    assert row == {
        "timestamp": "2026-06-01 00:00:32.000000000",
        "end_timestamp": "2026-06-01 00:01:20.000000000",
        "duration_ns": 48 * SECOND,
        "trace_id": CHAIN.trace,
        "span_id": f"{9:016x}",
        "parent_span_id": f"{1:016x}",
        "span_name": "test",
        "kind": "job",
        "provider": "gitlab",
        "instance": "gitlab.example.com:8443",
        "service_name": "ci",
        "repository": "acme/shop",
        "pipeline": "acme/shop",
        "run_id": "1",
        "correlation_id": "1",
        "run_url": "https://gitlab.example.com:8443/acme/shop/runs/1",
        "job": "test",
        "job_id": "00018",
        "job_url": "https://gitlab.example.com/acme/shop/jobs/00018",
        "stage": "test",
        "result": "success",
        "error_type": "",
        "queue_duration_ns": 1_500_000_000,
        "run_duration_ns": None,
        "runner_id": "7",
        "runner_name": "slow",
        "runner_type": "group_type",
        "runner_tags": ["linux", "docker"],
        "ref": "main",
        "ref_type": "branch",
        "revision": "a" * 40,
        "change_id": "12",
        "trigger": "",
        "attempt": 2,
        "namespace": "",
        "node": "",
        "pod": "",
        "container": "",
        "image": "",
        "image_size": None,
        "pull_duration_ns": None,
    }


def test_a_run_row_has_its_result_trigger_and_durations(known):
    known.use("known")
    (row,) = known.rows(
        "SELECT result, trigger, queue_duration_ns, run_duration_ns, attempt FROM ci_job_telemetry"
        " WHERE kind = 'run' AND trace_id = {trace:String}", trace=CHAIN.trace,
    )
    assert row == {
        "result": "success", "trigger": "push", "queue_duration_ns": 4 * SECOND,
        "run_duration_ns": 96 * SECOND, "attempt": 0,
    }


def test_a_step_and_queue_time_know_their_job_and_are_none(known):
    known.use("known")
    rows = known.rows(
        "SELECT kind, span_name, job, job_id, queue_duration_ns FROM ci_job_telemetry"
        " WHERE kind IN ('step', 'queue') AND job = 'test' AND trace_id = {trace:String} ORDER BY timestamp",
        trace=CHAIN.trace,
    )
    assert [list(row.values()) for row in rows] == [
        ["queue", "queue test", "test", "", 1_500_000_000],
        ["step", "Set up job", "test", "", None],
        ["step", "Run make", "test", "", None],
    ]


def test_where_no_queue_time_is_told_there_is_none(known):
    known.use("known")
    rows = known.rows(
        "SELECT DISTINCT provider, queue_duration_ns FROM ci_job_telemetry"
        " WHERE trace_id = {trace:String}", trace=SLOW.trace,
    )
    assert rows == [{"provider": "circleci", "queue_duration_ns": None}]


@pytest.mark.parametrize("name", sorted(CI_QUERIES))
def test_one_provider_more_needs_no_new_query(name):
    clickhouse, answers = engine(), []
    for provider in ("gitlab", "tomorrow"):
        clickhouse.create(provider)
        clickhouse.create_tables()
        failed = Run(2, provider, at=1000).run(end=60, result="failure").job("test", 5, 60, "failure")
        clickhouse.insert("otel_traces", chain(provider).rows + failed.rows + cluster(provider).rows)
        answers.append(clickhouse.rows(query(name), **{**PERIOD, "trace_id": CHAIN.trace}))
    ours, theirs = answers
    assert ours and json.loads(json.dumps(ours).replace("gitlab", "tomorrow")) == theirs


def test_a_span_that_came_twice_counts_once_even_before_a_merge(known):
    known.use("known")
    spans = sum(len(run.rows) for run in RUNS)
    assert known.value("SELECT count() FROM ci_job_telemetry_traces") == 2 * spans
    assert known.value("SELECT count() FROM ci_job_telemetry") == spans


def test_a_run_that_ended_again_after_a_retry_has_its_latest_end():
    clickhouse = engine()
    clickhouse.create("retried")
    clickhouse.create_tables()
    for end in (60, 300, 120):  # delivered out of order
        clickhouse.insert("otel_traces", Run(1).run(end=end).rows)
    assert clickhouse.rows("SELECT duration_ns FROM ci_job_telemetry") == [{"duration_ns": 300 * SECOND}]


def test_a_span_whose_start_moved_to_another_month_counts_once():
    clickhouse = engine()
    clickhouse.create("moved")
    clickhouse.create_tables()
    for start in (-10, 10):  # the stage's first job was retried after midnight of the first
        clickhouse.insert("otel_traces", Run(1).stage("test", start, 100 + start).rows)
    assert clickhouse.value("SELECT uniqExact(_partition_id) FROM ci_job_telemetry_traces") == 2
    assert clickhouse.rows("SELECT timestamp FROM ci_job_telemetry") == [{"timestamp": "2026-06-01 00:00:10.000000000"}]


def test_the_tables_may_be_created_again():
    clickhouse = engine()
    clickhouse.create("again")
    clickhouse.create_tables()
    clickhouse.insert("otel_traces", CHAIN.rows)
    clickhouse.create_tables()
    assert clickhouse.value("SELECT count() FROM ci_job_telemetry") == len(CHAIN.rows)


def test_tables_without_the_columns_of_a_cluster_are_upgraded_as_the_readme_says():
    clickhouse = engine()
    clickhouse.create("upgraded")
    clickhouse.create_tables()
    every = "SELECT name, type FROM system.columns WHERE database = 'upgraded' AND table = 'ci_job_telemetry' ORDER BY name"
    columns = clickhouse.rows(every)
    readme = (SQL / "README.md").read_text()
    (upgrade,) = (block for block in re.findall(r"```sql\n(.*?)```", readme, re.DOTALL) if "ADD COLUMN" in block)
    added = re.findall(r"ADD COLUMN (\w+)", upgrade)
    *drop_views, alter = statements(upgrade)
    for statement in drop_views:
        clickhouse.execute(statement)
    clickhouse.execute("ALTER TABLE ci_job_telemetry_traces DROP INDEX idx_correlation_id")
    clickhouse.execute("ALTER TABLE ci_job_telemetry_traces " + ", ".join(f"DROP COLUMN {name}" for name in added))
    clickhouse.execute(alter)
    for name in ("ci_job_telemetry_traces", "ci_builds"):
        clickhouse.apply(SQL / f"{name}.sql")
    clickhouse.insert("otel_traces", CLUSTER.rows)
    assert clickhouse.rows(every) == columns
    assert clickhouse.value("SELECT uniqExact(node) FROM ci_job_telemetry WHERE kind = 'pod'") == 2


def test_what_is_not_a_ci_run_stays_out():
    clickhouse = engine()
    clickhouse.create("others")
    clickhouse.create_tables()
    own, ping, foreign = Run(1).run(1).rows[0], Run(2).run(1).rows[0], Run(3).run(1).rows[0]
    own["ResourceAttributes"] = {"service.name": "spanhook"}
    ping["SpanAttributes"] = {"spanhook.kind": "ping"}
    foreign["ScopeName"] = "otel-cli"
    clickhouse.insert("otel_traces", [own, ping, foreign])
    assert clickhouse.value("SELECT count() FROM ci_job_telemetry") == 0


def test_the_slowest_job_is_the_one_that_was_made_slow(ask):
    slowest = ask("slowest_jobs")[0]
    assert (slowest["job"], slowest["jobs"], slowest["max_seconds"]) == ("render", 1, 3600)
    assert slowest["slowest_trace_id"] == SLOW.trace
    assert {row["repository"] for row in ask("slowest_jobs", repository="acme/shop")} == {"acme/shop"}


def test_queue_time_is_told_by_runner(ask):
    slow, fast = sorted(ask("queue_time_by_runner", repository="acme/shop"), key=lambda row: row["jobs"])
    assert (slow["runner_name"], slow["jobs"], slow["max_queue_seconds"]) == ("slow", 1, 1.5)
    assert (fast["runner_name"], fast["jobs"], fast["p50_queue_seconds"]) == ("fast", 3, 3)
    assert fast["tags"] == ["docker", "linux"]


def test_in_a_cluster_the_namespace_stands_for_the_runner(ask):
    (row,) = ask("queue_time_by_runner", repository="acme/api")
    assert (row["runner_name"], row["namespace"], row["jobs"], row["max_queue_seconds"]) == ("", "ci", 2, 1)


def test_what_carries_a_run_out_and_what_is_tried_again_count_no_run_and_no_job_twice(ask, known):
    period = {"repository": "acme/api", "to": PERIOD["to"]}
    (week,) = ask("week_over_week", **period)
    assert (week["runs"], week["success_rate"]) == (1, 1)
    jobs = {row["job"]: (row["jobs"], row["max_seconds"]) for row in ask("slowest_jobs", **period)}
    assert jobs == {"build": (1, 116), "test": (1, 177)}
    assert ask("failure_reasons", **period) == []
    assert [row["job"] for row in ask("critical_path", trace_id=CLUSTER.trace)] == ["build", "test"]


def test_a_job_that_passed_when_it_was_tried_again_is_flaky(ask):
    (flaky,) = ask("flaky_jobs", repository="acme/api")
    assert (flaky["job"], flaky["failed_jobs"], flaky["successful_jobs"]) == ("test", 1, 1)
    assert flaky["latest_failed_job_url"] and flaky["latest_failed_trace_id"] == CLUSTER.trace


def test_images_are_ranked_by_the_pure_time_of_their_pulls(ask):
    (image,) = ask("image_pulls")
    assert (image["image"], image["pulls"], image["failures"]) == ("docker.io/library/golang", 2, 1)
    assert (image["bytes"], image["max_seconds"], image["waited_seconds"]) == (300_000_000, 15, 5)
    assert image["slowest_trace_id"] == CLUSTER.trace


def test_pods_that_had_a_node_at_once_count_where_scheduling_is_measured(ask):
    rows = {row["node"]: (row["instance"], row["namespace"], row["pods"], row["max_seconds"], row["failures"])
            for row in ask("scheduling")}
    assert rows == {"node-1": ("prod", "ci", 1, 4, 0), "node-2": ("prod", "ci", 2, 1, 1)}


def test_an_event_is_in_the_tables_without_a_run_of_its_own(ask, known):
    known.use("known")
    events = known.rows("SELECT trace_id, run_id, repository, trigger FROM ci_job_telemetry WHERE kind = 'event'")
    assert events == [{"trace_id": CLUSTER.trace, "run_id": "", "repository": "acme/api", "trigger": "push"}]


def test_a_flaky_job_is_found_and_a_broken_one_is_not(ask):
    (flaky,) = ask("flaky_jobs", repository="acme/shop")
    assert (flaky["job"], flaky["flaky_revisions"], flaky["latest_failed_trace_id"]) == ("e2e", 1, FLAKY_BEFORE.trace)
    assert (flaky["failed_jobs"], flaky["successful_jobs"]) == (1, 1)


def test_failure_reasons_are_counted(ask):
    reasons = {row["error_type"]: (row["jobs"], row["result"]) for row in ask("failure_reasons")}
    assert reasons == {"script_failure": (2, "failure"), "runner_system_failure": (1, "error")}
    assert sum(row["share"] for row in ask("failure_reasons")) == pytest.approx(1)


def test_the_critical_path_leaves_out_what_did_not_delay_the_end(ask):
    path = ask("critical_path", trace_id=CHAIN.trace)
    assert [row["job"] for row in path] == ["build", "test", "deploy"]
    assert [row["wait_seconds"] for row in path] == [4, 2, 1]
    assert [row["seconds"] for row in path] == [26, 48, 19]


def test_the_critical_path_needs_no_run_span(ask):
    # A CircleCI run whose workflow event has not arrived.
    assert [row["job"] for row in ask("critical_path", trace_id=SLOW.trace)] == ["render"]


def test_weeks_are_compared(ask):
    (row,) = [row for row in ask("week_over_week") if row["pipeline"] == "acme/shop"]
    assert (row["runs"], row["runs_before"]) == (4, 1)
    assert (row["success_rate"], row["success_rate_before"]) == (0.5, 1)
    assert row["p50_seconds_before"] == 50


def test_one_run_shows_all_its_spans_in_order(ask):
    spans = ask("one_run", trace_id=CHAIN.trace)
    assert len(spans) == len(CHAIN.rows)
    assert [row["kind"] for row in spans[:2]] == ["run", "queue"]
    assert [row["span_name"] for row in spans if row["kind"] == "stage"] == ["build", "test", "deploy"]


def test_a_run_among_the_generated_spans_is_found_quickly():
    clickhouse = generated()
    clickhouse.use("generated")
    spans = clickhouse.value("SELECT count() FROM ci_job_telemetry_traces")
    traces = [row["trace_id"] for row in clickhouse.rows("SELECT DISTINCT trace_id FROM ci_job_telemetry_traces")]
    took = []
    for trace in random.Random(1).sample(traces, min(200, len(traces))):
        start = time.perf_counter()
        rows = clickhouse.rows(query("one_run"), trace_id=trace)
        took.append(time.perf_counter() - start)
        assert rows
    took.sort()
    p50, p95 = took[len(took) // 2], took[len(took) * 95 // 100]
    print(f"\none of {len(traces)} runs ({spans} spans): p50 {p50 * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms")
    assert p95 < 5


def test_the_size_of_the_generated_spans_is_reported():
    clickhouse = generated()
    rows = clickhouse.rows("""
        SELECT table, sum(rows) AS spans, sum(bytes_on_disk) AS bytes, bytes / spans AS bytes_per_span
        FROM system.parts WHERE active AND database = 'generated' GROUP BY table
    """)
    for row in rows:
        print(f"\n{row['table']}: {row['spans']} rows, {row['bytes'] / 2**20:.1f} MiB, "
              f"{row['bytes_per_span']:.0f} bytes a row", end="")
    sizes = {row["table"]: row["bytes_per_span"] for row in rows}
    assert sizes["ci_job_telemetry_traces"] < 200


@pytest.mark.parametrize("name", sorted(CI_QUERIES - {"one_run", "critical_path"}))
def test_queries_over_all_generated_spans_are_quick(name):
    clickhouse = generated()
    clickhouse.use("generated")
    first, last = clickhouse.rows("""
        SELECT arrayJoin([toUnixTimestamp(min(timestamp)), toUnixTimestamp(max(timestamp)) + 1]) AS at
        FROM ci_job_telemetry_traces
    """)
    start = time.perf_counter()
    assert clickhouse.rows(query(name), **{**PERIOD, "from": first["at"], "to": last["at"]})
    took = time.perf_counter() - start
    print(f"\n{name}: {took * 1e3:.0f} ms")
    assert took < 5


# The real Collector compresses; the server of these tests does not read that.
OVERLAY = """
exporters:
  clickhouse:
    compress: none
    sending_queue: { batch: { flush_timeout: 100ms, min_size: 1 } }
"""
CREATES = "exporters: { clickhouse: { create_schema: true, ttl: 720h } }"


def otlp(row):
    """A row as OTLP JSON."""

    def attributes(values):
        return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]

    span = {
        "traceId": row["TraceId"],
        "spanId": row["SpanId"],
        "parentSpanId": row["ParentSpanId"],
        "name": row["SpanName"],
        "kind": {"Internal": 1, "Server": 2}[row["SpanKind"]],
        "startTimeUnixNano": str(row["Timestamp"]),
        "endTimeUnixNano": str(row["Timestamp"] + row["Duration"]),
        "attributes": attributes(row["SpanAttributes"]),
        "links": [
            {"traceId": trace, "spanId": span}
            for trace, span in zip(row["Links.TraceId"], row["Links.SpanId"], strict=True)
        ],
        "status": {"code": 2, "message": row["StatusMessage"]} if row["StatusCode"] == "Error" else {},
    }
    scope = {"name": row["ScopeName"], "version": row["ScopeVersion"]}
    resource = {"attributes": attributes(row["ResourceAttributes"])}
    return {"resource": resource, "scopeSpans": [{"scope": scope, "spans": [span]}]}


def test_the_real_exporter_writes_into_our_tables(tmp_path):
    clickhouse = engine()
    clickhouse.create("otel")
    clickhouse.create_tables()
    rows = CHAIN.rows + BROKEN.rows
    with serve(clickhouse) as endpoint:
        with Collector(tmp_path, "clickhouse.yaml", OVERLAY, CLICKHOUSE_ENDPOINT=endpoint) as collector:
            assert collector.send([otlp(row) for row in rows]) == 200
            until(lambda: clickhouse.value("SELECT count() FROM otel.otel_traces") == len(rows), 30)
    # The same spans, inserted as the other tests do it, must give the same rows.
    clickhouse.create("inserted")
    clickhouse.create_tables()
    clickhouse.insert("otel_traces", rows)
    for table, leave_out in {"otel_traces": "", "ci_job_telemetry": "EXCEPT (inserted_at)"}.items():
        exported, inserted = (
            clickhouse.rows(f"SELECT * {leave_out} FROM {database}.{table} ORDER BY ALL")
            for database in ("otel", "inserted")
        )
        assert exported == inserted
        assert len(exported) == len(rows)


def test_run_durations_count_a_run_once(tmp_path):
    clickhouse = engine()
    clickhouse.create("otel")
    clickhouse.create_tables()
    runs = [
        run_points(1, 0, pending=3, executing=60),
        run_points(1, 0, pending=3, executing=60),  # delivered again
        run_points(2, 0, pending=5, executing=100, result="failure"),
        run_points(2, 0, pending=5, executing=400),  # and ended again: a job was retried
        run_points(3, 0, executing=50, result="failure"),
        run_points(4, 0, executing=7, name="other"),
    ]
    event = run_points(5, 0, executing=9)
    resource = event[0]["resource"]["attributes"]  # a build event's says no provider
    resource[:] = [it for it in resource if it["key"] != "spanhook.provider"]
    with serve(clickhouse) as endpoint:
        with Collector(tmp_path, "clickhouse.yaml", OVERLAY, CLICKHOUSE_ENDPOINT=endpoint) as collector:
            for points in [*runs, event]:
                assert collector.send_metrics(points) == 200
            until(lambda: clickhouse.value("SELECT count() FROM otel.otel_metrics_histogram") == 11, 30)
    clickhouse.use("otel")
    period = {"from": SPANS_START, "to": SPANS_START + WEEK, "repository": ""}
    first, second = clickhouse.rows(query("run_durations"), **period)
    assert (first["pipeline"], first["runs"], second["pipeline"], second["runs"]) == ("group/project", 3, "other", 1)
    assert first["failed"] == pytest.approx(1 / 3)
    assert (first["p50_seconds"], second["p50_seconds"]) == (63, 7)
    assert 5 > first["p95_pending_seconds"] > 4


def test_our_tables_are_those_that_the_exporter_creates(tmp_path):
    clickhouse = engine()
    clickhouse.create("created")
    # From 26.2 on it takes text indexes for logs, which older servers do not have.
    with serve(clickhouse, version="26.1.1.1") as endpoint:
        with Collector(
            tmp_path, "clickhouse.yaml", OVERLAY, CREATES,
            CLICKHOUSE_ENDPOINT=endpoint, CLICKHOUSE_DATABASE="created",
        ):
            pass
    clickhouse.create("ours")
    for name in ("otel_traces", "otel_metrics", "otel_logs"):
        clickhouse.apply(SQL / f"{name}.sql")
    tables = [row["name"] for row in clickhouse.rows("SHOW TABLES")]
    assert {"otel_traces", "otel_metrics_gauge", "otel_metrics_histogram", "otel_logs"} <= set(tables)
    for table in tables:
        created, ours = (
            clickhouse.value("SELECT create_table_query FROM system.tables WHERE name = {table:String}"
                             " AND database = {database:String}", table=table, database=database)
            for database in ("created", "ours")
        )
        assert ours.replace("ours.", "created.") == created, table


def test_statements_of_a_file_are_told_apart():
    assert statements("-- a; b\nSELECT 1;\n\nSELECT 2;\n") == ["SELECT 1", "SELECT 2"]
