"""The Collector configurations do what their headers say, each as it is, in a real Collector."""

import collections
import concurrent.futures
import datetime
import http.client
import http.server
import json
import re
import shutil
import subprocess
import threading
import urllib.request

import pytest
from collector import (
    CONFIGS,
    QUICK_RETRIES,
    Collector,
    binary,
    free_ports,
    get,
    hashed,
    ids_of,
    job_spans,
    opener,
    run_points,
    run_span,
    sink,
    trace_id,
    until,
)

NOWHERE = "http://127.0.0.1:9"
NEEDS = {
    "gateway.yaml": {"EXPORT_ENDPOINT": NOWHERE},
    "clickhouse.yaml": {},
    "probabilistic-sampling.yaml": {"EXPORT_ENDPOINT": NOWHERE},
    "tail-sampling.yaml": {"EXPORT_ENDPOINT": NOWHERE},
    "load-balancing.yaml": {"SECOND_TIER": "[127.0.0.1:9, 127.0.0.1:10]"},
    "span-metrics.yaml": {"EXPORT_ENDPOINT": NOWHERE, "METRICS_EXPORT_ENDPOINT": NOWHERE},
}


def whole_run(pipeline, jobs=3, **options):
    return run_span(pipeline, **options) + job_spans(pipeline, jobs)


def test_ids_are_those_of_spanhook():
    assert trace_id(2722508965) == "ca54d68b6460aedebe19e565dcbb8d6c"
    assert hashed(8, "job", "15651125844") == "7b1a45c63d0a837b"


@pytest.mark.parametrize("name", NEEDS)
def test_valid(name, tmp_path):
    assert Collector(tmp_path, name, **NEEDS[name]).validate() == ""


@pytest.mark.parametrize("name", [name for name, needs in NEEDS.items() if needs])
def test_a_missing_variable_is_an_error(name, tmp_path):
    assert Collector(tmp_path, name).validate() != ""


@pytest.mark.parametrize("name", NEEDS)
def test_no_queue_gives_up(name):
    # The default drops a batch after five minutes of trying, longer than a test can wait.
    text = (CONFIGS / name).read_text()
    queues = text.count("sending_queue:") - text.count("sending_queue: { enabled: false }")
    assert text.count("max_elapsed_time: 0") == queues > 0


@pytest.fixture
def secure(tmp_path):
    """The variables of secure.yaml."""
    components = subprocess.run([binary(), "components"], capture_output=True, text=True, check=True).stdout
    if "bearertokenauth" not in components:
        pytest.skip("this Collector is built without bearertokenauth")
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    cert, key, tokens = (str(tmp_path / name) for name in ("cert.pem", "key.pem", "tokens"))
    subject = ["-subj", "/CN=collector", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, *subject]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "tokens").write_text("new\nold\n")
    return {"TLS_CERT": cert, "TLS_KEY": key, "TOKEN_FILE": tokens}


@pytest.mark.parametrize("name", NEEDS)
def test_secure_valid(name, secure, tmp_path):
    assert Collector(tmp_path, name, "secure.yaml", **NEEDS[name], **secure).validate() == ""


def test_secure_asks_for_tls_and_a_token(secure, tmp_path):
    with Collector(tmp_path, "gateway.yaml", "secure.yaml", EXPORT_ENDPOINT=NOWHERE, **secure) as gateway:
        assert gateway.send(whole_run(1)) == 400  # plain HTTP to a TLS port
        gateway.endpoint = gateway.endpoint.replace("http:", "https:")
        gateway.trust = secure["TLS_CERT"]
        assert gateway.send(whole_run(1)) == 401
        assert gateway.send(whole_run(1), {"Authorization": "Bearer wrong"}) == 401
        for token in ("new", "old"):
            assert gateway.send(whole_run(1), {"Authorization": f"Bearer {token}"}) == 200


def test_opensearch_valid(tmp_path):
    assert Collector(tmp_path, "opensearch.yaml", program="otelcol-opensearch").validate() == ""


@pytest.fixture
def opensearch():
    """As much of OpenSearch as the exporter talks to: takes what it is told to, and keeps it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            lines = self.rfile.read(int(self.headers["Content-Length"])).splitlines()
            actions, documents = map(json.loads, lines[::2]), map(json.loads, lines[1::2])
            for action, document in zip(actions, documents):
                server.documents.append((action["index"]["_index"], document["traceId"], document["spanId"]))
            answer = {"status": server.item_status} | ({"error": {"type": "busy"}} if server.item_status > 299 else {})
            items = [{"index": answer}] * (len(lines) // 2)
            self.send_response(server.status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"errors": "error" in answer, "items": items}).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.documents, server.status, server.item_status = [], 200, 201
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_opensearch_writes_before_it_answers(opensearch, tmp_path):
    endpoint = f"http://127.0.0.1:{opensearch.server_port}"
    with Collector(tmp_path, "opensearch.yaml", program="otelcol-opensearch", OPENSEARCH_ENDPOINT=endpoint) as it:
        days = {day()}
        assert it.send(whole_run(1)) == 200
        days.add(day())  # midnight may have passed
        assert {document[1:] for document in opensearch.documents} == ids_of(whole_run(1))
        assert {document[0] for document in opensearch.documents} <= {f"ss4o_traces-ci-default-{it}" for it in days}

        # 5xx: the forwarder keeps its messages. 400 would send them to the dead-letter queue.
        opensearch.item_status = 429
        assert it.send(whole_run(2)) >= 500
        opensearch.status = 503
        assert it.send(whole_run(3)) >= 500


def day():
    return datetime.datetime.now(datetime.UTC).strftime("%Y.%m.%d")


def test_opensearch_down_is_told_to_the_sender(tmp_path):
    with Collector(tmp_path, "opensearch.yaml", program="otelcol-opensearch", OPENSEARCH_ENDPOINT=NOWHERE) as it:
        assert it.send(whole_run(1)) >= 500


def test_gateway_keeps_spans_through_an_outage_and_its_own_death(tmp_path):
    backend = sink(tmp_path / "backend")
    gateway = Collector(tmp_path / "gateway", "gateway.yaml", QUICK_RETRIES, EXPORT_ENDPOINT=backend.endpoint)
    sent = set()
    with gateway:
        # Killed while requests are under way: those that were answered must be on disk.
        answered = threading.Semaphore(0)

        def deliver(pipeline):
            try:
                assert gateway.send(whole_run(pipeline)) == 200
            except (OSError, http.client.HTTPException):
                return set()
            answered.release()
            return ids_of(whole_run(pipeline))

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            deliveries = [pool.submit(deliver, pipeline) for pipeline in range(1000)]
            for _ in range(100):
                answered.acquire(timeout=30)
            gateway.kill()
        taken = [it.result() for it in deliveries if it.result()]
        assert 100 <= len(taken) < 1000
        sent.update(*taken)
    with gateway:
        # Killed while batches have left the queue and are being retried.
        until(lambda: "Exporting failed. Will retry" in gateway.log())
        gateway.kill()
    with gateway, backend:
        until(lambda: set(backend.spans()) >= sent)
        backend.kill()
        for pipeline in range(1000, 1020):
            spans = whole_run(pipeline)
            assert gateway.send(spans) == 200
            sent |= ids_of(spans)
        until(lambda: gateway.metric("otelcol_exporter_queue_size") > 0)
        backend.start()
        until(lambda: set(backend.spans()) >= sent)
    # A request that was cut off may be there as well.
    assert {trace for trace, _ in backend.spans()} <= {trace_id(it) for it in range(1020)}


def test_gateway_hands_metrics_and_logs_on_as_well(tmp_path):
    point = {"asDouble": 1.0, "timeUnixNano": "1"}
    bodies = {
        "metrics": {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "n", "gauge": {"dataPoints": [point]}}]}]}]},
        "logs": {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "built"}}]}]}]},
    }
    with sink(tmp_path / "backend") as backend:
        with Collector(tmp_path / "gateway", "gateway.yaml", EXPORT_ENDPOINT=backend.endpoint) as gateway:
            for signal, body in bodies.items():
                headers = {"Content-Type": "application/json"}
                request = urllib.request.Request(f"{gateway.endpoint}/v1/{signal}", json.dumps(body).encode(), headers)
                with opener().open(request, timeout=30) as answer:
                    assert answer.status == 200
            until(lambda: backend.lines("metrics") and backend.lines("logs"))


def test_gateway_refuses_what_it_cannot_keep(tmp_path):
    backend = sink(tmp_path / "backend")
    gateway = Collector(
        tmp_path / "gateway", "gateway.yaml", QUICK_RETRIES, EXPORT_ENDPOINT=backend.endpoint, QUEUE_BYTES="1000000"
    )
    taken = set()
    with gateway:
        for pipeline in range(1000):
            spans = whole_run(pipeline, 20)
            status = gateway.send(spans)
            if status != 200:
                break
            taken |= ids_of(spans)
        assert status == 503  # the sender keeps it and tries again
        with backend:
            until(lambda: set(backend.spans()) >= taken)
            until(lambda: gateway.send(spans) == 200)


def test_probabilistic_sampling_keeps_its_share_of_whole_traces(tmp_path):
    sent = collections.defaultdict(set)
    with (
        sink(tmp_path / "backend") as backend,
        Collector(
            tmp_path / "sampler", "probabilistic-sampling.yaml", EXPORT_ENDPOINT=backend.endpoint, KEEP_PERCENT="25"
        ) as sampler,
    ):
        # The run and its jobs come in different requests, and each request has many runs.
        for make in (lambda pipeline: job_spans(pipeline, 2), run_span):
            for first in range(0, 2000, 100):
                spans = [it for pipeline in range(first, first + 100) for it in make(pipeline)]
                assert sampler.send(spans) == 200
                for trace, span in ids_of(spans):
                    sent[trace].add(span)
        # Consistent sampling: the last 56 bits of the trace id, at or above the threshold.
        expected = {trace for trace in sent if int(trace[-14:], 16) >= 0.75 * 2**56}
        until(lambda: len(backend.spans()) >= sum(len(sent[trace]) for trace in expected))
        until(lambda: sampler.metric("otelcol_exporter_queue_size") == 0)  # the rest, if there were any
        kept = backend.spans()
    assert len(sent) == 2000
    assert 0.21 < len({trace for trace, _ in kept}) / 2000 < 0.29  # four standard deviations
    assert set(kept) == {(trace, span) for trace in expected for span in sent[trace]}


def test_tail_sampling_keeps_failed_and_slow_runs_whole(tmp_path):
    runs = {  # the jobs' and the run's options
        "quick": ({}, {}, range(0, 300)),
        "failed": ({"result": "failure"}, {"result": "failure"}, range(300, 330)),
        "slow": ({"seconds": 3000}, {"seconds": 3600}, range(330, 360)),
        "allowed failure": ({"result": "failure"}, {}, range(360, 370)),
    }
    sent = collections.defaultdict(set)
    with (
        sink(tmp_path / "backend") as backend,
        Collector(
            tmp_path / "tail", "tail-sampling.yaml", EXPORT_ENDPOINT=backend.endpoint, DECISION_WAIT_AFTER_RUN="1s"
        ) as tail,
    ):

        def send(spans):
            assert tail.send(spans) == 200
            for trace, span in ids_of(spans):
                sent[trace].add(span)

        # As with CircleCI: the jobs, then the run.
        for jobs, _, pipelines in runs.values():
            for pipeline in pipelines:
                send(job_spans(pipeline, 3, **jobs))
        unfinished = job_spans(9000, 2, result="failure")
        send(unfinished)
        for _, run, pipelines in runs.values():
            send([it for pipeline in pipelines for it in run_span(pipeline, **run)])

        until(lambda: tail.metric("otelcol_processor_tail_sampling_global_count_traces_sampled") >= 370)
        until(lambda: {trace_id(it) for it in range(300, 370)} <= {trace for trace, _ in backend.spans()})

        # Late spans, and a run behind them that shows when they are through.
        kept = {trace for trace, _ in backend.spans()}
        dropped = next(it for it in range(300) if trace_id(it) not in kept)
        kept_quick = next(it for it in range(300) if trace_id(it) in kept)
        late = {it: job_spans(it, 9, result="failure")[-1:] for it in (dropped, kept_quick)}
        for it in (kept_quick, dropped):
            send(late[it])
        send(whole_run(9001, result="failure"))
        until(lambda: {it for it in backend.spans() if it[0] == trace_id(9001)} == ids_of(whole_run(9001)))
        until(lambda: ids_of(late[kept_quick]) <= set(backend.spans()))
        assert not ids_of(late[dropped]) & set(backend.spans())

        # Without its run a trace waits. At a stop it is judged by what came, and put into the queue.
        assert not ids_of(unfinished) & set(backend.spans())
        tail.stop()
        tail.start()
        until(lambda: ids_of(unfinished) <= set(backend.spans()))
        received = collections.defaultdict(set)
        for trace, span in backend.spans():
            received[trace].add(span)

    for name, (_, _, pipelines) in runs.items():
        whole = [it for it in pipelines if received[trace_id(it)] == sent[trace_id(it)]]
        partial = [it for it in pipelines if received[trace_id(it)] and it not in whole]
        assert not partial, name
        if name == "quick":
            assert 0.04 < len(whole) / len(pipelines) < 0.18  # 10 %, four standard deviations
        else:
            assert whole == list(pipelines), name


def test_two_tiers_bring_a_trace_together(tmp_path):
    sent = collections.defaultdict(set)
    with (
        sink(tmp_path / "backend-1") as backend_1,
        sink(tmp_path / "backend-2") as backend_2,
        Collector(tmp_path / "tail-1", "tail-sampling.yaml", **second_tier(backend_1)) as tail_1,
        Collector(tmp_path / "tail-2", "tail-sampling.yaml", **second_tier(backend_2)) as tail_2,
    ):
        tier = f"[127.0.0.1:{tail_1.grpc}, 127.0.0.1:{tail_2.grpc}]"
        # Two in the first tier, as behind a load balancer that knows nothing of traces.
        with (
            Collector(tmp_path / "first-1", "load-balancing.yaml", SECOND_TIER=tier) as first_1,
            Collector(tmp_path / "first-2", "load-balancing.yaml", SECOND_TIER=tier) as first_2,
        ):
            for first, make in ((first_1, lambda it: job_spans(it, 3)), (first_2, run_span)):
                for start in range(0, 200, 20):
                    spans = [it for pipeline in range(start, start + 20) for it in make(pipeline)]
                    assert first.send(spans) == 200
                    for trace, span in ids_of(spans):
                        sent[trace].add((trace, span))
            everything = set().union(*sent.values())
            until(lambda: {*backend_1.spans(), *backend_2.spans()} >= everything)
        arrived = [set(backend_1.spans()), set(backend_2.spans())]
    assert not arrived[0] & arrived[1]
    for spans in sent.values():
        assert spans <= arrived[0] or spans <= arrived[1]
    assert all(len({trace for trace, _ in spans}) > 50 for spans in arrived)


def second_tier(backend):
    return {"EXPORT_ENDPOINT": backend.endpoint, "KEEP_PERCENT": "100", "DECISION_WAIT_AFTER_RUN": "1s"}


@pytest.mark.parametrize("temporality", ["DELTA", "CUMULATIVE"])
def test_span_metrics(temporality, tmp_path):
    with (
        sink(tmp_path / "backend") as backend,
        Collector(
            tmp_path / "collector",
            "span-metrics.yaml",
            EXPORT_ENDPOINT=backend.endpoint,
            METRICS_EXPORT_ENDPOINT=backend.endpoint,
            TEMPORALITY=f"AGGREGATION_TEMPORALITY_{temporality}",
            METRICS_EVERY="500ms",
        ) as collector,
    ):
        sent = set()
        for first in (0, 30):  # the second half comes in a later interval
            for pipeline in range(first, first + 30):
                result, seconds = ("failure", 700) if pipeline % 3 == 0 else ("success", 45)
                spans = run_span(pipeline, seconds, result, name=f"pipeline-{pipeline % 2}")
                spans += job_spans(pipeline, 2, 20, result, name=f"pipeline-{pipeline % 2}")
                assert collector.send(spans) == 200
                sent |= ids_of(spans)
            seen = first + 30
            until(lambda: count(backend, temporality, "cicd.pipeline.run.duration") == seen)
            until(lambda: count(backend, temporality, "spanhook.job.duration") == 2 * seen)
        until(lambda: set(backend.spans()) == sent)  # the spans pass, as they are
        found = histograms(backend, temporality)

    assert {name for name, _ in found} == {"cicd.pipeline.run.duration", "spanhook.job.duration"}
    run = {key: point for (name, key), point in found.items() if name == "cicd.pipeline.run.duration"}
    state = ("cicd.pipeline.run.state", "executing")
    assert run.keys() == {
        key
        for name in ("pipeline-0", "pipeline-1")
        for key in (
            frozenset({("cicd.pipeline.name", name), state, ("cicd.pipeline.result", "success")}),
            frozenset(
                {("cicd.pipeline.name", name), state, ("cicd.pipeline.result", "failure"), ("error.type", "script_failure")}
            ),
        )
    }
    for key, point in run.items():
        number, seconds, bucket = (10, 700, 900) if ("cicd.pipeline.result", "failure") in key else (20, 45, 60)
        assert point == {"count": number, "sum": number * seconds, "buckets": {bucket: number}}
    job = {key: point for (name, key), point in found.items() if name == "spanhook.job.duration"}
    names = {"cicd.pipeline.name", "cicd.pipeline.task.name", "cicd.pipeline.task.run.result", "error.type"}
    assert {name for key in job for name, _ in key} == names
    assert len(job) == 8  # two pipelines, two jobs, two results


def count(backend, temporality, name):
    found = histograms(backend, temporality)
    return sum(point["count"] for (metric, _), point in found.items() if metric == name)


def histograms(backend, temporality):
    """(name, attributes) → count, sum and buckets by upper bound, over everything that came."""
    found = {}
    for line in backend.lines("metrics"):
        for resource in line["resourceMetrics"]:
            # A run's id here would make every run a series of its own.
            assert [it["key"] for it in resource["resource"]["attributes"]] == ["service.name"]
            for metric in (it for scope in resource["scopeMetrics"] for it in scope["metrics"]):
                assert metric["unit"] == "s"
                histogram = metric["histogram"]
                assert histogram["aggregationTemporality"] == {"DELTA": 1, "CUMULATIVE": 2}[temporality]
                for point in histogram["dataPoints"]:
                    bounds = point["explicitBounds"]
                    assert (bounds[0], bounds[-1]) == (1, 6 * 3600)
                    key = frozenset((it["key"], it["value"]["stringValue"]) for it in point["attributes"])
                    total = found.setdefault((metric["name"], key), {"count": 0, "sum": 0, "buckets": {}})
                    if temporality == "CUMULATIVE":
                        total |= {"count": 0, "sum": 0, "buckets": {}}
                    total["count"] += int(point["count"])
                    total["sum"] += point["sum"]
                    for bound, number in zip([*bounds, float("inf")], map(int, point["bucketCounts"])):
                        if number:
                            total["buckets"][bound] = total["buckets"].get(bound, 0) + number
    return found


@pytest.fixture
def prometheus():
    """An address, where the Collector is built with what prometheus.yaml takes."""
    components = subprocess.run([binary(), "components"], capture_output=True, text=True, check=True).stdout
    if "delta_to_cumulative" not in components:
        pytest.skip("this Collector is built without delta_to_cumulative: tests/parts/install.sh builds one")
    return f"127.0.0.1:{free_ports(1)[0]}"


# Later and earlier ends, the same end twice, and a delivery that came again.
OUT_OF_ORDER = [
    run_points(pipeline, end - seconds, pending=5, executing=seconds)
    for pipeline, end, seconds in [(1, 900, 40), (2, 60, 50), (3, 900, 700), (4, 900, 45), (4, 900, 45)]
]


def test_sums_drop_points_with_their_own_times(prometheus, tmp_path):
    # Why prometheus.yaml gives them others. Once this fails it need not.
    overlay = "service: { pipelines: { metrics: { processors: [memory_limiter, delta_to_cumulative] } } }"
    with Collector(tmp_path, "prometheus.yaml", overlay, PROMETHEUS=prometheus) as collector:
        for points in OUT_OF_ORDER:
            assert collector.send_metrics(points) == 200
        # Only what is dropped has a label there, the error.
        until(lambda: collector.metric("otelcol_deltatocumulative_datapoints") == 2 * len(OUT_OF_ORDER) - 2)
        assert scraped(prometheus)["count"] == {("executing", "success"): 1, ("pending", ""): 1}


def test_prometheus_counts_every_run_in_whatever_order_they_come(prometheus, tmp_path):
    with Collector(tmp_path, "prometheus.yaml", PROMETHEUS=prometheus) as collector:
        for points in OUT_OF_ORDER:
            assert collector.send_metrics(points) == 200
        # Several in one request, one of them of another result.
        points = run_points(5, 30, executing=55) + run_points(6, 20, executing=4, result="failure")
        assert collector.send_metrics(points + run_points(7, 10, executing=58)) == 200
        until(lambda: sum(scraped(prometheus)["count"].values()) == 13)
        found = scraped(prometheus)
    success, failure, pending = ("executing", "success"), ("executing", "failure"), ("pending", "")
    assert found["count"] == {success: 7, failure: 1, pending: 5}
    assert found["sum"] == {success: 40 + 50 + 700 + 45 + 45 + 55 + 58, failure: 4, pending: 25}
    assert found["bucket"][success, "60"] == 6 and found["bucket"][success, "900"] == 7


def test_prometheus_gets_no_label_of_one_run(prometheus, tmp_path):
    (points,) = run_points(1, 60, executing=30)
    of_run = ["cicd.pipeline.run.id", "vcs.ref.head.name", "vcs.change.id", "correlation_id", "app.build_id"]
    points["resource"]["attributes"] += [{"key": it, "value": {"stringValue": "1"}} for it in of_run]
    with Collector(tmp_path, "prometheus.yaml", PROMETHEUS=prometheus) as collector:
        assert collector.send_metrics([points]) == 200
        text = until(lambda: get(f"http://{prometheus}/metrics").decode())
    (line,) = (it for it in text.splitlines() if it.startswith("cicd_pipeline_run_duration_seconds_count"))
    assert set(re.findall(r'(\w+)="', line)) == {
        "cicd_pipeline_name", "cicd_pipeline_result", "cicd_pipeline_run_state", "job", "otel_scope_name",
        "otel_scope_schema_url", "otel_scope_version", "service_name", "spanhook_provider", "vcs_owner_name",
        "vcs_repository_name",
    }  # fmt: skip


def test_prometheus_can_be_made_secure(prometheus, secure, tmp_path):
    extensions = "service: { extensions: [health_check, bearertokenauth] }"
    configs = ["prometheus.yaml", "secure.yaml", extensions]
    with Collector(tmp_path, *configs, PROMETHEUS=prometheus, **secure) as collector:
        assert collector.send_metrics(run_points(1, 60, executing=30)) == 400  # plain HTTP to a TLS port


def scraped(address):
    """count, sum and bucket of run durations by state and result."""
    found = {"count": {}, "sum": {}, "bucket": {}}
    for line in get(f"http://{address}/metrics").decode().splitlines():
        if not (match := re.match(r"cicd_pipeline_run_duration_seconds_(\w+){(.*)} (\S+)", line)):
            continue
        labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
        key = (labels["cicd_pipeline_run_state"], labels.get("cicd_pipeline_result", ""))
        if "le" in labels:
            key = (key, labels["le"])
        found[match[1]][key] = float(match[3])
    return found
