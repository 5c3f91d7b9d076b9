"""SAM CLI and cfn-lint read the template's loops as CloudFormation does.

Neither takes all of it: cfn-lint does not see the conditions that a loop names, and `sam validate --lint` lints the
template as it is written. So what SAM CLI makes of the loops is linted and scanned here.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cfnlint.api import lint
from cfnlint.core import get_rules
from cloudformation import ROOT, documents, rows, template_document
from samcli.lib.cfn_language_extensions.models import TemplateProcessingContext
from samcli.lib.cfn_language_extensions.processors import ForEachProcessor
from samcli.lib.config.file_manager import TomlFileManager
from samcli.lib.providers.sam_function_provider import SamFunctionProvider
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider
from samcli.yamlhelper import yaml_parse


@pytest.fixture(scope="module")
def unrolled():
    document = yaml_parse((ROOT / "template.yaml").read_text())
    ForEachProcessor().process_template(context := TemplateProcessingContext(fragment=document))
    return json.loads(json.dumps(context.fragment))


def test_the_loops_make_what_these_tests_compare(unrolled):
    for section in ("Conditions", "Resources", "Outputs"):
        assert unrolled[section].keys() == template_document()[section].keys()
    for name, it in template_document()["Resources"].items():
        found = unrolled["Resources"][name]
        assert (found["Type"], found.get("Condition")) == (it["Type"], it.get("Condition")), name
        assert found.get("Condition", "UseVpc") in unrolled["Conditions"], name


def test_cfn_lint_has_nothing_against_them(unrolled):
    ignored = unrolled["Metadata"]["cfn-lint"]["config"]["ignore_checks"]
    # What it can't see before the loops are unrolled is ignored there and not here.
    assert ignored == ["W1030", "E3015", "E6005", "W8001"]
    rules = get_rules([], [], ["W", "E"], {}, True)
    found = lint(json.dumps(unrolled), rules, ["us-east-1", "eu-central-1"])
    assert [it for it in found if it.path != ["Parameters", "SubnetIds", "Default"]] == []


@pytest.mark.skipif(not shutil.which("checkov"), reason="checkov is not here")
def test_checkov_has_nothing_against_them(unrolled, tmp_path):
    (tmp_path / "template.json").write_text(json.dumps(unrolled))
    command = ["checkov", "--config-file", ROOT / ".checkov.yaml", "--framework", "cloudformation", "-d", tmp_path]
    environment = {it: os.environ[it] for it in ("PATH", "HOME") if it in os.environ}
    done = subprocess.run([*command, "-o", "json"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert json.loads(done.stdout)["summary"]["passed"] > len(rows())


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_every_function_is_built_for_the_architecture_that_is_asked_for(architecture, monkeypatch):
    """Also without any document: a condition that does not hold must not leave anything out of a build."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    template = str(ROOT / "template.yaml")
    stacks, _ = SamLocalStackProvider.get_stacks(
        template, parameter_overrides={"Architecture": architecture}, language_extensions_enabled=True
    )
    found = {
        it.name: (Path(it.codeuri), it.metadata["BuildProperties"]["Binary"], it.architectures)
        for it in SamFunctionProvider(stacks).get_all()
    }
    names = {word: row["Name"] for word, row in rows().items()} | {"Forwarder": "forwarder"}
    assert found == {
        f"{word}Function": (ROOT / "functions" / name, name, [architecture]) for word, name in names.items()
    }
    assert all((ROOT / "functions" / name / "Cargo.toml").is_file() for name in names.values())


STAND_IN = """#!/bin/sh
# A cargo whose builds take no time: the binary says who it is.
[ "$1" = lambda ] || exec "{cargo}" "$@"
while [ "$1" != --bin ]; do shift; done
mkdir -p "$CARGO_TARGET_DIR/lambda/$2"
echo "$2" > "$CARGO_TARGET_DIR/lambda/$2/bootstrap"
"""


@pytest.mark.skipif(not shutil.which("cargo"), reason="cargo is not here")
def test_a_build_gives_every_function_its_own_code(tmp_path):
    """What SAM CLI writes into the loop for CloudFormation, which would otherwise deploy one code for all."""
    for name in ("cargo", "cargo-lambda"):
        (tmp_path / name).write_text(STAND_IN.format(cargo=shutil.which("cargo")))
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CARGO_TARGET_DIR": str(tmp_path / "target"),
        "SAM_CLI_TELEMETRY": "0",
    }
    sam = Path(sys.executable).with_name("sam")
    command = [sam, "build", "-t", ROOT / "template.yaml", "--build-dir", tmp_path / "out", "--region", "us-east-1"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    built = yaml_parse((tmp_path / "out/template.yaml").read_text())
    variable, _, body = built["Resources"]["Fn::ForEach::Http"]
    mapping, key, column = body["${Part}Function"]["Properties"]["CodeUri"]["Fn::FindInMap"]
    assert key == {"Ref": variable}
    for word, row in rows().items():
        folder = tmp_path / "out" / built["Mappings"][mapping][word][column]
        assert (folder / "bootstrap").read_text().strip() == row["Name"]


def test_sam_cli_is_told_to_read_the_loops():
    config = TomlFileManager.read(ROOT / "samconfig.toml")["default"]
    assert config["global"]["parameters"]["language_extensions"] is True
    assert "CAPABILITY_IAM" in config["deploy"]["parameters"]["capabilities"].split()


def test_built_functions_unwind():
    """A panic in one delivery costs that delivery alone: what aborts has no tables of where to land."""
    functions = os.environ.get("SPANHOOK_FUNCTIONS")
    if not functions:
        pytest.skip("SPANHOOK_FUNCTIONS is unset: it names the folder of the built functions")
    for name in sorted({*documents().values()} - {"shared"}):
        sections = subprocess.run(
            ["readelf", "--section-headers", "--wide", Path(functions) / name / "bootstrap"],
            check=True, capture_output=True, text=True,
        ).stdout
        (table,) = [line.partition("]")[2].split() for line in sections.splitlines() if ".gcc_except_table" in line]
        assert int(table[4], 16) > 50_000, f"{name}: {table}"
