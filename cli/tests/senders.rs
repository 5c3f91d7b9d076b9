//! The commands that a job runs, against receivers that check what they get or misbehave.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value,
    trace::v1::{Span, status::StatusCode as SpanStatus},
};
use prost::Message as _;
use serde_json::{Value, json};
use spanhook_core::{
    build_event::{Sender, map},
    check::{WebhookHeaders, signing_key, verify_standard},
    otlp::Telemetry,
    secret::Secrets,
    settings::Settings,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

const KEY: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const TOKEN: &str = "a-t0ken-of-the-tests";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A GitLab job.
const JOB: [(&str, &str); 8] = [
    ("CI", "true"),
    ("GITLAB_CI", "true"),
    ("CI_SERVER_HOST", "gitlab.com"),
    ("CI_PIPELINE_ID", "2722508965"),
    ("CI_JOB_ID", "15651125844"),
    ("CI_PROJECT_PATH", "acme/shop"),
    ("CI_COMMIT_REF_NAME", "main"),
    ("CI_COMMIT_SHA", "0123abc"),
];

/// Trace and span of that job, as the traceparent endpoint gives them.
const JOB_IDS: (&str, &str) = ("ca54d68b6460aedebe19e565dcbb8d6c", "7b1a45c63d0a837b");

/// A request as it arrived.
#[derive(Clone, Debug)]
struct Request {
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|it| it.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn is_signed(&self) -> bool {
        let headers = WebhookHeaders {
            id: self.header("webhook-id"),
            timestamp: self.header("webhook-timestamp"),
            signature: self.header("webhook-signature"),
        };
        let keys = Secrets::new([signing_key(KEY).unwrap()]);
        verify_standard(headers, &self.body, &keys, now().as_secs()).is_ok()
    }

    /// What the endpoint makes of it.
    fn batch(&self) -> Telemetry<'static> {
        let received = u64::try_from(now().as_nanos()).unwrap();
        let batch = map(&self.body, received, &Settings::default(), Sender::Trusted).unwrap();
        let [telemetry] = batch.telemetry.try_into().unwrap();
        telemetry
    }

    fn spans(&self) -> Vec<Span> {
        use std::io::Read as _;
        let mut raw = Vec::new();
        match self.header("content-encoding") {
            None => raw.extend_from_slice(&self.body),
            Some(_) => {
                flate2::read::GzDecoder::new(&*self.body).read_to_end(&mut raw).unwrap();
            }
        }
        let request = ExportTraceServiceRequest::decode(&*raw).unwrap();
        let scopes = request.resource_spans.into_iter().flat_map(|it| it.scope_spans);
        scopes.flat_map(|it| it.spans).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no clock to choose")]
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

type Seen = Arc<Mutex<Vec<Request>>>;

type Judge = dyn Fn(usize, &Request) -> Response + Send + Sync;

/// A receiver on loopback that keeps what it gets.
struct Receiver {
    url: String,
    requests: Seen,
}

impl Receiver {
    async fn start(judge: impl Fn(usize, &Request) -> Response + Send + Sync + 'static) -> Self {
        async fn receive(
            State((requests, judge)): State<(Seen, Arc<Judge>)>,
            uri: Uri,
            headers: HeaderMap,
            body: Bytes,
        ) -> Response {
            let request = Request { uri, headers, body };
            let number = {
                let mut requests = requests.lock().unwrap();
                requests.push(request.clone());
                requests.len()
            };
            judge(number, &request)
        }

        let requests = Seen::default();
        let judge: Arc<Judge> = Arc::new(judge);
        let router = Router::new().fallback(receive).with_state((Arc::clone(&requests), judge));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, requests }
    }

    async fn accepting() -> Self {
        Self::start(|_, _| StatusCode::ACCEPTED.into_response()).await
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    fn only(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }
}

fn command(arguments: &[&str], vars: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanhook"));
    command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(vars.iter().copied())
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn spanhook(arguments: &[&str], vars: &[(&str, &str)]) -> Output {
    let output = command(arguments, vars).output().await.unwrap();
    for secret in [TOKEN, KEY, &KEY[6..]] {
        assert!(!text(&output.stdout).contains(secret), "{output:?}");
        assert!(!text(&output.stderr).contains(secret), "{output:?}");
    }
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A job with an endpoint and a key.
fn job<'v>(endpoint: &'v str, more: &[(&'v str, &'v str)]) -> Vec<(&'v str, &'v str)> {
    let sender = [("SPANHOOK_ENDPOINT", endpoint), ("SPANHOOK_SIGNING_KEY", KEY)];
    [JOB.as_slice(), &sender, more].concat()
}

/// Runs a command that must send one signed request without a word, and gives the request.
async fn sent(arguments: &[&str], more: &[(&str, &str)]) -> Request {
    let receiver = Receiver::accepting().await;
    let output = spanhook(arguments, &job(&receiver.url, more)).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!((text(&output.stdout), text(&output.stderr)), (String::new(), String::new()));
    let request = receiver.only();
    assert_eq!(request.uri.path(), "/build-events");
    assert!(request.is_signed(), "{:?}", request.headers);
    request
}

fn event_of(request: &Request, kind: &str) -> Value {
    let json = request.json();
    assert_eq!(json["type"], kind);
    assert_eq!(json["correlation_id"], "2722508965");
    assert_eq!(json["project"], "acme/shop");
    assert_eq!(
        json["context"],
        json!({
            "provider": "gitlab", "host": "gitlab.com", "run_id": "2722508965",
            "job_id": "15651125844", "project": "acme/shop", "ref": "main", "revision": "0123abc",
        })
    );
    let trace = &request.batch().traces;
    assert!(trace.iter().all(|it| it.id.to_string() == JOB_IDS.0), "the run's own trace");
    json
}

#[tokio::test]
async fn the_end_of_a_build_is_a_span_of_its_run() {
    let request =
        sent(&["event", "build", "--status", "canceled", "--duration", "61.5"], &[]).await;
    let json = event_of(&request, "ci_build_metadata");
    assert_eq!(json["job_status"], "canceled");
    assert_eq!(json["metrics"]["duration_seconds"], 61.5);
    assert_eq!(request.batch().traces[0].groups[0].spans[0].name, "build acme/shop");
    for (githubs, ours) in [("failure", "failed"), ("cancelled", "canceled")] {
        let request = sent(&["event", "build", "--status", githubs, "--duration", "1"], &[]).await;
        assert_eq!(request.json()["job_status"], ours);
    }
}

#[tokio::test]
async fn gitlab_tells_how_a_build_ended_and_since_when_it_ran() {
    let since = ("CI_PIPELINE_CREATED_AT", "2020-01-01T00:00:00Z");
    let request = sent(&["event", "build"], &[since, ("CI_JOB_STATUS", "failed")]).await;
    let json = event_of(&request, "ci_build_metadata");
    assert_eq!(json["job_status"], "failed");
    assert!(json["metrics"]["duration_seconds"].as_f64().unwrap() > 1e8);
    let request = sent(&["event", "build"], &[since, ("CI_JOB_STATUS", "running")]).await;
    assert_eq!(request.json()["job_status"], Value::Null, "running is no end");
}

#[tokio::test]
async fn an_artifact_has_the_size_and_the_digest_of_its_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("app-release.apk");
    std::fs::write(&file, "x".repeat(200_000)).unwrap();
    let file = file.to_str().unwrap();
    let arguments = ["event", "artifact", "--file", file, "--variant", "release"];
    let parts = ["--version", "1.2", "--breakdown", "dex=150000", "--breakdown", "res=50000"];
    let request = sent(&[arguments.as_slice(), &parts].concat(), &[]).await;
    let json = event_of(&request, "artifact");
    let fields = json!({
        "name": json["name"], "size_bytes": json["size_bytes"], "digest": json["digest"],
        "variant": json["variant"], "version": json["version"], "breakdown": json["breakdown"],
    });
    assert_eq!(
        fields,
        json!({
            "name": "app-release.apk", "size_bytes": 200_000,
            "digest": "91e3faafd322bcdf160f3f0ce886acb092b9b9e2a1e8526b40f21a8898a8700b",
            "variant": "release", "version": "1.2",
            "breakdown": { "dex": 150_000, "res": 50_000 },
        })
    );
    let arguments = ["event", "artifact", "--name", "app", "--size", "7", "--digest", "abc"];
    let json = event_of(&sent(&arguments, &[]).await, "artifact");
    assert_eq!((&json["size_bytes"], &json["digest"]), (&json!(7), &json!("abc")));
}

#[tokio::test]
async fn numbers_and_moments_carry_their_attributes() {
    let arguments = ["event", "measure", "build.cache.hits", "-0.5", "--unit", "1"];
    let request = sent(&[arguments.as_slice(), &["--attribute", "cache=a=b"]].concat(), &[]).await;
    let json = event_of(&request, "measure");
    assert_eq!((&json["name"], &json["value"]), (&json!("build.cache.hits"), &json!(-0.5)));
    assert_eq!(json["attributes"], json!({ "cache": "a=b" }));
    assert_eq!(request.batch().metrics[0].metrics[0].name, "build.cache.hits");

    let request = sent(&["event", "mark", "deployed", "--attribute", "to=live"], &[]).await;
    event_of(&request, "mark");
    let batch = request.batch();
    let span = &batch.traces[0].groups[0].spans[0];
    assert_eq!((&*span.name, batch.logs.len()), ("deployed", 1));
    assert_eq!(span.parent.unwrap().to_string(), JOB_IDS.1);
}

#[tokio::test]
async fn raw_events_get_what_they_lack_and_keep_what_they_have() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("events.json");
    let own = json!({ "type": "mark", "name": "b", "correlation_id": "rc-1", "context": {} });
    let events = json!([{ "type": "lint", "findings": 3 }, own]);
    std::fs::write(&file, events.to_string()).unwrap();
    let json = sent(&["event", "raw", file.to_str().unwrap()], &[]).await.json();
    assert_eq!(json[0]["correlation_id"], "2722508965");
    assert_eq!(json[0]["context"]["job_id"], "15651125844");
    assert_eq!(json[0]["findings"], 3);
    assert_eq!((&json[1]["correlation_id"], &json[1]["context"]), (&json!("rc-1"), &json!({})));
}

#[tokio::test]
async fn raw_events_are_read_from_standard_input() {
    let receiver = Receiver::accepting().await;
    let mut child = command(&["event", "raw", "-"], &job(&receiver.url, &[]));
    let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(br#"{"type":"mark","name":"x"}"#).await.unwrap();
    drop(input);
    assert!(child.wait().await.unwrap().success());
    event_of(&receiver.only(), "mark");
}

/// What a receiver answers to an accepted event, and what is told of it.
#[tokio::test]
async fn the_note_of_an_accepted_event_is_one_line_on_standard_error_and_no_failure() {
    let long = "x".repeat(301);
    for (answer, told) in [
        (
            json!({ "note": "kept out of\n a run" }),
            "spanhook: build event accepted, but kept out of· a run\n",
        ),
        (json!({ "status": "accepted", "note": null }), ""),
        (json!({ "note": format!("you are {TOKEN}") }), ""),
        (json!({ "note": long }), ""),
        (json!({ "note": "y", "trace_ids": ["x".repeat(64 * 1024)] }), ""),
        (json!("note"), ""),
    ] {
        let body = answer.to_string();
        let receiver =
            Receiver::start(move |_, _| (StatusCode::ACCEPTED, body.clone()).into_response()).await;
        let vars = job(&receiver.url, &[("SPANHOOK_TOKEN", TOKEN)]);
        let output = spanhook(&["event", "mark", "x", "--strict"], &vars).await;
        assert_eq!((output.status.code(), &*text(&output.stderr)), (Some(0), told), "{answer}");
        assert!(output.stdout.is_empty());
        receiver.only();
    }
}

#[tokio::test]
async fn a_note_that_never_ends_holds_no_build() {
    let receiver = Receiver::start(|_, _| {
        let endless = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        (StatusCode::ACCEPTED, axum::body::Body::from_stream(endless)).into_response()
    })
    .await;
    let begun = Instant::now();
    let output = spanhook(&["event", "mark", "x", "--strict"], &job(&receiver.url, &[])).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_dry_run_prints_what_would_be_sent_and_sends_nothing() {
    let receiver = Receiver::accepting().await;
    let arguments = ["event", "mark", "deployed", "--dry-run"];
    let output = spanhook(&arguments, &job(&receiver.url, &[])).await;
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["type"], &json["name"]), (&json!("mark"), &json!("deployed")));
    assert_eq!((output.status.code(), receiver.requests().len()), (Some(0), 0));
    assert!(spanhook(&arguments, &JOB).await.status.success(), "without any setting");
}

#[tokio::test]
async fn a_token_goes_as_bearer_before_any_other_proof() {
    let receiver = Receiver::accepting().await;
    let more = [("SPANHOOK_TOKEN", TOKEN), ("CIRCLE_OIDC_TOKEN_V2", "other")];
    let output = spanhook(&["event", "mark", "x"], &job(&receiver.url, &more)).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let request = receiver.only();
    assert_eq!(request.header("authorization").unwrap(), format!("Bearer {TOKEN}"));
    assert_eq!(request.header("webhook-signature"), None);
}

#[tokio::test]
async fn a_circleci_job_proves_itself_with_its_own_token() {
    let receiver = Receiver::accepting().await;
    let vars = [
        ("CIRCLECI", "true"),
        ("CIRCLE_WORKFLOW_ID", "cedf175c-c537-49f8-9b5c-95892f0b2407"),
        ("CIRCLE_WORKFLOW_JOB_ID", "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34"),
        ("CIRCLE_OIDC_TOKEN_V2", TOKEN),
        ("SPANHOOK_ENDPOINT", &receiver.url),
    ];
    assert!(spanhook(&["event", "mark", "x"], &vars).await.status.success());
    let request = receiver.only();
    assert_eq!(request.header("authorization").unwrap(), format!("Bearer {TOKEN}"));
    let batch = request.batch();
    assert_eq!(batch.traces[0].id.to_string(), "e8a005b2bbea3d6ab25bbccc6d8a0d9a");
    let parent = batch.traces[0].groups[0].spans[0].parent.unwrap();
    assert_eq!(parent.to_string(), "927ed609846a1ef5");
}

#[tokio::test]
async fn a_github_job_gets_a_token_for_the_audience_and_its_event_is_accepted() {
    let receiver = Receiver::start(|_, request| {
        if request.uri.path() == "/token" {
            json!({ "value": TOKEN }).to_string().into_response()
        } else {
            StatusCode::ACCEPTED.into_response()
        }
    })
    .await;
    let url = format!("{}/token?api-version=2", receiver.url);
    let vars = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_RUN_ID", "7"),
        ("GITHUB_RUN_ATTEMPT", "2"),
        ("GITHUB_JOB", "build"),
        ("SPANHOOK_AUDIENCE", "https://s.example.com"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", &url),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "runner"),
        ("SPANHOOK_ENDPOINT", &receiver.url),
    ];
    let output = spanhook(&["event", "mark", "x"], &vars).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let [ask, post] = &*receiver.requests() else { panic!("two requests") };
    assert_eq!(ask.uri.query(), Some("api-version=2&audience=https%3A%2F%2Fs.example.com"));
    assert_eq!(ask.header("authorization"), Some("Bearer runner"));
    assert_eq!(post.header("authorization").unwrap(), format!("Bearer {TOKEN}"));
    assert_eq!(post.batch().traces.len(), 1);
}

/// Runs with a receiver that is no use: a warning and success, or with `--strict` a failure.
async fn fails_softly(vars: &[(&str, &str)], says: &str) {
    for (strict, code) in [(&[][..], 0), (&["--strict"], 1)] {
        let begun = Instant::now();
        let output = spanhook(&[&["event", "mark", "x"], strict].concat(), vars).await;
        assert!(begun.elapsed() < Duration::from_millis(3500), "{:?}", begun.elapsed());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.starts_with("spanhook: build event not sent: "), "{error}");
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_does_not_fail_the_build() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    fails_softly(&job(&url, &[]), "check SPANHOOK_ENDPOINT").await;
}

#[tokio::test]
async fn an_endpoint_that_never_answers_does_not_hold_the_build() {
    // Connections wait in its backlog.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    fails_softly(&job(&url, &[]), "no answer from 127.0.0.1").await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_told_with_what_to_do() {
    for (status, says, tries) in [
        (401, "check SPANHOOK_SIGNING_KEY", 1),
        (404, "check the path", 1),
        (400, "do the versions", 1),
        (307, "the address it redirects to", 1),
        (500, "the build is fine", 2),
        (503, "the build is fine", 2),
    ] {
        let receiver = Receiver::start(move |_, request| {
            let location = [("location", format!("{}/x", request.uri))];
            (StatusCode::from_u16(status).unwrap(), location, KEY.to_owned() + TOKEN)
                .into_response()
        })
        .await;
        fails_softly(&job(&receiver.url, &[("SPANHOOK_PROJECT", "p")]), says).await;
        assert_eq!(receiver.requests().len(), 2 * tries, "{status}");
    }
}

#[tokio::test]
async fn a_quick_failure_is_tried_again_as_the_same_event() {
    let receiver = Receiver::start(|number, _| match number {
        1 => StatusCode::BAD_GATEWAY.into_response(),
        _ => StatusCode::ACCEPTED.into_response(),
    })
    .await;
    let output = spanhook(&["event", "mark", "x", "--strict"], &job(&receiver.url, &[])).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let [first, second] = &*receiver.requests() else { panic!("two requests") };
    assert_eq!(first.body, second.body);
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert!(second.is_signed());
}

#[tokio::test]
async fn an_event_that_the_endpoint_refuses_is_told_field_by_field() {
    let receiver = Receiver::start(|_, _| StatusCode::BAD_REQUEST.into_response()).await;
    let vars = job(&receiver.url, &[]);
    let long = "x".repeat(300);
    let output = spanhook(&["event", "mark", &long], &vars).await;
    let says = "spanhook: build event not sent: events[0].name: use text of at most 256 bytes\n";
    assert_eq!(text(&output.stderr), says);
}

#[tokio::test]
async fn what_is_missing_is_told() {
    let endpoint = ("SPANHOOK_ENDPOINT", "http://127.0.0.1:9");
    for (arguments, vars, says) in [
        (&["mark", "x"][..], JOB.to_vec(), "set SPANHOOK_ENDPOINT"),
        (&["mark", "x"], vec![endpoint], "set CORRELATION_ID"),
        (&["build"], job("http://127.0.0.1:9", &[]), "give --duration SECONDS"),
        (&["artifact", "--file", "/none"], job("http://127.0.0.1:9", &[]), "can't be read"),
        (&["raw", "/none"], job("http://127.0.0.1:9", &[]), "can't be read"),
        (&["mark", "x"], job("http://127.0.0.1:9", &[("SPANHOOK_TOKEN", "a b")]), "SPANHOOK_TOKEN"),
    ] {
        let output = spanhook(&[&["event"], arguments].concat(), &vars).await;
        let error = text(&output.stderr);
        assert!(output.status.success() && error.lines().count() == 1, "{error}");
        assert!(error.contains(says), "{error}");
    }
}

/// A file of the recorded statistics.
fn fixture(name: &str) -> PathBuf {
    let folder = PathBuf::from(std::env::var_os("SPANHOOK_FIXTURES").unwrap());
    folder.join("bundlers").join(name)
}

async fn stats(file: &Path, arguments: &[&str]) -> Value {
    let arguments = [&["stats", file.to_str().unwrap()], arguments].concat();
    let request = sent(&arguments, &[]).await;
    assert!(!request.batch().traces.is_empty());
    event_of(&request, "webpack_build_stats")
}

#[tokio::test]
#[ignore = "needs SPANHOOK_FIXTURES"]
async fn recorded_statistics_of_every_bundler_are_understood_without_a_word_on_the_format() {
    for (name, bundler, metrics) in [
        ("webpack-5.112.2-cli-json-stats.json", "webpack 5.112.2", (195, 4432, 3, 2)),
        ("webpack-5.112.2-minimal-toJson.json", "webpack 5.112.2", (196, 2891, 2, 2)),
        ("rspack-2.3.2-minimal-toJson.json", "rspack 2.3.2", (19, 2759, 2, 2)),
        ("webpack-stats-plugin-1.1.3.json", "webpack 5.112.2", (40, 2891, 1, 2)),
        ("vite-8.3.8-rollup-plugin-webpack-stats-3.1.3.json", "vite ", (40, 685, 3, 3)),
        ("esbuild-0.28.2-metafile.json", "esbuild ", (40, 497, 3, 3)),
    ] {
        let file = fixture(name);
        let duration = if metrics.0 == 40 { &["--duration-ms", "40"][..] } else { &[] };
        let json = stats(&file, duration).await;
        let version = json["bundler_version"].as_str().unwrap_or_default();
        assert_eq!(format!("{} {version}", json["bundler"].as_str().unwrap()), bundler);
        let number = |name: &str| json["metrics"][name].as_u64().unwrap();
        let found = (
            number("compile_time_ms"),
            number("total_asset_size_bytes"),
            number("asset_count"),
            number("chunk_count"),
        );
        assert_eq!(found, metrics, "{name}");
        // Files that were made without modules can't tell whose they are; the others hold own code only.
        let packages = |it: &Value| it["packages"].as_array().map(|it| it[0]["name"].clone());
        let told = json["details"]["chunks"].as_array().unwrap().iter().find_map(packages);
        let without = name.contains("minimal") || name.contains("stats-plugin-1");
        assert_eq!(told, (!without).then(|| json!("(own)")), "{name}");
    }
}

#[tokio::test]
#[ignore = "needs SPANHOOK_FIXTURES"]
async fn a_failed_build_is_sent_without_sizes() {
    let file = fixture("webpack-5.112.2-minimal-FAILED-build.json");
    let json = stats(&file, &[]).await;
    assert_eq!((&json["job_status"], &json["errors_count"]), (&json!("failed"), &json!(1)));
    assert_eq!(json["metrics"], json!({ "compile_time_ms": 122 }));
    assert_eq!(json["details"], json!({ "largest_assets": [], "chunks": [] }));
}

#[tokio::test]
async fn the_sizes_of_a_vite_manifest_are_those_of_the_files_beside_it() {
    let output = TempDir::new().unwrap();
    let folder = output.path().join(".vite");
    std::fs::create_dir(&folder).unwrap();
    let manifest = folder.join("manifest.json");
    let entries = json!({
        "index.html": {
            "file": "assets/index-1.js", "name": "index", "src": "index.html", "isEntry": true,
            "imports": ["_shared.js"], "dynamicImports": ["lazy.js"], "css": ["assets/i.css"],
        },
        "_shared.js": { "file": "assets/shared-2.js", "name": "shared" },
        "lazy.js": { "file": "assets/lazy-3.js", "name": "lazy", "imports": ["_shared.js"] },
        "logo.svg": { "file": "assets/logo.svg", "src": "logo.svg" },
    });
    std::fs::write(&manifest, entries.to_string()).unwrap();
    std::fs::create_dir(output.path().join("assets")).unwrap();
    let files = [
        ("index-1.js", 100),
        ("i.css", 20),
        ("shared-2.js", 50),
        ("lazy-3.js", 10),
        ("logo.svg", 7),
        ("index-1.js.map", 1000),
    ];
    for (name, size) in files {
        std::fs::write(output.path().join("assets").join(name), "x".repeat(size)).unwrap();
    }
    let json = stats(&manifest, &["--duration-ms", "12.6", "--name", "client"]).await;
    assert_eq!(json["name"], "client");
    assert_eq!(
        json["metrics"],
        json!({
            "compile_time_ms": 13, "total_asset_size_bytes": 187, "asset_count": 5,
            "chunk_count": 3, "source_map_size_bytes": 1000,
        })
    );
    let chunks = &json["details"]["chunks"];
    assert_eq!(
        chunks[0],
        json!({
            "names": ["index"], "files": ["assets/index-1.js", "assets/i.css"], "size": 100,
            "entry": true, "initial": true,
        })
    );
    assert_eq!((&chunks[1]["initial"], &chunks[2]["initial"]), (&json!(true), &json!(false)));

    std::fs::remove_file(output.path().join("assets/lazy-3.js")).unwrap();
    let arguments = ["stats", manifest.to_str().unwrap(), "--duration-ms", "1"];
    let error = text(&spanhook(&arguments, &job("http://127.0.0.1:9", &[])).await.stderr);
    assert!(error.contains("lazy-3.js of the manifest is not in its folder"), "{error}");
}

#[tokio::test]
async fn every_configuration_of_a_multi_compiler_is_a_build() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("stats.json");
    let child = |name: &str| json!({ "name": name, "time": 5, "assets": [], "chunks": [] });
    let all =
        json!({ "version": "5.1.0", "errorsCount": 0, "children": [child("web"), child("ssr")] });
    std::fs::write(&file, all.to_string()).unwrap();
    let request = sent(&["stats", file.to_str().unwrap()], &[]).await;
    let json = request.json();
    assert_eq!((&json[0]["name"], &json[1]["name"]), (&json!("web"), &json!("ssr")));
    assert_eq!(json[1]["bundler_version"], "5.1.0");
    assert_eq!(request.batch().traces[0].span_count(), 2);
}

#[tokio::test]
async fn statistics_that_can_not_be_used_are_told() {
    let folder = TempDir::new().unwrap();
    for (content, arguments, says) in [
        ("{\"assets\": [", &[][..], "was it written completely?"),
        ("{}", &[], "holds no statistics"),
        ("{\"assets\": []}", &[], "give --duration-ms MILLISECONDS"),
        ("{\"outputs\": {}}", &["--format", "webpack"], "does not look like webpack's"),
    ] {
        let file = folder.path().join("stats.json");
        std::fs::write(&file, content).unwrap();
        let arguments = [&["stats", file.to_str().unwrap()], arguments].concat();
        let output = spanhook(&arguments, &job("http://127.0.0.1:9", &[])).await;
        let error = text(&output.stderr);
        assert!(output.status.success() && error.contains(says), "{error}");
    }
}

/// The most memory that a process had, in KiB.
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_statistics_are_read_in_little_memory() {
    // `SPANHOOK_STATS_MB=200` for the size that the largest apps have.
    let wanted = std::env::var_os("SPANHOOK_STATS_MB").and_then(|it| it.to_str()?.parse().ok());
    let wanted: usize = wanted.unwrap_or(60) * 1024 * 1024;
    // The answer is held back until the memory was read.
    let (release, until) = std::sync::mpsc::channel::<()>();
    let until = Mutex::new(until);
    let receiver = Receiver::start(move |_, _| {
        tokio::task::block_in_place(|| until.lock().unwrap().recv().unwrap());
        StatusCode::ACCEPTED.into_response()
    })
    .await;
    let mut child = command(&["stats", "-", "--strict"], &job(&receiver.url, &[]));
    let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let assets: Vec<_> =
        (0..2000).map(|it| json!({ "name": format!("{it}.js"), "size": it })).collect();
    let head =
        format!("{{\"version\":\"5\",\"time\":9,\"assets\":{},\"modules\":[0", json!(assets));
    input.write_all(head.as_bytes()).await.unwrap();
    let module = json!({
        "type": "module", "identifier": "/app/node_modules/x/".repeat(9), "chunks": ["main"],
        "name": "./node_modules/x/index.js", "size": 3,
        "reasons": vec![json!({ "type": "harmony import", "userRequest": "./x" }); 40],
        "source": "export default 1;\n".repeat(500),
    });
    let module = format!(",{module}").repeat(100);
    let mut written = 0;
    while written < wanted {
        input.write_all(module.as_bytes()).await.unwrap();
        written += module.len();
    }
    let chunk = json!({ "id": "main", "names": ["main"], "files": ["1.js"], "size": 3 });
    input.write_all(format!("],\"chunks\":[{chunk}]}}").as_bytes()).await.unwrap();
    drop(input);
    let arrived = || !receiver.requests().is_empty();
    support::wait_until(arrived, || "no event arrived".to_owned()).await;
    let peak = peak(child.id().unwrap());
    release.send(()).unwrap();
    assert!(child.wait().await.unwrap().success());
    let json = receiver.only().json();
    assert_eq!(json["metrics"]["asset_count"], 2000);
    assert_eq!(json["details"]["largest_assets"][0]["size"], 1999);
    assert_eq!(json["details"]["chunks"][0]["packages"][0]["name"], "x");
    let _ = writeln!(std::io::stderr(), "{written} bytes of modules, peak {peak} KiB");
    assert!(peak < 40 * 1024, "{peak} KiB");
}

/// A job whose spans go to a receiver.
fn traced<'v>(receiver: &'v Receiver, more: &[(&'v str, &'v str)]) -> Vec<(&'v str, &'v str)> {
    let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*receiver.url)];
    [JOB.as_slice(), &endpoint, more].concat()
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    let value = span.attributes.iter().find(|it| it.key == key)?.value.clone()?.value?;
    Some(match value {
        any_value::Value::StringValue(text) => text.into(),
        any_value::Value::IntValue(number) => number.into(),
        other => panic!("{other:?}"),
    })
}

#[tokio::test]
async fn a_command_is_a_span_of_its_job_and_knows_its_own() {
    let receiver = Receiver::accepting().await;
    let script = "echo $TRACEPARENT; echo problem >&2; exit 3";
    let arguments = ["exec", "--name", "unit tests", "--", "/bin/sh", "-c", script];
    let output = spanhook(&arguments, &traced(&receiver, &[])).await;
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(3), "problem\n".to_owned()));
    let request = receiver.only();
    assert_eq!(request.uri.path(), "/v1/traces");
    let [span] = &*request.spans() else { panic!("one span") };
    let hex = |bytes: &[u8]| bytes.iter().map(|it| format!("{it:02x}")).collect::<String>();
    assert_eq!(span.name, "unit tests");
    assert_eq!((&*hex(&span.trace_id), &*hex(&span.parent_span_id)), JOB_IDS);
    let own = format!("00-{}-{}-01\n", JOB_IDS.0, hex(&span.span_id));
    assert_eq!(text(&output.stdout), own, "the command got its own span");
    assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    assert_eq!(span.status.as_ref().unwrap().code(), SpanStatus::Error);
    assert_eq!(attribute(span, "process.exit.code"), Some(json!(3)));
    assert_eq!(attribute(span, "error.type"), Some(json!("3")));
    assert_eq!(attribute(span, "process.command"), Some(json!("sh")));
    assert!(!format!("{span:?}").contains("echo"), "arguments may hold secrets");
}

/// With the proof that its events have, and so without a route to a Collector.
#[tokio::test]
async fn a_command_of_a_job_that_knows_only_spanhook_is_a_span_all_the_same() {
    for (proof, signed) in
        [(("SPANHOOK_TOKEN", TOKEN), false), (("SPANHOOK_SIGNING_KEY", KEY), true)]
    {
        let receiver = Receiver::accepting().await;
        let endpoint = format!("{}/ci/build-events", receiver.url);
        let vars = [JOB.as_slice(), &[("SPANHOOK_ENDPOINT", &endpoint), proof]].concat();
        let output = spanhook(&["exec", "--", "true"], &vars).await;
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let request = receiver.only();
        assert_eq!(request.uri.path(), "/ci/v1/traces");
        assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        assert_eq!(request.is_signed(), signed);
        if !signed {
            assert_eq!(request.header("authorization"), Some(&*format!("Bearer {TOKEN}")));
        }
        assert_eq!(request.spans().len(), 1);
    }
    // What it is refused for is told in our own words, and the exit code is the command's.
    let refusing = Receiver::start(|_, _| (StatusCode::FORBIDDEN, TOKEN).into_response()).await;
    let vars = [("SPANHOOK_ENDPOINT", &*refusing.url), ("SPANHOOK_TOKEN", TOKEN)];
    let vars = [JOB.as_slice(), &vars].concat();
    let output = spanhook(&["exec", "--", "sh", "-c", "exit 5"], &vars).await;
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(5));
    assert!(error.contains("answered 403; is TRACEPARENT of this run"), "{error}");
    assert!(!error.contains(TOKEN), "{error}");
}

/// By its check run where a step told it, else its run's attempt; by the action's context above all.
#[tokio::test]
async fn a_command_of_a_github_job_finds_its_place_by_itself() {
    let job = [
        ("CI", "true"),
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SERVER_URL", "https://GHES.example.com:8443"),
        ("GITHUB_RUN_ID", "9"),
        ("GITHUB_RUN_ATTEMPT", "1"),
        ("GITHUB_REPOSITORY", "acme/shop"),
    ];
    let trace = "8eaf523f729893250dbe6f0dd5f29dae";
    for (more, expected) in [
        (&[][..], (trace, "70aeae5a67538167")),
        (&[("SPANHOOK_JOB_ID", "")], (trace, "70aeae5a67538167")),
        (&[("SPANHOOK_JOB_ID", "7")], (trace, "759db45f9f539b04")),
        (&[("JOB_CHECK_RUN_ID", "7")], (trace, "759db45f9f539b04")),
        (&[("TRACEPARENT", PARENT), ("SPANHOOK_JOB_ID", "7")], (&PARENT[3..35], &PARENT[36..52])),
    ] {
        let receiver = Receiver::accepting().await;
        let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*receiver.url)];
        let output = spanhook(&["exec", "--", "true"], &[&job[..], &endpoint, more].concat()).await;
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let [span] = &*receiver.only().spans() else { panic!("one span") };
        let hex = |bytes: &[u8]| bytes.iter().map(|it| format!("{it:02x}")).collect::<String>();
        assert_eq!((&*hex(&span.trace_id), &*hex(&span.parent_span_id)), expected, "{more:?}");
    }
}

#[tokio::test]
async fn a_command_that_succeeds_hangs_under_the_given_parent() {
    let receiver = Receiver::accepting().await;
    let vars = traced(&receiver, &[("TRACEPARENT", PARENT)]);
    let mut child = command(&["exec", "--", "cat"], &vars);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through").await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "through".to_owned()));
    let [span] = &*receiver.only().spans() else { panic!("one span") };
    assert_eq!(span.name, "cat");
    assert_eq!(span.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(span.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(span.status.as_ref().map_or(0, |it| it.code), 0);
    assert_eq!(attribute(span, "error.type"), None);
}

#[tokio::test]
async fn a_run_that_is_left_out_exports_nothing() {
    let receiver = Receiver::accepting().await;
    let parent = PARENT.replace("-01", "-00");
    let vars = traced(&receiver, &[("TRACEPARENT", &parent)]);
    let output = spanhook(&["exec", "--", "sh", "-c", "echo $TRACEPARENT"], &vars).await;
    assert!(text(&output.stdout).starts_with(&PARENT[..36]), "{output:?}");
    assert!(text(&output.stdout).ends_with("-00\n"), "{output:?}");
    assert!(receiver.requests().is_empty() && output.stderr.is_empty());
}

#[tokio::test]
async fn signals_reach_the_command_and_its_end_is_told_as_a_shell_does() {
    use rustix::process::{Pid, Signal, kill_process};
    for (signal, script, code) in [
        (Signal::TERM, "echo up; sleep 60 & wait", 128 + 15),
        (Signal::TERM, "trap 'exit 7' TERM; echo up; sleep 60 & wait", 7),
        (Signal::INT, "trap 'exit 8' INT; echo up; sleep 60 & wait", 8),
    ] {
        let receiver = Receiver::accepting().await;
        let mut child = command(&["exec", "--", "sh", "-c", script], &traced(&receiver, &[]));
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("up"));
        let id = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(code), "{script}");
        let [span] = &*receiver.only().spans() else { panic!("one span") };
        assert_eq!(attribute(span, "process.exit.code"), Some(json!(code)));
    }
}

#[tokio::test]
async fn a_command_that_can_not_be_started_is_127_and_a_span() {
    let receiver = Receiver::accepting().await;
    let output = spanhook(&["exec", "--", "no-such-program"], &traced(&receiver, &[])).await;
    assert_eq!(output.status.code(), Some(127));
    let error = text(&output.stderr);
    assert!(error.contains("no-such-program can't be started") && error.lines().count() == 1);
    let [span] = &*receiver.only().spans() else { panic!("one span") };
    assert_eq!(attribute(span, "error.type"), Some(json!("127")));
}

#[tokio::test]
async fn a_receiver_of_spans_that_is_no_use_leaves_the_exit_code_alone() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let refusing = Receiver::start(|_, _| (StatusCode::BAD_REQUEST, TOKEN).into_response()).await;
    let headers = format!("authorization=Bearer%20{TOKEN}");
    for endpoint in ["", "rubbish", &silent, &refusing.url] {
        let begun = Instant::now();
        let vars = [
            ("CI", "true"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
            ("OTEL_EXPORTER_OTLP_HEADERS", &headers),
        ];
        let output = spanhook(&["exec", "--", "sh", "-c", "exit 5"], &vars).await;
        assert!(begun.elapsed() < Duration::from_millis(3500), "{:?}", begun.elapsed());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{error}");
        assert!(error.starts_with("spanhook: span not exported: "), "{error}");
        assert!(error.lines().count() == 1 && error.contains("OTEL_EXPORTER_OTLP"), "{error}");
    }
}

#[tokio::test]
async fn a_laptop_without_a_receiver_of_spans_hears_nothing_of_them() {
    let output = spanhook(&["exec", "--", "sh", "-c", "exit 5"], &[]).await;
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(5), String::new()));
}

#[tokio::test]
#[ignore = "needs jq, openssl and curl"]
async fn the_script_of_the_guide_sends_what_the_endpoint_takes() {
    let guide = include_str!("../../docs/senders.md");
    let script = guide.split("```sh\n# send-build-event.sh").nth(1).unwrap();
    let script = script.split("```").next().unwrap();
    let receiver = Receiver::accepting().await;
    let folder = TempDir::new().unwrap();
    let mut sh = Command::new("sh");
    sh.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    sh.current_dir(folder.path()).envs(job(&receiver.url, &[]));
    let output = sh.args(["-c", script, "sh", "failed", "61.5"]).output().await.unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let request = receiver.only();
    assert!(request.is_signed(), "{:?}", request.headers);
    let json = event_of(&request, "ci_build_metadata");
    assert_eq!(json["job_status"], "failed");
    assert_eq!(json["metrics"]["duration_seconds"], 61.5);
}
