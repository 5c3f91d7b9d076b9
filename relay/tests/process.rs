//! The binary, as a Pod starts and ends it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use support::{
    Cluster, KEY, Sink, choose_provider,
    objects::{SECRET, event, pod, run},
    until,
};

const EMPTY: [&str; 7] = [
    "KUBERNETES_CLUSTER",
    "KUBERNETES_NAMESPACES",
    "KUBERNETES_SIGNING_KEY_FILE",
    "RELAY_BACKFILL",
    "RELAY_DELIVERIES",
    "RELAY_FLUSH",
    "RELAY_LISTEN",
];

fn relay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanhook-relay"));
    // Nothing of the machine that the test runs on.
    command.env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

#[tokio::test]
async fn on_sigterm_the_process_sends_what_it_has_and_ends_well() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    choose_provider();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": cluster.url()}}],
        "users": [{"name": "u", "user": {"token": SECRET}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    cluster.forbid("TaskRun");
    cluster.put(&pod("pod", "Succeeded"));
    cluster.put(&event("pod", "Pulled"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let process = relay()
        .env("KUBECONFIG", &kubeconfig)
        .env("KUBERNETES_SIGNING_KEY", KEY)
        .env("SPANHOOK_ENDPOINT", sink.url())
        // As a chart writes what has no value.
        .envs(EMPTY.map(|it| (it, "")))
        .env("LOG_LEVEL", "debug")
        .arg(format!("--listen=127.0.0.1:{port}"))
        .args(["--backfill=87600h", "--batch-wait=1h"])
        .spawn()
        .unwrap();
    let asked = || ["Pod", "Event", "LighthouseJob"].map(|it| cluster.asked(it, "watch"));
    until("it watches", || asked().iter().all(|it| *it > 0)).await;
    cluster.put(&run("PipelineRun", "run", true));
    let metrics = format!("http://127.0.0.1:{port}/metrics");
    while !reqwest::get(&metrics).await.unwrap().text().await.unwrap().contains("queued_items 3") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let pid = process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let output = tokio::task::spawn_blocking(|| process.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty());
    until("all", || sink.set().len() == 3).await;
    let lines = lines(&output);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(lines.iter().any(|it| it["message"] == "the relay has started"), "{text}");
    assert_eq!(text.matches("may not get, list and watch").count(), 1, "{text}");
    assert!(!text.contains(SECRET) && !text.contains(KEY), "{text}");
}

#[test]
fn what_is_missing_is_told_in_one_line() {
    let mut nowhere = relay();
    nowhere.args(["--endpoint=http://127.0.0.1:1"]).env("KUBECONFIG", "/nowhere");
    let output = nowhere.output().unwrap();
    assert!(!output.status.success());
    let lines = lines(&output);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0]["message"].as_str().unwrap().contains("set KUBECONFIG"), "{lines:?}");
    let output = relay().env("SPANHOOK_ENDPOINT", "").output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("--endpoint <URL>"));
}
