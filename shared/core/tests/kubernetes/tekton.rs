//! Tekton's own events: the same objects as the relay's, to the same bytes.

use std::process::Command;

use http::HeaderMap;
use serde_json::{Value, json};
use spanhook_core::{
    delivery::{Delivery, Outcome, Unmappable},
    host::Host,
    id::traceparent,
    provider::{Provider, kubernetes::Settings as Own, lighthouse::Sources},
    rules::ProjectRules,
    settings::Settings,
    traceparent::{Context, parse},
};

use crate::{
    recorded,
    support::{
        Seen, Sent, any_order_is_the_same, batch, left, missing_parents, modified, object, process,
        samples, spans_of, with,
    },
};

/// In the cluster that the relay's samples name.
fn prod(settings: Settings) -> Settings {
    let cluster = Host::parse("prod").unwrap();
    Settings { kubernetes: Own { cluster, ..settings.kubernetes.clone() }, ..settings }
}

fn event(object: &Value) -> Sent {
    let kind = object["kind"].as_str().unwrap();
    let key = format!("{}{}", kind[..1].to_lowercase(), &kind[1..]);
    let mut object = object.clone();
    let fields = object.as_object_mut().unwrap();
    fields.remove("kind");
    fields.remove("apiVersion");
    (Provider::Tekton, json!({ key.as_str(): object }))
}

#[test]
fn the_same_object_gives_the_same_spans_whichever_source_brings_it() {
    for (name, kind) in [
        ("batch-of-a-tekton-run", "PipelineRun"),
        ("batch-of-a-tekton-run", "TaskRun"),
        ("batch-of-a-lighthouse-run", "PipelineRun"),
        ("batch-of-a-lighthouse-run", "TaskRun"),
        ("task-runs-of-every-end", "CustomRun"),
        ("pipeline-runs-of-every-end", "PipelineRun"),
    ] {
        for sources in [Sources::Objects, Sources::Both] {
            let settings = prod(with(sources));
            let object = object(name, kind);
            let relayed = (Provider::Kubernetes, batch(&[modified(&object)]));
            let expected = spans_of(&relayed, &settings);
            assert!(!expected.is_empty(), "{name} {kind}");
            assert_eq!(spans_of(&event(&object), &settings), expected, "{name} {kind}");
            let structured =
                json!({ "specversion": "1.0", "type": "any", "data": event(&object).1 });
            assert_eq!(spans_of(&(Provider::Tekton, structured), &settings), expected);
        }
    }
}

#[test]
fn an_object_of_v1beta1_gives_the_spans_of_v1() {
    let of = |name: &str| -> Vec<Seen> {
        let sample = samples(Provider::Tekton).remove(name).unwrap();
        spans_of(&(Provider::Tekton, sample), &Settings::default())
    };
    assert_eq!(of("pipelinerun-v1beta1"), of("pipelinerun-successful"));
    assert_eq!(of("structured"), of("pipelinerun-successful"));
}

#[test]
fn what_is_no_run_is_ignored_or_kept_with_a_reason() {
    let of = |name: &str| {
        let sample = samples(Provider::Tekton).remove(name).unwrap();
        process(&(Provider::Tekton, sample), &Settings::default())
    };
    assert!(matches!(of("pipelinerun-started"), Outcome::Ignored { .. }));
    for (name, expected) in [
        ("another-event", Unmappable::UnknownShape),
        ("pipelinerun-without-uid", Unmappable::NoRun),
    ] {
        let Outcome::Quarantined { reason, .. } = of(name) else { panic!("{name}") };
        assert_eq!(reason, expected, "{name}");
    }
}

#[test]
fn what_a_run_was_given_is_blanked_before_it_is_kept() {
    let run = samples(Provider::Tekton).remove("pipelinerun-failed").unwrap().to_string();
    let kept = String::from_utf8((Provider::Tekton.room().redact)(run.as_bytes()).into()).unwrap();
    assert!(run.contains("s3cret") && !kept.contains("s3cret"), "{kept}");
}

fn answer(query: &str, rest: &str) -> String {
    let path = format!("/traceparent/tekton/{rest}");
    let job = parse(&path, Some(query), None).job.unwrap();
    let settings = prod(Settings::default());
    let context = Context::of(&job, &settings, &ProjectRules::default(), None);
    traceparent(context.trace, context.span, true)
}

/// What the endpoint tells a step is where its span will be.
#[test]
fn a_step_that_asks_is_told_the_place_of_its_span() {
    let of = |name: &str, kind: &str, step: &str, span_kind: &str| {
        let sent = (Provider::Kubernetes, batch(&[modified(&object(name, kind))]));
        let all = spans_of(&sent, &prod(with(Sources::Objects)));
        let found = all.iter().find(|it| {
            it.kind() == span_kind && (step.is_empty() || it.text("tekton.step.name") == step)
        });
        let span = &found.unwrap().span;
        format!("00-{}-{}-01", hex::encode(&span.trace_id), hex::encode(&span.span_id))
    };
    let uid = |number: u8| format!("5b1f0c7e-0000-4000-8000-{number:012}");
    let tekton = "batch-of-a-tekton-run";
    assert_eq!(answer("", &uid(1)), of(tekton, "PipelineRun", "", "run"));
    let task = format!("{}/{}", uid(1), uid(2));
    assert_eq!(answer("", &task), of(tekton, "TaskRun", "", "job"));
    assert_eq!(answer("", &format!("{task}/build")), of(tekton, "TaskRun", "build", "step"));
    // Begun by Lighthouse, the trace is that of the event; without one, that of its job.
    let lighthouse = "batch-of-a-lighthouse-run";
    let task = format!("{}/{}/build/2", uid(11), uid(12));
    let event = "event=6f1d2c3b-00aa-11f1-9c3d-5a6b7c8d9e0f";
    assert_eq!(answer(event, &task), of(lighthouse, "TaskRun", "build", "step"));
    assert_ne!(answer("above=acme-shop-pr-42-unit-x2k9f", &task), answer(event, &task));
    for (query, rest) in [
        ("", "1/2"),
        ("", &format!("{task}/5")),
        ("event=a b", &task),
        ("", &format!("{}/{}/build/0", uid(11), uid(12))),
    ] {
        let path = format!("/traceparent/tekton/{rest}");
        assert!(parse(&path, Some(query), None).job.is_err(), "{path}?{query}");
    }
}

#[test]
fn the_shell_function_of_the_docs_computes_these_ids() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ids.md");
    let page = std::fs::read_to_string(page).unwrap();
    let function = page.lines().find(|line| line.starts_with("id() {")).unwrap();
    let uid = "5b1f0c7e-0000-4000-8000-000000000001";
    for (query, rest, trace, span) in [
        ("", String::new(), format!("object {uid}"), format!("object {uid}")),
        ("", format!("/{uid}/build"), format!("object {uid}"), format!("step {uid} 0 build")),
        ("event=1-2", format!("/{uid}"), "event 1-2".into(), format!("object {uid}")),
        ("above=job-x1", format!("/{uid}"), "job job-x1".into(), format!("object {uid}")),
    ] {
        let script = format!(
            "{function}\necho 00-$(id 16 spanhook/1 kubernetes prod trace {trace})-$(id 8 spanhook/1 kubernetes prod {span})-01"
        );
        let shell = Command::new("sh").args(["-c", &script]).output().unwrap();
        let told = answer(query, &format!("{uid}{rest}"));
        assert_eq!(String::from_utf8_lossy(&shell.stdout).trim(), told);
    }
}

#[test]
fn the_headers_of_binary_mode_are_not_needed() {
    let body = samples(Provider::Tekton).remove("taskrun-successful").unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("ce-type", "dev.tekton.event.pipelinerun.failed.v1".parse().unwrap());
    let text = body.to_string();
    let told = Delivery { headers: &headers, body: text.as_bytes() };
    let told = told.process(Provider::Tekton, &Settings::default(), &ProjectRules::default());
    assert_eq!(told, process(&(Provider::Tekton, body), &Settings::default()));
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn recorded_events_are_a_tree_alone_and_add_nothing_to_the_relays() {
    let folder = recorded::root().join("cloudevents");
    let mut events: Vec<Sent> = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("derived-") {
            let json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            events.push((Provider::Tekton, json));
        }
    }
    assert_eq!(events.len(), 8);
    let settings = prod(with(Sources::Objects));
    let alone = any_order_is_the_same(&events, &settings);
    // Only the LighthouseJobs are told by nobody.
    let queue_or_run = |it: &String| it.starts_with("pipeline_run ") || it.starts_with("queue ");
    assert!(missing_parents(&alone).iter().all(queue_or_run));
    let relayed = recorded::relayed();
    let all = any_order_is_the_same(&[relayed.clone(), events].concat(), &settings);
    assert_eq!(all, left(&relayed, &settings));
}
