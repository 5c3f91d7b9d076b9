//! The OTLP service over HTTP, in process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::Write as _,
    sync::{Arc, LazyLock},
};

use aws_lc_rs::signature::RsaKeyPair;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    },
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use serde_json::{Value, json};
use spanhook_core::{otlp::front::PROVIDER, settings::Settings};
use spanhook_service::{
    clock::Clock,
    gate::{Gate, GateSettings},
    intake::Intake,
    otlp::Otlp,
    startup::project_rules,
};
use support::{
    MemoryOutbox, NOW, TOKEN, ask, at, broken_off, post, quiet, signed_standard, spans,
    tokens::{generate, jwk, sign},
    vars,
};
use tower::ServiceExt;

const ISSUER: &str = "https://gitlab.example.com";
const AUDIENCE: &str = "https://ci.acme.test";
const BEARER: &str = "hunter2-the-token";

/// The trace of the run in [`token`].
const OWN: &str = "4663ea496ae1cb5b9c689d5e81ce75ef";
const OTHER: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

const LIMIT: usize = 200_000;

static KEY: LazyLock<RsaKeyPair> = LazyLock::new(generate);

/// What a job of `project` shows.
fn token(project: &str) -> String {
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "iat": NOW - 100, "exp": NOW + 3500, "sub": "x",
        "project_path": project, "project_id": "278964",
        "pipeline_id": "2722508965", "job_id": "15651125844", "ref": "main",
    });
    let token = sign(&KEY, r#"{"alg":"RS256","kid":"one"}"#, &claims.to_string());
    format!("Bearer {token}")
}

/// With every proof that there is.
async fn service(queue: &Arc<MemoryOutbox>, pairs: &[(&str, &str)]) -> Router {
    let issuers = json!([{"issuer": ISSUER, "jwks": {"keys": [jwk("one", &KEY)]}}]).to_string();
    let mut vars = vars(pairs);
    for (name, value) in [
        ("OIDC_ISSUERS", &*issuers),
        ("OIDC_AUDIENCE", AUDIENCE),
        ("BUILD_EVENTS_SIGNING_KEY", TOKEN),
        ("BUILD_EVENTS_TOKEN", BEARER),
    ] {
        vars.insert(name.to_owned(), value.to_owned());
    }
    let service = Otlp {
        gate: Arc::new(Gate::open(GateSettings::build_events(&vars).unwrap()).await.unwrap()),
        settings: Arc::new(Settings::parse(&vars).unwrap()),
        max_body: LIMIT,
        rules: project_rules(&vars).await.unwrap(),
        queue: Arc::clone(queue),
        intake: Intake::new(),
        telemetry: quiet(),
        clock: Clock::new(|| at(NOW)),
    };
    service.into_router()
}

fn of_traces(traces: &[&str]) -> ExportTraceServiceRequest {
    let span = |(number, trace): (u64, &&str)| Span {
        trace_id: hex(trace),
        span_id: number.to_be_bytes().to_vec(),
        name: format!("step {number}"),
        ..Span::default()
    };
    let scope =
        ScopeSpans { spans: (1..).zip(traces).map(span).collect(), ..ScopeSpans::default() };
    let group = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![group] }
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn json_of(traces: &[&str]) -> String {
    let span = |(number, trace): (u64, &&str)| json!({"traceId": trace, "spanId": format!("{number:016x}"), "name": format!("step {number}")});
    let spans: Vec<Value> = (1..).zip(traces).map(span).collect();
    json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).to_string()
}

const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

fn by_job(kind: (&str, &str), body: impl Into<Body>) -> Request<Body> {
    post("/v1/traces", &[("authorization", &token("acme/shop")), kind], body)
}

/// Status, the headers that matter, and the body.
async fn answer(router: &Router, request: Request<Body>) -> (u16, String, Vec<u8>) {
    let response = router.clone().oneshot(request).await.unwrap();
    let headers: Vec<_> = ["content-type", "www-authenticate", "retry-after"]
        .iter()
        .filter_map(|name| {
            Some(format!("{name}: {}", response.headers().get(*name)?.to_str().ok()?))
        })
        .collect();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, headers.join(", "), body.to_vec())
}

#[tokio::test]
async fn every_answer_has_its_shape() {
    let queue = Arc::new(MemoryOutbox::default());
    let full = Arc::new(MemoryOutbox { refuses: true, ..MemoryOutbox::default() });
    let taking = service(&queue, &[]).await;
    let refusing = service(&full, &[]).await;
    let own = json_of(&[OWN]);
    let raw = of_traces(&[OWN]).encode_to_vec();
    let mixed = of_traces(&[OWN, OTHER]).encode_to_vec();
    let to = |path: &str, kind, body: &str| {
        post(path, &[("authorization", &token("acme/shop")), kind], body.to_owned())
    };
    let encoded = |name: &'static str| {
        let token = token("acme/shop");
        post(
            "/v1/traces",
            &[("authorization", &token), JSON, ("content-encoding", name)],
            own.clone(),
        )
    };
    let get = Request::builder().uri("/v1/traces").body(Body::empty()).unwrap();
    let mut text = String::new();
    for (name, router, request) in [
        ("spans", &taking, by_job(JSON, own.clone())),
        ("spans in protobuf", &taking, by_job(PROTOBUF, raw.clone())),
        ("nothing", &taking, by_job(JSON, "{}")),
        ("nothing in protobuf", &taking, by_job(PROTOBUF, "")),
        ("metrics", &taking, to("/v1/metrics", JSON, "{}")),
        (
            "logs",
            &taking,
            to("/v1/logs", JSON, r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}"#),
        ),
        ("profiles", &taking, to("/v1/profiles", JSON, "{}")),
        ("of two traces", &taking, by_job(JSON, json_of(&[OWN, OTHER]))),
        ("of two traces in protobuf", &taking, by_job(PROTOBUF, mixed)),
        ("of another trace", &taking, by_job(JSON, json_of(&[OTHER]))),
        (
            "of another trace in protobuf",
            &taking,
            by_job(PROTOBUF, of_traces(&[OTHER]).encode_to_vec()),
        ),
        ("wrong ids", &taking, by_job(JSON, json_of(&["00"]))),
        ("not JSON", &taking, by_job(JSON, "spans=1")),
        ("not protobuf", &taking, by_job(PROTOBUF, "spans=1")),
        ("another type", &taking, by_job(("content-type", "text/plain"), own.clone())),
        ("no type", &taking, by_job(("x", "y"), own.clone())),
        ("another compression", &taking, encoded("br")),
        ("not as compressed as it says", &taking, encoded("gzip")),
        ("too large", &taking, by_job(PROTOBUF, vec![b' '; LIMIT + 1])),
        ("breaks off", &taking, broken_off(by_job(JSON, own.clone()))),
        ("nobody", &taking, post("/v1/traces", &[JSON], own.clone())),
        ("nobody in protobuf", &taking, post("/v1/traces", &[PROTOBUF], raw.clone())),
        (
            "a wrong token",
            &taking,
            post("/v1/traces", &[JSON, ("authorization", "Bearer wrong")], own.clone()),
        ),
        ("GET", &taking, get),
        ("queue refuses", &refusing, by_job(JSON, own.clone())),
        ("queue refuses protobuf", &refusing, by_job(PROTOBUF, raw)),
    ] {
        let (status, headers, body) = answer(router, request).await;
        text += &format!("{name}: {status} ({headers}) {}\n", body.escape_ascii());
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn what_a_job_sends_is_queued_before_it_is_answered_and_another_projects_trace_is_not() {
    let queue = Arc::new(MemoryOutbox::default());
    let service = service(&queue, &[]).await;
    let mixed = of_traces(&[OTHER, OWN, OTHER]);
    let (status, _, body) = answer(&service, by_job(PROTOBUF, mixed.encode_to_vec())).await;
    assert_eq!(status, 200);
    let partial = ExportTraceServiceResponse::decode(&*body).unwrap().partial_success.unwrap();
    let ExportTracePartialSuccess { rejected_spans, error_message } = partial;
    assert_eq!((rejected_spans, error_message.contains("another trace")), (2, true));
    let [span] = spans(&queue).try_into().unwrap();
    assert_eq!((span.name.as_str(), span.trace_id), ("step 2", hex(OWN)));
    let sent = queue.sent.lock().unwrap();
    assert_eq!(
        (&*sent[0].attributes["provider"], &*sent[0].attributes["trace_id"]),
        (PROVIDER, OWN)
    );
}

/// What `ACCESS` says of who may write where.
#[tokio::test]
async fn access_says_who_may_write_where() {
    const NO_RULES: &str = "";
    let free = r#"[{"projects": "acme/runners", "by": ["oidc"], "traces": "any"}, {"projects": "*", "by": ["oidc"]}]"#;
    let payments = r#"[{"projects": "acme/payments", "by": ["oidc"]}, {"projects": "*", "by": ["oidc", "signature", "bearer"]}]"#;
    let nobody = r#"[{"projects": "acme/shop", "by": ["oidc"]}]"#;
    let anybody = r#"[{"projects": "*", "by": ["none"]}]"#;
    let (shop, runners) = (token("acme/shop"), token("acme/runners"));
    let bearer = format!("Bearer {BEARER}");
    let body = of_traces(&[OTHER]).encode_to_vec();
    for (access, authorization, expected) in [
        (NO_RULES, &*shop, 403),
        (NO_RULES, &*runners, 403),
        (NO_RULES, &*bearer, 200),
        (free, &*shop, 403),
        (free, &*runners, 200),
        (free, &*bearer, 403),
        // Where some project takes no bearer token, an id may be that of one of its runs.
        (payments, &*bearer, 403),
        (nobody, &*shop, 403),
        (nobody, &*runners, 403),
        (anybody, "", 200),
        (nobody, "", 401),
    ] {
        let queue = Arc::new(MemoryOutbox::default());
        let service = service(&queue, &[("ACCESS", access)]).await;
        let headers = [("authorization", authorization), PROTOBUF];
        let headers = if authorization.is_empty() { &headers[1..] } else { &headers };
        let (status, answer) = ask(service, post("/v1/traces", headers, body.clone())).await;
        assert_eq!(status, expected, "{access} {answer}");
        assert_eq!(spans(&queue).len(), usize::from(expected == 200), "{access}");
    }
}

#[tokio::test]
async fn a_signature_covers_the_body_as_it_was_sent() {
    let body = of_traces(&[OTHER]).encode_to_vec();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&body).unwrap();
    let gzip = gzip.finish().unwrap();
    let queue = Arc::new(MemoryOutbox::default());
    let service = service(&queue, &[]).await;
    let signed = |body: &[u8]| {
        let mut request = signed_standard("/v1/traces", body);
        for (name, value) in [PROTOBUF, ("content-encoding", "gzip")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request
    };
    assert_eq!(ask(service.clone(), signed(&gzip)).await.0, 200);
    assert_eq!(spans(&queue).len(), 1);
    let mut tampered = signed(&gzip);
    *tampered.body_mut() = Body::from(body);
    assert_eq!(ask(service, tampered).await.0, 401);
}

#[tokio::test]
async fn a_bomb_is_refused_in_either_compression() {
    let zeros = vec![0; 100 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&zeros).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::bulk::compress(&zeros, 1).unwrap();
    let queue = Arc::new(MemoryOutbox::default());
    let service = service(&queue, &[]).await;
    for (name, bomb) in [("gzip", gzip), ("zstd", zstd)] {
        assert!(bomb.len() < LIMIT, "{}", bomb.len());
        let headers =
            [("authorization", &*token("acme/shop")), PROTOBUF, ("content-encoding", name)];
        let (status, answer) = ask(service.clone(), post("/v1/traces", &headers, bomb)).await;
        assert_eq!(status, 413, "{name}: {answer}");
    }
}

#[tokio::test]
async fn the_rules_of_a_jobs_project_hold() {
    let queue = Arc::new(MemoryOutbox::default());
    let service = service(&queue, &[("PROJECT_RULES", r#"{"deny": ["acme/shop"]}"#)]).await;
    assert_eq!(ask(service, by_job(JSON, json_of(&[OWN]))).await, (200, "{}".to_owned()));
    assert!(queue.sent.lock().unwrap().is_empty());
}
