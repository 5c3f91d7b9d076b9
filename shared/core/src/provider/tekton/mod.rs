//! Tekton: its `CloudEvents` to spans, of the same objects that a relay in the cluster tells.
//!
//! Tekton itself proves nothing of its events: what stands between (a relay, a broker, a gateway)
//! has to, or an address that nobody can guess. <https://tekton.dev/docs/pipelines/events/>

mod job;
mod map;
mod settings;

use std::time::Duration;

use serde_json::{Value, json};

pub use self::settings::Settings;
use super::{Issuer, Room, Samples};
use crate::{
    blank::blanked,
    check::{Check, Scheme},
};

pub(super) const SAMPLES: Samples = Samples {
    deliveries: samples!["tekton/taskrun-of-a-pull-request.json"],
    build_events: &[],
    settings: &[],
};

/// What an event is of, as its body names it.
const KINDS: [&str; 3] = ["pipelineRun", "taskRun", "customRun"];

pub(super) static ROOM: Room = Room {
    name: "tekton",
    title: "Tekton",
    paths: &["/tekton"],
    checks: &[
        Check { variable: &settings::SIGNING_KEY, scheme: Scheme::StandardWebhooks },
        Check { variable: &settings::TOKEN, scheme: Scheme::Bearer },
        Check { variable: &settings::PATH_SECRET, scheme: Scheme::Path },
        Check {
            variable: &settings::OIDC_ISSUERS,
            scheme: Scheme::Oidc { audience: &settings::OIDC_AUDIENCE },
        },
    ],
    unproved: "set it to the key (whsec_...) of the relay that forwards Tekton's events, TEKTON_TOKEN to its bearer token, or TEKTON_PATH_SECRET to what the sink's address ends with after /tekton/",
    headers: &[
        "content-type",
        "user-agent",
        "ce-id",
        "ce-source",
        "ce-specversion",
        "ce-subject",
        "ce-time",
        "ce-type",
    ],
    event: "ce-type",
    // Tekton tries ten times within ten seconds, then never again.
    // <https://tekton.dev/docs/pipelines/events/>
    patience: Some(Duration::from_secs(8)),
    variables: &[
        &settings::SIGNING_KEY,
        &settings::TOKEN,
        &settings::PATH_SECRET,
        &settings::OIDC_ISSUERS,
        &settings::OIDC_AUDIENCE,
        &settings::SERVICE_NAME,
        &settings::DASHBOARD,
    ],
    decode: |body| body.into(),
    map: map::map,
    correlation: |settings| &settings.kubernetes.correlation_id,
    // What a run was given and gave, and the scripts of its steps, may hold anything.
    redact: |body| {
        blanked(body, |inside, key| {
            let open = matches!(
                key,
                "params"
                    | "results"
                    | "taskResults"
                    | "pipelineResults"
                    | "env"
                    | "script"
                    | "args"
                    | "command"
                    | "message"
            );
            inside || open
        })
    },
    recognises: |json| {
        KINDS.iter().any(|it| json.get(it).or_else(|| json["data"].get(it)).is_some())
    },
    sends,
    ping,
    host: |settings| Some(&settings.kubernetes.cluster),
    job: job::SHAPE,
    // A step's tokens are its cluster's.
    issuer: Issuer::NONE,
};

fn sends(json: &Value, id: &str) -> Vec<(&'static str, String)> {
    let Some(kind) = KINDS.into_iter().find(|it| json.get(it).is_some()) else {
        return vec![("content-type", "application/cloudevents+json".to_owned())];
    };
    let condition = json[kind]["status"]["conditions"][0]["status"].as_str();
    let state = match condition {
        Some("True") => "successful",
        Some("False") => "failed",
        _ => "running",
    };
    vec![
        ("ce-id", id.to_owned()),
        ("ce-specversion", "1.0".to_owned()),
        ("ce-type", format!("dev.tekton.event.{}.{state}.v1", kind.to_lowercase())),
        ("ce-subject", json[kind]["metadata"]["name"].as_str().unwrap_or_default().to_owned()),
    ]
}

/// Tekton has no ping; a run that is not finished is verified and then ignored.
fn ping(at: &str, number: u64) -> Value {
    let metadata =
        json!({ "name": "spanhook-check", "uid": number.to_string(), "creationTimestamp": at });
    json!({ "pipelineRun": { "metadata": metadata, "status": {} } })
}
