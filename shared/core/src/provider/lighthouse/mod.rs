//! Lighthouse: what it sends its external plugins, to spans: the events of the code host, how jobs
//! went, and pull requests from their opening to their end.
//!
//! <https://github.com/jenkins-x/lighthouse/blob/main/docs/PLUGINS.md>

mod activity;
mod origin;
mod payload;
mod pull_request;
mod settings;
mod webhook;

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use self::payload::{Delivered, lowered};
pub use self::settings::{Settings, Sources};
use super::{Issuer, Room, Samples};
use crate::{
    blank::blanked,
    check::{Check, Scheme},
    delivery::{Delivery, Mapped, RECEIVED, Unmappable},
    job::Shape,
    settings::Settings as All,
};

pub(super) const SAMPLES: Samples = Samples {
    deliveries: samples!["lighthouse/pull-request-that-starts-a-run.json"],
    build_events: &[],
    // The event is the root of what the cluster's objects tell.
    settings: &[("LIGHTHOUSE_SOURCES", "both")],
};

pub(super) static ROOM: Room = Room {
    name: "lighthouse",
    title: "Lighthouse",
    paths: &["/lighthouse", "/lighthouse/events"],
    checks: &[Check {
        variable: &settings::HMAC_KEY,
        scheme: Scheme::Hmac { header: "x-lighthouse-signature", prefix: "sha256=", list: false },
    }],
    unproved: "set it to the key of the Secret lighthouse-hmac-token",
    headers: &[
        "content-type",
        "user-agent",
        "x-lighthouse-payload-type",
        "x-lighthouse-webhook-kind",
        RECEIVED,
    ],
    event: "x-lighthouse-webhook-kind",
    // Lighthouse waits for as long as it takes, and never sends again what was not answered 2xx.
    patience: Some(Duration::from_secs(8)),
    variables: &[&settings::HMAC_KEY, &settings::SERVICE_NAME, &settings::SOURCES],
    decode: |body| body.into(),
    map,
    correlation: |settings| &settings.kubernetes.correlation_id,
    // Texts of people, and what names them.
    redact: |body| {
        blanked(body, |inside, key| {
            let key = key.to_ascii_lowercase();
            inside
                || matches!(
                    key.as_str(),
                    "email" | "login" | "sender" | "author" | "committer" | "assignees"
                )
        })
    },
    recognises: |json| {
        let Some(fields) = json.as_object() else { return false };
        let has = |name: &str| fields.keys().any(|it| it.eq_ignore_ascii_case(name));
        // Go's names begin with a capital, and an activity names its job.
        has("jobId") || fields.contains_key("Repo")
    },
    sends,
    ping,
    host: |settings| Some(&settings.kubernetes.cluster),
    job: Shape::TOLD_ELSEWHERE,
    issuer: Issuer::NONE,
};

/// Maps a verified delivery, as far as it is to tell something beside the cluster's objects.
fn map<'a>(delivery: &Delivery<'a>, settings: &All) -> Result<Mapped<'a>, Unmappable> {
    let json: Value = serde_json::from_slice(delivery.body).map_err(|_| Unmappable::NotJson)?;
    if !json.is_object() {
        return Err(Unmappable::NotJson);
    }
    let json = lowered(json);
    let reponame = json["repo"].as_str().unwrap_or_default().to_owned();
    let event = Delivered::deserialize(json).map_err(|_| Unmappable::NotJson)?;
    let event = Delivered { reponame, ..event };
    let is_activity = !event.jobid.is_empty() || !event.stages.items.is_empty();
    if !is_activity && event.repo.get().is_none() {
        return Err(Unmappable::UnknownShape);
    }
    let received = delivery.headers.get(RECEIVED).and_then(|it| it.to_str().ok()?.parse().ok());
    match (settings.lighthouse.sources, is_activity) {
        (Sources::Objects, _) => {
            Ok(Mapped::Ignored("LIGHTHOUSE_SOURCES is objects: the cluster's objects tell this"))
        }
        (Sources::Both, true) => {
            Ok(Mapped::Ignored("LIGHTHOUSE_SOURCES is both: the cluster's objects tell of jobs"))
        }
        (Sources::Hooks, true) => activity::map(&event, settings),
        (Sources::Hooks, false) => webhook::map(&event, true, received, settings),
        (Sources::Both, false) => webhook::map(&event, false, received, settings),
    }
}

fn sends(json: &Value, _: &str) -> Vec<(&'static str, String)> {
    let activity = json.get("jobId").is_some();
    let kinds = [
        ("DeploymentStatus", "deployment_status"),
        ("Review", "review"),
        ("Comment", "issue_comment"),
        ("PullRequest", "pull_request"),
    ];
    let kind = kinds.into_iter().find(|(key, _)| json.get(key).is_some());
    let mut headers = vec![
        ("user-agent", "LighthouseHook".to_owned()),
        ("x-lighthouse-payload-type", if activity { "activity" } else { "webhook" }.to_owned()),
    ];
    if !activity {
        let kind = kind.map_or("push", |(_, kind)| kind);
        headers.push(("x-lighthouse-webhook-kind", kind.to_owned()));
    }
    headers
}

/// Lighthouse has no ping; a job that still runs is verified and then ignored.
fn ping(at: &str, number: u64) -> Value {
    json!({ "jobId": format!("spanhook-check-{number}"), "status": "running", "startTime": at })
}
