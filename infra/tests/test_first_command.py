"""From push to first command: the parts of the wait add up to it, whatever is told of a run."""

import random

import pytest
from clickhouse import engine, query
from runs import PERIOD, RUNS, SECOND, Run

PARTS = ("webhook", "queue", "schedule", "pull", "start")
IMAGE = "docker.io/library/golang"


def one(run_id, **more):
    return Run(run_id, "tomorrow", name=f"case{run_id}", cluster="prod", **more)


def told(run_id):
    """All that there is to tell: 2 + 5 + 4 + 20 + 11 seconds."""
    return (
        one(run_id).event(-2).run(end=99).pipeline_run(2, 98, waited=1)
        .job("build", 4, 98, pod="p").pod("p", 5, 97, "build", scheduled=9)
        .pull("p", IMAGE, 11, 31).step("compile", 40, 96, "build").step("test", 60, 96, "build")
    )


# What is told, and how long the webhook, the queue, the schedule, the pull and the start took by that.
CASES = {
    "everything": (told(101), (2, 5, 4, 20, 11)),
    "no event": (one(102).run(end=99).job("build", 4, 98, pod="p").pod("p", 5, 97, "build", scheduled=9)
                 .pull("p", IMAGE, 11, 31).step("compile", 40, 96, "build"), (0, 5, 4, 20, 11)),
    "steps and no Pods": (one(103).run(end=99).job("build", 7, 98).step("Set up job", 7, 9, "build")
                          .step("Run make", 9, 98, "build"), (0, 7, 0, 0, 0)),
    "a job that begins before its first step": (one(104).run(end=99).job("build", 7, 98)
                                                .step("Run make", 9, 98, "build"), (0, 7, 0, 0, 2)),
    "jobs alone": (one(105).event(-3).run(end=99).job("later", 20, 98).job("build", 6, 98), (3, 6, 0, 0, 0)),
    "nothing but a step": (one(106).run(end=99).step("a", 8, 9, "build"), (0, 8, 0, 0, 0)),
    "a run that an event later on began again": (told(107).event(-500), (2, 5, 4, 20, 11)),
    "an event after the run": (told(108).event(50), (2, 5, 4, 20, 11)),
    "an event within the second of the run": (one(109).event(-60).event(0.9).run(end=99).job("build", 6, 98),
                                              (0, 6, 0, 0, 0)),
    "pulls side by side, and one within another": (
        told(110).pull("p", "a", 20, 35).pull("p", "b", 12, 13).pull("p", "c", 36, 37), (2, 5, 4, 25, 6)),
    "pulls before there was a node and after the first command": (
        told(111).pull("p", "a", 6, 12).pull("p", "b", 39, 70), (2, 5, 4, 23, 8)),
    "a pull of no length": (told(112).pull("p", "a", 35, 35, error="ErrImagePull"), (2, 5, 4, 20, 11)),
    "a Pod that is not told yet": (one(113).run(end=99).job("build", 4, 98, pod="p").step("compile", 40, 96, "build"),
                                   (0, 4, 0, 0, 36)),
    "a Pod that has an image at once": (one(114).run(end=99).job("build", 4, 98, pod="p").pod("p", 5, 97, "build")
                                        .step("compile", 40, 96, "build"), (0, 5, 0, 0, 35)),
    "clocks that disagree": (one(115).run(end=99).job("build", 4, 98, pod="p")
                             .pod("p", 45, 97, "build", scheduled=50).pull("p", IMAGE, 51, 60)
                             .step("compile", 40, 96, "build"), (0, 40, 0, 0, 0)),
    "a first command before the run": (one(116).run(end=99).job("build", -5, 98).step("a", -4, 9, "build"),
                                       (0, 0, 0, 0, 0)),
    # The test's Pod waits longer for everything, and is not what was waited for.
    "tasks side by side": (told(117).job("test", 4, 98, pod="q").pod("q", 5, 97, "test", scheduled=30)
                           .pull("q", "a", 30, 80).step("unit", 90, 96, "test"), (2, 5, 4, 20, 11)),
    "a task that is tried again": (
        one(118).run(end=99).job("build", 4, 98, pod="p-retry1").retry("build", 4, 50, "p")
        .step("compile", 20, 49, "build").pod("p", 5, 50, "build", scheduled=9)
        .pod("p-retry1", 51, 97, "build", scheduled=70).pull("p", IMAGE, 10, 15), (0, 5, 4, 5, 6)),
    "a job that was skipped": (one(119).run(end=99).job("skipped", 1, 1, "skip", error="").job("build", 6, 98),
                               (0, 6, 0, 0, 0)),
    # Not all that is called a step is a command of a job.
    "a step of no job": (one(120).run(end=99).step("promote", 1, 9, "").job("build", 6, 98), (0, 6, 0, 0, 0)),
    "a run that begins after its creation": (one(123).event(-9).run(end=99).pipeline_run(0, 98, waited=5)
                                             .job("build", 6, 98), (4, 11, 0, 0, 0)),
    "a run of which nothing ran": (one(121).run(end=99), None),
    "a job whose run is not told": (one(122).job("build", 6, 98), None),
}


def randomly(run_id):
    """A run of which any part may be absent, in any order of time."""
    pick = random.Random(run_id)
    at = lambda: pick.choice([pick.uniform(-20, 120), pick.randint(-20, 120)])  # noqa: E731
    times = lambda: sorted((at(), at()))  # noqa: E731
    run = one(run_id)
    for _ in range(pick.randint(0, 2)):
        run.event(at())
    run.run(end=130)
    if pick.random() < 0.3:
        start = pick.uniform(0, 20)
        run.pipeline_run(start, 129, waited=pick.uniform(0, start + 5))
    for number in range(pick.randint(1, 3)):
        job, pod = f"job{number}", f"pod{number}"
        run.job(job, *times(), pod=pick.choice([pod, ""]))
        if pick.random() < 0.3:
            run.retry(job, *times(), pod=f"{pod}-first")
        for _ in range(pick.randint(0, 2)):
            run.step("step", *sorted(pick.uniform(20, 130) for _ in range(2)), job)
        for name in (pod, f"{pod}-first"):
            if pick.random() < 0.7:
                start, end = times()
                run.pod(name, start, end, job, scheduled=pick.choice([None, pick.uniform(start, start + 40)]))
                for _ in range(pick.randint(0, 3)):
                    run.pull(name, IMAGE, *times())
    return run


RANDOM = [randomly(run_id) for run_id in range(1000, 1200)]


@pytest.fixture(scope="module")
def ask():
    clickhouse = engine()
    clickhouse.create("first_command")
    clickhouse.create_tables()
    runs = [*RUNS, *RANDOM, *(run for run, _ in CASES.values())]
    for _ in range(2):  # each came twice
        clickhouse.insert("otel_traces", [row for run in runs for row in run.rows])

    def ask(**params):
        clickhouse.use("first_command")
        return {row["trace_id"]: row for row in clickhouse.rows(query("push_to_first_command"), **PERIOD | params)}

    return ask


@pytest.fixture(scope="module")
def found(ask):
    return ask()


def measured(run):
    """Seconds from what happened to the first command, counted here and not in SQL."""
    def starts(kind, *conditions):
        return [
            row["Timestamp"] for row in run.rows
            if row["SpanAttributes"]["spanhook.kind"] == kind and all(it(row["SpanAttributes"]) for it in conditions)
        ]

    created = min(starts("run") + starts("queue", lambda it: "spanhook.job" not in it))
    steps = starts("step", lambda it: it["spanhook.job"])
    first = min(steps or starts("job", lambda it: it["cicd.pipeline.task.run.result"] != "skip"))
    happened = max((it for it in starts("event") if it <= created + SECOND), default=created)
    return max(0, first - min(happened, created)) / SECOND


@pytest.mark.parametrize("name", CASES)
def test_each_part_of_the_wait_is_where_it_belongs(name, found):
    run, parts = CASES[name]
    row = found.get(run.trace)
    assert (row and tuple(row[f"{part}_seconds"] for part in PARTS)) == parts


def test_the_parts_add_up_to_the_total_that_is_measured(found):
    runs = [*RANDOM, *(run for run, parts in CASES.values() if parts)]
    assert len(runs) > 200
    for run in runs:
        row = found[run.trace]
        parts = [row[f"{part}_seconds"] for part in PARTS]
        assert min(parts) >= 0, run.trace
        assert sum(parts) == pytest.approx(row["total_seconds"], abs=1e-8), run.trace
        assert row["total_seconds"] == pytest.approx(measured(run), abs=1e-8), run.trace


def test_every_part_is_waited_for_in_some_of_the_made_up_runs(found):
    for part in PARTS:
        assert sum(found[run.trace][f"{part}_seconds"] > 0 for run in RANDOM) > 10, part


def test_a_run_has_one_row_with_its_first_job(found):
    with_jobs = [run for run in RUNS if {"run", "job"} <= {row["SpanAttributes"]["spanhook.kind"] for row in run.rows}]
    cases = [run for run, parts in CASES.values() if parts]
    assert found.keys() == {run.trace for run in [*with_jobs, *RANDOM, *cases]}
    row = found[CASES["tasks side by side"][0].trace]
    assert (row["job"], row["pipeline"], row["run_id"]) == ("build", "acme/case117", "117")


def test_two_runs_of_one_event_are_told_apart():
    clickhouse = engine()
    clickhouse.create("event")
    clickhouse.create_tables()
    one_run, other = told(1), told(2)
    for row in other.rows:
        # In one trace, with ids of their own.
        row |= {"TraceId": one_run.trace, "SpanId": "f" + row["SpanId"][1:], "ParentSpanId": "f" + row["ParentSpanId"][1:]}
        row["Timestamp"] += 10 * SECOND * (row["SpanAttributes"]["spanhook.kind"] not in ("event", "run"))
    clickhouse.insert("otel_traces", one_run.rows + other.rows)
    rows = clickhouse.rows(query("push_to_first_command"), **PERIOD)
    assert {row["run_id"]: (row["queue_seconds"], row["total_seconds"]) for row in rows} == {"1": (5, 42), "2": (15, 52)}


def test_runs_are_chosen_by_the_time_of_their_creation(ask):
    run = CASES["everything"][0]
    at = run.at
    assert run.trace in ask(**{"from": at, "to": at + 1})
    assert run.trace not in ask(**{"from": at - 10, "to": at})
    assert run.trace not in ask(**{"from": at + 1, "to": at + 50})
    assert list(ask(repository="acme/case101")) == list(ask(pipeline="acme/case101")) == [run.trace]
