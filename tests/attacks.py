#!/usr/bin/env python3
"""Attacks `spanhook serve` on loopback and prints what they cost it.

    cargo build --release -p spanhook
    python3 tests/attacks.py [target/release/spanhook]

Each attack has a process of its own, two minutes at most. Linux only: memory is read from /proc.
What it printed is in docs/security.md; the attacks that are quick are tests in cli/tests/attacks.rs.
"""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time

SECRET = "a-secret-of-the-attacks"
LARGEST = 25 * 1024 * 1024


class Serve:
    """A process under attack, and somebody who asks for its health all the time."""

    def __init__(self, binary, files=4096):
        self.folder = tempfile.TemporaryDirectory()
        command = f'ulimit -n {files} && exec "$0" serve --listen 127.0.0.1:0 --data "$1"'
        self.process = subprocess.Popen(
            ["sh", "-c", command, binary, self.folder.name],
            env={"GITLAB_SECRET_TOKEN": SECRET, "CIRCLECI_HOOK_SECRET": SECRET, "LOG_LEVEL": "off"},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])
        self.slowest = 0.0
        self.failed = 0
        self.stopping = threading.Event()
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()

    def watch(self):
        while not self.stopping.wait(0.1):
            begun = time.monotonic()
            try:
                healthy = self.ask("GET", "/health")[0] == 200
            except OSError:
                healthy = False
            self.failed += not healthy
            self.slowest = max(self.slowest, time.monotonic() - begun)

    def ask(self, method, path, body=None, headers=None, patience=60):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()

    def deliver(self, body):
        begun = time.monotonic()
        try:
            status, _ = self.ask("POST", "/gitlab", body, {"X-Gitlab-Token": SECRET})
        except OSError:
            status = "reset"
        return status, time.monotonic() - begun

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def peak(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            lines = dict(line.split(":", 1) for line in status)
        return int(lines["VmHWM"].split()[0]) / 1000

    def end(self):
        self.stopping.set()
        self.watcher.join()
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


def at_once(count, work):
    """The results of `count` threads."""
    results = [None] * count

    def run(index):
        results[index] = work(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def counted(results):
    kinds = sorted({str(it) for it in results})
    return ", ".join(f"{sum(str(it) == kind for it in results)} × {kind}" for kind in kinds)


def pipeline(job, count):
    head = {"id": 1, "status": "failed", "created_at": "2026-11-02T09:30:00Z"}
    head = json.dumps({"object_kind": "pipeline", "object_attributes": head})
    return (head[:-1] + ', "builds": [' + ",".join([job] * count) + "]}").encode()


def unfinished_bodies(serve):
    """40 bodies without credentials, each one byte short of 25 MB"""
    head = (
        f"POST /circleci HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGEST}\r\n"
        f"circleci-signature: v1={'0' * 64}\r\n\r\n"
    ).encode()

    def send(_):
        with serve.connect() as stream:
            try:
                stream.sendall(head)
                stream.sendall(b" " * (LARGEST - 1))
            except OSError:
                pass
            try:
                return stream.recv(100).split(b"\r\n")[0].decode() or "closed"
            except OSError:
                return "closed"

    results = []
    attack = threading.Thread(target=lambda: results.extend(at_once(40, send)))
    attack.start()
    time.sleep(2)
    small, seconds = serve.deliver(pipeline("{}", 10))
    attack.join()
    return f"{counted(results)}; a small delivery meanwhile: {small} after {seconds:.2f} s"


def deliveries(body, count):
    def attack(serve):
        results = at_once(count, lambda _: serve.deliver(body))
        slowest = max(seconds for _, seconds in results)
        return f"{counted([status for status, _ in results])}, the last after {slowest:.1f} s"

    return attack


def silent(serve):
    """900 connections that send nothing, half a header or half a preface"""
    connections = []
    for sent in [b"", b"POST /gitlab HTTP/1.1\r\nHos", b"PRI * HTTP/2.0\r\n\r\n"] * 300:
        stream = serve.connect()
        stream.sendall(sent)
        connections.append(stream)
    time.sleep(75)
    still = 0
    for stream in connections:
        stream.setblocking(False)
        try:
            while stream.recv(4096):
                pass
        except BlockingIOError:
            still += 1
        except OSError:
            pass
    delivered, _ = serve.deliver(pipeline("{}", 10))
    return f"{still} open after 75 s; a delivery then: {delivered}"


def idle_under_a_limit(serve):
    connections = [serve.connect() for _ in range(1010)]
    delivered = [serve.deliver(pipeline("{}", 10))[0] for _ in range(10)]
    del connections
    return f"10 deliveries meanwhile: {counted(delivered)}"


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else "target/release/spanhook"
    attacks = [
        ("40 bodies without credentials, each one byte short of 25 MB", 4096, unfinished_bodies),
        ("a signed body of 24 MB of empty jobs", 4096, deliveries(pipeline("{}", 8_000_000), 1)),
        ("four of them at once", 4096, deliveries(pipeline("{}", 8_000_000), 4)),
        (
            "four pipelines of 20,000 jobs at once",
            4096,
            deliveries(pipeline('{"status":"success","duration":1,"name":"job"}', 20_000), 4),
        ),
        (
            "200 bodies of 64 KB that are all jobs, at once",
            4096,
            deliveries(pipeline('{"duration":1,"status":"failed"}', 1900), 200),
        ),
        ("900 connections that send nothing, half a header or half a preface", 4096, silent),
        ("1,010 idle connections under a limit of 1,024 files", 1024, idle_under_a_limit),
    ]
    print("| attack | peak memory | slowest `/health` | what came of it |")
    print("| --- | --- | --- | --- |")
    for name, files, attack in attacks:
        serve = Serve(binary, files)
        try:
            outcome = attack(serve)
            alive = "" if serve.process.poll() is None else "; THE PROCESS ENDED"
            failed = f"; {serve.failed} health checks failed" if serve.failed else ""
            row = f"| {name} | {serve.peak():.0f} MB | {serve.slowest:.2f} s | {outcome}{failed}{alive} |"
            print(row, flush=True)
        finally:
            serve.end()


if __name__ == "__main__":
    main()
