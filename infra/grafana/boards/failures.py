"""Failures and flakiness."""

from grafana_foundation_sdk.models import units

from .panels import GREEN_RED, bars, board, series, stat, table
from .sql import FAILED, JOB_LINKS, PIPELINE_LINK, SELECTED, SUCCESS_RATE, VARIABLES


def make():
    failed = f"{SELECTED} AND kind = 'job' AND {FAILED}"
    flaky = f"""(SELECT repository, pipeline, job, revision, countIf({FAILED}) AS failures,
        countIf(result = 'success') AS successes, max(timestamp) AS last_seen,
        argMaxIf(trace_id, timestamp, {FAILED}) AS failed_trace,
        argMax(job_url, (job_url != '', {FAILED}, timestamp)) AS failed_url
        FROM ci_job_telemetry WHERE {SELECTED} AND kind IN ('job', 'retry') AND revision != ''
        GROUP BY repository, pipeline, job, revision HAVING failures > 0 AND successes > 0)"""
    return board(
        "spanhook-failures", "CI failures and flakiness", "What fails, why, and what only fails sometimes.",
        VARIABLES,
        [
            (4, [
                stat(
                    "Failed runs", "Runs that failed, broke or timed out.",
                    f"SELECT count() FROM ci_job_telemetry WHERE {SELECTED} AND kind = 'run' AND {FAILED}",
                    thresholds=GREEN_RED,
                ),
                stat(
                    "Failed jobs", "Jobs that failed, broke or timed out.",
                    f"SELECT count() FROM ci_job_telemetry WHERE {failed}", thresholds=GREEN_RED,
                ),
                stat(
                    "Time lost", "The duration of the failed jobs together.",
                    f"SELECT sum(duration_ns) / 1e9 FROM ci_job_telemetry WHERE {failed}", units.Seconds,
                ),
                stat(
                    "Flaky jobs", "Jobs that both failed and succeeded on one revision, or when they were tried again.",
                    f"SELECT uniqExact(repository, pipeline, job) FROM {flaky}", thresholds=GREEN_RED,
                ),
            ]),
            (8, [
                series(
                    "Failed jobs by reason", "The error.type of the failed jobs.",
                    f"""SELECT $__timeInterval(timestamp) AS time, error_type, count() AS jobs
                        FROM ci_job_telemetry WHERE {failed}
                        GROUP BY time, error_type ORDER BY time, error_type""",
                    label="error_type", bars=True,
                ),
                bars(
                    "Failure reasons", "The error.type of the failed jobs, over the period.",
                    f"""SELECT error_type AS Reason, count() AS Jobs FROM ci_job_telemetry
                        WHERE {failed} GROUP BY error_type ORDER BY Jobs DESC LIMIT 15""",
                ),
            ]),
            (9, [table(
                "Flaky jobs", "Failed and succeeded on one revision. The links lead to the latest failure.",
                f"""SELECT repository AS Repository, pipeline AS Pipeline, job AS Job,
                    count() AS Revisions, sum(failures) AS Failures, sum(successes) AS Successes,
                    max(last_seen) AS `Last seen`, argMax(failed_trace, last_seen) AS Trace,
                    argMax(failed_url, last_seen) AS job_url FROM {flaky}
                    GROUP BY repository, pipeline, job ORDER BY Revisions DESC, Failures DESC LIMIT 50""",
                links={**JOB_LINKS, "Pipeline": PIPELINE_LINK}, hidden=["job_url"],
            )]),
            (9, [table(
                "Jobs that fail most", "The links lead to the latest failure.",
                f"""SELECT repository AS Repository, pipeline AS Pipeline, job AS Job,
                    countIf({FAILED}) AS Failures, {SUCCESS_RATE} AS `Success rate`,
                    sumIf(duration_ns, {FAILED}) / 1e9 AS `Time lost`,
                    argMaxIf(trace_id, timestamp, {FAILED}) AS Trace,
                    argMaxIf(job_url, timestamp, {FAILED}) AS job_url
                    FROM ci_job_telemetry WHERE {SELECTED} AND kind = 'job'
                    GROUP BY repository, pipeline, job HAVING Failures > 0
                    ORDER BY Failures DESC LIMIT 50""",
                units_of={"Success rate": units.PercentUnit, "Time lost": units.Seconds},
                links={**JOB_LINKS, "Pipeline": PIPELINE_LINK}, hidden=["job_url"],
            )]),
            (9, [table(
                "Latest failures", "The trace opens in Explore, the job on the CI server.",
                f"""SELECT timestamp AS Started, repository AS Repository, pipeline AS Pipeline, job AS Job,
                    ref AS Ref, result AS Result, error_type AS Error, duration_ns / 1e9 AS Duration,
                    runner_name AS Runner, trace_id AS Trace, job_url FROM ci_job_telemetry
                    WHERE {failed} ORDER BY timestamp DESC LIMIT 50""",
                units_of={"Duration": units.Seconds},
                links={**JOB_LINKS, "Pipeline": PIPELINE_LINK}, hidden=["job_url"],
            )]),
        ],
    )
