"""What is done to the processes, and when: all of it follows from the seed."""

import contextlib
import dataclasses
import random
import re
import signal
import time

from proxy import ANSWERS, BROKEN

# Longest time between the beginnings of two faults, and longest time of one, in seconds.
PAUSE, LENGTH = 4.0, 7.0
# What the function path is spared: answers that only an operator can mend rest for five minutes there.
FOR_OPERATORS = {"200 with HTML", "404"}
CLOCKS = [-86_400, -3600, -400, -30, -1, 1, 30, 400, 3600, 86_400]


@dataclasses.dataclass(frozen=True)
class Fault:
    at: float
    length: float
    kind: str
    how: str

    def __str__(self):
        return f"{self.kind} {self.how}"


def plan(rng, kinds, seconds, only=""):
    """The faults of a run. Two of the same kind do not overlap; others do."""
    kinds = {kind: [it for it in hows if re.search(only, f"{kind} {it}")] for kind, hows in kinds.items()}
    kinds = {kind: hows for kind, hows in kinds.items() if hows}
    at, busy, faults = rng.uniform(0.5, PAUSE), dict.fromkeys(kinds, 0.0), []
    while at < seconds - 1:
        kind = rng.choice(sorted(kinds))
        how, length = rng.choice(kinds[kind]), rng.uniform(0.1, LENGTH)
        if busy[kind] <= at:
            length = min(length, seconds - at)
            busy[kind] = at + length
            faults.append(Fault(at, length, kind, str(how)))
        at += rng.uniform(0.1, PAUSE)
    return faults


class Path:
    """What all paths have in common: the Collector behind a proxy, and a clock."""

    def __init__(self, sink, otlp, clock):
        self.sink, self.otlp, self.clock = sink, otlp, clock
        self.kinds = {
            "the Collector is": ["killed", "stopped"],
            "towards the Collector:": BROKEN + list(ANSWERS),
            "seconds that the clock is off:": CLOCKS,
        }

    def begin(self, fault):
        match fault.kind:
            case "the Collector is":
                end(self.sink, fault.how)
            case "towards the Collector:":
                self.otlp.set(fault.how)
            case "seconds that the clock is off:":
                self.clock.set(int(fault.how))

    def end(self, fault):
        match fault.kind:
            case "the Collector is":
                resume(self.sink)
            case "towards the Collector:":
                self.otlp.set(None)
            case "seconds that the clock is off:":
                self.clock.set(0)

    def mend(self):
        """Whatever was done is over."""
        resume(self.sink)
        self.sink.revive()
        self.sink.wait()
        self.otlp.set(None)
        self.clock.set(0)


class ServePath(Path):
    def __init__(self, process, disk, power, *others):
        super().__init__(*others)
        self.process, self.disk, self.power = process, disk, power
        self.kinds["serve is"] = ["killed", "without power", "without power", "asked to end", "stopped"]
        if disk.missing is None:
            # At the reserve, and far below it: a write begins and does not fit.
            self.kinds["the disk has so many bytes left:"] = [0, 3000, 20_000, 500_000, 5 << 20]

    def begin(self, fault):
        match fault.kind:
            case "serve is":
                end(self.process, fault.how)
                if fault.how == "without power":
                    return f"{self.power.cut()} writes are lost"
            case "the disk has so many bytes left:":
                self.disk.fill(int(fault.how))
            case _:
                super().begin(fault)

    def end(self, fault):
        match fault.kind:
            case "serve is":
                resume(self.process)
            case "the disk has so many bytes left:":
                self.disk.free()
            case _:
                super().end(fault)

    def watch(self):
        """It may refuse to start on a full disk; whoever supervises it tries again."""
        with contextlib.suppress(AssertionError):
            self.process.up()
            return
        if self.process.pid is not None:
            self.process.revive()

    def mend(self):
        super().mend()
        self.disk.free()
        resume(self.process)
        self.process.revive()
        self.process.wait()


class FunctionsPath(Path):
    def __init__(self, functions, queues, mapping, sqs, *others):
        super().__init__(*others)
        self.functions, self.queues, self.mapping, self.sqs = functions, queues, mapping, sqs
        self.kinds["towards the Collector:"] = BROKEN + [it for it in ANSWERS if it not in FOR_OPERATORS]
        every = [it.name for it in functions.all]
        self.kinds |= {
            "killed:": every + ["forwarder"] * 4,
            "stopped:": every,
            # The queue is in memory, so it is cut off and held still, never killed: SQS loses nothing either.
            "towards the queue:": [*BROKEN, "503", "502"],
            "the queue is": ["stopped"],
            "what invokes the forwarder": ["forgets to delete"],
        }

    def one(self, name):
        return next(it for it in self.functions.all if it.name == name)

    def begin(self, fault):
        match fault.kind:
            case "killed:":
                self.one(fault.how).kill()
            case "stopped:":
                self.one(fault.how).process.send(signal.SIGSTOP)
            case "towards the queue:":
                self.sqs.set(fault.how)
            case "the queue is":
                self.queues.process.send(signal.SIGSTOP)
            case "what invokes the forwarder":
                self.mapping.forget = True
            case _:
                super().begin(fault)

    def end(self, fault):
        match fault.kind:
            case "stopped:":
                self.one(fault.how).process.send(signal.SIGCONT)
            case "towards the queue:":
                self.sqs.set(None)
            case "the queue is":
                self.queues.process.send(signal.SIGCONT)
            case "what invokes the forwarder":
                self.mapping.forget = False
            case _:
                super().end(fault)

    def watch(self):
        for it in self.functions.all:
            it.process.revive()

    def mend(self):
        super().mend()
        self.queues.process.send(signal.SIGCONT)
        self.sqs.set(None)
        self.mapping.forget = False
        for it in self.functions.all:
            it.process.send(signal.SIGCONT)
            it.process.revive()


def end(process, how):
    if how == "stopped":
        process.send(signal.SIGSTOP)
    else:
        process.end(signal.SIGTERM if how == "asked to end" else signal.SIGKILL)


def resume(process):
    process.send(signal.SIGCONT)
    process.start()


def run(path, faults, log, stop):
    """Carries the plan out, and gives every fault its time in the log."""
    began = time.monotonic()
    steps = [(it.at, True, it) for it in faults] + [(it.at + it.length, False, it) for it in faults]
    for at, begins, fault in sorted(steps, key=lambda it: (it[0], it[1])):
        while (left := began + at - time.monotonic()) > 0 and not stop.is_set():
            path.watch()
            stop.wait(min(left, 0.5))
        if stop.is_set():
            break
        if begins:
            log(f"{fault}, for {fault.length:.1f} s")
            if said := path.begin(fault):
                log(said)
        else:
            path.end(fault)
            log(f"over: {fault}")
    path.mend()


def seeded(seed, name):
    return random.Random(f"{seed} {name}")
