"""Writes dashboards/*.json. Run it after a change here: python3 build.py"""

import json
import pathlib
import urllib.parse

FOLDER = pathlib.Path(__file__).parent / "dashboards"
QUERIES = pathlib.Path(__file__).parents[1] / "clickhouse" / "queries"
DATASOURCE = {"type": "grafana-clickhouse-datasource", "uid": "${datasource}"}
TABLE, TIME_SERIES, TRACE = 1, 0, 3  # the plugin's `format`

# The datasource drops a condition where its variable is at All.
PROVIDER = "$__conditionalAll(provider IN (${provider:singlequote}), $provider)"
REPOSITORY = "$__conditionalAll(repository IN (${repository:singlequote}), $repository)"
PIPELINE = "$__conditionalAll(pipeline IN (${pipeline:singlequote}), $pipeline)"
SELECTED = f"$__timeFilter(timestamp) AND {PROVIDER} AND {REPOSITORY} AND {PIPELINE}"
ONE = (
    "$__timeFilter(timestamp) AND repository = ${repository:singlequote}"
    " AND pipeline = ${pipeline:singlequote}"
)
FAILED = "result IN ('failure', 'error', 'timeout')"
CORRELATION_ID = "${correlation_id:singlequote}"
# A run that was cancelled or skipped says nothing of the pipeline's health.
SUCCESS_RATE = f"countIf(result = 'success') / nullIf(countIf(result = 'success' OR {FAILED}), 0)"

RED_GREEN = [("red", None), ("yellow", 0.8), ("green", 0.95)]
GREEN_RED = [("green", None), ("red", 1)]
FEW = [("green", None), ("yellow", 1)]
WAITING = [("green", None), ("yellow", 60), ("red", 300)]
PLAIN = [("blue", None)]
COLORS = {
    "success": "green",
    "failure": "red",
    "error": "purple",
    "timeout": "orange",
    "cancellation": "gray",
    "skip": "light-blue",
}


def seconds(level, column="duration_ns"):
    return f"quantile({level})({column}) / 1e9"


def query(name):
    """A query of ../clickhouse/queries, with the dashboard's variables as its parameters."""
    lines = (QUERIES / f"{name}.sql").read_text().splitlines()
    sql = "\n".join(line for line in lines if not line.strip().startswith("--")).rstrip(";\n")
    for parameter, value in {
        "{correlation_id:String}": CORRELATION_ID,
        "{from:DateTime}": "$__fromTime",
        "{to:DateTime}": "$__toTime",
    }.items():
        sql = sql.replace(parameter, value)
    return sql


def target(sql, format):
    kind = "timeseries" if format == TIME_SERIES else "table"
    return {
        "refId": "A",
        "datasource": DATASOURCE,
        "editorType": "sql",
        "queryType": kind,
        "format": format,
        "rawSql": " ".join(sql.split()),
    }


def panel(kind, title, description, sql, width, unit="short", thresholds=PLAIN, **options):
    format = TIME_SERIES if kind == "timeseries" else TABLE
    steps = [{"color": color, "value": value} for color, value in thresholds]
    defaults = {
        "unit": unit,
        "color": {"mode": "palette-classic" if kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
        **options.pop("defaults", {}),
    }
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": [target(sql, format)],
        "fieldConfig": {"defaults": defaults, "overrides": options.pop("overrides", [])},
        "gridPos": {"w": width},
        "options": options,
    }


def stat(title, description, sql, unit="short", thresholds=PLAIN, width=6):
    return panel(
        "stat", title, description, sql, width, unit, thresholds,
        reduceOptions={"calcs": ["lastNotNull"], "fields": "", "values": False},
        colorMode="value", graphMode="none",
    )


def series(title, description, sql, unit="short", width=12, label=None, bars=False):
    """Lines, or stacked bars; `label` is the column that tells the series apart."""
    custom = {"lineWidth": 2, "fillOpacity": 10, "showPoints": "auto", "spanNulls": True}
    if bars:
        custom = {"drawStyle": "bars", "fillOpacity": 80, "lineWidth": 0, "stacking": {"mode": "normal"}}
    defaults = {"custom": custom, "min": 0}
    overrides = []
    if label:
        defaults["displayName"] = f"${{__field.labels.{label}}}"
    if label == "result":
        overrides = [override(name, color={"mode": "fixed", "fixedColor": it}) for name, it in COLORS.items()]
    return panel(
        "timeseries", title, description, sql, width, unit,
        defaults=defaults, overrides=overrides,
        legend={"displayMode": "list", "placement": "bottom", "showLegend": True},
        tooltip={"mode": "multi", "sort": "desc"},
    )


def bars(title, description, sql, unit="short", width=12):
    return panel(
        "barchart", title, description, sql, width, unit,
        orientation="horizontal", showValue="auto", legend={"showLegend": False},
    )


def table(title, description, sql, units=None, links=None, hidden=(), width=24):
    """`units` and `links` by column; a hidden column is there for a link of another."""
    overrides = [override(column, unit=unit) for column, unit in (units or {}).items()]
    overrides += [override(column, links=[link]) for column, link in (links or {}).items()]
    overrides += [override(column, **{"custom.hidden": True}) for column in hidden]
    return panel(
        "table", title, description, sql, width, "none",
        defaults={"custom": {"align": "auto", "filterable": True}, "color": {"mode": "fixed"}},
        overrides=overrides, showHeader=True,
    )


def override(column, **properties):
    return {
        "matcher": {"id": "byName", "options": column},
        "properties": [{"id": id, "value": value} for id, value in properties.items()],
    }


def link(title, url, new_tab=False):
    return {"title": title, "url": url, "targetBlank": new_tab}


def trace_link():
    """The cell's trace in Explore, each span once: otel_traces itself does not deduplicate."""
    pairs = "arrayMap(it -> map('key', it, 'value', {0}[it]), mapKeys({0}))".format
    sql = f"""
        SELECT TraceId AS traceID, SpanId AS spanID, ParentSpanId AS parentSpanID,
            ServiceName AS serviceName, SpanName AS operationName, SpanKind AS kind,
            toUnixTimestamp64Nano(Timestamp) / 1e6 AS startTime, Duration / 1e6 AS duration,
            if(StatusCode = 'Error', 2, 0) AS statusCode, StatusMessage AS statusMessage,
            {pairs('SpanAttributes')} AS tags, {pairs('ResourceAttributes')} AS serviceTags,
            arrayMap((name, at, more) ->
                (name, toString(toUnixTimestamp64Milli(at)), {pairs('more')})
                ::Tuple(name String, timestamp String, fields Array(Map(String, String))),
                Events.Name, Events.Timestamp, Events.Attributes) AS logs,
            arrayMap((trace, span, more) -> (trace, span, {pairs('more')})
                ::Tuple(traceID String, spanID String, tags Array(Map(String, String))),
                Links.TraceId, Links.SpanId, Links.Attributes) AS references
        FROM otel_traces
        WHERE TraceId = 'TRACE'
            AND Timestamp >= (SELECT min(Start) FROM otel_traces_trace_id_ts WHERE TraceId = 'TRACE')
            AND Timestamp < (SELECT max(End) FROM otel_traces_trace_id_ts WHERE TraceId = 'TRACE') + 1
        ORDER BY Timestamp, Duration DESC LIMIT 1 BY TraceId, SpanId
    """
    query = {**target(sql, TRACE), "queryType": "traces", "datasource": {**DATASOURCE, "uid": "SOURCE"}}
    pane = {
        "datasource": "SOURCE",
        "queries": [query],
        "range": {"from": "FROM", "to": "UNTIL"},
    }
    panes = urllib.parse.quote(json.dumps({"trace": pane}, separators=(",", ":")), safe="")
    # Grafana fills these in, and does not find them when they are percent-encoded.
    for word, variable in {
        "%27TRACE%27": "%27${__value.raw}%27",
        "%22SOURCE%22": "%22${datasource}%22",
        "%22FROM%22": "%22${__from}%22",
        "%22UNTIL%22": "%22${__to}%22",
    }.items():
        panes = panes.replace(word, variable)
    return link("Show the trace", f"/explore?schemaVersion=1&orgId=1&panes={panes}")


def field_link(title, column):
    """The address that is in another column of the row."""
    return link(title, f"${{__data.fields.{column}:raw}}", new_tab=True)


PIPELINE_LINK = link(
    "Open the pipeline",
    "/d/spanhook-pipeline?var-datasource=${datasource}&var-repository=${__data.fields.Repository:percentencode}"
    "&var-pipeline=${__data.fields.Pipeline:percentencode}&${__url_time_range}",
)
RUN_LINKS = {"Trace": trace_link(), "Run": field_link("Open in the CI server", "run_url")}
JOB_LINKS = {"Trace": trace_link(), "Job": field_link("Open in the CI server", "job_url")}


def variable(name, label, column, conditions, several=True):
    # Without FINAL: a span that is stored twice adds no new value.
    sql = (
        f"SELECT DISTINCT {column} FROM ci_job_telemetry_traces"
        f" WHERE {' AND '.join(['$__timeFilter(timestamp)', *conditions])} ORDER BY {column}"
    )
    everything = {"text": "All", "value": "$__all"}
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "definition": sql,
        "query": {"editorType": "sql", "queryType": "table", "format": TABLE, "rawSql": sql},
        "refresh": 2,
        "multi": several,
        "includeAll": several,
        **({"current": everything} if several else {}),
    }


SOURCE = {
    "type": "datasource",
    "name": "datasource",
    "label": "Data source",
    "query": "grafana-clickhouse-datasource",
    "refresh": 1,
}
VARIABLES = [
    SOURCE,
    variable("provider", "Provider", "provider", []),
    variable("repository", "Repository", "repository", [PROVIDER]),
    variable("pipeline", "Pipeline", "pipeline", [PROVIDER, REPOSITORY]),
]
ONE_VARIABLES = [
    SOURCE,
    variable("provider", "Provider", "provider", []),
    variable("repository", "Repository", "repository", [PROVIDER], several=False),
    variable(
        "pipeline", "Pipeline", "pipeline",
        [PROVIDER, "repository = ${repository:singlequote}"], several=False,
    ),
]
LATEST_BUILDS = (
    "SELECT correlation_id FROM ci_build_spans WHERE $__timeFilter(timestamp)"
    " GROUP BY correlation_id ORDER BY max(timestamp) DESC LIMIT 1000"
)
RELEASE_VARIABLES = [
    SOURCE,
    {
        **variable("correlation_id", "Correlation id", "correlation_id", [], several=False),
        # Not of one column: the latest builds come first.
        "definition": LATEST_BUILDS,
        "query": {"editorType": "sql", "queryType": "table", "format": TABLE, "rawSql": LATEST_BUILDS},
    },
]


def dashboard(uid, title, description, variables, rows, period="now-7d"):
    """`rows` are pairs of a height and panels, left to right, 24 columns wide."""
    panels, y = [], 0
    for height, row in rows:
        x = 0
        for it in row:
            it["id"] = len(panels) + 1
            it["gridPos"] = {"x": x, "y": y, "w": it["gridPos"]["w"], "h": height}
            x += it["gridPos"]["w"]
            panels.append(it)
        y += height
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["spanhook", "ci"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "time": {"from": period, "to": "now"},
        "refresh": "",
        "links": [{
            "type": "dashboards", "tags": ["spanhook"], "title": "CI dashboards",
            "asDropdown": True, "includeVars": True, "keepTime": True,
        }],
        "templating": {"list": variables},
        "annotations": {"list": []},
        "panels": panels,
    }


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
            FROM ci_job_telemetry WHERE {where} AND kind = 'run' GROUP BY time ORDER BY time""",
        unit="s",
    )


def latest_runs(where):
    return table(
        "Latest runs", "The trace opens in Explore, the run on the CI server.",
        f"""SELECT timestamp AS Started, provider AS Provider, repository AS Repository,
            pipeline AS Pipeline, ref AS Ref, source AS Source, result AS Result,
            error_type AS Error, duration_ns / 1e9 AS Duration, run_id AS Run, trace_id AS Trace,
            run_url FROM ci_job_telemetry
            WHERE {where} AND kind = 'run' ORDER BY timestamp DESC LIMIT 50""",
        units={"Duration": "s"}, links={**RUN_LINKS, "Pipeline": PIPELINE_LINK}, hidden=["run_url"],
    )


def run_stats(where):
    return [
        stat(
            "Runs", "Runs that started in the period.",
            f"SELECT count() FROM ci_job_telemetry WHERE {where} AND kind = 'run'",
        ),
        stat(
            "Success rate", "Of the runs that succeeded or failed; cancelled and skipped ones do not count.",
            f"SELECT {SUCCESS_RATE} FROM ci_job_telemetry WHERE {where} AND kind = 'run'",
            "percentunit", RED_GREEN,
        ),
        stat(
            "Median run duration", "Half of the runs were done in this time.",
            f"SELECT {seconds(0.5)} FROM ci_job_telemetry WHERE {where} AND kind = 'run'", "s",
        ),
        stat(
            "p95 run duration", "One run of twenty took longer.",
            f"SELECT {seconds(0.95)} FROM ci_job_telemetry WHERE {where} AND kind = 'run'", "s",
        ),
    ]


def overview():
    return dashboard(
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
                units={"Success rate": "percentunit", "p50": "s", "p95": "s", "Total": "s"},
                links={"Pipeline": PIPELINE_LINK},
            )]),
            (10, [latest_runs(SELECTED)]),
        ],
    )


def pipeline():
    latest = f"""(SELECT argMax(trace_id, timestamp) FROM ci_job_telemetry
        WHERE {ONE} AND kind = 'run')"""
    return dashboard(
        "spanhook-pipeline", "CI pipeline", "One pipeline: its runs, its jobs, and what makes it slow.",
        ONE_VARIABLES,
        [
            (4, run_stats(ONE)),
            (8, [runs_per_interval(ONE), run_durations(ONE)]),
            (8, [
                series(
                    "Job duration, p95", "The jobs that grow are those to look at.",
                    f"""SELECT $__timeInterval(timestamp) AS time, job, {seconds(0.95)} AS p95
                        FROM ci_job_telemetry WHERE {ONE} AND kind = 'job'
                        GROUP BY time, job ORDER BY time, job""",
                    unit="s", label="job",
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
                        FROM ci_job_telemetry WHERE kind = 'job' AND trace_id = {latest}) AS path
                        SELECT job AS Job, duration_ns / 1e9 AS Duration FROM ci_job_telemetry
                        WHERE trace_id = {latest} AND has(arrayMap(it -> it.3, path), span_id)
                        ORDER BY timestamp, end_timestamp""",
                    unit="s",
                ),
            ]),
            (9, [table(
                "Jobs", "Each job of the pipeline, the slowest first.",
                f"""SELECT stage AS Stage, job AS Job, count() AS Jobs, {SUCCESS_RATE} AS `Success rate`,
                    {seconds(0.5)} AS p50, {seconds(0.95)} AS p95,
                    {seconds(0.95, 'queue_duration_ns')} AS `Queue p95`,
                    argMax(trace_id, duration_ns) AS Trace, argMax(job_url, duration_ns) AS job_url
                    FROM ci_job_telemetry WHERE {ONE} AND kind = 'job'
                    GROUP BY stage, job ORDER BY p95 DESC""",
                units={"Success rate": "percentunit", "p50": "s", "p95": "s", "Queue p95": "s"},
                links=JOB_LINKS, hidden=["job_url"],
            )]),
            (6, [table(
                "Week over week", "The last week of the period against the week before it.",
                f"""WITH timestamp >= $__toTime - INTERVAL 1 WEEK AS is_new
                    SELECT if(is_new, 'last week', 'week before') AS Week, count() AS Runs,
                    {SUCCESS_RATE} AS `Success rate`, {seconds(0.5)} AS p50, {seconds(0.95)} AS p95
                    FROM ci_job_telemetry
                    WHERE timestamp >= $__toTime - INTERVAL 2 WEEK AND timestamp <= $__toTime
                    AND repository = ${{repository:singlequote}} AND pipeline = ${{pipeline:singlequote}}
                    AND kind = 'run' GROUP BY is_new ORDER BY is_new DESC""",
                units={"Success rate": "percentunit", "p50": "s", "p95": "s"},
            )]),
            (10, [latest_runs(ONE)]),
        ],
    )


def runners():
    waited = f"{SELECTED} AND kind = 'job' AND queue_duration_ns IS NOT NULL"
    ran = f"{SELECTED} AND kind = 'job' AND runner_name != ''"
    wait_note = " CircleCI does not tell it."
    return dashboard(
        "spanhook-runners", "CI runners and queues", "How long jobs wait, and on which runners they run.",
        VARIABLES,
        [
            (4, [
                stat(
                    "Median queue time", "Half of the jobs started within it." + wait_note,
                    f"SELECT {seconds(0.5, 'queue_duration_ns')} FROM ci_job_telemetry WHERE {waited}",
                    "s", WAITING,
                ),
                stat(
                    "p95 queue time", "One job of twenty waited longer." + wait_note,
                    f"SELECT {seconds(0.95, 'queue_duration_ns')} FROM ci_job_telemetry WHERE {waited}",
                    "s", WAITING,
                ),
                stat(
                    "Time spent waiting", "The queue time of all jobs together." + wait_note,
                    f"SELECT sum(queue_duration_ns) / 1e9 FROM ci_job_telemetry WHERE {waited}", "s",
                ),
                stat(
                    "Runners", "Runners that ran a job in the period.",
                    f"SELECT uniqExact(runner_id, runner_name) FROM ci_job_telemetry WHERE {ran}",
                ),
            ]),
            (8, [
                series(
                    "Queue time, p95 by runner type", "A rise on one type asks for more runners of it.",
                    f"""SELECT $__timeInterval(timestamp) AS time, runner_type,
                        {seconds(0.95, 'queue_duration_ns')} AS p95
                        FROM ci_job_telemetry WHERE {waited}
                        GROUP BY time, runner_type ORDER BY time, runner_type""",
                    unit="s", label="runner_type",
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
                "Runners", "The runners whose jobs waited longest." + wait_note,
                f"""SELECT runner_type AS Type, runner_name AS Runner, runner_id AS Id,
                    arrayStringConcat(arraySort(groupUniqArrayArray(runner_tags)), ', ') AS Tags,
                    count() AS Jobs, {SUCCESS_RATE} AS `Success rate`,
                    {seconds(0.5, 'queue_duration_ns')} AS `Queue p50`,
                    {seconds(0.95, 'queue_duration_ns')} AS `Queue p95`, sum(duration_ns) / 1e9 AS Busy
                    FROM ci_job_telemetry WHERE {ran}
                    GROUP BY runner_type, runner_name, runner_id ORDER BY `Queue p95` DESC LIMIT 100""",
                units={"Success rate": "percentunit", "Queue p50": "s", "Queue p95": "s", "Busy": "s"},
            )]),
            (9, [table(
                "Longest waits", "The jobs that waited longest.",
                f"""SELECT timestamp AS Started, repository AS Repository, pipeline AS Pipeline, job AS Job,
                    runner_name AS Runner, queue_duration_ns / 1e9 AS Waited, duration_ns / 1e9 AS Duration,
                    trace_id AS Trace, job_url FROM ci_job_telemetry
                    WHERE {waited} ORDER BY queue_duration_ns DESC LIMIT 50""",
                units={"Waited": "s", "Duration": "s"},
                links={**JOB_LINKS, "Pipeline": PIPELINE_LINK}, hidden=["job_url"],
            )]),
        ],
    )


def failures():
    failed = f"{SELECTED} AND kind = 'job' AND {FAILED}"
    flaky = f"""(SELECT repository, pipeline, job, revision, countIf({FAILED}) AS failures,
        countIf(result = 'success') AS successes, max(timestamp) AS last_seen,
        argMaxIf(trace_id, timestamp, {FAILED}) AS failed_trace,
        argMaxIf(job_url, timestamp, {FAILED}) AS failed_url
        FROM ci_job_telemetry WHERE {SELECTED} AND kind = 'job' AND revision != ''
        GROUP BY repository, pipeline, job, revision HAVING failures > 0 AND successes > 0)"""
    return dashboard(
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
                    f"SELECT sum(duration_ns) / 1e9 FROM ci_job_telemetry WHERE {failed}", "s",
                ),
                stat(
                    "Flaky jobs", "Jobs that both failed and succeeded on one revision.",
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
                units={"Success rate": "percentunit", "Time lost": "s"},
                links={**JOB_LINKS, "Pipeline": PIPELINE_LINK}, hidden=["job_url"],
            )]),
            (9, [table(
                "Latest failures", "The trace opens in Explore, the job on the CI server.",
                f"""SELECT timestamp AS Started, repository AS Repository, pipeline AS Pipeline, job AS Job,
                    ref AS Ref, result AS Result, error_type AS Error, duration_ns / 1e9 AS Duration,
                    runner_name AS Runner, trace_id AS Trace, job_url FROM ci_job_telemetry
                    WHERE {failed} ORDER BY timestamp DESC LIMIT 50""",
                units={"Duration": "s"},
                links={**JOB_LINKS, "Pipeline": PIPELINE_LINK}, hidden=["job_url"],
            )]),
        ],
    )


def health():
    # spanhook exports deltas, so a sum over any period is right.
    own = "$__timeFilter(TimeUnix) AND ScopeName = 'spanhook'"
    lag = f"{own} AND MetricName = 'spanhook.delivery_lag'"
    webhook = "$__timeFilter(Timestamp) AND ScopeName = 'spanhook' AND SpanName LIKE 'POST /%'"
    # The second condition leaves out whole partitions; hardly a run is delivered a month late.
    stored = "$__timeFilter(inserted_at) AND timestamp >= $__fromTime - INTERVAL 31 DAY"

    def counted(title, description, metric, thresholds):
        return stat(
            title, description,
            f"""SELECT sum(Value) FROM otel_metrics_sum
                WHERE {own} AND MetricName = 'spanhook.{metric}'""",
            thresholds=thresholds, width=4,
        )

    return dashboard(
        "spanhook-health", "spanhook health",
        "spanhook itself. The counters come over OTLP, from functions that have TELEMETRY_OTLP_ENDPOINT;"
        " those of the webhook functions on Lambda are in CloudWatch only.",
        [SOURCE],
        [
            (4, [
                counted("Messages delivered", "Messages that the Collector took.", "delivered", PLAIN),
                counted("Spans delivered", "Spans in these messages.", "spans", PLAIN),
                counted("Retries", "Messages that waited for another try.", "retried", FEW),
                counted("Dead-lettered", "Messages that need a person: see why, mend it, redrive.",
                        "dead_lettered", GREEN_RED),
                counted("Spans refused", "Spans that the Collector refused within a request that it took.",
                        "partially_rejected", GREEN_RED),
                counted("Misconfigured", "Answers that only an operator can mend, such as 401 and 404.",
                        "misconfigured", GREEN_RED),
            ]),
            (8, [
                series(
                    "Counters", "All counters, by name.",
                    f"""SELECT $__timeInterval(TimeUnix) AS time, replaceOne(MetricName, 'spanhook.', '') AS metric,
                        sum(Value) AS value FROM otel_metrics_sum WHERE {own} AND MetricName LIKE 'spanhook.%'
                        GROUP BY time, metric ORDER BY time, metric""",
                    label="metric",
                ),
                series(
                    "Delivery lag as counted", "From the end of the work to the Collector's acknowledgement.",
                    f"""SELECT $__timeInterval(TimeUnix) AS time, sum(Sum) / nullIf(sum(Count), 0) AS mean,
                        max(Max) AS longest FROM otel_metrics_histogram WHERE {lag} GROUP BY time ORDER BY time""",
                    unit="ms",
                ),
            ]),
            (8, [
                series(
                    "Deliveries", "Verified deliveries that gave spans, from the webhook functions' own spans.",
                    f"""SELECT $__timeInterval(Timestamp) AS time, SpanName AS route,
                        uniqExact(TraceId, SpanId) AS deliveries FROM otel_traces WHERE {webhook}
                        GROUP BY time, route ORDER BY time, route""",
                    label="route", bars=True,
                ),
                series(
                    "Answer time, p95", "How long a provider waited for the answer. GitLab gives up after 10 s.",
                    f"""SELECT $__timeInterval(Timestamp) AS time, SpanName AS route,
                        quantile(0.95)(Duration) / 1e9 AS p95
                        FROM (SELECT * FROM otel_traces WHERE {webhook} LIMIT 1 BY TraceId, SpanId)
                        GROUP BY time, route ORDER BY time, route""",
                    unit="s", label="route",
                ),
            ]),
            (8, [
                series(
                    "Delivery lag as stored",
                    "From the end of a run to its row in ClickHouse. A redelivered run counts from its last delivery.",
                    f"""SELECT $__timeInterval(inserted_at) AS time,
                        quantile(0.5)(greatest(dateDiff('millisecond', end_timestamp, inserted_at), 0)) / 1e3 AS p50,
                        quantile(0.95)(greatest(dateDiff('millisecond', end_timestamp, inserted_at), 0)) / 1e3 AS p95
                        FROM ci_job_telemetry WHERE {stored} AND kind = 'run' GROUP BY time ORDER BY time""",
                    unit="s",
                ),
                series(
                    "Spans stored",
                    "CI spans by the time they were stored. A provider that falls silent may have lost its webhook.",
                    f"""SELECT $__timeInterval(inserted_at) AS time, provider, count() AS spans
                        FROM ci_job_telemetry WHERE {stored}
                        GROUP BY time, provider ORDER BY time, provider""",
                    label="provider", bars=True,
                ),
            ]),
            (7, [
                table(
                    "Providers", "How long ago the latest span of each provider was stored.",
                    f"""SELECT provider AS Provider, instance AS Instance, count() AS Spans,
                        uniqExact(trace_id) AS Runs, max(inserted_at) AS `Last stored`,
                        dateDiff('second', max(inserted_at), now64(3)) AS Age
                        FROM ci_job_telemetry WHERE {stored}
                        GROUP BY provider, instance ORDER BY Age DESC""",
                    units={"Age": "s"}, width=12,
                ),
                table(
                    "Duplicates",
                    "Spans that arrived more than once. Some are normal; the views count each once.",
                    """SELECT ServiceName AS Service, count() AS Rows, uniqExact(TraceId, SpanId) AS Spans,
                        1 - Spans / Rows AS Duplicates FROM otel_traces
                        WHERE $__timeFilter(Timestamp) AND ScopeName = 'spanhook'
                        GROUP BY ServiceName ORDER BY Rows DESC""",
                    units={"Duplicates": "percentunit"}, width=12,
                ),
            ]),
        ],
        period="now-24h",
    )


def release():
    of_this = f"FROM ci_builds WHERE correlation_id = {CORRELATION_ID}"
    # This build and the ten before it, of the same project and branch.
    builds = f"""(SELECT correlation_id, max(timestamp) AS built_at FROM ci_builds
        WHERE (repository, ref) IN (SELECT repository, ref {of_this}
            ORDER BY kind = 'build' DESC, timestamp DESC LIMIT 1)
        GROUP BY correlation_id HAVING built_at <= (SELECT max(timestamp) {of_this})
        ORDER BY built_at DESC LIMIT 11)"""
    these = f"correlation_id IN (SELECT correlation_id FROM {builds})"
    label = "concat(formatDateTime(max(timestamp), '%m-%d %H:%i '), correlation_id)"
    sizes = f"""(SELECT correlation_id, max(timestamp) AS built_at, {label.replace("max(timestamp)", "built_at")} AS label,
        sum(bundle_size) AS size FROM ({query("bundle_size")})
        GROUP BY correlation_id ORDER BY built_at DESC LIMIT 11)"""
    latency = query("latency_by_build")
    return dashboard(
        "spanhook-release", "CI release",
        "One build by its correlation id: what it made, how that compares with the ten builds before it on"
        " its branch, and how quick the app is at run time.",
        RELEASE_VARIABLES,
        [
            (4, [
                stat(
                    "Bundle size", "Everything that the build's bundlers made.",
                    f"SELECT sum(bundle_size) {of_this} AND kind = 'bundle'", "bytes",
                ),
                stat(
                    "Against the last ten",
                    "The size of the bundles against the median of the ten builds before, of the same"
                    " project and branch.",
                    f"""SELECT nullIf(anyIf(size, correlation_id = {CORRELATION_ID}), 0)
                        / nullIf(quantileExactIf(0.5)(size, correlation_id != {CORRELATION_ID}), 0) - 1
                        FROM {sizes}""",
                    "percentunit", [("green", None), ("yellow", 0.02), ("red", 0.1)],
                ),
                stat(
                    "Build duration", "As the job reported it.",
                    f"SELECT max(seconds) {of_this} AND kind = 'build'", "s",
                ),
                stat(
                    "API latency, p95",
                    "Of the slowest service that ran with this build, or was called by it, in the period.",
                    f"SELECT max(p95_seconds) FROM ({latency}) WHERE correlation_id = {CORRELATION_ID}", "s",
                ),
            ]),
            (8, [table(
                "This build", "What was reported with the correlation id: builds, bundles and artifacts.",
                f"""SELECT timestamp AS Done, kind AS Kind, repository AS Repository, ref AS Ref, revision AS Revision,
                    multiIf(kind = 'bundle', trim(concat(bundler, ' ', bundle)),
                        kind = 'artifact', trim(concat(artifact, ' ', variant)), '') AS Name,
                    result AS Result, error_type AS Error, nullIf(seconds, 0) AS Duration,
                    coalesce(bundle_size, artifact_size) AS Size, asset_count AS Assets,
                    chunk_count AS Chunks, trace_id AS Trace {of_this} ORDER BY timestamp, kind, Name""",
                units={"Duration": "s", "Size": "bytes"}, links={"Trace": trace_link()},
            )]),
            (9, [
                bars(
                    "Bundle size by build", "This build and the ten before it that have a size, the latest first.",
                    f"SELECT label AS Build, size AS Size FROM {sizes} ORDER BY built_at DESC", "bytes",
                ),
                bars(
                    "Largest assets", "And parts of artifacts, without the hashes of their names.",
                    f"SELECT name AS Asset, size AS Size FROM ({query('largest_assets')}) LIMIT 20", "bytes",
                ),
            ]),
            (9, [
                bars(
                    "Build duration by build", "This build and the ten before it, the latest first.",
                    f"""SELECT {label} AS Build, max(seconds) AS Duration FROM ci_builds
                        WHERE {these} AND kind = 'build' GROUP BY correlation_id
                        ORDER BY max(timestamp) DESC""",
                    "s",
                ),
                table(
                    "Artifact size by build", "This build and the ten before it, the latest first.",
                    f"""SELECT artifact AS Artifact, variant AS Variant, timestamp AS Done,
                        correlation_id AS `Correlation id`, artifact_version AS Version, artifact_size AS Size,
                        artifact_size - lagInFrame(toNullable(artifact_size)) OVER (
                            PARTITION BY artifact, variant ORDER BY timestamp
                            ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS Change
                        FROM ci_builds WHERE {these} AND kind = 'artifact'
                        ORDER BY artifact, variant, timestamp DESC""",
                    units={"Size": "bytes", "Change": "bytes"}, width=12,
                ),
            ]),
            (9, [table(
                "API latency by build",
                "Requests of the period with app.build_id, of this build and the ten before it: what clients"
                " measured, and what servers measured for these clients.",
                f"""SELECT built_at AS Built, correlation_id AS `Correlation id`, service_name AS Service,
                    service_version AS Version, kind AS Side, requests AS Requests, error_rate AS Errors,
                    p50_seconds AS p50, p95_seconds AS p95, bundle_bytes AS Bundle, artifact_bytes AS Artifacts
                    FROM ({latency}) ORDER BY Built DESC, Service, Version, Side""",
                units={"Errors": "percentunit", "p50": "s", "p95": "s", "Bundle": "bytes", "Artifacts": "bytes"},
            )]),
            (9, [table(
                "Failures", "Failed builds and bundles of this build and the ten before it, and failed jobs of their runs.",
                f"""SELECT * FROM (SELECT timestamp AS At, correlation_id AS `Correlation id`, kind AS Kind,
                    multiIf(kind = 'bundle', trim(concat(bundler, ' ', bundle)), repository) AS Name, result AS Result,
                    error_type AS Error, seconds AS Duration, trace_id AS Trace, '' AS job_url
                    FROM ci_builds WHERE {these} AND {FAILED}
                    UNION ALL
                    SELECT end_timestamp, correlation_id, kind, job, result, error_type,
                    duration_ns / 1e9 AS Duration, trace_id, job_url
                    FROM ci_job_telemetry
                    JOIN (SELECT DISTINCT correlation_id, repository, run_id FROM ci_builds WHERE {these}) AS runs
                        USING (repository, run_id)
                    WHERE kind = 'job' AND {FAILED}
                        AND run_id IN (SELECT run_id FROM ci_builds WHERE {these})
                    ) ORDER BY At DESC LIMIT 50""",
                units={"Duration": "s"}, links=JOB_LINKS, hidden=["job_url"],
            )]),
        ],
        period="now-30d",
    )


def build():
    """The dashboards by file name."""
    dashboards = [overview(), pipeline(), runners(), failures(), health(), release()]
    return {
        f"{it['uid'].removeprefix('spanhook-')}.json": json.dumps(it, indent=2) + "\n"
        for it in dashboards
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in build().items():
        (FOLDER / name).write_text(text)
