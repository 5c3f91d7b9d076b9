//! Whatever order deliveries come in, and however often.

use std::collections::BTreeSet;

use prost::Message as _;
use serde_json::{Value, json};
use spanhook_core::{delivery::Outcome, delivery::Unmappable, id::TraceIds, settings::Settings};

use crate::support::{process, raw, requests, sample, samples, with};

/// All that a sequence of deliveries leaves at the Collector: a span that comes twice is one.
pub(crate) fn left(sequence: &[Value], settings: &Settings) -> BTreeSet<Vec<u8>> {
    let of = |payload: &Value| {
        let requests = requests(payload.to_string().as_bytes(), settings);
        let groups = requests.into_iter().flat_map(|it| it.resource_spans);
        let of = |group: opentelemetry_proto::tonic::trace::v1::ResourceSpans| {
            let resource = group.resource.unwrap().encode_to_vec();
            let spans = group.scope_spans.into_iter().flat_map(|it| it.spans);
            spans.map(move |it| [resource.clone(), it.encode_to_vec()].concat()).collect::<Vec<_>>()
        };
        groups.flat_map(of).collect::<Vec<_>>()
    };
    sequence.iter().flat_map(of).collect()
}

/// How many of them hold a word, such as an attribute's name.
pub(crate) fn with_word(left: &BTreeSet<Vec<u8>>, word: &str) -> usize {
    left.iter().filter(|it| it.windows(word.len()).any(|it| it == word.as_bytes())).count()
}

/// The same deliveries in order, reversed, shuffled and doubled, in both id modes.
pub(crate) fn any_order_is_the_same(sequence: &[Value]) {
    for ids in [TraceIds::Hashed, TraceIds::Native] {
        let settings = with(ids);
        let expected = left(sequence, &settings);
        assert!(!expected.is_empty());
        let mut other = sequence.to_vec();
        other.reverse();
        assert_eq!(left(&other, &settings), expected, "reversed");
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..5 {
            random.shuffle(&mut other);
            assert_eq!(left(&other, &settings), expected, "shuffled");
        }
        other.extend_from_slice(sequence);
        assert_eq!(left(&other, &settings), expected, "doubled");
    }
}

#[test]
fn issue_25_every_permutation_of_six_deliveries_gives_the_same_spans() {
    let names = [
        "workflow-run-requested",
        "workflow-job-build",
        "workflow-job-test-failed",
        "workflow-job-deploy-skipped",
        "workflow-run-failed",
        "workflow-run-attempt-2",
    ];
    let sequence = names.map(sample);
    let settings = Settings::default();
    let single: Vec<_> =
        sequence.iter().map(|it| left(std::slice::from_ref(it), &settings)).collect();
    let expected = left(&sequence, &settings);
    // No delivery knows of another, so a permutation is the same sets joined in another order.
    assert_eq!(expected, single.iter().flatten().cloned().collect());
    permutations(&mut sequence.to_vec(), 0, &mut |it| assert_eq!(left(it, &settings), expected));
}

fn permutations(items: &mut Vec<Value>, from: usize, check: &mut impl FnMut(&[Value])) {
    if from == items.len() {
        return check(items);
    }
    for at in from..items.len() {
        items.swap(from, at);
        permutations(items, from + 1, check);
        items.swap(from, at);
    }
}

#[test]
fn the_samples_give_the_same_spans_in_any_order() {
    let all: Vec<_> = samples().into_values().collect();
    any_order_is_the_same(&all);
}

/// An approval sends several events of one job.
#[test]
fn issue_21_a_job_that_waits_for_an_approval_is_one_job() {
    let waiting = sample("workflow-job-waiting");
    let mut queued = waiting.clone();
    queued["workflow_job"]["status"] = json!("queued");
    let mut running = waiting.clone();
    running["workflow_job"]["status"] = json!("in_progress");
    let sequence =
        [waiting, queued.clone(), queued, running, sample("workflow-job-deploy-attempt-2")];
    let alone = left(&sequence[4..], &Settings::default());
    assert_eq!(left(&sequence, &Settings::default()), alone);
    assert_eq!(with_word(&alone, "cicd.pipeline.task.run.url.full"), 1);
}

/// Any single field that is missing or null.
#[test]
fn issue_25_whichever_field_is_missing_there_are_spans_or_a_clear_refusal() {
    for name in
        ["workflow-job-build", "workflow-job-deploy-attempt-2", "workflow-run-attempt-2", "ping"]
    {
        let payload = sample(name);
        for pointer in pointers(&payload) {
            for remove in [true, false] {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                let mut payload = payload.clone();
                let parent = payload.pointer_mut(parent).unwrap();
                match parent {
                    Value::Object(fields) if remove => drop(fields.remove(key)),
                    Value::Object(fields) => drop(fields.insert(key.to_owned(), Value::Null)),
                    Value::Array(items) => items[key.parse::<usize>().unwrap()] = Value::Null,
                    _ => unreachable!(),
                }
                match process(payload.to_string().as_bytes(), &Settings::default()) {
                    Outcome::Quarantined { reason, .. } => {
                        assert!(
                            matches!(reason, Unmappable::NoRun | Unmappable::NoTime),
                            "{pointer}"
                        );
                    }
                    Outcome::Accepted(_) => {
                        requests(payload.to_string().as_bytes(), &Settings::default());
                    }
                    Outcome::Ignored { .. } => {}
                }
            }
        }
    }
}

/// The places of all fields and items.
fn pointers(json: &Value) -> Vec<String> {
    let below = |key: String, it: &Value| {
        let own = format!("/{key}");
        let inner: Vec<_> = pointers(it).into_iter().map(|it| format!("{own}{it}")).collect();
        [vec![own], inner].concat()
    };
    match json {
        Value::Object(fields) => {
            fields.iter().flat_map(|(key, it)| below(key.clone(), it)).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(at, it)| below(at.to_string(), it)).collect()
        }
        _ => Vec::new(),
    }
}

/// What of a delivery names a person: logins, names and mail addresses of whoever acted. An owner
/// of the repository is in its name, and the committer `GitHub` is none.
pub(crate) fn personal(payload: &Value) -> Vec<String> {
    let repository = &payload["repository"];
    let owner = repository["owner"]["login"].as_str().unwrap_or_default();
    // In some published examples the address has another owner.
    let url = repository["html_url"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    collect(payload, false, &mut found);
    found.retain(|it| {
        !it.is_empty() && it != "GitHub" && it != owner && !url.contains(&format!("/{it}/"))
    });
    found
}

fn collect(json: &Value, of_person: bool, found: &mut Vec<String>) {
    const PEOPLE: [&str; 11] = [
        "sender",
        "actor",
        "triggering_actor",
        "author",
        "committer",
        "pusher",
        "creator",
        "requestor",
        "reviewers",
        "assignees",
        "user",
    ];
    match json {
        Value::Object(fields) => {
            for (key, value) in fields {
                if of_person && matches!(key.as_str(), "login" | "name" | "email" | "username") {
                    found.extend(value.as_str().map(str::to_owned));
                }
                collect(value, of_person || PEOPLE.contains(&key.as_str()), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|it| collect(it, of_person, found)),
        _ => {}
    }
}

/// Panics where a word of a person is among the bytes that are sent.
pub(crate) fn nobody_is_named(name: &str, payload: &Value) {
    for ids in [TraceIds::Hashed, TraceIds::Native] {
        let body = payload.to_string();
        let Outcome::Accepted(accepted) = process(body.as_bytes(), &with(ids)) else { return };
        for message in &accepted.messages {
            let bytes = raw(message);
            let attributes = format!("{:?}", message.attributes);
            for word in personal(payload) {
                let within = bytes.windows(word.len()).any(|it| it == word.as_bytes());
                assert!(!within && !attributes.contains(&word), "{name}: {word}");
            }
        }
    }
}

#[test]
fn issue_11_nobody_is_named() {
    for (name, payload) in samples() {
        nobody_is_named(&name, &payload);
    }
    let words = personal(&sample("workflow-run-failed"));
    for word in ["sam-private", "Sam Private", "sam.private@example.com"] {
        assert!(words.iter().any(|it| it == word), "the test looks for {word}");
    }
}
