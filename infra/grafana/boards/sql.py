"""What the dashboards' queries have in common."""

import json
import pathlib
import urllib.parse

from .panels import DATASOURCE, PLUGIN, variable

QUERIES = pathlib.Path(__file__).parents[2] / "clickhouse" / "queries"

# The datasource drops a condition where its variable is at All.
PROVIDER = "$__conditionalAll(provider IN (${provider:singlequote}), $provider)"
REPOSITORY = "$__conditionalAll(repository IN (${repository:singlequote}), $repository)"
PIPELINE = "$__conditionalAll(pipeline IN (${pipeline:singlequote}), $pipeline)"
SELECTED = f"$__timeFilter(timestamp) AND {PROVIDER} AND {REPOSITORY} AND {PIPELINE}"
ONE_PIPELINE = f"{PROVIDER} AND repository = ${{repository:singlequote}} AND pipeline = ${{pipeline:singlequote}}"
ONE = f"$__timeFilter(timestamp) AND {ONE_PIPELINE}"
FAILED = "result IN ('failure', 'error', 'timeout')"
# What was skipped took no time, and would make everything look quick.
RAN = "result != 'skip'"
CORRELATION_ID = "${correlation_id:singlequote}"
# A run that was cancelled or skipped says nothing of the pipeline's health.
SUCCESS_RATE = f"countIf(result = 'success') / nullIf(countIf(result = 'success' OR {FAILED}), 0)"


def seconds(level, column="duration_ns"):
    return f"quantile({level})({column}) / 1e9"


def query(name):
    """A query of ../../clickhouse/queries, with the dashboard's variables as its parameters."""
    lines = (QUERIES / f"{name}.sql").read_text().splitlines()
    sql = "\n".join(line for line in lines if not line.strip().startswith("--")).rstrip(";\n")
    for parameter, value in {
        "({repository:String} = '' OR repository = {repository:String})": REPOSITORY,
        "({pipeline:String} = '' OR pipeline = {pipeline:String})": PIPELINE,
        "{correlation_id:String}": CORRELATION_ID,
        "{from:DateTime}": "$__fromTime",
        "{to:DateTime}": "$__toTime",
    }.items():
        sql = sql.replace(parameter, value)
    return sql


def choice(name, label, conditions, several=True):
    """A variable of the values of a column."""
    # What is no run and no job, such as an event, may have no pipeline.
    conditions = ["$__timeFilter(timestamp)", "kind IN ('run', 'job')", *conditions]
    # Without FINAL: a span that is stored twice adds no new value.
    return variable(
        name, label,
        f"SELECT DISTINCT {name} FROM ci_job_telemetry_traces"
        f" WHERE {' AND '.join(conditions)} ORDER BY {name}",
        several,
    )


VARIABLES = [
    choice("provider", "Provider", []),
    choice("repository", "Repository", [PROVIDER]),
    choice("pipeline", "Pipeline", [PROVIDER, REPOSITORY]),
]
ONE_VARIABLES = [
    choice("provider", "Provider", []),
    choice("repository", "Repository", [PROVIDER], several=False),
    choice("pipeline", "Pipeline", [PROVIDER, "repository = ${repository:singlequote}"], several=False),
]


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
    target = {
        "refId": "A", "datasource": {"type": PLUGIN, "uid": "SOURCE"}, "editorType": "sql",
        "queryType": "traces", "format": 3, "rawSql": " ".join(sql.split()),
    }
    pane = {"datasource": "SOURCE", "queries": [target], "range": {"from": "FROM", "to": "UNTIL"}}
    panes = urllib.parse.quote(json.dumps({"trace": pane}, separators=(",", ":")), safe="")
    # Grafana fills these in, and does not find them when they are percent-encoded.
    for word, variable in {
        "%27TRACE%27": "%27${__value.raw}%27",
        "%22SOURCE%22": f"%22{DATASOURCE.uid}%22",
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
