//! The build-events service over HTTP, in process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use axum::{Router, body::Body, http::Request};
use proptest::prelude::*;
use spanhook_core::{
    build_event::PROVIDER,
    message::{Content, unpack},
    settings::{Settings, Vars},
};
use spanhook_service::{
    build_events::BuildEvents,
    clock::Clock,
    gate::{Gate, GateSettings},
    intake::Intake,
    startup::project_rules,
    telemetry::{Telemetry, TelemetrySettings},
};
use support::{MemoryOutbox, NOW, TOKEN, ask, at, broken_off, gzip, signed_standard, spans, vars};

const METADATA: &str = include_str!("../../../events/build-events/ci-build-metadata.json");
const BUNDLE: &str = include_str!("../../../events/build-events/webpack-build-stats.json");

async fn service(queue: &Arc<MemoryOutbox>, pairs: &[(&str, &str)]) -> Router {
    let mut vars: Vars = vars(pairs);
    vars.insert("BUILD_EVENTS_SIGNING_KEY".to_owned(), TOKEN.to_owned());
    let service = BuildEvents {
        gate: Arc::new(Gate::open(GateSettings::build_events(&vars).unwrap()).await.unwrap()),
        settings: Arc::new(Settings::parse(&vars).unwrap()),
        rules: project_rules(&vars).await.unwrap(),
        queue: Arc::clone(queue),
        intake: Intake::new(),
        telemetry: Telemetry::queued("test", &TelemetrySettings::default()),
        clock: Clock::new(|| at(NOW)),
    };
    service.into_router()
}

fn signed(body: impl Into<Vec<u8>>) -> Request<Body> {
    signed_standard("/build-events", body)
}

fn signals(queue: &MemoryOutbox) -> Vec<String> {
    let sent = queue.sent.lock().unwrap();
    assert!(sent.iter().all(|it| it.attributes["provider"] == PROVIDER));
    sent.iter().map(|it| it.attributes["signal"].clone()).collect()
}

#[tokio::test]
async fn every_answer_has_its_shape() {
    let queue = Arc::new(MemoryOutbox::default());
    let full = Arc::new(MemoryOutbox { refuses: true, ..MemoryOutbox::default() });
    let taking = service(&queue, &[]).await;
    let refusing = service(&full, &[]).await;
    let plain = |method: &str, path: &str| {
        Request::builder().method(method).uri(path).body(Body::from(METADATA)).unwrap()
    };
    let mut tampered = signed(METADATA);
    *tampered.body_mut() = Body::from(BUNDLE);
    let unknown = r#"{"type": "deploy_started", "correlation_id": "7", "cluster": "eu-1"}"#;
    let wrong = r#"[{"type": "mark", "correlation_id": "7", "name": "x"},
        {"type": "ci_build_metadata", "correlation_id": "7", "project": "acme/shop",
         "metrics": {"duration_seconds": "long"}}]"#;
    let mut text = String::new();
    for (name, router, request) in [
        ("build", &taking, signed(METADATA)),
        ("bundle", &taking, signed(BUNDLE)),
        ("both at once", &taking, signed(format!("[{METADATA},{BUNDLE}]"))),
        ("parts that can't be read", &taking, signed(BUNDLE.replace("\"size\"", "\"bytes\""))),
        ("unknown type", &taking, signed(unknown)),
        ("no events", &taking, signed("[]")),
        ("wrong field", &taking, signed(wrong)),
        ("not JSON", &taking, signed("build=1")),
        ("too large", &taking, signed(vec![b' '; 1024 * 1024 + 1])),
        ("unsigned", &taking, plain("POST", "/build-events")),
        ("tampered", &taking, tampered),
        ("GET", &taking, plain("GET", "/build-events")),
        ("elsewhere", &taking, plain("POST", "/elsewhere")),
        ("queue refuses", &refusing, signed(METADATA)),
    ] {
        let (status, body) = ask(router.clone(), request).await;
        text += &format!("{name}: {status} {}\n", body.trim());
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn events_become_messages_of_three_signals() {
    let queue = Arc::new(MemoryOutbox::default());
    let (status, _) = ask(service(&queue, &[]).await, signed(BUNDLE)).await;
    assert_eq!(status, 202);
    assert_eq!(signals(&queue), ["traces", "metrics", "logs"]);
}

#[tokio::test]
async fn a_project_that_is_switched_off_or_forbidden_sends_nothing() {
    let event = |project: &str| {
        signed(format!(
            r#"{{"type": "measure", "correlation_id": "7", "project": "{project}", "name": "n", "value": 1}}"#
        ))
    };
    for (pairs, expected) in [
        ([("PROJECT_RULES", r#"{"deny": ["acme/secret"]}"#)], 202),
        ([("ACCESS", r#"[{"projects": "acme/shop", "by": ["signature"]}]"#)], 403),
    ] {
        let queue = Arc::new(MemoryOutbox::default());
        let service = service(&queue, &pairs).await;
        assert_eq!(ask(service.clone(), event("acme/secret")).await.0, expected);
        assert!(queue.sent.lock().unwrap().is_empty());
        assert_eq!(ask(service, event("acme/shop")).await.0, 202);
        assert_eq!(signals(&queue), ["metrics"]);
    }
}

#[tokio::test]
async fn each_project_of_a_batch_is_judged_by_itself() {
    let event = |project: &str| {
        format!(
            r#"{{"type": "mark", "correlation_id": "7", "project": "{project}", "name": "of {project}"}}"#
        )
    };
    for (projects, expected) in [
        (["acme/secret", "acme/shop"], &["of acme/shop"][..]),
        (["acme/shop", "acme/secret"], &["of acme/shop"]),
        (["acme/shop", "acme/site"], &["of acme/shop", "of acme/site"]),
        (["acme/secret", "ACME/Secret"], &[]),
    ] {
        let queue = Arc::new(MemoryOutbox::default());
        let rules = r#"{"deny": ["acme/secret"]}"#;
        let service = service(&queue, &[("PROJECT_RULES", rules)]).await;
        let body = format!("[{}]", projects.map(event).join(","));
        let (status, answer) = ask(service, signed(body)).await;
        assert_eq!(status, 202, "{answer}");
        assert!(answer.contains(&format!(r#""spans":{}"#, expected.len())), "{answer}");
        let names: Vec<_> = spans(&queue).into_iter().map(|it| it.name).collect();
        assert_eq!(names, expected, "{projects:?}");
        // Nor does a point or a record of it remain.
        for message in queue.sent.lock().unwrap().iter() {
            let signal = message.attributes.get("signal").map(String::as_str);
            let content = unpack(&message.body, Some("otlp-proto+zstd"), signal).unwrap();
            let Content::Otlp(_, raw) = content else { panic!("no OTLP") };
            assert!(!raw.to_ascii_lowercase().windows(6).any(|it| it == b"secret"), "{signal:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_body_that_is_too_large() {
    let queue = Arc::new(MemoryOutbox::default());
    let (status, answer) = ask(service(&queue, &[]).await, broken_off(signed(METADATA))).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("could not be read to its end"), "{answer}");
    assert!(queue.sent.lock().unwrap().is_empty());
}

/// A project that asks for a job's token keeps its runs to itself, also when an event names one of
/// them for another project.
#[tokio::test]
async fn a_signed_event_enters_a_run_only_where_every_project_takes_a_signature() {
    const RUN: &str = "ca54d68b6460aedebe19e565dcbb8d6c";
    let event = r#"{"type": "mark", "correlation_id": "7", "project": "other/x", "name": "n",
        "context": {"provider": "gitlab", "host": "gitlab.com", "run_id": "2722508965"}}"#;
    let all = r#"{"projects": "*", "by": ["oidc", "signature"]}"#;
    for (access, enters) in [
        (format!("[{all}]"), true),
        (format!(r#"[{{"projects": "other/*", "by": ["signature"]}}, {all}]"#), true),
        (format!(r#"[{all}, {{"projects": "acme/payments", "by": ["oidc"]}}]"#), true),
        (format!(r#"[{{"projects": "acme/payments", "by": ["oidc"]}}, {all}]"#), false),
        (format!(r#"[{{"projects": "acme/payments", "by": []}}, {all}]"#), false),
        (r#"[{"projects": "other/*", "by": ["signature"]}]"#.to_owned(), false),
    ] {
        let queue = Arc::new(MemoryOutbox::default());
        let service = service(&queue, &[("ACCESS", &access)]).await;
        let (status, answer) = ask(service, signed(event)).await;
        assert_eq!(status, 202, "{access}: {answer}");
        assert_eq!(answer.contains(RUN), enters, "{access}: {answer}");
        assert_eq!(answer.contains("send the job's OIDC token"), !enters, "{access}: {answer}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_posted_is_answered_below_500(body: Vec<u8>, text in "\\PC{0,200}", event in 0..3) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let queue = Arc::new(MemoryOutbox::default());
        let body = match event {
            0 => body,
            1 => text.into_bytes(),
            _ => format!(r#"{{"type": "mark", "name": {}}}"#, serde_json::json!(text)).into_bytes(),
        };
        let (status, _) =
            runtime.block_on(async { ask(service(&queue, &[]).await, signed(body)).await });
        prop_assert!(status < 500);
    }
}

#[tokio::test]
async fn compressed_events_are_taken_up_to_the_same_size() {
    let queue = Arc::new(MemoryOutbox::default());
    let service = service(&queue, &[]).await;
    for (coding, body, expected) in [
        ("gzip", gzip(METADATA.as_bytes()), 202),
        ("zstd", zstd::bulk::compress(METADATA.as_bytes(), 3).unwrap(), 202),
        ("gzip", gzip(&vec![b' '; 1024 * 1024 + 1]), 413),
        ("gzip", METADATA.into(), 400),
        ("deflate", METADATA.into(), 415),
    ] {
        let mut request = signed(body);
        request.headers_mut().insert("content-encoding", coding.parse().unwrap());
        assert_eq!(ask(service.clone(), request).await.0, expected, "{coding}");
    }
    assert_eq!(signals(&queue).iter().filter(|it| *it == "traces").count(), 2);
}
