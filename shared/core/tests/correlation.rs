//! What joins runs, their jobs and the builds that these report: one value of one attribute.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::BTreeSet, fs, path::Path};

use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value},
    trace::v1::ResourceSpans,
};
use spanhook_core::{
    build_event::{self, Sender},
    delivery::{Delivery, Outcome},
    message::Message,
    provider::Provider,
    rules::ProjectRules,
    settings::{Settings, Vars},
};
use support::request;

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|it| it.key == key).and_then(|it| it.value.as_ref());
    match found.and_then(|it| it.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::parse(&pairs.collect::<Vars>()).unwrap()
}

fn groups(messages: &[Message]) -> Vec<ResourceSpans> {
    messages.iter().flat_map(|it| request(it).resource_spans).collect()
}

fn of(provider: Provider, body: &[u8], settings: &Settings) -> Vec<ResourceSpans> {
    let headers = http::HeaderMap::new();
    let delivery = Delivery { headers: &headers, body };
    match delivery.process(provider, settings, &ProjectRules::default()) {
        Outcome::Accepted(accepted) => groups(&accepted.messages),
        _ => Vec::new(),
    }
}

fn sample(path: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events").join(path)).unwrap()
}

fn resource(group: &ResourceSpans, key: &str) -> String {
    text(&group.resource.as_ref().unwrap().attributes, key)
}

fn kinds(group: &ResourceSpans) -> BTreeSet<String> {
    let spans = group.scope_spans.iter().flat_map(|it| &it.spans);
    spans.map(|it| text(&it.attributes, "spanhook.kind")).collect()
}

#[test]
fn every_run_and_job_carries_the_runs_id_where_nothing_else_is_chosen() {
    let settings = Settings::default();
    for provider in Provider::ALL {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events").join(provider.as_str());
        let mut found = BTreeSet::new();
        for file in fs::read_dir(folder).unwrap() {
            for group in of(provider, &fs::read(file.unwrap().path()).unwrap(), &settings) {
                let (kinds, id) = (kinds(&group), resource(&group, "correlation_id"));
                assert_eq!(id, resource(&group, "cicd.pipeline.run.id"), "{provider} {kinds:?}");
                if kinds.contains("run") || kinds.contains("job") {
                    assert!(!id.is_empty(), "{provider} {kinds:?}");
                    found.extend(kinds);
                }
            }
        }
        assert!(found.contains("run") && found.contains("job"), "{provider} {found:?}");
    }
}

#[test]
fn a_template_names_a_run_and_its_jobs_alike() {
    for (variable, template, samples, expected) in [
        (
            "GITLAB_CORRELATION_ID",
            "mobile-build-{iid}",
            &["gitlab/pipeline-failed.json"][..],
            "mobile-build-88",
        ),
        (
            "GITLAB_CORRELATION_ID",
            "{project}@{sha}",
            &["gitlab/pipeline-failed.json"],
            "acme/shop@",
        ),
        (
            "CIRCLECI_CORRELATION_ID",
            "{repository}-{number}",
            &["circleci/workflow-completed.json", "circleci/job-completed-unit-tests.json"],
            "storefront-481",
        ),
        (
            "GITHUB_CORRELATION_ID",
            "{repository}/{run_id}.{attempt}",
            &["github/workflow-run-failed.json", "github/workflow-job-test-failed.json"],
            "shop/",
        ),
        (
            "KUBERNETES_CORRELATION_ID",
            "{pipeline}:{run_id}",
            &["kubernetes/batch-of-a-tekton-run.json"],
            "build-shop:5b1f0c7e-0000-4000-8000-000000000001",
        ),
    ] {
        let settings = settings(&[(variable, template)]);
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for path in samples {
            let provider = Provider::named(path.split('/').next().unwrap()).unwrap();
            for group in of(provider, &sample(path), &settings) {
                found.insert(resource(&group, "correlation_id"));
                seen.extend(kinds(&group));
            }
        }
        assert!(seen.contains("run") && seen.contains("job"), "{seen:?}");
        let found: Vec<_> = found.into_iter().collect();
        let [one] = found.as_slice() else { panic!("{variable}={template}: {found:?}") };
        assert!(one.starts_with(expected), "{variable}={template}: {one}");
    }
}

#[test]
fn a_run_that_lacks_what_the_template_asks_for_carries_its_id() {
    let settings = settings(&[("GITLAB_CORRELATION_ID", "mobile-build-{iid}")]);
    let body = br#"{"object_kind":"pipeline","object_attributes":{"id":7,"status":"success",
        "created_at":"2026-01-01T00:00:00Z","finished_at":"2026-01-01T00:01:00Z"}}"#;
    let groups = of(Provider::Gitlab, body, &settings);
    assert_eq!(resource(&groups[0], "correlation_id"), "7");
}

#[test]
fn a_template_is_read_or_says_what_to_type() {
    for (pairs, expected) in [
        (
            &[("GITLAB_CORRELATION_ID", "mobile")][..],
            "use text with {run_id}, {iid} or {sha} in it",
        ),
        (&[("GITLAB_CORRELATION_ID", "{number}")], "use text with {run_id}, {iid} or {sha} in it"),
        (&[("GITLAB_CORRELATION_ID", "{repository}")], "use text with {run_id}"),
        (
            &[("GITLAB_CORRELATION_ID", "{iid}"), ("GITLAB_JOB_SPANS", "job")],
            "use {iid} with GITLAB_JOB_SPANS=pipeline only",
        ),
        (&[("GITHUB_CORRELATION_ID", "{iid}")], "use text with {run_id}, {attempt} or {sha} in it"),
        (&[("CIRCLECI_CORRELATION_ID", "{")], "{number}, {pipeline_id} or {sha}"),
        (&[("KUBERNETES_CORRELATION_ID", "{uid}")], "use text with {run_id} or {sha} in it"),
    ] {
        let vars = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let error = Settings::parse(&vars.collect::<Vars>()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_build_and_the_run_that_made_it_have_the_same_one() {
    let settings = settings(&[("GITLAB_CORRELATION_ID", "mobile-build-{iid}")]);
    let run = of(Provider::Gitlab, &sample("gitlab/pipeline-failed.json"), &settings);
    let id = resource(&run[0], "correlation_id");
    let event = format!(
        r#"{{"timestamp":"2026-11-20T10:00:00Z","type":"ci_build_metadata","correlation_id":"{id}",
        "project":"mobile/app","job_status":"success","metrics":{{"duration_seconds":412}}}}"#
    );
    let sender = Sender::Trusted;
    let batch = build_event::map(event.as_bytes(), 0, &settings, sender).unwrap();
    let rules = ProjectRules::default();
    let accepted =
        spanhook_core::delivery::Accepted::of("build", batch.telemetry, &settings, &rules).unwrap();
    let spans = groups(&accepted.messages[..1]);
    assert_eq!(resource(&spans[0], "correlation_id"), id);
}
