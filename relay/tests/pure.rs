//! What must hold for every object: nothing that is not named leaves, and batches keep their bounds.

use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use proptest::{collection::vec, prelude::*};
use relay::{
    batch::{Batch, MAX_BYTES, MAX_ITEMS},
    finality::is_final,
    item::{Change, Item},
    kind::Kind,
    ledger::Ledger,
    prune::{MAX_TEXT, cloud_event, prune},
};
use serde_json::{Map, Value, json};
use spanhook_core::{
    delivery::{Delivery, Outcome},
    provider::Provider,
    rules::ProjectRules,
    settings::Settings,
};

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
        let mut ledger = Ledger::new(Timestamp::UNIX_EPOCH, SignedDuration::ZERO);
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
        let mut ledger = Ledger::new(Timestamp::UNIX_EPOCH, SignedDuration::ZERO);
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

/// What spanhook makes of one object.
fn gives_spans(change: &str, object: &Value) -> bool {
    let item = json!({"type": change, "observed_at": "2026-11-21T10:00:00Z", "object": object});
    let (headers, body) = (HeaderMap::new(), json!({"items": [item]}).to_string());
    let delivery = Delivery { headers: &headers, body: body.as_bytes() };
    let (settings, rules) = (Settings::default(), ProjectRules::default());
    matches!(delivery.process(Provider::Kubernetes, &settings, &rules), Outcome::Accepted(_))
}

/// An object is sent once: one that spanhook finds unfinished would be lost.
#[test]
fn what_the_relay_takes_for_final_gives_spans_and_the_other_way_round() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../events/kubernetes");
    let (mut finals, mut others) = (0, 0);
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let batch: Value = serde_json::from_str(&text).unwrap();
        for item in batch["items"].as_array().into_iter().flatten() {
            let object = &item["object"];
            let kind = object["kind"].as_str().and_then(Kind::named);
            let Some(kind) = kind.filter(|it| *it != Kind::Event) else { continue };
            if object["metadata"]["uid"].is_null() {
                continue;
            }
            check(kind, object);
            let is_final = is_final(kind, object);
            (finals, others) = (finals + u8::from(is_final), others + u8::from(!is_final));
        }
    }
    assert!(finals > 20 && others > 3, "{finals} {others}");
}

fn check(kind: Kind, object: &Value) {
    // Of one without its end, spanhook would have to make one up.
    let waits = kind == Kind::LighthouseJob && object["status"]["completionTime"].is_null();
    let expected = gives_spans("ADDED", object) && !waits;
    assert_eq!(is_final(kind, object), expected, "{object}");
}

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    proptest::sample::select(words)
        .prop_map(|it| if it.is_empty() { Value::Null } else { it.into() })
}

proptest! {
    #[test]
    fn of_any_object_the_relay_and_spanhook_think_alike_whether_it_is_final(
        kind in proptest::sample::select(&Kind::ALL[..6]),
        state in one_of(&["", "pending", "success", "failure", "aborted", "error", "running", "Succeeded", "Failed",
            "Error", "Aborted", "Cancelled", "NotExecuted", "TimedOut", "Pending", "Running", "Unknown", "WaitingForApproval"]),
        succeeded in one_of(&["", "True", "False", "Unknown"]),
        times in proptest::array::uniform4(one_of(&["", "0001-01-01T00:00:00Z", "2026-11-21T10:00:00Z"])),
        container in one_of(&["", "running", "waiting", "terminated"]),
    ) {
        let containers = container.as_str().map(|it| json!([{"name": "c", "state": {it: {}}}]));
        let object = json!({
            "kind": kind.as_str(),
            "metadata": {"name": "n", "uid": "u", "creationTimestamp": "2026-11-21T09:00:00Z"},
            // An activity without a promotion has nothing to tell.
            "spec": {"status": state, "startedTimestamp": times[0], "completedTimestamp": times[1],
                "steps": [{"kind": "Promote", "promote": {"status": "Succeeded"}}]},
            "status": {"state": state, "phase": state, "startTime": times[2], "completionTime": times[3],
                "conditions": [{"type": "Succeeded", "status": succeeded}], "containerStatuses": containers},
        });
        if !(kind == Kind::LighthouseJob && times[3] == "0001-01-01T00:00:00Z") {
            check(kind, &object);
        }
    }
}

#[test]
fn a_clock_that_was_ahead_at_the_start_does_not_make_everything_old() {
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let mut ledger = Ledger::new(time("2036-01-01T00:00:00Z"), SignedDuration::from_hours(1));
    let ended = |uid: &str| {
        json!({"metadata": {"uid": uid}, "status": {"completionTime": "2026-11-21T10:00:00Z",
            "conditions": [{"type": "Succeeded", "status": "True"}]}})
    };
    let mut observe = |object: &Value, now: &str| {
        let object = ("tekton.dev/v1", object);
        ledger.observe(&None, Kind::TaskRun, Change::Added, object, time(now)).len()
    };
    assert_eq!(observe(&ended("a"), "2036-01-01T00:00:01Z"), 0);
    assert_eq!(observe(&ended("b"), "2026-11-21T10:00:01Z"), 1, "the clock was set right");
    assert_eq!(observe(&ended("c"), "2036-01-01T00:00:02Z"), 1, "and is wrong again");
}
