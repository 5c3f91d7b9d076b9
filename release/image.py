#!/usr/bin/env python3
"""An image of a stage of the Dockerfile that begins with `FROM scratch`, for both processors, without Docker.

A file in OCI's layout (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>), which
`podman load`, `skopeo copy oci-archive:` and, unpacked, `crane push` take. The Dockerfile stays the only place that
says what is in the image and how it starts.

usage: image.py STAGE BINARY_X86_64 BINARY_AARCH64 OUT.tar   (STAGE "" is the last one)
"""

import gzip
import hashlib
import io
import json
import os
import re
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOTS = "etc/ssl/certs/ca-certificates.crt"
EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
PREFIX = "application/vnd.oci.image"


def stage(name: str, text: str | None = None) -> list[tuple[str, str]]:
    """The instructions of a stage, each with its arguments; without a name of the last."""
    text = (ROOT / "Dockerfile").read_text() if text is None else text
    lines = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    instructions = [tuple(it.split(None, 1)) for it in lines if it.strip()]
    begins = [at for at, (word, _) in enumerate(instructions) if word == "FROM"]
    for at, following in zip(begins, [*begins[1:], len(instructions)]):
        base, *named = instructions[at][1].split()
        wanted = named == ["AS", name] if name else following == len(instructions)
        if wanted:
            if base != "scratch":
                sys.exit(f"the stage {name!r} begins with {base}; only what begins with scratch can be made here")
            return instructions[at + 1 : following]
    sys.exit(f"the Dockerfile has no stage {name!r}")


def settings(instructions: list[tuple[str, str]]) -> dict:
    """How a container starts: the `config` of the image."""
    config: dict = {}
    for word, rest in instructions:
        match word:
            case "USER":
                config["User"] = rest
            case "ENV":
                config["Env"] = rest.split()
            case "VOLUME":
                config["Volumes"] = {it: {} for it in rest.split()}
            case "EXPOSE":
                config["ExposedPorts"] = {f"{it}/tcp": {} for it in rest.split()}
            case "ENTRYPOINT" | "CMD":
                config[word.capitalize()] = json.loads(rest)
            case "COPY":
                pass
            case _:
                sys.exit(f"what {word} {rest} means for the image nobody has written here")
    return config


def layer(instructions: list[tuple[str, str]], binary: bytes) -> bytes:
    """The files, as an uncompressed archive: what the stage copies from the others."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(path: str, content: bytes | None, mode: int, owner: int = 0) -> None:
            it = tarfile.TarInfo(path)
            it.mtime, it.mode, it.uid, it.gid = EPOCH, mode, owner, owner
            if content is None:
                it.type = tarfile.DIRTYPE
            else:
                it.size = len(content)
            archive.addfile(it, io.BytesIO(content) if content is not None else None)

        for word, rest in instructions:
            if word != "COPY":
                continue
            *flags, source, target = rest.split()
            owner = next((int(it.split("=")[1].split(":")[0]) for it in flags if it.startswith("--chown=")), 0)
            if source == f"/{ROOTS}":
                roots = Path("/", ROOTS)
                if not roots.is_file():
                    sys.exit(f"{roots} is not here; install the package ca-certificates")
                for at in range(1, ROOTS.count("/") + 1):
                    add("/".join(ROOTS.split("/")[:at]), None, 0o755)
                add(ROOTS, roots.read_bytes(), 0o644)
            elif source == "/empty":
                add(target.strip("/"), None, 0o755, owner)
            elif source.startswith("/spanhook") and target == "/":
                add(source.strip("/"), binary, 0o755)
            else:
                sys.exit(f"what COPY {rest} means for the image nobody has written here")
    return out.getvalue()


def layout(name: str, binaries: dict[str, bytes]) -> dict[str, bytes]:
    """The files of the image, by their paths; binaries by what OCI calls their processors."""
    instructions = stage(name)
    files: dict[str, bytes] = {}

    def blob(content: bytes, kind: str) -> dict:
        digest = hashlib.sha256(content).hexdigest()
        files[f"blobs/sha256/{digest}"] = content
        return {"mediaType": f"{PREFIX}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    def text(it: dict) -> bytes:
        return json.dumps(it, separators=(",", ":")).encode()

    manifests = []
    for architecture, binary in binaries.items():
        plain = layer(instructions, binary)
        config = {
            "created": datetime.fromtimestamp(EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "architecture": architecture,
            "os": "linux",
            "config": settings(instructions),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(plain).hexdigest()}"]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{PREFIX}.manifest.v1+json",
            "config": blob(text(config), "config.v1+json"),
            "layers": [blob(gzip.compress(plain, mtime=0), "layer.v1.tar+gzip")],
        }
        platform = {"architecture": architecture, "os": "linux"}
        manifests.append(blob(text(manifest), "manifest.v1+json") | {"platform": platform})
    index = {"schemaVersion": 2, "mediaType": f"{PREFIX}.index.v1+json", "manifests": manifests}
    files["index.json"] = text({**index, "manifests": [blob(text(index), "index.v1+json")]})
    files["oci-layout"] = text({"imageLayoutVersion": "1.0.0"})
    return files


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    of, x86_64, aarch64, out = sys.argv[1:]
    binaries = {"amd64": Path(x86_64).read_bytes(), "arm64": Path(aarch64).read_bytes()}
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as archive:
        for path, content in sorted(layout(of, binaries).items()):
            it = tarfile.TarInfo(path)
            it.size, it.mtime, it.mode = len(content), EPOCH, 0o644
            archive.addfile(it, io.BytesIO(content))
