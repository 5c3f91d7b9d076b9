//! A relay at a real API server: its lists, watches, permissions and certificates.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use relay::relay::Relay;
use serde_json::json;
use support::{
    Sink,
    apiserver::ApiServer,
    get,
    objects::{SECRET, event, lighthouse_job, pod, run},
    options, paces, ready, until,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS"]
async fn at_a_real_api_server_everything_that_ends_arrives() {
    let (mut server, sink) = (ApiServer::start().await, Sink::start().await);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "jx"}});
    server.create(&namespace).await;
    server.permit("pods", &[""], &["pods", "events"]).await;
    server.permit("runs", &["tekton.dev"], &["pipelineruns", "taskruns", "customruns"]).await;
    server.permit("activities", &["jenkins.io"], &["pipelineactivities"]).await;
    let client = server.client("relay-token").await;
    let relay = Relay::start_with(options(&sink.url(), &[]), client, paces()).await.unwrap();
    ready(&relay).await;
    let (_, metrics) = get(&relay, "/metrics").await;
    assert!(
        metrics.contains(r#"kind="LighthouseJob",namespace="*",reason="forbidden"}"#),
        "{metrics}"
    );
    assert!(metrics.contains(r#"kind="TaskRun",namespace="*",reason="absent"}"#), "{metrics}");
    assert!(metrics.contains(r#"watching{kind="Pod",namespace="*"} 1"#), "{metrics}");

    // Tekton and Lighthouse are installed, and the role is mended.
    server.install("tekton.dev", "PipelineRun", "pipelineruns", &["v1beta1"]).await;
    server.install("tekton.dev", "TaskRun", "taskruns", &["v1", "v1beta1"]).await;
    server.install("lighthouse.jenkins.io", "LighthouseJob", "lighthousejobs", &["v1alpha1"]).await;
    server.permit("jobs", &["lighthouse.jenkins.io"], &["lighthousejobs"]).await;

    let mut expected = BTreeSet::new();
    let mut sent =
        |sign: &str, kind: &str, uid: String| expected.insert(format!("{sign}{kind} {uid}"));
    let mut old = run("PipelineRun", "run", true);
    old["apiVersion"] = "tekton.dev/v1beta1".into();
    sent("", "PipelineRun", server.create(&old).await);
    sent("", "TaskRun", server.create(&run("TaskRun", "task", true)).await);
    sent("", "LighthouseJob", server.create(&lighthouse_job("job", true)).await);
    server.create(&run("TaskRun", "unfinished", false)).await;
    server.create(&lighthouse_job("unfinished", false)).await;

    let waiting = pod("waiting", "Pending");
    let uid = server.create(&waiting).await;
    let mut pulled = event("waiting", "Pulled");
    pulled["involvedObject"]["uid"] = uid.clone().into();
    sent("", "Event", server.create(&pulled).await);
    sent("-", "Pod", uid);
    let finished = pod("finished", "Pending");
    sent("", "Pod", server.create(&finished).await);
    server.end(&pod("finished", "Succeeded")).await;
    server.delete(&waiting).await;
    until("all", || sink.set() == expected).await;

    // The API server is killed and comes back; what ends then is seen.
    server.restart().await;
    server.end(&run("TaskRun", "unfinished", true)).await;
    until("one more", || sink.set().len() == expected.len() + 1).await;

    // And by a relay that was not there.
    relay.stop().await;
    server.end(&lighthouse_job("unfinished", true)).await;
    let client = server.client("relay-token").await;
    let relay = Relay::start_with(options(&sink.url(), &[]), client, paces()).await.unwrap();
    until("the last", || sink.set().len() == expected.len() + 2).await;
    relay.stop().await;
    assert!(!json!(sink.items()).to_string().contains(SECRET));
}
