"""What OpenSearch Dashboards 2.x makes of the saved objects of infra/opensearch: searches, and rows of their answers.

Written from its sources; each function names its place in them. What is not known here is an error, never left out.
https://github.com/opensearch-project/OpenSearch-Dashboards/tree/2.19
"""

import copy
import datetime
import json
import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "opensearch"
META = "opensearchDashboardsSavedObjectMeta"
OBJECTS = [json.loads(line) for line in (FOLDER / "dashboard.ndjson").read_text().splitlines()]
TIME_FIELDS = {it["id"]: it["attributes"]["timeFieldName"] for it in OBJECTS if it["type"] == "index-pattern"}
PATTERNS = {it["id"]: it["attributes"]["title"] for it in OBJECTS if it["type"] == "index-pattern"}


def saved(id):
    (item,) = [it for it in OBJECTS if it["id"] == id]
    return item


def state(visualization):
    return json.loads(visualization["attributes"]["visState"])


def kuery(text):
    """The query of a text in Dashboards' query language, as far as the saved objects use it: values and whether a
    field is there, `and`, `or`, `not` and brackets.

    src/plugins/data/common/opensearch_query/kuery
    """
    tokens = re.findall(r"[()]|[^\s():]+:|[^\s():]+", text)
    assert "".join(tokens) == re.sub(r"\s", "", text), text

    def either():
        found = [both()]
        while tokens[:1] == ["or"]:
            tokens.pop(0)
            found.append(both())
        return found[0] if len(found) == 1 else {"bool": {"should": found, "minimum_should_match": 1}}

    def both():
        found = [single()]
        while tokens[:1] == ["and"]:
            tokens.pop(0)
            found.append(single())
        return found[0] if len(found) == 1 else {"bool": {"filter": found}}

    def single():
        token = tokens.pop(0)
        if token == "not":
            return {"bool": {"must_not": single()}}
        if token == "(":
            inner = either()
            assert tokens.pop(0) == ")", text
            return inner
        assert token.endswith(":"), f"{token} in {text}"
        field, value = token[:-1], tokens.pop(0)
        assert value == "*" or not re.search(r'[*"\\<>]', value), f"{value} in {text}"
        condition = {"exists": {"field": field}} if value == "*" else {"match": {field: value}}
        return {"bool": {"should": [condition], "minimum_should_match": 1}}

    if not tokens:
        return {"match_all": {}}
    query = either()
    assert not tokens, text
    return query


def chosen(field, value):
    """The filter of a control in which one value was chosen.

    src/plugins/input_control_vis/public/control/filter_manager/phrase_filter_manager.ts
    """
    return {"match_phrase": {field: value}}


class Period:
    """The time range that is set, in seconds since 1970."""

    def __init__(self, since, until):
        self.since, self.until = since, until

    def range(self):
        return {"gte": _iso(self.since), "lte": _iso(self.until), "format": "strict_date_optional_time"}

    def interval(self):
        """Of `auto`: some fifty bars.

        src/plugins/data/common/search/aggs/buckets/lib/time_buckets/calc_auto_interval.ts
        """
        hours = (self.until - self.since) / 3600 / 50
        assert 2.5 <= hours <= 3.5, "only a week is known here"
        return "3h"


def condition(query, filters, time_field, period):
    """The query of a panel: its own, the dashboard's filters, and the time range.

    src/plugins/data/common/opensearch_query/opensearch_query/build_opensearch_query.ts
    """
    found = [query, *filters, {"range": {time_field: period.range()}}]
    return {"bool": {"must": [], "filter": found, "should": [], "must_not": []}}


def source(item):
    """The index pattern that is searched, and the query."""
    search = json.loads(item["attributes"][META]["searchSourceJSON"])
    assert search["query"]["language"] == "kuery" and search["filter"] == []
    (index,) = [it["id"] for it in item["references"] if it["name"] == search["indexRefName"]]
    return index, kuery(search["query"]["query"])


def documents(node, item, filters, period):
    """The rows of a saved search: a value for each of its columns.

    src/plugins/discover; a column of a document is found by its dotted name.
    """
    index, query = source(item)
    (field, order) = item["attributes"]["sort"][0]
    body = {
        "size": 500, "version": True, "_source": {"excludes": []}, "stored_fields": ["*"],
        "sort": [{field: {"order": order, "unmapped_type": "boolean"}}],
        "query": condition(query, filters, TIME_FIELDS[index], period),
    }
    hits = node.search(PATTERNS[index], body)["hits"]["hits"]
    return [{column: _value(hit["_source"], column) for column in item["attributes"]["columns"]} for hit in hits]


def options(node, item, number, filters, period):
    """What a list of the controls offers.

    src/plugins/input_control_vis/public/control/list_control_factory.ts
    """
    params = state(item)["params"]
    assert params["useTimeFilter"]
    control = params["controls"][number]
    (index,) = [it["id"] for it in item["references"] if it["name"] == control["indexPatternRefName"]]
    given = control["options"]
    assert control["type"] == "list" and given["type"] == "terms" and given["dynamicOptions"]
    terms = {"field": control["fieldName"], "size": given["size"], "order": {"_count": given["order"]}}
    body = {
        "size": 0, "aggs": {"termsAgg": {"terms": terms}},
        "query": condition({"match_all": {}}, filters, TIME_FIELDS[index], period),
    }
    buckets = node.search(PATTERNS[index], body)["aggregations"]["termsAgg"]["buckets"]
    return [it["key"] for it in buckets]


def rows(node, item, filters, period):
    """The rows of a chart or table: what the buckets are of, then the metrics, in the order of the saved object."""
    index, query = source(item)
    aggregations = [it for it in state(item)["aggs"] if it["enabled"]]
    metrics = [it for it in aggregations if it["schema"] == "metric"]
    buckets = [it for it in aggregations if it["schema"] in ("segment", "group", "bucket")]
    assert metrics + buckets == aggregations
    body = {
        "size": 0, "query": condition(query, filters, TIME_FIELDS[index], period),
        "aggs": _nested(metrics, buckets, period),
    }
    answer = node.search(PATTERNS[index], body)["aggregations"]
    return list(_flat(answer, metrics, buckets))


def _nested(metrics, buckets, period):
    """src/plugins/data/common/search/aggs/agg_configs.ts: each bucket within the one before, the metrics in all."""
    found = {it["id"]: _metric(it) for it in metrics if it["type"] != "count"}
    if not buckets:
        return found
    first, *rest = buckets
    body, order = _bucket(first, metrics, period)
    return {first["id"]: {**body, "aggs": {**_nested(metrics, rest, period), **order, **found}}}


def _metric(aggregation):
    """src/plugins/data/common/search/aggs/metrics"""
    kind, params = aggregation["type"], dict(aggregation["params"])
    params.pop("customLabel", None)
    if kind in ("avg", "max") and params.keys() == {"field"}:
        return {kind: params}
    if kind == "percentiles" and params.keys() == {"field", "percents"}:
        return {kind: {**params, "keyed": False}}
    raise AssertionError(f"unknown here: {aggregation}")


def _bucket(aggregation, metrics, period):
    """The aggregation, and the metric that it is sorted by where that is its own.

    src/plugins/data/common/search/aggs/buckets
    """
    kind, params = aggregation["type"], dict(aggregation["params"])
    params.pop("customLabel", None)
    if kind == "date_histogram":
        expected = {
            "useNormalizedOpenSearchInterval": True, "interval": "auto", "drop_partials": False, "extended_bounds": {},
        }
        assert {key: params.pop(key) for key in expected} == expected
        assert params.keys() == {"field", "min_doc_count"}, aggregation
        return {kind: {**params, "fixed_interval": period.interval(), "time_zone": "UTC"}}, {}
    assert kind == "terms", f"unknown here: {aggregation}"
    by, direction, own = params.pop("orderBy"), params.pop("order"), {}
    params.pop("otherBucketLabel"), params.pop("missingBucketLabel")
    # A second request for what is beyond `size`: _flat() makes sure that here is nothing.
    params.pop("otherBucket")
    assert params.pop("missingBucket") is False
    if by == "custom":
        order = params.pop("orderAgg")
        by = "_count" if order["type"] == "count" else order["id"]
        own = {} if by == "_count" else {by: _metric(order)}
    elif {it["id"]: it["type"] for it in metrics}[by] == "count":
        by = "_count"
    else:
        assert {it["id"]: it["type"] for it in metrics}[by] in ("avg", "max")
    assert params.keys() == {"field", "size"}, aggregation
    return {"terms": {**params, "order": {by: direction}}}, own


def _flat(answer, metrics, buckets, keys=()):
    """src/plugins/data/common/search/tabify"""
    if not buckets:
        yield (*keys, *(value for it in metrics for value in _values(answer, it)))
        return
    first, *rest = buckets
    found = answer[first["id"]]
    if first["params"].get("otherBucket"):
        assert found["sum_other_doc_count"] == 0
    for bucket in found["buckets"]:
        yield from _flat(bucket, metrics, rest, (*keys, bucket.get("key_as_string", bucket["key"])))


def _values(answer, metric):
    if metric["type"] == "count":
        return [answer["doc_count"]]
    found = answer[metric["id"]]
    return [it["value"] for it in found["values"]] if metric["type"] == "percentiles" else [found["value"]]


def vega(node, parts, item, filters, period):
    """The Vega specification with the answers in place of its searches, run: its data sets, and the picture.

    src/plugins/vis_type_vega/public/data_model/opensearch_query_parser.ts
    """
    spec = json.loads(state(item)["params"]["spec"])
    context = {"must": [], "filter": [{"match_all": {}}, *filters], "should": [], "must_not": []}
    for data in spec["data"]:
        url = data.pop("url", None)
        if url is None:
            continue
        assert url.keys() == {"index", "body"} and "%" not in json.dumps(url["body"]["aggs"])
        body = {**url["body"], "query": _inject(url["body"]["query"], context, period)}
        assert "%" not in json.dumps(body)
        data["values"] = node.search(url["index"], body)
    # Dashboards sizes it to the panel.
    spec |= {"width": 700, "height": 300, "autosize": {"type": "fit", "contains": "padding"}}
    names = [it["name"] for it in spec["data"]]
    command = ["node", pathlib.Path(__file__).parent / "vega.cjs", *names]
    env = {"PATH": os.environ["PATH"], "NODE_PATH": str(parts / "vega" / "node_modules")}
    done = subprocess.run(command, input=json.dumps(spec), env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["problems"] == [], answer["problems"]
    return answer["data"], answer["svg"]


def searches(item):
    """(index, body) of each search of a Vega specification."""
    data = json.loads(state(item)["params"]["spec"])["data"]
    return [(it["url"]["index"], it["url"]["body"]) for it in data if "url" in it]


def _inject(query, context, period):
    if isinstance(query, list):
        found = []
        for it in query:
            clause = isinstance(it, str) and re.fullmatch(r"%dashboard_context-(must|filter|must_not)_clause%", it)
            found += copy.deepcopy(context[clause[1]]) if clause else [_inject(it, context, period)]
        return found
    if isinstance(query, dict):
        if query == {"%timefilter%": True}:
            return period.range()
        return {key: _inject(it, context, period) for key, it in query.items()}
    return query


def _iso(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _value(document, name):
    """The value at a dotted name; keys have dots of their own."""
    if name in document:
        return document[name]
    for end in (at.start() for at in re.finditer(r"\.", name)):
        inner = document.get(name[:end])
        if isinstance(inner, dict) and (found := _value(inner, name[end + 1:])) is not None:
            return found
    return None
