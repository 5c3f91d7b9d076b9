#!/usr/bin/env python3
"""Breaks spanhook at random while it works, and looks whether anything that it answered 2xx is missing in the end.

usage: benches/reliability/chaos.py [--minutes 5] [--seed 1] [--rate 20] [--path serve --path functions] [--fault REGEX] [--keep FOLDER]

Deliveries of all providers go to `spanhook serve`, and to the built functions with an SQS server and an event source
mapping, each with a Collector of its own behind a proxy. The seed says which deliveries are sent and what fails when;
the faults are in `faults.log` with their times, beside the logs of all processes. In the end everything is mended, and
what the Collectors wrote is compared with what they write of the same deliveries in a run without faults.

Needs SPANHOOK_BINARY, SPANHOOK_PARTS, SPANHOOK_FUNCTIONS (for the path of that name) and a C compiler; root for the
faults of the disk. Ends with 1 when something is missing, unexpected, or does not drain.
"""

import argparse
import contextlib
import os
import pathlib
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time

import faults
import machine
import processes
from deliveries import Samples
from functions import Functions, Mapping, Queues
from ledger import Connection, Ledger
from proxy import Proxy
from report import Result, markdown

SENDERS = 6  # of each path
TRIES = 6  # of a delivery that was not answered 2xx, at growing pauses
PATIENCE = 120  # seconds in the end after which what is not drained is stuck
# Of a hundred deliveries so many make nothing or can't be mapped; so many senders go away without the answer.
IGNORED, QUARANTINED, ABANDONED = 4, 3, 4


class Load:
    """Sends deliveries at a rate, from several threads, as long as it is wanted."""

    def __init__(self, rng, samples, kinds, rate, post, abandon, first):
        self.rng, self.samples, self.kinds, self.rate = rng, samples, kinds, rate
        self.post, self.abandon = post, abandon
        self.ledger, self.waiting, self.over = Ledger(), queue.Queue(SENDERS), threading.Event()
        self.next = first
        self.threads = [threading.Thread(target=self.send, daemon=True) for _ in range(SENDERS)]

    def run(self, seconds):
        """What is sent follows from the seed; how much of it does from how busy the machine is."""
        for it in self.threads:
            it.start()
        began, due = time.monotonic(), 0.0
        while time.monotonic() - began < seconds:
            due += self.rng.expovariate(self.rate)
            time.sleep(max(0.0, began + due - time.monotonic()))
            self.waiting.put((self.samples.make(self.next, self.pick()), self.rng.random()))
            self.next += 1
        self.over.set()
        for it in self.threads:
            it.join()

    def pick(self):
        luck = self.rng.random() * 100
        kind = "quarantined" if luck < QUARANTINED else "ignored" if luck < QUARANTINED + IGNORED else "accepted"
        # Providers in equal parts: some have many more samples than others.
        providers = sorted({it.split("/")[0] for it in self.kinds[kind]})
        provider = self.rng.choice(providers)
        name = self.rng.choice([it for it in self.kinds[kind] if it.startswith(f"{provider}/")])
        # A large one now and then: it is thousands of spans.
        return name if name != "gitlab/large" or self.rng.random() < 0.2 else "gitlab/pipeline-failed"

    def send(self):
        while not self.over.is_set() or not self.waiting.empty():
            try:
                delivery, luck = self.waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            self.ledger.begin(delivery)
            if luck * 100 < ABANDONED and self.abandon:
                with contextlib.suppress(OSError):
                    self.abandon(delivery, luck * 100 / ABANDONED * 1.5)
                self.ledger.failed("abandoned")
            else:
                self.persist(delivery)

    def persist(self, delivery):
        """Sends again as CircleCI does, as the same delivery."""
        for attempt in range(TRIES):
            if attempt:
                self.over.wait(min(0.2 * 2**attempt, 5))
                self.ledger.begin(delivery)
            try:
                status, text = self.post(delivery)
            except Exception as error:
                self.ledger.failed(type(error).__name__)
                continue
            if self.ledger.answered(delivery, status, text):
                return
            if status == 401:  # its clock and ours differ: who signs can't mend that
                return


def connections(endpoint):
    """Posts to an address, with a connection for each thread."""
    local = threading.local()

    def connection():
        if not hasattr(local, "it"):
            local.it = Connection(endpoint)
        return local.it

    post = lambda it: connection().post(it.path, it.headers(), it.body)
    abandon = lambda it, share: connection().abandon(it.path, it.headers(), it.body, min(share, 1))
    return post, abandon


def classify(folder, samples):
    """What becomes of each sample when nothing fails: its names by the status of its answer."""
    kinds = {"accepted": [], "ignored": [], "quarantined": []}
    with processes.sink(folder / "sink") as sink, processes.serve(folder, folder / "queue", sink.endpoint) as serve:
        post, _ = connections(serve.endpoint)
        for number, name in enumerate(samples.texts, 800_000):
            status, text = post(samples.make(number, name))
            said = processes.json.loads(text)
            if status >= 300:
                sys.exit(f"{name} is answered {status}: {text.decode()}")
            kinds[said.get("status", "accepted")].append(name)
    return kinds


@contextlib.contextmanager
def serve_path(folder, seed):
    clock, power = machine.Clock(folder), machine.Power(folder, folder / "disk", faults.seeded(seed, "power"))
    both = {"LD_PRELOAD": f"{clock.env['LD_PRELOAD']}:{power.env['LD_PRELOAD']}"}
    with processes.sink(folder) as sink, Proxy(sink.port) as otlp:
        disk = machine.Disk(folder / "disk")
        try:
            with processes.serve(folder, folder / "disk" / "queue", otlp.endpoint, {**clock.env, **power.env, **both}) as process:
                path = faults.ServePath(process, disk, power, sink, otlp, clock)
                path.post, path.abandon = connections(process.endpoint)
                path.depth = lambda: processes.status(process)["queued"]
                path.dead = lambda: processes.status(process)["dead_letters"]
                path.processes = [process, sink]
                yield path
        finally:
            disk.unmount()


@contextlib.contextmanager
def functions_path(folder, _):
    clock = machine.Clock(folder)
    with (
        processes.sink(folder) as sink,
        Proxy(sink.port) as otlp,
        Queues(folder) as queues,
        Proxy(queues.port) as sqs,
        Functions(folder, queues, sqs.endpoint, otlp.endpoint, clock.env) as functions,
        Mapping(queues, functions.forwarder) as mapping,
    ):
        path = faults.FunctionsPath(functions, queues, mapping, sqs, sink, otlp, clock)
        path.post = lambda it: functions.post(it.path, it.headers(), it.body)
        path.abandon = None  # whoever goes away leaves the function at work
        path.depth = lambda: queues.depth(queues.queue)
        path.dead = lambda: queues.depth(queues.dead)
        path.processes = [*(it.process for it in functions.all), queues.process, sink]
        yield path


PATHS = {"serve": serve_path, "functions": functions_path}


def torture(name, folder, arguments, samples, kinds):
    """One path, from its start until it has drained."""
    seconds, folder = arguments.minutes * 60, folder / name
    folder.mkdir(parents=True)
    began = time.monotonic()
    log = open(folder / "faults.log", "w", buffering=1)

    def say(text):
        log.write(f"{time.strftime('%H:%M:%S')} {processes.stamp(began)} {text}\n")

    with PATHS[name](folder, arguments.seed) as path:
        plan = faults.plan(faults.seeded(arguments.seed, name), path.kinds, seconds, arguments.fault)
        first = 0 if name == "serve" else 400_000
        load = Load(
            faults.seeded(arguments.seed, f"load of {name}"), samples, kinds, arguments.rate,
            path.post, path.abandon, first,
        )  # fmt: skip
        stop = threading.Event()
        breaker = threading.Thread(target=faults.run, args=(path, plan, say, stop), daemon=True)
        began = time.monotonic()
        breaker.start()
        load.run(seconds)
        breaker.join()
        mended = time.monotonic()
        say(f"all is mended; {path.depth()} messages wait")
        result = Result(name, folder, load.ledger, plan, path)
        result.waiting = path.depth()
        while path.depth() and time.monotonic() - mended < PATIENCE:
            time.sleep(0.1)
        result.drained = None if path.depth() else time.monotonic() - mended
        say(f"{path.depth()} messages wait after {time.monotonic() - mended:.1f} s")
        result.dead = path.dead()
    result.crashes = [f"{crash}" for it in path.processes for crash in it.crashes]
    log.close()
    return result


def repeat(sent, samples, folder):
    """Deliveries (sample by number) without a fault: their answers, and what was written of them."""
    with processes.sink(folder / "sink") as sink, processes.serve(folder, folder / "queue", sink.endpoint) as serve:
        numbers, ledger = queue.Queue(), Ledger()
        for item in sent.items():
            numbers.put(item)

        def send():
            post, _ = connections(serve.endpoint)
            with contextlib.suppress(queue.Empty):
                while True:
                    delivery = samples.make(*numbers.get_nowait())
                    ledger.answered(delivery, *post(delivery))

        threads = [threading.Thread(target=send) for _ in range(4)]
        for it in threads:
            it.start()
        for it in threads:
            it.join()
        if ledger.answers.keys() != sent.keys():
            sys.exit(f"a run without faults was refused: {dict(ledger.refused)}; see {folder}")
        processes.collector.until(lambda: processes.status(serve)["queued"] == 0, 300)
    return ledger.answers, folder / "sink"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", default=str(int(time.time())))
    parser.add_argument("--rate", type=float, default=20, help="deliveries a second to each path")
    parser.add_argument("--path", action="append", choices=PATHS, help="both by default")
    parser.add_argument("--fault", default="", help="only faults that this regular expression finds; all by default")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for logs and what was written; it must not exist")
    arguments = parser.parse_args()
    folder = arguments.keep or pathlib.Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=not arguments.keep)
    samples, results = Samples(), []
    kinds = classify(folder / "samples", samples)
    print(f"seed {arguments.seed}, logs in {folder}", flush=True)

    def run(name):
        results.append(torture(name, folder, arguments, samples, kinds))

    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in arguments.path or PATHS]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    if len(results) < len(threads):
        sys.exit("a path ended early; see above")
    for result in results:
        sent, answers = result.ledger.sent, result.ledger.answers
        promised = {number: sample for number, sample in sent.items() if number in answers}
        possible = {number: sample for number, sample in sent.items() if number not in answers}
        again, promise = repeat(promised, samples, folder / f"{result.name}-promised")
        _, possible = repeat(possible, samples, folder / f"{result.name}-possible")
        result.compare(again, promise, possible)
    print(markdown(results, arguments))
    failures = [it for result in results for it in result.failures()]
    for it in failures:
        print(it, file=sys.stderr)
    if failures:
        sys.exit(1)
    if not arguments.keep:
        shutil.rmtree(folder)


def interrupted(*_):
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupted)
    try:
        main()
    except KeyboardInterrupt:
        # Threads are in the middle of things: whatever they started ends here.
        processes.Process.over = True
        for it in processes.Process.all:
            it.end()
        for it in machine.Disk.all:
            it.unmount()
        os._exit(130)
