//! The way of one case: relays, `spanhook serve` and a Collector; and beside it what arrives when
//! nothing goes wrong.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Value, json};
use spanhook_core::{
    delivery::{Delivery, Outcome},
    message::{Content, read},
    provider::Provider,
    rules::ProjectRules,
    settings::Settings,
};
use spanhook_tests::{binary, collector::Collector, free_port, parts_alone};
use tempfile::TempDir;

use crate::apiserver::{ApiServer, RELAY};

pub(crate) const KEY: &str = "whsec_cmVsYXktcmVsYXktcmVsYXktcmVsYXktcmVsYXk=";

const SOURCES: (&str, &str) = ("LIGHTHOUSE_SOURCES", "objects");

/// A process that the test ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One namespace and cluster name, which are the same, and all that its spans pass.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) collector: Collector,
    /// The relays' files, and what `serve` keeps.
    folder: TempDir,
    port: u16,
    serve: Option<Process>,
}

impl Way {
    pub(crate) async fn start(server: &ApiServer, name: &'static str) -> Self {
        server.namespace(name).await;
        let collector = Collector::start(&parts_alone()).await;
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let mut way = Self { name, collector, folder, port, serve: None };
        way.start_serve().await;
        way
    }

    /// Starts `spanhook serve`, again with the same data at the same address.
    pub(crate) async fn start_serve(&mut self) {
        let process = Command::new(binary("spanhook"))
            .env_clear()
            .args(["serve", "--listen", &format!("127.0.0.1:{}", self.port), "--data"])
            .arg(self.folder.path().join("data"))
            .env("KUBERNETES_SIGNING_KEY", KEY)
            .env(SOURCES.0, SOURCES.1)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &self.collector.http)
            .env("LOG_LEVEL", "off")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.serve = Some(Process(process));
        let health = format!("{}/health", self.url());
        until("serve listens", async || reqwest::get(&health).await.is_ok()).await;
    }

    /// SIGKILL.
    pub(crate) fn kill_serve(&mut self) {
        self.serve = None;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What a relay of this case is started with.
    pub(crate) fn options(&self) -> [String; 4] {
        let option = |name: &str, value: &str| format!("--{name}={value}");
        [
            option("endpoint", &self.url()),
            option("cluster", self.name),
            option("namespace", self.name),
            option("batch-wait", "50ms"),
        ]
    }

    /// A relay that has read all there is.
    pub(crate) async fn relay(&self, server: &ApiServer) -> Relay {
        self.relay_at(server.kubeconfig(RELAY, server.port())).await
    }

    /// The same with a kubeconfig.
    pub(crate) async fn relay_at(&self, kubeconfig: Value) -> Relay {
        let relay = Relay::start(self, &kubeconfig);
        relay
            .until("has listed all", async || {
                reqwest::get(relay.url("/readyz")).await.is_ok_and(|it| it.status() == 200)
            })
            .await;
        relay
    }

    /// Waits until spans of these names arrived.
    pub(crate) async fn arrived(&self, names: &[&str]) {
        let found = || self.collector.spans().into_iter().map(|(_, it)| it["name"].clone());
        until(&format!("{names:?}"), async || {
            let found: Vec<_> = found().collect();
            names.iter().all(|name| found.iter().any(|it| it == name))
        })
        .await;
    }

    /// Waits until everything arrived, and checks that nothing is missing or differs from what
    /// spanhook makes of the objects that the API server has now, and of those that were deleted.
    /// Gives how often each span came.
    pub(crate) async fn is_whole(&self, server: &ApiServer, deleted: &[Value]) -> Vec<usize> {
        let undisturbed = Collector::start(&parts_alone()).await;
        let mut objects = server.objects(self.name).await;
        objects.extend(deleted.iter().cloned());
        let count = post(&undisturbed, &self.batch(&objects, deleted)).await;
        until("the undisturbed spans", async || undisturbed.span_count() == count).await;
        let expected = texts(&undisturbed);
        assert_eq!(expected.len(), count);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let found = texts(&self.collector);
            let odd: Vec<_> = found.keys().filter(|it| !expected.contains_key(*it)).collect();
            assert!(odd.is_empty(), "unexpected, or not as expected: {}", odd[0]);
            let missing: Vec<_> = expected.keys().filter(|it| !found.contains_key(*it)).collect();
            if missing.is_empty() {
                return found.into_values().collect();
            }
            assert!(Instant::now() < deadline, "{} are missing: {}", missing.len(), missing[0]);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn batch(&self, objects: &[Value], deleted: &[Value]) -> Value {
        let uid = |it: &Value| it["metadata"]["uid"].clone();
        let items = objects.iter().map(|object| {
            let change = if deleted.contains(object) { "DELETED" } else { "ADDED" };
            let of = &object["involvedObject"]["uid"];
            let pod = objects.iter().find(|it| uid(it) == *of);
            json!({"type": change, "observed_at": Timestamp::now(), "object": object, "pod": pod})
        });
        json!({"cluster": self.name, "items": items.collect::<Vec<_>>()})
    }
}

/// Posts what spanhook makes of a batch straight to a Collector. Gives how many spans that is.
async fn post(collector: &Collector, batch: &Value) -> usize {
    let vars = [(SOURCES.0.to_owned(), SOURCES.1.to_owned())].into();
    let settings = Settings::parse(&vars).unwrap();
    let (headers, body) = (HeaderMap::new(), batch.to_string());
    let delivery = Delivery { headers: &headers, body: body.as_bytes() };
    let outcome = delivery.process(Provider::Kubernetes, &settings, &ProjectRules::default());
    let Outcome::Accepted(accepted) = outcome else { panic!("{outcome:?}") };
    for message in &accepted.messages {
        let Content::Otlp(_, spans) = read(&message.body, &message.attributes).unwrap() else {
            panic!("{message:?}")
        };
        let request = reqwest::Client::new().post(format!("{}/v1/traces", collector.http));
        let request =
            request.header("content-type", "application/x-protobuf").body(spans.into_owned());
        request.send().await.unwrap().error_for_status().unwrap();
    }
    accepted.spans
}

/// Each span whole, and how often it came. When a Pod was deleted before it ended, only who watched
/// knows: where its span ends is left out.
fn texts(collector: &Collector) -> BTreeMap<String, usize> {
    let mut texts = BTreeMap::new();
    for (trace, spans) in collector.traces() {
        for span in spans {
            let unended = span.contains("k8s.pod.status.phase = {\"stringValue\":\"Pending\"}");
            let cut = |line: &str| match line.split_once(" to ") {
                Some((start, _)) if unended && line.starts_with("  from ") => start.to_owned(),
                _ => line.to_owned(),
            };
            let lines: Vec<_> = span.lines().map(cut).collect();
            *texts.entry(format!("trace {trace}\n{}", lines.join("\n"))).or_default() += 1;
        }
    }
    texts
}

/// A process of `spanhook-relay`.
pub(crate) struct Relay {
    process: Process,
    listen: String,
    log: PathBuf,
}

impl Relay {
    fn start(way: &Way, kubeconfig: &Value) -> Self {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let file = |name: &str| way.folder.path().join(format!("relay-{port}.{name}"));
        let (log, config) = (file("log"), file("kubeconfig"));
        std::fs::write(&config, kubeconfig.to_string()).unwrap();
        let process = Command::new(binary("spanhook-relay"))
            .env_clear()
            .args(way.options())
            .arg(format!("--listen={listen}"))
            .env("KUBECONFIG", config)
            .env("KUBERNETES_SIGNING_KEY", KEY)
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { process: Process(process), listen, log }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listen)
    }

    /// Waits until its metrics have a line that begins so.
    pub(crate) async fn counts(&self, line: &str) {
        self.until(line, async || {
            let Ok(answer) = reqwest::get(self.url("/metrics")).await else { return false };
            answer.text().await.is_ok_and(|it| it.lines().any(|it| it.starts_with(line)))
        })
        .await;
    }

    async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        wait(condition, || format!("{what}: {}", self.log())).await;
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// SIGTERM: it sends what it has.
    pub(crate) fn stop(mut self) {
        // The shell's own: not every system has it as a program.
        let kill = format!("kill -TERM {}", self.process.0.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        assert!(self.process.0.wait().unwrap().success());
    }
}

pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    wait(condition, || what.to_owned()).await;
}

async fn wait(condition: impl AsyncFn() -> bool, otherwise: impl Fn() -> String) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "did not happen: {}", otherwise());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
