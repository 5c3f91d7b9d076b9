//! The Collector's own receiver of GitHub's webhooks beside GitHub's function with native ids: the
//! same ids, and no difference that `docs/from-githubreceiver.md` does not tell.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use spanhook_tests::{
    Parts, body, collector::Collector, eventually, fixtures, parts, stack::Stack,
};

use crate::stack::{HOOK, SIGNATURE, sign};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/from-githubreceiver.md");

/// A delivery: its event and its body.
struct Delivery {
    event: String,
    body: Vec<u8>,
}

/// What was recorded of GitHub, and what others wrote after it.
fn deliveries() -> Vec<Delivery> {
    let mut files = Vec::new();
    below(&fixtures().join("github"), &mut files);
    let read = |(number, path): (usize, &PathBuf)| {
        let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut payload: Value = serde_json::from_slice(&body(path)).unwrap();
        let object = ["workflow_job", "workflow_run"].into_iter().find(|it| !payload[it].is_null());
        let written = path.components().any(|it| it.as_os_str() == "extra");
        if let (true, Some(object)) = (written && is_alone(path), object) {
            // Several of these have one id.
            for key in ["id", "run_id"] {
                payload[object][key] = json!(1_000_000 + number);
            }
        }
        let zen = payload.get("zen").map(|_| "ping");
        let event = file["headers"]["x-github-event"].as_str().or(zen).or(object);
        let event = event.unwrap_or("check_run").to_owned();
        Delivery { event, body: payload.to_string().into_bytes() }
    };
    files.iter().enumerate().map(read).collect()
}

/// Whether it is of no sequence, of which the ids are what matters.
fn is_alone(path: &Path) -> bool {
    path.file_stem().unwrap().to_str().unwrap().parse::<u32>().is_err()
}

/// All payloads below a folder.
fn below(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    for path in entries.collect::<BTreeSet<_>>() {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let other = stem.starts_with("GOLDEN") || stem == "SIGNATURE_VECTORS";
        if path.is_dir() {
            below(&path, files);
        } else if path.extension().is_some_and(|it| it == "json") && !other {
            files.push(path);
        }
    }
}

/// How often each thing was seen.
type Counts = BTreeMap<String, usize>;

fn count(counts: &mut Counts, what: String) {
    *counts.entry(what).or_default() += 1;
}

/// The receiver's spans of all deliveries, and the status that it gave each.
async fn receivers(
    parts: &Parts,
    arguments: &[&str],
    all: &[Delivery],
) -> (Vec<(Value, Value)>, Vec<u16>) {
    let collector = Collector::configured(parts, "githubreceiver.yaml", arguments).await;
    let client = reqwest::Client::new();
    let mut statuses = Vec::new();
    for delivery in all {
        let request = client
            .post(format!("{}/events", collector.http))
            .header("Content-Type", "application/json")
            .header("X-GitHub-Event", &delivery.event)
            .header(SIGNATURE, sign(&delivery.body))
            .body(delivery.body.clone());
        statuses.push(request.send().await.unwrap().status().as_u16());
    }
    let answered = statuses.iter().filter(|it| **it == 200).count();
    let pings = all.iter().filter(|it| it.event == "ping").count();
    // Every event that it maps gives one resource, and is one line of the file.
    eventually("writing what was mapped", async || {
        collector.spans().iter().filter(|(_, span)| is_first(span)).count() >= answered - pings
    })
    .await;
    (collector.spans(), statuses)
}

/// Whether it is a run's or a job's span: each event has one.
fn is_first(span: &Value) -> bool {
    span["attributes"].as_array().is_none_or(Vec::is_empty)
}

/// Trace and span.
type Id = (String, String);

fn id(span: &Value) -> Id {
    (field(span, "traceId"), field(span, "spanId"))
}

fn field(span: &Value, name: &str) -> String {
    span[name].as_str().unwrap_or_default().to_owned()
}

/// The attributes by name, each value with its type.
fn attributes(of: &Value) -> BTreeMap<String, String> {
    let all = of["attributes"].as_array().into_iter().flatten();
    all.map(|it| (field(it, "key"), it["value"].to_string())).collect()
}

fn kind(ours: &Value) -> String {
    let kind = attributes(ours).remove("spanhook.kind").unwrap();
    serde_json::from_str::<Value>(&kind).unwrap()["stringValue"].as_str().unwrap().to_owned()
}

const CENTURY: i128 = 100 * 365 * 86_400 * 1_000_000_000;

/// What differs between two spans of one id.
fn compare(theirs: &Value, ours: &Value, differences: &mut Counts) {
    let kind = kind(ours);
    let text = |span: &Value, key: &str| field(span, key);
    let (their_name, our_name) = (text(theirs, "name"), text(ours, "name"));
    let name = if our_name == their_name {
        "the same".to_owned()
    } else if our_name == format!("RUN {their_name}") {
        "{name} -> RUN {name}".to_owned()
    } else if Some(&*our_name)
        == their_name.strip_prefix("queue-").map(|it| format!("queue {it}")).as_deref()
    {
        "queue-{name} -> queue {name}".to_owned()
    } else {
        format!("{their_name} -> {our_name}")
    };
    count(differences, format!("{kind} name: {name}"));
    for key in ["kind", "parentSpanId"] {
        let same = theirs[key] == ours[key];
        let what = if same { "the same" } else { "another" };
        count(differences, format!("{kind} {key}: {what}"));
    }
    for key in ["startTimeUnixNano", "endTimeUnixNano"] {
        let at = |span: &Value| text(span, key).parse::<i128>().unwrap();
        let what = match at(ours) - at(theirs) {
            0 => "the same",
            it if it.abs() > CENTURY => "centuries away -> told",
            1.. => "later",
            _ => "earlier",
        };
        count(differences, format!("{kind} {key}: {what}"));
    }
    let status = |span: &Value| match span["status"]["code"].as_u64().unwrap_or(0) {
        0 => "UNSET",
        1 => "OK",
        _ => "ERROR",
    };
    count(differences, format!("{kind} status: {} -> {}", status(theirs), status(ours)));
    let message = |span: &Value| span["status"]["message"].as_str().map_or("none", |_| "one");
    count(differences, format!("{kind} message: {} -> {}", message(theirs), message(ours)));
    let links = |span: &Value| {
        let all = span["links"].as_array().into_iter().flatten();
        let whole = |it: &Value| !text(it, "spanId").is_empty();
        let kinds: Vec<_> = all.map(|it| if whole(it) { "a span" } else { "a trace" }).collect();
        if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") }
    };
    count(differences, format!("{kind} links: {} -> {}", links(theirs), links(ours)));
}

/// The names of attributes, by where they are.
fn keys(spans: &[(Value, Value)], kind: impl Fn(&Value) -> Option<String>) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for (resource, span) in spans {
        let Some(kind) = kind(span) else { continue };
        let event = if kind == "run" { "run" } else { "job" };
        let of_resource = attributes(resource).into_keys();
        keys.extend(of_resource.map(|it| format!("resource of a {event}: {it}")));
        keys.extend(attributes(span).into_keys().map(|it| format!("{kind}: {it}")));
    }
    keys
}

/// All differences, and the names of the receiver's own attributes.
async fn differences(
    parts: &Parts,
    all: &[Delivery],
    (job_id, gate): (&str, &str),
) -> (Counts, BTreeSet<String>) {
    let gates = format!("--feature-gates={gate}receiver.githubreceiver.UseCheckRunID");
    let (theirs, statuses) = receivers(parts, &[&gates], all).await;
    let stack = Stack::start(parts, HOOK).await;
    let settings = [("TRACE_IDS", "native"), ("GITHUB_NATIVE_JOB_ID", job_id)];
    let function = stack.function(parts, &settings).await;
    stack.deliver(&[&function], all.iter().map(|it| &it.body)).await;
    let mut ours = stack.collector.spans();
    ours.retain(|(_, span)| kind(span) != "ping"); // of which the receiver makes no span

    let mut by_id: HashMap<Id, Vec<&Value>> = HashMap::new();
    for (_, span) in &theirs {
        by_id.entry(id(span)).or_default().push(span);
    }
    let own: HashMap<Id, &Value> = ours.iter().map(|(_, span)| (id(span), span)).collect();
    assert_eq!(own.len(), ours.len(), "an id of ours comes twice");
    let mut differences = Counts::new();
    for status in statuses {
        count(&mut differences, format!("answer: {status} -> 202"));
    }
    for (id, spans) in &by_id {
        match own.get(id) {
            Some(ours) => compare(spans[0], ours, &mut differences),
            None => {
                count(
                    &mut differences,
                    format!("only the receiver's: {}", field(spans[0], "name")),
                );
            }
        }
        if spans.len() > 1 {
            count(&mut differences, format!("{} of the receiver's have one id", spans.len()));
        }
    }
    for (_, span) in own.iter().filter(|it| !by_id.contains_key(it.0)) {
        count(&mut differences, format!("only ours: {} {}", kind(span), field(span, "name")));
    }
    let of_theirs = keys(&theirs, |span| own.get(&id(span)).map(|it| kind(it)));
    let of_ours = keys(&ours, |span| Some(kind(span)));
    let names = of_theirs.difference(&of_ours).cloned().collect();
    (differences, names)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS, SPANHOOK_FUNCTIONS and SPANHOOK_FIXTURES"]
async fn native_ids_are_the_receivers_and_the_docs_tell_every_difference() {
    let parts = parts();
    let all = deliveries();
    let (found, names) = differences(&parts, &all, ("check_run", "+")).await;
    let (older, older_names) = differences(&parts, &all, ("name", "-")).await;
    assert_eq!(names, older_names, "the gate changes ids only");
    let page = std::fs::read_to_string(DOCS).unwrap();
    for place in &names {
        let name = place.rsplit(' ').next().unwrap();
        // Those that hold a name of the repository's.
        let open = ["github.reference.workflow.", "github.repository.custom_properties."];
        let name = open.into_iter().find(|it| name.starts_with(it)).unwrap_or(name);
        assert!(page.contains(name), "docs/from-githubreceiver.md does not tell of {name}");
    }
    let lines = |counts: &Counts| counts.iter().map(|(it, n)| format!("{it}: {n}\n")).collect();
    let (found, older): (BTreeSet<String>, BTreeSet<String>) = (lines(&found), lines(&older));
    let mut report = found.iter().cloned().collect::<String>();
    report += "\n=== attributes that only the receiver has\n";
    names.iter().for_each(|it| report += &format!("{it}\n"));
    report += "\n=== with job ids of names, as before 0.151.0, instead\n";
    found.difference(&older).for_each(|it| report += &format!("- {it}"));
    older.difference(&found).for_each(|it| report += &format!("+ {it}"));
    insta::assert_snapshot!("differences", report);
}
