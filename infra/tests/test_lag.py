"""How long after the end of a job the dashboards show it."""

import datetime
import json
import time

from clickhouse import SQL, engine, serve
from collector import Collector, until
from serve import Serve
from test_grafana import DASHBOARDS, HOUR, expand

# The server of these tests reads nothing compressed. Everything else is as it is, with the pauses of its batches.
PLAIN = "exporters: { clickhouse: { compress: none } }"
# What no run of this test may take, on however slow a machine: batches alone wait five seconds.
BOUND = 60


def test_a_job_is_in_the_dashboards_query_soon_after_its_end(tmp_path):
    clickhouse = engine()
    clickhouse.create("lag")
    clickhouse.create_tables()
    panels = {it["title"]: it["targets"][0]["rawSql"] for it in DASHBOARDS["pipeline.json"]["panels"]}
    job = json.loads((SQL.parents[1] / "events/github/workflow-job-build.json").read_text())
    with (
        serve(clickhouse) as endpoint,
        Collector(
            tmp_path / "collector", "clickhouse.yaml", PLAIN, CLICKHOUSE_ENDPOINT=endpoint, CLICKHOUSE_DATABASE="lag"
        ) as collector,
        Serve(tmp_path / "serve", collector) as webhooks,
    ):
        ended = int(time.time())
        finish(job["workflow_job"], ended)
        assert webhooks.github(job)["status"] == "accepted"

        def rows():
            query = expand(panels["Jobs"], ended - HOUR, ended + HOUR, repository="acme/shop", pipeline="CI")
            return clickhouse.rows(query)

        (row,) = until(rows, BOUND)
        lag = time.time() - ended
    print(f"\nfrom the end of a job to the dashboard's query: {lag:.1f} s")
    assert (row["Job"], row["Jobs"]) == ("build", 1)
    assert 0 <= lag < BOUND
    clickhouse.use("lag")
    health = {it["title"]: it["targets"][0]["rawSql"] for it in DASHBOARDS["health.json"]["panels"]}
    stored = clickhouse.rows(expand(health["End of a job to its row, p95"], ended - HOUR, ended + HOUR))
    assert 0 <= next(iter(stored[0].values())) <= lag


def finish(job, ended):
    """A job that took a minute, by its times: GitHub's are whole seconds."""

    def at(seconds):
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    job |= {"created_at": at(ended - 70), "started_at": at(ended - 60), "completed_at": at(ended)}
    for step in job["steps"]:
        step |= {"started_at": at(ended - 60), "completed_at": at(ended)}
