//! A cluster in which Lighthouse and Tekton run pipelines: the code host's events as Lighthouse
//! passes them on, and what a relay posts of the objects that follow.

use serde_json::{Value, json};
use spanhook_core::provider::Provider;

use crate::ci::{Ci, later};

/// The cluster's name.
pub(crate) const NAME: &str = "prod";
const NAMESPACES: [&str; 3] = ["jx", "jx-mobile", "builds"];
const NODES: usize = 12;
/// Images with their sizes in bytes.
const IMAGES: [(&str, u64); 5] = [
    ("ghcr.io/acme/jx-boot:3.10", 182_000_000),
    ("docker.io/library/golang:1.26", 306_857_691),
    ("registry.example.com:5000/acme/android-sdk:36", 2_914_000_000),
    ("docker.io/library/node:24", 398_000_000),
    ("gcr.io/kaniko-project/executor:v1.24.0", 61_000_000),
];
const TASKS: [&str; 3] = ["from-build-pack", "unit", "lint"];

/// One run in the cluster.
struct Run<'c> {
    ci: &'c mut Ci,
    created: jiff::Timestamp,
    namespace: &'static str,
    /// Labels and annotations of everything in it.
    labels: Value,
    annotations: Value,
    /// Name and UID of the PipelineRun.
    above: (String, String),
    items: Vec<Value>,
}

impl Ci {
    /// A push or a pull request, and the one or two jobs that it starts.
    pub(crate) fn lighthouse(&mut self) -> Vec<(Provider, Value)> {
        let (owner, name) = self.repository();
        let owner = owner.replace('/', "-");
        let (guid, pushed, sha) = (self.uuid(), self.start(), self.revision(&name));
        let pull = self.random.bool().then(|| self.random.u32(1..500));
        let branch = pull.map_or("main".to_owned(), |it| format!("PR-{it}"));
        let event = event(&owner, &name, &sha, pull, (&guid, pushed));
        let mut deliveries = vec![(Provider::Lighthouse, event)];
        let pipelines = ["pr", "integration"];
        for pipeline in &pipelines[..self.random.usize(1..=2)] {
            let suffix = format!("{:05x}", self.random.u32(..0xf_ffff));
            let job = format!("{owner}-{name}-{}-{pipeline}-{suffix}", branch.to_lowercase());
            let labels = json!({
                "created-by-lighthouse": "true",
                "event-GUID": guid,
                "lighthouse.jenkins-x.io/id": job,
                "lighthouse.jenkins-x.io/type": if pull.is_some() { "presubmit" } else { "postsubmit" },
                "lighthouse.jenkins-x.io/job": pipeline,
                "lighthouse.jenkins-x.io/context": pipeline,
                "lighthouse.jenkins-x.io/refs.org": owner,
                "lighthouse.jenkins-x.io/refs.repo": name,
                "lighthouse.jenkins-x.io/refs.pull": pull.map(|it| it.to_string()),
                "lighthouse.jenkins-x.io/branch": branch,
                "lighthouse.jenkins-x.io/lastCommitSHA": sha,
            });
            let annotations = json!({
                "lighthouse.jenkins-x.io/cloneURI": format!("https://github.com/{owner}/{name}.git"),
                "lighthouse.jenkins-x.io/job": pipeline,
            });
            let created = later(pushed, 1.0 + 3.0 * self.random.f64());
            let mut run = Run::new(self, created, (labels, annotations), format!("{job}-run"));
            let (end, failed) = run.pipeline_run(1.0, Some(&job));
            run.lighthouse_job(&job, end + 1.0, failed);
            deliveries.push(run.batch());
        }
        deliveries
    }

    /// A run of Tekton alone, as its own events tell it: without Pods.
    pub(crate) fn tekton(&mut self) -> Vec<(Provider, Value)> {
        let (owner, name) = self.repository();
        let created = self.start();
        let labels = json!({
            "tekton.dev/pipeline": "release",
            "pipelinesascode.tekton.dev/sha": self.revision(&name),
            "pipelinesascode.tekton.dev/event-type": "push",
        });
        let annotations = json!({
            "pipelinesascode.tekton.dev/repo-url":
                format!("https://github.com/{}/{name}", owner.replace('/', "-")),
            "pipelinesascode.tekton.dev/branch": "refs/heads/main",
        });
        let suffix = format!("{:05x}", self.random.u32(..0xf_ffff));
        let mut run = Run::new(self, created, (labels, annotations), format!("release-{suffix}"));
        run.pipeline_run(0.0, None);
        let objects = run.items.into_iter().map(|mut it| it["object"].take());
        let events = objects.filter_map(|object| match object["kind"].as_str() {
            Some("PipelineRun") => Some(json!({ "pipelineRun": object })),
            Some("TaskRun") => Some(json!({ "taskRun": object })),
            _ => None,
        });
        events.map(|it| (Provider::Tekton, it)).collect()
    }
}

/// What the code host sent, as Lighthouse passes it on.
fn event(
    owner: &str,
    name: &str,
    sha: &str,
    pull: Option<u32>,
    (guid, at): (&str, jiff::Timestamp),
) -> Value {
    let repository = json!({ "Namespace": owner, "Name": name, "FullName": format!("{owner}/{name}"),
        "Clone": format!("https://github.com/{owner}/{name}.git"),
        "Link": format!("https://github.com/{owner}/{name}") });
    let at = at.to_string();
    match pull {
        None => json!({ "Ref": "refs/heads/main", "After": sha, "Repo": repository, "GUID": guid,
            "Commit": { "Sha": sha, "Committer": { "Date": at } } }),
        Some(number) => json!({ "Action": "synchronized", "Repo": repository, "GUID": guid,
            "PullRequest": { "Number": number, "Sha": sha, "Source": "change", "Target": "main",
                "Link": format!("https://github.com/{owner}/{name}/pull/{number}"),
                "Created": at, "Updated": at } }),
    }
}

impl<'c> Run<'c> {
    fn new(
        ci: &'c mut Ci,
        created: jiff::Timestamp,
        (labels, annotations): (Value, Value),
        name: String,
    ) -> Self {
        let namespace = NAMESPACES[ci.random.usize(..NAMESPACES.len())];
        let above = (name, ci.uuid());
        Self { ci, created, namespace, labels, annotations, above, items: Vec::new() }
    }

    /// A time in whole seconds, as the API server has them.
    fn at(&self, offset: f64) -> String {
        later(self.created, offset).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn metadata(&self, (name, uid): (&str, &str), made: f64, more: &[(&str, &str)]) -> Value {
        let mut labels = self.labels.clone();
        for (key, text) in more {
            labels[*key] = (*text).into();
        }
        json!({ "name": name, "namespace": self.namespace, "uid": uid,
            "creationTimestamp": self.at(made), "labels": labels, "annotations": self.annotations })
    }

    fn add(&mut self, kind: &str, mut object: Value) {
        object["kind"] = kind.into();
        self.items.push(json!({ "type": "MODIFIED", "object": object }));
    }

    fn batch(self) -> (Provider, Value) {
        (Provider::Kubernetes, json!({ "cluster": NAME, "items": self.items }))
    }

    fn conditions(&self, end: f64, failed: bool) -> Value {
        let (status, reason) = if failed { ("False", "Failed") } else { ("True", "Succeeded") };
        json!([{ "type": "Succeeded", "status": status, "reason": reason,
            "lastTransitionTime": self.at(end) }])
    }

    fn lighthouse_job(&mut self, name: &str, end: f64, failed: bool) {
        let uid = self.ci.uuid();
        let state = if failed { "failure" } else { "success" };
        let object = json!({ "metadata": self.metadata((name, &uid), 0.0, &[]),
            "spec": { "agent": "tekton-pipeline" },
            "status": { "state": state, "startTime": self.at(0.0), "completionTime": self.at(end) } });
        self.add("LighthouseJob", object);
    }

    /// The PipelineRun with its tasks, two of them side by side: when it ended, and whether badly.
    fn pipeline_run(&mut self, made: f64, job: Option<&str>) -> (f64, bool) {
        let began = made + (2.0 * self.ci.random.f64()).floor();
        let (name, uid) = self.above.clone();
        let (first, mut failed) = self.task(TASKS[0], began, job.is_some());
        let mut end = first;
        if !failed {
            for task in &TASKS[1..] {
                let (ended, badly) = self.task(task, first + 1.0, job.is_some());
                end = end.max(ended);
                failed |= badly;
            }
        }
        end += 1.0;
        let object = json!({ "metadata": self.metadata((&name, &uid), made, &[]), "spec": {},
            "status": { "startTime": self.at(began), "completionTime": self.at(end),
                "conditions": self.conditions(end, failed) } });
        self.add("PipelineRun", object);
        (end, failed)
    }

    /// A TaskRun with its tries, each in a Pod: when it ended, and whether badly.
    fn task(&mut self, task: &str, made: f64, pods: bool) -> (f64, bool) {
        let name = format!("{}-{task}", self.above.0);
        let uid = self.ci.uuid();
        let pipeline_run = self.above.clone();
        let labels = [
            ("tekton.dev/pipelineRun", pipeline_run.0.as_str()),
            ("tekton.dev/pipelineRunUID", pipeline_run.1.as_str()),
            ("tekton.dev/pipelineTask", task),
            ("tekton.dev/taskRunUID", uid.as_str()),
        ];
        let mut began = made + (2.0 * self.ci.random.f64()).floor();
        let mut tries = Vec::new();
        loop {
            let retry = if tries.is_empty() { String::new() } else { "-retry1".to_owned() };
            let pod = format!("{name}-pod{retry}");
            let failed = self.ci.job("task").failure.is_some();
            let (steps, end) = self.try_of((&pod, began), failed, pods.then_some(&labels));
            let status = json!({ "startTime": self.at(began), "completionTime": self.at(end),
                "podName": pod, "steps": steps, "conditions": self.conditions(end, failed) });
            // One retry, of half of what failed.
            if failed && tries.is_empty() && self.ci.random.bool() {
                tries.push(status);
                began = end + 1.0;
                continue;
            }
            let mut status = status;
            status["retriesStatus"] = tries.into();
            let object = json!({ "metadata": self.metadata((&name, &uid), made, &labels[..3]),
                "spec": { "retries": 1 }, "status": status });
            self.add("TaskRun", object);
            return (end, failed);
        }
    }

    /// The steps of a try, and when it ended. With labels its Pod is told too.
    fn try_of(
        &mut self,
        (pod, made): (&str, f64),
        failed: bool,
        labels: Option<&[(&str, &str)]>,
    ) -> (Value, f64) {
        let (image, size) = IMAGES[self.ci.random.usize(..IMAGES.len())];
        // Mostly there is room; sometimes a node has to be added.
        let waited =
            if self.ci.random.u8(..) < 25 { 45.0 + 60.0 * self.ci.random.f64() } else { 1.0 };
        // Most nodes have most images, and pull one image at a time.
        let megabyte = 0.008 + 0.03 * self.ci.random.f64() * self.ci.random.f64();
        #[expect(clippy::cast_precision_loss, reason = "a size is far below 2^52")]
        let pull = (self.ci.random.u8(..) < 90).then(|| size as f64 / 1e6 * megabyte);
        let whole = pull.map_or(0.0, |it| it + 4.0 * self.ci.random.f64() * self.ci.random.f64());
        let started = made + waited + 2.0 + whole;
        let work = self.ci.job("task").seconds;
        let times = [
            ("git-clone", started + 1.0, started + 4.0),
            ("build", started + 4.0, started + 4.0 + work),
        ];
        let end = times[1].2;
        let terminated = |run: &Self, (name, from, to): (&str, f64, f64)| {
            let failed = failed && name == "build";
            json!({ "startedAt": run.at(from), "finishedAt": run.at(to),
                "exitCode": i32::from(failed), "reason": if failed { "Error" } else { "Completed" } })
        };
        let steps = times.map(|it| {
            json!({ "name": it.0, "container": format!("step-{}", it.0), "terminated": terminated(self, it) })
        });
        if let Some(labels) = labels {
            let uid = self.ci.uuid();
            let metadata = self.metadata((pod, &uid), made, labels);
            let containers = times.map(|(name, _, to)| {
                json!({ "name": format!("step-{name}"), "image": image, "restartCount": 0,
                    "state": { "terminated": terminated(self, (name, started, to)) } })
            });
            let node = format!("node-{}", self.ci.random.usize(..NODES));
            let phase = if failed { "Failed" } else { "Succeeded" };
            let object = json!({ "metadata": metadata, "spec": { "nodeName": node },
                "status": { "phase": phase, "startTime": self.at(made + waited),
                    "conditions": [{ "type": "PodScheduled", "status": "True",
                        "lastTransitionTime": self.at(made + waited) }],
                    "containerStatuses": containers } });
            self.add("Pod", object);
            if let Some(pure) = pull {
                self.pulled(&metadata, (image, size), (pure, whole), made + waited + 1.0 + whole);
            }
        }
        (json!(steps), end)
    }

    /// The event of a pull that is done, with the Pod that it is of.
    fn pulled(
        &mut self,
        pod: &Value,
        (image, size): (&str, u64),
        (pure, whole): (f64, f64),
        at: f64,
    ) {
        let message = format!(
            "Successfully pulled image \"{image}\" in {pure:.3}s ({whole:.3}s including waiting). Image size: {size} bytes."
        );
        let object = json!({ "kind": "Event", "reason": "Pulled", "message": message,
            "metadata": { "uid": self.ci.uuid(), "namespace": self.namespace, "creationTimestamp": self.at(at) },
            "firstTimestamp": self.at(at), "lastTimestamp": self.at(at),
            "involvedObject": { "kind": "Pod", "uid": pod["uid"],
                "fieldPath": "spec.containers{step-git-clone}" } });
        self.items.push(json!({ "type": "ADDED", "object": object, "pod": { "metadata": pod } }));
    }
}
