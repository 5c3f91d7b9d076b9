//! A deployment on this machine, for tests that are not in Rust: the built functions, a real SQS
//! server and an event source mapping, behind one address. It prints the address as JSON and ends
//! when its standard input does.
//!
//! usage: `OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 deployment`; the webhook and build
//! events functions take the variables of this process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a harness: what goes wrong in it is to fail the test"
)]

use std::{collections::BTreeMap, io::Read, sync::Arc, time::Duration};

use serde_json::json;
use spanhook_tests::{front, lambda::Function, mapping::poll, parts, sqs::Sqs};

#[tokio::main]
async fn main() {
    let parts = parts();
    let sqs = Sqs::start(&parts).await;
    let given: Vec<_> = std::env::vars()
        .filter(|(name, _)| {
            [
                "CIRCLECI_",
                "GITLAB_",
                "BUILD_EVENTS_",
                "OIDC_",
                "OTEL_EXPORTER_",
                "ACCESS",
                "PROJECT_",
            ]
            .iter()
            .any(|it| name.starts_with(it))
        })
        .collect();
    let mut vars = sqs.vars();
    vars.extend(given.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let start = async |name| Arc::new(Function::start(&parts, name, &vars).await);
    let functions = BTreeMap::from([
        ("gitlab", start("gitlab-webhook").await),
        ("traceparent", start("traceparent").await),
        ("build-events", start("build-events").await),
    ]);
    let forwarder = start("forwarder").await;
    let address = front::listen(functions).await;
    println!("{}", json!({ "url": format!("http://{address}"), "dead_letters": sqs.dead_letters }));
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let polling = async {
        loop {
            poll(&sqs, &forwarder).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        _ = ended => {}
        () = polling => {}
    }
}
