-- From push to first command: where does the time of each run go?
-- The first command is the earliest step of a run, or its earliest job where no steps are told. What is waited for
-- until then, one after the other; what is not told took no time, and the parts add up to the total:
--   webhook   from what happened in the repository to the run's creation
--   queue     until the command's Pod is made, or its job begins where there are no Pods
--   schedule  until the Pod has a node
--   pull      while any of its images is pulled
--   start     the rest, in which volumes are mounted and containers start
-- from, to: when the run was created; repository, pipeline: '' for all.
SELECT
    timestamp,
    provider,
    repository,
    pipeline,
    job,
    result,
    (created - happened) / 1e9 AS webhook_seconds,
    (made - created) / 1e9 AS queue_seconds,
    (scheduled - made) / 1e9 AS schedule_seconds,
    pulled / 1e9 AS pull_seconds,
    (first_command - scheduled - pulled) / 1e9 AS start_seconds,
    (first_command - happened) / 1e9 AS total_seconds,
    run_id,
    run_url,
    trace_id
FROM (
    SELECT
        *,
        -- Nothing before the event and nothing after the first command counts, whatever clocks say.
        least(if(event = 0, run_start, event), run_start, first_command) AS happened,
        greatest(happened, least(run_start, first_command)) AS created,
        greatest(created, least(pod_made, first_command)) AS made,
        greatest(made, least(schedule_end, first_command)) AS scheduled,
        -- Pulls may overlap: each counts from where those before it reached.
        arrayFold(
            (reached, it) -> (
                greatest(reached.1, it.1, least(it.2, first_command)),
                reached.2 + greatest(0, least(it.2, first_command) - greatest(it.1, reached.1))),
            arraySort(pulls), (scheduled, toInt64(0))).2 AS pulled
    FROM (
        SELECT
            * EXCEPT (owners, pods, schedules, all_pulls, events),
            -- An event later on may have started the run again. The times of a cluster are whole seconds.
            arrayMax(arrayFilter(it -> it <= run_start + 1000000000, events)) AS event,
            owners[indexOf(arrayMap(it -> it.1, owners), owner)] AS found,
            found.3 AS job,
            arrayFilter(it -> it.1 = found.2 AND it.1 != '', pods)[1].2 AS pod_start,
            multiIf(pod_start != 0, pod_start, found.4 != 0, found.4, first_command) AS pod_made,
            arrayFilter(it -> it.1 = found.2, schedules)[1].2 AS schedule_end,
            arrayMap(it -> (it.2, it.3), arrayFilter(it -> it.1 = found.2, all_pulls)) AS pulls
        FROM (
            SELECT
                trace_id,
                run_id,
                anyIf(telemetry.timestamp, kind = 'run') AS timestamp,
                anyIf(telemetry.provider, kind = 'run') AS provider,
                anyIf(telemetry.repository, kind = 'run') AS repository,
                anyIf(telemetry.pipeline, kind = 'run') AS pipeline,
                anyIf(telemetry.result, kind = 'run') AS result,
                anyIf(telemetry.run_url, kind = 'run') AS run_url,
                -- The wait of a run that begins after its creation is a span of its own.
                minIf(start, kind = 'run' OR kind = 'queue' AND telemetry.job = '') AS run_start,
                countIf(is_step) > 0 AS has_steps,
                if(has_steps, minIf(start, is_step), minIf(start, is_job)) AS first_command,
                if(has_steps,
                    argMinIf(parent_span_id, (start, span_id), is_step),
                    argMinIf(span_id, (start, span_id), is_job)) AS owner,
                groupArrayIf((span_id, pod, telemetry.job, start), kind IN ('job', 'retry')) AS owners,
                groupArrayIf((pod, start), kind = 'pod') AS pods,
                groupArrayIf((pod, end), kind = 'schedule') AS schedules,
                groupArrayIf((pod, start, end), kind = 'pull') AS all_pulls
            FROM (
                SELECT
                    *,
                    toUnixTimestamp64Nano(timestamp) AS start,
                    toUnixTimestamp64Nano(end_timestamp) AS end,
                    -- A step without a job is none of the run's own.
                    kind = 'step' AND job != '' AS is_step,
                    kind = 'job' AND result != 'skip' AS is_job
                FROM ci_job_telemetry
                WHERE kind IN ('run', 'queue', 'job', 'retry', 'step', 'pod', 'schedule', 'pull')
                    -- A run may go on for a while after it was created.
                    AND timestamp >= {from:DateTime} AND timestamp < {to:DateTime} + INTERVAL 1 DAY
                    AND ({repository:String} = '' OR repository = {repository:String})
                    AND ({pipeline:String} = '' OR pipeline = {pipeline:String})
            ) AS telemetry
            GROUP BY trace_id, run_id
            HAVING countIf(kind = 'run' AND telemetry.timestamp < {to:DateTime}) > 0
                AND countIf(is_step OR is_job) > 0
        ) AS runs
        LEFT JOIN (
            SELECT trace_id, groupArray(toUnixTimestamp64Nano(timestamp)) AS events
            FROM ci_job_telemetry
            WHERE kind = 'event'
                AND timestamp >= {from:DateTime} - INTERVAL 1 DAY AND timestamp < {to:DateTime} + INTERVAL 1 DAY
            GROUP BY trace_id
        ) AS brought ON brought.trace_id = runs.trace_id
    )
)
ORDER BY total_seconds DESC;
