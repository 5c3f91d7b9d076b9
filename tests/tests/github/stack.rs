//! GitHub's function and all that is behind it.

use std::collections::BTreeMap;

use serde_json::Value;
use spanhook_core::check::sign_hex;
use spanhook_tests::{
    Parts, collector::Collector, eventually, lambda::Function, mapping::poll, sqs::Sqs,
};

/// `parts/collector/githubreceiver.yaml` has it as well.
const SECRET: &str = "hunter2-and-more";
pub(crate) const SIGNATURE: &str = "X-Hub-Signature-256";

pub(crate) fn sign(body: &[u8]) -> String {
    format!("sha256={}", sign_hex(body, SECRET.as_bytes()).unwrap())
}

/// What is behind GitHub's functions, which share it.
pub(crate) struct Stack {
    pub(crate) sqs: Sqs,
    pub(crate) collector: Collector,
    pub(crate) forwarder: Function,
}

impl Stack {
    pub(crate) async fn start(parts: &Parts) -> Self {
        let sqs = Sqs::start(parts).await;
        let collector = Collector::start(parts).await;
        let mut vars = sqs.vars();
        vars.push(("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.http));
        let forwarder = Function::start(parts, "forwarder", &vars).await;
        Self { sqs, collector, forwarder }
    }

    /// A function with settings of its own.
    pub(crate) async fn github(&self, parts: &Parts, settings: &[(&str, &str)]) -> Function {
        let mut vars = self.sqs.vars();
        vars.push(("GITHUB_WEBHOOK_SECRET", SECRET));
        vars.extend(settings);
        Function::start(parts, "github-webhook", &vars).await
    }

    /// Sends all deliveries to each function, and waits until the Collector wrote their spans.
    pub(crate) async fn deliver<'d>(
        &self,
        functions: &[&Function],
        deliveries: impl Iterator<Item = &'d Vec<u8>>,
    ) {
        let mut spans = self.collector.span_count();
        for body in deliveries {
            for function in functions {
                let (status, answer) = post(function, body, &sign(body)).await;
                assert_eq!(status, 202, "{answer}");
                spans += usize::try_from(answer["spans"].as_u64().unwrap_or(0)).unwrap();
            }
        }
        while poll(&self.sqs, &self.forwarder).await.0 > 0 {}
        eventually("writing the spans", async || self.collector.span_count() >= spans).await;
    }

    /// Every span that was written, and how often.
    pub(crate) fn written(&self) -> BTreeMap<String, usize> {
        let mut written = BTreeMap::new();
        for text in self.collector.traces().into_values().flatten() {
            *written.entry(text).or_default() += 1;
        }
        written
    }
}

pub(crate) async fn post(function: &Function, body: &[u8], signature: &str) -> (u16, Value) {
    let headers = [(SIGNATURE.to_owned(), signature.to_owned())];
    let (status, answer) = function.request("POST", "/github", &headers, body).await;
    (status, serde_json::from_str(&answer).unwrap())
}
