"""The page on security names tests that are there."""

import re
from pathlib import Path

from test_rooms import ROOT, listed

PAGE = (ROOT / "docs" / "security.md").read_text()


def test_every_test_that_the_page_names_is_there():
    # Names of tests are sentences; what has fewer words is a setting or a field.
    named = set(re.findall(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+){2,})`", PAGE))
    sources = "".join((ROOT / path).read_text() for path in listed() if Path(path).suffix in (".rs", ".py"))
    there = set(re.findall(r"\b(?:fn|def) (\w+)", sources))
    assert len(named) > 50 and named - there == set()


def test_every_file_that_the_page_names_is_there():
    files = set(re.findall(r"`([\w-]+(?:/[\w.-]+)+\.(?:rs|py))`", PAGE))
    assert files and files - set(listed()) == set()
