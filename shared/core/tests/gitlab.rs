//! What GitLab's mapping tells beyond its samples: who is named, stages and the time that jobs wait,
//! drafts, who may see a project, and where a pipeline was triggered.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

mod conventions;
#[expect(dead_code, reason = "it describes them too")]
mod deliveries;
mod describe;
mod support;

use std::{collections::BTreeMap, path::Path};

use opentelemetry_proto::tonic::{common::v1::KeyValue, trace::v1::Span};
use proptest::prelude::*;
use serde_json::{Value, json};
use spanhook_core::{
    delivery::Mapped,
    id::TraceIds,
    otlp::encode::{Limits, messages},
    provider::{Provider, gitlab::JobSpans},
    settings::{Settings, Vars},
};
use support::{map, with_jobs};

/// A span with its resource, as attributes in text.
struct Found {
    span: Span,
    attributes: BTreeMap<String, String>,
    resource: BTreeMap<String, String>,
}

fn of(body: &Value, settings: &Settings) -> Vec<Found> {
    let text = body.to_string();
    let Ok(Mapped::Telemetry(telemetry)) = map(Provider::Gitlab, text.as_bytes(), settings) else {
        return Vec::new();
    };
    let read = |all: &[KeyValue]| -> BTreeMap<_, _> {
        all.iter().map(|it| (it.key.clone(), describe::value(it.value.as_ref()))).collect()
    };
    let messages = telemetry.iter().flat_map(|it| messages(it, "gitlab", Limits::default()));
    let requests = messages.map(|it| support::request(&it)).inspect(conventions::check);
    let mut found = Vec::new();
    for group in requests.flat_map(|it| it.resource_spans) {
        let resource = read(&group.resource.unwrap().attributes);
        for span in group.scope_spans.into_iter().flat_map(|it| it.spans) {
            let attributes = read(&span.attributes);
            found.push(Found { span, attributes, resource: resource.clone() });
        }
    }
    found
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let vars: Vars =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Settings::parse(&vars).unwrap()
}

fn kind<'f>(found: &'f [Found], kind: &str) -> impl Iterator<Item = &'f Found> {
    let kind = format!("{kind:?}");
    found.iter().filter(move |it| it.attributes["spanhook.kind"] == kind)
}

#[allow(clippy::needless_pass_by_value, reason = "it is made at the call")]
fn pipeline(builds: Value) -> Value {
    json!({
        "object_kind": "pipeline",
        "object_attributes": {
            "id": 9, "status": "success", "ref": "main",
            "created_at": "2026-11-02 09:30:00 UTC", "finished_at": "2026-11-02 09:40:00 UTC",
        },
        "project": { "id": 1, "web_url": "https://gitlab.example.com/a/b", "path_with_namespace": "a/b" },
        "builds": builds,
    })
}

fn job(id: u64, from: &str, queued: &Value) -> Value {
    json!({
        "id": id, "stage": "test", "name": format!("job {id}"), "status": "success",
        "created_at": "2026-11-02 09:30:00 UTC", "started_at": format!("2026-11-02 {from} UTC"),
        "finished_at": "2026-11-02 09:38:00 UTC", "queued_duration": queued,
    })
}

/// A pipeline and a job of one person, with the commit of another.
fn of_people() -> [Value; 2] {
    let user = json!({
        "id": 77, "name": "Actor Person", "username": "actor.login", "email": "actor@example.com",
        "avatar_url": "https://example.com/actor.png",
    });
    let author = json!({ "name": "Author Person", "email": "author@example.com" });
    let mut job_of = job(1, "09:31:00", &json!(1.5));
    job_of["user"] = user.clone();
    let mut body = pipeline(json!([job_of]));
    body["user"] = user.clone();
    body["commit"] = json!({
        "title": "A title", "message": "A title\n\nprivate body", "author": author,
        "timestamp": "2026-11-02T10:29:12+01:00",
    });
    let event = json!({
        "object_kind": "build", "build_id": 1, "build_name": "job 1", "build_stage": "test",
        "build_status": "success", "build_started_at": "2026-11-02 09:31:00 UTC",
        "build_finished_at": "2026-11-02 09:32:00 UTC", "pipeline_id": 9, "user": user,
        "project": body["project"],
        "commit": { "author_name": "Author Person", "author_email": "author@example.com" },
    });
    [body, event]
}

#[test]
fn people_are_named_only_as_far_as_an_operator_says() {
    let [pipeline, _] = of_people();
    for (people, actor, author) in [
        ("", false, false),
        ("actor", true, false),
        ("author", false, true),
        (" Actor , author,", true, true),
    ] {
        let found = of(&pipeline, &settings(&[("GITLAB_PEOPLE", people)]));
        let text = format!("{:?}", found.iter().map(|it| &it.span).collect::<Vec<_>>());
        for (word, expected) in [
            ("Actor Person", actor),
            ("actor.login", actor),
            ("Author Person", author),
            ("author@example.com", author),
            ("actor@example.com", false),
            ("actor.png", false),
            ("private body", false),
        ] {
            assert_eq!(text.contains(word), expected, "{word} with {people:?}");
        }
        // Never on a resource, which is copied to every span.
        let resources = format!("{:?}", found.iter().map(|it| &it.resource).collect::<Vec<_>>());
        assert!(!resources.contains("erson") && !resources.contains("ctor"), "{resources}");
        let run = kind(&found, "run").next().unwrap();
        assert_eq!(run.attributes["gitlab.commit.timestamp"], "\"2026-11-02T09:29:12Z\"");
        for of_kind in ["run", "job"] {
            let one = kind(&found, of_kind).next().unwrap();
            let expected = actor.then_some("\"77\"");
            assert_eq!(one.attributes.get("user.id").map(String::as_str), expected, "{of_kind}");
        }
    }
    for wrong in ["all", "true", "actor;author"] {
        let vars: Vars = [("GITLAB_PEOPLE".to_owned(), wrong.to_owned())].into();
        assert!(Settings::parse(&vars).is_err(), "{wrong}");
    }
}

#[test]
fn the_job_of_a_job_event_names_who_started_it_by_the_same_setting() {
    let [_, event] = of_people();
    for (people, expected) in [("", false), ("author", false), ("actor", true)] {
        let settings = settings(&[("GITLAB_PEOPLE", people), ("GITLAB_JOB_SPANS", "job")]);
        let found = of(&event, &settings);
        let [job] = found.as_slice() else { panic!("{} spans", found.len()) };
        assert_eq!(job.attributes.contains_key("user.name"), expected, "{people}");
        assert!(!format!("{:?}", job.span).contains("Author"), "{people}");
    }
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn no_recorded_person_is_named_by_default() {
    let mut addresses = 0;
    for (file, body) in recorded() {
        let payload: Value = serde_json::from_slice(&body).unwrap();
        for mode in [JobSpans::Pipeline, JobSpans::Job] {
            for it in of(&payload, &with_jobs(TraceIds::Hashed, mode)) {
                let named = it.attributes.keys().chain(it.resource.keys());
                let named = named.filter(|it| it.starts_with("user.") || it.contains("author"));
                assert_eq!(named.collect::<Vec<_>>(), Vec::<&String>::new(), "{file}");
                let text = format!("{:?} {:?}", it.attributes, it.resource);
                for person in [&payload["user"], &payload["commit"]["author"]] {
                    let email = person["email"].as_str();
                    let Some(user) = email.filter(|it| it.contains('@')) else { continue };
                    addresses += 1;
                    assert!(!text.contains(user), "{file}: {user}");
                }
            }
        }
    }
    assert!(addresses > 50, "{addresses}");
}

fn recorded() -> Vec<(String, Vec<u8>)> {
    let root = std::env::var_os("SPANHOOK_FIXTURES").expect("SPANHOOK_FIXTURES");
    let all = deliveries::payloads(&Path::new(&root).join("gitlab"));
    let of_webhook = |(file, _): &(String, Vec<u8>)| {
        !file.starts_with("GOLDEN") && !file.starts_with("STANDARD_WEBHOOKS")
    };
    all.into_iter().filter(of_webhook).collect()
}

#[test]
fn a_stage_lasts_from_the_first_wait_for_a_runner_to_the_end_of_its_last_job() {
    let found = of(
        &pipeline(json!([
            job(1, "09:32:00", &json!(10.5)),
            job(2, "09:31:40", &json!(2.25)),
            job(3, "09:33:00", &json!(null)),
        ])),
        &Settings::default(),
    );
    let stage = kind(&found, "stage").next().unwrap();
    let queues: Vec<_> = kind(&found, "queue").collect();
    assert_eq!(queues.len(), 2);
    let starts = queues.iter().map(|it| it.span.start_time_unix_nano);
    assert_eq!(stage.span.start_time_unix_nano, starts.min().unwrap());
    let date = describe::date(stage.span.start_time_unix_nano).to_string();
    assert_eq!(date, "2026-11-02T09:31:37.75Z");
    // The first job of it that began.
    assert_eq!(stage.attributes["gitlab.stage.queued_duration"], "2.25");

    let never = of(&pipeline(json!([job(3, "09:33:00", &json!(null))])), &Settings::default());
    let stage = kind(&never, "stage").next().unwrap();
    assert!(!stage.attributes.contains_key("gitlab.stage.queued_duration"));
    assert_eq!(describe::date(stage.span.start_time_unix_nano).to_string(), "2026-11-02T09:33:00Z");
}

#[test]
fn a_wait_begins_no_earlier_than_its_job_was_made() {
    for (from, queued, expected, repaired) in [
        // To the second the job began at once; to the hundredth it waited.
        ("09:30:00", 0.73, "2026-11-02T09:30:00Z", false),
        ("09:30:05", 5.9, "2026-11-02T09:30:00Z", false),
        ("09:30:05", 4.5, "2026-11-02T09:30:00.5Z", false),
        ("09:30:05", 3600.0, "2026-11-02T09:30:00Z", true),
        ("09:30:05", -0.2, "2026-11-02T09:30:05Z", true),
    ] {
        let found = of(&pipeline(json!([job(1, from, &json!(queued))])), &Settings::default());
        let queue = kind(&found, "queue").next().unwrap();
        let start = describe::date(queue.span.start_time_unix_nano).to_string();
        assert_eq!(start, expected, "{from} {queued}");
        assert_eq!(queue.attributes.contains_key("spanhook.time_repaired"), repaired, "{queued}");
    }
}

/// 64 of 65 began before it, when a stage began with its first job.
#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn no_recorded_wait_begins_before_what_is_above_it() {
    let (mut waits, mut repaired) = (0, 0);
    for (file, body) in recorded() {
        let payload = serde_json::from_slice(&body).unwrap();
        let found = of(&payload, &Settings::default());
        for queue in kind(&found, "queue") {
            let above = found.iter().find(|it| it.span.span_id == queue.span.parent_span_id);
            let above = above.unwrap_or_else(|| panic!("{file}: an orphan"));
            let (start, from) = (&queue.span.start_time_unix_nano, above.span.start_time_unix_nano);
            assert!(from <= *start, "{file}: {}", queue.span.name);
            waits += 1;
            repaired += usize::from(queue.attributes.contains_key("spanhook.time_repaired"));
        }
        for stage in kind(&found, "stage") {
            let run = kind(&found, "run").next().unwrap();
            let (start, from) = (stage.span.start_time_unix_nano, run.span.start_time_unix_nano);
            assert!(from <= start, "{file}: {}", stage.span.name);
        }
    }
    // Those of GitLab's documentation, whose figures are made up.
    assert_eq!((waits, repaired), (32, 6));
}

proptest! {
    #[test]
    fn whatever_jobs_waited_no_wait_begins_before_its_stage(
        jobs in prop::collection::vec((0u32..3600, prop::option::of(-10.0..4000.0f64), "[ab]"), 1..8)
    ) {
        let builds: Vec<_> = jobs.iter().enumerate().map(|(id, (from, queued, stage))| {
            let from = format!("10:{:02}:{:02}", from / 60, from % 60);
            let mut job = job(id as u64, &from, &json!(queued));
            job["stage"] = json!(stage);
            job["finished_at"] = json!("2026-11-02 12:00:00 UTC");
            job
        }).collect();
        let found = of(&pipeline(json!(builds)), &Settings::default());
        for it in found.iter().filter(|it| !it.span.parent_span_id.is_empty()) {
            let above = found.iter().find(|other| other.span.span_id == it.span.parent_span_id).unwrap();
            prop_assert!(above.span.start_time_unix_nano <= it.span.start_time_unix_nano);
            prop_assert!(it.span.start_time_unix_nano <= it.span.end_time_unix_nano);
        }
    }
}

#[test]
fn a_draft_is_work_in_progress_and_a_locked_request_is_locked() {
    for (state, title, more, expected) in [
        ("opened", "Round prices", json!({}), Some("open")),
        ("opened", "Draft: round prices", json!({}), Some("wip")),
        ("opened", "[draft] round prices", json!({}), Some("wip")),
        ("opened", "(Draft) round prices", json!({}), Some("wip")),
        ("opened", "WIP: round prices", json!({}), Some("wip")),
        ("opened", "Drafty: é", json!({}), Some("open")),
        ("opened", "é", json!({}), Some("open")),
        ("opened", "Round prices", json!({ "detailed_merge_status": "draft_status" }), Some("wip")),
        ("opened", "Round prices", json!({ "draft": true }), Some("wip")),
        ("opened", "Round prices", json!({ "work_in_progress": true }), Some("wip")),
        ("opened", "Round prices", json!({ "draft": false }), Some("open")),
        ("locked", "Round prices", json!({}), Some("locked")),
        ("merged", "Draft: round prices", json!({}), Some("merged")),
        ("closed", "Draft: round prices", json!({}), Some("closed")),
        ("of tomorrow", "Round prices", json!({}), None),
    ] {
        let mut body = pipeline(json!([]));
        let mut request = more.clone();
        request["iid"] = json!(57);
        request["title"] = json!(title);
        request["state"] = json!(state);
        body["merge_request"] = request;
        let found = of(&body, &Settings::default());
        let found = found[0].resource.get("vcs.change.state").map(|it| it.trim_matches('"'));
        assert_eq!(found, expected, "{state} {title} {more}");
    }
}

#[test]
fn a_pipeline_tells_who_may_see_its_project_and_what_it_merges_into() {
    for (level, expected) in [
        (json!(0), Some("private")),
        (json!(10), Some("internal")),
        (json!(20), Some("public")),
        (json!(15), None),
        (json!(null), None),
    ] {
        let mut body = pipeline(json!([]));
        body["project"]["visibility_level"] = level.clone();
        body["project"]["default_branch"] = json!("trunk");
        let resource = of(&body, &Settings::default()).remove(0).resource;
        let found = resource.get("gitlab.project.visibility").map(|it| it.trim_matches('"'));
        assert_eq!(found, expected, "{level}");
        assert_eq!(resource["gitlab.project.default_branch"], "\"trunk\"");
    }
}

#[test]
fn a_downstream_pipeline_tells_the_project_that_triggered_it_and_no_secret_of_its_address() {
    let mut body = pipeline(json!([]));
    body["source_pipeline"] = json!({
        "project": {
            "id": 41, "path_with_namespace": "up/stream",
            "web_url": "https://user:secret@gitlab.example.com/up/stream?private_token=secret",
        },
        "pipeline_id": 8,
    });
    for (job, links) in [(json!(null), 0), (json!(70), 1)] {
        body["source_pipeline"]["job_id"] = job;
        let run = of(&body, &Settings::default()).remove(0);
        for (key, value) in [
            ("gitlab.upstream.pipeline.id", "8"),
            ("gitlab.upstream.project.id", "41"),
            ("gitlab.upstream.project.path", "\"up/stream\""),
            ("gitlab.upstream.project.url", "\"https://gitlab.example.com/up/stream\""),
        ] {
            assert_eq!(run.attributes[key], value, "{key}");
        }
        assert_eq!(run.span.links.len(), links);
    }
}
