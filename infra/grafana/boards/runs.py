"""Panels of runs, for all pipelines and for one."""

from grafana_foundation_sdk.models import units

from .panels import RED_GREEN, series, stat, table
from .sql import PIPELINE_LINK, RAN, RUN_LINKS, SUCCESS_RATE, seconds


def runs_per_interval(where):
    return series(
        "Runs by result", "How many runs started, and how they ended.",
        f"""SELECT $__timeInterval(timestamp) AS time, result, count() AS runs FROM ci_job_telemetry
            WHERE {where} AND kind = 'run' GROUP BY time, result ORDER BY time, result""",
        label="result", bars=True,
    )


def run_durations(where):
    return series(
        "Run duration", "From the creation of a run to its end, waiting included.",
        f"""SELECT $__timeInterval(timestamp) AS time, {seconds(0.5)} AS p50, {seconds(0.95)} AS p95
            FROM ci_job_telemetry WHERE {where} AND kind = 'run' AND {RAN} GROUP BY time ORDER BY time""",
        unit=units.Seconds,
    )


def latest_runs(where):
    return table(
        "Latest runs", "The trace opens in Explore, the run on the CI server.",
        f"""SELECT timestamp AS Started, provider AS Provider, repository AS Repository,
            pipeline AS Pipeline, ref AS Ref, trigger AS Trigger, nullIf(attempt, 0) AS Attempt, result AS Result,
            error_type AS Error, duration_ns / 1e9 AS Duration, run_id AS Run, trace_id AS Trace,
            run_url FROM ci_job_telemetry
            WHERE {where} AND kind = 'run' ORDER BY timestamp DESC LIMIT 50""",
        units_of={"Duration": units.Seconds}, links={**RUN_LINKS, "Pipeline": PIPELINE_LINK}, hidden=["run_url"],
    )


def run_stats(where):
    return [
        stat(
            "Runs", "Runs that started in the period. A rerun is a run of its own.",
            f"SELECT count() FROM ci_job_telemetry WHERE {where} AND kind = 'run'",
        ),
        stat(
            "Success rate", "Of the runs that succeeded or failed; cancelled and skipped ones do not count.",
            f"SELECT {SUCCESS_RATE} FROM ci_job_telemetry WHERE {where} AND kind = 'run'",
            units.PercentUnit, RED_GREEN,
        ),
        stat(
            "Median run duration", "Half of the runs were done in this time.",
            f"SELECT {seconds(0.5)} FROM ci_job_telemetry WHERE {where} AND kind = 'run' AND {RAN}", units.Seconds,
        ),
        stat(
            "p95 run duration", "One run of twenty took longer.",
            f"SELECT {seconds(0.95)} FROM ci_job_telemetry WHERE {where} AND kind = 'run' AND {RAN}", units.Seconds,
        ),
    ]
