"""The action is valid, and the workflows of docs/github.md are: by GitHub's schemas, and by each other."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action/action.yml").read_text())
PAGES = ["README.md", "docs/github.md", "docs/senders.md"]


def tool(name):
    return pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"{name} is not here"))


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def snippets(page):
    return re.findall(r"^```yaml\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


def steps(node):
    """Every mapping with `uses` or `run`, wherever it is."""
    if isinstance(node, list):
        return [step for it in node for step in steps(it)]
    if not isinstance(node, dict):
        return []
    return ([node] if "uses" in node else []) + [step for it in node.values() for step in steps(it)]


@pytest.mark.parametrize("check", [tool("check-jsonschema")])
def test_the_action_fits_githubs_schema(check):
    run(check, "--builtin-schema", "vendor.github-actions", "action/action.yml")


@pytest.mark.parametrize("check", [tool("check-jsonschema")])
def test_the_workflows_of_the_guide_fit_githubs_schema(check, tmp_path):
    files = []
    for number, text in enumerate(snippets("docs/github.md")):
        workflow = yaml.safe_load(text)
        workflow["on"] = workflow.pop(True, "push")  # to YAML 1.1 the word is a truth value
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(workflow))
    assert len(files) == 2
    run(check, "--builtin-schema", "vendor.github-workflows", *map(str, files))


@pytest.mark.parametrize("check", [tool("shellcheck")])
def test_the_script_is_sound(check):
    run(check, "--severity", "style", "action/context.sh")


def test_inputs_reach_the_script_by_its_environment_only():
    (step,) = ACTION["runs"]["steps"]
    assert "${{" not in step["run"] and step["shell"] == "bash"
    assert step["continue-on-error"] is True
    assert sorted(step["env"].values()) == sorted(f"${{{{ inputs.{name} }}}}" for name in ACTION["inputs"])
    script = (ROOT / "action/context.sh").read_text()
    assert all(re.search(rf"\$\{{?{name}\b", script) for name in step["env"])
    assert ACTION["outputs"]["traceparent"]["value"] == f"${{{{ steps.{step['id']}.outputs.traceparent }}}}"


def test_nothing_has_to_be_said():
    assert {name: it["default"] for name, it in ACTION["inputs"].items()} == {
        "endpoint": "", "audience": "", "token": "", "ids": "hashed", "job-id": "${{ job.check_run_id }}",
    }
    assert not any(it.get("required") for it in ACTION["inputs"].values())


def test_the_pages_use_the_action_as_it_is():
    used = [
        step for page in PAGES for text in snippets(page) for step in steps(yaml.safe_load(text))
        if "/spanhook/action@" in step["uses"]
    ]
    assert len(used) >= 3
    for step in used:
        assert step.get("with", {}).keys() <= ACTION["inputs"].keys(), step
    table = (ROOT / "docs/github.md").read_text().split("| input |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.M) == list(ACTION["inputs"])
