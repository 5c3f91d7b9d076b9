"""One pipeline."""

from grafana_foundation_sdk.models import units

from .panels import bars, board, series, table
from .runs import latest_runs, run_durations, run_stats, runs_per_interval
from .sql import JOB_LINKS, ONE, ONE_PIPELINE, ONE_VARIABLES, RAN, SUCCESS_RATE, seconds, trace_link


def make():
    latest = f"""(SELECT argMax(trace_id, timestamp) FROM ci_job_telemetry
        WHERE {ONE} AND kind = 'run')"""
    return board(
        "spanhook-pipeline", "CI pipeline", "One pipeline: its runs, its jobs, and what makes it slow.",
        ONE_VARIABLES,
        [
            (4, run_stats(ONE)),
            (8, [runs_per_interval(ONE), run_durations(ONE)]),
            (8, [
                series(
                    "Job duration, p95", "The jobs that grow are those to look at.",
                    f"""SELECT $__timeInterval(timestamp) AS time, job, {seconds(0.95)} AS p95
                        FROM ci_job_telemetry WHERE {ONE} AND kind = 'job' AND {RAN}
                        GROUP BY time, job ORDER BY time, job""",
                    unit=units.Seconds, label="job",
                ),
                bars(
                    "Critical path of the latest run",
                    "The chain of jobs that determined when the latest run ended, and how long each"
                    " took: only a shorter job of these makes the run shorter.",
                    f"""WITH (SELECT arrayFold(
                            (path, it) -> if(empty(path) OR it.2 <= path[-1].1, arrayPushBack(path, it), path),
                            arrayReverseSort(it -> (it.2, it.1),
                                groupArray((timestamp, end_timestamp, span_id))),
                            []::Array(Tuple(DateTime64(9), DateTime64(9), String)))
                        FROM ci_job_telemetry WHERE kind = 'job' AND {RAN} AND trace_id = {latest}) AS path
                        SELECT job AS Job, duration_ns / 1e9 AS Duration FROM ci_job_telemetry
                        WHERE trace_id = {latest} AND has(arrayMap(it -> it.3, path), span_id)
                        ORDER BY timestamp, end_timestamp""",
                    unit=units.Seconds,
                ),
            ]),
            (9, [table(
                "Jobs", "Each job of the pipeline, the slowest first.",
                f"""SELECT stage AS Stage, job AS Job, count() AS Jobs, {SUCCESS_RATE} AS `Success rate`,
                    {seconds(0.5)} AS p50, {seconds(0.95)} AS p95,
                    {seconds(0.95, 'queue_duration_ns')} AS `Queue p95`,
                    argMax(trace_id, duration_ns) AS Trace, argMax(job_url, duration_ns) AS job_url
                    FROM ci_job_telemetry WHERE {ONE} AND kind = 'job' AND {RAN}
                    GROUP BY stage, job ORDER BY p95 DESC""",
                units_of={"Success rate": units.PercentUnit, "p50": units.Seconds, "p95": units.Seconds, "Queue p95": units.Seconds},
                links=JOB_LINKS, hidden=["job_url"],
            )]),
            (9, [table(
                "Steps", "The steps of the jobs, those that take most time together first. Empty where the"
                " provider tells no steps.",
                f"""SELECT job AS Job, span_name AS Step, count() AS Steps,
                    countIf(error_type != '') AS Failures, {seconds(0.5)} AS p50, {seconds(0.95)} AS p95,
                    sum(duration_ns) / 1e9 AS Total, argMax(trace_id, duration_ns) AS Trace
                    FROM ci_job_telemetry WHERE {ONE} AND kind = 'step'
                    GROUP BY job, span_name ORDER BY Total DESC LIMIT 100""",
                units_of={"p50": units.Seconds, "p95": units.Seconds, "Total": units.Seconds},
                links={"Trace": trace_link()},
            )]),
            (6, [table(
                "Week over week", "The last week of the period against the week before it.",
                f"""WITH timestamp >= $__toTime - INTERVAL 1 WEEK AS is_new
                    SELECT if(is_new, 'last week', 'week before') AS Week, count() AS Runs,
                    {SUCCESS_RATE} AS `Success rate`, {seconds(0.5)} AS p50, {seconds(0.95)} AS p95
                    FROM ci_job_telemetry
                    WHERE timestamp >= $__toTime - INTERVAL 2 WEEK AND timestamp <= $__toTime
                    AND {ONE_PIPELINE} AND kind = 'run' GROUP BY is_new ORDER BY is_new DESC""",
                units_of={"Success rate": units.PercentUnit, "p50": units.Seconds, "p95": units.Seconds},
            )]),
            (10, [latest_runs(ONE)]),
        ],
    )
