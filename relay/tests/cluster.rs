//! A relay between a cluster and a receiver that fail in every way that both do.

mod support;

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use support::{
    Cluster, Sink, get,
    objects::{SECRET, activity, event, lighthouse_job, pod, run},
    ready, relay, relay_with, sorted, until,
};

/// The set as [`Sink::set`] writes it.
fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(ToOwned::to_owned).collect()
}

/// One run of each kind from its beginning to its end.
fn begin(cluster: &Cluster) {
    cluster.put(&lighthouse_job("job", false));
    cluster.put(&run("PipelineRun", "run", false));
    cluster.put(&run("TaskRun", "task", false));
    cluster.put(&pod("pod", "Pending"));
    cluster.put(&event("pod", "Scheduled"));
    cluster.put(&event("pod", "Pulled"));
    cluster.put(&event("pod", "Started"));
    cluster.put(&event("pod-of-a-stranger", "Pulled"));
}

fn finish(cluster: &Cluster) {
    cluster.put(&pod("pod", "Succeeded"));
    cluster.put(&run("TaskRun", "task", true));
    cluster.put(&run("CustomRun", "approval", true));
    cluster.put(&run("PipelineRun", "run", true));
    cluster.put(&lighthouse_job("job", true));
    cluster.put(&activity("activity", "Succeeded"));
}

fn all() -> BTreeSet<String> {
    set([
        "CustomRun uid-approval",
        "Event uid-pod-Pulled",
        "Event uid-pod-Scheduled",
        "LighthouseJob uid-job",
        "PipelineActivity uid-activity",
        "PipelineRun uid-run",
        "Pod uid-pod",
        "TaskRun uid-task",
    ])
}

#[tokio::test]
async fn what_ends_is_sent_once_and_nothing_before() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let relay = relay(&cluster, &sink).await;
    ready(&relay).await;
    begin(&cluster);
    until("Events", || sink.set().len() == 2).await;
    assert_eq!(sink.set(), set(["Event uid-pod-Pulled", "Event uid-pod-Scheduled"]));
    finish(&cluster);
    until("all", || sink.set() == all()).await;
    // What is final changes still, and is deleted.
    let mut labelled = run("TaskRun", "task", true);
    labelled["metadata"]["labels"]["chains.tekton.dev/signed"] = "true".into();
    cluster.put(&labelled);
    cluster.delete(&pod("pod", "Succeeded"));
    cluster.delete(&run("PipelineRun", "run", true));
    cluster.put(&lighthouse_job("last", true));
    until("the last", || sink.set().contains("LighthouseJob uid-last")).await;
    relay.stop().await;
    let counts = sink.counts();
    assert_eq!(counts.len(), all().len() + 1);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

#[tokio::test]
async fn nothing_that_may_be_secret_leaves() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    begin(&cluster);
    finish(&cluster);
    let relay = relay(&cluster, &sink).await;
    until("all", || sink.set() == all()).await;
    relay.stop().await;
    let mut items = sink.items();
    items.sort_by_key(|it| it["object"]["metadata"]["uid"].to_string());
    items.iter_mut().for_each(|it| it["observed_at"] = "[time]".into());
    let text = serde_json::to_string_pretty(&sorted(&items.into())).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn a_relay_that_dies_in_the_middle_loses_nothing() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let first = relay(&cluster, &sink).await;
    ready(&first).await;
    begin(&cluster);
    until("Events", || sink.set().len() == 2).await;
    // As SIGKILL: nothing is flushed.
    drop(first);
    finish(&cluster);
    let second = relay(&cluster, &sink).await;
    until("all", || sink.set() == all()).await;
    second.stop().await;
}

#[tokio::test]
async fn what_ended_long_before_the_start_was_sent_by_another_process() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let mut old = run("TaskRun", "old", true);
    old["status"]["completionTime"] = "2020-01-01T00:00:00Z".into();
    cluster.put(&old);
    let mut recent = run("TaskRun", "recent", true);
    recent["status"]["completionTime"] = json!(jiff::Timestamp::now());
    cluster.put(&recent);
    let relay = relay_with(&cluster, &sink, &["--backfill=1h"]).await;
    until("the recent one", || sink.set() == set(["TaskRun uid-recent"])).await;
    // Nor is it new because it changes.
    old["metadata"]["labels"]["x"] = "y".into();
    cluster.put(&old);
    cluster.put(&lighthouse_job("job", false));
    let mut last = run("TaskRun", "last", true);
    last["status"]["completionTime"] = json!(jiff::Timestamp::now());
    cluster.put(&last);
    until("the last", || sink.set().contains("TaskRun uid-last")).await;
    relay.stop().await;
    assert_eq!(sink.set(), set(["TaskRun uid-recent", "TaskRun uid-last"]));
}

#[tokio::test]
async fn after_410_all_is_listed_again_and_nothing_sent_twice() {
    for by_status in [false, true] {
        let (cluster, sink) = (Cluster::start().await, Sink::start().await);
        if by_status {
            cluster.say_gone_by_status();
        }
        let relay = relay(&cluster, &sink).await;
        ready(&relay).await;
        begin(&cluster);
        until("Events", || sink.set().len() == 2).await;
        let lists = cluster.asked("TaskRun", "list");
        finish(&cluster);
        cluster.expire();
        until("all", || sink.set() == all()).await;
        until("a second list", || cluster.asked("TaskRun", "list") > lists).await;
        let counts = sink.counts();
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
        relay.stop().await;
    }
}

#[tokio::test]
async fn connections_that_break_and_a_server_that_fails_cost_nothing() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let relay = relay(&cluster, &sink).await;
    ready(&relay).await;
    begin(&cluster);
    cluster.drop_watches();
    cluster.fail(9, 500);
    cluster.slow(Duration::from_millis(30));
    finish(&cluster);
    cluster.drop_watches();
    until("all", || sink.set() == all()).await;
    let counts = sink.counts();
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    relay.stop().await;
}

#[tokio::test]
async fn a_kind_that_is_forbidden_does_not_keep_the_others() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    cluster.forbid("TaskRun");
    begin(&cluster);
    finish(&cluster);
    let relay = relay(&cluster, &sink).await;
    ready(&relay).await;
    let mut others = all();
    others.remove("TaskRun uid-task");
    until("the others", || sink.set() == others).await;
    let (_, metrics) = get(&relay, "/metrics").await;
    assert!(metrics.contains(r#"watching{kind="TaskRun",namespace="*"} 0"#), "{metrics}");
    assert!(metrics.contains(r#"kind="TaskRun",namespace="*",reason="forbidden"}"#), "{metrics}");
    // Somebody mends the role.
    cluster.permit("TaskRun");
    until("all", || sink.set() == all()).await;
    // And breaks it while it is watched.
    cluster.forbid("LighthouseJob");
    cluster.put(&run("TaskRun", "last", true));
    until("the last", || sink.set().contains("TaskRun uid-last")).await;
    relay.stop().await;
}

#[tokio::test]
async fn kinds_that_are_installed_later_are_found() {
    let (cluster, sink) = (Cluster::bare().await, Sink::start().await);
    cluster.serve("/api/v1/pods");
    cluster.serve("/api/v1/events");
    let relay = relay(&cluster, &sink).await;
    ready(&relay).await;
    begin(&cluster);
    finish(&cluster);
    // An older Tekton has no v1.
    let old = "/apis/tekton.dev/v1beta1/pipelineruns";
    cluster.put_at(old, &run("PipelineRun", "old", true));
    cluster.serve(old);
    cluster.serve(support::cluster::path_of("LighthouseJob"));
    until("both", || {
        let set = sink.set();
        set.contains("PipelineRun uid-old") && set.contains("LighthouseJob uid-job")
    })
    .await;
    let items = sink.items();
    let old = items.iter().find(|it| it["object"]["kind"] == "PipelineRun").unwrap();
    assert_eq!(old["object"]["apiVersion"], "tekton.dev/v1beta1");
    relay.stop().await;
}

#[tokio::test]
async fn a_pod_that_is_deleted_before_it_ran_is_sent_as_it_was_last() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let relay = relay(&cluster, &sink).await;
    ready(&relay).await;
    let waiting = pod("waiting", "Pending");
    cluster.put(&waiting);
    cluster.delete(&waiting);
    until("the Pod", || sink.set() == set(["-Pod uid-waiting"])).await;
    let sent = &sink.items()[0];
    assert_eq!(sent["object"]["status"]["phase"], "Pending");
    assert_eq!(
        sent["object"]["status"]["containerStatuses"][0]["state"]["waiting"]["reason"],
        "ImagePullBackOff"
    );
    relay.stop().await;
}

#[tokio::test]
async fn a_pod_that_is_deleted_while_nobody_watches_is_missed_from_the_next_list() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let relay = relay(&cluster, &sink).await;
    ready(&relay).await;
    let (lost, kept) = (pod("lost", "Pending"), pod("kept", "Pending"));
    cluster.put(&lost);
    cluster.put(&kept);
    cluster.put(&event("lost", "Pulled"));
    cluster.put(&event("kept", "Pulled"));
    until("both are known", || sink.set().len() == 2).await;
    // No request is answered until it is gone, and nobody remembers that it was there.
    cluster.fail(1000, 500);
    cluster.delete(&lost);
    cluster.expire();
    cluster.fail(0, 500);
    until("the Pod", || sink.set().contains("-Pod uid-lost")).await;
    cluster.put(&pod("kept", "Succeeded"));
    until("the other", || sink.set().contains("Pod uid-kept")).await;
    assert!(!sink.set().contains("-Pod uid-kept"));
    relay.stop().await;
}

#[tokio::test]
async fn an_event_waits_for_its_pod() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let relay = relay(&cluster, &sink).await;
    ready(&relay).await;
    cluster.put(&event("late", "Pulled"));
    cluster.put(&event("late", "Unhealthy"));
    cluster.put(&lighthouse_job("other", true));
    until("the other", || sink.set() == set(["LighthouseJob uid-other"])).await;
    cluster.put(&pod("late", "Pending"));
    until("the Event", || sink.set().contains("Event uid-late-Pulled")).await;
    let items = sink.items();
    let event = items.iter().find(|it| it["object"]["kind"] == "Event").unwrap();
    assert_eq!(event["pod"]["metadata"]["uid"], "uid-late");
    assert_eq!(event["pod"]["metadata"]["labels"]["event-GUID"], "guid");
    relay.stop().await;
}

#[tokio::test]
async fn two_relays_only_send_the_same_twice() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let (one, two) = (relay(&cluster, &sink).await, relay(&cluster, &sink).await);
    ready(&one).await;
    ready(&two).await;
    begin(&cluster);
    finish(&cluster);
    until("all twice", || sink.items().len() == 2 * all().len()).await;
    assert_eq!(sink.set(), all());
    let items = sink.items();
    for item in &items {
        let same =
            items.iter().filter(|it| it["object"] == item["object"] && it["pod"] == item["pod"]);
        assert_eq!(same.count(), 2, "{item}");
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn only_named_namespaces_are_watched() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let relay = relay_with(&cluster, &sink, &["--namespace=jx,other"]).await;
    ready(&relay).await;
    let mut elsewhere = run("TaskRun", "elsewhere", true);
    elsewhere["metadata"]["namespace"] = "elsewhere".into();
    cluster.put(&elsewhere);
    begin(&cluster);
    finish(&cluster);
    until("all", || sink.set() == all()).await;
    relay.stop().await;
}
