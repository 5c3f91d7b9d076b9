#!/usr/bin/env python3
"""What is compiled into these packages' binaries for Linux, as a CycloneDX 1.5 document.

Cargo knows the packages with the features that the whole workspace uses, so a binary may hold less than
its document says, and never more. The crates' C code (aws-lc, zstd) is part of the crate that brings it.

usage: sbom.py PACKAGE…
"""

import json
import os
import subprocess
import sys
import tomllib
import uuid
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]


def metadata() -> dict:
    """What Cargo says of the locked dependencies."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-musl"]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)


def compiled(nodes: dict, roots: list[str]) -> dict[str, list[str]]:
    """What each package needs at run time, from these on. Macros are run by the compiler alone, but which
    are macros the graph does not say: they are listed."""
    found, waiting = {}, list(roots)
    while waiting:
        it = waiting.pop()
        if it in found:
            continue
        # A dependency of a build script has the kind "build", one of tests "dev".
        found[it] = sorted(
            dep["pkg"] for dep in nodes[it]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])
        )
        waiting += found[it]
    return found


def document(names: list[str]) -> dict:
    """The bill of these packages of the workspace."""
    all_of_it = metadata()
    packages = {it["id"]: it for it in all_of_it["packages"]}
    nodes = {it["id"]: it for it in all_of_it["resolve"]["nodes"]}
    members = {packages[it]["name"]: it for it in all_of_it["workspace_members"]}
    graph = compiled(nodes, [members[it] for it in names])
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    sums = {(it["name"], it["version"]): it.get("checksum") for it in locked}

    def reference(it: str) -> str:
        return f"pkg:cargo/{packages[it]['name']}@{packages[it]['version']}"

    def component(it: str) -> dict:
        package = packages[it]
        checksum = sums[package["name"], package["version"]]
        licence = (package["license"] or "").replace("/", " OR ")
        made = {
            "type": "library", "bom-ref": reference(it), "name": package["name"], "version": package["version"],
            "purl": reference(it),
            "licenses": [{"expression": licence}] if licence else [],
            "hashes": [{"alg": "SHA-256", "content": checksum}] if checksum else [],
        }
        return {key: value for key, value in made.items() if value}

    version = packages[members[names[0]]]["version"]
    of = names[0] if len(names) == 1 else "spanhook-functions"
    main = {"type": "application", "bom-ref": of, "name": of, "version": version}
    roots = [members[it] for it in names]
    components = [component(it) for it in sorted(graph, key=reference)]
    dependencies = [{"ref": of, "dependsOn": sorted(map(reference, roots))}]
    dependencies += [
        {"ref": reference(it), "dependsOn": sorted(set(map(reference, needs)))}
        for it, needs in sorted(graph.items(), key=lambda it: reference(it[0]))
    ]
    when = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC)
    # The same contents have the same number.
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([main, components, dependencies]))
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{number}", "version": 1,
        "metadata": {"timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": main},
        "components": components, "dependencies": dependencies,
    }


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    json.dump(document(sys.argv[1:]), sys.stdout, indent=1)
    print()
