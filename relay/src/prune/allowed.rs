//! The fields that leave, kind by kind.

use serde_json::Value;

use super::{
    Keep::{self, As, Each, Entries, Fields, Message, Scalar},
    kept,
};
use crate::kind::Kind;

pub(super) fn of(kind: Kind) -> &'static Keep {
    match kind {
        Kind::LighthouseJob => &LIGHTHOUSE_JOB,
        Kind::PipelineRun | Kind::TaskRun | Kind::CustomRun => &RUN,
        Kind::PipelineActivity => &PIPELINE_ACTIVITY,
        Kind::Pod => &POD,
        Kind::Event => &EVENT,
    }
}

/// What goes along with an Event of this Pod.
#[must_use]
pub fn of_pod(pod: &Value) -> Value {
    kept(&OF_POD, pod).unwrap_or_default()
}

static OF_POD: Keep = Fields(&[("metadata", As(&METADATA))]);

/// Events whose message is the cluster's own text. `Unhealthy`, `FailedPostStartHook` and their like
/// quote what a program printed.
#[must_use]
pub fn is_sent_reason(reason: &str) -> bool {
    const SENT: [&str; 21] = [
        "BackOff",
        "ErrImageNeverPull",
        "Evicted",
        "Failed",
        "FailedAttachVolume",
        "FailedCreatePodSandBox",
        "FailedMount",
        "FailedScheduling",
        "InspectFailed",
        "Killing",
        "NodeNotReady",
        "NotTriggerScaleUp",
        "OOMKilling",
        "Preempted",
        "Pulled",
        "Pulling",
        "Scheduled",
        "SuccessfulAttachVolume",
        "TaintManagerEviction",
        "TriggeredScaleUp",
        "WaitForFirstConsumer",
    ];
    SENT.binary_search(&reason).is_ok()
}

static METADATA: Keep = Fields(&[
    ("name", Scalar),
    ("namespace", Scalar),
    ("uid", Scalar),
    ("creationTimestamp", Scalar),
    ("deletionTimestamp", Scalar),
    ("generateName", Scalar),
    ("labels", Entries(|_| true)),
    ("annotations", Entries(is_kept_annotation)),
    (
        "ownerReferences",
        Each(&Fields(&[
            ("apiVersion", Scalar),
            ("kind", Scalar),
            ("name", Scalar),
            ("uid", Scalar),
            ("controller", Scalar),
        ])),
    ),
]);

/// `kubectl.kubernetes.io/last-applied-configuration` holds a whole object, and so may others.
fn is_kept_annotation(key: &str) -> bool {
    const OF_PIPELINES_AS_CODE: [&str; 13] = [
        "branch",
        "event-type",
        "git-provider",
        "log-url",
        "original-prname",
        "pull-request",
        "repo-url",
        "repository",
        "sha",
        "sha-url",
        "source-branch",
        "url-org",
        "url-repository",
    ];
    match key.split_once('/') {
        Some(("lighthouse.jenkins-x.io", _)) => true,
        Some(("tekton.dev", name)) => {
            matches!(name, "pipelinerunSpanContext" | "taskrunSpanContext")
        }
        Some(("pipelinesascode.tekton.dev", name)) => OF_PIPELINES_AS_CODE.contains(&name),
        _ => false,
    }
}

static CONDITIONS: Keep = Each(&Fields(&[
    ("type", Scalar),
    ("status", Scalar),
    ("reason", Scalar),
    ("message", Message),
    ("lastTransitionTime", Scalar),
]));

/// Without `message`: Tekton writes results of steps there.
static TERMINATED: Keep = Fields(&[
    ("startedAt", Scalar),
    ("finishedAt", Scalar),
    ("exitCode", Scalar),
    ("signal", Scalar),
    ("reason", Scalar),
]);

static LIGHTHOUSE_JOB: Keep = Fields(&[
    ("metadata", As(&METADATA)),
    (
        "spec",
        Fields(&[
            ("type", Scalar),
            ("agent", Scalar),
            ("job", Scalar),
            ("context", Scalar),
            (
                "refs",
                Fields(&[
                    ("org", Scalar),
                    ("repo", Scalar),
                    ("repo_link", Scalar),
                    ("base_ref", Scalar),
                    ("base_sha", Scalar),
                    ("base_link", Scalar),
                    ("clone_uri", Scalar),
                    (
                        "pulls",
                        Each(&Fields(&[
                            ("number", Scalar),
                            ("author", Scalar),
                            ("sha", Scalar),
                            ("title", Scalar),
                            ("ref", Scalar),
                            ("link", Scalar),
                            ("commit_link", Scalar),
                        ])),
                    ),
                ]),
            ),
        ]),
    ),
    (
        "status",
        Fields(&[
            ("state", Scalar),
            ("activityName", Scalar),
            ("description", Message),
            ("reportURL", Scalar),
            ("startTime", Scalar),
            ("completionTime", Scalar),
            ("lastReportState", Scalar),
            ("lastCommitSHA", Scalar),
            ("activity", As(&ACTIVITY_RECORD)),
        ]),
    ),
]);

static ACTIVITY_RECORD: Keep = Fields(&[
    ("name", Scalar),
    ("jobId", Scalar),
    ("owner", Scalar),
    ("repo", Scalar),
    ("branch", Scalar),
    ("buildId", Scalar),
    ("context", Scalar),
    ("gitURL", Scalar),
    ("logURL", Scalar),
    ("linkURL", Scalar),
    ("status", Scalar),
    ("baseSHA", Scalar),
    ("lastCommitSHA", Scalar),
    ("startTime", Scalar),
    ("completionTime", Scalar),
    ("stages", Each(&RECORDED_STAGE)),
]);

static RECORDED_STAGE: Keep = Fields(&[
    ("name", Scalar),
    ("status", Scalar),
    ("startTime", Scalar),
    ("completionTime", Scalar),
    ("steps", Each(&RECORDED_STAGE)),
]);

/// Of a PipelineRun, TaskRun or CustomRun.
static RUN: Keep =
    Fields(&[("metadata", As(&METADATA)), ("spec", As(&RUN_SPEC)), ("status", As(&RUN_STATUS))]);

static RUN_SPEC: Keep = Fields(&[
    ("pipelineRef", As(&REFERENCE)),
    ("taskRef", As(&REFERENCE)),
    ("customRef", As(&REFERENCE)),
    ("retries", Scalar),
    ("timeout", Scalar),
    ("timeouts", Fields(&[("pipeline", Scalar), ("tasks", Scalar), ("finally", Scalar)])),
    // Why a run ended early: `Cancelled`, `TaskRunCancelled`.
    ("status", Scalar),
    ("statusMessage", Message),
]);

static REFERENCE: Keep =
    Fields(&[("name", Scalar), ("kind", Scalar), ("apiVersion", Scalar), ("resolver", Scalar)]);

static RUN_STATUS: Keep = Fields(&[
    ("startTime", Scalar),
    ("completionTime", Scalar),
    ("conditions", As(&CONDITIONS)),
    ("podName", Scalar),
    (
        "steps",
        Each(&Fields(&[
            ("name", Scalar),
            ("container", Scalar),
            ("imageID", Scalar),
            ("terminated", As(&TERMINATED)),
            // The only place that says OOMKilled.
            ("terminationReason", Scalar),
        ])),
    ),
    ("retriesStatus", Each(&RUN_STATUS)),
    // Without `whenExpressions`, which may hold any value.
    ("skippedTasks", Each(&Fields(&[("name", Scalar), ("reason", Scalar)]))),
    (
        "childReferences",
        Each(&Fields(&[
            ("apiVersion", Scalar),
            ("kind", Scalar),
            ("name", Scalar),
            ("pipelineTaskName", Scalar),
        ])),
    ),
    ("spanContext", Fields(&[("traceparent", Scalar), ("tracestate", Scalar)])),
]);

static PIPELINE_ACTIVITY: Keep = Fields(&[
    ("metadata", As(&METADATA)),
    (
        "spec",
        Fields(&[
            ("pipeline", Scalar),
            ("build", Scalar),
            ("version", Scalar),
            ("status", Scalar),
            ("message", Message),
            ("startedTimestamp", Scalar),
            ("completedTimestamp", Scalar),
            ("buildUrl", Scalar),
            ("buildLogsUrl", Scalar),
            ("gitUrl", Scalar),
            ("gitOwner", Scalar),
            ("gitRepository", Scalar),
            ("gitBranch", Scalar),
            ("author", Scalar),
            ("pullTitle", Scalar),
            ("releaseNotesURL", Scalar),
            ("lastCommitSHA", Scalar),
            ("lastCommitMessage", Message),
            ("lastCommitURL", Scalar),
            ("context", Scalar),
            ("baseSHA", Scalar),
            (
                "steps",
                Each(&Fields(&[
                    ("kind", Scalar),
                    ("stage", As(&STAGE)),
                    ("preview", As(&PREVIEW)),
                    ("promote", As(&PROMOTE)),
                ])),
            ),
        ]),
    ),
]);

static STAGE: Keep = Fields(&[
    ("name", Scalar),
    ("description", Message),
    ("status", Scalar),
    ("startedTimestamp", Scalar),
    ("completedTimestamp", Scalar),
    ("steps", Each(&STAGE)),
]);

static PREVIEW: Keep = Fields(&[
    ("name", Scalar),
    ("description", Message),
    ("status", Scalar),
    ("startedTimestamp", Scalar),
    ("completedTimestamp", Scalar),
    ("environment", Scalar),
    ("pullRequestURL", Scalar),
    ("applicationURL", Scalar),
]);

static PROMOTE: Keep = Fields(&[
    ("name", Scalar),
    ("description", Message),
    ("status", Scalar),
    ("startedTimestamp", Scalar),
    ("completedTimestamp", Scalar),
    ("environment", Scalar),
    ("applicationURL", Scalar),
    (
        "pullRequest",
        Fields(&[
            ("name", Scalar),
            ("status", Scalar),
            ("startedTimestamp", Scalar),
            ("completedTimestamp", Scalar),
            ("pullRequestURL", Scalar),
            ("mergeCommitSHA", Scalar),
        ]),
    ),
    (
        "update",
        Fields(&[
            ("name", Scalar),
            ("status", Scalar),
            ("startedTimestamp", Scalar),
            ("completedTimestamp", Scalar),
            ("statuses", Each(&Fields(&[("url", Scalar), ("status", Scalar)]))),
        ]),
    ),
]);

static POD: Keep = Fields(&[
    ("metadata", As(&METADATA)),
    (
        "spec",
        Fields(&[
            ("nodeName", Scalar),
            ("initContainers", Each(&CONTAINER)),
            ("containers", Each(&CONTAINER)),
        ]),
    ),
    (
        "status",
        Fields(&[
            ("phase", Scalar),
            ("reason", Scalar),
            ("message", Message),
            ("startTime", Scalar),
            ("conditions", As(&CONDITIONS)),
            ("initContainerStatuses", Each(&CONTAINER_STATUS)),
            ("containerStatuses", Each(&CONTAINER_STATUS)),
        ]),
    ),
]);

static CONTAINER: Keep = Fields(&[("name", Scalar), ("image", Scalar)]);

static CONTAINER_STATUS: Keep = Fields(&[
    ("name", Scalar),
    ("image", Scalar),
    ("imageID", Scalar),
    ("ready", Scalar),
    ("started", Scalar),
    ("restartCount", Scalar),
    ("state", As(&CONTAINER_STATE)),
    ("lastState", As(&CONTAINER_STATE)),
]);

static CONTAINER_STATE: Keep = Fields(&[
    ("waiting", Fields(&[("reason", Scalar), ("message", Message)])),
    ("running", Fields(&[("startedAt", Scalar)])),
    ("terminated", As(&TERMINATED)),
]);

static EVENT: Keep = Fields(&[
    ("metadata", As(&METADATA)),
    ("type", Scalar),
    ("reason", Scalar),
    ("action", Scalar),
    ("message", Message),
    ("count", Scalar),
    ("eventTime", Scalar),
    ("firstTimestamp", Scalar),
    ("lastTimestamp", Scalar),
    ("series", Fields(&[("count", Scalar), ("lastObservedTime", Scalar)])),
    (
        "involvedObject",
        Fields(&[
            ("apiVersion", Scalar),
            ("kind", Scalar),
            ("name", Scalar),
            ("namespace", Scalar),
            ("uid", Scalar),
            ("fieldPath", Scalar),
        ]),
    ),
    ("source", Fields(&[("component", Scalar), ("host", Scalar)])),
    ("reportingComponent", Scalar),
    ("reportingInstance", Scalar),
]);

/// The attributes of a CloudEvent in structured mode.
/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>
pub(super) static CLOUD_EVENT: Keep = Fields(&[
    ("specversion", Scalar),
    ("id", Scalar),
    ("source", Scalar),
    ("type", Scalar),
    ("subject", Scalar),
    ("time", Scalar),
    ("datacontenttype", Scalar),
]);
