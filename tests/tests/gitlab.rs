//! The Collector's own receiver of GitLab's webhooks beside GitLab's function: the same deliveries to
//! both, and no difference that `docs/from-gitlabreceiver.md` does not tell.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use spanhook_tests::{
    Parts, body,
    collector::Collector,
    eventually, fixtures, parts,
    stack::{Hook, Stack},
};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/from-gitlabreceiver.md");
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../events/gitlab");

/// `parts/collector/gitlabreceiver.yaml` has it as well.
const SECRET: &str = "hunter2-and-more";

const HOOK: Hook = Hook {
    function: "gitlab-webhook",
    path: "/gitlab",
    secret: ("GITLAB_SECRET_TOKEN", SECRET),
    proof: |_| ("X-Gitlab-Token".to_owned(), SECRET.to_owned()),
};

/// A delivery: its event and its body.
struct Delivery {
    event: String,
    body: Vec<u8>,
}

/// What was recorded of GitLab, what others wrote after it, and the samples.
fn deliveries() -> Vec<Delivery> {
    let mut files = Vec::new();
    below(&fixtures().join("gitlab"), &mut files);
    below(Path::new(SAMPLES), &mut files);
    let read = |(number, path): (usize, &PathBuf)| {
        let mut payload: Value = serde_json::from_slice(&body(path)).unwrap();
        let object = payload["object_kind"].as_str().unwrap_or("pipeline").to_owned();
        let recorded = path.components().any(|it| it.as_os_str() == "cimonitor");
        if !recorded && object == "pipeline" && payload["object_attributes"].is_object() {
            // Several of these have one id.
            let (id, pipeline) = (1_000_000 + number, &mut payload["object_attributes"]);
            pipeline["id"] = json!(id);
            let url = pipeline["url"].as_str().and_then(|it| it.rsplit_once('/'));
            if let Some((folder, _)) = url {
                pipeline["url"] = json!(format!("{folder}/{id}"));
            }
        }
        let object = if object == "build" { "job" } else { &object };
        let words = object.split('_').map(|it| it[..1].to_uppercase() + &it[1..]);
        let event = words.chain(["Hook".to_owned()]).collect::<Vec<_>>().join(" ");
        Delivery { event, body: payload.to_string().into_bytes() }
    };
    let mut all: Vec<_> = files.iter().enumerate().map(read).collect();
    // A pipeline ends a second time once a job of it was retried.
    let again = all.iter().filter(|it| it.event == "Pipeline Hook").find_map(|it| {
        let payload: Value = serde_json::from_slice(&it.body).unwrap();
        let whole =
            payload["object_attributes"]["status"] == "failed" && payload["builds"].is_array();
        whole.then_some(payload)
    });
    let mut again = again.unwrap();
    again["object_attributes"]["finished_at"] = json!("2026-11-04 09:00:00 UTC");
    let body = again.to_string().into_bytes();
    all.push(Delivery { event: "Pipeline Hook".to_owned(), body });
    all
}

/// All payloads below a folder.
fn below(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    for path in entries.collect::<BTreeSet<_>>() {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let other = stem.starts_with("GOLDEN") || stem.starts_with("STANDARD");
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
async fn receivers(parts: &Parts, all: &[Delivery]) -> (Vec<Found>, Vec<u16>) {
    let collector = Collector::configured(parts, "gitlabreceiver.yaml", &[]).await;
    let client = reqwest::Client::new();
    let mut statuses = Vec::new();
    for delivery in all {
        let request = client
            .post(format!("{}/events", collector.http))
            .header("Content-Type", "application/json")
            .header("X-Gitlab-Event", &delivery.event)
            .header("X-Gitlab-Token", SECRET)
            .body(delivery.body.clone());
        // Where it panics the connection ends.
        statuses.push(request.send().await.map_or(0, |it| it.status().as_u16()));
    }
    let taken = statuses.iter().filter(|it| **it == 200).count();
    // Every delivery that it maps gives one run.
    let runs =
        || collector.spans().iter().filter(|(_, it)| field(it, "parentSpanId").is_empty()).count();
    eventually("writing what was mapped", async || runs() >= taken).await;
    (collector.spans().into_iter().map(|it| Found::new(it, theirs)).collect(), statuses)
}

fn field(span: &Value, name: &str) -> String {
    span[name].as_str().unwrap_or_default().to_owned()
}

/// The attributes by name, as text.
fn attributes(of: &Value) -> BTreeMap<String, String> {
    let all = of["attributes"].as_array().into_iter().flatten();
    all.map(|it| (field(it, "key"), text(&it["value"]))).collect()
}

fn text(value: &Value) -> String {
    let value = value.as_object().into_iter().flat_map(|it| it.values()).next();
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(list)) => {
            let all = list["values"].as_array().into_iter().flatten();
            all.map(text).collect::<Vec<_>>().join(",")
        }
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// A span, and what it stands for.
struct Found {
    span: Value,
    resource: BTreeMap<String, String>,
    own: BTreeMap<String, String>,
    kind: String,
    /// The pipeline, the kind, and which of its jobs or stages.
    key: (String, String, String),
}

impl Found {
    fn new(
        (resource, span): (Value, Value),
        kind: fn(&Value, &BTreeMap<String, String>) -> String,
    ) -> Self {
        let (resource, own) = (attributes(&resource), attributes(&span));
        let kind = kind(&span, &own);
        let which = match kind.as_str() {
            "run" => String::new(),
            "stage" => field(&span, "name"),
            _ => own.get("cicd.pipeline.task.run.id").cloned().unwrap_or_default(),
        };
        let run = resource["cicd.pipeline.run.id"].clone();
        Self { span, resource, own, key: (run, kind.clone(), which), kind }
    }
}

/// What a span of the receiver's stands for: it does not say so.
fn theirs(span: &Value, own: &BTreeMap<String, String>) -> String {
    let kind = if field(span, "parentSpanId").is_empty() {
        "run"
    } else if own.contains_key("cicd.pipeline.task.run.id") {
        "job"
    } else {
        "stage"
    };
    kind.to_owned()
}

/// What differs between two spans of one thing.
fn compare(theirs: &Found, ours: &Found, differences: &mut Counts) {
    let kind = &theirs.kind;
    let (their_name, our_name) = (field(&theirs.span, "name"), field(&ours.span, "name"));
    let name = match (their_name, our_name) {
        (theirs, ours) if theirs == ours => "the same",
        (theirs, ours) if ours == format!("RUN {theirs}") => "{name} -> RUN {name}",
        (_, ours) if ours == "RUN" => "{title of the commit} -> RUN",
        (_, ours) if ours.starts_with("RUN ") => "{title of the commit} -> RUN {project}",
        _ => "another",
    };
    count(differences, format!("{kind} name: {name}"));
    count(differences, format!("{kind} kind: {} -> {}", theirs.span["kind"], ours.span["kind"]));
    for key in ["startTimeUnixNano", "endTimeUnixNano"] {
        let at = |it: &Found| field(&it.span, key).parse::<i128>().unwrap();
        let what = match at(ours) - at(theirs) {
            0 => "the same",
            1.. => "later",
            _ => "earlier",
        };
        count(differences, format!("{kind} {key}: {what}"));
    }
    let status = |it: &Found| match it.span["status"]["code"].as_u64().unwrap_or(0) {
        0 => "UNSET",
        1 => "OK",
        _ => "ERROR",
    };
    count(differences, format!("{kind} status: {} -> {}", status(theirs), status(ours)));
    for (place, all) in [("resource", &theirs.resource), ("span", &theirs.own)] {
        for (key, value) in all {
            let own = ours.own.get(key).or_else(|| ours.resource.get(key));
            let what = match own {
                _ if value.is_empty() => "empty",
                Some(own) if own == value => "the same",
                Some(_) => "another",
                None => "none",
            };
            count(differences, format!("{kind} {place} {key}: {what}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS, SPANHOOK_FUNCTIONS and SPANHOOK_FIXTURES"]
async fn the_docs_tell_every_difference_to_the_collectors_receiver() {
    let parts = parts();
    let all = deliveries();
    let (theirs, statuses) = receivers(&parts, &all).await;
    let stack = Stack::start(&parts, HOOK).await;
    // As the docs say it to those who come from there.
    let settings = [("GITLAB_SERVICE_NAME", "{project}"), ("GITLAB_PEOPLE", "actor,author")];
    let function = stack.function(&parts, &settings).await;
    let answers = stack.deliver(&[&function], all.iter().map(|it| &it.body)).await;
    let own_kind = |_: &Value, own: &BTreeMap<String, String>| own["spanhook.kind"].clone();
    let ours = stack.collector.spans().into_iter().map(|it| Found::new(it, own_kind));
    let ours: Vec<_> = ours.collect();

    let mut differences = Counts::new();
    for ((delivery, theirs), ours) in all.iter().zip(statuses).zip(answers) {
        count(&mut differences, format!("answer to a {}: {theirs} -> 202 {ours}", delivery.event));
    }
    let mut by_key: BTreeMap<_, Vec<&Found>> = BTreeMap::new();
    for it in &theirs {
        by_key.entry(&it.key).or_default().push(it);
    }
    // A pipeline that ended again is told again, under the same ids: the last counts.
    let own: BTreeMap<_, _> = ours.iter().map(|it| (&it.key, it)).collect();
    for (key, spans) in &by_key {
        let traces: BTreeSet<_> = spans.iter().map(|it| field(&it.span, "traceId")).collect();
        if spans.len() > 1 {
            let (kind, times, traces) = (&key.1, spans.len(), traces.len());
            count(
                &mut differences,
                format!("the receiver's of one {kind}: {times} spans in {traces} traces"),
            );
        }
        match own.get(key) {
            Some(ours) => compare(spans.last().unwrap(), ours, &mut differences),
            None => count(&mut differences, format!("only the receiver's: {}", key.1)),
        }
    }
    for (key, _) in own.iter().filter(|it| !by_key.contains_key(it.0)) {
        count(&mut differences, format!("only ours: {}", key.1));
    }
    let ids: BTreeMap<_, _> = ours.iter().map(|it| (&it.key, field(&it.span, "spanId"))).collect();
    assert!(
        ours.iter().all(|it| ids[&it.key] == field(&it.span, "spanId")),
        "one id for one thing"
    );

    insta::assert_snapshot!(
        "differences",
        differences.iter().map(|(it, n)| format!("{it}: {n}\n")).collect::<String>()
    );
    let page = std::fs::read_to_string(DOCS).unwrap();
    for key in theirs.iter().flat_map(|it| it.resource.keys().chain(it.own.keys())) {
        assert!(page.contains(key), "docs/from-gitlabreceiver.md does not tell of {key}");
    }
}
