//! A running `spanhook serve`, a Collector that misbehaves as told, and deliveries.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared by test binaries, each of which uses its own part"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use spanhook_core::check::sign_hex;
use tokio::time::{Instant, sleep};

pub const SECRET: &str = "a-secret-of-the-tests";

/// A process that ends with the test.
pub struct Serve {
    child: Child,
    pub url: String,
}

impl Serve {
    /// Starts on a free port and waits until it listens.
    pub fn start(data: &Path, vars: &[(&str, &str)]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_spanhook")), data, vars)
    }

    /// The same with a limit of open files.
    pub fn with_files(files: u32, data: &Path, vars: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sh");
        let limited = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_spanhook")]);
        Self::start_by(command, data, vars)
    }

    /// The same by a command that ends in running `spanhook`.
    pub fn start_by(mut command: Command, data: &Path, vars: &[(&str, &str)]) -> Self {
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .env("CIRCLECI_HOOK_SECRET", SECRET)
            .env("GITLAB_SECRET_TOKEN", SECRET)
            .env("LOG_LEVEL", "off")
            .envs(vars.iter().copied())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        assert!(url.starts_with("http://"), "serve did not start: {line:?}");
        Self { child, url }
    }

    pub fn forwarding_to(data: &Path, collector: &Collector) -> Self {
        Self::start(data, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)])
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// SIGKILL: nothing in the process gets to know.
    pub fn kill(mut self) {
        let _ = self.child.kill(); // It may be dead already.
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the end of the process.
    pub fn terminate(mut self) {
        // The shell's own: not every system has it as a program.
        let kill = format!("kill -TERM {}", self.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }

    pub async fn post(&self, client: &reqwest::Client, body: &str) -> reqwest::Result<u16> {
        let signature = format!("v1={}", sign_hex(body.as_bytes(), SECRET.as_bytes()).unwrap());
        let request = client.post(format!("{}/circleci", self.url)).body(body.to_owned());
        let answer = request.header("circleci-signature", signature).send().await?;
        Ok(answer.status().as_u16())
    }

    /// A number of the status that the page shows.
    pub async fn status(&self, name: &str) -> u64 {
        let url = format!("{}/api/traces", self.url);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["status"][name].as_u64().unwrap()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A job's delivery; `name` tells it from others.
pub fn job(name: &str) -> String {
    let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes());
    serde_json::json!({
        "type": "job-completed",
        "happened_at": "2026-11-02T09:31:00Z",
        "workflow": { "id": id, "name": "build" },
        "job": {
            "id": id, "number": 1, "name": name, "status": "success",
            "started_at": "2026-11-02T09:30:00Z", "stopped_at": "2026-11-02T09:31:00Z",
        },
    })
    .to_string()
}

/// How a Collector answers a request.
#[derive(Clone)]
pub enum Answer {
    Take,
    /// The same after a while; a client that is gone by then has sent nothing.
    TakeAfter(Duration),
    Status(u16),
    RetryAfter(u16, &'static str),
    /// A status with a content type and a body, and nothing is taken.
    Says(u16, &'static str, &'static str),
    /// 200 and a body that never ends.
    Endless,
    /// Takes longer than the client waits.
    Slow(Duration),
    /// Says 200 and breaks off in the middle of the body.
    Cut,
}

type Judge = dyn Fn(usize, &BTreeSet<String>) -> Answer + Send + Sync;

/// Remembers the names of the spans that it took.
pub struct Collector {
    pub url: String,
    pub address: SocketAddr,
    state: Arc<CollectorState>,
    server: tokio::task::JoinHandle<()>,
}

struct CollectorState {
    judge: Box<Judge>,
    requests: Mutex<usize>,
    under_way: AtomicUsize,
    broken_off: AtomicUsize,
    taken: Mutex<BTreeMap<String, usize>>,
}

impl Collector {
    /// Answers as `judge` says of the number of the request and the names of its spans.
    pub async fn start(
        judge: impl Fn(usize, &BTreeSet<String>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), judge).await
    }

    pub async fn start_at(
        address: SocketAddr,
        judge: impl Fn(usize, &BTreeSet<String>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let state = Arc::new(CollectorState {
            judge: Box::new(judge),
            requests: Mutex::default(),
            under_way: AtomicUsize::default(),
            broken_off: AtomicUsize::default(),
            taken: Mutex::default(),
        });
        let router =
            Router::new().route("/v1/traces", post(collect)).with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url: format!("http://{address}"), address, state, server }
    }

    pub fn stop(self) {
        self.server.abort();
    }

    pub fn requests(&self) -> usize {
        *self.state.requests.lock().unwrap()
    }

    /// Requests that were begun and are taken after a while.
    pub fn under_way(&self) -> usize {
        self.state.under_way.load(Ordering::Relaxed)
    }

    /// Requests whose client went away before they were taken.
    pub fn broken_off(&self) -> usize {
        self.state.broken_off.load(Ordering::Relaxed)
    }

    pub fn taken(&self) -> BTreeMap<String, usize> {
        self.state.taken.lock().unwrap().clone()
    }

    /// How often a name was taken.
    pub fn times(&self, name: &str) -> usize {
        self.state.taken.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    /// Waits until all the names were taken.
    pub async fn wait_for(&self, names: &BTreeSet<String>) {
        let missing = || {
            let taken = self.state.taken.lock().unwrap();
            names.iter().filter(|name| !taken.contains_key(*name)).count()
        };
        wait_until(|| missing() == 0, || format!("{} spans are missing", missing())).await;
    }
}

/// Waits for a condition, for a minute at most.
pub async fn wait_until(condition: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let until = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < until, "{}", otherwise());
        sleep(Duration::from_millis(10)).await;
    }
}

fn take(state: &CollectorState, names: Vec<String>) -> Response {
    let mut taken = state.taken.lock().unwrap();
    names.into_iter().for_each(|name| *taken.entry(name).or_default() += 1);
    StatusCode::OK.into_response()
}

/// Counts a request that is waited for, and whether its client goes away.
struct Waiting {
    state: Arc<CollectorState>,
    taken: bool,
}

impl Waiting {
    fn of(state: &Arc<CollectorState>) -> Self {
        state.under_way.fetch_add(1, Ordering::Relaxed);
        Self { state: Arc::clone(state), taken: false }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.state.under_way.fetch_sub(1, Ordering::Relaxed);
        if !self.taken {
            self.state.broken_off.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn collect(
    State(state): State<Arc<CollectorState>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    assert_eq!(headers["content-encoding"], "gzip");
    let mut raw = Vec::new();
    flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut raw).unwrap();
    let request = ExportTraceServiceRequest::decode(raw.as_slice()).unwrap();
    let spans = request.resource_spans.into_iter().flat_map(|it| it.scope_spans);
    let names: Vec<_> = spans.flat_map(|it| it.spans).map(|span| span.name).collect();
    let number = {
        let mut requests = state.requests.lock().unwrap();
        *requests += 1;
        *requests
    };
    match (state.judge)(number, &names.iter().cloned().collect()) {
        Answer::Take => take(&state, names),
        Answer::TakeAfter(pause) => {
            let mut waiting = Waiting::of(&state);
            sleep(pause).await;
            waiting.taken = true;
            take(&state, names)
        }
        Answer::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Answer::RetryAfter(status, after) => {
            (StatusCode::from_u16(status).unwrap(), [("retry-after", after)]).into_response()
        }
        Answer::Says(status, kind, body) => {
            (StatusCode::from_u16(status).unwrap(), [("content-type", kind)], body).into_response()
        }
        Answer::Endless => {
            let spaces = Bytes::from_static(&[b' '; 4096]);
            let endless = futures_util::stream::repeat_with(move || {
                Ok::<_, std::convert::Infallible>(spaces.clone())
            });
            axum::body::Body::from_stream(endless).into_response()
        }
        Answer::Slow(pause) => {
            sleep(pause).await;
            StatusCode::OK.into_response()
        }
        Answer::Cut => {
            let pieces = futures_util::stream::iter([
                Ok(Bytes::from_static(b"half an ans")),
                Err(std::io::Error::other("cut")),
            ]);
            axum::body::Body::from_stream(pieces).into_response()
        }
    }
}
