use std::collections::BTreeMap;

use spanhook_core::message::{Message, OTLP};
use spanhook_service::queue::Outbox;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{view::page::TraceSource, *};

async fn started(data: &TempDir, pairs: &[(&str, &str)]) -> Result<Running, Failure> {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Running::start(&pairs.collect(), &Serve::local(data.path())).await
}

async fn running(data: &TempDir) -> Running {
    started(data, &[("CIRCLECI_HOOK_SECRET", "a-secret-of-the-tests")]).await.unwrap()
}

#[tokio::test]
async fn build_events_run_without_any_webhook() {
    for pairs in [
        &[("BUILD_EVENTS_TOKEN", "a-secret-of-the-tests")][..],
        &[("OIDC_ISSUERS", "https://gitlab.example.com"), ("OIDC_AUDIENCE", "ours")],
    ] {
        let data = TempDir::new().unwrap();
        let running = started(&data, pairs).await.unwrap();
        assert!(running.welcome().contains("POST /build-events"), "{}", running.welcome());
        let post = async |path: &str| {
            let url = format!("http://{}{path}", running.address);
            let answer = reqwest::Client::new().post(url).body("[]").send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        assert_eq!(post("/build-events").await.0, 401);
        for signal in ["traces", "metrics", "logs"] {
            assert_eq!(post(&format!("/v1/{signal}")).await.0, 401);
        }
        let (status, text) = post("/gitlab").await;
        assert!(status == 404 && text.contains("gitlab is not set up here"), "{status} {text}");
    }
    let data = TempDir::new().unwrap();
    let error = started(&data, &[]).await.err().unwrap().to_string();
    for name in ["CIRCLECI_HOOK_SECRET", "TEKTON_PATH_SECRET", "BUILD_EVENTS_TOKEN"] {
        assert!(error.contains(name), "{error}");
    }
}

#[tokio::test]
async fn what_jobs_export_is_taken_only_where_something_proves_them() {
    let data = TempDir::new().unwrap();
    let running = running(&data).await;
    let url = format!("http://{}/v1/traces", running.address);
    let answer = reqwest::Client::new().post(url).body("{}").send().await.unwrap();
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert!(status == 404 && text.contains("OIDC_ISSUERS"), "{status} {text}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_is_given_up_after_half_a_minute() {
    let data = TempDir::new().unwrap();
    let unsigned = [("ALLOW_UNSIGNED", "true")];
    let running = started(&data, &unsigned).await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
    let head = b"POST /circleci HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let began = Instant::now();
    let mut answer = Vec::new();
    // Never a pause of ten seconds.
    while timeout(Duration::from_secs(9), stream.read_buf(&mut answer)).await.is_err() {
        stream.write_all(b"x").await.unwrap();
    }
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_forwarders_end_is_the_processs_end() {
    let data = TempDir::new().unwrap();
    let running = running(&data).await;
    running.forwarder.abort();
    let ended = running.until_signal().await.unwrap_err().to_string();
    assert!(ended.starts_with("forwarding stopped"), "{ended}");
}

#[tokio::test]
async fn the_writers_end_is_the_processs_end_and_told_to_probes() {
    let data = TempDir::new().unwrap();
    let running = running(&data).await;
    let status = async |path: &str| {
        let url = format!("http://{}{path}", running.address);
        reqwest::get(url).await.unwrap().status().as_u16()
    };
    assert_eq!((status("/health").await, status("/ready").await), (200, 200));
    running.store().unwrap().break_writer().await;
    running.store().unwrap().ended().await;
    assert_eq!((status("/health").await, status("/ready").await), (503, 503));
    let ended = running.until_signal().await.unwrap_err().to_string();
    assert!(ended.starts_with("the queue's writer stopped"), "{ended}");
}

#[tokio::test]
async fn a_list_reads_only_traces_that_changed() {
    let data = TempDir::new().unwrap();
    let store = Store::open(data.path()).unwrap();
    let telemetry = Telemetry::exporting("test", &TelemetrySettings::default()).unwrap();
    let source = Source::new(store.clone(), None, telemetry);
    let show = async |trace: u8| {
        let body = one_span(trace);
        let attributes = BTreeMap::from([("encoding".to_owned(), OTLP.to_owned())]);
        let message = Message { body: body.into(), attributes, group: String::new() };
        store.send(vec![message]).await.unwrap();
        let batch = store.receive(1, tokio::time::Instant::now()).await;
        store.show(vec![(&batch[0], vec![hex(trace)])]).await.unwrap();
    };
    show(1).await;
    assert_eq!(source.list(9).len(), 1);
    // What was read once is not read again: nothing of it is left on disk.
    for file in std::fs::read_dir(data.path()).unwrap() {
        std::fs::File::options()
            .write(true)
            .open(file.unwrap().path())
            .unwrap()
            .set_len(0)
            .unwrap();
    }
    assert_eq!(source.list(9).len(), 1);
    show(2).await;
    assert_eq!(source.list(9)[0].id, hex(2), "a trace that is new is read");
}

fn hex(trace: u8) -> String {
    format!("{trace:02x}").repeat(16)
}

/// A message of one span.
fn one_span(trace: u8) -> String {
    use opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceRequest,
        trace::v1::{ResourceSpans, ScopeSpans, Span},
    };
    let span = Span { trace_id: vec![trace; 16], span_id: vec![1; 8], ..Span::default() };
    let scope = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
    let group = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
    let request = ExportTraceServiceRequest { resource_spans: vec![group] };
    spanhook_core::message::pack(&prost::Message::encode_to_vec(&request))
}
