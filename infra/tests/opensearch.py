"""Runs a real OpenSearch node for tests, on a free loopback port, with what infra/opensearch loads into it."""

import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import urllib.error
import urllib.request

import pytest
from collector import free_ports, opener, until

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "opensearch"
RUN = ROOT / "tests" / "parts" / "opensearch" / "run.sh"


class Node:
    """A node with data of its own below a folder, gone with the process."""

    def __init__(self, folder):
        parts = os.environ.get("SPANHOOK_PARTS")
        if not parts or not (pathlib.Path(parts) / "opensearch" / "lib").exists():
            pytest.skip("OpenSearch is not installed below SPANHOOK_PARTS: tests/parts/install.sh opensearch")
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.port,) = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen([RUN, str(self.port), self.folder / "node"], stdout=log, stderr=log)
        try:
            until(self._up, 120)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)
        shutil.rmtree(self.folder / "node", ignore_errors=True)

    def _up(self):
        assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
        try:
            # Before its first state is published it answers, and takes nothing.
            return self.call("GET", "_cluster/health?wait_for_status=yellow&timeout=1s")["status"] != "red"
        except (OSError, http.client.HTTPException):
            return False

    def call(self, method, path, body=None):
        """The answer; an error of the node is one here, with what the node says of it."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.endpoint}/{path}", data, headers, method=method)
        try:
            with opener().open(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            error.add_note(error.read().decode())
            raise

    def search(self, index, body):
        answer = self.call("POST", f"{index}/_search", body)
        assert not answer["timed_out"] and not answer["_shards"]["failed"], answer
        return answer

    def documents(self, index):
        """Everything in the indices of a pattern, by id."""
        self.call("POST", f"{index}/_refresh")
        answer = self.search(index, {"size": 10_000})
        assert answer["hits"]["total"] == {"value": len(answer["hits"]["hits"]), "relation": "eq"}
        return {it["_id"]: it["_source"] for it in answer["hits"]["hits"]}

    def count(self, index):
        self.call("POST", f"{index}/_refresh")
        return self.call("GET", f"{index}/_count")["count"]

    def field(self, index, name):
        """What searches and aggregations may do with a field of a pattern, or None when no index has it."""
        found = self.call("GET", f"{index}/_field_caps?fields={name}")["fields"].get(name)
        if found is None:
            return None
        (capabilities,) = found.values()  # two types in two indices would be a conflict
        return capabilities

    def load(self):
        """Does what README.md says, but for what this node has no plugin for."""
        (commands,) = re.findall(r"```sh\n(OPENSEARCH=.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
        first, *lines = commands.splitlines()
        assert first.startswith("OPENSEARCH=")
        puts = [it for it in lines if it.startswith("put ")]
        left_out = [it for it in puts if "_plugins/_ism/" in it]
        assert len(left_out) == 1 and len(puts) > 1
        define = [it for it in lines if it.startswith("put()")]
        script = "\n".join(["set -eu", *define, *(it for it in puts if it not in left_out)])
        env = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", "OPENSEARCH": self.endpoint, "AUTH": "user:password"}
        done = subprocess.run(["bash", "-c", script], cwd=FOLDER, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count('{"acknowledged":true}') == len(puts) - 1, done.stdout
