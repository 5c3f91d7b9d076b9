"""What builds and an app report, as OTLP JSON: build events as their mapping writes them into its snapshots."""

import datetime
import hashlib
import json
import re
import urllib.request
from pathlib import Path

from collector import opener

SNAPSHOTS = Path(__file__).parents[2] / "shared" / "core" / "tests" / "build_events" / "snapshots"
HOUR, DAY = 3600, 86400
SECOND = 10**9
# The snapshots are of the second of November 2026.
SINCE, UNTIL = 1_793_577_600, 1_793_577_600 + 7 * DAY
SIGNALS = {"traces": "resourceSpans", "metrics": "resourceMetrics", "logs": "resourceLogs"}


def snapshot(name, correlation, later=0, **replaced):
    """The three bodies of a snapshot, for another correlation id, later, and with other texts."""
    text = (SNAPSHOTS / f"build_events__build-events-{name}.snap").read_text().split("---\n", 2)[2]
    (own,) = set(re.findall(r'correlation_id = "([^"]+)"', text))
    text = text.replace(own, correlation)
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    # Other events have other ids.
    salt = f"{correlation} {later}"
    text = re.sub(
        r"\b([0-9a-f]{32}|[0-9a-f]{16})\b(?!\.)",
        lambda it: hashlib.sha256(f"{it[0]} {salt}".encode()).hexdigest()[: len(it[0])], text,
    )
    return parsed(text, later)


def parsed(text, later):
    spans, metrics, logs, resources = [], [], [], {}
    resource = trace = target = None

    def nanoseconds(at):
        whole, fraction = re.fullmatch(r"(.*?)(\.\d+)?Z", at).groups()
        seconds = int(datetime.datetime.fromisoformat(whole + "+00:00").timestamp()) + later
        return str(seconds * SECOND + int(float(fraction or 0) * SECOND))

    def value(text):
        it = json.loads(text)
        if isinstance(it, str):
            return {"stringValue": it}
        if isinstance(it, bool):
            return {"boolValue": it}
        return {"intValue": str(it)} if isinstance(it, int) else {"doubleValue": it}

    for line in text.splitlines():
        if line == "resource":
            resource = {"attributes": []}
            target = resource["attributes"]
        elif it := re.fullmatch(r"trace (\w+)", line):
            trace = it[1]
        elif it := re.fullmatch(r'INTERNAL (".*?")( ERROR)?', line):
            span = {"traceId": trace, "name": json.loads(it[1]), "kind": 1, "attributes": []}
            span["status"] = {"code": 2} if it[2] else {}
            spans.append((resource, span))
        elif it := re.fullmatch(r"  id (\w+) parent (\w*)", line):
            span |= {"spanId": it[1], "parentSpanId": it[2]}
            resources[it[1]] = resource
        elif it := re.fullmatch(r"  (\S+Z) \.\. (\S+Z)", line):
            span |= {"startTimeUnixNano": nanoseconds(it[1]), "endTimeUnixNano": nanoseconds(it[2])}
            target = span["attributes"]
        elif it := re.fullmatch(r"metric (\S+) \[(.*)\]", line):
            metric = {"name": it[1], "unit": it[2]}
        elif it := re.fullmatch(r"  (\S+) at (\S+Z)", line):
            point = {"asDouble": float(it[1]), "timeUnixNano": nanoseconds(it[2]), "attributes": []}
            target = point["attributes"]
            metrics.append({**metric, "gauge": {"dataPoints": [point]}})
        elif it := re.fullmatch(r"  (\S+) in \((\S+), (\S+)\] from (\S+Z) to (\S+Z)", line):
            point = {
                "count": "1", "sum": float(it[1]), "min": float(it[1]), "max": float(it[1]),
                "explicitBounds": [float(it[2]), float(it[3])], "bucketCounts": ["0", "1", "0"],
                "startTimeUnixNano": nanoseconds(it[4]), "timeUnixNano": nanoseconds(it[5]), "attributes": [],
            }
            target = point["attributes"]
            metrics.append({**metric, "histogram": {"aggregationTemporality": 1, "dataPoints": [point]}})
        elif it := re.fullmatch(r"    exemplar (\S+) (\w+) (\w+)", line):
            point["exemplars"] = [{
                "asDouble": float(it[1]), "timeUnixNano": point["timeUnixNano"], "traceId": it[2], "spanId": it[3],
            }]
        elif it := re.fullmatch(r'log (".*?") at (\S+Z) (\w+) (\w+)', line):
            record = {
                "eventName": json.loads(it[1]), "timeUnixNano": nanoseconds(it[2]), "attributes": [],
                "traceId": it[3], "spanId": it[4],
            }
            target = record["attributes"]
            logs.append(record)
        elif it := re.fullmatch(r' +([\w.]+) = (.+)', line):
            target.append({"key": it[1], "value": value(it[2])})
        elif line.startswith('  "'):
            record["body"] = {"stringValue": json.loads(line)}
        else:
            assert not line or line.startswith("project "), line

    # A snapshot names the resource of spans only; points and records have that of their span, and those
    # of a run without a span here that of its project.
    def of(span_id):
        return resources.get(span_id, resource)

    scope = {"name": "spanhook", "version": "0.1.0"}
    return {
        "traces": [{"resource": it, "scopeSpans": [{"scope": scope, "spans": [span]}]} for it, span in spans],
        "metrics": [
            {
                "resource": of((it.get("gauge") or it["histogram"])["dataPoints"][0]["exemplars"][0]["spanId"]),
                "scopeMetrics": [{"scope": scope, "metrics": [it]}],
            }
            for it in metrics
        ],
        "logs": [
            {"resource": of(it["spanId"]), "scopeLogs": [{"scope": scope, "logRecords": [it]}]} for it in logs
        ],
    }


def build(correlation, later, start="09:36:57.5Z", **bundle):
    """A build that ended well: its own event, and its bundle's, which knows no project."""
    return [
        snapshot("ci-build-metadata", correlation, later, **{"09:36:57.5Z": start}),
        snapshot("webpack-build-stats", correlation, later, **bundle),
    ]


def failed(correlation, later):
    metadata = snapshot(
        "ci-build-metadata", correlation, later,
        **{
            '"build acme/shop"': '"build acme/shop" ERROR',
            'cicd.pipeline.result = "success"': 'cicd.pipeline.result = "failure"\n  error.type = "failed"',
        },
    )
    return [metadata, snapshot("failed-bundle", correlation, later)]


def request(build_id, number, milliseconds, service="shop-web", version="1.4.0", kind=3, error=False, called_by=None):
    """A span of the app at run time, half a day after the builds."""
    start = (SINCE + 16 * HOUR) * SECOND + number * 10**7
    attributes = {"service.name": service, "service.version": version, "app.build_id": build_id}
    span = {
        "traceId": hashlib.sha256(f"{build_id} {number}".encode()).hexdigest()[:32],
        "spanId": hashlib.sha256(f"{service} {number}".encode()).hexdigest()[:16],
        "name": "GET", "kind": kind,
        "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + milliseconds * 10**6),
        "attributes": texts({"app.build_id": called_by} if called_by else {}),
        "status": {"code": 2} if error else {},
    }
    scope = {"name": "@opentelemetry/instrumentation-fetch"}
    return {"resource": {"attributes": texts(attributes)}, "scopeSpans": [{"scope": scope, "spans": [span]}]}


def texts(values):
    return [{"key": key, "value": {"stringValue": it}} for key, it in values.items()]


ONE, TWO, BROKEN = "2722508965", "2722510001", "2722510002"
MOBILE = "cedf175c-c537-49f8-9b5c-95892f0b2407"
TWO_SIZE, VENDOR, VENDOR_TWO = 2_000_000, 912_004, 1_068_803
EVENTS = [
    *build(ONE, 0),
    *build(TWO, HOUR, start="09:37:10Z", **{"1843201": str(TWO_SIZE), " 912004": f" {VENDOR_TWO}"}),
    *failed(BROKEN, 2 * HOUR),
    snapshot("mobile", MOBILE, 0),
    # The same artifact of the next run, 1 MB larger.
    snapshot("mobile", "next-run", DAY, **{"38112004": "39112004"}),
]
REQUESTS = [
    *[request(ONE, it, 100 + it) for it in range(101)],
    *[request(TWO, it, 2 * (100 + it), version="1.5.0", error=it < 10) for it in range(101)],
    # The server has a build of its own; baggage told it who called.
    *[request("api-7", it, 50, "shop-api", "7", kind=2, called_by=TWO) for it in range(3)],
]


def post(collector, bodies):
    for signal, name in SIGNALS.items():
        items = [item for body in bodies for item in body.get(signal, [])]
        if items:
            data = json.dumps({name: items}).encode()
            headers = {"Content-Type": "application/json"}
            to = urllib.request.Request(f"{collector.endpoint}/v1/{signal}", data, headers)
            with opener().open(to, timeout=30) as answer:
                assert answer.status == 200 and b"rejected" not in answer.read()


def count(bodies, signal):
    return sum(len(body.get(signal, [])) for body in bodies)
