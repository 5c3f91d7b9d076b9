"""Webhooks, build events and the app's spans go through `spanhook serve` and the Collector into a real OpenSearch, and
every panel of the dashboards is right."""

import json
import os
import pathlib
import statistics

import pytest
from collector import Collector, binary, until
from dashboards import OBJECTS, Period, chosen, documents, options, rows, saved, searches, state, vega
from opensearch import FOLDER, ROOT, Node
from reported import HOUR, SINCE, UNTIL, post, request
from serve import Serve
from test_opensearch import USED

EVENTS = ROOT / "events"
PERIOD = Period(SINCE, UNTIL)
SECOND = 10**9
SHOP = [f"shop-{number:02}" for number in range(1, 14)]
LATEST, FAILED = SHOP[12], SHOP[11]
# A run whose test failed, and its second attempt, for which the build that had succeeded came again.
DELIVERIES = [
    "job-build", "job-test-failed", "job-deploy-skipped", "run-failed",
    "job-build-reused", "job-test-attempt-2", "job-deploy-attempt-2", "run-attempt-2",
]
ATTEMPTS = ["16200000001"]
MOBILE = "cedf175c-c537-49f8-9b5c-95892f0b2407"


def sample(name):
    return json.loads((EVENTS / f"{name}.json").read_text())


def build(correlation, hours, number, project="acme/shop", **chunks):
    """What a job reports of a build that ended then: the bundler's plugin doesn't know the project."""
    end = SINCE + hours * HOUR
    metadata = sample("build-events/ci-build-metadata") | {"timestamp": end, "correlation_id": correlation, "project": project}
    metadata["metrics"] = {"duration_seconds": 300 + number}
    bundle = sample("build-events/webpack-build-stats") | {"timestamp": end - 10, "correlation_id": correlation}
    if correlation == FAILED:
        metadata["job_status"] = "failed"
        bundle |= {"errors_count": 2}
    chunks = {"main": (400_000 + 1000 * number, 100 + number), "480": (22, 1), **chunks}
    bundle["details"] = {
        "largest_assets": [
            {"name": f"static/js/vendor.8a7f1c{number:02}.js", "size": 912_004 + number},
            {"name": "static/css/main.e5414484.css", "size": 88_120},
        ],
        "chunks": [{"name": name, "size": size, "modules": modules} for name, (size, modules) in chunks.items()],
    }
    return [metadata, bundle]


REPORTED = [
    *(it for number, id in enumerate(SHOP[:-1], 1) for it in build(id, number, number)),
    *build(LATEST, 13, 13, checkout=(50_000, 7)),
    # Between these, of another project: it is none of the ten before.
    *build("other-1", 6.5, 0, "acme/other", main=(9_999_999, 1)),
    *build("other-2", 12.5, 0, "acme/other", main=(9_999_999, 1)),
    *sample("build-events/mobile"),
]
REQUESTS = [
    *[request(FAILED, it, 100 + it) for it in range(101)],
    *[request(LATEST, it, 2 * (100 + it), error=it < 10) for it in range(101)],
    # The server has a build of its own; baggage told it who called.
    *[request("api-7", it, 50, "shop-api", "7", kind=2, called_by=LATEST) for it in range(3)],
]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node with everything in it, each delivery made twice."""
    folder = tmp_path_factory.mktemp("opensearch")
    with Node(folder / "node") as node:
        node.load()
        with (
            Collector(
                folder / "collector", "opensearch.yaml", program="otelcol-opensearch", OPENSEARCH_ENDPOINT=node.endpoint
            ) as collector,
            Serve(folder / "serve", collector) as serve,
        ):
            for _ in range(2):
                answer = serve.report(REPORTED)
                assert answer["status"] == "accepted" and "unread" not in answer
                for name in DELIVERIES:
                    assert serve.github(sample(f"github/workflow-{name}"))["status"] == "accepted"
                post(collector, [{"traces": REQUESTS}])
            until(lambda: serve.queued() == 0)
            assert "ERROR" not in serve.log() and "error" not in collector.log()
        node.call("POST", "ss4o_*/_refresh")
        yield node


@pytest.fixture(scope="module")
def parts():
    return pathlib.Path(binary("otelcol-opensearch")).parents[1]


@pytest.fixture
def panel(node, parts):
    """What a panel shows, with a correlation id chosen or none."""

    def panel(id, correlation_id=None):
        item = saved(id)
        filters = [chosen("correlation_id", correlation_id)] if correlation_id else []
        if item["type"] == "search":
            return documents(node, item, filters, PERIOD)
        if state(item)["type"] == "vega":
            data, svg = vega(node, parts, item, filters, PERIOD)
            assert svg.startswith("<svg")
            return data
        return rows(node, item, filters, PERIOD)

    return panel
