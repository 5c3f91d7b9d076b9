"""A webpack build in a GitLab job: endpoint, SQS, forwarder, Collector, ClickHouse, and the dashboard's queries."""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from clickhouse import engine, query, serve
from collector import Collector, until
from test_clickhouse import OVERLAY

ROOT = Path(__file__).parents[2]
BUNDLER = ROOT / "packages" / "bundler"
KEY = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
# The run and job of the vectors in docs/ids.md.
PIPELINE, JOB = "2722508965", "15651125844"
TRACE, JOB_SPAN = "ca54d68b6460aedebe19e565dcbb8d6c", "7b1a45c63d0a837b"
GITLAB = {
    "CI": "true", "GITLAB_CI": "true", "CI_SERVER_HOST": "gitlab.com", "CI_SERVER_URL": "https://gitlab.com",
    "CI_PIPELINE_ID": PIPELINE, "CI_JOB_ID": JOB, "CI_PROJECT_PATH": "acme/shop", "CI_COMMIT_REF_NAME": "main",
    "CI_COMMIT_SHA": "0d1c2b3a4f5e6d7c8b9a0f1e2d3c4b5a69788796",
}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """The functions behind an address, and the engine that their Collector writes into."""
    program = os.environ.get("SPANHOOK_DEPLOYMENT")
    if not program:
        pytest.skip("SPANHOOK_DEPLOYMENT is unset: it names the built tests/src/bin/deployment.rs")
    if not (BUNDLER / "dist").is_dir():
        pytest.skip("packages/bundler is not built: npm ci --ignore-scripts && npm run build")
    clickhouse = engine()
    clickhouse.create("otel")
    clickhouse.create_tables()
    folder = tmp_path_factory.mktemp("build")
    with serve(clickhouse) as endpoint:
        with Collector(folder, "clickhouse.yaml", OVERLAY, CLICKHOUSE_ENDPOINT=endpoint) as collector:
            env = {
                **os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
                "BUILD_EVENTS_SIGNING_KEY": KEY, "GITLAB_SIGNING_TOKEN": KEY,
            }
            process = subprocess.Popen([program], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            try:
                yield json.loads(process.stdout.readline())["url"], clickhouse
            finally:
                process.stdin.close()
                process.wait(30)


def webpack(url, folder, entry="index.js"):
    """Builds the bundler package's sample app as a job would; the files that it made."""
    env = {
        "PATH": os.environ["PATH"], "HOME": str(folder), **GITLAB, "TEST_OUTDIR": str(folder), "TEST_ENTRY": entry,
        "SPANHOOK_ENDPOINT": url, "SPANHOOK_SIGNING_KEY": KEY,
    }
    done = subprocess.run(
        ["node_modules/.bin/webpack", "--config", "test/app/webpack.config.mjs"],
        cwd=BUNDLER, env=env, capture_output=True, text=True, timeout=120,
    )
    assert "spanhook" not in done.stderr, done.stderr
    made = {it.name: it.stat().st_size for it in folder.iterdir() if it.is_file() and it.suffix != ".map"}
    return done.returncode, made


def post(url, event):
    body = json.dumps(event).encode()
    now = str(int(time.time()))
    key = base64.b64decode(KEY.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, f"id.{now}.".encode() + body, hashlib.sha256)).decode()
    headers = {"webhook-id": "id", "webhook-timestamp": now, "webhook-signature": f"v1,{signature}"}
    request = urllib.request.Request(f"{url}/build-events", body, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, json.load(answer)


def test_the_dashboards_queries_give_the_sizes_that_the_bundler_made(deployment, tmp_path):
    url, clickhouse = deployment
    code, made = webpack(url, tmp_path)
    assert code == 0 and made
    clickhouse.use("otel")
    until(lambda: clickhouse.rows(query("largest_assets"), correlation_id=PIPELINE), 60)
    until(lambda: clickhouse.rows(query("bundle_size"), correlation_id=PIPELINE), 60)

    (bundle,) = clickhouse.rows(query("bundle_size"), correlation_id=PIPELINE)
    assert bundle["bundle_size"] == sum(made.values())
    assert bundle["asset_count"] == len(made)
    assert bundle["bundler"] == "webpack"
    assert bundle["compile_seconds"] > 0
    assets = clickhouse.rows(query("largest_assets"), correlation_id=PIPELINE)
    sizes = sorted((int(value) for row in assets for name, value in row.items() if name in ("size", "bytes")), reverse=True)
    assert sizes == sorted(made.values(), reverse=True)[: len(sizes)] and sizes

    # It is in the trace of the pipeline, below the job: the ids that GitLab's webhook gives them.
    (span,) = clickhouse.rows("SELECT * FROM otel_traces WHERE SpanName = 'webpack compile' LIMIT 1 BY SpanId")
    assert (span["TraceId"], span["ParentSpanId"]) == (TRACE, JOB_SPAN)


def test_the_same_events_twice_count_once(deployment):
    url, clickhouse = deployment
    event = {
        "timestamp": "2026-11-02T10:00:00Z", "type": "webpack_build_stats", "correlation_id": "twice",
        "project": "acme/shop",
        "metrics": {"compile_time_ms": 1000, "total_asset_size_bytes": 4096, "asset_count": 1, "chunk_count": 1},
        "details": {"largest_assets": [{"name": "main.js", "size": 4096}], "chunks": []},
    }
    assert post(url, event) == post(url, event)
    marker = {**event, "correlation_id": "after", "timestamp": "2026-11-02T11:00:00Z"}
    assert post(url, marker)[0] == 202
    clickhouse.use("otel")
    until(lambda: clickhouse.rows(query("bundle_size"), correlation_id="after"), 60)
    until(lambda: clickhouse.value("SELECT count() FROM otel_traces WHERE ResourceAttributes['correlation_id'] = 'twice'") == 2, 60)
    rows = clickhouse.rows("SELECT * FROM ci_builds WHERE correlation_id = 'twice'")
    assert [row["bundle_size"] for row in rows] == [4096]


def test_a_failed_build_is_told_and_fails_by_itself(deployment, tmp_path):
    url, clickhouse = deployment
    code, _ = webpack(url, tmp_path, entry="broken.js")
    assert code != 0
    clickhouse.use("otel")
    failed = "SELECT StatusCode FROM otel_traces WHERE SpanName = 'webpack compile' AND StatusCode = 'Error' LIMIT 1 BY SpanId"
    until(lambda: clickhouse.rows(failed), 60)


def test_nobody_without_the_key_gets_in(deployment):
    url, _ = deployment
    request = urllib.request.Request(f"{url}/build-events", b"[]", method="POST")
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=10)
    assert error.value.code == 401
