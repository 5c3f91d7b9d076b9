"""A build against the ten builds of its project before it, as Vega.

A filter of the dashboard keeps the other builds out of every other kind of panel. Here it only scores: what it lets
through has a `_score` above 0. The build is the latest of these, so without a choice the latest of all.

https://docs.opensearch.org/2.19/dashboards/visualize/vega/
"""

MOST = 1000  # builds of the period that are looked at, the latest first
BEFORE = 10
CHOSEN = {
    "constant_score": {
        "filter": {
            "bool": {
                "must": ["%dashboard_context-must_clause%"],
                "filter": ["%dashboard_context-filter_clause%"],
                "must_not": ["%dashboard_context-must_not_clause%"],
            }
        }
    }
}
# An axis of the data themselves would complain when there are none.
UP_TO_MOST = {"signal": "[0, length(data('most')) && data('most')[0].value || 1]"}
BLUE, GREY, RED = "#006BB4", "#98A2B3", "#BD271E"


def chunks():
    of_chunk = {
        "size": {"max": {"field": "attributes.build.chunk.size"}},
        "modules": {"max": {"field": "attributes.build.chunk.modules"}},
    }
    # Of a bundle at most ten chunks are reported; a build may have several bundles.
    by_name = {"terms": {"field": "attributes.build.chunk.name", "size": 30}, "aggs": of_chunk}
    sizes = {
        "name": "sizes",
        "url": {
            "index": "ss4o_logs-ci-*",
            "body": {
                "size": 0,
                "query": {"bool": {"filter": [in_time("@timestamp"), exists("attributes.build.chunk.size")]}},
                "aggs": {"builds": {**by_build("@timestamp"), "aggs": {"at": latest("@timestamp"), "chunks": by_name}}},
            },
        },
        "format": {"property": "aggregations.builds.buckets"},
        "transform": [
            {"type": "flatten", "fields": ["chunks.buckets"], "as": ["chunk"]},
            {"type": "lookup", "from": "near", "key": "id", "fields": ["key"], "values": ["rank"], "as": ["rank"]},
            {"type": "filter", "expr": "datum.rank != null"},
            formula("name", "datum.chunk.key"),
            formula("size", "datum.chunk.size.value"),
            formula("modules", "datum.chunk.modules.value"),
        ],
    }
    before = {
        "name": "before",
        "source": "sizes",
        "transform": [
            {"type": "filter", "expr": "datum.rank > 1"},
            {
                "type": "aggregate", "groupby": ["name"], "fields": ["size", "size"], "ops": ["median", "count"],
                "as": ["median", "builds"],
            },
        ],
    }
    now = {
        "name": "now",
        "source": "sizes",
        "transform": [
            {"type": "filter", "expr": "datum.rank == 1"},
            {
                "type": "lookup", "from": "before", "key": "name", "fields": ["name"], "values": ["median", "builds"],
                "as": ["median", "builds"],
            },
            formula("change", "datum.median == null ? null : datum.size / datum.median - 1"),
            formula(
                "told",
                "format(datum.size, ',') + (datum.change == null ? ', new' : ', ' + format(datum.change, '+.1%'))",
            ),
            {"type": "collect", "sort": {"field": "size", "order": "descending"}},
        ],
    }
    tooltip = {"signal": (
        "{chunk: datum.name, size: format(datum.size, ','), modules: datum.modules,"
        " 'median of the builds before': datum.median == null ? 'none' : format(datum.median, ',')}"
    )}
    row = {"scale": "y", "field": "name"}
    return spec(
        [*builds(), sizes, before, now, most("sizes", "size")],
        [
            {"name": "x", "type": "linear", "range": "width", "domain": UP_TO_MOST, "nice": True},
            {"name": "y", "type": "band", "range": "height", "padding": 0.3, "domain": {"data": "now", "field": "name"}},
        ],
        [
            {"scale": "x", "orient": "bottom", "format": "s", "title": "Bytes: this build, and as dots the ten before"},
            {"scale": "y", "orient": "left"},
        ],
        [
            mark(
                "rect", "now", fill={"value": BLUE}, x={"scale": "x", "value": 0}, x2={"scale": "x", "field": "size"},
                y=row, height={"scale": "y", "band": 1}, tooltip=tooltip,
            ),
            mark(
                "symbol", "sizes", fill={"value": GREY}, size={"value": 30}, x={"scale": "x", "field": "size"},
                y={**row, "band": 0.5},
                tooltip={"signal": "{build: datum.key, chunk: datum.name, size: format(datum.size, ',')}"},
                # Chunks that this build doesn't have have no row.
                opacity={"signal": "datum.rank > 1 && indata('now', 'name', datum.name) ? 0.9 : 0"},
            ),
            mark(
                "text", "now", text={"field": "told"}, x={"scale": "x", "field": "size", "offset": 6},
                y={**row, "band": 0.5}, baseline={"value": "middle"},
                fill={"signal": f"datum.change > 0.02 ? '{RED}' : '{GREY}'"},
            ),
        ],
    )


def durations():
    tooltip = {"signal": "{build: datum.id, project: datum.project, seconds: datum.seconds, result: datum.result}"}
    return spec(
        [*builds(), {
            "name": "now", "source": "near",
            "transform": [
                {"type": "filter", "expr": "datum.seconds != null"},
                {"type": "collect", "sort": {"field": "built"}},
            ],
        }, most("now", "seconds")],
        [
            {"name": "x", "type": "band", "range": "width", "padding": 0.2, "domain": {"data": "now", "field": "id"}},
            {"name": "y", "type": "linear", "range": "height", "domain": UP_TO_MOST, "nice": True},
        ],
        [
            {"scale": "x", "orient": "bottom", "labelAngle": -30, "labelAlign": "right", "labelLimit": 120},
            {"scale": "y", "orient": "left", "title": "Seconds"},
        ],
        [mark(
            "rect", "now", x={"scale": "x", "field": "id"}, width={"scale": "x", "band": 1},
            y={"scale": "y", "field": "seconds"}, y2={"scale": "y", "value": 0}, tooltip=tooltip,
            fill={"signal": f"datum.result == 'failure' ? '{RED}' : datum.rank == 1 ? '{BLUE}' : '{GREY}'"},
        )],
    )


def builds():
    """The data sets `builds`, `this` and `near`: this build, of rank 1, and those before it."""
    # What webhooks tell of a run names another pipeline where a repository has several.
    reported = {"bool": {
        "filter": [in_time("startTime"), exists("resource.correlation_id")],
        "must_not": [exists("attributes.spanhook.kind")],
        "should": [CHOSEN],
    }}
    of_build = {
        "at": latest("startTime"),
        "built": latest("endTime"),
        "chosen": {"max": {"script": {"source": "_score"}}},
        "project": first("resource.cicd.pipeline.name"),
        "own": {
            "filter": {"prefix": {"name": "build "}},
            "aggs": {"length": {"max": {"field": "durationInNanos"}}, "result": first("attributes.cicd.pipeline.result")},
        },
    }
    return [
        {
            "name": "builds",
            "url": {
                "index": "ss4o_traces-ci-*",
                "body": {"size": 0, "query": reported, "aggs": {"builds": {**by_build("startTime"), "aggs": of_build}}},
            },
            "format": {"property": "aggregations.builds.buckets"},
            "transform": [
                formula("id", "datum.key"),
                formula("built", "datum.built.value"),
                formula("chosen", "datum.chosen.value > 0"),
                formula("project", "length(datum.project.buckets) ? datum.project.buckets[0].key : ''"),
                formula("seconds", "datum.own.doc_count ? datum.own.length.value / 1e9 : null"),
                formula("result", "length(datum.own.result.buckets) ? datum.own.result.buckets[0].key : ''"),
            ],
        },
        {
            "name": "this",
            "source": "builds",
            "transform": [
                {"type": "filter", "expr": "datum.chosen"}, *ranked("latest"),
                {"type": "filter", "expr": "datum.latest == 1"},
            ],
        },
        {
            "name": "near",
            "source": "builds",
            "transform": [
                {
                    "type": "lookup", "from": "this", "key": "project", "fields": ["project"],
                    "values": ["id", "built"], "as": ["this", "until"],
                },
                # Of no project a build has no neighbours.
                {"type": "filter", "expr": "datum.id == datum.this || (datum.project && datum.built < datum.until)"},
                *ranked("rank"),
                {"type": "filter", "expr": f"datum.rank <= {BEFORE + 1}"},
            ],
        },
    ]


def most(source, field):
    """The data set of the end of an axis."""
    return {
        "name": "most", "source": source,
        "transform": [{"type": "aggregate", "fields": [field], "ops": ["max"], "as": ["value"]}],
    }


def ranked(name):
    return [{"type": "window", "sort": {"field": "built", "order": "descending"}, "ops": ["row_number"], "as": [name]}]


def by_build(time):
    return {"terms": {"field": "correlation_id", "size": MOST, "order": {"at": "desc"}}}


def latest(field):
    return {"max": {"field": field}}


def first(field):
    return {"terms": {"field": field, "size": 1}}


def exists(field):
    return {"exists": {"field": field}}


def in_time(field):
    return {"range": {field: {"%timefilter%": True}}}


def formula(name, expression):
    return {"type": "formula", "as": name, "expr": expression}


def mark(kind, data, **encoded):
    return {"type": kind, "from": {"data": data}, "encode": {"update": encoded}}


def spec(data, scales, axes, marks):
    return {
        "$schema": "https://vega.github.io/schema/vega/v5.json",
        "padding": 8,
        "data": data,
        "scales": scales,
        "axes": axes,
        "marks": marks,
    }
