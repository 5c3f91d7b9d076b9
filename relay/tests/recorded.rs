//! Four runs that were recorded from a real API server: a success, one out of memory, one without
//! its image, one evicted. Read from `$SPANHOOK_FIXTURES`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::BTreeSet, path::Path};

use relay::kind::Kind;
use serde_json::Value;
use support::{Cluster, Sink, ready, relay, until};

struct Recorded {
    change: String,
    version: u64,
    object: Value,
}

/// What the watches of all kinds told, in the order in which it happened.
fn recorded() -> Vec<Recorded> {
    #[expect(clippy::disallowed_methods, reason = "names a folder of the test's")]
    let fixtures = std::env::var("SPANHOOK_FIXTURES").unwrap();
    let folder = Path::new(&fixtures).join("kubernetes/recorded");
    let mut all = Vec::new();
    for kind in Kind::ALL {
        // Of CustomRuns there was none.
        let path = folder.join(format!("{}.watch.ndjson", kind.plural()));
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        for line in text.lines() {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let change = line["type"].as_str().unwrap().to_owned();
            let object = line["object"].take();
            let version = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            if change != "BOOKMARK" {
                all.push(Recorded { change, version, object });
            }
        }
    }
    assert!(all.len() > 100, "{}", all.len());
    all.sort_by_key(|it| it.version);
    all
}

/// Everything that ended, and the Pod that never ran as deleted; of the Events those that are sent.
fn expected(all: &[Recorded]) -> BTreeSet<String> {
    let name = |it: &Value| {
        format!("{} {}", it["kind"].as_str().unwrap(), it["metadata"]["uid"].as_str().unwrap())
    };
    let ignored = |it: &Value| matches!(it["reason"].as_str(), Some("Created" | "Started"));
    let mut names: BTreeSet<_> =
        all.iter().map(|it| &it.object).filter(|it| !ignored(it)).map(name).collect();
    let without_image = "Pod 0d5485cb-8b1b-4bde-aa61-71822a59844c";
    assert!(names.remove(without_image));
    names.insert(format!("-{without_image}"));
    names
}

fn play(cluster: &Cluster, all: &[Recorded]) {
    for it in all {
        if it.change == "DELETED" {
            cluster.delete(&it.object);
        } else {
            cluster.put(&it.object);
        }
    }
}

#[tokio::test]
#[ignore = "needs SPANHOOK_FIXTURES"]
async fn every_recorded_run_arrives_whole() {
    let all = recorded();
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let relay = relay(&cluster, &sink).await;
    ready(&relay).await;
    play(&cluster, &all);
    let expected = expected(&all);
    until("all", || sink.set().is_superset(&expected)).await;
    relay.stop().await;
    assert_eq!(sink.set(), expected);
    assert!(sink.counts().values().all(|it| *it == 1));
    // LighthouseJobs, PipelineRuns, TaskRuns, PipelineActivities and Pods of four runs.
    let events = expected.iter().filter(|it| it.starts_with("Event ")).count();
    assert_eq!((expected.len() - events, events), (20, 19));
    let texts: usize = sink.items().iter().map(|it| it.to_string().len()).sum();
    println!("{} items, {} bytes each", expected.len(), texts / expected.len());
}

/// The same whatever goes wrong at whichever moment, with a second relay after one that was killed.
#[tokio::test]
#[ignore = "needs SPANHOOK_FIXTURES"]
async fn no_fault_at_any_moment_loses_a_recorded_object() {
    let all = recorded();
    let expected = expected(&all);
    // Pods are deleted at the end: what is deleted while no relay runs is lost.
    let deletions = all.iter().position(|it| it.change == "DELETED").unwrap();
    for moment in (0..deletions).step_by(9) {
        let (cluster, sink) = (Cluster::start().await, Sink::start().await);
        let first = relay(&cluster, &sink).await;
        ready(&first).await;
        play(&cluster, &all[..moment]);
        match moment % 4 {
            0 => cluster.drop_watches(),
            1 => cluster.expire(),
            2 => cluster.fail(10, 500),
            _ => sink.fail(3, 503),
        }
        let middle = moment + (deletions - moment) / 2;
        play(&cluster, &all[moment..middle]);
        drop(first);
        let second = relay(&cluster, &sink).await;
        play(&cluster, &all[middle..deletions]);
        ready(&second).await;
        cluster.expire();
        until("all before the deletions", || {
            expected.iter().filter(|it| !it.starts_with('-')).all(|it| sink.set().contains(it))
        })
        .await;
        play(&cluster, &all[deletions..]);
        until(&format!("all, after a fault at {moment}"), || sink.set() == expected).await;
        second.stop().await;
    }
}
