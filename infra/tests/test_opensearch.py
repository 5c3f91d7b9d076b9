"""The files of ../opensearch fit each other: template, pipeline, policy and dashboard."""

import fnmatch
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "opensearch"
SNAPSHOTS = ROOT / "shared" / "core" / "tests" / "snapshots"
META = "opensearchDashboardsSavedObjectMeta"

TEMPLATE = json.loads((FOLDER / "index-template.json").read_text())
PIPELINE = json.loads((FOLDER / "ingest-pipeline.json").read_text())
POLICY = json.loads((FOLDER / "ism-policy.json").read_text())["policy"]
OBJECTS = [json.loads(line) for line in (FOLDER / "dashboard.ndjson").read_text().splitlines()]
MAPPINGS = TEMPLATE["template"]["mappings"]


def flatten(properties, prefix=""):
    for name, field in properties.items():
        if "type" in field and field["type"] != "nested":
            yield prefix + name, field["type"]
        yield from flatten(field.get("properties", {}), f"{prefix}{name}.")


FIELDS = dict(flatten(MAPPINGS["properties"]))


def field_type(name):
    """The type that the template gives a field, as text if it isn't listed."""
    if name in FIELDS:
        return FIELDS[name]
    if not name.startswith(("attributes.", "resource.")):
        return None
    for template in MAPPINGS["dynamic_templates"]:
        (rule,) = template.values()
        if rule["match_mapping_type"] == "string" and fnmatch.fnmatch(name.split(".")[-1], rule.get("match", "*")):
            return rule["mapping"]["type"]
    return None


def of_type(kind):
    return [it for it in OBJECTS if it["type"] == kind]


def state(visualization):
    return json.loads(visualization["attributes"]["visState"])


def fields_of(item):
    """(field, needs to be counted or sorted by)"""
    attributes = item["attributes"]
    if item["type"] == "index-pattern":
        yield attributes["timeFieldName"], True
        for name in json.loads(attributes["fieldFormatMap"]):
            yield name, False
    if item["type"] == "search":
        for name in attributes["columns"]:
            yield name, False
        for name, _ in attributes["sort"]:
            yield name, True
    if item["type"] == "visualization":
        for control in state(item)["params"].get("controls", []):
            yield control["fieldName"], True
        for aggregation in state(item)["aggs"]:
            if "field" in aggregation["params"]:
                yield aggregation["params"]["field"], True
    if META in attributes:
        query = json.loads(attributes[META]["searchSourceJSON"])["query"]
        assert query["language"] == "kuery"
        for name in re.findall(r"([\w.@]+)\s*:", query["query"]):
            yield name, False


USED = sorted({(item["id"], *it) for item in OBJECTS for it in fields_of(item)})


def emitted():
    """What spanhook puts on spans and resources, by its own snapshots."""
    text = "".join(it.read_text() for it in SNAPSHOTS.glob("*.snap"))
    return set(re.findall(r"^  ([a-z_.]+) = ", text, re.M))


@pytest.mark.parametrize("item, field, counted", USED)
def test_a_field_of_the_dashboard_is_mapped(item, field, counted):
    kind = field_type(field)
    assert kind, field
    if counted:
        assert kind in ("keyword", "long", "double", "date", "date_nanos"), f"{field} is {kind}"


@pytest.mark.parametrize("field", sorted({field for _, field, _ in USED if field.startswith(("attributes.", "resource."))}))
def test_a_field_of_the_dashboard_is_emitted(field):
    name = field.partition(".")[2]
    # The correlation id comes with build events, which have no snapshot in this folder.
    assert name in emitted() | {"spanhook.correlation_id"}


def test_ids_are_unique_and_references_resolve():
    known = [(it["type"], it["id"]) for it in OBJECTS]
    assert len(known) == len(set(known))
    for item in OBJECTS:
        for reference in item["references"]:
            assert (reference["type"], reference["id"]) in known


def test_names_of_references_are_the_ones_used():
    for item in OBJECTS:
        attributes = item["attributes"]
        used = re.findall(r'"(?:indexRefName|indexPatternRefName|panelRefName)":"([^"]+)"', "".join(
            [attributes.get("visState", ""), attributes.get("panelsJSON", ""), attributes.get(META, {}).get("searchSourceJSON", "")]
        ))
        assert sorted(used) == sorted(it["name"] for it in item["references"])


def test_every_object_is_on_the_dashboard():
    (dashboard,) = of_type("dashboard")
    shown = {(it["type"], it["id"]) for it in dashboard["references"]}
    assert shown == {(it["type"], it["id"]) for it in OBJECTS if it["type"] in ("visualization", "search")}


def test_panels_do_not_overlap():
    (dashboard,) = of_type("dashboard")
    cells = set()
    for panel in json.loads(dashboard["attributes"]["panelsJSON"]):
        grid = panel["gridData"]
        assert grid["x"] + grid["w"] <= 48
        mine = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        assert not mine & cells
        cells |= mine


def test_the_dashboard_filters_by_run_and_correlation_id():
    (controls,) = [it for it in of_type("visualization") if state(it)["type"] == "input_control_vis"]
    fields = [it["fieldName"] for it in state(controls)["params"]["controls"]]
    assert "resource.cicd.pipeline.run.id" in fields
    assert "attributes.spanhook.correlation_id" in fields


def test_sub_aggregations_and_order_refer_to_aggregations():
    for item in of_type("visualization"):
        ids = {it["id"] for it in state(item)["aggs"]}
        assert len(ids) == len(state(item)["aggs"])
        for aggregation in state(item)["aggs"]:
            assert aggregation["params"].get("orderBy", "_key") in ids | {"_key", "custom"}


def test_all_files_mean_the_same_indices():
    (pattern,) = TEMPLATE["index_patterns"]
    assert [it["attributes"]["title"] for it in of_type("index-pattern")] == [pattern]
    assert [it["index_patterns"] for it in POLICY["ism_template"]] == [[pattern]]
    readme = (FOLDER / "README.md").read_text()
    assert f"_ingest/pipeline/{TEMPLATE['template']['settings']['index']['default_pipeline']} " in readme
    variable, index = re.search(r"(OPENSEARCH_INDEX)=(\S+)", readme).groups()
    assert fnmatch.fnmatch(f"{index}-2026.11.21", pattern)
    collector = (ROOT / "infra" / "collector" / "opensearch.yaml").read_text()
    assert f"env:{variable}:" in collector and "traces_index_time_format: yyyy.MM.dd" in collector


def test_the_policy_ends_in_deletion():
    states = {it["name"]: it for it in POLICY["states"]}
    assert POLICY["default_state"] in states
    targets = {to["state_name"] for it in states.values() for to in it["transitions"]}
    assert targets <= states.keys()
    assert any("delete" in action for name in targets for action in states[name]["actions"])


def test_the_pipeline_fills_what_the_exporter_leaves_out():
    text = json.dumps(PIPELINE)
    for field in ("@timestamp", "_id", "durationInNanos"):
        assert field in text
    assert FIELDS["durationInNanos"] == "long"
    for field in re.findall(r"\{\{\{(\w+)\}\}\}|ctx\.(\w+)", text):
        assert "".join(field) in FIELDS


def test_no_emitted_attribute_is_a_value_and_a_group():
    names = emitted()
    for name in names:
        parts = name.split(".")
        assert not {".".join(parts[:end]) for end in range(1, len(parts))} & names
