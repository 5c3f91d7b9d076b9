"""Saved objects of OpenSearch Dashboards 2.x, as it writes them itself when they are exported."""

import json

META = "opensearchDashboardsSavedObjectMeta"
SPANS, LOGS = "spanhook-spans", "spanhook-logs"
WIDTH = 48  # columns of a dashboard's grid
ALL = ""


def index_pattern(id, title, time, formats):
    attributes = {"title": title, "timeFieldName": time, "fieldFormatMap": text(formats)}
    return _object("index-pattern", "7.6.0", id, attributes, [])


def search(id, title, index, query, columns, sort):
    attributes = {"title": title, "description": "", "hits": 0, "version": 1, "columns": columns, "sort": [sort]}
    return _object("search", "7.9.3", id, *_source(attributes, index, query))


def histogram(id, title, index, query, value, metric, buckets, mode="stacked"):
    """Bars over time."""
    return _bars(id, title, index, query, value, metric, buckets, mode, "histogram", ("bottom", "left"))


def bars(id, title, index, query, value, metric, buckets, mode="normal"):
    """Bars that lie, so that names have room."""
    return _bars(id, title, index, query, value, metric, buckets, mode, "horizontal_bar", ("left", "bottom"))


def table(id, title, index, query, metrics, buckets):
    params = {
        "perPage": 20, "showPartialRows": False, "showMetricsAtAllLevels": False, "showTotal": False,
        "totalFunc": "sum", "percentageCol": "",
    }
    aggregations = _aggregations(metrics, buckets, ["bucket"] * len(buckets))
    return _visualization(id, title, "table", params, aggregations, index, query)


def controls(id, title, fields):
    """One list a field, of (number, field, label, size); the numbers are those of the first time they were saved."""
    listed = [
        {
            "id": number, "fieldName": field, "parent": "", "label": label, "type": "list",
            "options": {"type": "terms", "multiselect": True, "dynamicOptions": True, "size": size, "order": "desc"},
            "indexPatternRefName": f"control_{position}_index_pattern",
        }
        for position, (number, field, label, size) in enumerate(fields)
    ]
    params = {"controls": listed, "updateFiltersOnChange": True, "useTimeFilter": True, "pinFilters": False}
    references = [
        {"name": it["indexPatternRefName"], "type": "index-pattern", "id": SPANS} for it in listed
    ]
    return _visualization(id, title, "input_control_vis", params, [], None, ALL, references)


def vega(id, title, spec):
    return _visualization(id, title, "vega", {"spec": json.dumps(spec, ensure_ascii=False, indent=1)}, [], None, ALL)


def dashboard(id, title, description, since, rows):
    """Each row is its height and its panels, which share the width."""
    panels, references, y = [], [], 0
    for height, row in rows:
        for position, panel in enumerate(row):
            number = len(panels)
            width = WIDTH // len(row)
            grid = {"x": position * width, "y": y, "w": width, "h": height, "i": str(number + 1)}
            panels.append({
                "version": "2.19.0", "gridData": grid, "panelIndex": grid["i"], "embeddableConfig": {},
                "panelRefName": f"panel_{number}",
            })
            references.append({"name": f"panel_{number}", "type": panel["type"], "id": panel["id"]})
        y += height
    attributes = {
        "title": title, "description": description, "hits": 0, "version": 1, "timeRestore": True, "timeFrom": since,
        "timeTo": "now", "refreshInterval": {"pause": True, "value": 0},
        "optionsJSON": text({"hidePanelTitles": False, "useMargins": True}), "panelsJSON": text(panels),
    }
    attributes, _ = _source(attributes, None, ALL)
    return _object("dashboard", "7.9.3", id, attributes, references)


def count(label):
    return "count", {"customLabel": label}


def of(kind, field, label, **more):
    """avg, max or percentiles of a field."""
    return kind, {"field": field, **more, **({"customLabel": label} if label else {})}


def over_time(field):
    return "date_histogram", {
        "field": field, "useNormalizedOpenSearchInterval": True, "interval": "auto", "drop_partials": False,
        "min_doc_count": 1, "extended_bounds": {},
    }


def terms(field, size, label=None, by="1", other=False):
    """The values of a field: those with the most of metric `by`, or of an aggregation of its own."""
    params = {
        "field": field, "order": "desc", "size": size, "otherBucket": other, "otherBucketLabel": "Other",
        "missingBucket": False, "missingBucketLabel": "Missing", "orderBy": by,
    }
    if not isinstance(by, str):
        kind, order = by
        params |= {"orderBy": "custom", "orderAgg": {"enabled": True, "type": kind, "schema": "orderAgg", "params": order}}
    return "terms", params | ({"customLabel": label} if label else {})


def text(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _bars(id, title, index, query, value, metric, buckets, mode, kind, sides):
    labels = {"show": True, "rotate": 0, "filter": True, "truncate": 100}
    params = {
        "type": "histogram",
        "grid": {"categoryLines": False},
        "categoryAxes": [{
            "id": "CategoryAxis-1", "type": "category", "position": sides[0], "show": True, "style": {},
            "scale": {"type": "linear"}, "title": {},
            "labels": {"show": True, "filter": kind == "histogram", "truncate": 200},
        }],
        "valueAxes": [{
            "id": "ValueAxis-1", "name": f"{sides[1].capitalize()}Axis-1", "type": "value", "position": sides[1],
            "show": True, "style": {}, "scale": {"type": "linear", "mode": "normal"}, "labels": labels,
            "title": {"text": value},
        }],
        "seriesParams": [{
            "show": True, "type": "histogram", "mode": mode, "data": {"label": value, "id": "1"},
            "valueAxis": "ValueAxis-1", "drawLinesBetweenPoints": True, "showCircles": True,
        }],
        "addTooltip": True, "addLegend": True, "legendPosition": "right", "times": [], "addTimeMarker": False,
        "labels": {"show": False},
        "thresholdLine": {"show": False, "value": 10, "width": 1, "style": "full", "color": "#E7664C"},
    }
    aggregations = _aggregations([metric], buckets, ["segment", "group"])
    return _visualization(id, title, kind, params, aggregations, index, query)


def _aggregations(metrics, buckets, schemas):
    """Numbered from 1, the metrics first: `terms` refers to them by these numbers."""
    found = [(*metric, "metric") for metric in metrics]
    found += [(*bucket, schema) for bucket, schema in zip(buckets, schemas, strict=False)]
    aggregations = []
    for number, (kind, params, schema) in enumerate(found, 1):
        if "orderAgg" in params:
            params = {**params, "orderAgg": {"id": f"{number}-orderAgg", **params["orderAgg"]}}
        aggregations.append({"id": str(number), "enabled": True, "type": kind, "schema": schema, "params": params})
    return aggregations


def _visualization(id, title, kind, params, aggregations, index, query, references=()):
    state = {"title": title, "type": kind, "params": params, "aggs": aggregations}
    attributes = {"title": title, "description": "", "version": 1, "uiStateJSON": "{}", "visState": text(state)}
    attributes, own = _source(attributes, index, query)
    return _object("visualization", "7.10.0", id, attributes, [*own, *references])


def _source(attributes, index, query):
    """With what is searched, and the references for it."""
    source, references = {"query": {"query": query, "language": "kuery"}, "filter": []}, []
    if index:
        source["indexRefName"] = f"{META}.searchSourceJSON.index"
        references.append({"name": source["indexRefName"], "type": "index-pattern", "id": index})
    return {**attributes, META: {"searchSourceJSON": text(source)}}, references


def _object(kind, version, id, attributes, references):
    return {
        "id": id, "type": kind, "migrationVersion": {kind: version}, "attributes": attributes, "references": list(references),
    }
