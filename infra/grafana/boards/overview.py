"""All pipelines of all providers."""

from grafana_foundation_sdk.models import units

from .panels import board, table
from .runs import latest_runs, run_durations, run_stats, runs_per_interval
from .sql import PIPELINE_LINK, SELECTED, SUCCESS_RATE, VARIABLES, seconds


def make():
    return board(
        "spanhook-overview", "CI overview", "All pipelines of all providers.", VARIABLES,
        [
            (4, run_stats(SELECTED)),
            (8, [runs_per_interval(SELECTED), run_durations(SELECTED)]),
            (10, [table(
                "Pipelines", "Where time is spent and runs fail. A pipeline opens its own dashboard.",
                f"""SELECT repository AS Repository, pipeline AS Pipeline, any(provider) AS Provider,
                    count() AS Runs, {SUCCESS_RATE} AS `Success rate`, {seconds(0.5)} AS p50,
                    {seconds(0.95)} AS p95, sum(duration_ns) / 1e9 AS Total,
                    max(timestamp) AS `Last run` FROM ci_job_telemetry
                    WHERE {SELECTED} AND kind = 'run'
                    GROUP BY repository, pipeline ORDER BY Total DESC LIMIT 100""",
                units_of={"Success rate": units.PercentUnit, "p50": units.Seconds, "p95": units.Seconds, "Total": units.Seconds},
                links={"Pipeline": PIPELINE_LINK},
            )]),
            (10, [latest_runs(SELECTED)]),
        ],
    )
