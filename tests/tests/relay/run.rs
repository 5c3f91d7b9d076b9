//! Runs of Lighthouse as its controllers, Tekton's and a kubelet write them, one status after the
//! other.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::apiserver::ApiServer;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Succeeded,
    OutOfMemory,
    /// Its image is not there: the Pod waits until the TaskRun is given up and the Pod deleted.
    WithoutImage,
    Evicted,
}

/// What there is of a run that goes on.
pub(crate) struct Run {
    name: String,
    end: End,
    began: Timestamp,
    job: Value,
    pipeline: Value,
    task: Value,
    /// As it was last.
    pub(crate) pod: Value,
}

const JOB: &str = "lighthouse.jenkins.io/v1alpha1";
const TEKTON: &str = "tekton.dev/v1";

impl Run {
    /// A LighthouseJob, its PipelineRun, TaskRun and Pod, which has a node.
    pub(crate) async fn begin(server: &ApiServer, namespace: &str, name: &str, end: End) -> Self {
        let began = Timestamp::now();
        let job_name = format!("{name}-x2k9f");
        let mut labels = json!({
            "created-by-lighthouse": "true",
            "lighthouse.jenkins-x.io/type": "postsubmit",
            "lighthouse.jenkins-x.io/refs.org": "acme",
            "lighthouse.jenkins-x.io/refs.repo": "shop",
            "lighthouse.jenkins-x.io/branch": "main",
            "lighthouse.jenkins-x.io/lastCommitSHA": "4d3c2b1a4d3c2b1a4d3c2b1a4d3c2b1a4d3c2b1a",
        });
        // Of GitLab a job has none: its trace is the job's own.
        if end != End::Evicted {
            labels["event-GUID"] = format!("6f1d2c3b-00aa-11f1-{name}-{namespace}").into();
        }
        let of = |api: &str, kind: &str, name: &str, labels: &Value, owner: &Value| {
            let mut metadata = json!({
                "name": name, "namespace": namespace, "labels": labels,
                "annotations": {
                    "lighthouse.jenkins-x.io/cloneURI": "https://github.com/Acme/shop.git",
                    "lighthouse.jenkins-x.io/job": "release",
                },
            });
            if owner.is_object() {
                metadata["ownerReferences"] = json!([{
                    "apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": true,
                    "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
                }]);
            }
            json!({"apiVersion": api, "kind": kind, "metadata": metadata})
        };
        let mut job = of(JOB, "LighthouseJob", &job_name, &labels, &Value::Null);
        job["spec"] = json!({"type": "postsubmit", "agent": "tekton-pipeline", "job": "release", "context": "release",
            "refs": {"org": "acme", "repo": "shop"}});
        job["status"] = json!({"state": "pending", "startTime": at(began, 0)});
        let job = server.create(&job).await;

        labels["lighthouse.jenkins-x.io/id"] = job_name.into();
        let mut pipeline_run = of(TEKTON, "PipelineRun", name, &labels, &job);
        pipeline_run["spec"] = json!({"pipelineSpec": {"tasks": [{"name": "build"}]}});
        pipeline_run["status"] = json!({"startTime": at(began, 1), "conditions": [running()]});
        let pipeline_run = server.create(&pipeline_run).await;

        labels["tekton.dev/pipelineRun"] = name.into();
        labels["tekton.dev/pipelineRunUID"] = pipeline_run["metadata"]["uid"].clone();
        labels["tekton.dev/pipelineTask"] = "build".into();
        let mut task_run = of(TEKTON, "TaskRun", &format!("{name}-build"), &labels, &pipeline_run);
        task_run["spec"] = json!({"taskSpec": {"steps": [{"name": "compile", "script": "make"}]}});
        task_run["status"] = json!({"startTime": at(began, 1), "conditions": [running()]});
        let task_run = server.create(&task_run).await;

        labels["tekton.dev/taskRun"] = task_run["metadata"]["name"].clone();
        labels["tekton.dev/taskRunUID"] = task_run["metadata"]["uid"].clone();
        let mut pod = of("v1", "Pod", &format!("{name}-build-pod"), &labels, &task_run);
        pod["spec"] = json!({"containers": [{"name": "step-compile", "image": "golang:1.26", "args": ["-x"]}], "restartPolicy": "Never"});
        pod["status"] = json!({"phase": "Pending", "startTime": at(began, 2), "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(began, 2)},
        ]});
        let pod = server.create(&pod).await;
        Self { name: name.to_owned(), end, began, job, pipeline: pipeline_run, task: task_run, pod }
    }

    /// What its kubelet tells of images.
    pub(crate) async fn pull(&self, server: &ApiServer) {
        let event = async |reason: &str, message: &str| {
            let involved = json!({"apiVersion": "v1", "kind": "Pod", "namespace": self.pod["metadata"]["namespace"],
                "name": self.pod["metadata"]["name"], "uid": self.pod["metadata"]["uid"], "fieldPath": "spec.containers{step-compile}"});
            let name = format!("{}.{}", self.name, reason.to_lowercase());
            let event = json!({
                "apiVersion": "v1", "kind": "Event", "involvedObject": involved, "reason": reason, "message": message,
                "metadata": {"name": name, "namespace": self.pod["metadata"]["namespace"]},
                "firstTimestamp": at(self.began, 9), "lastTimestamp": at(self.began, 9), "count": 1, "type": "Normal",
            });
            server.create(&event).await;
        };
        event("Pulling", "Pulling image \"golang:1.26\"").await;
        if self.end == End::WithoutImage {
            event("Failed", "Failed to pull image \"golang:1.26\": not found").await;
        } else {
            let message = "Successfully pulled image \"golang:1.26\" in 7.25s (9.5s including waiting). Image size: 68857691 bytes.";
            event("Pulled", message).await;
        }
    }

    /// The Pod ends, or is where it will stay.
    pub(crate) async fn end_pod(&mut self, server: &ApiServer) {
        let ended = |code: u8, reason: &str| {
            let end = json!({"exitCode": code, "reason": reason, "startedAt": at(self.began, 10), "finishedAt": at(self.began, 50)});
            container(&json!({ "terminated": end }))
        };
        let status = match self.end {
            End::Succeeded => {
                json!({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]})
            }
            End::OutOfMemory => {
                json!({"phase": "Failed", "containerStatuses": [ended(137, "OOMKilled")]})
            }
            End::WithoutImage => json!({"phase": "Pending", "containerStatuses": [
                container(&json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}})),
            ]}),
            End::Evicted => {
                json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."})
            }
        };
        self.pod = server.write_status(&self.pod, &status).await;
    }

    /// TaskRun, PipelineRun and LighthouseJob end, in this order, and a PipelineActivity tells it.
    pub(crate) async fn finish(&self, server: &ApiServer) {
        let (status, reason, state) = match self.end {
            End::Succeeded => ("True", "Succeeded", "success"),
            End::WithoutImage => ("False", "TaskRunImagePullFailed", "failure"),
            End::OutOfMemory | End::Evicted => ("False", "Failed", "failure"),
        };
        let done = |seconds: i64| {
            json!({"completionTime": at(self.began, seconds), "conditions": [
                {"type": "Succeeded", "status": status, "reason": reason, "lastTransitionTime": at(self.began, seconds)},
            ]})
        };
        let mut of_task = done(51);
        of_task["podName"] = self.pod["metadata"]["name"].clone();
        if matches!(self.end, End::Succeeded | End::OutOfMemory) {
            let (code, why) = if status == "True" { (0, "Completed") } else { (137, "OOMKilled") };
            of_task["steps"] = json!([{"name": "compile", "container": "step-compile", "terminationReason": why, "terminated":
                {"exitCode": code, "reason": why, "startedAt": at(self.began, 10), "finishedAt": at(self.began, 50)}}]);
        }
        server.write_status(&self.task, &of_task).await;
        server.write_status(&self.pipeline, &done(52)).await;
        let of_job = json!({"state": state, "completionTime": at(self.began, 53), "reportURL": "https://d.example.com/#/x"});
        server.write_status(&self.job, &of_job).await;
        let mut metadata = json!({"name": format!("{}-1", self.name)});
        for field in ["namespace", "labels", "annotations"] {
            metadata[field] = self.pipeline["metadata"][field].clone();
        }
        let word = if status == "True" { "Succeeded" } else { "Failed" };
        server
            .create(&json!({"apiVersion": "jenkins.io/v1", "kind": "PipelineActivity", "metadata": metadata, "spec": {
                "pipeline": "acme/shop/main", "build": "1", "status": word, "context": "release",
                "startedTimestamp": at(self.began, 1), "completedTimestamp": at(self.began, 52),
                "steps": [{"kind": "Promote", "promote": {"environment": "staging", "status": word,
                    "startedTimestamp": at(self.began, 40), "completedTimestamp": at(self.began, 52)}}],
            }}))
            .await;
    }

    /// A CustomRun of this run, which has ended.
    pub(crate) fn custom_run(&self) -> Value {
        let mut metadata = json!({"name": format!("{}-approve", self.name)});
        for field in ["namespace", "labels", "annotations", "ownerReferences"] {
            metadata[field] = self.task["metadata"][field].clone();
        }
        metadata["labels"]["tekton.dev/pipelineTask"] = "approve".into();
        json!({"apiVersion": "tekton.dev/v1beta1", "kind": "CustomRun", "metadata": metadata,
            "spec": {"customRef": {"apiVersion": "example.com/v1", "kind": "Approval"}},
            "status": {"startTime": at(self.began, 2), "completionTime": at(self.began, 4), "conditions": [
                {"type": "Succeeded", "status": "True", "reason": "Succeeded", "lastTransitionTime": at(self.began, 4)}]}})
    }

    /// All of it at once, up to the Pod that is deleted because it will never run.
    pub(crate) async fn play(server: &ApiServer, namespace: &str, name: &str, end: End) -> Self {
        let mut run = Self::begin(server, namespace, name, end).await;
        run.pull(server).await;
        run.end_pod(server).await;
        run.finish(server).await;
        run
    }
}

fn at(began: Timestamp, seconds: i64) -> String {
    format!("{:.0}", began + SignedDuration::from_secs(seconds))
}

fn running() -> Value {
    json!({"type": "Succeeded", "status": "Unknown", "reason": "Running"})
}

fn container(state: &Value) -> Value {
    json!({"name": "step-compile", "image": "golang:1.26", "imageID": "golang@sha256:00", "ready": false,
        "started": false, "restartCount": 0, "state": state})
}
