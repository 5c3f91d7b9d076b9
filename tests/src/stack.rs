//! A provider's function and all that is behind it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Parts, collector::Collector, eventually, lambda::Function, mapping::poll, sqs::Sqs};

/// How a provider's deliveries come.
#[derive(Clone, Copy)]
pub struct Hook {
    pub function: &'static str,
    pub path: &'static str,
    /// The variable of its secret, and the secret.
    pub secret: (&'static str, &'static str),
    /// The header that proves a body.
    pub proof: fn(&[u8]) -> (String, String),
}

impl Hook {
    /// Posts a body with a header that may prove it.
    pub async fn post(
        &self,
        function: &Function,
        body: &[u8],
        proof: (String, String),
    ) -> (u16, Value) {
        let (status, answer) = function.request("POST", self.path, &[proof], body).await;
        (status, serde_json::from_str(&answer).unwrap())
    }
}

/// What is behind a provider's functions, which share it.
pub struct Stack {
    pub sqs: Sqs,
    pub collector: Collector,
    pub forwarder: Function,
    hook: Hook,
}

impl Stack {
    pub async fn start(parts: &Parts, hook: Hook) -> Self {
        let sqs = Sqs::start(parts).await;
        let collector = Collector::start(parts).await;
        let mut vars = sqs.vars();
        vars.push(("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.http));
        let forwarder = Function::start(parts, "forwarder", &vars).await;
        Self { sqs, collector, forwarder, hook }
    }

    /// A function with settings of its own.
    pub async fn function(&self, parts: &Parts, settings: &[(&str, &str)]) -> Function {
        let mut vars = self.sqs.vars();
        vars.push(self.hook.secret);
        vars.extend(settings);
        Function::start(parts, self.hook.function, &vars).await
    }

    /// Sends all deliveries to each function, and waits until the Collector wrote their spans. Gives
    /// what each delivery was answered by the last function.
    pub async fn deliver<'d>(
        &self,
        functions: &[&Function],
        deliveries: impl Iterator<Item = &'d Vec<u8>>,
    ) -> Vec<String> {
        let mut spans = self.collector.span_count();
        let mut answers = Vec::new();
        for body in deliveries {
            let mut said = String::new();
            for function in functions {
                let proof = (self.hook.proof)(body);
                let (status, answer) = self.hook.post(function, body, proof).await;
                assert_eq!(status, 202, "{answer}");
                spans += usize::try_from(answer["spans"].as_u64().unwrap_or(0)).unwrap();
                answer["status"].as_str().unwrap().clone_into(&mut said);
            }
            answers.push(said);
        }
        while poll(&self.sqs, &self.forwarder).await.0 > 0 {}
        eventually("writing the spans", async || self.collector.span_count() >= spans).await;
        answers
    }

    /// Every span that was written, and how often.
    #[must_use]
    pub fn written(&self) -> BTreeMap<String, usize> {
        let mut written = BTreeMap::new();
        for text in self.collector.traces().into_values().flatten() {
            *written.entry(text).or_default() += 1;
        }
        written
    }
}
