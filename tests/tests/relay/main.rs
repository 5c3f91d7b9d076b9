//! From the objects of a real API server through `spanhook-relay` and `spanhook serve` to the
//! Collector's file: whatever happens on the way, the same spans arrive.
//!
//! The two programs are those that the workspace's tests have built. Before these tests alone:
//! `cargo build -p spanhook -p spanhook-relay`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod apiserver;
mod run;
mod way;
mod wire;

use std::time::Duration;

use clap::Parser;
use relay::{
    options::Options,
    post::Pace,
    relay::{Paces, Relay},
    watch::WatchPace,
};

use apiserver::{APPRENTICE, ApiServer, RELAY, server};
use run::{End, Run};
use way::{KEY, Way};
use wire::Wire;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS"]
async fn runs_that_end_in_every_way_arrive_whole() {
    let server = server().await.read().await;
    let way = Way::start(&server, "every-end").await;
    let relay = way.relay(&server).await;
    let ends = [End::Succeeded, End::OutOfMemory, End::WithoutImage, End::Evicted];
    let mut deleted = Vec::new();
    for (name, end) in ["one", "two", "three", "four"].into_iter().zip(ends) {
        let run = Run::play(&server, way.name, name, end).await;
        if end == End::WithoutImage {
            server.delete(&run.pod).await;
            deleted.push(run.pod);
        }
    }
    let counts = way.is_whole(&server, &deleted).await;
    relay.stop();
    assert!(counts.len() > 30 && counts.iter().all(|it| *it == 1), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS"]
async fn a_relay_that_is_killed_in_the_middle_of_a_run_costs_no_span() {
    let server = server().await.read().await;
    let way = Way::start(&server, "killed-relay").await;
    let first = way.relay(&server).await;
    Run::play(&server, way.name, "before", End::OutOfMemory).await;
    let mut run = Run::begin(&server, way.name, "during", End::Succeeded).await;
    run.pull(&server).await;
    way.arrived(&["RUN release", "pull step-compile"]).await;
    first.kill();
    run.end_pod(&server).await;
    let second = way.relay(&server).await;
    run.finish(&server).await;
    way.is_whole(&server, &[]).await;
    second.stop();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS"]
async fn an_api_server_that_is_killed_in_the_middle_of_a_run_costs_no_span() {
    let mut server = server().await.write().await;
    let way = Way::start(&server, "killed-server").await;
    let relay = way.relay(&server).await;
    let mut run = Run::begin(&server, way.name, "run", End::Evicted).await;
    run.pull(&server).await;
    way.arrived(&["pull step-compile"]).await;
    server.kill();
    relay.counts(r#"spanhook_relay_watch_errors_total{kind="Pod",namespace="killed-server",reason="failed"}"#).await;
    server.restart().await;
    run.end_pod(&server).await;
    run.finish(&server).await;
    let counts = way.is_whole(&server, &[]).await;
    assert!(counts.iter().all(|it| *it == 1), "{counts:?}");
    // A server that has just started forbids everything for a moment.
    assert!(!relay.log().contains("service account"), "{}", relay.log());
    relay.stop();
}

/// etcd forgets what the relay has not been told, and so does the API server, which has a memory of
/// its own until it starts again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS"]
async fn what_was_compacted_while_the_relay_was_cut_off_is_read_from_a_new_list() {
    let mut server = server().await.write().await;
    let way = Way::start(&server, "compacted").await;
    let mut wire = Wire::to(server.port()).await;
    let relay = way.relay_at(server.kubeconfig(RELAY, wire.port)).await;
    let mut run = Run::begin(&server, way.name, "one", End::Succeeded).await;
    let gone = Run::begin(&server, way.name, "two", End::WithoutImage).await;
    run.pull(&server).await;
    gone.pull(&server).await;
    way.arrived(&["pull step-compile"]).await;
    wire.cut().await;
    run.end_pod(&server).await;
    server.delete(&gone.pod).await;
    run.finish(&server).await;
    gone.finish(&server).await;
    server.compact().await;
    server.kill();
    server.restart().await;
    wire.mend().await;
    for kind in ["LighthouseJob", "PipelineRun", "TaskRun", "Pod"] {
        let expired = format!(
            r#"spanhook_relay_watch_errors_total{{kind="{kind}",namespace="compacted",reason="expired"}}"#
        );
        relay.counts(&expired).await;
    }
    let counts = way.is_whole(&server, &[gone.pod]).await;
    relay.stop();
    assert!(counts.iter().all(|it| *it == 1), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS"]
async fn a_pod_that_is_deleted_while_it_waits_for_its_image_arrives_as_failed() {
    let server = server().await.read().await;
    let way = Way::start(&server, "deleted").await;
    let relay = way.relay(&server).await;
    let mut run = Run::begin(&server, way.name, "run", End::WithoutImage).await;
    run.end_pod(&server).await;
    server.delete(&run.pod).await;
    way.is_whole(&server, &[run.pod.clone()]).await;
    let spans = way.collector.spans();
    let (_, pod) = spans.iter().find(|(_, it)| it["name"] == "pod").unwrap();
    assert_eq!(pod["status"]["message"], "ImagePullBackOff", "{pod}");
    relay.stop();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS"]
async fn two_relays_send_everything_twice_and_nothing_else() {
    let server = server().await.read().await;
    let way = Way::start(&server, "two-relays").await;
    let relays = [way.relay(&server).await, way.relay(&server).await];
    Run::play(&server, way.name, "one", End::Succeeded).await;
    Run::play(&server, way.name, "two", End::OutOfMemory).await;
    way.is_whole(&server, &[]).await;
    for relay in relays {
        relay.stop();
    }
    way::until("all twice", async || way.is_whole(&server, &[]).await.iter().all(|it| *it == 2))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS"]
async fn while_spanhook_is_down_runs_wait_for_it() {
    let server = server().await.read().await;
    let mut way = Way::start(&server, "serve-down").await;
    let relay = way.relay(&server).await;
    let mut run = Run::begin(&server, way.name, "one", End::Succeeded).await;
    run.pull(&server).await;
    way.arrived(&["pull step-compile"]).await;
    way.kill_serve();
    run.end_pod(&server).await;
    run.finish(&server).await;
    Run::play(&server, way.name, "two", End::OutOfMemory).await;
    relay.counts(r#"spanhook_relay_posts_total{status="none"}"#).await;
    way.start_serve().await;
    way.is_whole(&server, &[]).await;
    relay.stop();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS"]
async fn a_kind_that_is_forbidden_arrives_once_it_is_permitted() {
    let server = server().await.read().await;
    let way = Way::start(&server, "forbidden").await;
    server.permit(way.name, "", &["pods", "events"]).await;
    server.permit(way.name, "tekton.dev", &["pipelineruns"]).await;
    server.permit(way.name, "jenkins.io", &["pipelineactivities"]).await;
    server.permit(way.name, "lighthouse.jenkins.io", &["lighthousejobs"]).await;
    let relay = impatient(&server, &way, APPRENTICE).await;
    Run::play(&server, way.name, "run", End::Succeeded).await;
    way.arrived(&["RUN release", "pod", "pull step-compile"]).await;
    let named = |it: &str| way.collector.spans().iter().any(|(_, span)| span["name"] == it);
    assert!(!named("compile"), "a step of a TaskRun, which is forbidden");
    server.permit(way.name, "tekton.dev", &["taskruns"]).await;
    way.is_whole(&server, &[]).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS"]
async fn a_kind_that_is_installed_later_is_found() {
    let server = server().await.read().await;
    let way = Way::start(&server, "installed-later").await;
    let relay = impatient(&server, &way, RELAY).await;
    let run = Run::play(&server, way.name, "run", End::Succeeded).await;
    way.is_whole(&server, &[]).await;
    server.install("tekton.dev", "CustomRun", "customruns", "v1beta1").await;
    let approval = server.create(&run.custom_run()).await;
    way.arrived(&["approve"]).await;
    way.is_whole(&server, &[approval]).await;
    relay.stop().await;
}

/// A relay in this process that looks every moment for what is not there, instead of every minute.
async fn impatient(server: &ApiServer, way: &Way, user: &str) -> Relay {
    let arguments = ["relay".to_owned(), "--listen=127.0.0.1:0".to_owned()];
    let mut options = Options::try_parse_from(arguments.into_iter().chain(way.options())).unwrap();
    options.signing_key = Some(KEY.to_owned());
    let (first, most) = (Duration::from_millis(50), Duration::from_millis(500));
    let pace = Pace { first, most };
    let paces = Paces { post: pace, watch: WatchPace { absent: most, failed: pace } };
    Relay::start_with(options, server.client(user).await, paces).await.unwrap()
}
