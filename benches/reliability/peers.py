#!/usr/bin/env python3
"""`spanhook serve` beside the Collector's own receivers of webhooks: rate, CPU, memory, and what is lost.

usage: benches/reliability/peers.py [--seconds 5] [--rounds 2] [--outage 20] [--provider gitlab] [--skip rate|loss]

The same deliveries, proven in the way that both can check (GitLab's secret token, GitHub's signature), go to each in
turn, and each forwards to a Collector that writes a file. The Collector's receivers are tried with a queue on disk
(file_storage, with and without fsync) and with one in memory, both of the exporter and with batches, since a batch
processor would hold acknowledged spans in memory before either. Needs wrk, SPANHOOK_BINARY (a release build) and
SPANHOOK_PARTS.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import processes
from deliveries import SECRET, Samples
from ledger import Connection, Ledger, requests
from proxy import Proxy

# The Collector's receiver of GitLab's has spans of pipelines only; GitHub's of both.
SAMPLES = {
    "gitlab": ["gitlab/pipeline-failed"],
    "github": ["github/workflow-job-build", "github/workflow-run-failed"],
}
POOL = 2000  # deliveries that wrk sends, again and again
SENDERS, RATE = 8, 100  # while something is lost: threads, and deliveries a second of all
KILLS = 3
SETTLED = 3  # seconds without anything new are the end

COLLECTOR = """
receivers:
  gitlab: { webhook: { endpoint: "${env:GITLAB}", secret: "${env:SECRET}", read_timeout: 10s, write_timeout: 10s } }
  github:
    webhook: { endpoint: "${env:GITHUB}", secret: "${env:SECRET}", read_timeout: 10s, write_timeout: 10s }
    scrapers: { scraper: { github_org: none } } # one is required, and none runs: no pipeline has metrics
exporters:
  otlp_http:
    endpoint: "${env:UPSTREAM}"
    sending_queue: { queue_size: 1000000, batch: { flush_timeout: 200ms, min_size: 1000, sizer: items } %s }
extensions:
  health_check: { endpoint: "${env:HEALTH}" }
  %s
service:
  extensions: [health_check %s]
  telemetry: { metrics: { level: none }, logs: { level: error } }
  pipelines:
    traces: { receivers: [gitlab, github], exporters: [otlp_http] }
"""
STORAGE = "file_storage: { directory: '${env:STORAGE}', create_directory: true, fsync: %s }"


class Spanhook:
    name = "spanhook serve"

    def __init__(self, folder, upstream):
        # GitLab proves itself by its token, as the Collector's receiver wants it.
        env = {"GITLAB_SIGNING_TOKEN": "", "GITLAB_SECRET_TOKEN": SECRET, "LOG_LEVEL": "error"}
        self.process = processes.serve(folder, folder / "queue", upstream, env)
        self.addresses = {it: (self.process.endpoint, f"/{it}") for it in SAMPLES}


class Receivers:
    def __init__(self, folder, upstream, fsync=None):
        folder.mkdir(parents=True, exist_ok=True)
        stored = fsync is not None
        storage = STORAGE % str(fsync).lower() if stored else ""
        config = COLLECTOR % (", storage: file_storage" if stored else "", storage, ", file_storage" if stored else "")
        (folder / "receivers.yaml").write_text(config)
        gitlab, github, health = processes.collector.free_ports(3)
        env = {
            "PATH": os.environ["PATH"], "SECRET": SECRET, "UPSTREAM": upstream, "STORAGE": str(folder / "storage"),
            "GITLAB": f"127.0.0.1:{gitlab}", "GITHUB": f"127.0.0.1:{github}", "HEALTH": f"127.0.0.1:{health}",
        }  # fmt: skip
        binary = processes.needed("SPANHOOK_PARTS", "the folder of tests/parts/install.sh") / "bin" / "otelcol"
        ready = lambda: processes.get(f"http://127.0.0.1:{health}/")
        self.process = processes.Process("receivers", [binary, "--config", folder / "receivers.yaml"], folder, env, ready)
        ports = {"gitlab": gitlab, "github": github}
        self.addresses = {it: (f"http://127.0.0.1:{port}", "/events") for it, port in ports.items()}


SYSTEMS = {
    "spanhook serve": Spanhook,
    "Collector, queue on disk, fsync": lambda *it: Receivers(*it, fsync=True),
    "Collector, queue on disk": lambda *it: Receivers(*it, fsync=False),
    "Collector, queue in memory": Receivers,
}


class Deliveries:
    """Of one provider, each with its number in the name of its branch, which is in all spans of a run."""

    def __init__(self, provider):
        self.provider, self.samples = provider, Samples(SAMPLES[provider])
        branch = r'("ref"|"head_branch"): ?"[^"]*"'
        texts = {name: json.dumps(json.loads(it)) for name, it in self.samples.texts.items()}
        self.samples.texts = {name: re.sub(branch, r'\1: "delivery-BRANCH"', it) for name, it in texts.items()}

    def make(self, number):
        names = SAMPLES[self.provider]
        made = self.samples.make(number, names[number % len(names)])
        return type(made)(made.number, made.sample, made.body.replace(b"delivery-BRANCH", b"delivery-%d" % number))

    def headers(self, made):
        if self.provider == "gitlab":
            return {"content-type": "application/json", "x-gitlab-token": SECRET, "x-gitlab-event": "Pipeline Hook"}
        return made.headers()


@contextlib.contextmanager
def running(system, folder):
    """A system, the Collector behind it, and the proxy between them."""
    with processes.sink(folder / "sink") as sink, Proxy(sink.port) as way:
        started = SYSTEMS[system](folder, way.endpoint)
        with started.process:
            yield started, sink, way


def quiet(sink, seconds=300):
    """Waits until the Collector writes nothing more."""
    path, size, since, end = sink.folder / "traces.jsonl", -1, time.monotonic(), time.monotonic() + seconds
    while time.monotonic() - since < SETTLED and time.monotonic() < end:
        time.sleep(0.2)
        now = path.stat().st_size if path.exists() else 0
        if now != size:
            size, since = now, time.monotonic()


def script(folder, deliveries, path):
    """wrk's: as many requests as there are in the pool, in turn."""
    lines = ["local all = {}", "init = function(args)"]
    for number in range(POOL):
        made = deliveries.make(number)
        headers = ", ".join(f"[{json.dumps(name)}]={json.dumps(it)}" for name, it in deliveries.headers(made).items())
        body = made.body.decode()
        lines.append(f"all[#all+1] = wrk.format('POST', '{path}', {{{headers}}}, [==[{body}]==])")
    lines += ["end", "local at = 0", "request = function() at = at % #all + 1; return all[at] end"]
    (folder / "post.lua").write_text("\n".join(lines))
    return folder / "post.lua"


def load(lua, endpoint, connections, seconds):
    """Answers a second, its median and 99th percentile, and how many were not 2xx."""
    command = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", lua, endpoint]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = lambda pattern: (re.search(pattern, text) or [None, "0"])[1]
    requests = int(found(r"(\d+) requests in"))
    return float(found(r"Requests/sec: +([\d.]+)")), found(r"50% +(\S+)"), found(r"99% +(\S+)"), int(found(r"Non-2xx.*: (\d+)")), requests


def rate(system, provider, folder, seconds):
    deliveries, rows = Deliveries(provider), []
    for connections in (1, 32):
        part = folder / f"{connections}"
        part.mkdir(parents=True)
        with running(system, part) as (started, sink, _):
            endpoint, path = started.addresses[provider]
            before, _ = processes.proc(started.process.pid)
            answers = load(script(part, deliveries, path), endpoint, connections, seconds)
            quiet(sink)
            cpu, memory = processes.proc(started.process.pid)
            rows.append((*answers, (cpu - before) / max(answers[4] - answers[3], 1) * 1e6, memory))
        shutil.rmtree(part)
    return rows


def send(deliveries, endpoint, path, seconds, ledger):
    """At a rate, each delivery once: neither provider sends again by itself."""
    over, numbers, lock = time.monotonic() + seconds, iter(range(10**6)), threading.Lock()

    def work():
        connection = Connection(endpoint, timeout=10)
        while time.monotonic() < over:
            with lock:
                made = deliveries.make(next(numbers))
            ledger.begin(made)
            try:
                status, _ = connection.post(path, deliveries.headers(made), made.body)
                ledger.answered(made, status, b"{}")
            except Exception as error:
                ledger.failed(type(error).__name__)
            time.sleep(SENDERS / RATE)

    threads = [threading.Thread(target=work) for _ in range(SENDERS)]
    for it in threads:
        it.start()
    return threads


def arrived(folder):
    """The numbers of deliveries in what was written, each with how many spans it has."""
    counts = {}
    for request in requests(folder, "traces"):
        for resource in request["resourceSpans"]:
            found = re.findall(r'"delivery-(\d+)"', json.dumps(resource))
            spans = sum(len(scope["spans"]) for scope in resource["scopeSpans"])
            for number in set(map(int, found)):
                counts[number] = counts.get(number, 0) + spans
    return counts


def lost(system, provider, folder, happens, seconds):
    """Deliveries answered 2xx, how many of them are missing, and how many came more than once."""
    deliveries, ledger = Deliveries(provider), Ledger()
    folder.mkdir(parents=True)
    with running(system, folder) as (started, sink, way):
        threads = send(deliveries, *started.addresses[provider], seconds, ledger)
        happens(started.process, way, seconds)
        for it in threads:
            it.join()
        # A pause of the Collector's exporter is half a minute at most, and so is spanhook's.
        for _ in range(40):
            quiet(sink)
            if ledger.answers.keys() <= arrived(sink.folder).keys():
                break
            if _ > 12:
                break
        counts = arrived(sink.folder)
    usual = {}
    for number, count in counts.items():
        usual.setdefault(ledger.sent.get(number), []).append(count)
    usual = {sample: statistics.mode(it) for sample, it in usual.items()}
    missing = [number for number in ledger.answers if number not in counts]
    twice = [number for number, count in counts.items() if count > usual[ledger.sent.get(number)]]
    shutil.rmtree(folder)
    return len(ledger.answers), len(ledger.sent), len(missing), len(twice)


def killed(process, _, seconds):
    for _ in range(KILLS):
        time.sleep(seconds / (KILLS + 1))
        process.end()
        process.start()
        process.wait()


def cut(process, way, seconds):
    time.sleep(seconds * 0.1)
    way.set("refused")
    time.sleep(seconds * 0.8)
    way.set(None)


def cut_and_killed(process, way, seconds):
    time.sleep(seconds * 0.1)
    way.set("refused")
    time.sleep(seconds * 0.4)
    process.end()
    process.start()
    process.wait()
    time.sleep(seconds * 0.4)
    way.set(None)


HAPPENS = {
    f"killed {KILLS} times": (killed, lambda outage: 12),
    "receiver away": (cut, lambda outage: outage),
    "receiver away, and killed": (cut_and_killed, lambda outage: outage),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=5, help="of each load")
    parser.add_argument("--rounds", type=int, default=2, help="of loads; the medians are printed")
    parser.add_argument("--outage", type=int, default=20, help="seconds; the Collector gives up after 300")
    parser.add_argument("--provider", action="append", choices=SAMPLES)
    parser.add_argument("--skip", choices=["rate", "loss"])
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("install wrk first: apt-get install wrk")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="peers-"))
    providers = arguments.provider or list(SAMPLES)
    if arguments.skip != "rate":
        print("| | connections | deliveries/s | p50 | p99 | not 2xx | CPU a delivery | peak memory |\n|" + " --- |" * 8)
        for provider in providers:
            rounds = {system: [] for system in SYSTEMS}
            for number in range(arguments.rounds):
                for system in SYSTEMS:
                    part = folder / f"{provider}-{number}-{len(rounds[system])}"
                    rounds[system].append(rate(system, provider, part, arguments.seconds))
            for system, rows in rounds.items():
                for at, connections in enumerate((1, 32)):
                    rate_, p50, p99, refused, total, cpu, memory = sorted(it[at] for it in rows)[len(rows) // 2]
                    print(f"| {provider}: {system} | {connections} | {rate_:,.0f} | {p50} | {p99} | {refused:,} of {total:,} "
                          f"| {cpu:.0f} µs | {memory:.0f} MB |", flush=True)  # fmt: skip
    if arguments.skip != "loss":
        print("\n| | | answered 2xx | of sent | missing | came twice |\n|" + " --- |" * 6)
        for provider in providers:
            for what, (happens, seconds) in HAPPENS.items():
                for number, system in enumerate(SYSTEMS):
                    part = folder / f"{provider}-{what}-{number}"
                    answered, sent, missing, twice = lost(system, provider, part, happens, seconds(arguments.outage))
                    print(f"| {provider}: {system} | {what} | {answered:,} | {sent:,} | **{missing:,}** | {twice:,} |", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
