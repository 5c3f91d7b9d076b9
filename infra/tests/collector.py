"""Runs real Collectors for tests, on free loopback ports, and makes spans as spanhook makes them."""

import bisect
import functools
import hashlib
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request

import pytest

CONFIGS = pathlib.Path(__file__).parent.parent / "collector"

# The other end: writes what it gets, one line of OTLP JSON a batch.
SINK = """
receivers: { otlp: { protocols: { http: { endpoint: "${env:OTLP_HTTP}" }, grpc: { endpoint: "${env:OTLP_GRPC}" } } } }
exporters:
  file/traces: { path: "${env:FOLDER}/traces.jsonl", append: true, flush_interval: 50ms }
  file/metrics: { path: "${env:FOLDER}/metrics.jsonl", append: true, flush_interval: 50ms }
  file/logs: { path: "${env:FOLDER}/logs.jsonl", append: true, flush_interval: 50ms }
extensions: { health_check: { endpoint: "${env:HEALTH}" } }
service:
  extensions: [health_check]
  telemetry: { metrics: { level: none } }
  pipelines:
    traces: { receivers: [otlp], exporters: [file/traces] }
    metrics: { receivers: [otlp], exporters: [file/metrics] }
    logs: { receivers: [otlp], exporters: [file/logs] }
"""

# GITLAB_NATIVE_JOB_ID
NATIVE_JOB_IDS = ["default", "export"]

# Laid over a configuration so that a test need not wait 5 s for the first retry.
QUICK_RETRIES = "exporters: { otlp_http: { retry_on_failure: { initial_interval: 100ms, max_interval: 500ms } } }"


def binary(name="otelcol"):
    """The path of a Collector; skips the test when it is not installed."""
    parts = os.environ.get("SPANHOOK_PARTS")
    if not parts:
        pytest.skip("SPANHOOK_PARTS is unset: tests/parts/install.sh installs the Collector")
    path = pathlib.Path(parts) / "bin" / name
    if not path.exists():
        pytest.skip(f"{name} is not installed below SPANHOOK_PARTS")
    return path


def until(condition, seconds=60):
    """Waits for a condition and returns its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s for {condition}"
        time.sleep(0.05)
    return value


def free_ports(count):
    """Addresses that nothing listens on. All are taken at once, so that no two are the same."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [it.getsockname()[1] for it in sockets]
    for it in sockets:
        it.close()
    return ports


class Collector:
    """A Collector. Each configuration is a name in infra/collector, or YAML laid over the ones before it."""

    def __init__(self, folder, *configs, program="otelcol", **env):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.program = binary(program)
        self.http, self.grpc, self.health, self.metrics_port = free_ports(4)
        self.endpoint = f"http://127.0.0.1:{self.http}"
        self.env = {
            "PATH": os.environ["PATH"],
            "TZ": "UTC",
            "OTLP_HTTP": f"127.0.0.1:{self.http}",
            "OTLP_GRPC": f"127.0.0.1:{self.grpc}",
            "HEALTH": f"127.0.0.1:{self.health}",
            "METRICS_PORT": str(self.metrics_port),
            "STORAGE": str(self.folder / "storage"),
            "FOLDER": str(self.folder),
            **env,
        }
        self.trust = None  # the certificate of an https endpoint
        self.args = []
        for number, config in enumerate(configs):
            path = CONFIGS / config
            if "\n" in config or ":" in config:
                path = self.folder / f"{number}.yaml"
                path.write_text(config)
            self.args += ["--config", str(path)]
        self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process:
            self.kill()

    def validate(self):
        """What is wrong with the configuration, or an empty text."""
        done = subprocess.run([self.program, "validate", *self.args], env=self.env, capture_output=True, text=True)
        return done.stderr if done.returncode else ""

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([self.program, *self.args], env=self.env, stdout=log, stderr=log)
        until(self._healthy)
        return self

    def _healthy(self):
        assert self.process.poll() is None, self.log()[-3000:]
        try:
            return get(f"http://127.0.0.1:{self.health}/")
        except OSError:
            return None

    def stop(self):
        """Asks it to end, and waits until it has written what it holds."""
        self._end(signal.SIGTERM)

    def kill(self):
        """SIGKILL: it can't write anything more."""
        self._end(signal.SIGKILL)

    def _end(self, number):
        self.process.send_signal(number)
        self.process.wait(60)
        self.process = None

    def send(self, resource_spans, headers=None):
        """Sends OTLP JSON and returns the HTTP status."""
        return self._post("traces", {"resourceSpans": resource_spans}, headers)

    def send_metrics(self, resource_metrics):
        """Likewise."""
        return self._post("metrics", {"resourceMetrics": resource_metrics})

    def _post(self, signal_name, body, headers=None):
        headers = {"Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(f"{self.endpoint}/v1/{signal_name}", json.dumps(body).encode(), headers)
        try:
            with opener(self.trust).open(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def metric(self, name):
        """One of its own metrics, summed up; 0 when it has none yet."""
        lines = get(f"http://127.0.0.1:{self.metrics_port}/metrics").decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0] == name)

    def log(self):
        return (self.folder / "log").read_text()

    def lines(self, signal_name):
        """What a sink has written. Its last line may still be incomplete."""
        path = self.folder / f"{signal_name}.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def spans(self):
        """(trace id, span id) of every span in a sink, in the order of arrival."""
        return [
            (span["traceId"], span["spanId"])
            for line in self.lines("traces")
            for resource in line["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


def sink(folder):
    return Collector(folder, SINK)


@functools.cache
def opener(trust=None):
    # No proxy: this is loopback.
    tls = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=trust))
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), tls)


def get(url):
    with opener().open(url, timeout=5) as answer:
        return answer.read()


def hashed(length, *fields):
    """An id as docs/ids.md has it: SHA-256 of netstrings, cut to that many bytes, as hex."""
    fields = ("spanhook/1", "gitlab", "gitlab.com", *fields)
    text = "".join(f"{len(field.encode())}:{field}," for field in fields)
    return hashlib.sha256(text.encode()).hexdigest()[: 2 * length]


def trace_id(pipeline):
    return hashed(16, "trace", str(pipeline))


START = 1_780_000_000  # seconds


def run_span(pipeline, seconds=60, result="success", name="group/project"):
    """The ResourceSpans of a pipeline's own span."""
    span = {
        "name": "RUN",
        "kind": 2,
        "spanId": hashed(8, "run", str(pipeline)),
        "attributes": {"spanhook.kind": "run", "cicd.pipeline.action.name": "RUN", "cicd.pipeline.result": result},
    }
    return _resource(pipeline, name, {}, [_finish(span, pipeline, 0, seconds, result)])


def job_spans(pipeline, jobs, seconds=20, result="success", name="group/project"):
    """The ResourceSpans of a stage, and of as many jobs with their time in the queue."""
    stage = hashed(8, "stage", str(pipeline), "test")
    stage_span = {"name": "test", "kind": 1, "spanId": stage, "parentSpanId": hashed(8, "run", str(pipeline))}
    stage_span["attributes"] = {"spanhook.kind": "stage", "spanhook.stage": "test"}
    queues, resources = [_finish(stage_span, pipeline, 5, 5 + seconds, result)], []
    for number in range(jobs):
        job = f"{pipeline}{number:03}"
        queue = {"name": f"queue job-{number}", "kind": 1, "spanId": hashed(8, "queue", job), "parentSpanId": stage}
        queue["attributes"] = {"spanhook.kind": "queue", "spanhook.job": f"job-{number}"}
        queues.append(_finish(queue, pipeline, 0, 5))
        attributes = {
            "spanhook.kind": "job",
            "cicd.pipeline.task.name": f"job-{number}",
            "cicd.pipeline.task.run.id": job,
            "cicd.pipeline.task.type": "test",
            "cicd.pipeline.task.run.result": result,
        }
        span = {"name": f"job-{number}", "kind": 1, "spanId": hashed(8, "job", job), "parentSpanId": stage}
        span["attributes"] = attributes
        worker = {"cicd.worker.id": str(number % 3), "cicd.worker.name": f"runner-{number % 3}"}
        resources += _resource(pipeline, name, worker, [_finish(span, pipeline, 5, 5 + seconds, result)])
    return _resource(pipeline, name, {}, queues) + resources


# docs/metrics.md
BOUNDS = [1, 5, 10, 30, 60, 120, 300, 600, 900, 1200, 1800, 2700, 3600, 5400, 7200, 10800, 21600]


def run_points(pipeline, end, name="group/project", result="success", **states):
    """The ResourceMetrics of a run as a webhook gives them: its length in each state, in seconds."""
    points = []
    for state, seconds in states.items():
        attributes = {"cicd.pipeline.name": name, "cicd.pipeline.run.state": state}
        if state == "executing":
            attributes["cicd.pipeline.result"] = result
            end += seconds
        time = (START + end) * 10**9
        exemplar = {"timeUnixNano": str(time), "asDouble": seconds}
        exemplar |= {"traceId": trace_id(pipeline), "spanId": hashed(8, "run", str(pipeline))}
        bucket = bisect.bisect_left(BOUNDS, seconds)
        points.append({
            "startTimeUnixNano": str(time - 1), "timeUnixNano": str(time),
            "count": "1", "sum": seconds, "min": seconds, "max": seconds,
            "bucketCounts": [str(int(it == bucket)) for it in range(len(BOUNDS) + 1)], "explicitBounds": BOUNDS,
            "attributes": _attributes(attributes), "exemplars": [exemplar],
        })  # fmt: skip
    histogram = {"aggregationTemporality": 1, "dataPoints": points}
    metric = {"name": "cicd.pipeline.run.duration", "unit": "s", "histogram": histogram}
    resource = {
        "service.name": "gitlab",
        "cicd.pipeline.name": name,
        "spanhook.provider": "gitlab",
        "vcs.repository.name": "project",
        "vcs.owner.name": "group",
    }
    scope = {"scope": {"name": "spanhook", "version": "0.1.0"}, "metrics": [metric]}
    return [{"resource": {"attributes": _attributes(resource)}, "scopeMetrics": [scope]}]


def _finish(span, pipeline, start, end, result="success"):
    attributes = dict(span.get("attributes", {}))
    status = {}
    if result in ("failure", "error"):
        attributes["error.type"] = "script_failure"
        status = {"code": 2}
    times = {"startTimeUnixNano": str((START + start) * 10**9), "endTimeUnixNano": str((START + end) * 10**9)}
    return {**span, **times, "traceId": trace_id(pipeline), "attributes": _attributes(attributes), "status": status}


def _resource(pipeline, name, more, spans):
    attributes = {
        "service.name": "gitlab",
        "cicd.pipeline.name": name,
        "cicd.pipeline.run.id": str(pipeline),
        "vcs.repository.name": "project",
        **more,
    }
    scope = {"name": "spanhook", "version": "0.1.0"}
    return [{"resource": {"attributes": _attributes(attributes)}, "scopeSpans": [{"scope": scope, "spans": spans}]}]


def _attributes(values):
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]


def ids_of(resource_spans):
    """(trace id, span id) of every span."""
    return {
        (span["traceId"], span["spanId"])
        for resource in resource_spans
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    }
