"""Queues and runners."""

from grafana_foundation_sdk.models import units

from .panels import WAITING, bars, board, series, stat, table
from .sql import JOB_LINKS, PIPELINE_LINK, SELECTED, SUCCESS_RATE, VARIABLES, seconds, trace_link


def make():
    waited = f"{SELECTED} AND kind = 'job' AND queue_duration_ns IS NOT NULL"
    ran = f"{SELECTED} AND kind = 'job' AND runner_name != ''"
    # In a cluster any node may run a job: its namespace stands for the runner.
    kind = "if(runner_type = '', namespace, runner_type)"
    wait_note = " Not every provider tells it."
    # A runner's own spans know ids alone: what belongs to a job the job's span says.
    stages = f"""(SELECT trace_id, job_id, span_name AS stage, error_type, duration_ns FROM ci_job_telemetry
        WHERE kind IN ('runner_stage', 'function') AND $__timeFilter(timestamp)) AS stages
        INNER JOIN (SELECT trace_id, job_id, repository, pipeline, job FROM ci_job_telemetry
        WHERE {SELECTED} AND kind = 'job' AND job_id != '') AS jobs USING (trace_id, job_id)"""
    stage_note = " Of runners that send spans of their own."
    return board(
        "spanhook-runners", "CI runners and queues", "How long jobs wait, and on which runners they run.",
        VARIABLES,
        [
            (4, [
                stat(
                    "Median queue time", "Half of the jobs started within it." + wait_note,
                    f"SELECT {seconds(0.5, 'queue_duration_ns')} FROM ci_job_telemetry WHERE {waited}",
                    units.Seconds, WAITING,
                ),
                stat(
                    "p95 queue time", "One job of twenty waited longer." + wait_note,
                    f"SELECT {seconds(0.95, 'queue_duration_ns')} FROM ci_job_telemetry WHERE {waited}",
                    units.Seconds, WAITING,
                ),
                stat(
                    "Time spent waiting", "The queue time of all jobs together." + wait_note,
                    f"SELECT sum(queue_duration_ns) / 1e9 FROM ci_job_telemetry WHERE {waited}", units.Seconds,
                ),
                stat(
                    "Runners", "Runners that ran a job in the period.",
                    f"SELECT uniqExact(runner_id, runner_name) FROM ci_job_telemetry WHERE {ran}",
                ),
            ]),
            (8, [
                series(
                    "Queue time, p95 by runner type", "A rise on one type asks for more runners of it. In a cluster by namespace.",
                    f"""SELECT $__timeInterval(timestamp) AS time, {kind} AS runners,
                        {seconds(0.95, 'queue_duration_ns')} AS p95
                        FROM ci_job_telemetry WHERE {waited}
                        GROUP BY time, runners ORDER BY time, runners""",
                    unit=units.Seconds, label="runners",
                ),
                series(
                    "Jobs at work", "Mean number of jobs that ran at once, by the time they started.",
                    f"""SELECT $__timeInterval(timestamp) AS time, provider,
                        sum(duration_ns) / 1e9 / $__interval_s AS jobs
                        FROM ci_job_telemetry WHERE {SELECTED} AND kind = 'job'
                        GROUP BY time, provider ORDER BY time, provider""",
                    label="provider", bars=True,
                ),
            ]),
            (10, [table(
                "Runners", "The runners, in a cluster the namespaces, whose jobs waited longest." + wait_note,
                f"""SELECT {kind} AS Type, runner_name AS Runner, runner_id AS Id,
                    arrayStringConcat(arraySort(groupUniqArrayArray(runner_tags)), ', ') AS Tags,
                    count() AS Jobs, {SUCCESS_RATE} AS `Success rate`,
                    {seconds(0.5, 'queue_duration_ns')} AS `Queue p50`,
                    {seconds(0.95, 'queue_duration_ns')} AS `Queue p95`, sum(duration_ns) / 1e9 AS Busy
                    FROM ci_job_telemetry WHERE {SELECTED} AND kind = 'job' AND (runner_name != '' OR namespace != '')
                    GROUP BY Type, runner_name, runner_id ORDER BY `Queue p95` DESC LIMIT 100""",
                units_of={"Success rate": units.PercentUnit, "Queue p50": units.Seconds, "Queue p95": units.Seconds, "Busy": units.Seconds},
            )]),
            (9, [table(
                "Longest waits", "The jobs that waited longest.",
                f"""SELECT timestamp AS Started, repository AS Repository, pipeline AS Pipeline, job AS Job,
                    runner_name AS Runner, queue_duration_ns / 1e9 AS Waited, duration_ns / 1e9 AS Duration,
                    trace_id AS Trace, job_url FROM ci_job_telemetry
                    WHERE {waited} ORDER BY queue_duration_ns DESC LIMIT 50""",
                units_of={"Waited": units.Seconds, "Duration": units.Seconds},
                links={**JOB_LINKS, "Pipeline": PIPELINE_LINK}, hidden=["job_url"],
            )]),
            (9, [
                bars(
                    "Time by runner stage", "Mean time of a job in each stage of its runner and in CI functions." + stage_note,
                    f"""SELECT stage, sum(duration_ns) / 1e9 / uniqExact(trace_id, job_id) AS mean FROM {stages}
                        GROUP BY stage ORDER BY mean DESC LIMIT 20""",
                    units.Seconds,
                ),
                table(
                    "Runner stages", "The stages that take most time together." + stage_note,
                    f"""SELECT repository AS Repository, pipeline AS Pipeline, job AS Job, stage AS Stage, count() AS Spans,
                        countIf(error_type != '') AS Failures, {seconds(0.5)} AS p50, {seconds(0.95)} AS p95,
                        sum(duration_ns) / 1e9 AS Total, argMax(trace_id, duration_ns) AS Trace FROM {stages}
                        GROUP BY repository, pipeline, job, stage ORDER BY Total DESC LIMIT 100""",
                    units_of={"p50": units.Seconds, "p95": units.Seconds, "Total": units.Seconds},
                    links={"Pipeline": PIPELINE_LINK, "Trace": trace_link()}, width=12,
                ),
            ]),
        ],
    )
