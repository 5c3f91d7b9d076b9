//! A receiver's surroundings, in memory.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "shared by test binaries, each of which uses its own part"
)]

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request},
};
use spanhook_core::{message::Message, signature::sign_circleci};
use spanhook_service::{
    clock::Clock,
    intake::Intake,
    queue::{Outbox, QueueError},
    settings::{CircleciReceiverSettings, GitlabReceiverSettings, Vars, WebhookSettings},
    startup::project_rules,
    telemetry::{Telemetry, TelemetrySettings},
    webhook::{Receiver, Webhook},
};
use tower::ServiceExt;

pub const SECRET: &str = "hunter2-the-secret";
pub const TOKEN: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const NOW: u64 = 1_793_611_800;
pub const PING: &str = r#"{"type":"ping","id":"92e0554a-837f-4086-913b-0dc7665d2a84","happened_at":"2022-09-19T15:59:36.507435Z","webhook":{"id":"d4ab06bc-eb79-463d-8aa4-47d066382d3b","name":"fly.io"}}"#;

/// Keeps what it is sent, or refuses everything.
#[derive(Debug, Default)]
pub struct MemoryOutbox {
    pub refuses: bool,
    pub sent: Mutex<Vec<Message>>,
    pub dead: Mutex<Vec<Message>>,
}

impl MemoryOutbox {
    fn keep(&self, list: &Mutex<Vec<Message>>, messages: Vec<Message>) -> Result<(), QueueError> {
        if self.refuses {
            let reason = "down".to_owned();
            return Err(QueueError::Refused {
                failed: messages.len(),
                total: messages.len(),
                reason,
            });
        }
        list.lock().unwrap().extend(messages);
        Ok(())
    }
}

impl Outbox for MemoryOutbox {
    async fn send(&self, messages: Vec<Message>) -> Result<(), QueueError> {
        self.keep(&self.sent, messages)
    }

    async fn dead_letter(&self, messages: Vec<Message>) -> Result<(), QueueError> {
        self.keep(&self.dead, messages)
    }
}

/// A writer that keeps what is logged.
#[derive(Clone, Default)]
pub struct Captured(pub Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub fn vars(pairs: &[(&str, &str)]) -> Vars {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub async fn router(receiver: Receiver, queue: &Arc<MemoryOutbox>, max_body: usize) -> Router {
    let telemetry = Telemetry::queued("test", &TelemetrySettings::default());
    telling(receiver, queue, max_body, telemetry, &Vars::new()).await
}

async fn telling(
    receiver: Receiver,
    queue: &Arc<MemoryOutbox>,
    max_body: usize,
    telemetry: Telemetry,
    vars: &Vars,
) -> Router {
    let clock = Clock::new(|| at(NOW));
    let (queue, rules) = (Arc::clone(queue), project_rules(vars).await.unwrap());
    let intake = Intake::new();
    Webhook { receiver, max_body, rules, queue, intake, telemetry, clock }.into_router()
}

pub async fn circleci(queue: &Arc<MemoryOutbox>) -> Router {
    let telemetry = Telemetry::queued("test", &TelemetrySettings::default());
    circleci_with(queue, telemetry, &[]).await
}

pub async fn circleci_with(
    queue: &Arc<MemoryOutbox>,
    telemetry: Telemetry,
    pairs: &[(&str, &str)],
) -> Router {
    let mut vars = vars(pairs);
    vars.insert("CIRCLECI_HOOK_SECRET".to_owned(), SECRET.to_owned());
    let settings = CircleciReceiverSettings::parse(&vars).unwrap();
    let common = WebhookSettings::parse(&vars).unwrap();
    let receiver = Receiver::circleci(settings, common).await.unwrap();
    telling(receiver, queue, 100_000, telemetry, &vars).await
}

pub async fn gitlab(queue: &Arc<MemoryOutbox>, pairs: &[(&str, &str)]) -> Router {
    let vars = vars(pairs);
    let settings = GitlabReceiverSettings::parse(&vars).unwrap();
    let common = WebhookSettings::parse(&vars).unwrap();
    router(Receiver::gitlab(settings, common).await.unwrap(), queue, 100_000).await
}

pub async fn ask(router: Router, request: Request<Body>) -> (u16, String) {
    let response = router.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

pub fn post(path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(Method::POST).uri(path);
    headers
        .iter()
        .fold(request, |it, (name, value)| it.header(*name, *value))
        .body(body.into())
        .unwrap()
}

pub fn signed(body: &str) -> Request<Body> {
    let signature = sign_circleci(body.as_bytes(), SECRET.as_bytes()).unwrap();
    post("/", &[("circleci-signature", &signature)], body.to_owned())
}
