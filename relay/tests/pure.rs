//! What must hold for every object: nothing that is not named leaves, and batches keep their bounds.

use jiff::Timestamp;
use proptest::{collection::vec, prelude::*};
use relay::{
    batch::{Batch, MAX_BYTES, MAX_ITEMS},
    item::{Change, Item},
    kind::Kind,
    ledger::Ledger,
    prune::{MAX_TEXT, cloud_event, prune},
};
use serde_json::{Map, Value, json};

/// Every text of these objects that must not leave begins with it.
const SECRET: &str = "s3cr3t-";

fn secret() -> impl Strategy<Value = Value> {
    "[a-zA-Z0-9/+=:@ \"'$]{0,24}".prop_map(|it| Value::from(format!("{SECRET}{it}")))
}

/// Anything, with secrets as its texts and names that real objects have as its keys.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![secret(), any::<bool>().prop_map(Value::from), Just(Value::Null)];
    let anything = leaf.prop_recursive(4, 32, 4, |inner| {
        let key = prop_oneof![
            Just("name".to_owned()),
            Just("value".to_owned()),
            Just("terminated".to_owned()),
            Just("message".to_owned()),
            "[a-z]{1,8}",
        ];
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key, inner), 0..4).prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    });
    // As environments, parameters and results are written.
    let named = secret().prop_map(|it| json!([{"name": it, "value": it, "message": it}]));
    prop_oneof![secret(), named, anything]
}

/// Where secrets are in real objects, and where they might be in objects of tomorrow.
const HIDING_PLACES: [&str; 35] = [
    "/data",
    "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration",
    "/metadata/annotations/tekton.dev~1new",
    "/metadata/managedFields",
    "/metadata/selfLink",
    "/spec/params",
    "/spec/pipelineSpec",
    "/spec/taskSpec",
    "/spec/podTemplate",
    "/spec/workspaces",
    "/spec/serviceAccountName",
    "/spec/pipelineRef/params",
    "/spec/pipelineRef/bundle",
    "/spec/taskRef/params",
    "/spec/volumes",
    "/spec/containers/0/env",
    "/spec/containers/0/envFrom",
    "/spec/containers/0/args",
    "/spec/containers/0/command",
    "/spec/containers/0/volumeMounts",
    "/spec/containers/0/lifecycle",
    "/spec/initContainers/0/env",
    "/spec/ephemeralContainers",
    "/spec/pipeline_run_spec",
    "/spec/rerun_command",
    "/status/pipelineSpec",
    "/status/taskSpec",
    "/status/results",
    "/status/taskResults",
    "/status/provenance",
    "/status/extraFields",
    "/status/skippedTasks/0/whenExpressions",
    "/status/steps/0/terminated/message",
    "/status/steps/0/results",
    "/status/containerStatuses/0/state/terminated/message",
];

/// Puts a value at a path of objects and lists of one.
fn hide(object: &mut Value, path: &[String], hidden: &Value) {
    match path.split_first() {
        None => *object = hidden.clone(),
        Some((key, rest)) if key == "0" => {
            if !object.is_array() {
                *object = json!([{}]);
            }
            hide(&mut object[0], rest, hidden);
        }
        Some((key, rest)) => {
            if !object.is_object() {
                *object = json!({});
            }
            hide(&mut object[key.as_str()], rest, hidden);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn no_secret_leaves(hidden in vec(anything(), HIDING_PLACES.len()), unknown in anything()) {
        let mut object = json!({"metadata": {"name": "n", "uid": "u"}, "unknown": unknown});
        for (place, hidden) in HIDING_PLACES.iter().zip(&hidden) {
            let path: Vec<_> = place[1..].split('/').map(|it| it.replace("~1", "/")).collect();
            hide(&mut object, &path, hidden);
        }
        object["status"]["retriesStatus"] = json!([object["status"], object["status"]]);
        for kind in Kind::ALL {
            let text = prune(kind, "x/v1", &object).to_string();
            prop_assert!(!text.contains(SECRET), "{kind:?}: {text}");
        }
        for name in ["pipelineRun", "taskRun", "customRun"] {
            let mut event = Value::Object(Map::from_iter([(name.to_owned(), object.clone())]));
            event["other"] = object.clone();
            let text = cloud_event(&event).unwrap().to_string();
            prop_assert!(!text.contains(SECRET), "{text}");
        }
        // Beside an Event goes no more of a Pod than its metadata.
        let mut ledger = Ledger::new(Timestamp::UNIX_EPOCH);
        let event = json!({"metadata": {"uid": "e"}, "reason": "Pulled", "involvedObject": {"uid": "u"}});
        let mut items = Vec::new();
        for (kind, object) in [(Kind::Pod, &object), (Kind::Event, &event)] {
            let now = Timestamp::UNIX_EPOCH;
            items.extend(ledger.observe(&None, kind, Change::Added, ("v1", object), now));
        }
        prop_assert!(items.iter().any(|it| it.kind == Kind::Event));
        prop_assert!(items.iter().all(|it| !it.json.contains(SECRET)));
    }

    #[test]
    fn pruning_keeps_what_was_pruned_and_never_fails(object in anything()) {
        for kind in Kind::ALL {
            let once = prune(kind, "x/v1", &object);
            prop_assert_eq!(&prune(kind, "x/v1", &once), &once);
        }
        let _ = cloud_event(&object);
    }

    #[test]
    fn passwords_of_clone_urls_stay(user in "[a-z]{0,8}", password in "[a-zA-Z0-9@:_-]{6,20}") {
        let url = format!("https://{user}:{password}@git.example/acme/shop.git");
        let job = json!({"spec": {"refs": {"clone_uri": url}}, "metadata": {"annotations": {"lighthouse.jenkins-x.io/cloneURI": url}}});
        let pruned = prune(Kind::LighthouseJob, "x/v1", &job);
        prop_assert_eq!(&pruned["spec"]["refs"]["clone_uri"], "https://git.example/acme/shop.git");
        prop_assert!(!pruned.to_string().contains(&password));
    }

    #[test]
    fn batches_keep_their_bounds_and_the_order(sizes in vec(1_usize..20_000, 0..200)) {
        let mut batches = vec![Batch::new("größe\"")];
        let mut expected = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            let json = json!([index, "x".repeat(*size)]).to_string();
            expected.push(index);
            let item = Item { kind: Kind::Pod, json };
            if let Err(item) = batches.last_mut().unwrap().push(item) {
                batches.push(Batch::new("größe\""));
                prop_assert!(batches.last_mut().unwrap().push(item).is_ok());
            }
        }
        let mut order = Vec::new();
        for batch in &batches {
            let json = batch.json();
            prop_assert!(json.len() <= MAX_BYTES && batch.kinds().len() <= MAX_ITEMS);
            let read: Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&read["cluster"], "größe\"");
            order.extend(read["items"].as_array().unwrap().iter().map(|it| it[0].as_u64().unwrap()));
        }
        prop_assert_eq!(order, expected.into_iter().map(|it| it as u64).collect::<Vec<_>>());
    }

    #[test]
    fn the_halves_of_a_batch_are_the_batch(count in 0_usize..=MAX_ITEMS) {
        let mut batch = Batch::new("c");
        for index in 0..count {
            batch.push(Item { kind: Kind::Pod, json: index.to_string() }).unwrap();
        }
        let items = |it: &Batch| serde_json::from_str::<Value>(&it.json()).unwrap()["items"].as_array().unwrap().clone();
        let whole = items(&batch);
        match batch.halves() {
            None => prop_assert!(count < 2),
            Some(halves) => {
                prop_assert!(halves.iter().all(|it| !it.is_empty()));
                prop_assert_eq!(halves.iter().flat_map(items).collect::<Vec<_>>(), whole);
            }
        }
    }

    #[test]
    fn no_final_object_is_sent_twice(seen in vec((0_usize..6, any::<bool>(), 0_usize..3), 0..200)) {
        let mut ledger = Ledger::new(Timestamp::UNIX_EPOCH);
        let mut sent = std::collections::BTreeMap::<usize, usize>::new();
        let mut deleted = std::collections::BTreeSet::new();
        for (index, done, change) in seen {
            // What was deleted does not come back.
            if deleted.contains(&index) {
                continue;
            }
            let change = [Change::Added, Change::Modified, Change::Deleted][change];
            let phase = if done { "Succeeded" } else { "Running" };
            let pod = json!({"metadata": {"uid": format!("u{index}")}, "status": {"phase": phase}});
            let now = Timestamp::UNIX_EPOCH;
            let items = ledger.observe(&None, Kind::Pod, change, ("v1", &pod), now);
            *sent.entry(index).or_default() += items.len();
            if change == Change::Deleted {
                deleted.insert(index);
                prop_assert_eq!(sent[&index], 1, "what is deleted was sent once");
            }
            prop_assert!(sent[&index] <= 1);
        }
    }
}

#[test]
fn a_single_item_that_is_larger_than_a_batch_goes_alone() {
    let large = || Item { kind: Kind::PipelineRun, json: format!("\"{}\"", "x".repeat(MAX_BYTES)) };
    let mut batch = Batch::new("c");
    assert!(batch.push(large()).is_ok());
    assert!(batch.push(Item { kind: Kind::Pod, json: "1".to_owned() }).is_err());
    let mut batch = Batch::new("c");
    assert!(batch.push(Item { kind: Kind::Pod, json: "1".to_owned() }).is_ok());
    assert!(batch.push(large()).is_err());
}

#[test]
fn texts_are_cut() {
    let job = json!({"status": {"description": "ä".repeat(100_000), "state": "x".repeat(100_000)}});
    let pruned = prune(Kind::LighthouseJob, "x/v1", &job);
    for field in ["description", "state"] {
        assert!(pruned["status"][field].as_str().unwrap().len() <= MAX_TEXT, "{field}");
    }
}
