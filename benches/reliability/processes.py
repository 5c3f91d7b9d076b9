"""What runs: `spanhook serve` and a Collector, on addresses that they keep, through whatever happens to them."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "infra" / "tests"))
import collector  # noqa: E402
from deliveries import SETTINGS  # noqa: E402

# Written before it is acknowledged, so that the Collector's own SIGKILL loses nothing: with rotation set nothing is
# held back, and no file ever grows so large.
SINK = """
receivers: { otlp: { protocols: { http: { endpoint: "${env:OTLP_HTTP}", max_request_body_size: 20971520 } } } }
exporters:
  file/traces: { path: "${env:FOLDER}/traces.jsonl", rotation: { max_megabytes: 1000000 } }
  file/metrics: { path: "${env:FOLDER}/metrics.jsonl", rotation: { max_megabytes: 1000000 } }
  file/logs: { path: "${env:FOLDER}/logs.jsonl", rotation: { max_megabytes: 1000000 } }
extensions: { health_check: { endpoint: "${env:HEALTH}" } }
service:
  extensions: [health_check]
  telemetry: { metrics: { level: none } }
  pipelines:
    traces: { receivers: [otlp], exporters: [file/traces] }
    metrics: { receivers: [otlp], exporters: [file/metrics] }
    logs: { receivers: [otlp], exporters: [file/logs] }
"""


def needed(variable, what):
    path = os.environ.get(variable)
    if not path:
        sys.exit(f"{variable} is unset: it names {what}")
    return pathlib.Path(path)


class Process:
    """A program that is started again and again, with its log in one file."""

    all, over = [], False  # for whoever is interrupted: nothing is started any more

    def __init__(self, name, command, folder, env, ready=lambda: True):
        self.name, self.command, self.env, self.ready = name, [str(it) for it in command], env, ready
        self.log = pathlib.Path(folder) / f"{name}.log"
        self.process = None
        self.crashes = []
        self.lock = threading.RLock()
        Process.all.append(self)

    def __enter__(self):
        self.start()
        self.wait()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.send(signal.SIGCONT)
        self.end(signal.SIGTERM)

    def start(self):
        with self.lock:
            if self.process is None and not Process.over:
                with open(self.log, "ab") as log:
                    self.process = subprocess.Popen(self.command, env=self.env, stdout=log, stderr=log)

    def wait(self, seconds=60):
        collector.until(self.up, seconds)

    def up(self):
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                raise AssertionError(f"{self.name} has ended; see {self.log}")
        try:
            return self.ready()
        except OSError:
            return False

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def send(self, number):
        with self.lock:
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(number)

    def end(self, number=signal.SIGKILL):
        with self.lock:
            if self.process is None:
                return
            if self.process.poll() is None:
                self.process.send_signal(number)
                try:
                    self.process.wait(30)
                except subprocess.TimeoutExpired:
                    self.crashes.append(f"{self.name} did not end within 30 s of signal {number}")
                    self.process.kill()
                    self.process.wait()
            else:
                self.crashes.append(f"{self.name} ended by itself with {self.process.returncode}")
            self.process = None

    def revive(self):
        """Notes that it ended by itself, and starts it again."""
        with self.lock:
            if self.process is not None and self.process.poll() is not None:
                self.end()
            self.start()


def get(url):
    return collector.get(url)


def sink(folder, name="collector"):
    """The Collector that writes what it gets into `folder`."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "collector.yaml").write_text(SINK)
    http, health = collector.free_ports(2)
    env = {
        "PATH": os.environ["PATH"], "FOLDER": str(folder),
        "OTLP_HTTP": f"127.0.0.1:{http}", "HEALTH": f"127.0.0.1:{health}",
    }  # fmt: skip
    binary = needed("SPANHOOK_PARTS", "the folder of tests/parts/install.sh") / "bin" / "otelcol"
    command = [binary, "--config", folder / "collector.yaml"]
    process = Process(name, command, folder, env, lambda: get(f"http://127.0.0.1:{health}/"))
    process.port, process.folder, process.endpoint = http, folder, f"http://127.0.0.1:{http}"
    return process


def serve(folder, data, endpoint, env=None, name="serve"):
    """`spanhook serve` that forwards to `endpoint`."""
    (port,) = collector.free_ports(1)
    binary = needed("SPANHOOK_BINARY", "the built spanhook")
    command = [binary, "serve", "--listen", f"127.0.0.1:{port}", "--data", data]
    settings = {**SETTINGS, "PATH": os.environ["PATH"], "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **(env or {})}
    url = f"http://127.0.0.1:{port}"
    # With a full disk it is up but not ready.
    process = Process(name, command, folder, settings, lambda: get(f"{url}/health"))
    process.endpoint, process.data = url, data
    return process


def status(process):
    """What `spanhook serve` says of itself."""
    return json.loads(get(f"{process.endpoint}/api/traces"))["status"]


def proc(pid):
    """CPU seconds so far, and memory at its most in MB."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    with open(f"/proc/{pid}/status") as file:
        peak = next(line.split()[1] for line in file if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(peak) / 1024


def stamp(began):
    return f"{time.monotonic() - began:7.2f}"
