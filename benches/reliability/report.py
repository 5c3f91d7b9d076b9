"""What a run came to: for a person, for docs/reliability.md, and as an exit code."""

import collections
import time

from ledger import SIGNALS, hashes, requests, written

DRAINED = 30  # seconds in which up to 10,000 messages are to be gone once everything works
SHOWN = 20  # missing items that are described


class Result:
    def __init__(self, name, folder, ledger, plan, path):
        self.name, self.folder, self.ledger, self.plan = name, folder, ledger, plan
        self.left_out = getattr(getattr(path, "disk", None), "missing", None)
        self.missing, self.unknown, self.different, self.crashes = [], 0, [], []

    def failures(self):
        """What must not be."""
        found = [f"{self.name}: missing {it}" for it in self.missing[:SHOWN]]
        if len(self.missing) > SHOWN:
            found.append(f"{self.name}: and {len(self.missing) - SHOWN} more are missing")
        if self.unknown:
            found.append(f"{self.name}: {self.unknown} items were written that no delivery makes")
        found += [f"{self.name}: {it}" for it in self.different[:SHOWN]]
        if self.drained is None:
            found.append(f"{self.name}: it did not drain")
        elif self.waiting <= 10_000 and self.drained > DRAINED:
            found.append(f"{self.name}: {self.waiting} messages took {self.drained:.0f} s to drain")
        # Whoever was quarantined is a dead letter, once or, sent again, more often.
        promised = len(self.ledger.quarantined())
        if self.dead < promised:
            found.append(f"{self.name}: {promised} deliveries were quarantined, and {self.dead} are dead letters")
        found += [f"{self.name}: {it}" for it in self.crashes]
        for log in sorted(self.folder.glob("*.log")):
            panics = log.read_bytes().count(b"panicked at")
            if panics:
                found.append(f"{self.name}: {panics} panics in {log}")
        if not self.ledger.answers:
            found.append(f"{self.name}: nothing was answered 2xx, so nothing was tried")
        return found

    def compare(self, again, promised, possible):
        """With a run without faults: its answers, and the folders with what it wrote of deliveries that were answered
        2xx here, and of those that were not."""
        for number, answer in self.ledger.answers.items():
            if answer != again[number]:
                sample = self.ledger.sent[number]
                self.different.append(f"{sample} was answered {answer}, and without faults {again[number]}")
        arrived, promise = written(self.folder), written(promised)
        self.items, self.arrived = len(promise), len(arrived)
        self.twice = sum(arrived.values()) - len(arrived)
        self.unknown = len(arrived.keys() - promise.keys() - written(possible).keys())
        missing = set(promise.keys() - arrived.keys())
        if missing:
            self.missing = list(self.describe(missing, promised))

    def describe(self, missing, folder):
        """Items by hash, so that they are found in the logs."""
        traces = {trace: number for number, (_, _, trace) in self.ledger.answers.items() if trace}
        for signal, names in SIGNALS.items():
            for request in requests(folder, signal):
                for digest, item in hashes(request, names):
                    if digest in missing:
                        missing.remove(digest)
                        number = traces.get(item.get("traceId"))
                        at = self.ledger.at.get(number)
                        when = time.strftime("answered at %H:%M:%S", time.localtime(at)) if at else "of one of several traces"
                        tries = f", sent {self.ledger.tries[number]} times" if number is not None else ""
                        yield f"{signal}: {item.get('name')}, {self.ledger.sent.get(number)} {number}, {when}{tries}"


COLUMNS = [
    ("path", lambda it: it.name),
    ("deliveries answered 2xx", lambda it: f"{len(it.ledger.answers):,} of {len(it.ledger.sent):,}"),
    ("of which quarantined", lambda it: f"{len(it.ledger.quarantined()):,}"),
    ("spans, metrics and log records promised", lambda it: f"{it.items:,}"),
    ("missing", lambda it: f"**{len(it.missing):,}**"),
    ("written twice or more", lambda it: f"{it.twice:,}"),
    ("faults", lambda it: f"{len(it.plan):,}"),
    ("drained", lambda it: f"{it.waiting:,} messages in {it.drained:.1f} s" if it.drained is not None else "never"),
]


def markdown(results, arguments):
    """The tables of docs/reliability.md."""
    lines = [f"`benches/reliability/chaos.py --minutes {arguments.minutes:g} --seed {arguments.seed} --rate {arguments.rate:g}`", ""]
    lines += ["| " + " | ".join(name for name, _ in COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(of(it) for _, of in COLUMNS) + " |" for it in results]
    lines += ["", "| fault | " + " | ".join(it.name for it in results) + " |", "| --- |" + " --- |" * len(results)]
    counts = [collections.Counter(map(str, it.plan)) for it in results]
    for fault in sorted(set().union(*counts)):
        lines.append(f"| {fault} | " + " | ".join(str(it[fault] or "") for it in counts) + " |")
    for it in results:
        refused = ", ".join(f"{why} {count:,}" for why, count in it.ledger.refused.most_common())
        lines += ["", f"{it.name}: not answered 2xx, or not at all: {refused or 'none'}."]
        if it.left_out:
            lines.append(f"{it.name}: the disk was not filled: {it.left_out}")
    return "\n".join(lines)
