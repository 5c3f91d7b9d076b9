"""A mobile app of docs/samples runs for real: from its request, over a server, to a row of the latency query."""

import functools
import http.server
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from clickhouse import engine, query, serve
from collector import Collector, free_ports, until
from reported import SINCE, post, snapshot
from test_clickhouse import OVERLAY

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
BUILD, SERVERS_BUILD = "shop-android-77", "shop-api-12"
HOUR = 3600


class Recorder(http.server.ThreadingHTTPServer):
    """Two hosts at one port, by name: what each was sent. `/redirect` leads from the one to the other."""

    def __init__(self):
        self.requests = []
        super().__init__(("127.0.0.1", 0), Handler)

    def sent_to(self, host):
        return [headers for to, headers in self.requests if to.startswith(f"{host}:")]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((headers["host"], headers))
        redirect = self.path == "/redirect"
        self.send_response(302 if redirect else 200)
        if redirect:
            self.send_header("Location", f"http://localhost:{self.server.server_port}/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def run(*command, folder, **env):
    return subprocess.run(command, cwd=folder, env={**os.environ, **env}, check=True, timeout=600)


@functools.cache
def used(folder):
    """The database behind the app and its server, and what the other hosts saw."""
    shutil.copytree(SAMPLES, folder)
    run("npm", "install", "--silent", "--no-audit", "--no-fund", "--omit=dev", folder=folder)
    clickhouse = engine()
    clickhouse.create("mobile")
    clickhouse.create_tables()
    recorder = Recorder()
    threading.Thread(target=recorder.serve_forever, daemon=True).start()
    (port,) = free_ports(1)
    with serve(clickhouse) as endpoint, Collector(
        folder / "collector", "clickhouse.yaml", OVERLAY, CLICKHOUSE_ENDPOINT=endpoint, CLICKHOUSE_DATABASE="mobile"
    ) as collector:
        build = snapshot("ci-build-metadata", BUILD)
        post(collector, [build])
        env = {
            **os.environ, "PORT": str(port), "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_SERVICE_NAME": "shop-api",
            "OTEL_RESOURCE_ATTRIBUTES": f"app.build_id={SERVERS_BUILD},service.version=7",
        }
        server = subprocess.Popen(
            ["node", "--require", "./server/telemetry.cjs", "server/server.cjs"], cwd=folder, env=env
        )
        try:
            until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 60)
            addresses = [
                f"http://127.0.0.1:{port}/api/cart",
                f"http://127.0.0.1:{recorder.server_port}/redirect",
                f"http://localhost:{recorder.server_port}/other",
            ]
            run(
                "mvn", "-q", "-B", "compile", "exec:java", f"-Dexec.args={' '.join(addresses)}",
                folder=folder / "kotlin", CORRELATION_ID=BUILD, APP_VERSION="1.4.0", API_HOST="127.0.0.1",
                OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.endpoint}/v1/traces",
            )
        finally:
            server.terminate()  # sends what is left
            server.wait(60)
        until(lambda: clickhouse.value(
            "SELECT uniqExact(ServiceName) FROM mobile.otel_traces WHERE ServiceName IN ('shop-android', 'shop-api')"
        ) == 2, 60)
    recorder.shutdown()
    return clickhouse, recorder


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    clickhouse, recorder = used(tmp_path_factory.getbasetemp() / "samples")
    clickhouse.use("mobile")
    return clickhouse, recorder


def test_a_request_of_the_app_is_a_row_of_its_build_and_so_is_what_the_server_took(mobile):
    clickhouse, _ = mobile
    now = int(time.time())
    params = {"correlation_id": BUILD, "from": min(SINCE, now - HOUR), "to": now + HOUR}
    rows = {row["kind"]: row for row in clickhouse.rows(query("latency_by_build"), **params)}
    assert {kind: (row["correlation_id"], row["service_name"], row["service_version"]) for kind, row in rows.items()} == {
        "Client": (BUILD, "shop-android", "1.4.0"), "Server": (BUILD, "shop-api", "7"),
    }
    assert rows["Server"]["requests"] == 1 and rows["Client"]["requests"] >= 3
    assert all(0 < row["p95_seconds"] < 60 for row in rows.values())


def test_app_and_server_are_one_trace_that_is_not_the_builds(mobile):
    clickhouse, _ = mobile
    (row,) = clickhouse.rows("""
        SELECT client.ResourceAttributes['app.build_id'] AS app, server.SpanAttributes['app.build_id'] AS caller,
            server.ResourceAttributes['app.build_id'] AS own,
            client.TraceId IN (SELECT trace_id FROM ci_build_spans) AS of_build
        FROM (SELECT * FROM otel_traces WHERE ServiceName = 'shop-api') AS server
        JOIN (SELECT * FROM otel_traces WHERE ServiceName = 'shop-android') AS client
            ON client.TraceId = server.TraceId AND client.SpanId = server.ParentSpanId
    """)
    assert row == {"app": BUILD, "caller": BUILD, "own": SERVERS_BUILD, "of_build": 0}


def test_only_the_apps_own_host_is_told_the_build_even_behind_a_redirect(mobile):
    _, recorder = mobile
    (own,) = recorder.sent_to("127.0.0.1")
    assert own["baggage"] == f"app.build_id={BUILD}" and own["traceparent"].startswith("00-")
    others = recorder.sent_to("localhost")
    assert len(others) == 2
    assert not [name for headers in others for name in headers if name in ("baggage", "traceparent", "tracestate")]
