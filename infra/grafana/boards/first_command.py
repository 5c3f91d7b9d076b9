"""From push to first command."""

from grafana_foundation_sdk.models import units

from .panels import WAITING, board, series, stacked, stat, table
from .sql import PIPELINE_LINK, REPOSITORY, RUN_LINKS, choice, query, trace_link

# In the order in which they follow each other, with what Grafana calls colours.
PARTS = {
    "Webhook": "purple",
    "Queue": "yellow",
    "Schedule": "orange",
    "Pull": "blue",
    "Start": "green",
}


def parts(aggregate="{}"):
    """The parts as columns. Means of them add up to the mean of the total; percentiles do not."""
    columns = (f"{aggregate.format(f'{name.lower()}_seconds')} AS {name}" for name in PARTS)
    return ", ".join(columns)


def make():
    runs = f"({query('push_to_first_command')})"
    seconds = {name: units.Seconds for name in [*PARTS, "p50", "p95", "Total", "Max", "Waited"]}
    note = (
        " Webhook: until the run was made; queue: until its Pod or job; schedule: until it had a node; pull: of images;"
        " start: what is left, until the first command of the first step."
    )

    def share(name, description):
        part = f"{name.lower()}_seconds"
        return stat(
            name, description, f"SELECT sum({part}) / nullIf(sum(total_seconds), 0) FROM {runs}", units.PercentUnit,
        )

    return board(
        "spanhook-first-command", "CI from push to first command",
        "What a run waits for from the push, or what else began it, to the first command of its first step."
        " What a provider does not tell took no time.",
        # Not by provider: run, jobs and Pods may be of three.
        [choice("repository", "Repository", []), choice("pipeline", "Pipeline", [REPOSITORY])],
        [
            (4, [
                stat(
                    "Median", "Half of the runs had begun their first command within it.",
                    f"SELECT quantile(0.5)(total_seconds) FROM {runs}", units.Seconds, WAITING,
                ),
                stat(
                    "p95", "One run of twenty waited longer for its first command.",
                    f"SELECT quantile(0.95)(total_seconds) FROM {runs}", units.Seconds, WAITING,
                ),
                share("Schedule", "The share of all the wait that is for a node."),
                share("Pull", "The share of all the wait that is for images."),
            ]),
            (9, [
                series(
                    "Where the time goes", "The mean of each part: together the mean of the whole wait." + note,
                    f"""SELECT $__timeInterval(timestamp) AS time, {parts('avg({})')} FROM {runs}
                        GROUP BY time ORDER BY time""",
                    unit=units.Seconds, bars=True, colors=PARTS,
                ),
                stacked(
                    "Latest runs", "The parts of each run's wait, the latest first." + note,
                    f"""SELECT concat(formatDateTime(timestamp, '%m-%d %H:%i:%S '), pipeline) AS Run, {parts()}
                        FROM {runs} ORDER BY timestamp DESC LIMIT 20""",
                    PARTS, units.Seconds,
                ),
            ]),
            (8, [
                series(
                    "The whole wait", "From push to first command.",
                    f"""SELECT $__timeInterval(timestamp) AS time, quantile(0.5)(total_seconds) AS p50,
                        quantile(0.95)(total_seconds) AS p95, max(total_seconds) AS longest FROM {runs}
                        GROUP BY time ORDER BY time""",
                    unit=units.Seconds,
                ),
                series(
                    "Each part, p95", "One run of twenty waited longer for it. These do not add up." + note,
                    f"""SELECT $__timeInterval(timestamp) AS time, {parts('quantile(0.95)({})')} FROM {runs}
                        GROUP BY time ORDER BY time""",
                    unit=units.Seconds, colors=PARTS,
                ),
            ]),
            (9, [table(
                "Pipelines", "The mean of each part, and the whole wait." + note,
                f"""SELECT repository AS Repository, pipeline AS Pipeline, count() AS Runs, {parts('avg({})')},
                    avg(total_seconds) AS Total, quantile(0.5)(total_seconds) AS p50,
                    quantile(0.95)(total_seconds) AS p95 FROM {runs}
                    GROUP BY repository, pipeline ORDER BY p95 DESC LIMIT 100""",
                units_of=seconds, links={"Pipeline": PIPELINE_LINK},
            )]),
            (9, [table(
                "Longest waits", "The runs that waited longest, with the job that began first." + note,
                f"""SELECT timestamp AS Created, repository AS Repository, pipeline AS Pipeline, job AS `First job`,
                    {parts()}, total_seconds AS Total, run_id AS Run, trace_id AS Trace, run_url
                    FROM {runs} ORDER BY Total DESC LIMIT 50""",
                units_of=seconds, links={**RUN_LINKS, "Pipeline": PIPELINE_LINK}, hidden=["run_url"],
            )]),
            (9, [
                table(
                    "Slowest images",
                    "The pure time of their pulls, and what these waited for other pulls of the node. An image that a"
                    " node has is not pulled.",
                    f"""SELECT image AS Image, pulls AS Pulls, failures AS Failures, bytes AS Size, p50_seconds AS p50,
                        p95_seconds AS p95, total_seconds AS Total, waited_seconds AS Waited, slowest_trace_id AS Trace
                        FROM ({query('image_pulls')})""",
                    units_of={**seconds, "Size": units.BytesSI}, links={"Trace": trace_link()}, width=12,
                ),
                table(
                    "Slowest scheduling", "How long Pods waited for a node. One that never had it has none.",
                    f"""SELECT instance AS Cluster, namespace AS Namespace, node AS Node, pods AS Pods,
                        failures AS Failures, p50_seconds AS p50, p95_seconds AS p95, max_seconds AS Max,
                        total_seconds AS Total, longest_trace_id AS Trace FROM ({query('scheduling')})""",
                    units_of=seconds, links={"Trace": trace_link()}, width=12,
                ),
            ]),
        ],
    )
