"""The page on security names tests that are there, and what can be read off the sources holds."""

import re
import tomllib
from pathlib import Path

from test_rooms import ROOT, code, listed

PAGE = (ROOT / "docs" / "security.md").read_text()

# Names of tests are sentences; what has fewer words is a setting or a field.
NAMED = r"`([a-z][a-z0-9]*(?:_[a-z0-9]+){2,})`"
# What runs a function: other attributes and comments may stand between.
RUST = r"#\[(?:tokio::)?test\b[^\n]*\]\s*(?:(?:#\[[^\n]*\]|//[^\n]*)\s*)*(?:async )?fn (\w+)"
PYTHON = r"(?m)^def (test_\w+)"


def sources(*suffixes):
    """The files of the project that end so, by their paths."""
    paths = [path for path in listed() if Path(path).suffix in suffixes and (ROOT / path).is_file()]
    return {path: (ROOT / path).read_text() for path in paths}


def tables():
    """The tables of the page: their heads and their rows, as lists of cells."""
    for block in re.findall(r"(?m)(?:^\|.*\n)+", PAGE):
        head, _, *rows = ([cell.strip() for cell in line.strip("|\n").split(" | ")] for line in block.splitlines())
        yield [cell.strip("| ") for cell in head], rows


def test_every_test_that_the_page_names_is_there():
    named = set(re.findall(NAMED, PAGE))
    there = {name for text in sources(".rs").values() for name in re.findall(RUST, text)}
    there |= {name for text in sources(".py").values() for name in re.findall(PYTHON, text)}
    assert len(named) > 150 and named - there == set()


def test_what_names_a_test_names_one():
    assert re.findall(RUST, "#[test]\nfn a_b_c() {") == ["a_b_c"]
    rust = "#[tokio::test(start_paused = true)]\n#[ignore = \"x\"]\n/// Why.\nasync fn a_b_c() {"
    assert re.findall(RUST, rust) == ["a_b_c"]
    assert re.findall(RUST, "fn a_b_c() {") == []


def test_every_limit_and_every_attack_has_its_test():
    tried = 0
    for head, rows in tables():
        if head[-1] != "test":
            continue
        for row in rows:
            assert len(row) == len(head), row
            shown = re.findall(NAMED, row[-1]) or row[-1].strip("| ") == "the same"
            assert shown, f"no test shows: {row}"
            tried += head[0] == "who"
    assert tried > 30


def test_every_file_that_the_page_names_is_there():
    files = set(re.findall(r"`([\w-]+(?:/[\w.-]+)+\.(?:rs|py))`", PAGE))
    assert files and files - set(listed()) == set()


def shipped():
    """The Rust that runs, without its tests."""
    for path, text in sources(".rs").items():
        tests = path.startswith("tests/") or "tests" in Path(path).with_suffix("").parts
        if "/src/" in path and not tests:
            yield path, code(path, text)


def test_every_http_client_is_made_where_redirects_are_switched_off():
    makes = re.compile(r"\b(?:Client|ClientBuilder)::(?:builder|new)\(\)|\breqwest::get\(")
    assert {path for path, text in shipped() if makes.search(text)} == {"shared/export/src/http.rs"}


def test_nothing_that_reads_a_payload_has_a_network():
    manifest = tomllib.loads((ROOT / "shared" / "core" / "Cargo.toml").read_text())
    assert set(manifest["dependencies"]) & {"reqwest", "hyper", "tokio", "axum", "tonic", "aws-config"} == set()
    assert [path for path, text in shipped() if path.startswith("shared/core/src/") and "std::net" in text] == []
    # Whoever else asks an address has it of a setting, a flag or the environment.
    asks = {path for path, text in shipped() if re.search(r"(?<!fn )\bclient\(\)\s*\.", text)}
    assert asks == {
        "shared/export/src/http.rs",
        "shared/service/src/gate/keys.rs",
        "cli/src/job/report.rs",
        "cli/src/operate/send.rs",
        "cli/src/operate/check/deployment.rs",
        "cli/src/operate/redeliver/api.rs",
        "relay/src/relay.rs",
    }


def test_the_page_makes_no_markup_of_a_payload():
    script = (ROOT / "cli" / "assets" / "app.js").read_text()
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function|srcdoc"
    assert re.findall(markup, script) == []
    # The one place where an address of a payload becomes a link.
    assert re.findall(r"href: (\w+)", script).count("url") == 2
    assert r"/^https?:\/\//.test(url) ? el(" in script


def test_no_package_runs_a_script_when_it_is_installed():
    installs = [line for path in (".ci/run", "release/build", "tests/parts/install.sh")
                for line in (ROOT / path).read_text().splitlines() if re.search(r"\bnpm (ci|install)\b", line)]  # fmt: skip
    assert len(installs) == 3 and all("npm ci" in it and "--ignore-scripts" in it for it in installs), installs
