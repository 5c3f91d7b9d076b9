//! What a real API server sent, read from `$SPANHOOK_FIXTURES`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use spanhook_core::{
    delivery::{Outcome, Unmappable},
    provider::{Provider, lighthouse::Sources},
};

use crate::support::{
    Seen, Sent, any_order_is_the_same, batch, left, missing_parents, process, with,
};

pub(crate) fn root() -> PathBuf {
    Path::new(&std::env::var("SPANHOOK_FIXTURES").unwrap()).join("kubernetes")
}

fn lines(kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(root().join(format!("recorded/{kind}.watch.ndjson"))).unwrap();
    let all = text.lines().map(|it| serde_json::from_str::<Value>(it).unwrap());
    all.filter(|it| it["type"] != "BOOKMARK").collect()
}

/// Batches of one item each, as a relay would make them of the streams.
pub(crate) fn relayed() -> Vec<Sent> {
    let mut pods = BTreeMap::new();
    for line in lines("pods") {
        let metadata = line["object"]["metadata"].clone();
        pods.insert(metadata["uid"].as_str().unwrap().to_owned(), metadata);
    }
    let kinds =
        ["lighthousejobs", "pipelineruns", "taskruns", "pods", "events", "pipelineactivities"];
    let item = |line: Value| {
        let mut item = json!({
            "type": line["type"],
            "observed_at": "2026-11-21T02:29:30.500Z",
            "object": line["object"],
        });
        if line["object"]["kind"] == "Event" {
            let uid = line["object"]["involvedObject"]["uid"].as_str().unwrap();
            item["pod"] = json!({ "metadata": pods[uid] });
        }
        (Provider::Kubernetes, batch(&[item]))
    };
    kinds.into_iter().flat_map(lines).map(item).collect()
}

fn traces(all: &BTreeMap<Vec<u8>, Seen>) -> usize {
    all.values().map(|it| &it.span.trace_id).collect::<BTreeSet<_>>().len()
}

pub(crate) fn count(all: &BTreeMap<Vec<u8>, Seen>, kind: &str) -> usize {
    all.values().filter(|it| it.kind() == kind).count()
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn the_recorded_streams_give_whole_trees_in_any_order() {
    let all = any_order_is_the_same(&relayed(), &with(Sources::Objects));
    assert!(missing_parents(&all).is_empty(), "{:?}", missing_parents(&all));
    // Two of the four runs were begun by one event.
    assert_eq!(traces(&all), 3);
    for (kind, expected) in [("run", 4), ("pipeline_run", 4), ("job", 4), ("pod", 4)] {
        assert_eq!(count(&all, kind), expected, "{kind}");
    }
    let errors: BTreeSet<_> =
        all.values().filter(|it| it.kind() == "pod").map(|it| it.text("error.type")).collect();
    let expected = ["", "Evicted", "ImagePullBackOff", "OOMKilled"].map(str::to_owned);
    assert_eq!(errors, BTreeSet::from(expected));
    let roots: Vec<_> = all.values().filter(|it| it.span.parent_span_id.is_empty()).collect();
    assert!(roots.iter().all(|it| it.kind() == "run"));
    // With the webhook's event above them, two of those know it.
    let both = left(&relayed(), &with(Sources::Both));
    assert_eq!(missing_parents(&both).len(), 3);
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn every_recorded_object_keeps_to_the_conventions_and_is_no_bug() {
    let mut objects = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "json") {
                objects.push(serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap());
            }
        }
    }
    let list = |it: &Value| it["items"].as_array().or(it.as_array()).cloned().unwrap_or_default();
    let inner: Vec<_> = objects.iter().flat_map(list).collect();
    objects.extend(inner);
    assert!(objects.len() > 50);
    for object in objects {
        for kind in [object["kind"].clone(), json!("TaskRun"), json!("PipelineRun"), json!("Pod")] {
            let mut object = object.clone();
            if let Some(fields) = object.as_object_mut() {
                fields.insert("kind".to_owned(), kind);
            }
            let item = json!({ "type": "DELETED", "observed_at": "2026-11-21T02:29:30Z", "object": object, "pod": { "metadata": object["metadata"] } });
            let outcome = process(&(Provider::Kubernetes, batch(&[item])), &with(Sources::Objects));
            let bug = matches!(outcome, Outcome::Quarantined { reason: Unmappable::Bug, .. });
            assert!(!bug, "{object}");
        }
    }
}
