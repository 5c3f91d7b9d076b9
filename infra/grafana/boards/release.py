"""One build by its correlation id."""

from grafana_foundation_sdk.models import units

from .panels import bars, board, stat, table, variable
from .sql import CORRELATION_ID, FAILED, JOB_LINKS, query, trace_link


LATEST = (
    "SELECT correlation_id FROM ci_build_spans WHERE $__timeFilter(timestamp)"
    " GROUP BY correlation_id ORDER BY max(timestamp) DESC LIMIT 1000"
)


def make():
    of_this = f"FROM ci_builds WHERE correlation_id = {CORRELATION_ID}"
    # This build and the ten before it, of the same project and branch.
    builds = f"""(SELECT correlation_id, max(timestamp) AS built_at FROM ci_builds
        WHERE (repository, ref) IN (SELECT repository, ref {of_this}
            ORDER BY kind = 'build' DESC, timestamp DESC LIMIT 1)
        GROUP BY correlation_id HAVING built_at <= (SELECT max(timestamp) {of_this})
        ORDER BY built_at DESC LIMIT 11)"""
    these = f"correlation_id IN (SELECT correlation_id FROM {builds})"
    label = "concat(formatDateTime(max(timestamp), '%m-%d %H:%i '), correlation_id)"
    sizes = f"""(SELECT correlation_id, max(timestamp) AS built_at, {label.replace("max(timestamp)", "built_at")} AS label,
        sum(bundle_size) AS size FROM ({query("bundle_size")})
        GROUP BY correlation_id ORDER BY built_at DESC LIMIT 11)"""
    latency = query("latency_by_build")
    return board(
        "spanhook-release", "CI release",
        "One build by its correlation id: what it made, how that compares with the ten builds before it on"
        " its branch, and how quick the app is at run time.",
        # Not the values of one column: the latest builds come first.
        [variable("correlation_id", "Correlation id", LATEST, several=False)],
        [
            (4, [
                stat(
                    "Bundle size", "Everything that the build's bundlers made.",
                    f"SELECT sum(bundle_size) {of_this} AND kind = 'bundle'", units.BytesIEC,
                ),
                stat(
                    "Against the last ten",
                    "The size of the bundles against the median of the ten builds before, of the same"
                    " project and branch.",
                    f"""SELECT nullIf(anyIf(size, correlation_id = {CORRELATION_ID}), 0)
                        / nullIf(quantileExactIf(0.5)(size, correlation_id != {CORRELATION_ID}), 0) - 1
                        FROM {sizes}""",
                    units.PercentUnit, [("green", None), ("yellow", 0.02), ("red", 0.1)],
                ),
                stat(
                    "Build duration", "As the job reported it.",
                    f"SELECT max(seconds) {of_this} AND kind = 'build'", units.Seconds,
                ),
                stat(
                    "API latency, p95",
                    "Of the slowest service that ran with this build, or was called by it, in the period.",
                    f"SELECT max(p95_seconds) FROM ({latency}) WHERE correlation_id = {CORRELATION_ID}", units.Seconds,
                ),
            ]),
            (8, [table(
                "This build", "What was reported with the correlation id: builds, bundles and artifacts.",
                f"""SELECT timestamp AS Done, kind AS Kind, repository AS Repository, ref AS Ref, revision AS Revision,
                    multiIf(kind = 'bundle', trim(concat(bundler, ' ', bundle)),
                        kind = 'artifact', trim(concat(artifact, ' ', variant)), '') AS Name,
                    result AS Result, error_type AS Error, nullIf(seconds, 0) AS Duration,
                    coalesce(bundle_size, artifact_size) AS Size, asset_count AS Assets,
                    chunk_count AS Chunks, trace_id AS Trace {of_this} ORDER BY timestamp, kind, Name""",
                units_of={"Duration": units.Seconds, "Size": units.BytesIEC}, links={"Trace": trace_link()},
            )]),
            (8, [table(
                "Runs and jobs", "Of CI, with the same correlation id. The trace opens in Explore, the job on the CI server.",
                f"""SELECT timestamp AS Started, provider AS Provider, kind AS Kind, pipeline AS Pipeline, job AS Job,
                    nullIf(attempt, 0) AS Attempt, result AS Result, error_type AS Error, duration_ns / 1e9 AS Duration,
                    trace_id AS Trace, if(job_url = '', run_url, job_url) AS job_url FROM ci_job_telemetry
                    WHERE correlation_id = {CORRELATION_ID} AND kind IN ('run', 'job') ORDER BY timestamp, kind DESC LIMIT 500""",
                units_of={"Duration": units.Seconds}, links=JOB_LINKS, hidden=["job_url"],
            )]),
            (9, [
                bars(
                    "Bundle size by build", "This build and the ten before it that have a size, the latest first.",
                    f"SELECT label AS Build, size AS Size FROM {sizes} ORDER BY built_at DESC", units.BytesIEC,
                ),
                bars(
                    "Largest assets", "And parts of artifacts, without the hashes of their names.",
                    f"SELECT name AS Asset, size AS Size FROM ({query('largest_assets')}) LIMIT 20", units.BytesIEC,
                ),
            ]),
            (9, [
                table(
                    "Chunks", "Against the ten builds before, of the same project and branch; a new chunk has no size before.",
                    f"""SELECT chunk AS Chunk, trim(concat(bundler, ' ', bundle)) AS Bundle, initial AS Initial, size AS Size,
                        change AS Change, of_median - 1 AS `Against the median`, modules AS Modules
                        FROM ({query("chunk_size")})""",
                    units_of={"Size": units.BytesIEC, "Change": units.BytesIEC, "Against the median": units.PercentUnit},
                    width=12,
                ),
                table(
                    "Third-party code of chunks",
                    "How much of each chunk comes from npm packages, and from which; (own) is the app's own code.",
                    f"""SELECT chunk AS Chunk, third_party_share AS `Third-party`, package AS Package, size AS Size,
                        share AS Share, modules AS Modules FROM ({query("chunk_packages")})""",
                    units_of={"Third-party": units.PercentUnit, "Size": units.BytesIEC, "Share": units.PercentUnit}, width=12,
                ),
            ]),
            (9, [
                bars(
                    "Build duration by build", "This build and the ten before it, the latest first.",
                    f"""SELECT {label} AS Build, max(seconds) AS Duration FROM ci_builds
                        WHERE {these} AND kind = 'build' GROUP BY correlation_id
                        ORDER BY max(timestamp) DESC""",
                    units.Seconds,
                ),
                table(
                    "Artifact size by build", "This build and the ten before it, the latest first.",
                    f"""SELECT artifact AS Artifact, variant AS Variant, timestamp AS Done,
                        correlation_id AS `Correlation id`, artifact_version AS Version, artifact_size AS Size,
                        artifact_size - lagInFrame(toNullable(artifact_size)) OVER (
                            PARTITION BY artifact, variant ORDER BY timestamp
                            ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS Change
                        FROM ci_builds WHERE {these} AND kind = 'artifact'
                        ORDER BY artifact, variant, timestamp DESC""",
                    units_of={"Size": units.BytesIEC, "Change": units.BytesIEC}, width=12,
                ),
            ]),
            (9, [table(
                "API latency by build",
                "Requests of the period with app.build_id, of this build and the ten before it: what clients"
                " measured, and what servers measured for these clients.",
                f"""SELECT built_at AS Built, correlation_id AS `Correlation id`, service_name AS Service,
                    service_version AS Version, kind AS Side, requests AS Requests, error_rate AS Errors,
                    p50_seconds AS p50, p95_seconds AS p95, bundle_bytes AS Bundle, artifact_bytes AS Artifacts
                    FROM ({latency}) ORDER BY Built DESC, Service, Version, Side""",
                units_of={"Errors": units.PercentUnit, "p50": units.Seconds, "p95": units.Seconds, "Bundle": units.BytesIEC, "Artifacts": units.BytesIEC},
            )]),
            (9, [table(
                "Failures", "Failed builds and bundles of this build and the ten before it, and failed jobs of their runs.",
                f"""SELECT * FROM (SELECT timestamp AS At, correlation_id AS `Correlation id`, kind AS Kind,
                    multiIf(kind = 'bundle', trim(concat(bundler, ' ', bundle)), repository) AS Name, result AS Result,
                    error_type AS Error, seconds AS Duration, trace_id AS Trace, '' AS job_url
                    FROM ci_builds WHERE {these} AND {FAILED}
                    UNION ALL
                    SELECT end_timestamp, correlation_id, kind, job, result, error_type,
                    duration_ns / 1e9 AS Duration, trace_id, job_url
                    FROM ci_job_telemetry WHERE kind = 'job' AND {FAILED} AND {these}
                    ) ORDER BY At DESC LIMIT 50""",
                units_of={"Duration": units.Seconds}, links=JOB_LINKS, hidden=["job_url"],
            )]),
        ],
        period="now-30d",
    )
