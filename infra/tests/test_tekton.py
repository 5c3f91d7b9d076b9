"""The samples of docs/kubernetes.md for a step of Tekton: valid, and what they start lands below the right span."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from collector import sink, until
from serve import Serve

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "docs" / "samples" / "tekton"
KEY = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
STEP = "build"  # of both runs
# What a run's Pod is in the samples of deliveries, and how often its task was tried again.
RUNS = {"batch-of-a-tekton-run": 0, "batch-of-a-lighthouse-run": 1}


def documents():
    return [it for path in sorted(SAMPLES.glob("*.yaml")) for it in yaml.safe_load_all(path.read_text())]


def named(name):
    return next(it["spec"] for it in documents() if it["metadata"]["name"] == name)


TASK, ACTION, CONSUMER = named("unit-tests"), named("trace-context"), named("unit-tests-with-otel-cli")
CURL, SPANHOOK = TASK["steps"]
STEPS = [pytest.param(it, id=it["name"]) for it in (CURL, SPANHOOK, ACTION | {"name": "context"}, CONSUMER["steps"][1])]


def substituted(text, known):
    """As Tekton replaces its variables: by name, and nothing else that looks alike."""
    return re.sub(r"\$\(((?:context|params|steps?)\.[\w.-]+)\)", lambda it: known[it[1]], text)


def container(step, known, template=()):
    """The container that Tekton makes of a step."""
    env = {it["name"]: it for it in [*template, *step["env"]]}
    env = [it | {"value": substituted(it["value"], known)} if "value" in it else it for it in env.values()]
    script = substituted(step["script"], known)
    return {"name": f"step-{step['name']}", "image": step["image"], "env": env, "command": ["sh", "-ec", script]}


def parameters(spec, **more):
    return {f"params.{it['name']}": more.get(it["name"], it["default"]) for it in spec.get("params", [])}


def environment(container, pod):
    """What a kubelet makes of it: the value of a label that is not there is empty."""
    def value(it):
        if "value" in it:
            return it["value"]
        label = re.fullmatch(r"metadata\.labels\['(.+)'\]", it["valueFrom"]["fieldRef"]["fieldPath"])[1]
        return pod["metadata"]["labels"].get(label, "")

    return {it["name"]: value(it) for it in container["env"]}


def run(container, pod, folder, **more):
    """Runs a container's script, in which `npm test` tells what it was given, and returns that."""
    npm = folder / "npm"
    npm.write_text(f'#!/bin/sh\nprintf "%s" "$TRACEPARENT" > {folder}/given\n')
    npm.chmod(0o700)
    path = f"{folder}:{os.environ['PATH']}"
    env = {"PATH": path, "NO_PROXY": "*", **environment(container, pod), **more}
    done = subprocess.run(container["command"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return (folder / "given").read_text() if (folder / "given").exists() else done.stderr


# Shape


def test_every_sample_has_the_fields_of_its_kind_only():
    step = {"name", "image", "env", "script", "ref"}
    fields = {
        "Task": ({"params", "stepTemplate", "steps"}, "tekton.dev/v1"),
        "StepAction": ({"params", "results", "image", "env", "script"}, "tekton.dev/v1beta1"),
    }
    for document in documents():
        known, version = fields[document["kind"]]
        assert document.keys() == {"apiVersion", "kind", "metadata", "spec"} and document["apiVersion"] == version
        assert document["spec"].keys() <= known
        assert all(it.keys() <= step for it in document["spec"].get("steps", []))
    # A step that takes an action can have nothing that the action has.
    assert CONSUMER["steps"][0] == {"name": "context", "ref": {"name": "trace-context"}}


@pytest.mark.parametrize("step", STEPS)
def test_the_container_of_a_step_fits_kubernetes_schema(step):
    known = parameters(TASK) | parameters(ACTION)
    known |= dict.fromkeys(["context.taskRun.uid", "step.results.traceparent.path"], "x")
    known |= {"context.task.retry-count": "0", "steps.context.results.traceparent": ""}
    template = TASK["stepTemplate"]["env"] if step in TASK["steps"] else []
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
    pod["spec"] = {"containers": [container(step, known, template)]}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not here")
@pytest.mark.parametrize("step", STEPS)
def test_the_script_of_a_step_is_sound(step):
    script = substituted(step["script"], {"step.results.traceparent.path": "/tekton/result"})
    done = subprocess.run(["shellcheck", "--severity", "style", "-"], input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# At work


@pytest.fixture(scope="module")
def spans(tmp_path_factory):
    """A Collector that writes down every span that it gets."""
    with sink(tmp_path_factory.mktemp("sink")) as it:
        yield it


@pytest.fixture(scope="module")
def tool():
    """The binary of `spanhook`."""
    path = os.environ.get("SPANHOOK_BINARY")
    if not path:
        pytest.skip("SPANHOOK_BINARY is unset: it names the binary of spanhook, with all its commands")
    return Path(path)


@pytest.fixture(scope="module")
def endpoint(tool, spans, tmp_path_factory):
    """A spanhook that was told both runs."""
    settings = {"KUBERNETES_SIGNING_KEY": KEY, "LIGHTHOUSE_SOURCES": "objects"}
    with Serve(tmp_path_factory.mktemp("serve"), spans, **settings) as it:
        files = [ROOT / "events" / "kubernetes" / f"{it}.json" for it in RUNS]
        subprocess.run([tool, "send", *files, "--to", it.endpoint], env=it.env, check=True, capture_output=True)
        yield it.endpoint


def found(spans, **wanted):
    """The last span with these attributes, this name and so on, once it has arrived: trace id, span id, parent."""
    def look():
        for line in spans.lines("traces"):
            for resource in line["resourceSpans"]:
                for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
                    of = {it["key"]: next(iter(it["value"].values()), "") for it in span.get("attributes", [])}
                    ids = (span["traceId"], span["spanId"], span.get("parentSpanId", ""))
                    if wanted.items() <= (of | {"name": span["name"], "trace": ids[0], "parent": ids[2]}).items():
                        seen[span["startTimeUnixNano"]] = ids
        return seen[max(seen)] if seen else None

    seen = {}
    return until(look)


@pytest.fixture(params=RUNS)
def place(request, spans, endpoint):
    """A run: its Pod, Tekton's variables in it, and the ids of its TaskRun and of the last try of its step."""
    items = json.loads((ROOT / "events" / "kubernetes" / f"{request.param}.json").read_text())["items"]
    pod, task = (next(it["object"] for it in items if it["object"]["kind"] == kind) for kind in ("Pod", "TaskRun"))
    known = {"context.taskRun.uid": task["metadata"]["uid"], "context.task.retry-count": str(RUNS[request.param])}
    assert len(task["status"].get("retriesStatus", [])) == RUNS[request.param]
    trace, job, _ = found(spans, **{"cicd.pipeline.task.run.id": task["metadata"]["uid"]})
    _, step, above = found(spans, **{"trace": trace, "tekton.step.name": STEP})
    assert above == job, "the last try of a step is below its task"
    return pod, known, (trace, job), (trace, step)


def traceparent(of):
    return "00-{}-{}-01".format(*of)


def test_a_step_with_curl_is_told_its_own_span(place, endpoint, tmp_path):
    pod, known, _, step = place
    it = container(CURL, known | parameters(TASK, spanhook=endpoint), TASK["stepTemplate"]["env"])
    assert run(it, pod, tmp_path, STEP=STEP) == traceparent(step)


def test_a_command_of_spanhook_is_below_its_step(place, spans, tool, tmp_path):
    pod, known, _, (trace, step) = place
    # What it asks is nobody.
    of = parameters(TASK, spanhook="http://127.0.0.1:1", collector=spans.endpoint)
    (tmp_path / "spanhook").symlink_to(tool)
    it = container(SPANHOOK, known | of, TASK["stepTemplate"]["env"])
    given = run(it, pod, tmp_path, STEP=STEP)
    _, own, parent = found(spans, trace=trace, name="unit tests", **{"process.command": "npm"})
    assert (given, parent) == (traceparent((trace, own)), step)


@pytest.mark.skipif(not shutil.which("otel-cli"), reason="otel-cli is not here")
def test_otel_cli_is_below_the_task_by_what_the_action_found(place, endpoint, spans, tmp_path):
    pod, known, (trace, job), _ = place
    result = tmp_path / "traceparent"
    known = known | parameters(ACTION, spanhook=endpoint) | {"step.results.traceparent.path": str(result)}
    run(container(ACTION | {"name": "context"}, known), pod, tmp_path)
    known["steps.context.results.traceparent"] = result.read_text()
    assert result.read_text() == traceparent((trace, job))
    it = container(CONSUMER["steps"][1], known)
    given = run(it, pod, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=spans.endpoint)
    _, own, parent = found(spans, trace=trace, name="unit tests", parent=job)
    assert (given, parent) == (traceparent((trace, own)), job)


def test_the_shell_of_the_page_on_ids_computes_the_same(place):
    pod, known, _, step = place
    page = (ROOT / "docs" / "ids.md").read_text()
    function = next(line for line in page.splitlines() if line.startswith("id() {"))
    (script,) = re.findall(r"^```sh\n(.*?)^```", page.split("\n## Clusters\n")[1].split("\n## ")[0], re.M | re.S)
    it = container(CURL, known | parameters(TASK), TASK["stepTemplate"]["env"])
    env = {"PATH": os.environ["PATH"], **environment(it, pod), "STEP": STEP}
    command = ["sh", "-eu", "-c", f"{function}\n{script}"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == traceparent(step)


def test_a_step_runs_all_the_same_where_spanhook_is_away(tmp_path):
    known = {"context.taskRun.uid": "no-uid", "context.task.retry-count": "0"}
    pod = {"metadata": {"labels": {}}}
    away = {"spanhook": "http://127.0.0.1:1"}
    (tmp_path / "spanhook").write_text('#!/bin/sh\n[ "$1" = exec ] || exit 1\nexec npm test\n')
    (tmp_path / "spanhook").chmod(0o700)
    for step in TASK["steps"]:
        it = container(step, known | parameters(TASK, **away), TASK["stepTemplate"]["env"])
        assert run(it, pod, tmp_path) == "", step["name"]
    result = tmp_path / "traceparent"
    known = parameters(ACTION, **away) | {"step.results.traceparent.path": str(result)}
    (tmp_path / "given").unlink()
    assert "curl: (7)" in run(container(ACTION | {"name": "context"}, known), pod, tmp_path)
    assert result.read_text() == ""
