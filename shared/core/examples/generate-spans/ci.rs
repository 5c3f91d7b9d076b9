//! A company's CI, made up: deliveries as each provider sends them.

use fastrand::Rng;
use serde_json::{Value, json};
use spanhook_core::provider::Provider;

const REPOSITORIES: usize = 40;
const RUNNERS: u32 = 25;
/// Runs are spread over so many days before now.
const DAYS: i64 = 28;

/// A company's CI: forty repositories, failures, retries, queues.
pub(crate) struct Ci {
    pub(crate) random: Rng,
    next: u64,
}

pub(crate) struct Job {
    name: &'static str,
    id: u64,
    queued: f64,
    pub(crate) seconds: f64,
    pub(crate) failure: Option<&'static str>,
}

/// The steps of a GitHub job before and after its own.
const STEPS: [&str; 2] = ["Set up job", "Run actions/checkout@v5"];

const STAGES: [(&str, &[&str]); 3] = [
    ("build", &["compile", "assets"]),
    ("test", &["unit", "lint", "e2e", "integration"]),
    ("deploy", &["review", "production"]),
];

impl Ci {
    /// The same one at every call.
    pub(crate) fn new() -> Self {
        Self { random: Rng::with_seed(7), next: 1_000_000 }
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn uuid(&mut self) -> String {
        uuid::Builder::from_random_bytes(self.random.u128(..).to_be_bytes()).into_uuid().to_string()
    }

    /// Mostly a minute or two, sometimes half an hour.
    fn seconds(&mut self) -> f64 {
        20.0 * (4.0 * self.random.f64() * self.random.f64()).exp()
    }

    pub(crate) fn job(&mut self, name: &'static str) -> Job {
        let failed = self.random.u8(..) < 14;
        let reasons =
            ["script_failure", "script_failure", "runner_system_failure", "job_execution_timeout"];
        let failure = failed.then(|| reasons[self.random.usize(..reasons.len())]);
        let queued = 60.0 * self.random.f64() * self.random.f64();
        Job { name, id: self.id(), queued, seconds: self.seconds(), failure }
    }

    pub(crate) fn repository(&mut self) -> (String, String) {
        let number = self.random.usize(..REPOSITORIES);
        (format!("acme/team{}", number % 5), format!("repo{number}"))
    }

    /// Half of the runs repeat one of a repository's last few revisions, so that a job may have
    /// both outcomes at one revision.
    pub(crate) fn revision(&mut self, repository: &str) -> String {
        let nth = if self.random.bool() { self.random.u64(..5) } else { self.id() };
        let digest = Rng::with_seed(nth ^ repository.len() as u64).u128(..);
        format!("{digest:032x}{nth:08x}")
    }

    pub(crate) fn start(&mut self) -> jiff::Timestamp {
        let now = jiff::Timestamp::now();
        let ago = self.random.i64(3_600..DAYS * 86_400);
        now.checked_sub(jiff::SignedDuration::from_secs(ago)).unwrap_or(now)
    }

    pub(crate) fn gitlab(&mut self) -> (Provider, Value) {
        let (owner, name) = self.repository();
        let (pipeline, created) = (self.id(), self.start());
        let at = |offset: f64| later(created, offset).strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        let (mut builds, mut offset, mut failed) = (Vec::new(), 0.0, None);
        for (stage, jobs) in STAGES {
            let mut end: f64 = offset;
            for job in jobs.iter().map(|name| self.job(name)).collect::<Vec<_>>() {
                let started = offset + job.queued;
                let finished = started + job.seconds;
                let runner = self.random.u32(..RUNNERS);
                end = end.max(finished);
                failed = failed.or(job.failure);
                builds.push(json!({
                    "id": job.id, "stage": stage, "name": job.name,
                    "status": if job.failure.is_some() { "failed" } else { "success" },
                    "created_at": at(0.0), "started_at": at(started), "finished_at": at(finished),
                    "duration": job.seconds, "queued_duration": job.queued,
                    "failure_reason": job.failure, "when": "on_success", "manual": false,
                    "allow_failure": false,
                    "runner": { "id": 1000 + runner, "description": format!("runner-{runner}"),
                        "runner_type": if runner.is_multiple_of(2) { "instance_type" } else { "group_type" },
                        "tags": ["linux", "docker"] },
                }));
            }
            offset = end;
            if failed.is_some() {
                break;
            }
        }
        let path = format!("{owner}/{name}");
        let status = if failed.is_some() { "failed" } else { "success" };
        let delivery = json!({
            "object_kind": "pipeline",
            "object_attributes": { "id": pipeline, "ref": "main", "sha": self.revision(&path),
                "source": "push", "status": status, "detailed_status": status,
                "created_at": at(0.0), "finished_at": at(offset), "duration": offset,
                "queued_duration": 2 },
            "project": { "id": name.len(), "name": name,
                "web_url": format!("https://gitlab.com/{path}"), "path_with_namespace": path },
            "builds": builds,
        });
        (Provider::Gitlab, delivery)
    }

    pub(crate) fn circleci(&mut self) -> Vec<(Provider, Value)> {
        let (owner, name) = self.repository();
        let (workflow, created) = (self.uuid(), self.start());
        let revision = self.revision(&name);
        let number = self.id();
        let at = |offset: f64| later(created, offset).to_string();
        let event = |kind: &str, offset: f64, job: Option<Value>, status: &str| {
            let mut event = json!({
                "type": kind, "id": workflow, "happened_at": at(offset),
                "project": { "slug": format!("gh/acme/{name}"), "name": name },
                "organization": { "name": owner },
                "pipeline": { "id": workflow, "number": number, "vcs": {
                    "target_repository_url": format!("https://github.com/acme/{name}"),
                    "revision": revision, "branch": "main" } },
                "workflow": { "id": workflow, "name": "build-test", "status": status,
                    "created_at": at(0.0), "stopped_at": at(offset),
                    "url": format!("https://app.circleci.com/pipelines/workflows/{workflow}") },
            });
            if let Some(job) = job {
                event["job"] = job;
            }
            (Provider::Circleci, event)
        };
        let (mut events, mut offset, mut result) = (Vec::new(), 2.0, "success");
        for job in ["lint", "test", "deploy"].map(|name| self.job(name)) {
            let (started, stopped) = (offset, offset + job.seconds);
            let status = if job.failure.is_some() { "failed" } else { "success" };
            let id = self.uuid();
            let body = json!({ "id": id, "name": job.name, "number": job.id, "status": status,
                "started_at": at(started), "stopped_at": at(stopped) });
            events.push(event("job-completed", stopped, Some(body), "running"));
            offset = stopped + 1.0;
            if job.failure.is_some() {
                result = "failed";
                break;
            }
        }
        events.push(event("workflow-completed", offset, None, result));
        events
    }

    /// A run's jobs, each with its steps, and the run; sometimes its failed jobs again, for which
    /// GitHub makes new records of the others too.
    pub(crate) fn github(&mut self) -> Vec<(Provider, Value)> {
        let (owner, name) = self.repository();
        let (run, created) = (self.id(), self.start());
        let revision = self.revision(&name);
        let owner = owner.replace('/', "-");
        let repository = json!({ "name": name, "full_name": format!("{owner}/{name}"),
            "owner": { "login": owner }, "html_url": format!("https://github.com/{owner}/{name}"),
            "default_branch": "main" });
        let at = |offset: f64| later(created, offset).to_string();
        let (mut events, mut offset) = (Vec::new(), 0.0);
        let mut jobs: Vec<(Job, f64)> = Vec::new();
        for attempt in 1..=2 {
            let (began, mut failed) = (offset, false);
            for name in ["build", "test (22)", "test (24)"] {
                let known = jobs.iter().position(|(it, _)| it.name == name && it.failure.is_none());
                let carried = known.map(|at| jobs.swap_remove(at));
                let is_new = carried.is_none();
                let (job, start) = carried.unwrap_or_else(|| {
                    let job = self.job(name);
                    let start = offset + job.queued;
                    (job, start)
                });
                let end = start + job.seconds;
                let conclusion = if job.failure.is_some() { "failure" } else { "success" };
                let step = |nth: usize, name: &str, from: f64, to: f64, conclusion: &str| {
                    json!({ "name": name, "number": nth, "status": "completed",
                        "conclusion": conclusion, "started_at": at(from), "completed_at": at(to) })
                };
                let runner = self.random.u32(..RUNNERS);
                let mut steps: Vec<_> = (1..)
                    .zip(STEPS)
                    .map(|(nth, it)| step(nth, it, start, start + 1.0, "success"))
                    .collect();
                steps.push(step(3, "Run make", start + 1.0, end, conclusion));
                let id = if is_new { job.id } else { self.id() };
                events.push(json!({ "action": "completed", "repository": repository, "workflow_job": {
                    "id": id, "run_id": run, "run_attempt": attempt, "workflow_name": "CI",
                    "head_branch": "main", "head_sha": revision, "name": name, "status": "completed",
                    "conclusion": conclusion, "created_at": at(began), "started_at": at(start),
                    "completed_at": at(end), "labels": ["ubuntu-24.04"], "steps": steps,
                    "runner_id": 1000 + runner, "runner_name": format!("runner-{runner}"),
                    "runner_group_name": "GitHub Actions" } }));
                if is_new {
                    offset = end;
                }
                failed |= job.failure.is_some();
                jobs.push((job, start));
            }
            let conclusion = if failed { "failure" } else { "success" };
            events.push(json!({ "action": "completed", "repository": repository,
                "workflow": { "name": "CI", "path": ".github/workflows/ci.yml" },
                "workflow_run": { "id": run, "run_attempt": attempt, "run_number": run % 1000,
                    "name": "CI", "event": "push", "head_branch": "main", "head_sha": revision,
                    "status": "completed", "conclusion": conclusion, "created_at": at(0.0),
                    "run_started_at": at(began), "updated_at": at(offset) } }));
            if !failed || self.random.bool() {
                break;
            }
            offset += 600.0;
        }
        events.into_iter().map(|it| (Provider::Github, it)).collect()
    }
}

pub(crate) fn later(start: jiff::Timestamp, seconds: f64) -> jiff::Timestamp {
    let passed = jiff::SignedDuration::try_from_secs_f64(seconds).unwrap_or_default();
    start.checked_add(passed).unwrap_or(start)
}
