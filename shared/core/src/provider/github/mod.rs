//! GitHub Actions: `workflow_run` and `workflow_job` to spans.
//!
//! A trace is a run's attempt. A finished job gives its own spans and those of its steps, a finished
//! run the span above them; each event suffices for itself, whatever order they arrive in.
//! <https://docs.github.com/en/webhooks/webhook-events-and-payloads>

mod form;
mod ids;
mod job;
mod map;
mod payload;
mod redact;
mod settings;

use std::time::Duration;

use serde_json::{Value, json};

pub use self::{
    ids::NativeJobId,
    settings::{JOB_ID, Settings},
};
use super::{Grant, Issuer, Room, Samples};
use crate::check::{Check, Scheme};

pub(super) const SAMPLES: Samples = Samples {
    deliveries: samples![
        "github/workflow-job-build.json",
        "github/workflow-job-test-failed.json",
        "github/workflow-job-deploy-skipped.json",
        "github/workflow-run-failed.json",
        "github/workflow-job-build-reused.json",
        "github/workflow-job-test-attempt-2.json",
        "github/workflow-job-deploy-attempt-2.json",
        "github/workflow-run-attempt-2.json",
    ],
    build_events: &[],
    settings: &[],
};

pub(super) static ROOM: Room = Room {
    name: "github",
    title: "GitHub",
    paths: &["/github"],
    // The SHA-1 header that GitHub sends along proves nothing.
    // <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>
    checks: &[Check {
        variable: &settings::SECRET,
        scheme: Scheme::Hmac { header: "x-hub-signature-256", prefix: "sha256=", list: false },
    }],
    unproved: "set it to the secret of the webhook",
    headers: &[
        "content-type",
        "user-agent",
        "x-github-event",
        "x-github-delivery",
        "x-github-hook-id",
        "x-github-hook-installation-target-type",
        "x-github-hook-installation-target-id",
        "x-github-enterprise-host",
        "x-github-enterprise-version",
    ],
    event: "x-github-event",
    // GitHub waits for 10 seconds, Enterprise Server for 30, and never sends again by itself.
    // <https://docs.github.com/en/webhooks/using-webhooks/handling-failed-webhook-deliveries>
    patience: Some(Duration::from_secs(8)),
    variables: &[
        &settings::SECRET,
        &settings::HOST,
        &settings::SERVICE_NAME,
        &settings::CORRELATION_ID,
        &settings::STEP_SPANS,
        &settings::NATIVE_JOB_ID,
        &settings::CUSTOM_PROPERTIES,
    ],
    decode: form::decode,
    map: map::map,
    correlation: |settings| &settings.github.correlation_id,
    redact: redact::redact,
    recognises: |json| {
        ["workflow_job", "workflow_run", "hook_id", "sender"]
            .iter()
            .any(|it| json.get(it).is_some())
    },
    sends,
    ping,
    host: |settings| Some(&settings.github.host),
    job: job::SHAPE,
    issuer: Issuer {
        public: "https://token.actions.githubusercontent.com",
        bare: None,
        expected: "",
        // Enterprise Server issues at `/_services/token`.
        owns: |issuer| {
            issuer.starts_with("https://token.actions.") || issuer.ends_with("/_services/token")
        },
        keys: None,
        instance: |host| match host.strip_prefix("token.actions.").unwrap_or(host) {
            "githubusercontent.com" => "github.com".to_owned(),
            host => host.to_owned(),
        },
        // <https://docs.github.com/actions/reference/security/oidc#methods-for-requesting-the-oidc-token>
        grant: Grant::Asked {
            address: "ACTIONS_ID_TOKEN_REQUEST_URL",
            token: "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
            refused: "GitHub gave no OIDC token; the job needs `permissions: id-token: write`, and pull requests from forks get none",
        },
    },
};

/// Whether a delivery that did not arrive is missed: the others of a job or a run say only what is
/// said again when it is finished. A run that waits for an approval is finished when it is requested.
#[must_use]
pub fn is_worth_sending_again(event: &str, action: Option<&str>) -> bool {
    match event {
        "workflow_job" => !matches!(action, Some("queued" | "waiting" | "in_progress")),
        "workflow_run" => action != Some("in_progress"),
        _ => false,
    }
}

/// Events by the key of what they are about, of which one may hold several: the first counts.
const EVENTS: [&str; 9] = [
    "workflow_job",
    "deployment_status",
    "check_run",
    "check_suite",
    "deployment",
    "workflow_run",
    "release",
    "pull_request",
    "merge_group",
];

fn sends(json: &Value, id: &str) -> Vec<(&'static str, String)> {
    let about = EVENTS.into_iter().find(|it| json.get(it).is_some());
    let unnamed = if json.get("zen").is_some() { "ping" } else { "push" };
    let event = about.unwrap_or(unnamed);
    let hook = json["hook_id"].as_u64().unwrap_or(1);
    let repository = json["repository"]["id"].as_u64().unwrap_or(1);
    vec![
        ("user-agent", "GitHub-Hookshot/0000000".to_owned()),
        ("x-github-event", event.to_owned()),
        ("x-github-delivery", id.to_owned()),
        ("x-github-hook-id", hook.to_string()),
        ("x-github-hook-installation-target-type", "repository".to_owned()),
        ("x-github-hook-installation-target-id", repository.to_string()),
    ]
}

fn ping(at: &str, number: u64) -> Value {
    let hook = json!({ "id": number, "type": "Repository", "updated_at": at });
    json!({ "zen": "spanhook check", "hook_id": number, "hook": hook })
}
