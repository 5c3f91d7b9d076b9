#!/usr/bin/env python3
"""`spanhook serve` beside its floor, in turns, so that what else the machine does hits both alike.

The floor is the same HTTP stack, which verifies, parses and forgets (`shared/service/examples/floor.rs`),
and for one connection a loop that writes and syncs as many bytes as a delivery leaves on disk. Debian's
package `wrk` makes the load.

    cargo build --profile serve --bin spanhook && cargo build --profile serve -p spanhook-service --example floor
    benches/serve.py
"""

import argparse
import hashlib
import hmac
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent.parent
SECRET = "a-secret-of-the-load-test"
JOB = "/traceparent/circleci/cedf175c-c537-49f8-9b5c-95892f0b2407/3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34"
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """A process under load, with its CPU time and memory."""

    def __init__(self, command, variables, log):
        self.log = log
        out = log.open("w")
        self.process = subprocess.Popen(command, stdout=out, env={**os.environ, **variables})
        until = time.monotonic() + 20
        while not (found := re.search(r"listens on (http\S+)", log.read_text())):
            if self.process.poll() is not None or time.monotonic() > until:
                sys.exit(f"{command[0]} does not start: {log.read_text()}")
            time.sleep(0.02)
        self.url = found[1]

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self, kind):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+)", status)[1]) / 1024

    def end(self):
        self.process.kill()
        self.process.wait()


def wrk(url, connections, seconds, script=None):
    """Requests a second, and the 50th and 99th percentile in milliseconds."""
    command = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["-s", str(script)] if script else []
    out = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(out)
    unit = {"us": 1e-3, "ms": 1, "s": 1e3}
    percentile = lambda of: next(float(n) * unit[u] for n, u in re.findall(rf"{of}%\s+([\d.]+)(us|ms|s)", out))
    total = int(re.search(r"(\d+) requests in", out)[1])
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), percentile(50), percentile(99), total


def syncs(folder, size, seconds, ahead):
    """How often a second so many bytes can be written and synced, one after the other."""
    path = folder / "loop"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    if ahead:
        os.pwrite(file, bytes(16 << 20), 0)
    os.fsync(file)
    block, done, start = os.urandom(size), 0, time.monotonic()
    while time.monotonic() < start + seconds:
        os.pwrite(file, block, done * size % (16 << 20) if ahead else done * size)
        os.fdatasync(file)
        done += 1
    rate = done / (time.monotonic() - start)
    os.close(file)
    path.unlink()
    return rate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target")) / "serve"
    parser.add_argument("--spanhook", type=pathlib.Path, default=target / "spanhook")
    parser.add_argument("--floor", type=pathlib.Path, default=target / "examples/floor")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("install wrk first: apt-get install wrk")

    body = json.dumps(json.loads((HERE / "events/circleci/job-completed-unit-tests.json").read_text()), separators=(",", ":"))
    signature = hmac.new(SECRET.encode(), body.encode(), hashlib.sha256).hexdigest()
    with tempfile.TemporaryDirectory(dir=HERE if os.access(HERE, os.W_OK) else None) as work:
        work = pathlib.Path(work)
        (work / "body.json").write_text(body)
        script = work / "post.lua"
        script.write_text(
            f'wrk.method = "POST"\nwrk.headers["circleci-signature"] = "v1={signature}"\n'
            f'wrk.headers["content-type"] = "application/json"\n'
            f'local file = io.open("{work}/body.json"); wrk.body = file:read("*a"); file:close()\n'
        )
        # Nobody listens at the endpoint: what is measured is the queue, which grows.
        variables = {"CIRCLECI_HOOK_SECRET": SECRET, "LOG_LEVEL": "off", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
        serve = [options.spanhook, "serve", "--listen", "127.0.0.1:0", "--data"]
        floor = Server([options.floor], variables, work / "floor.log")
        rows, cpu, memory = {}, {}, []
        note = lambda name, *figures: rows.setdefault(name, []).append(figures)
        try:
            for nth in range(options.rounds):
                server = Server([*serve, work / f"data-{nth}"], variables, work / "serve.log")
                for connections in [1, 8, 32, 64]:
                    for name, of in [("serve", server), ("floor", floor)]:
                        before = of.cpu()
                        rate, p50, p99, total = wrk(of.url + "/circleci", connections, options.seconds, script)
                        note((name, connections), rate, p50, p99, (of.cpu() - before) / total * 1e6)
                for name, of in [("traceparent", server), ("bare route", floor)]:
                    before = of.cpu()
                    rate, p50, p99, total = wrk(of.url + JOB, 32, options.seconds)
                    note((name, 32), rate, p50, p99, (of.cpu() - before) / total * 1e6)
                memory.append((server.memory("VmRSS"), server.memory("VmHWM")))
                server.end()
                files = list((work / f"data-{nth}").glob("*.queue"))
                shutil.rmtree(work / f"data-{nth}")
                size = 2500
                note(("fdatasync, appending", 1), syncs(work, size, 2, ahead=False), 0, 0, 0)
                note(("fdatasync, zeros ahead", 1), syncs(work, size, 2, ahead=True), 0, 0, 0)
        finally:
            floor.end()
        median = {key: [statistics.median(it) for it in zip(*figures)] for key, figures in rows.items()}
        print("| what | connections | requests/s | p50 | p99 | CPU each |\n| --- | --- | --- | --- | --- | --- |")
        for (name, connections), (rate, p50, p99, each) in median.items():
            times = f"{p50:.2f} ms | {p99:.1f} ms | {each:.0f} µs" if p50 else "| |"
            print(f"| {name} | {connections} | {rate:,.0f} | {times} |")
        ratio = lambda a, b: median[a][0] / median[b][0]
        print(f"\nserve to floor: {ratio(('serve', 32), ('floor', 32)):.2f} at 32 connections")
        for kind in ["appending", "zeros ahead"]:
            print(f"serve to fdatasync, {kind}: {ratio(('serve', 1), (f'fdatasync, {kind}', 1)):.2f} at 1 connection")
        print(f"traceparent to a bare route: {ratio(('traceparent', 32), ('bare route', 32)):.2f}")
        print("memory (now, peak): " + ", ".join(f"{now:.0f} MB, {peak:.0f} MB" for now, peak in memory))


main()
