//! A receiver's surroundings, in memory.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "shared by test binaries, each of which uses its own part"
)]

pub mod tokens;

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span,
};
use prost::Message as _;
use spanhook_core::{
    check::{sign_standard, signing_key},
    message::{Content, Message, unpack},
    otlp::Signal,
    provider::Provider,
    settings::{Settings, Vars, WebhookSettings},
};
use spanhook_service::{
    clock::Clock,
    gate::Receiver,
    intake::Intake,
    queue::{Outbox, QueueError},
    startup::project_rules,
    telemetry::{Telemetry, TelemetrySettings},
    webhook::Webhook,
};
use tokio::time::Instant;
use tower::ServiceExt;

pub const SECRET: &str = "hunter2-the-secret-of-them-all";
pub const TOKEN: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const NOW: u64 = 1_793_611_800;
pub const PING: &str = r#"{"type":"ping","id":"92e0554a-837f-4086-913b-0dc7665d2a84","happened_at":"2022-09-19T15:59:36.507435Z","webhook":{"id":"d4ab06bc-eb79-463d-8aa4-47d066382d3b","name":"fly.io"}}"#;

/// Keeps what it is sent, or refuses everything, or says nothing.
#[derive(Debug, Default)]
pub struct MemoryOutbox {
    pub refuses: bool,
    pub refuses_until: Option<Instant>,
    pub silent: bool,
    pub sent: Mutex<Vec<Message>>,
    pub dead: Mutex<Vec<Message>>,
}

impl MemoryOutbox {
    async fn keep(
        &self,
        list: &Mutex<Vec<Message>>,
        messages: Vec<Message>,
    ) -> Result<(), QueueError> {
        if self.silent {
            std::future::pending::<()>().await;
        }
        if self.refuses || self.refuses_until.is_some_and(|it| Instant::now() < it) {
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
        self.keep(&self.sent, messages).await
    }

    async fn dead_letter(&self, messages: Vec<Message>) -> Result<(), QueueError> {
        self.keep(&self.dead, messages).await
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
    telling(receiver, queue, max_body, quiet(), &Vars::new()).await
}

/// Own telemetry without an endpoint.
pub fn quiet() -> Telemetry {
    Telemetry::queued("test", &TelemetrySettings::default())
}

/// What proves a provider's deliveries, as the variables say.
pub async fn receiver(provider: Provider, vars: &Vars) -> Receiver {
    let common = WebhookSettings::parse(vars).unwrap();
    Receiver::open(provider, vars, common).await.unwrap()
}

pub async fn telling(
    receiver: Receiver,
    queue: &Arc<MemoryOutbox>,
    max_body: usize,
    telemetry: Telemetry,
    vars: &Vars,
) -> Router {
    let clock = Clock::new(|| at(NOW));
    let (queue, rules) = (Arc::clone(queue), project_rules(vars).await.unwrap());
    let (intake, settings) = (Intake::new(), Arc::new(Settings::parse(vars).unwrap()));
    Webhook { receiver, settings, max_body, rules, queue, intake, telemetry, clock }.into_router()
}

pub async fn circleci(queue: &Arc<MemoryOutbox>) -> Router {
    circleci_with(queue, quiet(), &[]).await
}

pub async fn circleci_with(
    queue: &Arc<MemoryOutbox>,
    telemetry: Telemetry,
    pairs: &[(&str, &str)],
) -> Router {
    let mut vars = vars(pairs);
    vars.insert("CIRCLECI_HOOK_SECRET".to_owned(), SECRET.to_owned());
    telling(receiver(Provider::Circleci, &vars).await, queue, 100_000, telemetry, &vars).await
}

pub async fn gitlab(queue: &Arc<MemoryOutbox>, pairs: &[(&str, &str)]) -> Router {
    let vars = vars(pairs);
    telling(receiver(Provider::Gitlab, &vars).await, queue, 100_000, quiet(), &vars).await
}

pub async fn github(queue: &Arc<MemoryOutbox>) -> Router {
    let vars = vars(&[("GITHUB_WEBHOOK_SECRET", SECRET)]);
    router(receiver(Provider::Github, &vars).await, queue, 100_000).await
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
    signed_by(Provider::Circleci, body)
}

/// Signed as a provider with one check does.
pub fn signed_by(provider: Provider, body: &str) -> Request<Body> {
    let mut request = post("/", &[], body.to_owned());
    let [check] = provider.room().checks else { panic!("one check") };
    check.sign(request.headers_mut(), body.as_bytes(), SECRET.as_bytes(), "id", NOW);
    request
}

/// The `circleci-signature` of a body.
pub fn sign_circleci(body: &[u8]) -> String {
    let mut headers = HeaderMap::new();
    let [check] = Provider::Circleci.room().checks else { panic!("one check") };
    check.sign(&mut headers, body, SECRET.as_bytes(), "id", NOW);
    headers["circleci-signature"].to_str().unwrap().to_owned()
}

/// Signed as GitLab does, and as a sender of build events.
pub fn signed_standard(path: &str, body: impl Into<Vec<u8>>) -> Request<Body> {
    let body = body.into();
    let signature = sign_standard("id", NOW, &body, &signing_key(TOKEN).unwrap()).unwrap();
    let timestamp = NOW.to_string();
    let headers = [
        ("webhook-id", "id"),
        ("webhook-timestamp", &timestamp),
        ("webhook-signature", &signature),
    ];
    post(path, &headers, body)
}

/// As a client of HTTP compresses a body.
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// The same request, whose body breaks off in the middle.
pub fn broken_off(request: Request<Body>) -> Request<Body> {
    let pieces = [Ok("{\"type\":"), Err(std::io::Error::other("the connection ended"))];
    request.map(|_| Body::from_stream(futures_util::stream::iter(pieces)))
}

/// The spans in the queue, decoded by types that spanhook did not write.
pub fn spans(queue: &MemoryOutbox) -> Vec<Span> {
    let sent = queue.sent.lock().unwrap();
    let requests = sent.iter().filter_map(|message| {
        let get = |name: &str| message.attributes.get(name).map(String::as_str);
        match unpack(&message.body, get("encoding"), get("signal")).unwrap() {
            Content::Otlp(Signal::Traces, raw) => {
                Some(ExportTraceServiceRequest::decode(&*raw).unwrap())
            }
            _ => None,
        }
    });
    let groups = requests.flat_map(|it| it.resource_spans);
    groups.flat_map(|it| it.scope_spans).flat_map(|it| it.spans).collect()
}
