"""The files of ../opensearch fit each other: templates, pipelines, policy and dashboards."""

import fnmatch
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "opensearch"
SNAPSHOTS = ROOT / "shared" / "core" / "tests"
META = "opensearchDashboardsSavedObjectMeta"

TEMPLATE, LOGS_TEMPLATE = (
    json.loads((FOLDER / name).read_text()) for name in ("index-template.json", "logs-index-template.json")
)
PIPELINE, LOGS_PIPELINE = (
    json.loads((FOLDER / name).read_text()) for name in ("ingest-pipeline.json", "logs-ingest-pipeline.json")
)
POLICY = json.loads((FOLDER / "ism-policy.json").read_text())["policy"]
OBJECTS = [json.loads(line) for line in (FOLDER / "dashboard.ndjson").read_text().splitlines()]
MAPPINGS = {
    "spanhook-spans": TEMPLATE["template"]["mappings"],
    "spanhook-logs": LOGS_TEMPLATE["template"]["mappings"],
}


def flatten(properties, prefix=""):
    for name, field in properties.items():
        if "type" in field and field["type"] != "nested":
            yield prefix + name, field["type"]
        yield from flatten(field.get("properties", {}), f"{prefix}{name}.")


FIELDS = {index: dict(flatten(it["properties"])) for index, it in MAPPINGS.items()}


def field_type(index, name):
    """The type that the template of an index pattern gives a field, as text if it isn't listed."""
    if name in FIELDS[index]:
        return FIELDS[index][name]
    if not name.startswith(("attributes.", "resource.")):
        return None
    for template in MAPPINGS[index]["dynamic_templates"]:
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


def index_of(item):
    """The index pattern that an object reads."""
    (index,) = {it["id"] for it in item["references"] if it["type"] == "index-pattern"} or {item["id"]}
    return index


USED = sorted({
    (item["id"], index_of(item), *it)
    for item in OBJECTS if item["type"] != "dashboard"
    for it in fields_of(item)
})


def emitted():
    """What spanhook puts on resources, and on spans and log records, by its own snapshots."""
    found = {"resource": set(), "attributes": set()}
    for path in SNAPSHOTS.rglob("*.snap"):
        section = None
        for line in path.read_text().splitlines():
            if not line.startswith(" "):
                section = "resource" if line == "resource" else "attributes"
            elif it := re.match(r"  ([a-z0-9_.]+) = ", line):
                found[section].add(it[1])
    # A name of a bundle is in no sample; the mapping tells bundles of one build apart by it.
    return {**found, "attributes": found["attributes"] | {"build.bundle.name"}}


@pytest.mark.parametrize("item, index, field, counted", USED)
def test_a_field_of_the_dashboard_is_mapped(item, index, field, counted):
    kind = field_type(index, field)
    assert kind, field
    if counted:
        assert kind in ("keyword", "long", "double", "date", "date_nanos"), f"{field} is {kind}"


@pytest.mark.parametrize("field", sorted({field for _, _, field, _ in USED if field.startswith(("attributes.", "resource."))}))
def test_a_field_of_the_dashboard_is_emitted(field):
    assert field.partition(".")[2] in emitted()[field.partition(".")[0]]


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


def test_every_object_is_on_a_dashboard():
    shown = {(it["type"], it["id"]) for dashboard in of_type("dashboard") for it in dashboard["references"]}
    assert shown == {(it["type"], it["id"]) for it in OBJECTS if it["type"] in ("visualization", "search")}


@pytest.mark.parametrize("dashboard", of_type("dashboard"), ids=lambda it: it["id"])
def test_panels_do_not_overlap(dashboard):
    cells = set()
    for panel in json.loads(dashboard["attributes"]["panelsJSON"]):
        grid = panel["gridData"]
        assert grid["x"] + grid["w"] <= 48
        mine = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        assert not mine & cells
        cells |= mine


def queries():
    return {
        it["id"]: json.loads(it["attributes"][META]["searchSourceJSON"])["query"]["query"]
        for it in OBJECTS if META in it["attributes"]
    }


def test_runs_jobs_and_steps_are_told_apart_by_what_a_span_says_it_is():
    kinds = {id: re.findall(r"attributes\.spanhook\.kind: (\w+)", text) for id, text in queries().items()}
    assert {id: found for id, found in kinds.items() if found} == {
        "spanhook-results": ["run"],
        "spanhook-durations": ["run"],
        "spanhook-failures": ["job"],
        "spanhook-steps": ["step"],
        "spanhook-pulls": ["pull"],
        "spanhook-scheduling": ["schedule"],
    }
    snapshots = "".join(path.read_text() for path in SNAPSHOTS.rglob("*samples__*.snap"))
    assert all(f'spanhook.kind = "{kind}"' in snapshots for (kind,) in filter(None, kinds.values()))


def test_no_file_names_a_provider():
    text = "".join(path.read_text() for path in FOLDER.glob("*json")).lower()
    assert not [it for it in ("circleci", "gitlab", "github", "kubernetes", "tekton", "lighthouse") if it in text]


def filters(dashboard_id):
    """The fields of the controls of a dashboard."""
    (dashboard,) = [it for it in of_type("dashboard") if it["id"] == dashboard_id]
    shown = {it["id"] for it in dashboard["references"]}
    (controls,) = [
        it for it in of_type("visualization") if it["id"] in shown and state(it)["type"] == "input_control_vis"
    ]
    return [it["fieldName"] for it in state(controls)["params"]["controls"]]


def test_the_dashboard_of_runs_filters_by_run_and_correlation_id():
    assert {"resource.cicd.pipeline.run.id", "resource.correlation_id"} <= set(filters("spanhook"))


def test_the_dashboard_of_releases_has_one_filter_that_spans_and_logs_both_have():
    assert filters("spanhook-release") == ["resource.correlation_id"]
    for index in FIELDS:
        assert field_type(index, "resource.correlation_id") == "keyword"


def test_sizes_can_be_added_up():
    for name in ("build.bundle.size", "build.bundle.assets", "build.bundle.chunks", "build.artifact.size"):
        assert field_type("spanhook-spans", f"attributes.{name}") == "long"


def test_sub_aggregations_and_order_refer_to_aggregations():
    for item in of_type("visualization"):
        ids = {it["id"] for it in state(item)["aggs"]}
        assert len(ids) == len(state(item)["aggs"])
        for aggregation in state(item)["aggs"]:
            assert aggregation["params"].get("orderBy", "_key") in ids | {"_key", "custom"}


def test_all_files_mean_the_same_indices():
    patterns = [pattern for it in (TEMPLATE, LOGS_TEMPLATE) for pattern in it["index_patterns"]]
    assert [it["attributes"]["title"] for it in of_type("index-pattern")] == patterns
    assert [it["index_patterns"] for it in POLICY["ism_template"]] == [patterns]
    readme = (FOLDER / "README.md").read_text()
    collector = (ROOT / "infra" / "collector" / "opensearch.yaml").read_text()
    for template, variable, signal in (
        (TEMPLATE, "OPENSEARCH_INDEX", "traces"), (LOGS_TEMPLATE, "OPENSEARCH_LOGS_INDEX", "logs"),
    ):
        assert f"_ingest/pipeline/{template['template']['settings']['index']['default_pipeline']} " in readme
        (index,) = re.findall(rf"\b{variable}=(\S+)", readme)
        assert f"${{env:{variable}:-{index}}}" in collector
        assert f"{signal}_index_time_format: yyyy.MM.dd" in collector
        (pattern,) = template["index_patterns"]
        assert fnmatch.fnmatch(f"{index}-2026.11.21", pattern)


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
    assert FIELDS["spanhook-spans"]["durationInNanos"] == "long"
    for field in re.findall(r"\{\{\{(\w+)\}\}\}|ctx\.(\w+)", text):
        assert "".join(field) in FIELDS["spanhook-spans"]


def test_a_log_record_has_its_id_of_fields_that_it_has():
    (processor,) = LOGS_PIPELINE["processors"]
    fields = set(re.findall(r"ctx\.(\w+)", json.dumps(processor))) - {"_id"}
    assert fields == {"traceId", "spanId", "body"}
    assert fields <= FIELDS["spanhook-logs"].keys()


def test_no_emitted_attribute_is_a_value_and_a_group():
    for names in emitted().values():
        for name in names:
            parts = name.split(".")
            assert not {".".join(parts[:end]) for end in range(1, len(parts))} & names
