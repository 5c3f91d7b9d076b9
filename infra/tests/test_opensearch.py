"""The files of ../opensearch fit each other: templates, pipelines, policy and dashboards."""

import fnmatch
import json
import re
import runpy
from pathlib import Path

import jsonschema
import pytest
from dashboards import FOLDER, META, OBJECTS, PATTERNS, ROOT, searches, state

SNAPSHOTS = ROOT / "shared" / "core" / "tests"

TEMPLATE, LOGS_TEMPLATE = (
    json.loads((FOLDER / name).read_text()) for name in ("index-template.json", "logs-index-template.json")
)
PIPELINE, LOGS_PIPELINE = (
    json.loads((FOLDER / name).read_text()) for name in ("ingest-pipeline.json", "logs-ingest-pipeline.json")
)
POLICY = json.loads((FOLDER / "ism-policy.json").read_text())["policy"]
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


def fields_of(item):
    """(index pattern, field, needs to be counted or sorted by)"""
    if item["type"] == "visualization" and state(item)["type"] == "vega":
        for index, body in searches(item):
            (pattern,) = [id for id, title in PATTERNS.items() if title == index]
            yield from ((pattern, *it) for it in fields_of_search(body))
    else:
        (pattern,) = {it["id"] for it in item["references"] if it["type"] == "index-pattern"} or {item["id"]}
        yield from ((pattern, *it) for it in fields_of_object(item))


def fields_of_search(body):
    """Of a search as OpenSearch takes it."""
    if isinstance(body, list):
        for it in body:
            yield from fields_of_search(it)
    elif isinstance(body, dict):
        for key, it in body.items():
            if key == "exists":
                yield it["field"], False
            elif key in ("range", "prefix"):
                yield from ((field, True) for field in it)
            elif key == "field":
                yield it, True
            else:
                yield from fields_of_search(it)


def fields_of_object(item):
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
        yield from fields_of_search([it["params"] for it in state(item)["aggs"]])
    if META in attributes:
        query = json.loads(attributes[META]["searchSourceJSON"])["query"]
        assert query["language"] == "kuery"
        for name in re.findall(r"([\w.@]+)\s*:", query["query"]):
            yield name, False


USED = sorted({(item["id"], *it) for item in OBJECTS if item["type"] != "dashboard" for it in fields_of(item)})


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


def test_the_committed_objects_are_what_the_script_makes(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    assert (FOLDER / "dashboard.ndjson").read_text() == runpy.run_path(str(FOLDER / "build.py"))["build"]()


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
        "spanhook-runner-stages": ["runner_stage", "function"],
        "spanhook-pulls": ["pull"],
        "spanhook-scheduling": ["schedule"],
        "spanhook-release-runs": ["run", "job"],
    }
    snapshots = "".join(path.read_text() for path in SNAPSHOTS.rglob("*samples__*.snap"))
    # Of a runner's own spans the Collector says it.
    runners = (FOLDER.parent / "collector" / "gitlab-runner.yaml").read_text()
    said = set(re.findall(r'spanhook\.kind(?: =|"\],) "(\w+)"', snapshots + runners))
    assert {kind for found in kinds.values() for kind in found} <= said


def test_no_file_names_a_provider():
    files = [*FOLDER.glob("*json"), *FOLDER.rglob("*.py")]
    text = "".join(path.read_text() for path in files).lower().replace("https://vega.github.io/", "")
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
    assert {"resource.cicd.pipeline.run.id", "correlation_id"} <= set(filters("spanhook"))


def test_the_dashboard_of_releases_has_one_filter_that_spans_and_logs_both_have():
    assert filters("spanhook-release") == ["correlation_id"]
    for index in FIELDS:
        assert field_type(index, "correlation_id") == "keyword"


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


def test_the_policy_is_what_the_documentation_asks_for():
    schema = json.loads((Path(__file__).parent / "ism-policy.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"policy": POLICY}, schema)
    for broken in ({"default_state": None}, {"states": [{"name": "open"}]}, {"ism_template": [{"priority": 1}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"policy": POLICY | broken}, schema)


def test_the_policy_ends_in_deletion():
    states = {it["name"]: it for it in POLICY["states"]}
    assert POLICY["default_state"] in states
    targets = {to["state_name"] for it in states.values() for to in it["transitions"]}
    assert targets <= states.keys()
    assert any("delete" in action for name in targets for action in states[name]["actions"])


@pytest.mark.parametrize(
    "pipeline, index, made",
    [
        (PIPELINE, "spanhook-spans", {"@timestamp", "_id", "durationInNanos", "correlation_id", "failed"}),
        (LOGS_PIPELINE, "spanhook-logs", {"_id", "correlation_id"}),
    ],
)
def test_the_pipelines_read_and_write_fields_that_are_mapped(pipeline, index, made):
    text = json.dumps(pipeline)
    written = set(re.findall(r'"field": "([^"]+)"', text)) | set(re.findall(r"ctx\.(\w+) = ", text))
    assert written == made
    read = {"".join(it) for it in re.findall(r"\{\{\{(\w+)\}\}\}|ctx\.(\w+)", text)}
    assert read | written <= {*MAPPINGS[index]["properties"], "_id"}


def test_no_emitted_attribute_is_a_value_and_a_group():
    for names in emitted().values():
        for name in names:
            parts = name.split(".")
            assert not {".".join(parts[:end]) for end in range(1, len(parts))} & names
