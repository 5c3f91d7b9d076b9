//! The real OpenTelemetry Collector, and what it wrote.

use std::{collections::BTreeMap, fmt::Write, path::PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{Parts, eventually, free_port};

pub struct Collector {
    pub http: String,
    pub grpc: String,
    ports: [u16; 3],
    folder: TempDir,
    process: Option<Child>,
    binary: PathBuf,
    arguments: Vec<String>,
}

impl Collector {
    pub async fn start(installed: &Parts) -> Self {
        Self::configured(installed, "config.yaml", &[]).await
    }

    /// With a configuration of `tests/parts/collector`, and further arguments.
    pub async fn configured(installed: &Parts, config: &str, arguments: &[&str]) -> Self {
        let ports = [free_port(), free_port(), free_port()];
        let config = format!("{}/parts/collector/{config}", env!("CARGO_MANIFEST_DIR"));
        let arguments = [&["--config", &config], arguments].concat();
        let mut collector = Self {
            http: format!("http://127.0.0.1:{}", ports[0]),
            grpc: format!("http://127.0.0.1:{}", ports[1]),
            ports,
            folder: TempDir::new().unwrap(),
            process: None,
            binary: installed.parts.join("bin/otelcol"),
            arguments: arguments.into_iter().map(ToOwned::to_owned).collect(),
        };
        collector.restart().await;
        collector
    }

    /// Starts it again on the same addresses.
    pub async fn restart(&mut self) {
        let at = |port: u16| format!("127.0.0.1:{port}");
        let health = at(self.ports[2]);
        let process = Command::new(&self.binary)
            .args(&self.arguments)
            .env("OTLP_HTTP", at(self.ports[0]))
            .env("OTLP_GRPC", at(self.ports[1]))
            .env("HEALTH", &health)
            .env("SPANS_FILE", self.folder.path().join("spans.jsonl"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let url = format!("http://{health}");
        eventually("the Collector", async || {
            reqwest::get(&url).await.is_ok_and(|it| it.status().is_success())
        })
        .await;
    }

    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.unwrap();
        }
    }

    /// All spans that it wrote, by trace: the text of each, in the order of their starts.
    #[must_use]
    pub fn traces(&self) -> BTreeMap<String, Vec<String>> {
        let mut traces: BTreeMap<String, Vec<(u64, String, String)>> = BTreeMap::new();
        for (resource, span) in self.spans() {
            let start = span["startTimeUnixNano"].as_str().unwrap().parse().unwrap();
            let name = span["name"].as_str().unwrap().to_owned();
            let trace = span["traceId"].as_str().unwrap().to_owned();
            let text = describe(&span, &attributes(&resource["attributes"], "    "));
            traces.entry(trace).or_default().push((start, name, text));
        }
        let sorted = |mut spans: Vec<(u64, String, String)>| {
            spans.sort();
            spans.into_iter().map(|(_, _, text)| text).collect()
        };
        traces.into_iter().map(|(id, spans)| (id, sorted(spans))).collect()
    }

    /// All spans that it wrote, as OTLP JSON: the resource of each, and the span.
    #[must_use]
    pub fn spans(&self) -> Vec<(Value, Value)> {
        let mut spans = Vec::new();
        for request in self.written("spans.jsonl") {
            for group in list(&request["resourceSpans"]) {
                for scope in list(&group["scopeSpans"]) {
                    let of_scope = list(&scope["spans"]).cloned();
                    spans.extend(of_scope.map(|span| (group["resource"].clone(), span)));
                }
            }
        }
        spans
    }

    /// The points that it wrote: name, value and attributes of each, sorted.
    #[must_use]
    pub fn points(&self) -> Vec<String> {
        let mut points = Vec::new();
        for request in self.written("spans.jsonl.metrics") {
            for scope in list(&request["resourceMetrics"]).flat_map(|it| list(&it["scopeMetrics"]))
            {
                for metric in list(&scope["metrics"]) {
                    let kinds = [&metric["gauge"], &metric["histogram"]];
                    for point in kinds.iter().flat_map(|it| list(&it["dataPoints"])) {
                        let value =
                            if point["sum"].is_null() { &point["asDouble"] } else { &point["sum"] };
                        let labels = attributes(&point["attributes"], " ").replace('\n', "");
                        points
                            .push(format!("{} {value} {}{labels}", metric["name"], metric["unit"]));
                    }
                }
            }
        }
        points.sort();
        points
    }

    /// The event names of the log records that it wrote, sorted.
    #[must_use]
    pub fn records(&self) -> Vec<String> {
        let mut names = Vec::new();
        for request in self.written("spans.jsonl.logs") {
            for scope in list(&request["resourceLogs"]).flat_map(|it| list(&it["scopeLogs"])) {
                let records = list(&scope["logRecords"]);
                names.extend(
                    records.map(|it| it["eventName"].as_str().unwrap_or_default().to_owned()),
                );
            }
        }
        names.sort();
        names
    }

    /// What is whole in a file: the last line may be half written.
    fn written(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How many spans it wrote.
    #[must_use]
    pub fn span_count(&self) -> usize {
        self.spans().len()
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn describe(span: &Value, resource: &str) -> String {
    let field = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
    let mut text = format!("{} kind {} status {}\n", field("name"), span["kind"], span["status"]);
    let _ = writeln!(text, "  span {} parent {}", field("spanId"), field("parentSpanId"));
    let _ = writeln!(text, "  from {} to {}", field("startTimeUnixNano"), field("endTimeUnixNano"));
    text += &attributes(&span["attributes"], "  ");
    for event in list(&span["events"]) {
        let _ = writeln!(text, "  event {}", event["name"]);
        text += &attributes(&event["attributes"], "    ");
    }
    for link in list(&span["links"]) {
        let _ = writeln!(text, "  link {} {}", link["traceId"], link["spanId"]);
    }
    text + "  on\n" + resource
}

fn attributes(attributes: &Value, indent: &str) -> String {
    list(attributes).fold(String::new(), |mut text, it| {
        let _ = writeln!(text, "{indent}{} = {}", it["key"].as_str().unwrap(), it["value"]);
        text
    })
}
