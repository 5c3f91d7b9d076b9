//! Metrics from webhooks through `serve` to a real Collector.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use spanhook_core::check::sign_hex;
use spanhook_tests::{collector::Collector, eventually, parts};
use support::{SECRET, Serve};

/// Of the deliveries below: a GitLab pipeline's two states and its jobs, and one of each other run.
const POINTS: usize = 14;

/// A sample by its address, and the header that proves it.
fn proved(path: &str) -> (String, (&'static str, String)) {
    let sample = format!("{}/../events/{path}.json", env!("CARGO_MANIFEST_DIR"));
    let body = std::fs::read_to_string(sample).unwrap();
    let signature = sign_hex(body.as_bytes(), SECRET.as_bytes()).unwrap();
    let proof = match path.split('/').next() {
        Some("circleci") => ("circleci-signature", format!("v1={signature}")),
        Some("gitlab") => ("x-gitlab-token", SECRET.to_owned()),
        _ => ("x-hub-signature-256", format!("sha256={signature}")),
    };
    (body, proof)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn the_metrics_of_every_providers_runs_reach_the_collector() {
    let collector = Collector::start(&parts()).await;
    let data = tempfile::tempdir().unwrap();
    let serve = Serve::start(
        data.path(),
        &[
            ("GITHUB_WEBHOOK_SECRET", SECRET),
            ("WEBHOOK_METRICS", "true"),
            ("PROJECT_RULES", r#"{"deny": ["acme/payments"], "share": {"acme/storefront": 0}}"#),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.http),
        ],
    );
    let client = reqwest::Client::new();
    let post = async |path: &str| {
        let (body, (header, proof)) = proved(path);
        let url = format!("{}/{}", serve.url, path.split('/').next().unwrap());
        let answer = client.post(url).header(header, proof).body(body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 202, "{path}");
    };
    for path in [
        "circleci/workflow-completed", // outside the share: metrics alone
        "circleci/workflow-completed-github-app", // denied: nothing
        "circleci/job-completed-lint", // no run in it, and no time in a queue
        "gitlab/pipeline-failed",
        "gitlab/pipeline-skipped",
        "github/workflow-run-failed",
        "github/workflow-job-build",
    ] {
        post(path).await;
    }
    eventually("the metrics", async || collector.points().len() >= POINTS).await;
    insta::assert_snapshot!("of_every_provider", collector.points().join("\n"));

    // The same delivery again is the same points again: a query or a sum has to know.
    let before = collector.points();
    post("github/workflow-run-failed").await;
    eventually("the metrics", async || collector.points().len() > before.len()).await;
    let mut distinct = collector.points();
    distinct.dedup();
    assert_eq!(distinct, before);
}
