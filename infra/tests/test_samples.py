"""Sample deliveries through the real mapping: what queries and dashboards count of a run and its rerun."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from clickhouse import CI_QUERIES, SQL, engine, query, statements

EVENTS = Path(__file__).parents[2] / "events"
# A run whose test failed, and its second attempt, for which the build that had succeeded came again.
FIRST = ["job-build", "job-test-failed", "job-deploy-skipped", "run-failed"]
SECOND = ["job-build-reused", "job-test-attempt-2", "job-deploy-attempt-2", "run-attempt-2"]
DAY = {"from": "2026-11-02 00:00:00", "to": "2026-11-03 00:00:00", "repository": "", "pipeline": ""}


# A pull request whose run Lighthouse began and Tekton carried out, by all that tell of it: its second task comes from
# Tekton itself.
PULL_REQUEST = [
    "lighthouse/pull-request-that-starts-a-run", "kubernetes/batch-of-a-pull-request", "tekton/taskrun-of-a-pull-request",
]


def rows_of(*names):
    """The rows of these samples."""
    generate = os.environ.get("SPANHOOK_GENERATE_SPANS")
    if not generate:
        pytest.skip("SPANHOOK_GENERATE_SPANS is unset: it names the example generate-spans")
    files = [EVENTS / f"{name}.json" for name in names]
    lines = subprocess.run([generate, *files], check=True, capture_output=True, text=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def stored(database, rows):
    """Asks a database that holds these rows."""
    clickhouse = engine()
    clickhouse.create(database)
    clickhouse.create_tables()
    for _ in range(2):  # each delivery came twice
        clickhouse.insert("otel_traces", rows)

    def ask(sql, **params):
        clickhouse.use(database)
        return clickhouse.rows(sql, **params)

    return ask


@pytest.fixture(scope="module")
def mapped():
    return rows_of(*(f"github/workflow-{name}" for name in FIRST + SECOND))


@pytest.fixture(scope="module")
def ask(mapped):
    return stored("samples", mapped)


@pytest.fixture(scope="module")
def ask_cluster():
    return stored("cluster_samples", rows_of(*PULL_REQUEST))


@pytest.fixture(scope="module")
def traces(ask):
    """The trace of each attempt."""
    rows = ask("SELECT attempt, trace_id FROM ci_job_telemetry WHERE kind = 'run' ORDER BY attempt")
    return {row["attempt"]: row["trace_id"] for row in rows}


def counts(rows):
    return {row["kind"]: row["n"] for row in rows}


def test_every_span_has_its_kind_and_a_step_is_no_job(ask, traces):
    of = "SELECT kind, count() AS n FROM ci_job_telemetry WHERE trace_id = {trace:String} GROUP BY kind"
    # Of 13 steps two were skipped, and are events; a job that was skipped waited for nothing.
    assert counts(ask(of, trace=traces[1])) == {"run": 1, "job": 3, "queue": 2, "step": 11}
    assert counts(ask(of, trace=traces[2])) == {"run": 1, "job": 2, "queue": 2, "step": 6, "marker": 1}


def test_an_attempt_is_a_run_of_its_own(ask):
    runs = ask("""
        SELECT provider, run_id, attempt, trigger, result, duration_ns / 1e9 AS seconds
        FROM ci_job_telemetry WHERE kind = 'run' ORDER BY attempt
    """)
    assert [list(run.values()) for run in runs] == [
        ["github", "16200000001", 1, "pull_request", "failure", 720],
        ["github", "16200000001", 2, "pull_request", "success", 1262],
    ]
    (week,) = ask(query("week_over_week"), **{**DAY, "to": "2026-11-09 00:00:00"})
    assert (week["runs"], week["success_rate"], week["pipeline"]) == (2, 0.5, "CI")


def test_a_job_that_was_taken_over_counts_once_and_a_skipped_one_never_ran(ask):
    jobs = {row["job"]: (row["jobs"], row["max_seconds"]) for row in ask(query("slowest_jobs"), **DAY)}
    assert jobs == {"build": (1, 210), "call / test (24, chromium)": (2, 485), "deploy": (1, 50)}
    (reason,) = ask(query("failure_reasons"), **DAY)
    assert (reason["error_type"], reason["jobs"]) == ("step_failure", 1)
    (flaky,) = ask(query("flaky_jobs"), **DAY)
    assert (flaky["job"], flaky["failed_jobs"], flaky["successful_jobs"]) == ("call / test (24, chromium)", 1, 1)


def test_the_time_that_jobs_waited_is_known_by_runner(ask):
    runners = ask(query("queue_time_by_runner"), **DAY)
    assert sum(row["jobs"] for row in runners) == 4
    # The deployment waited for an approval, and ran on a machine of its own.
    (longest, *_) = runners
    assert (longest["max_queue_seconds"], longest["runner_type"]) == (788, "self-hosted")
    assert {(row["runner_type"], *row["tags"]) for row in runners} == {
        ("github-hosted", "ubuntu-24.04"), ("self-hosted", "linux", "self-hosted"),
    }


def test_the_critical_path_is_of_jobs_that_ran(ask, traces):
    path = {at: [row["job"] for row in ask(query("critical_path"), trace_id=trace)] for at, trace in traces.items()}
    assert path == {1: ["build", "call / test (24, chromium)"], 2: ["call / test (24, chromium)", "deploy"]}


def test_a_run_is_shown_with_its_steps_below_their_jobs(ask, traces):
    rows = ask(query("one_run"), trace_id=traces[2])
    jobs = {row["span_id"]: row["job"] for row in rows if row["kind"] == "job"}
    steps = [row for row in rows if row["kind"] == "step"]
    assert [jobs[row["parent_span_id"]] for row in steps] == [row["job"] for row in steps]
    (marker,) = [row for row in rows if row["kind"] == "marker"]
    assert (marker["span_name"], marker["job"], marker["seconds"]) == ("reused build", "build", 0)


def test_the_slowest_step_is_told_with_its_job(ask):
    first, *rest = ask(query("slowest_steps"), **DAY)
    assert (first["job"], first["step"], first["steps"]) == ("call / test (24, chromium)", "Test", 2)
    assert (first["max_seconds"], first["failures"]) == (478, 1)
    # Both caches of the build are one line.
    assert {row["step"]: row["steps"] for row in rest if row["job"] == "build"}["Run actions/cache@v4"] == 2


@pytest.mark.parametrize("name", sorted(CI_QUERIES))
def test_every_query_answers_for_a_run(name, ask, ask_cluster, traces):
    # Not every run has Pods.
    ask = ask_cluster if name in ("image_pulls", "scheduling") else ask
    assert ask(query(name), **{**DAY, "to": "2026-11-09 00:00:00", "trace_id": traces[1]})


@pytest.mark.parametrize("path", sorted(SQL.rglob("*.sql")), ids=lambda it: it.name)
def test_no_statement_names_a_provider(path):
    text = " ".join(statements(path.read_text())).lower()
    assert not [it for it in ("circleci", "gitlab", "github", "kubernetes", "tekton", "lighthouse") if it in text]


def test_what_three_providers_tell_of_a_run_is_one_trace_and_one_run(ask_cluster):
    (trace,) = ask_cluster("SELECT trace_id, groupUniqArray(provider) AS providers FROM ci_job_telemetry GROUP BY trace_id")
    assert sorted(trace["providers"]) == ["kubernetes", "lighthouse", "tekton"]
    assert counts(ask_cluster("SELECT kind, count() AS n FROM ci_job_telemetry GROUP BY kind")) == {
        "event": 1, "run": 1, "pipeline_run": 1, "job": 2, "queue": 2, "step": 5,
        "pod": 2, "schedule": 2, "pull": 3, "container": 5,
    }
    ids = ask_cluster("SELECT DISTINCT run_id, repository, pipeline FROM ci_job_telemetry WHERE kind != 'event'")
    assert ids == [{"run_id": "acme-shop-pr-57-pr-m4t8q", "repository": "Acme/shop", "pipeline": "pr"}]


def test_what_carries_a_run_out_is_no_second_one(ask_cluster):
    (week,) = ask_cluster(query("week_over_week"), **{**DAY, "to": "2026-11-09 00:00:00"})
    assert (week["runs"], week["success_rate"], week["p50_seconds"]) == (1, 0, 291)
    (reason,) = ask_cluster(query("failure_reasons"), **DAY)
    assert (reason["error_type"], reason["result"], reason["jobs"]) == ("OOMKilled", "failure", 1)
    jobs = {row["job"]: row["jobs"] for row in ask_cluster(query("slowest_jobs"), **DAY)}
    assert jobs == {"from-build-pack": 1, "lint": 1}


def test_the_way_from_the_pull_request_to_its_first_command_is_known(ask_cluster):
    (run,) = ask_cluster(query("push_to_first_command"), **DAY)
    # The other task had to wait for a node, and began later.
    assert run["job"] == "lint"
    parts = [run[f"{part}_seconds"] for part in ("webhook", "queue", "schedule", "pull", "start")]
    assert parts == pytest.approx([3, 5, 2, 6.812 + 11.204, 31 - 8 - 6.812 - 11.204])
    assert run["total_seconds"] == sum(parts) == 33
    images = {row["image"]: (row["bytes"], row["max_seconds"]) for row in ask_cluster(query("image_pulls"), **DAY)}
    assert images["docker.io/library/golang"] == (306_857_691, pytest.approx(12.804))
    assert [(row["node"], row["max_seconds"]) for row in ask_cluster(query("scheduling"), **DAY)] == [
        ("node-7", 35), ("node-2", 2),
    ]
