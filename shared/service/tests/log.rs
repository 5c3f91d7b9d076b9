//! What the log says at its default level.
//!
//! In a binary of its own: it captures logs, which other tests' threads would disturb.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use spanhook_core::check::sign_hex;
use spanhook_service::telemetry::LOG_LEVEL;
use support::{
    Captured, MemoryOutbox, SECRET, TOKEN, ask, github, gitlab, post, sign_circleci,
    signed_standard,
};

/// A person who sets up a webhook sees it arrive; the thousandth delivery costs no line.
#[tokio::test]
async fn pings_and_the_first_delivery_of_each_kind_are_seen_at_the_default_level() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(LOG_LEVEL.default)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let queue = Arc::new(MemoryOutbox::default());
    let (circleci, github) = (support::circleci(&queue).await, github(&queue).await);
    let gitlab = gitlab(&queue, &[("GITLAB_SIGNING_TOKEN", TOKEN)]).await;

    for (kind, body) in [
        ("ping", support::PING),
        ("ping", support::PING),
        ("job-completed", r#"{"type":"job-started"}"#),
        ("job-completed", r#"{"type":"job-started"}"#),
    ] {
        let signature = sign_circleci(body.as_bytes());
        let headers = [("circleci-event-type", kind), ("circleci-signature", &*signature)];
        ask(circleci.clone(), post("/", &headers, body)).await;
    }
    let unproved = [("circleci-event-type", "never-seen"), ("circleci-signature", "v1=00")];
    ask(circleci, post("/", &unproved, support::PING)).await;
    for kind in ["workflow_job", "workflow_run", "workflow_job", "forged\tline"] {
        let body = r#"{"action":"in_progress"}"#;
        let signature = format!("sha256={}", sign_hex(body.as_bytes(), SECRET.as_bytes()).unwrap());
        let headers = [("x-github-event", kind), ("x-hub-signature-256", &*signature)];
        ask(github.clone(), post("/", &headers, body)).await;
    }
    for _ in 0..2 {
        ask(gitlab.clone(), signed_standard("/gitlab", r#"{"object_kind":"push"}"#)).await;
    }
    insta::assert_snapshot!(String::from_utf8(captured.0.lock().unwrap().clone()).unwrap());
}
