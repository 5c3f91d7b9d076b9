//! The faults that an in-memory telemetry plugin for the same objects was seen to have, each as a
//! test of its own (`bug_4`).

use serde_json::json;
use spanhook_core::provider::{Provider, lighthouse::Sources};

use crate::support::{
    batch, left, missing_parents, modified, named, object, only, sample, spans, spans_of, text,
    with,
};

const TEKTON: &str = "batch-of-a-tekton-run";
const LIGHTHOUSE: &str = "batch-of-a-lighthouse-run";

#[test]
fn bugs_1_2_and_3_what_was_seen_before_a_restart_or_by_another_replica_does_not_matter() {
    let all = sample(LIGHTHOUSE);
    let items = all["items"].as_array().unwrap();
    let whole = spans(items);
    let alone: Vec<_> = items.iter().flat_map(|it| spans(std::slice::from_ref(it))).collect();
    let twice: Vec<_> = items.iter().flat_map(|it| spans(&[it.clone(), it.clone()])).collect();
    assert_eq!((alone.len(), twice.len()), (whole.len(), whole.len()));
    assert!(whole.iter().all(|it| alone.contains(it) && twice.contains(it)));
}

#[test]
fn bug_4_a_container_that_still_waits_or_runs_and_a_run_without_a_start_are_no_reason_to_stop() {
    for state in [json!({ "waiting": {} }), json!({ "running": {} }), json!({}), json!(null)] {
        let mut pod = object(TEKTON, "Pod");
        pod["status"]["phase"] = json!("Failed");
        pod["status"]["containerStatuses"][1]["state"] = state;
        let gone =
            json!({ "type": "DELETED", "observed_at": "2026-11-02T09:40:00Z", "object": pod });
        assert!(only(&spans(&[gone]), "pod").failed());
    }
    let mut run = object(TEKTON, "PipelineRun");
    run["status"]["startTime"] = json!(null);
    let all = spans(&[modified(&run)]);
    let found = only(&all, "run");
    assert_eq!((found.seconds(), found.text("spanhook.time_repaired").as_str()), (240, "true"));
}

#[test]
fn bug_5_a_pod_that_failed_before_it_ran_does_not_end_in_the_year_1() {
    let all = spans(sample("pods-of-every-end")["items"].as_array().unwrap());
    let evicted = all.iter().find(|it| it.text("error.type") == "Evicted").unwrap();
    assert_eq!(evicted.seconds(), 2, "from its creation until the kubelet saw it");
}

#[test]
fn bug_6_an_event_without_a_field_path_is_read_like_another() {
    let Some(mut event) = sample(TEKTON)["items"].as_array().unwrap().get(3).cloned() else {
        panic!()
    };
    event["object"]["involvedObject"]["fieldPath"] = json!(null);
    assert_eq!(only(&spans(&[event]), "pull").span.name, "pull");
}

#[test]
fn bug_7_a_quick_job_does_not_end_the_event_of_a_slow_one() {
    let (mut quick, slow) =
        (object(LIGHTHOUSE, "LighthouseJob"), object(LIGHTHOUSE, "LighthouseJob"));
    quick["metadata"]["name"] = json!("acme-shop-pr-42-lint-a1b2c");
    quick["metadata"]["uid"] = json!("another");
    quick["status"]["completionTime"] = json!("2026-11-02T09:30:02Z");
    let sent = |it| (Provider::Kubernetes, batch(&[modified(it)]));
    let all = left(&[sent(&quick), sent(&slow)], &with(Sources::Both));
    let parents: Vec<_> = all.values().map(|it| &it.span.parent_span_id).collect();
    assert!(parents.len() == 2 && parents[0] == parents[1] && !parents[0].is_empty());
}

#[test]
fn bug_8_jobs_without_a_guid_do_not_swallow_each_other() {
    let job = |name: &str, guid: serde_json::Value| {
        let mut job = object(LIGHTHOUSE, "LighthouseJob");
        job["metadata"]["name"] = json!(name);
        job["metadata"]["labels"]["event-GUID"] = guid;
        job["metadata"]["annotations"]["lighthouse.jenkins-x.io/cloneURI"] =
            json!("https://gitlab.com/acme/shop.git");
        modified(&job)
    };
    let all = spans(&[job("one", json!("")), job("two", json!(null)), job("three", json!(""))]);
    let traces: std::collections::BTreeSet<_> = all.iter().map(|it| &it.span.trace_id).collect();
    assert_eq!(traces.len(), 3);
}

#[test]
fn bug_9_two_jobs_that_began_in_one_millisecond_keep_their_own_pipelines() {
    let run = |number: u8| {
        let mut run = object(LIGHTHOUSE, "PipelineRun");
        run["metadata"]["uid"] = json!(format!("run-{number}"));
        run["metadata"]["labels"]["lighthouse.jenkins-x.io/id"] = json!(format!("job-{number}"));
        modified(&run)
    };
    let all = spans(&[run(1), run(2)]);
    let of: Vec<_> = all.iter().filter(|it| it.kind() == "pipeline_run").collect();
    assert_ne!(of[0].span.parent_span_id, of[1].span.parent_span_id);
}

#[test]
fn bug_10_an_event_that_is_seen_late_gives_the_same_span() {
    let Some(event) = sample(TEKTON)["items"].as_array().unwrap().get(3).cloned() else { panic!() };
    let mut late = event.clone();
    late["observed_at"] = json!("2026-11-02T10:29:00Z");
    late["type"] = json!("MODIFIED");
    late["object"]["count"] = json!(2);
    late["object"]["lastTimestamp"] = json!("2026-11-02T10:28:59Z");
    assert_eq!(spans(&[event]), spans(&[late]));
}

#[test]
fn bug_11_failures_retries_custom_runs_and_sidecars_are_told() {
    let tasks = spans(sample("task-runs-of-every-end")["items"].as_array().unwrap());
    assert_eq!(named(&tasks, "trigger").text("error.type"), "ChildPipelineRunCreationFailed");
    let mut pod = object(TEKTON, "Pod");
    let mut sidecar = pod["status"]["containerStatuses"][1].clone();
    sidecar["name"] = json!("sidecar-database");
    pod["status"]["containerStatuses"].as_array_mut().unwrap().push(sidecar);
    let all = spans(&[modified(&pod)]);
    assert_eq!(named(&all, "sidecar-database").kind(), "container");
}

/// A pull that is told while the Pod still runs has a parent that comes later.
#[test]
fn what_is_told_before_its_parent_hangs_under_it_once_that_comes() {
    let all = sample(TEKTON);
    let mut items = all["items"].as_array().unwrap().clone();
    items.reverse();
    let sent: Vec<_> = items.into_iter().map(|it| (Provider::Kubernetes, batch(&[it]))).collect();
    assert_eq!(
        missing_parents(&left(&sent[..2], &with(Sources::Objects))),
        ["pull pull step-fetch"]
    );
    assert!(missing_parents(&left(&sent, &with(Sources::Objects))).is_empty());
}

#[test]
fn nobody_is_named_and_no_message_is_kept() {
    for provider in [Provider::Kubernetes, Provider::Tekton, Provider::Lighthouse] {
        for (name, json) in crate::support::samples(provider) {
            for it in spans_of(&(provider, json), &with(Sources::Objects)) {
                let words = format!("{it:?}");
                for word in [
                    "sam-private",
                    "secret",
                    "kept by nobody",
                    "low on resource",
                    "token=x",
                    "s3cret",
                ] {
                    assert!(!words.contains(word), "{name}: {word}");
                }
                assert!(!text(&it.resource, "service.name").is_empty());
            }
        }
    }
}
