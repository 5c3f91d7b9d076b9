"""The page on security names tests that are there, and what can be read off the sources holds."""

import re
from pathlib import Path

from test_rooms import ROOT, code, listed

PAGE = (ROOT / "docs" / "security.md").read_text()


def sources(*suffixes):
    """The files of the project that end so, by their paths."""
    paths = [path for path in listed() if Path(path).suffix in suffixes and (ROOT / path).is_file()]
    return {path: (ROOT / path).read_text() for path in paths}


def test_every_test_that_the_page_names_is_there():
    # Names of tests are sentences; what has fewer words is a setting or a field.
    named = set(re.findall(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+){2,})`", PAGE))
    sources = "".join((ROOT / path).read_text() for path in listed() if Path(path).suffix in (".rs", ".py"))
    there = set(re.findall(r"\b(?:fn|def) (\w+)", sources))
    assert len(named) > 50 and named - there == set()


def test_every_file_that_the_page_names_is_there():
    files = set(re.findall(r"`([\w-]+(?:/[\w.-]+)+\.(?:rs|py))`", PAGE))
    assert files and files - set(listed()) == set()


def test_every_http_client_is_made_where_redirects_are_switched_off():
    makes = re.compile(r"\b(?:Client|ClientBuilder)::(?:builder|new)\(\)|\breqwest::get\(")
    rust = {path: text for path, text in sources(".rs").items() if "/src/" in path and not path.startswith("tests/")}
    # The tests of a module may be a file or a folder of their own.
    rust = {path: text for path, text in rust.items() if "tests" not in Path(path).with_suffix("").parts}
    makers = {path for path, text in rust.items() if makes.search(code(path, text))}
    assert makers == {"shared/export/src/http.rs"}
