"""Runs `spanhook serve` for tests, on a free loopback port: the real mapping, queue and forwarder."""

import hashlib
import hmac
import json
import os
import pathlib
import subprocess
import urllib.request

import pytest
from collector import free_ports, get, opener, until

TOKEN, SECRET = "a-token-of-builds", "a-secret-of-webhooks"


class Serve:
    """Sends what it takes to a Collector."""

    def __init__(self, folder, collector, **env):
        binary = os.environ.get("SPANHOOK_BINARY")
        if not binary:
            pytest.skip("SPANHOOK_BINARY is unset: it names the built spanhook")
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (port,) = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{port}"
        self.command = [binary, "serve", "--listen", f"127.0.0.1:{port}", "--data", str(self.folder / "queue")]
        self.env = {
            "PATH": os.environ["PATH"],
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "BUILD_EVENTS_TOKEN": TOKEN,
            "GITHUB_WEBHOOK_SECRET": SECRET,
            "GITLAB_SECRET_TOKEN": SECRET,
            "KUBERNETES_TOKEN": TOKEN,
            **env,
        }

    def __enter__(self):
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(self.command, env=self.env, stdout=log, stderr=log)
        try:
            until(self._up)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)

    def _up(self):
        assert self.process.poll() is None, self.log()
        try:
            return get(f"{self.endpoint}/ready") is not None
        except OSError:
            return False

    def log(self):
        return (self.folder / "log").read_text()

    def report(self, events):
        """Build events; the answer."""
        return self._post("build-events", events, {"Authorization": f"Bearer {TOKEN}"})

    def github(self, delivery):
        signature = hmac.new(SECRET.encode(), json.dumps(delivery).encode(), hashlib.sha256).hexdigest()
        return self._post("github", delivery, {"X-Hub-Signature-256": f"sha256={signature}"})

    def gitlab(self, delivery):
        return self._post("gitlab", delivery, {"X-Gitlab-Token": SECRET, "X-Gitlab-Event": "Pipeline Hook"})

    def cluster(self, batch):
        return self._post("kubernetes", batch, {"Authorization": f"Bearer {TOKEN}"})

    def _post(self, path, body, headers):
        headers = {"Content-Type": "application/json", **headers}
        request = urllib.request.Request(f"{self.endpoint}/{path}", json.dumps(body).encode(), headers)
        with opener().open(request, timeout=30) as answer:
            return json.loads(answer.read())

    def queued(self):
        """How many messages wait to be forwarded."""
        return self._status()["queued"]

    def counters(self):
        """What it counted since the start, by name."""
        return dict(self._status()["counters"])

    def _status(self):
        return json.loads(get(f"{self.endpoint}/api/traces"))["status"]
