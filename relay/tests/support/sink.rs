//! A receiver that verifies what it gets, remembers it, and fails on demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use serde_json::Value;
use spanhook_core::{
    check::{WebhookHeaders, signing_key, verify_standard},
    secret::Secrets,
};
use spanhook_export::clock::Clock;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::KEY;

/// As spanhook says it.
pub(crate) const ACCEPTED: &str = r#"{"status":"accepted","spans":1,"trace_id":null}"#;

pub(crate) struct Sink {
    address: SocketAddr,
    server: Option<(JoinHandle<()>, watch::Sender<bool>)>,
    state: Arc<Mutex<Got>>,
}

#[derive(Default)]
pub(crate) struct Got {
    /// Bodies at `/kubernetes`.
    pub(crate) batches: Vec<Value>,
    /// Every request: path, `webhook-id`, headers and body.
    pub(crate) requests: Vec<(String, String, HeaderMap, Bytes)>,
    /// So many requests get this status.
    failing: (u32, u16),
    saying: &'static str,
    /// A text that no body may hold, as a firewall may think.
    poison: Option<String>,
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut sink = Self { address, server: None, state: Arc::default() };
        sink.listen(listener);
        sink
    }

    fn listen(&mut self, listener: TcpListener) {
        let router = Router::new().fallback(take).with_state(Arc::clone(&self.state));
        let (stop, mut stopped) = watch::channel(false);
        let server = axum::serve(listener, router).with_graceful_shutdown(async move {
            let _ = stopped.wait_for(|it| *it).await;
        });
        self.server = Some((tokio::spawn(async move { server.await.unwrap() }), stop));
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn got(&self) -> MutexGuard<'_, Got> {
        self.state.lock().unwrap()
    }

    /// Answers the next requests with an error.
    pub(crate) fn fail(&self, times: u32, status: u16) {
        self.answer(times, status, "made up");
    }

    /// Answers the next requests so, and takes nothing.
    pub(crate) fn answer(&self, times: u32, status: u16, body: &'static str) {
        let mut got = self.got();
        (got.failing, got.saying) = ((times, status), body);
    }

    pub(crate) fn poison(&self, text: &str) {
        self.got().poison = Some(text.to_owned());
    }

    /// Refuses connections.
    pub(crate) async fn go_away(&mut self) {
        let (server, stop) = self.server.take().unwrap();
        stop.send_replace(true);
        server.await.unwrap();
    }

    pub(crate) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.listen(listener);
    }

    /// What came, in order.
    pub(crate) fn items(&self) -> Vec<Value> {
        let got = self.got();
        let lists = got.batches.iter().map(|it| it["items"].as_array().unwrap());
        lists.flatten().cloned().collect()
    }

    /// What came, as `Kind uid`, those deleted with a `-` before it.
    pub(crate) fn set(&self) -> BTreeSet<String> {
        self.items().iter().map(name).collect()
    }

    /// How often each came.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        self.items().iter().for_each(|it| *counts.entry(name(it)).or_default() += 1);
        counts
    }
}

fn name(item: &Value) -> String {
    let object = &item["object"];
    let sign = if item["type"] == "DELETED" { "-" } else { "" };
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    format!("{sign}{} {}", text(&object["kind"]), text(&object["metadata"]["uid"]))
}

async fn take(
    State(state): State<Arc<Mutex<Got>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let header = |name: &str| headers.get(name).map(|it| it.to_str().unwrap());
    let path = uri.path().to_owned();
    let mut got = state.lock().unwrap();
    let id = header("webhook-id").unwrap_or_default().to_owned();
    got.requests.push((path.clone(), id, headers.clone(), body.clone()));
    if got.failing.0 > 0 {
        got.failing.0 -= 1;
        return (StatusCode::from_u16(got.failing.1).unwrap(), got.saying);
    }
    if path.starts_with("/lighthouse") {
        return (StatusCode::ACCEPTED, r#"{"status":"accepted","note":"whose signature it is"}"#);
    }
    let proof = WebhookHeaders {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    };
    let keys = Secrets::new([signing_key(KEY).unwrap()]);
    let now = Clock::SYSTEM.since_epoch().as_secs();
    if verify_standard(proof, &body, &keys, now).is_err() {
        return (StatusCode::UNAUTHORIZED, "signature");
    }
    let text = std::str::from_utf8(&body).unwrap();
    if got.poison.as_ref().is_some_and(|it| text.contains(it)) {
        return (StatusCode::PAYLOAD_TOO_LARGE, "poison");
    }
    if path == "/kubernetes" {
        got.batches.push(serde_json::from_str(text).unwrap());
    }
    (StatusCode::ACCEPTED, ACCEPTED)
}
