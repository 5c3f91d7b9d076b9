//! `CircleCI`: `workflow-completed`, `job-completed` and `ping` to spans.
//!
//! <https://circleci.com/docs/reference/outbound-webhooks-reference/>

mod ids;
mod job;
mod map;
mod payload;
mod settings;

use serde_json::Value;

pub use self::settings::Settings;
use super::{Issuer, Room};
use crate::check::{Check, Scheme};

pub(super) static ROOM: Room = Room {
    name: "circleci",
    title: "CircleCI",
    // circleci-hook's own path is the root.
    paths: &["/", "/circleci"],
    checks: &[Check {
        variable: &settings::SECRET,
        // <https://circleci.com/docs/guides/integration/outbound-webhooks/#validate-webhooks>
        scheme: Scheme::Hmac { header: "circleci-signature", prefix: "v1=", list: true },
    }],
    unproved: "set it to the secret token of the webhook",
    headers: &["content-type", "user-agent", "circleci-event-type"],
    event: "circleci-event-type",
    patience: None,
    variables: &[
        &settings::SECRET,
        &settings::HOST,
        &settings::SERVICE_NAME,
        &settings::HOOK_SERVICE,
    ],
    decode: |body| body.into(),
    map: map::map,
    redact: |body| body.into(),
    recognises: |json| json.get("type").and(json.get("webhook")).is_some(),
    sends,
    // No job names its instance: it is a setting here, as for webhooks.
    host: |_| None,
    job: job::SHAPE,
    issuer: Issuer {
        public: "",
        bare: Some("https://oidc.circleci.com"),
        expected: "use https://oidc.circleci.com/org/<id of your organization>: the bare address is the issuer of everybody's jobs",
        owns: |issuer| issuer.starts_with("https://oidc.circleci.com/"),
        keys: Some("jwks-pub.json"),
        instance: |host| host.strip_prefix("oidc.").unwrap_or(host).to_owned(),
    },
};

fn sends(json: &Value, _id: &str) -> Vec<(&'static str, String)> {
    let event = json["type"].as_str().unwrap_or_default().to_owned();
    vec![("user-agent", "CircleCI-Webhook/1.0".to_owned()), ("circleci-event-type", event)]
}
