"""Runs as rows of otel_traces, with the attributes that spanhook sets, and some that queries are asked about."""

SECOND = 10**9
WEEK = 7 * 24 * 3600
# A Monday in the past, so that nothing here depends on the clock.
START = 1_780_272_000
PERIOD = {"from": START - WEEK, "to": START + WEEK, "repository": "", "pipeline": ""}


class Run:
    """Spans of one run as rows of otel_traces, with the attributes that spanhook sets."""

    def __init__(self, run_id, provider="gitlab", name="shop", revision="a" * 40, at=0, cluster=""):
        self.trace, self.at, self.rows, self.provider = f"{run_id:032x}", START + at, [], provider
        self.resource = {
            "service.name": "ci",
            "spanhook.provider": provider,
            "cicd.pipeline.name": f"acme/{name}",
            "cicd.pipeline.run.id": str(run_id),
            "correlation_id": str(run_id),
            "cicd.pipeline.run.url.full": f"https://{provider}.example.com:8443/acme/{name}/runs/{run_id}",
            # Where the code is, not where the run was.
            "vcs.provider.name": "github",
            "vcs.owner.name": "acme",
            "vcs.repository.name": name,
            "vcs.ref.head.name": "main",
            "vcs.ref.head.type": "branch",
            "vcs.ref.head.revision": revision,
            "vcs.change.id": "12",
        }
        if cluster:
            self.resource |= {"k8s.cluster.name": cluster, "k8s.namespace.name": "ci"}

    def add(self, name, start, end, attributes, kind="Internal", worker=None, link="", error="", parent=1):
        span_id = f"{len(self.rows) + 1:016x}"
        if error:
            attributes = {**attributes, "error.type": error}
        self.rows.append({
            "Timestamp": int((self.at + start) * SECOND),
            "TraceId": self.trace,
            "SpanId": span_id,
            "ParentSpanId": "" if kind == "Server" else f"{parent:016x}",
            "TraceState": "",
            "SpanName": name,
            "SpanKind": kind,
            "ServiceName": self.resource["service.name"],
            "ResourceAttributes": {**self.resource, **(worker or {})},
            "ScopeName": "spanhook",
            "ScopeVersion": "0.1.0",
            "SpanAttributes": attributes,
            "Duration": int((end - start) * SECOND),
            "StatusCode": "Error" if error else "Unset",
            "StatusMessage": error,
            "Events.Timestamp": [],
            "Events.Name": [],
            "Events.Attributes": [],
            "Links.TraceId": [self.trace] if link else [],
            "Links.SpanId": [link] if link else [],
            "Links.TraceState": [""] if link else [],
            "Links.Attributes": [{}] if link else [],
        })
        return span_id

    def run(self, end, result="success", **more):
        attributes = {
            "spanhook.kind": "run",
            "spanhook.trigger": "push",
            "cicd.pipeline.action.name": "RUN",
            "cicd.pipeline.result": result,
            f"{self.provider}.pipeline.duration": str(end - 4),
            f"{self.provider}.pipeline.queued_duration": "4",
        }
        self.add(f"RUN {self.resource['cicd.pipeline.name']}", 0, end, attributes, kind="Server", **more)
        return self

    def stage(self, name, start, end):
        self.add(name, start, end, {"spanhook.kind": "stage", "spanhook.stage": name})
        return self

    def job(self, name, start, end, result="success", stage="test", queued=None, runner=None, pod="", **more):
        job_id = f"{self.trace[-4:]}{len(self.rows)}"
        attributes = {
            "spanhook.kind": "job",
            "spanhook.stage": stage,
            "cicd.pipeline.task.name": name,
            "cicd.pipeline.task.run.id": job_id,
            "cicd.pipeline.task.run.url.full": f"https://{self.provider}.example.com/acme/shop/jobs/{job_id}",
            "cicd.pipeline.task.run.result": result,
        }
        if pod:
            attributes["k8s.pod.name"] = pod
        worker = {
            "cicd.worker.id": "7",
            "cicd.worker.name": runner,
            f"{self.provider}.runner.type": "group_type",
            f"{self.provider}.runner.tags": '["linux","docker"]',
        }
        if queued is not None:
            attributes |= {f"{self.provider}.job.queued_duration": str(queued), "spanhook.attempt": "2"}
        if result != "success":
            more.setdefault("error", "script_failure")
        job = self.add(name, start, end, attributes, worker=worker if runner else None, **more)
        if queued is not None:
            waited = {"spanhook.kind": "queue", "spanhook.stage": stage, "spanhook.job": name}
            self.add(f"queue {name}", start - queued, start, waited, link=job)
        return self

    def last(self, *kinds):
        """The number of the span of these kinds that was added last."""
        numbers = (at for at, row in enumerate(self.rows, 1) if row["SpanAttributes"]["spanhook.kind"] in kinds)
        return max(numbers, default=0)

    def step(self, name, start, end, job, **more):
        """A step of the job, or of the try of a job, that was added last."""
        attributes = {"spanhook.kind": "step", "spanhook.job": job}
        self.add(name, start, end, attributes, parent=self.last("job", "retry"), **more)
        return self

    def retry(self, job, start, end, pod):
        """A try before the last one of the job that was added last."""
        attributes = {
            "spanhook.kind": "retry", "spanhook.job": job, "spanhook.attempt": "1", "k8s.pod.name": pod,
            f"{self.provider}.try.result": "failure",
        }
        self.add(f"try of {job}", start, end, attributes, parent=self.last("job"), error="step_failure")
        return self

    def event(self, at, name="push"):
        """What happened in the repository, which knows of no run."""
        self.add(name, at, at, {"spanhook.kind": "event", "spanhook.trigger": name}, kind="Server")
        resource = self.rows[-1]["ResourceAttributes"]
        self.rows[-1]["ResourceAttributes"] = {key: it for key, it in resource.items() if not key.startswith("cicd.")}
        return self

    def pipeline_run(self, start, end, waited, result="success"):
        """How the run is carried out, and its wait."""
        attributes = {"spanhook.kind": "pipeline_run", "cicd.pipeline.result": result}
        self.add("pipeline", start, end, attributes)
        self.add("queue", start - waited, start, {"spanhook.kind": "queue"})
        return self

    def pod(self, name, start, end, job, scheduled=None, node="node-1", error=""):
        """A Pod of the job that was added last, and the time until it had a node."""
        attributes = {"spanhook.job": job, "k8s.pod.name": name, "k8s.node.name": node}
        parent, number = self.last("job"), len(self.rows) + 1
        self.add("pod", start, end, {**attributes, "spanhook.kind": "pod"}, error=error, parent=parent)
        if scheduled is not None:
            waited = {**attributes, "spanhook.kind": "schedule"}
            self.add("schedule", start, scheduled, waited, parent=number)
        return self

    def pull(self, pod, image, start, end, size=None, pure=None, error=""):
        """The pull of an image of a Pod."""
        attributes = {"spanhook.kind": "pull", "k8s.pod.name": pod, "container.image.name": image}
        told = {"k8s.image.size": size, "k8s.image.pull.duration": pure}
        attributes |= {key: str(it) for key, it in told.items() if it is not None}
        self.add(f"pull {image}", start, end, attributes, error=error, parent=self.last("pod"))
        return self


# build and lint start at once, test needs build, deploy needs test: lint is off the critical path.
def chain(provider="gitlab"):
    return (
        Run(1, provider).run(end=100).stage("build", 4, 30).stage("test", 32, 80).stage("deploy", 81, 100)
        .job("build", 4, 30, stage="build", queued=4, runner="fast")
        .job("lint", 4, 20, stage="build", queued=3, runner="fast")
        .job("test", 32, 80, queued=1.5, runner="slow")
        .step("Set up job", 32, 33, "test").step("Run make", 33, 80, "test")
        .job("deploy", 81, 100, stage="deploy", queued=0.5, runner="fast")
    )


CHAIN = chain()
FLAKY_BEFORE = Run(2, at=1000).run(end=60, result="failure", error="script_failure").job("e2e", 5, 60, "failure")
FLAKY_AFTER = Run(3, at=2000).run(end=60).job("e2e", 5, 60)
BROKEN = (
    Run(4, revision="b" * 40, at=3000).run(end=60, result="failure", error="script_failure")
    .job("unit", 5, 60, "failure").job("e2e", 5, 9, "error", error="runner_system_failure")
)
SLOW = Run(5, "circleci", name="site", at=4000).job("render", 0, 3600).job("check", 0, 10)
OLD = Run(6, at=-WEEK).run(end=50)
# Its run is carried out by another object, and its test passed when it was tried again.
def cluster(provider="cluster"):
    return (
        Run(7, provider, name="api", at=5000, cluster="prod")
        .event(-2).run(end=300).pipeline_run(2, 299, waited=1)
        .job("build", 4, 120, queued=1, pod="build-pod")
        .pod("build-pod", 5, 121, "build", scheduled=9)
        .pull("build-pod", "docker.io/library/golang", 11, 31, size=300_000_000, pure=15)
        .step("compile", 40, 118, "build")
        .job("test", 121, 298, queued=1, pod="test-pod-retry1")
        .retry("test", 121, 200, "test-pod").step("unit", 130, 199, "test", error="step_failure")
        .pod("test-pod", 121, 200, "test", scheduled=122, node="node-2", error="container_failure")
        .pod("test-pod-retry1", 201, 298, "test", node="node-2")
        .pull("test-pod-retry1", "docker.io/library/golang", 202, 202, error="ErrImagePull")
    )


CLUSTER = cluster()
RUNS = [CLUSTER, CHAIN, FLAKY_BEFORE, FLAKY_AFTER, BROKEN, SLOW, OLD]
