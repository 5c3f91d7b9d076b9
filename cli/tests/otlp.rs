//! What a job exports itself: otel-cli and an SDK of OpenTelemetry, through `spanhook serve`, with the
//! job's token.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::{BTreeSet, HashMap},
    process::Output,
    sync::LazyLock,
    time::SystemTime,
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt, TraceState, Tracer, TracerProvider},
};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde_json::{Value, json};
use spanhook_tests::{Parts, eventually, parts};
use support::{Answer, Collector, Serve};
use tempfile::TempDir;
use tokio::process::Command;

const ISSUER: &str = "https://gitlab.example.com";
const AUDIENCE: &str = "https://spanhook.example.com";

static KEY: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

/// The token of a job in this pipeline.
fn token(pipeline: u64) -> String {
    #[expect(clippy::disallowed_methods, reason = "a test has no clock to choose")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 3600, "sub": "x",
        "project_path": "acme/shop", "project_id": "278964",
        "pipeline_id": pipeline.to_string(), "job_id": "15651125844", "ref": "main",
    });
    let part = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
    let header = part(br#"{"alg":"RS256","kid":"one"}"#);
    let signed = format!("{header}.{}", part(claims.to_string().as_bytes()));
    let mut signature = vec![0; KEY.public_modulus_len()];
    let random = SystemRandom::new();
    KEY.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", part(&signature))
}

/// The variables of `serve` that make it take the tokens of that issuer.
fn issuers() -> String {
    let public = KEY.public_key().as_ref();
    let n = URL_SAFE_NO_PAD.encode(&public[9..265]);
    let key =
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one", "n": n, "e": "AQAB"});
    json!([{"issuer": ISSUER, "jwks": {"keys": [key]}}]).to_string()
}

fn serve(data: &TempDir, collector: &str) -> Serve {
    let vars = [
        ("OIDC_ISSUERS", &*issuers()),
        ("OIDC_AUDIENCE", AUDIENCE),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector),
    ];
    Serve::start(data.path(), &vars)
}

/// The trace context of a job, as `serve` tells it.
async fn traceparent(serve: &Serve, pipeline: u64) -> String {
    let path = format!("traceparent/gitlab/{pipeline}/15651125844");
    let query = "instance=gitlab.example.com&format=value";
    let answer = reqwest::get(format!("{}/{path}?{query}", serve.url)).await.unwrap();
    answer.text().await.unwrap().trim().to_owned()
}

/// Exports a span below `parent` with the SDK, and says how that went.
async fn export(
    serve: &Serve,
    token: String,
    parent: String,
    name: &'static str,
) -> Result<(), String> {
    let endpoint = format!("{}/v1/traces", serve.url);
    // The exporter blocks, and has a runtime of its own.
    let exported = tokio::task::spawn_blocking(move || {
        let authorization = ("Authorization".to_owned(), format!("Bearer {token}"));
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_headers(HashMap::from([authorization]))
            .build()
            .unwrap();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
        let ids: Vec<_> = parent.split('-').collect();
        let context = SpanContext::new(
            TraceId::from_hex(ids[1]).unwrap(),
            SpanId::from_hex(ids[2]).unwrap(),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        );
        let context = Context::new().with_remote_span_context(context);
        drop(provider.tracer("tests").start_with_context(name, &context));
        let outcome = provider.force_flush().map_err(|error| error.to_string());
        drop(provider.shutdown());
        outcome
    });
    exported.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_the_sdk_arrive_with_the_jobs_token_and_those_of_another_run_do_not() {
    let collector = Collector::start(|_, _| Answer::Take).await;
    let data = TempDir::new().unwrap();
    let serve = serve(&data, &collector.url);
    let (own, other) = (traceparent(&serve, 1).await, traceparent(&serve, 2).await);
    assert_eq!(export(&serve, token(1), own.clone(), "compile").await, Ok(()));
    collector.wait_for(&BTreeSet::from(["compile".to_owned()])).await;

    for (token, parent) in [(token(1), other.clone()), (token(2), own), ("wrong".to_owned(), other)]
    {
        export(&serve, token, parent, "intrude").await.unwrap_err();
    }
    let known = traceparent(&serve, 2).await;
    assert_eq!(export(&serve, token(2), known, "test").await, Ok(()));
    collector.wait_for(&BTreeSet::from(["test".to_owned()])).await;
    assert!(!collector.taken().contains_key("intrude"), "{:?}", collector.taken());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_while_the_collector_was_down_arrives_also_after_a_kill() {
    let away = Collector::start(|_, _| Answer::Status(503)).await;
    let address = away.address;
    let data = TempDir::new().unwrap();
    let first = serve(&data, &away.url);
    let parent = traceparent(&first, 1).await;
    assert_eq!(export(&first, token(1), parent, "compile").await, Ok(()));
    first.kill();
    away.stop();
    let collector = loop {
        // The port is free once the old one has let go of it.
        match tokio::net::TcpListener::bind(address).await {
            Ok(free) => {
                drop(free);
                break Collector::start_at(address, |_, _| Answer::Take).await;
            }
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let _second = serve(&data, &collector.url);
    collector.wait_for(&BTreeSet::from(["compile".to_owned()])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_exec_runs_arrives_by_the_address_of_events_alone() {
    let collector = Collector::start(|_, _| Answer::Take).await;
    let data = TempDir::new().unwrap();
    let serve = serve(&data, &collector.url);
    let exec = async |pipeline: &str, name: &str| {
        Command::new(env!("CARGO_BIN_EXE_spanhook"))
            .args(["exec", "--name", name, "--", "true"])
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("SPANHOOK_ENDPOINT", &serve.url)
            .env("SPANHOOK_TOKEN", token(1))
            .envs([("CI", "true"), ("GITLAB_CI", "true"), ("CI_JOB_ID", "15651125844")])
            .envs([("CI_SERVER_HOST", "gitlab.example.com"), ("CI_PIPELINE_ID", pipeline)])
            .output()
            .await
            .unwrap()
    };
    let done = exec("1", "compile").await;
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    collector.wait_for(&BTreeSet::from(["compile".to_owned()])).await;
    let refused = exec("2", "intrude").await;
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.success() && said.contains("answered 403"), "{said}");
}

/// Sends a span by otel-cli, set up as in a job.
async fn otel_cli(
    installed: &Parts,
    serve: &Serve,
    token: &str,
    parent: &str,
    name: &str,
) -> Output {
    Command::new(installed.parts.join("bin/otel-cli"))
        .args(["span", "--name", name, "--service", "make", "--fail", "--verbose"])
        .env_clear()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &serve.url)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .env("OTEL_EXPORTER_OTLP_HEADERS", format!("Authorization=Bearer {token}"))
        .env("TRACEPARENT", parent)
        .output()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn otel_cli_reaches_the_collector_with_the_jobs_token() {
    let installed = parts();
    let collector = spanhook_tests::collector::Collector::start(&installed).await;
    let data = TempDir::new().unwrap();
    let serve = serve(&data, &collector.http);
    let (own, other) = (traceparent(&serve, 1).await, traceparent(&serve, 2).await);
    let send = async |token: &str, parent: &str, name: &str| {
        otel_cli(&installed, &serve, token, parent, name).await
    };
    let refused = send(&token(1), &other, "intrude").await;
    assert!(!refused.status.success(), "another run's trace: {refused:?}");
    assert!(!send("wrong", &own, "intrude").await.status.success());
    let taken = send(&token(1), &own, "compile").await;
    assert!(taken.status.success(), "{taken:?}");

    eventually("the span", async || collector.span_count() > 0).await;
    let [(resource, span)] = collector.spans().try_into().unwrap();
    let ids: Vec<_> = own.split('-').collect();
    assert_eq!(
        [&span["name"], &span["traceId"], &span["parentSpanId"]],
        ["compile", ids[1], ids[2]]
    );
    let attribute = |key: &str| {
        let all = resource["attributes"].as_array().unwrap();
        let found = all.iter().find(|it| it["key"] == key);
        found.map_or(Value::Null, |it| it["value"]["stringValue"].clone())
    };
    assert_eq!(attribute("service.name"), "make");
    assert_eq!(attribute("spanhook.provider"), "gitlab");
    assert_eq!(attribute("vcs.repository.name"), "shop");
    assert_eq!(attribute("cicd.pipeline.run.id"), "1");
}
