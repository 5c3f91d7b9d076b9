"""A runner's own spans, sent past spanhook to the same Collector, meet the job's span of the webhook."""

import datetime
import json

import pytest
from clickhouse import SQL, engine, query, serve
from collector import NATIVE_JOB_IDS, Collector, sink, until
from runner import execution, native
from serve import Serve
from test_clickhouse import OVERLAY
from test_grafana import DASHBOARDS, HOUR, expand

EVENTS = SQL.parents[1] / "events"
ROOT, JOB = 700210, 9106
# When that job began.
START = int(datetime.datetime(2026, 11, 2, 9, 32, 23, tzinfo=datetime.UTC).timestamp())
STAGES = [
    ("prepare_executor", 2), ("get_sources", 4), ("restore_cache", 5), ("acme/setup", 3), ("step_script", 25),
    ("archive_cache", 4), ("upload_artifacts_on_success", 2),
]  # fmt: skip
LAST = ("upload_artifacts_on_failure", 2)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A pipeline by its webhook through `serve`, and two of its jobs by their runner through a gateway."""
    folder, clickhouse = tmp_path_factory.mktemp("runner"), engine()
    clickhouse.create("runner")
    clickhouse.create_tables()
    pipeline = json.loads((EVENTS / "gitlab/pipeline-failed.json").read_text())
    with (
        serve(clickhouse) as endpoint,
        Collector(
            folder / "store", "clickhouse.yaml", OVERLAY, CLICKHOUSE_ENDPOINT=endpoint, CLICKHOUSE_DATABASE="runner"
        ) as store,
        Collector(
            folder / "gateway", "gateway.yaml", "gitlab-runner.yaml", EXPORT_ENDPOINT=store.endpoint
        ) as gateway,
        Serve(folder / "serve", store, TRACE_IDS="native") as webhooks,
    ):
        # The runner is through before its pipeline is.
        failed = execution(ROOT, JOB, START, [*STAGES[:-1], LAST], status="failed")
        assert gateway.send(failed) == gateway.send(failed) == 200
        assert gateway.send(execution(ROOT, 9101, START - 140, STAGES)) == 200
        answer = webhooks.gitlab(pipeline)
        assert answer["status"] == "accepted"
        rows = answer["spans"] + 3 * 8
        until(lambda: clickhouse.value("SELECT count() FROM runner.otel_traces") == rows)
    return clickhouse


@pytest.fixture
def ask(stored):
    stored.use("runner")
    return stored.rows


def test_the_execution_of_a_job_is_below_its_span_and_what_it_did_below_that(ask):
    (job,) = ask(f"SELECT * FROM ci_job_telemetry WHERE kind = 'job' AND job_id = '{JOB}'")
    assert (job["job"], job["trace_id"], job["span_id"]) == ("unit 3/3", f"{ROOT:032x}", native(ROOT, JOB, "default"))
    (run,) = ask(f"SELECT * FROM ci_job_telemetry WHERE kind = 'execution' AND job_id = '{JOB}'")
    assert (run["trace_id"], run["parent_span_id"]) == (job["trace_id"], job["span_id"])
    assert {name: run[name] for name in ("provider", "service_name", "run_id", "result", "error_type")} == {
        "provider": "gitlab", "service_name": "runner", "run_id": str(ROOT), "result": "failure", "error_type": "_OTHER",
    }  # fmt: skip
    below = ask(f"SELECT * FROM ci_job_telemetry WHERE parent_span_id = '{run['span_id']}' ORDER BY timestamp")
    assert [(it["kind"], it["span_name"], it["duration_ns"] // 10**9) for it in below] == [
        ("function" if "/" in name else "runner_stage", name, seconds) for name, seconds in [*STAGES[:-1], LAST]
    ]
    assert [it["error_type"] for it in below] == [*[""] * 6, "_OTHER"]
    assert {(it["provider"], it["run_id"], it["job_id"]) for it in below} == {("gitlab", str(ROOT), str(JOB))}


def test_one_run_is_told_with_them_in_order(ask):
    rows = ask(query("one_run"), trace_id=f"{ROOT:032x}")
    own = [row["kind"] for row in rows if row["kind"] in ("execution", "runner_stage", "function")]
    assert len(own) == 2 * 8 and own[:2] == ["execution", "runner_stage"]


PERIOD = {"from": START - HOUR, "to": START + HOUR, "repository": "", "pipeline": ""}


def test_the_time_of_jobs_is_told_by_stage_and_job(ask):
    rows = ask(query("runner_stages"), **PERIOD)
    assert {row["repository"] for row in rows} == {"acme/shop"}
    told = {(row["job"], row["stage"]): (row["total_seconds"], row["failures"]) for row in rows}
    assert told["unit 3/3", "step_script"] == told["dependencies", "step_script"] == (25, 0)
    assert told["unit 3/3", LAST[0]] == (2, 1) and len(told) == 14
    assert ask(query("runner_stages"), **{**PERIOD, "repository": "acme/other"}) == []


def test_no_other_figure_of_jobs_counts_them(ask):
    by_webhook = ask("SELECT span_name FROM ci_job_telemetry WHERE kind = 'job' AND service_name = 'gitlab' AND result != 'skip'")
    jobs = ask(query("slowest_jobs"), **PERIOD)
    assert sum(row["jobs"] for row in jobs) == len(by_webhook) == 10
    assert ask("SELECT count() AS n FROM ci_job_telemetry WHERE kind = 'run'") == [{"n": 1}]
    assert ask(query("slowest_steps"), **PERIOD) == []


@pytest.mark.parametrize("chosen, stages", [({}, 8), ({"repository": "acme/shop"}, 8), ({"repository": "acme/other"}, 0)])
def test_the_dashboard_shows_where_a_runner_spends_the_time(chosen, stages, ask):
    panels = {it["title"]: it["targets"][0]["rawSql"] for it in DASHBOARDS["runners.json"]["panels"]}
    (bars, table) = (
        ask(expand(panels[title], START - HOUR, START + HOUR, **chosen)) for title in ("Time by runner stage", "Runner stages")
    )
    assert len(bars) == stages
    if stages:
        assert bars[0] == {"stage": "step_script", "mean": 25}
        assert table[0]["Stage"] == "step_script" and {row["Repository"] for row in table} == {"acme/shop"}


@pytest.mark.parametrize("name", ["gateway.yaml", "clickhouse.yaml"])
def test_the_overlay_is_valid_over(name, tmp_path):
    env = {"EXPORT_ENDPOINT": "http://127.0.0.1:9"}
    assert Collector(tmp_path, name, "gitlab-runner.yaml", **env).validate() == ""


def otlp(attributes, name="job_execution", scope="gitlab-ci-runner", service="runner"):
    """A span of that job with these attributes, as texts."""
    values = [{"key": key, "value": {"stringValue": it}} for key, it in attributes.items()]
    span = {"traceId": f"{ROOT:032x}", "spanId": "1" * 16, "parentSpanId": "2" * 16, "name": name, "attributes": values}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return [{"resource": resource, "scopeSpans": [{"scope": {"name": scope}, "spans": [span]}]}]


@pytest.mark.parametrize("kind", NATIVE_JOB_IDS)
def test_what_is_no_runners_passes_as_it_is(kind, tmp_path):
    job = {"ci.job.id": str(JOB), "ci.pipeline.id": str(ROOT)}
    sent = [
        (otlp(job), "execution", native(ROOT, JOB, kind)),
        (otlp(job, "get_sources"), "runner_stage", "2" * 16),
        (otlp(job, scope="other", service="gitlab-ci-runner"), "execution", native(ROOT, JOB, kind)),
        (otlp(job | {"ci.function.name": "acme/setup"}, "setup", "step-runner", "step-runner"), "function", "2" * 16),
        # Without a job's id nothing says where it belongs.
        (otlp({}), "execution", "2" * 16),
        (otlp(job, "job_running", "gitlab", "gitlab-ci-rails"), None, "2" * 16),
        (otlp(job, "job_execution", "mine", "app"), None, "2" * 16),
    ]
    with (
        sink(tmp_path / "backend") as backend,
        Collector(
            tmp_path / "gateway", "gateway.yaml", "gitlab-runner.yaml",
            EXPORT_ENDPOINT=backend.endpoint, GITLAB_NATIVE_JOB_ID=kind,
        ) as gateway,
    ):  # fmt: skip
        for number, (spans, *_) in enumerate(sent):
            spans[0]["scopeSpans"][0]["spans"][0]["spanId"] = f"{number + 1:016x}"
            assert gateway.send(spans) == 200
        until(lambda: len(backend.spans()) == len(sent))
        found = {
            int(span["spanId"], 16): (span, resource["resource"])
            for line in backend.lines("traces")
            for resource in line["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        }
    for number, (spans, kind_of, parent) in enumerate(sent, 1):
        span, resource = found[number]
        assert span["parentSpanId"] == parent, number
        said = {it["key"]: it["value"]["stringValue"] for it in span["attributes"]}
        assert said.get("spanhook.kind") == kind_of, number
        if kind_of is None:
            assert (resource, said) == (spans[0]["resource"], job), number
