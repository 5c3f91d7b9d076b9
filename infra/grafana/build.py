"""Writes dashboards/*.json. Run it after a change in boards/: see README.md"""

import json
import pathlib

from boards import failures, first_command, health, overview, pipeline, release, runners
from grafana_foundation_sdk.cog.encoder import JSONEncoder

FOLDER = pathlib.Path(__file__).parent / "dashboards"


def build():
    """The dashboards by file name."""
    made = [it.make().build() for it in (overview, pipeline, first_command, runners, failures, health, release)]
    return {
        f"{it.uid.removeprefix('spanhook-')}.json": JSONEncoder(indent=2).encode(it) + "\n"
        for it in made
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in build().items():
        (FOLDER / name).write_text(text)
