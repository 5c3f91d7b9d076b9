"""Writes dashboard.ndjson. Run it after a change in saved/: see README.md"""

import json
import pathlib

from saved import release, runs

FILE = pathlib.Path(__file__).parent / "dashboard.ndjson"


def build():
    """The saved objects, one a line."""
    objects = [it for board in (runs, release) for it in board.make()]
    return "".join(json.dumps(it, ensure_ascii=False, separators=(",", ":")) + "\n" for it in objects)


if __name__ == "__main__":
    FILE.write_text(build())
