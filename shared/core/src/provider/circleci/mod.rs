//! `CircleCI`: `workflow-completed`, `job-completed` and `ping` to spans.
//!
//! <https://circleci.com/docs/reference/outbound-webhooks-reference/>

mod exported;
mod ids;
mod job;
mod map;
mod payload;
mod settings;

use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) use self::exported::EXPORTED;
pub use self::settings::Settings;
use super::{Grant, Issuer, Room, Samples};
use crate::check::{Check, Scheme};

pub(super) const SAMPLES: Samples = Samples {
    deliveries: samples![
        "circleci/ping.json",
        "circleci/job-completed-lint.json",
        "circleci/job-completed-unit-tests.json",
        "circleci/job-completed-build-image.json",
        "circleci/job-completed-browser-tests.json",
        "circleci/workflow-completed.json",
        "circleci/workflow-completed-github-app.json",
    ],
    build_events: &[],
    settings: &[],
};

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
        &settings::CORRELATION_ID,
        &settings::HOOK_SERVICE,
    ],
    decode: |body| body.into(),
    map: map::map,
    correlation: |settings| &settings.circleci.correlation_id,
    redact: |body| body.into(),
    recognises: |json| json.get("type").and(json.get("webhook")).is_some(),
    sends,
    ping,
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
        // <https://circleci.com/docs/guides/permissions-authentication/openid-connect-tokens/>
        grant: Grant::Given {
            variable: "CIRCLE_OIDC_TOKEN_V2",
            hint: "does the endpoint accept this CircleCI organisation's OIDC tokens?",
        },
    },
};

fn sends(json: &Value, _id: &str) -> Vec<(&'static str, String)> {
    let event = json["type"].as_str().unwrap_or_default().to_owned();
    vec![("user-agent", "CircleCI-Webhook/1.0".to_owned()), ("circleci-event-type", event)]
}

fn ping(at: &str, number: u64) -> Value {
    let id = Uuid::from_u128(number.into()).to_string();
    let webhook = json!({ "id": id, "name": "spanhook check" });
    json!({ "type": "ping", "id": id, "happened_at": at, "webhook": webhook })
}
