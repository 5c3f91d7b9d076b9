"""What was answered 2xx, and what the Collector wrote of it.

The measure is a run without faults: the same deliveries, and whatever it writes of those that were answered 2xx must
be there, to the last attribute.
"""

import collections
import hashlib
import http.client
import json
import threading
import time
import urllib.parse

SIGNALS = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
}


class Connection:
    """One connection to an address, opened again when it broke."""

    def __init__(self, endpoint, timeout=15):
        self.address = urllib.parse.urlsplit(endpoint).netloc
        self.timeout = timeout
        self.http = None

    def post(self, path, headers, body):
        """Status and answer."""
        try:
            if self.http is None:
                self.http = http.client.HTTPConnection(self.address, timeout=self.timeout)
            self.http.request("POST", path, body, headers)
            answer = self.http.getresponse()
            return answer.status, answer.read()
        except BaseException:
            self.close()
            raise

    def abandon(self, path, headers, body, share):
        """Sends a part of a request, all of it at most, and goes away without an answer."""
        try:
            self.close()
            self.http = http.client.HTTPConnection(self.address, timeout=self.timeout)
            self.http.putrequest("POST", path)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.http.putheader(name, value)
            self.http.endheaders(body[: int(len(body) * share)])
        finally:
            self.close()

    def close(self):
        if self.http is not None:
            self.http.close()
            self.http = None


class Ledger:
    """Answers by the number of a delivery; several threads write into it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sent = {}  # number → sample
        self.answers = {}  # number → (status, spans, trace id), of what was answered 2xx
        self.at = {}  # number → when that was, in seconds since the epoch
        self.tries = collections.Counter()
        self.refused = collections.Counter()  # what else was answered, or why nothing was

    def begin(self, delivery):
        with self.lock:
            self.sent[delivery.number] = delivery.sample
            self.tries[delivery.number] += 1

    def answered(self, delivery, status, text):
        """Whether it was 2xx."""
        if not 200 <= status < 300:
            self.failed(str(status))
            return False
        with self.lock:
            self.answers[delivery.number] = said(text)
            self.at[delivery.number] = time.time()
        return True

    def failed(self, why):
        with self.lock:
            self.refused[why] += 1

    def quarantined(self):
        return [number for number, (status, *_) in self.answers.items() if status == "quarantined"]


def said(text):
    """What an answer promises. OTLP's own answers promise without words."""
    answer = json.loads(text or b"{}")
    return answer.get("status"), answer.get("spans"), answer.get("trace_id")


def written(folder):
    """How often each span, metric and log record was written, by a hash of all that it says."""
    found = collections.Counter()
    for signal, names in SIGNALS.items():
        for request in requests(folder, signal):
            found.update(digest for digest, _ in hashes(request, names))
    return found


def requests(folder, signal):
    path = folder / f"{signal}.jsonl"
    if path.exists():
        with open(path, "rb") as file:
            for line in file:
                yield from whole(line, SIGNALS[signal][0])


def whole(line, name):
    """The requests in a line. One that a SIGKILL cut off, which was not acknowledged, is followed by the next one."""
    try:
        return [json.loads(line)]
    except ValueError:
        start = line.rfind(b'{"%s"' % name.encode())
        try:
            return [json.loads(line[start:])]
        except ValueError:
            return []


def hashes(request, names):
    """Each item with its hash."""
    resources, scopes, items = names
    for resource in request[resources]:
        for scope in resource[scopes]:
            origin = json.dumps([resource.get("resource"), scope.get("scope"), scope.get("schemaUrl")], sort_keys=True)
            for item in scope[items]:
                text = origin + json.dumps(lasting(item), sort_keys=True)
                yield hashlib.blake2b(text.encode(), digest_size=12).digest(), item


def lasting(item):
    """Without the time of receipt: a log record has it beside its own, a mark where its payload has no time."""
    received = {"observedTimeUnixNano"}
    if item.get("startTimeUnixNano") == item.get("endTimeUnixNano"):
        received |= {"startTimeUnixNano", "endTimeUnixNano"}
    return {name: value for name, value in item.items() if name not in received}
