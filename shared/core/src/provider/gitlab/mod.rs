//! GitLab: Pipeline and Job events to spans.
//!
//! The whole trace comes from the terminal Pipeline event, so one delivery gives all of it,
//! whatever order events arrive in. <https://docs.gitlab.com/user/project/integrations/webhook_events/>

mod ids;
mod job;
mod map;
mod payload;
mod redact;
mod settings;

use serde_json::{Value, json};

pub use self::{
    ids::GitlabJobKind,
    settings::{JobSpans, People, Settings},
};
use super::{Grant, Issuer, Room, Samples};
use crate::check::{Check, Scheme};

pub(super) const SAMPLES: Samples = Samples {
    deliveries: samples![
        "gitlab/pipeline-running.json",
        "gitlab/job-failed.json",
        "gitlab/pipeline-failed.json",
        "gitlab/pipeline-child-success.json",
    ],
    build_events: samples!["build-events/bundle-of-a-gitlab-job.json"],
    settings: &[],
};

pub(super) static ROOM: Room = Room {
    name: "gitlab",
    title: "GitLab",
    paths: &["/gitlab"],
    // <https://docs.gitlab.com/user/project/integrations/webhooks/>
    checks: &[
        Check { variable: &settings::SIGNING_TOKEN, scheme: Scheme::StandardWebhooks },
        Check {
            variable: &settings::SECRET_TOKEN,
            scheme: Scheme::Token { header: "x-gitlab-token" },
        },
    ],
    unproved: "set it to the webhook's signing token (whsec_...), or GITLAB_SECRET_TOKEN to its secret token",
    headers: &[
        "content-type",
        "user-agent",
        "x-gitlab-event",
        "x-gitlab-event-uuid",
        "x-gitlab-instance",
        "idempotency-key",
        "webhook-id",
        "webhook-timestamp",
    ],
    event: "x-gitlab-event",
    patience: None,
    variables: &[
        &settings::SIGNING_TOKEN,
        &settings::SECRET_TOKEN,
        &settings::HOST,
        &settings::SERVICE_NAME,
        &settings::CORRELATION_ID,
        &settings::JOB_SPANS,
        &settings::PEOPLE,
        &settings::NATIVE_JOB_ID,
    ],
    decode: |body| body.into(),
    map: map::map,
    correlation: |settings| &settings.gitlab.correlation_id,
    redact: redact::redact,
    recognises: |json| json.get("object_kind").or_else(|| json.get("object_attributes")).is_some(),
    sends,
    ping,
    host: |settings| Some(&settings.gitlab.host),
    job: job::SHAPE,
    issuer: Issuer {
        public: "https://gitlab.com",
        bare: None,
        expected: "",
        // Every instance has an address of its own, which says nothing.
        owns: |_| false,
        keys: None,
        instance: str::to_owned,
        // `id_tokens` of a job names the variable.
        grant: Grant::Owner,
    },
};

fn sends(json: &Value, id: &str) -> Vec<(&'static str, String)> {
    let event = match json["object_kind"].as_str().unwrap_or("pipeline") {
        "build" => "Job Hook".to_owned(),
        kind => {
            let (head, tail) = kind.split_at_checked(1).unwrap_or_default();
            format!("{}{} Hook", head.to_uppercase(), tail.replace('_', " "))
        }
    };
    let instance = json["project"]["web_url"].as_str().and_then(|url| {
        let (scheme, rest) = url.split_once("://")?;
        Some(format!("{scheme}://{}", rest.split('/').next()?))
    });
    vec![
        ("user-agent", "GitLab/19.2.0".to_owned()),
        ("x-gitlab-event", event),
        ("x-gitlab-instance", instance.unwrap_or_else(|| "https://gitlab.com".to_owned())),
        ("x-gitlab-event-uuid", id.to_owned()),
        ("x-gitlab-webhook-uuid", id.to_owned()),
        ("idempotency-key", id.to_owned()),
    ]
}

/// GitLab has no ping; a pipeline that still runs is verified and then ignored.
fn ping(at: &str, number: u64) -> Value {
    json!({
        "object_kind": "pipeline",
        "object_attributes": { "id": number, "status": "running", "created_at": at },
        "project": { "id": 1, "web_url": "https://gitlab.com/spanhook/check" },
    })
}
