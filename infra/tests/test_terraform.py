"""The Terraform module: formatted, and nothing in it that the AWS provider does not know.

The provider is too big to fetch for a test. SPANHOOK_AWS_SCHEMA names a file with what it knows;
../terraform/schema.py says how to make it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import hcl2
import pytest
from hcl import MODULE, Module, attributes, blocks, module_blocks, text_of
from templates import module_variables

sys.path.insert(0, str(MODULE))  # for the stand-in

EXAMPLE = MODULE / "examples" / "complete"
FOLDERS = [MODULE, EXAMPLE]

KINDS = ("resource", "data")
META = {"count", "for_each", "depends_on", "provider"}


@cache
def schema():
    path = os.environ.get("SPANHOOK_AWS_SCHEMA")
    if not path:
        pytest.skip("SPANHOOK_AWS_SCHEMA is not set: see infra/terraform/schema.py")
    known = json.loads(Path(path).read_text())
    # Of provider 6.29, and the schema is of 6.25.
    known["resource"]["aws_lambda_permission"]["invoked_via_function_url"] = {"required": False, "type": "bool"}
    return known


def of_aws():
    for folder in FOLDERS:
        for kind, labels, body in module_blocks(folder):
            if kind in KINDS:
                yield pytest.param(kind, labels[0], body, id=f"{folder.name}-{kind}-{'.'.join(labels)}")


def mistakes(body, known):
    """What is unknown, needed, or a block where an argument should be."""
    arguments, nested = attributes(body).keys() - META, {}
    for name, labels, inner in blocks(body):
        if name == "dynamic":
            name, inner = labels[0], next(it for kind, _, it in blocks(inner) if kind == "content")
        if name != "lifecycle":
            nested.setdefault(name, []).append(inner)
    for name in sorted(arguments):
        if "required" not in known.get(name, {}):
            yield f"unknown argument {name}"
        elif "block" in known[name]:
            yield f"{name} is a block"
    for name, bodies in nested.items():
        if "block" not in known.get(name, {}):
            yield f"unknown block {name}"
        else:
            for inner in bodies:
                yield from (f"{name}: {it}" for it in mistakes(inner, known[name]["block"]))
    for name, it in known.items():
        if it.get("required") and name not in arguments | nested.keys():
            yield f"{name} is missing"


@pytest.mark.parametrize("kind, type_, body", list(of_aws()))
def test_the_provider_knows_it(kind, type_, body):
    known = schema()[kind]
    assert type_ in known
    assert list(mistakes(body, known[type_])) == []


@pytest.mark.parametrize(
    "text, mistake",
    [
        ('queue_url = "a"\npolicy = "b"\npolice = "c"', "unknown argument police"),
        ('queue_url = "a"', "policy is missing"),
        ('queue_url = "a"\npolicy = "b"\ntags {}', "unknown block tags"),
    ],
)
def test_a_mistake_is_found(text, mistake):
    ((_, _, body),) = blocks(
        hcl2.parses_to_tree('resource "aws_sqs_queue_policy" "a" {\n' + text + "\n}\n").children[0]
    )
    assert list(mistakes(body, schema()["resource"]["aws_sqs_queue_policy"])) == [mistake]


@pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not here")
def test_the_files_are_formatted():
    done = subprocess.run(["terraform", "fmt", "-check", "-recursive", "-diff", MODULE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_variable_and_output_is_described():
    for folder in FOLDERS:
        for kind, labels, body in module_blocks(folder):
            if kind in ("variable", "output"):
                assert {"type", "description"} - attributes(body).keys() <= ({"type"} if kind == "output" else set()), (
                    labels
                )


def test_names_are_defined_and_used():
    for folder in FOLDERS:
        all_blocks = module_blocks(folder)
        text = "\n".join(re.sub(r"#.*", "", path.read_text()) for path in folder.glob("*.tf"))
        defined = {f"var.{labels[0]}" for kind, labels, _ in all_blocks if kind == "variable"}
        defined |= {f"local.{name}" for kind, _, body in all_blocks if kind == "locals" for name in attributes(body)}
        defined |= {".".join(labels) for kind, labels, _ in all_blocks if kind == "resource"}
        defined |= {"data." + ".".join(labels) for kind, labels, _ in all_blocks if kind == "data"}
        defined |= {f"module.{labels[0]}" for kind, labels, _ in all_blocks if kind == "module"}
        used = set(re.findall(r"(?<![\w.\"])(?:data\.aws_\w+\.\w+|aws_\w+\.\w+|(?:var|local|module)\.\w+)", text))
        assert used <= defined, folder
        assert not [it for it in defined - used if it.startswith(("var.", "local.", "data."))], folder


def test_no_value_of_a_secret_gets_into_the_state():
    for folder in FOLDERS:
        read = {labels[0] for kind, labels, _ in module_blocks(folder) if kind == "data"}
        assert read <= {"aws_caller_identity", "aws_partition", "aws_region"}
        for kind, labels, _ in module_blocks(folder):
            assert kind != "resource" or not re.search("_parameter$|_secret", labels[0]), labels


def test_the_example_passes_variables_that_there_are():
    (body,) = [body for kind, _, body in module_blocks(EXAMPLE) if kind == "module"]
    variables, _ = module_variables()
    passed = attributes(body).keys() - {"source"}
    assert passed <= variables.keys()
    assert {name for name, it in variables.items() if it["default"] is None} <= passed
    outputs = {labels[0] for kind, labels, _ in module_blocks(MODULE) if kind == "output"}
    used = re.findall(r"module\.spanhook\.(\w+)", "".join(it.read_text() for it in EXAMPLE.glob("*.tf")))
    assert set(used) <= outputs


def test_module_and_example_want_the_same_versions():
    def versions(folder):
        (body,) = [body for kind, _, body in module_blocks(folder) if kind == "terraform"]
        (providers,) = [attributes(it)["aws"] for name, _, it in blocks(body) if name == "required_providers"]
        return text_of(attributes(body)["required_version"]), text_of(providers)

    assert versions(MODULE) == versions(EXAMPLE)


def test_the_longest_name_fits_a_role():
    longest = max(map(len, Module({}).locals["http"]))
    assert len("-".join(["n" * 30, "f" * longest, "ap-southeast-1"])) <= 64


# Terraform itself, with a stand-in for the provider


@pytest.fixture(scope="module")
def terraform(tmp_path_factory):
    if not shutil.which("terraform"):
        pytest.skip("terraform is not here")
    provider = pytest.importorskip("provider", reason="grpcio is not here")
    used = {
        kind: {labels[0] for folder in FOLDERS for it, labels, _ in module_blocks(folder) if it == kind}
        for kind in KINDS
    }
    server, address = provider.start(
        {kind: {type_: it for type_, it in schema()[kind].items() if type_ in used[kind]} for kind in KINDS}
    )
    copy = tmp_path_factory.mktemp("terraform") / "module"
    shutil.copytree(MODULE, copy)
    environment = {"PATH": os.environ["PATH"], "HOME": str(copy), "CHECKPOINT_DISABLE": "1"} | address

    def run(folder, *arguments):
        command = ["terraform", f"-chdir={copy / folder}", *arguments, "-no-color"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    yield run
    server.stop(None)


@pytest.mark.parametrize("folder", [".", "examples/complete"])
def test_terraform_finds_it_valid(terraform, folder):
    terraform(folder, "init", "-backend=false")
    terraform(folder, "validate")


def test_terraform_tests_hold(terraform):
    terraform(".", "init", "-backend=false")
    assert re.search(r"Success! \d+ passed, 0 failed", terraform(".", "test"))


# Its tests cover what they should


def runs():
    for path in sorted((MODULE / "tests").glob("*.tftest.hcl")):
        for kind, labels, body in blocks(hcl2.parses_to_tree(path.read_text()).children[0]):
            if kind in ("run", "variables"):
                yield path.name, labels, body


def test_terraform_tests_set_variables_that_there_are():
    known = module_variables()[0].keys()
    for where, _, body in runs():
        given = [inner for name, _, inner in blocks(body) if name == "variables"] or [body]
        names = {name for it in given for name in attributes(it)} - {"command", "expect_failures"}
        assert names <= known, where


def test_terraform_tests_break_every_validation():
    checked = {
        labels[0]
        for kind, labels, body in module_blocks(MODULE)
        if kind == "variable" and any(name == "validation" for name, _, _ in blocks(body))
    }
    broken = set()
    for _, _, body in runs():
        if "expect_failures" in attributes(body):
            broken |= set(re.findall(r"var\.(\w+)", text_of(attributes(body)["expect_failures"])))
    assert broken == checked


def test_terraform_tests_have_a_package_of_every_function():
    module = Module({})
    functions = module.locals["http"].keys() | module.locals["functions"].keys()
    assert {it.name for it in (MODULE / "tests/packages").iterdir()} == functions
