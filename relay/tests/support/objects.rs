//! Objects as a cluster has them, with the fields that matter here and some that must not leave.

use serde_json::{Value, json};

/// Written into everything that must not leave.
pub(crate) const SECRET: &str = "hunter2-hunter2";

const START: &str = "2026-11-21T10:00:00Z";
const END: &str = "2026-11-21T10:05:00Z";

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "namespace": "jx",
        "uid": format!("uid-{name}"),
        "creationTimestamp": START,
        "labels": {"event-GUID": "guid", "tekton.dev/taskRun": "tr"},
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": SECRET,
            "lighthouse.jenkins-x.io/cloneURI": format!("https://bot:{SECRET}@github.com/acme/shop.git"),
        },
        "managedFields": [{"manager": SECRET}],
    })
}

fn object(api_version: &str, kind: &str, name: &str, spec: &Value, status: &Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata(name), "spec": spec, "status": status})
}

fn run_status(done: bool) -> Value {
    let condition = json!({
        "type": "Succeeded",
        "status": if done { "True" } else { "Unknown" },
        "reason": if done { "Succeeded" } else { "Running" },
        "lastTransitionTime": END,
    });
    let mut status = json!({
        "startTime": START,
        "conditions": [condition],
        "pipelineSpec": {"tasks": [SECRET]},
        "taskSpec": {"steps": [{"script": SECRET}]},
        "taskResults": [{"name": "token", "value": SECRET}],
        "steps": [{
            "name": "build",
            "container": "step-build",
            "terminated": {"startedAt": START, "finishedAt": END, "exitCode": 0, "reason": "Completed", "message": SECRET},
        }],
    });
    if done {
        status["completionTime"] = END.into();
    }
    status
}

/// A `PipelineRun`, `TaskRun` or `CustomRun`.
pub(crate) fn run(kind: &str, name: &str, done: bool) -> Value {
    let version = if kind == "CustomRun" { "tekton.dev/v1beta1" } else { "tekton.dev/v1" };
    let spec = json!({
        "pipelineRef": {"name": "release", "params": [{"name": "p", "value": SECRET}]},
        "params": [{"name": "password", "value": SECRET}],
        "pipelineSpec": {"tasks": [SECRET]},
        "timeout": "1h",
    });
    object(version, kind, name, &spec, &run_status(done))
}

pub(crate) fn lighthouse_job(name: &str, done: bool) -> Value {
    let spec = json!({
        "type": "postsubmit",
        "agent": "tekton-pipeline",
        "job": "release",
        "context": "release",
        "refs": {"org": "acme", "repo": "shop", "clone_uri": format!("https://x:{SECRET}@github.com/acme/shop.git")},
        "pipeline_run_spec": {"params": [SECRET]},
    });
    let status = if done {
        json!({"state": "success", "startTime": START, "completionTime": END})
    } else {
        json!({"state": "pending", "startTime": START})
    };
    object("lighthouse.jenkins.io/v1alpha1", "LighthouseJob", name, &spec, &status)
}

pub(crate) fn activity(name: &str, status: &str) -> Value {
    let spec = json!({
        "status": status,
        "startedTimestamp": START,
        "completedTimestamp": END,
        "steps": [{"kind": "Promote", "promote": {"environment": "staging", "status": "Succeeded", "extra": SECRET}}],
        "attachments": [{"name": SECRET}],
    });
    object("jenkins.io/v1", "PipelineActivity", name, &spec, &json!({}))
}

pub(crate) fn pod(name: &str, phase: &str) -> Value {
    let container = json!({
        "name": "step-build",
        "image": "golang:1.26",
        "command": [SECRET],
        "args": [SECRET],
        "env": [{"name": "TOKEN", "value": SECRET}],
        "volumeMounts": [{"name": "v", "mountPath": SECRET}],
    });
    let state = match phase {
        "Pending" => {
            json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}})
        }
        _ => {
            json!({"terminated": {"exitCode": 0, "startedAt": START, "finishedAt": END, "message": SECRET}})
        }
    };
    let spec = json!({"nodeName": "node-1", "containers": [container], "volumes": [{"name": "v", "secret": {"secretName": SECRET}}]});
    let status = json!({
        "phase": phase,
        "startTime": START,
        "containerStatuses": [{"name": "step-build", "image": "golang:1.26", "state": state}],
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": START}],
    });
    object("v1", "Pod", name, &spec, &status)
}

/// An Event of that Pod.
pub(crate) fn event(pod: &str, reason: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": format!("{pod}.{reason}"), "namespace": "jx", "uid": format!("uid-{pod}-{reason}")},
        "involvedObject": {"kind": "Pod", "name": pod, "namespace": "jx", "uid": format!("uid-{pod}"), "fieldPath": "spec.containers{step-build}"},
        "reason": reason,
        "message": format!("Successfully pulled image \"https://r/{reason}?sig={SECRET}\" in 1.5s"),
        "lastTimestamp": END,
        "count": 1,
    })
}
