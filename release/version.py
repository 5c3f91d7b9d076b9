#!/usr/bin/env python3
"""Prints the version, which is that of Cargo.toml's workspace, if everything else says the same.

usage: version.py [--set VERSION]   (writes it everywhere but into CHANGELOG.md, and then says it)
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
NUMBER = r"[0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.]+)?"
ACTION = rf"OWNER/spanhook/action@v({NUMBER})"

# Where else it stands: a file, and what is around it. Each must be there.
PLACES = [
    ("packages/bundler/package.json", rf'^  "version": "({NUMBER})"'),
    ("packages/bundler/package-lock.json", rf'\A\{{\s+"name": "@spanhook/bundler",\s+"version": "({NUMBER})"'),
    ("packages/bundler/package-lock.json", rf'"": \{{\s+"name": "@spanhook/bundler",\s+"version": "({NUMBER})"'),
    ("packages/bundler/README.md", ACTION),
    ("infra/helm/spanhook/Chart.yaml", rf"^version: ({NUMBER})$"),
    ("infra/helm/spanhook/Chart.yaml", rf"^appVersion: ({NUMBER})$"),
    ("infra/helm/spanhook/README.md", rf"REGISTRY/spanhook(?:-relay)?:({NUMBER})"),
    ("README.md", ACTION),
    ("docs/senders.md", rf"SPANHOOK_VERSION(?:: |, value: )({NUMBER})"),
    *((str(it.relative_to(ROOT)), ACTION) for it in ROOT.glob("docs/*.md") if "spanhook/action@" in it.read_text()),
]
OWN = ("Cargo.toml", rf'^\[workspace\.package\]\nversion = "({NUMBER})"')


def declared(root: Path = ROOT) -> str:
    """The one that the others follow."""
    return tomllib.loads((root / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def differences(root: Path = ROOT) -> list[str]:
    """What says another version, or none."""
    version = declared(root)
    found = []
    for name, pattern in PLACES:
        said = re.findall(pattern, (root / name).read_text(), re.MULTILINE)
        found += [f"{name} says {it}" for it in said if it != version]
        found += [] if said else [f"{name} has nothing like {pattern}"]
    newest = re.search(rf"^## \[?({NUMBER})\]?", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    if not newest or newest[1] != version:
        found.append(f"CHANGELOG.md begins with {newest[1] if newest else 'no version'}")
    return found


def write(version: str, root: Path = ROOT) -> None:
    """Sets all but the changelog, which a person writes."""
    if not re.fullmatch(NUMBER, version):
        sys.exit(f"{version!r} is no version; use three numbers, such as 1.2.3")
    for name, pattern in [OWN, *PLACES]:
        file = root / name
        same = lambda it: it[0].replace(it[1], version)  # noqa: E731
        file.write_text(re.sub(pattern, same, file.read_text(), flags=re.MULTILINE))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--set"]:
        write(sys.argv[2])
    wrong = differences()
    if wrong:
        sys.exit(f"Cargo.toml says {declared()}, but:\n  " + "\n  ".join(wrong))
    print(declared())
