"""The alert rules of infra/prometheus: on Prometheus' own engine, with the names that real parts give their metrics."""

import http.server
import json
import re
import subprocess
import threading
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from clickhouse import SQL
from collector import START, Collector, binary, free_ports, get, sink, until
from runner import execution
from serve import Serve

RULES = SQL.parent / "prometheus" / "rules.yaml"
OPERATIONS = SQL.parents[1] / "docs" / "operations.md"
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}


def engine(test, **env):
    """Runs Prometheus' engine; what it complains of."""
    command = [binary("promql-test"), "-test.run", test]
    done = subprocess.run(command, env={key: str(it) for key, it in env.items()}, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_prometheus_reads_the_rules(tmp_path):
    assert engine("TestRules", RULES=RULES) == ""
    broken = tmp_path / "rules.yaml"
    broken.write_text(RULES.read_text().replace("> 0.5", "> > 0.5"))
    assert "CollectorQueueFills" in engine("TestRules", RULES=broken)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"]["summary"]
    page, heading = rule["annotations"]["runbook"].split("#")
    assert page == "docs/operations.md"
    headings = re.findall(r"^#+ (.*)$", OPERATIONS.read_text(), re.MULTILINE)
    assert heading in [re.sub(r"[^\w -]", "", it).lower().replace(" ", "-") for it in headings]


GATEWAY = '{job="gateway"}'
QUEUE = '{job="gateway", exporter="otlp_http", data_type="traces"}'
HANDED_ON = """
  otelcol_receiver_accepted_spans{job="gateway", receiver="otlp"} 0+6000x720
  otelcol_exporter_queue_capacity{job="gateway", exporter="otlp_http", data_type="traces"} 1000x720
"""
FORWARDED = 'spanhook_spans_total{service_name="spanhook-forwarder", provider="queue", reason="forwarded"} 0+1000x720'
RELAY = '{job="relay", instance="10.0.0.7:8080"}'
QUEUED = f"spanhook_relay_queued_items{RELAY}"
LAST_SENT = f"spanhook_relay_last_sent_timestamp_seconds{RELAY}"
LAG = "spanhook_delivery_lag_milliseconds_bucket"

# By alert: samples of every minute from 0 on, and what it says after twelve hours.
TOLD = {
    "CollectorLosesSpans": [
        (HANDED_ON + 'otelcol_exporter_send_failed_spans{job="gateway", exporter="otlp_http"} 0+60x720', f"{GATEWAY} 0.01"),
        (HANDED_ON + 'otelcol_exporter_send_failed_spans{job="gateway", exporter="otlp_http"} 0+3x720', ""),
        # The same of a Collector of 0.138 without a queue, whose sender keeps what fails.
        ("""
  otelcol_receiver_accepted_spans_total{job="opensearch"} 0+100x720
  otelcol_exporter_send_failed_spans_total{job="opensearch"} 0+100x720
""", ""),
    ],
    "CollectorExportsLessThanItReceives": [
        (HANDED_ON + f"otelcol_exporter_sent_spans{GATEWAY} 0+5970x720\n  otelcol_exporter_queue_size{QUEUE} 0x720", f"{GATEWAY} 0.005"),
        (HANDED_ON + f"otelcol_exporter_sent_spans{GATEWAY} 0+5999x720\n  otelcol_exporter_queue_size{QUEUE} 0x720", ""),
        # An outage of the backend: nothing is lost yet.
        (HANDED_ON + f"otelcol_exporter_sent_spans{GATEWAY} 0+0x720\n  otelcol_exporter_queue_size{QUEUE} 0+1x720", ""),
    ],
    "CollectorQueueFills": [
        (HANDED_ON + f"otelcol_exporter_queue_size{QUEUE} 600x720", f"{QUEUE} 0.6"),
        (HANDED_ON + f"otelcol_exporter_queue_size{QUEUE} 500x720", ""),
    ],
    "CollectorRefusesSpans": [
        (f"otelcol_receiver_refused_spans{GATEWAY} 0+2x720", f"{GATEWAY} 30"),
        (f"otelcol_receiver_refused_spans{GATEWAY} 7x720", ""),
    ],
    "SpanhookLosesSpans": [
        (FORWARDED + '\n  spanhook_partially_rejected_total{reason="forwarded"} 0+250x720', "{} 0.2"),
        (FORWARDED + '\n  spanhook_partially_rejected_total{reason="forwarded"} 0x720', ""),
    ],
    "SpanhookDeadLetters": [
        ('spanhook_dead_lettered_total{provider="gitlab", reason="quarantined"} 0+1x720', '{provider="gitlab", reason="quarantined"} 15'),
        ('spanhook_dead_lettered_total{provider="queue", reason="forwarded"} 3x720', ""),
        # The first ever, ten minutes ago.
        ('spanhook_dead_lettered_total{provider="gitlab", reason="unread"} _x710 2x10', '{provider="gitlab", reason="unread"} 2'),
    ],
    "SpanhookMisconfigured": [
        ("spanhook_misconfigured_total 0+1x720", "{} 15"),
        ("spanhook_misconfigured_total 0x720", ""),
    ],
    "SpanhookRefusesDeliveries": [
        ('spanhook_refused_total{provider="github", reason="queue"} _x710 4x10', '{provider="github"} 4'),
        ('spanhook_refused_total{provider="github", reason="queue"} 4x720', ""),
    ],
    "SpanhookDeliveryLag": [
        (f'{LAG}{{le="300000"}} 0+50x720\n  {LAG}{{le="600000"}} 0+100x720\n  {LAG}{{le="+Inf"}} 0+100x720', "{} 570000"),
        (f'{LAG}{{le="300000"}} 0+96x720\n  {LAG}{{le="600000"}} 0+100x720\n  {LAG}{{le="+Inf"}} 0+100x720', ""),
    ],
    # Twelve hours are 43200 seconds.
    "SpanhookRelayStuck": [
        # Items wait, and the last batch was taken an hour ago.
        (f"{QUEUED} 500x720\n  {LAST_SENT} 39600x720", f"{QUEUED} 500"),
        # Nothing was ever taken.
        (f"{QUEUED} 3x720", f"{QUEUED} 3"),
        # Slow, but it goes on.
        (f"{QUEUED} 500x720\n  {LAST_SENT} 0+60x720", ""),
        # Nothing has ended in the cluster for long.
        (f"{QUEUED} 0x720\n  {LAST_SENT} 39600x720", ""),
        # Another relay's batches are no sign of this one's.
        (
            f"{QUEUED} 7x720\n  {LAST_SENT} 39600x720\n  {LAST_SENT.replace('.7:', '.8:')} 0+60x720",
            f"{QUEUED} 7",
        ),
    ],
    "SpanhookRelayDropsItems": [
        ('spanhook_relay_items_dropped_total{job="relay", kind="Pod"} 0+1x720', '{job="relay", kind="Pod"} 15'),
        ('spanhook_relay_items_dropped_total{job="relay", kind="Pod"} 3x720', ""),
        ('spanhook_relay_items_dropped_total{job="relay", kind="Pod"} _x710 1x10', '{job="relay", kind="Pod"} 1'),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "alert, samples, told", [(alert, *case) for alert, cases in TOLD.items() for case in cases]
)
def test_an_alert_tells_what_is_wrong_and_is_quiet_otherwise(alert, samples, told, tmp_path):
    script = tmp_path / "script"
    lines = "\n".join(f"  {line.strip()}" for line in samples.strip().splitlines())
    expression = " ".join(ALERTS[alert]["expr"].split())
    script.write_text(f"load 1m\n{lines}\n\neval instant at 12h {expression}\n  {told}\n")
    assert engine("TestScript", SCRIPT=script) == ""


def test_every_alert_is_tried():
    assert TOLD.keys() == ALERTS.keys()


@pytest.fixture
def refusing():
    """A receiver that refuses everything for good."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def names(text):
    """The names in a page of metrics."""
    return {re.split(r"[{ ]", line)[0] for line in text.decode().splitlines() if line and line[0] != "#"}


def test_a_collector_has_the_metrics_that_the_rules_name(refusing, tmp_path):
    with sink(tmp_path / "backend") as backend:
        found = set()
        for number, endpoint in enumerate((backend.endpoint, refusing)):
            with Collector(tmp_path / str(number), "gateway.yaml", EXPORT_ENDPOINT=endpoint) as gateway:
                assert gateway.send(execution(1, 2, START, [("step_script", 1)])) == 200
                name = f"otelcol_exporter_{('sent', 'send_failed')[number]}_spans"
                until(lambda: gateway.metric(name) == 2)
                found |= names(get(f"http://127.0.0.1:{gateway.metrics_port}/metrics"))
    for rule in ALERTS.values():
        for pattern in re.findall(r'(?<=")otelcol_[^"]+|(?<!")otelcol_\w+', rule["expr"]):
            assert any(re.fullmatch(pattern, it) for it in found), pattern


def test_a_relay_has_the_metrics_that_the_rules_name():
    # What its own test has seen it show.
    (shown,) = (SQL.parents[1] / "relay" / "src" / "snapshots").glob("*numbers_are_shown*")
    types = set(re.findall(r"^# TYPE (\w+)", shown.read_text(), re.MULTILINE))
    named = {name for rule in ALERTS.values() for name in re.findall(r"spanhook_relay_\w+", rule["expr"])}
    assert len(named) == 3 and named - types == set()


def test_spanhook_has_the_metrics_that_the_rules_name(tmp_path):
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    events = SQL.parents[1] / "events"
    rules = {"deny": ["acme/shop"]}
    with (
        sink(tmp_path / "backend") as backend,
        Collector(tmp_path / "metrics", "prometheus.yaml", PROMETHEUS=address) as metrics,
        Serve(
            tmp_path / "serve", backend, TELEMETRY_OTLP_ENDPOINT=metrics.endpoint, OTEL_METRIC_EXPORT_INTERVAL="200",
            PROJECT_RULES=json.dumps(rules),
        ) as serve,
    ):  # fmt: skip
        assert serve.gitlab(json.loads((events / "gitlab/pipeline-failed.json").read_text()))["status"] == "ignored"
        assert serve.gitlab({"object_kind": "pipeline"})["status"] == "quarantined"
        # What ended long ago counts in no delay.
        yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
        batch = (events / "kubernetes/batch-of-a-tekton-run.json").read_text().replace("2026-11-02", yesterday)
        assert serve.cluster(json.loads(batch))["status"] == "accepted"
        # Once the lag is there everything is.
        text = until(lambda: (it := get(f"http://{address}/metrics")) and b"delivery_lag" in it and it)
    found = names(text)
    # Nothing was refused with 503 here.
    found.add("spanhook_refused_total")
    for rule in ALERTS.values():
        for name in re.findall(r"spanhook_(?!relay_)\w+", rule["expr"]):
            assert name in found, name
    lines = text.decode().splitlines()
    assert any("spanhook_verified_total" in it and 'reason="denied"' in it for it in lines)
    assert any("spanhook_delivery_lag" in it and 'le="300000"' in it for it in lines)
    assert any("spanhook_spans_total" in it and 'reason="forwarded"' in it for it in lines)
