"""GitLab Runner's own spans, made up: `job_execution` as runners from 19.0 on send it, the stages and CI functions below it
as GitLab's design and its plans have them.

https://handbook.gitlab.com/handbook/engineering/architecture/design-documents/ci_job_telemetry/
https://gitlab.com/gitlab-org/gitlab-runner/-/issues/39230 (stages), 39271 (functions)
"""

import hashlib

SECOND = 10**9


def native(root, job, kind):
    """GitLab's id of a job's span: lib/gitlab/ci/trace_context.rb."""
    return hashlib.sha256(f"{root}:{job}:{kind}".encode()).hexdigest()[:16]


def execution(root, job, start, stages, pipeline=None, status="success"):
    """The ResourceSpans of a job's execution that began at `start` (seconds).

    `stages` are pairs of a name and seconds, one after the other; a name with a slash is a CI function.
    """
    trace, own = f"{root:032x}", hashlib.sha256(f"random {job}".encode()).hexdigest()[:16]
    common = {"ci.job.id": job, "ci.project.id": 501, "ci.pipeline.id": str(pipeline or root)}
    common |= {"ci.pipeline.source": "push", "ci.runner.id": 31, "ci.runner.executor": "docker"}
    spans, at = [], start
    for number, (name, seconds) in enumerate(stages):
        more, failed = {}, status == "failed" and number == len(stages) - 1
        if "/" in name:
            more = {"ci.function.name": name, "ci.function.version": "1.2.0"}
            more["ci.function.status"] = "failed" if failed else "success"
        spans.append(_span(trace, f"{own[:8]}{number:08x}", own, name, at, at + seconds, {**common, **more}, failed))
        at += seconds
    # As it comes its parent is job_running, which GitLab tells its own Collector alone.
    parent, attributes = native(root, job, "running"), {**common, "ci.job.status": status}
    spans.append(_span(trace, own, parent, "job_execution", start, at, attributes, status == "failed"))
    resource = _attributes({"service.name": "runner", "service.version": "19.4.0"})
    scope = {"name": "gitlab-ci-runner"}
    return [{"resource": {"attributes": resource}, "scopeSpans": [{"scope": scope, "spans": spans}]}]


def _span(trace, span, parent, name, start, end, attributes, failed):
    return {
        "traceId": trace, "spanId": span, "parentSpanId": parent, "name": name, "kind": 1,
        "startTimeUnixNano": str(start * SECOND), "endTimeUnixNano": str(end * SECOND),
        "attributes": _attributes(attributes), "status": {"code": 2} if failed else {},
    }  # fmt: skip


def _attributes(values):
    return [
        {"key": key, "value": {"intValue": str(it)} if isinstance(it, int) else {"stringValue": it}}
        for key, it in values.items()
    ]
