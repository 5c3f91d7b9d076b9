"""What a release is made of: one version everywhere, images and bills of materials that others can read, and the steps by
which jobs install it."""

import gzip
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import tomllib
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "release"))

import image  # noqa: E402
import sbom  # noqa: E402
import version  # noqa: E402


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **more)


# One version


def test_every_file_says_the_version_of_cargo_toml():
    assert version.differences() == []


@pytest.fixture
def copy(tmp_path):
    for name in {"Cargo.toml", "CHANGELOG.md", *(name for name, _ in version.PLACES)}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", sorted({name for name, _ in version.PLACES}))
def test_a_file_that_says_another_version_is_named(copy, name):
    file = copy / name
    file.write_text(file.read_text().replace(version.declared(), "9.9.9"))
    assert any(it.startswith(f"{name} says 9.9.9") for it in version.differences(copy))


def test_a_new_version_is_written_everywhere_but_into_the_changelog(copy):
    version.write("1.2.3-rc.1", copy)
    assert version.declared(copy) == "1.2.3-rc.1"
    assert version.differences(copy) == [f"CHANGELOG.md begins with {version.declared()}"]
    # Other packages' versions are not ours.
    lock = json.loads((copy / "packages/bundler/package-lock.json").read_text())
    before = json.loads((ROOT / "packages/bundler/package-lock.json").read_text())
    assert {**lock["packages"], "": 0} == {**before["packages"], "": 0}


# Functions


def test_cargo_lambda_builds_every_function_and_nothing_else():
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    wanted = workspace["metadata"]["lambda"]["build"]["packages"]
    names = [tomllib.loads(it.read_text())["package"]["name"] for it in ROOT.glob("*/**/Cargo.toml")]
    # Cargo takes patterns of packages' names as a shell's.
    built = {name for name in names for pattern in wanted if fnmatch(name, pattern)}
    assert built == {it.name for it in (ROOT / "functions").iterdir()}


def test_a_function_unwinds_when_it_panics():
    """cargo-lambda builds with "abort" where the profile says nothing, and a batch would end with its worst message."""
    assert tomllib.loads((ROOT / "Cargo.toml").read_text())["profile"]["release"]["panic"] == "unwind"


# Images

BINARIES = {"amd64": b"an x86-64 binary", "arm64": b"an arm64 binary"}


def read(files, descriptor):
    content = files["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]
    assert len(content) == descriptor["size"]
    return content


def contents(files, architecture):
    """The config and the files of one processor's image, by the way that a registry's client goes."""
    (index,) = json.loads(files["index.json"])["manifests"]
    manifests = json.loads(read(files, index))["manifests"]
    (manifest,) = (it for it in manifests if it["platform"] == {"architecture": architecture, "os": "linux"})
    manifest = json.loads(read(files, manifest))
    config = json.loads(read(files, manifest["config"]))
    (layer,) = manifest["layers"]
    plain = gzip.decompress(read(files, layer))
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(plain).hexdigest()]
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        found = {it.name: (oct(it.mode), it.uid, archive.extractfile(it).read() if it.isfile() else None) for it in archive}
    return config, found


@pytest.mark.parametrize("architecture", BINARIES)
def test_the_image_is_what_the_dockerfile_says(architecture):
    files = image.layout("", BINARIES)
    for path, content in files.items():
        if path.startswith("blobs/"):
            assert path == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"
    config, found = contents(files, architecture)
    assert (config["architecture"], config["os"]) == (architecture, "linux")
    assert config["config"] == {
        "User": "65532:65532", "Env": ["SPANHOOK_LISTEN=0.0.0.0:3000", "SPANHOOK_DATA=/data"], "Volumes": {"/data": {}},
        "ExposedPorts": {"3000/tcp": {}}, "Entrypoint": ["/spanhook"], "Cmd": ["serve"],
    }
    assert found.pop("spanhook") == ("0o755", 0, BINARIES[architecture])
    assert found.pop("data") == ("0o755", 65532, None)
    assert b"BEGIN CERTIFICATE" in found.pop("etc/ssl/certs/ca-certificates.crt")[2]
    assert set(found) == {"etc", "etc/ssl", "etc/ssl/certs"}


def test_the_relay_has_an_image_of_its_own():
    config, found = contents(image.layout("relay", BINARIES), "arm64")
    assert config["config"]["Entrypoint"] == ["/spanhook-relay"] and "Volumes" not in config["config"]
    assert found["spanhook-relay"][2] == BINARIES["arm64"] and "data" not in found


def test_the_same_binaries_make_the_same_image():
    assert image.layout("", BINARIES) == image.layout("", BINARIES)


def test_what_the_dockerfile_says_and_nobody_can_make_here_fails():
    for text in ("FROM scratch\nHEALTHCHECK CMD x\n", "FROM scratch\nCOPY --from=build /etc/shadow /etc/\n"):
        instructions = image.stage("", text)
        with pytest.raises(SystemExit, match="nobody has written here"):
            image.settings(instructions)
            image.layer(instructions, b"")


# Bills of materials


@pytest.fixture(scope="module")
def bills():
    if not shutil.which("cargo"):
        pytest.skip("cargo is not here")
    return {names: sbom.document(list(names)) for names in [("spanhook",), ("spanhook-relay",), ("forwarder", "traceparent")]}


def test_a_bill_names_what_is_compiled_in_with_its_sum(bills):
    for names, bill in bills.items():
        components = {it["name"]: it for it in bill["components"]}
        assert set(names) <= set(components) and "tokio" in components
        assert not {"proptest", "insta", "criterion", "cc"} & set(components), "what only tests or builds use"
        ours = {it["name"] for it in components.values() if "hashes" not in it}
        assert ours and all(it in ("forwarder", "traceparent") or it.startswith("spanhook") for it in ours)
        known = {it["ref"] for it in bill["dependencies"]}
        assert all(set(it["dependsOn"]) <= known for it in bill["dependencies"])
    assert "kube" in {it["name"] for it in bills["spanhook-relay",]["components"]}
    assert "kube" not in {it["name"] for it in bills["spanhook",]["components"]}


VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
sys.exit(repr(error)[:2000] if (error := JsonStrictValidator(SchemaVersion.V1_5).validate_str(sys.stdin.read())) else 0)
"""


def test_bills_fit_cyclonedx_schema(bills):
    checkov = shutil.which("checkov")  # it carries CycloneDX's own validator
    if not checkov:
        pytest.skip("checkov is not here")
    python = Path(checkov).resolve().with_name("python")
    for bill in bills.values():
        done = run(python, "-c", VALIDATE, input=json.dumps(bill))
        assert done.returncode == 0, done.stderr[-2000:]


def test_the_validator_has_something_against_a_bill_that_is_none():
    checkov = shutil.which("checkov")
    if not checkov:
        pytest.skip("checkov is not here")
    done = run(Path(checkov).resolve().with_name("python"), "-c", VALIDATE, input='{"bomFormat": "SPDX"}')
    assert done.returncode == 1 and "required property" in done.stderr, done.stderr


# The release's workflow


def test_the_workflow_fits_githubs_schema():
    check = shutil.which("check-jsonschema")
    if not check:
        pytest.skip("check-jsonschema is not here")
    done = run(check, "--builtin-schema", "vendor.github-workflows", ".github/workflows/release.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_makes_the_release_by_the_one_command():
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    commands = [it.get("run", "") for it in workflow["jobs"]["build"]["steps"]]
    assert "release/build dist" in commands
    assert any("--draft" in it for it in commands)


# How jobs get it


def scripts(node):
    """Every shell script of a snippet that installs."""
    if isinstance(node, str):
        return [node] if "SHA256SUMS" in node else []
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return [it for child in below for it in scripts(child)]


PAGE = (ROOT / "docs/senders.md").read_text()
SNIPPETS = {
    re.match(r"# (\w+)", text)[1]: yaml.safe_load(text)
    for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)
    if "SHA256SUMS" in text
}
INSTALLED = '#!/bin/sh\necho "spanhook $*"\n'


@pytest.fixture
def files(tmp_path):
    """A release's files at an address."""
    folder = tmp_path / "files"
    folder.mkdir()
    name = f"spanhook-job-{version.declared()}-linux-{os.uname().machine}"
    (folder / name).write_text(INSTALLED)
    (folder / f"{name}.cdx.json").write_text("another file with that name in its own")
    sums = run("sh", "-c", f"cd '{folder}' && sha256sum spanhook* > SHA256SUMS")
    assert sums.returncode == 0
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder / name, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def install(provider, tmp_path, url):
    (script,) = scripts(SNIPPETS[provider])
    home = tmp_path / "home"
    home.mkdir()
    env = {
        "PATH": os.environ["PATH"], "HOME": str(home), "RUNNER_TEMP": str(home), "BASH_ENV": str(home / "bash_env"),
        "GITHUB_PATH": str(home / "github_path"), "SPANHOOK_FILES": url, "SPANHOOK_VERSION": version.declared(),
    }
    # Tekton's steps have /tmp to themselves.
    script = script.replace("/tmp", str(home))
    shell = ["bash", "-eo", "pipefail"] if provider in ("CircleCI", "GitHub") else ["sh", "-e"]
    return home, subprocess.run([*shell, "-c", script], cwd=home, env=env, capture_output=True, text=True, timeout=60)


def test_there_is_a_step_for_every_provider():
    assert set(SNIPPETS) == {"CircleCI", "GitLab", "GitHub", "Tekton"}


@pytest.mark.parametrize("provider", SNIPPETS)
def test_the_step_installs_what_a_release_has(provider, files, tmp_path):
    home, done = install(provider, tmp_path, files[1])
    assert done.returncode == 0, done.stdout + done.stderr
    binary = home / ("spanhook" if provider == "Tekton" else ".local/bin/spanhook")
    assert binary.read_text() == INSTALLED and os.access(binary, os.X_OK)
    match provider:
        case "CircleCI":
            assert 'PATH="$HOME/.local/bin:' in (home / "bash_env").read_text()
        case "GitHub":
            assert (home / "github_path").read_text().strip() == str(home / ".local/bin")
        case "Tekton":
            assert done.stdout.endswith("spanhook exec --name unit tests -- npm test\n")


@pytest.mark.parametrize("provider", SNIPPETS)
def test_the_step_installs_nothing_that_differs_from_its_sum(provider, files, tmp_path):
    files[0].write_text("#!/bin/sh\necho another\n")
    home, done = install(provider, tmp_path, files[1])
    assert done.returncode != 0 and "FAILED" in done.stdout
    assert not (home / ".local/bin/spanhook").exists() and not (home / "spanhook").exists()
