//! From a webhook to the Collector's file, on real parts.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::maybe_infinite_iter,
    reason = "a test fails by panicking"
)]

use std::{
    collections::BTreeSet,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use spanhook_core::{
    check::{sign_hex, sign_standard, signing_key},
    message::{Content, RAW, unpack},
};
use spanhook_tests::{
    Parts, body, collector::Collector, eventually, fixtures, lambda::Function, mapping::poll,
    parts, sqs::Sqs,
};

const SECRET: &str = "hunter2-and-more";
const TOKEN: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Everything between a provider and the Collector.
struct Stack {
    sqs: Sqs,
    collector: Collector,
    circleci: Function,
    gitlab: Function,
    build_events: Function,
    forwarder: Function,
}

impl Stack {
    async fn start(parts: &Parts) -> Self {
        Self::with(parts, "http/protobuf", "gzip").await
    }

    async fn with(parts: &Parts, protocol: &str, compression: &str) -> Self {
        let sqs = Sqs::start(parts).await;
        let collector = Collector::start(parts).await;
        let target = if protocol == "grpc" { &collector.grpc } else { &collector.http };
        let vars = |own: &[(&'static str, &str)]| -> Vec<(String, String)> {
            let all = sqs.vars().into_iter().chain(own.iter().copied());
            all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let start = async |name, vars: Vec<(String, String)>| {
            let vars: Vec<_> = vars.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            Function::start(parts, name, &vars).await
        };
        let circleci = start("circleci-webhook", vars(&[("CIRCLECI_HOOK_SECRET", SECRET)])).await;
        let gitlab = start("gitlab-webhook", vars(&[("GITLAB_SIGNING_TOKEN", TOKEN)])).await;
        let build_events =
            start("build-events", vars(&[("BUILD_EVENTS_SIGNING_KEY", TOKEN)])).await;
        let forwarder = start(
            "forwarder",
            vars(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", target),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
            ]),
        )
        .await;
        Self { sqs, collector, circleci, gitlab, build_events, forwarder }
    }

    async fn post_circleci(&self, body: &[u8]) -> (u16, Value) {
        let signature = format!("v1={}", sign_hex(body, SECRET.as_bytes()).unwrap());
        let headers = [("circleci-signature".to_owned(), signature)];
        let (status, body) = self.circleci.request("POST", "/", &headers, body).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    async fn post_gitlab(&self, body: &[u8]) -> (u16, Value) {
        Self::post_signed(&self.gitlab, "/gitlab", body).await
    }

    async fn post_build_events(&self, body: &[u8]) -> (u16, Value) {
        Self::post_signed(&self.build_events, "/build-events", body).await
    }

    async fn post_signed(function: &Function, path: &str, body: &[u8]) -> (u16, Value) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let signature = sign_standard("id", now, body, &signing_key(TOKEN).unwrap()).unwrap();
        let headers = [
            ("Webhook-Id".to_owned(), "id".to_owned()),
            ("Webhook-Timestamp".to_owned(), now.to_string()),
            ("Webhook-Signature".to_owned(), signature),
        ];
        let (status, body) = function.request("POST", path, &headers, body).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Drains the queue, and waits until the Collector wrote so many spans.
    async fn forward(&self, spans: usize) {
        while poll(&self.sqs, &self.forwarder).await.0 > 0 {}
        eventually(&format!("writing {spans} spans"), async || {
            self.collector.span_count() >= spans
        })
        .await;
    }
}

fn spans(answer: &Value) -> usize {
    usize::try_from(answer["spans"].as_u64().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS, SPANHOOK_FUNCTIONS and SPANHOOK_FIXTURES"]
async fn recorded_deliveries_arrive_at_the_collector_as_whole_traces() {
    let parts = parts();
    let stack = Stack::start(&parts).await;
    let mut expected = 0;
    for file in ["job-completed.zulip-github.json", "workflow-completed.zulip-github.json"] {
        let (status, answer) =
            stack.post_circleci(&body(&fixtures().join("circleci").join(file))).await;
        assert_eq!(status, 202, "{answer}");
        expected += spans(&answer);
    }
    let (status, answer) = stack
        .post_gitlab(&body(&fixtures().join("gitlab/cimonitor/canceled-pipeline/19.json")))
        .await;
    assert_eq!(status, 202, "{answer}");
    expected += spans(&answer);
    stack.forward(expected).await;
    let text = stack
        .collector
        .traces()
        .into_iter()
        .map(|(id, spans)| format!("=== trace {id}\n{}", spans.concat()));
    insta::assert_snapshot!("collected", text.collect::<String>());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS, SPANHOOK_FUNCTIONS and SPANHOOK_FIXTURES"]
async fn grpc_and_zstd_deliver_the_same_spans_as_http_and_gzip() {
    let parts = parts();
    let delivery = body(&fixtures().join("gitlab/cimonitor/pipeline/55.json"));
    let mut found = Vec::new();
    for (protocol, compression) in [
        ("http/protobuf", "gzip"),
        ("http/protobuf", "zstd"),
        ("grpc", "gzip"),
        ("grpc", "zstd"),
        ("grpc", "none"),
    ] {
        let stack = Stack::with(&parts, protocol, compression).await;
        let (_, answer) = stack.post_gitlab(&delivery).await;
        stack.forward(spans(&answer)).await;
        found.push(stack.collector.traces());
    }
    assert!(found.iter().all(|it| *it == found[0] && !it.is_empty()));
}

/// Every delivery of a recorded pipeline, as the provider sent them, then shuffled and twice each.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS, SPANHOOK_FUNCTIONS and SPANHOOK_FIXTURES"]
async fn order_and_duplicates_make_no_difference_to_a_recorded_pipeline() {
    let parts = parts();
    let folder = fixtures().join("gitlab/cimonitor/canceled-pipeline");
    let mut files: Vec<_> =
        (1..).map(|n| folder.join(format!("{n}.json"))).take_while(|it| it.exists()).collect();
    let distinct = |collector: &Collector| -> BTreeSet<String> {
        collector.traces().into_values().flatten().collect()
    };
    let ordered = Stack::start(&parts).await;
    let mut count = 0;
    for file in &files {
        let (status, answer) = ordered.post_gitlab(&body(file)).await;
        assert_eq!(status, 202);
        count += answer["spans"].as_u64().map_or(0, |it| usize::try_from(it).unwrap());
    }
    ordered.forward(count).await;

    let shuffled = Stack::start(&parts).await;
    files.extend(files.clone());
    // A fixed shuffle: every run checks the same order.
    files.sort_by_key(|path| {
        path.to_string_lossy()
            .bytes()
            .fold(7u32, |hash, byte| hash.wrapping_mul(31) ^ u32::from(byte))
            % 97
    });
    for file in &files {
        assert_eq!(shuffled.post_gitlab(&body(file)).await.0, 202);
    }
    shuffled.forward(2 * count).await;
    assert!(count > 0);
    assert_eq!(distinct(&ordered.collector), distinct(&shuffled.collector));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn a_pipeline_of_10_000_jobs_arrives_whole_over_several_messages() {
    let parts = parts();
    let stack = Stack::start(&parts).await;
    // Below Lambda's 6 MB even as an escaped event.
    let jobs: Vec<_> = (1..=10_000).map(|id| serde_json::json!({
        "id": id, "stage": format!("stage {}", id % 20), "name": format!("job {id}"), "status": "success",
        "started_at": "2026-11-02 09:30:00 UTC", "finished_at": "2026-11-02 09:31:00 UTC", "queued_duration": 1.5,
        "runner": { "id": id % 7, "description": format!("runner {}", id % 7) },
    })).collect();
    let delivery = serde_json::json!({
        "object_kind": "pipeline",
        "object_attributes": { "id": 77, "status": "success", "created_at": "2026-11-02 09:29:00 UTC", "finished_at": "2026-11-02 09:32:00 UTC" },
        "project": { "id": 1, "web_url": "https://gitlab.example.com/a/b", "path_with_namespace": "a/b" },
        "builds": jobs,
    });
    let (status, answer) = stack.post_gitlab(delivery.to_string().as_bytes()).await;
    assert_eq!((status, spans(&answer)), (202, 20_021));
    stack.forward(20_021).await;
    assert_eq!(stack.collector.span_count(), 20_021);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn a_collector_that_is_down_costs_a_delay_and_no_span() {
    let parts = parts();
    let mut stack = Stack::start(&parts).await;
    stack.collector.stop().await;
    let ping = br#"{"type":"ping","id":"92e0554a-837f-4086-913b-0dc7665d2a84","happened_at":"2022-09-19T15:59:36Z"}"#;
    assert_eq!(stack.post_circleci(ping).await.0, 202);
    let (received, failed) = poll(&stack.sqs, &stack.forwarder).await;
    assert_eq!((received, failed), (1, 1), "the message is reported, and stays");
    stack.collector.restart().await;
    eventually("delivery after the outage", async || {
        poll(&stack.sqs, &stack.forwarder).await;
        stack.collector.span_count() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn what_a_job_exports_arrives_as_spans_metrics_and_logs() {
    let parts = parts();
    let stack = Stack::start(&parts).await;
    let token = [("BUILD_EVENTS_TOKEN", SECRET)].into_iter();
    let vars: Vec<_> = stack.sqs.vars().into_iter().chain(token).collect();
    let function = Function::start(&parts, "otlp", &vars).await;
    let post = async |path: &str, kind: &str, body: &[u8]| {
        let headers = [("Authorization", &*format!("Bearer {SECRET}")), ("Content-Type", kind)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        function.request("POST", path, &headers, body).await
    };
    for signal in ["traces", "metrics", "logs"] {
        let sample = format!("{}/../events/otlp/{signal}.json", env!("CARGO_MANIFEST_DIR"));
        let sample = std::fs::read(sample).unwrap();
        let answer = post(&format!("/v1/{signal}"), "application/json", &sample).await;
        assert_eq!(answer, (200, "{}".to_owned()), "{signal}");
    }
    // Both encodings are bytes that Lambda's JSON holds in base64.
    let protobuf = post("/v1/traces", "application/x-protobuf", b"").await;
    assert_eq!(protobuf, (200, String::new()));
    stack.forward(2).await;
    eventually("writing the point and the record", async || {
        stack.collector.points().len() == 1 && stack.collector.records().len() == 1
    })
    .await;
    let traces = stack.collector.traces();
    let traces =
        traces.into_iter().map(|(id, spans)| format!("=== trace {id}\n{}", spans.concat()));
    let (points, records) = (stack.collector.points(), stack.collector.records());
    let text = format!("{}{points:?}\n{records:?}", traces.collect::<String>());
    insta::assert_snapshot!(text);
}

fn build_events() -> Vec<u8> {
    let events = ["ci-build-metadata", "webpack-build-stats"].map(|name| {
        let path = format!("{}/../events/build-events/{name}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    });
    format!("[{}]", events.join(",")).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn build_events_arrive_as_spans_metrics_and_logs_over_http_and_grpc() {
    let parts = parts();
    let mut arrived = Vec::new();
    for (protocol, compression) in [("http/protobuf", "gzip"), ("grpc", "zstd")] {
        let stack = Stack::with(&parts, protocol, compression).await;
        let (status, answer) = stack.post_build_events(&build_events()).await;
        assert_eq!((status, &answer["status"]), (202, &Value::from("accepted")));
        let [points, records] =
            ["points", "records"].map(|it| usize::try_from(answer[it].as_u64().unwrap()).unwrap());
        stack.forward(spans(&answer)).await;
        eventually("writing points and records", async || {
            stack.collector.points().len() >= points && stack.collector.records().len() >= records
        })
        .await;
        assert_eq!(stack.collector.traces().len(), 1, "all spans are in one trace");
        arrived.push((stack.collector.points(), stack.collector.records()));
    }
    assert_eq!(arrived[0], arrived[1]);
    insta::assert_debug_snapshot!(arrived[0]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn a_github_run_arrives_as_one_trace_whatever_the_order_and_the_form_of_its_deliveries() {
    let parts = parts();
    let stack = Stack::start(&parts).await;
    let vars: Vec<_> =
        stack.sqs.vars().into_iter().chain([("GITHUB_WEBHOOK_SECRET", SECRET)]).collect();
    let github = Function::start(&parts, "github-webhook", &vars).await;
    let post = async |body: &[u8]| {
        let signature = format!("sha256={}", sign_hex(body, SECRET.as_bytes()).unwrap());
        let headers = [("X-Hub-Signature-256".to_owned(), signature)];
        let (status, body) = github.request("POST", "/github", &headers, body).await;
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let sample = |name: &str| {
        body(Path::new(&format!("{}/../events/github/{name}.json", env!("CARGO_MANIFEST_DIR"))))
    };
    let mut expected = 0;
    // The run's event comes first, and twice.
    for name in [
        "workflow-run-failed",
        "workflow-job-build",
        "workflow-run-failed",
        "workflow-job-test-failed",
    ] {
        let (status, answer) = post(&sample(name)).await;
        assert_eq!((status, &answer["status"]), (202, &Value::from("accepted")), "{answer}");
        expected += spans(&answer);
    }
    // The default content type of a webhook that is made by hand.
    let skipped = String::from_utf8(sample("workflow-job-deploy-skipped")).unwrap();
    let form = format!(
        "payload={}",
        form_urlencoded::byte_serialize(skipped.as_bytes()).collect::<String>()
    );
    let (status, answer) = post(form.as_bytes()).await;
    assert_eq!(status, 202, "{answer}");
    expected += spans(&answer);
    let (status, answer) = post(&sample("push")).await;
    assert_eq!((status, &answer["status"]), (202, &Value::from("ignored")), "{answer}");

    stack.forward(expected).await;
    assert_eq!(stack.collector.traces().len(), 1, "all spans are in one trace");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn metrics_and_logs_wait_for_a_collector_that_is_down_as_spans_do() {
    let parts = parts();
    let mut stack = Stack::start(&parts).await;
    stack.collector.stop().await;
    let (_, answer) = stack.post_build_events(&build_events()).await;
    let (_, failed) = poll(&stack.sqs, &stack.forwarder).await;
    // One event names its project and the other none: each is judged, and so sent, by itself.
    assert_eq!(failed, 5, "spans and points of both, and the records of one, stay");
    stack.collector.restart().await;
    let [points, records] =
        ["points", "records"].map(|it| usize::try_from(answer[it].as_u64().unwrap()).unwrap());
    eventually("delivery of all signals after the outage", async || {
        poll(&stack.sqs, &stack.forwarder).await;
        stack.collector.points().len() == points
            && stack.collector.records().len() == records
            && stack.collector.span_count() == spans(&answer)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn only_what_the_collector_refuses_goes_to_the_dead_letter_queue() {
    let parts = parts();
    let stack = Stack::start(&parts).await;
    let mut expected = 0;
    for number in 0..9 {
        let job = serde_json::json!({
            "type": "job-completed", "happened_at": "2026-11-02T09:31:00Z",
            "workflow": { "id": "cedf175c-c537-49f8-9b5c-95892f0b2407" },
            "job": { "id": format!("job-{number}"), "name": "x", "status": "success", "started_at": "2026-11-02T09:30:00Z" },
        });
        expected += spans(&stack.post_circleci(job.to_string().as_bytes()).await.1);
    }
    // Whole to the forwarder, which does not decode spans, and no OTLP to the Collector.
    let poison = spanhook_core::message::pack(&[10, 3, 10, 200, 1]);
    let not_zstd = "bm90IHpzdGQ=".to_owned();
    for body in [poison, not_zstd] {
        let encoding = aws_sdk_sqs::types::MessageAttributeValue::builder()
            .data_type("String")
            .string_value("otlp-proto+zstd")
            .build()
            .unwrap();
        let send = stack.sqs.client.send_message().queue_url(&stack.sqs.queue).message_body(body);
        send.message_attributes("encoding", encoding).send().await.unwrap();
    }
    stack.forward(expected).await;
    eventually("two dead letters", async || {
        stack.sqs.peek(&stack.sqs.dead_letters).await.len() == 2
    })
    .await;
    let dead = stack.sqs.peek(&stack.sqs.dead_letters).await;
    let mut reasons: Vec<_> = dead
        .iter()
        .map(|it| it.message_attributes.as_ref().unwrap()["reason"].string_value.clone().unwrap())
        .collect();
    reasons.sort();
    assert!(reasons[0].starts_with("HTTP 400"), "{reasons:?}");
    assert!(reasons[1].contains("not zstd"), "{reasons:?}");
    assert_eq!(poll(&stack.sqs, &stack.forwarder).await.0, 0, "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn a_verified_delivery_that_can_not_be_mapped_is_quarantined_with_its_reason() {
    let parts = parts();
    let stack = Stack::start(&parts).await;
    let broken = br#"{"object_kind":"pipeline","object_attributes":{"status":"success","variables":[{"key":"K","value":"s3cret"}]}}"#;
    let (status, answer) = stack.post_gitlab(broken).await;
    assert_eq!((status, &answer["status"]), (202, &Value::from("quarantined")));
    let dead = stack.sqs.peek(&stack.sqs.dead_letters).await;
    let attributes = dead[0].message_attributes.as_ref().unwrap();
    assert_eq!(attributes["reason"].string_value.as_deref(), Some("the event names no run"));
    assert!(
        !attributes
            .values()
            .any(|it| it.string_value.as_ref().is_some_and(|it| it.contains("v1,")))
    );
    let body = dead[0].body.as_ref().unwrap();
    let Ok(Content::Quarantined(raw)) = unpack(body, Some(RAW), None) else {
        panic!("not the payload")
    };
    let raw = String::from_utf8(raw).unwrap();
    assert!(raw.contains("\"key\":\"K\"") && !raw.contains("s3cret"), "{raw}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn a_queue_that_can_not_be_reached_makes_the_provider_retry() {
    let parts = parts();
    let stack = Stack::start(&parts).await;
    let Stack { sqs, circleci, .. } = stack;
    sqs.stop().await;
    let ping = br#"{"type":"ping","id":"92e0554a-837f-4086-913b-0dc7665d2a84","happened_at":"2022-09-19T15:59:36Z"}"#;
    let signature = format!("v1={}", sign_hex(ping, SECRET.as_bytes()).unwrap());
    let headers = [("circleci-signature".to_owned(), signature)];
    assert_eq!(circleci.request("POST", "/", &headers, ping).await.0, 503);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn the_traceparent_function_is_safe_to_source_and_understood_by_otel_cli() {
    let parts = parts();
    let function = Function::start(&parts, "traceparent", &[]).await;
    let job = "/traceparent/circleci/cedf175c-c537-49f8-9b5c-95892f0b2407/3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34";
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("bash_env");
    let mut text = String::new();
    for path in [
        "/traceparent/gitlab/1/`id`",
        "/nothing",
        "/traceparent/x/$(touch%20/tmp/x)?format=sh",
        job,
    ] {
        text += &function.request("GET", path, &[], b"").await.1;
        text += "export AFTERWARDS=1\n";
    }
    text += &function.request("DELETE", job, &[], b"").await.1;
    std::fs::write(&file, text).unwrap();
    let script = format!(". {}; echo \"$TRACEPARENT $AFTERWARDS\"", file.display());
    let shell = std::process::Command::new("bash").args(["-euc", &script]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&shell.stdout),
        "00-e8a005b2bbea3d6ab25bbccc6d8a0d9a-927ed609846a1ef5-01 1\n"
    );
    assert!(shell.stderr.is_empty() && shell.status.success());

    let script = format!(". {}; \"$OTEL_CLI\" exec --tp-print true", file.display());
    let otel_cli = std::process::Command::new("bash")
        .args(["-euc", &script])
        .env("OTEL_CLI", parts.parts.join("bin/otel-cli"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&otel_cli.stdout).into_owned();
    assert!(said.contains("e8a005b2bbea3d6ab25bbccc6d8a0d9a"), "{said}");
}
