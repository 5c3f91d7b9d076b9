//! What becomes of each kind of object.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use spanhook_core::{
    delivery::{Accepted, Outcome, Unmappable},
    message::{Content, RAW, unpack},
    provider::{
        Provider,
        kubernetes::{Settings as Own, SpanContext},
        lighthouse::Sources,
        tekton,
    },
    settings::Settings,
};

use crate::support::{
    batch, left, missing_parents, modified, named, object, only, process, sample, spans, spans_of,
    text, with,
};

const TEKTON: &str = "batch-of-a-tekton-run";
const LIGHTHOUSE: &str = "batch-of-a-lighthouse-run";

#[test]
fn a_run_is_one_tree_from_the_pipeline_to_the_pull_of_an_image() {
    for (name, sources, orphans) in [
        (TEKTON, Sources::Objects, 0),
        (LIGHTHOUSE, Sources::Objects, 0),
        // The event is told by Lighthouse's webhook.
        (LIGHTHOUSE, Sources::Both, 1),
    ] {
        let all = left(&[(Provider::Kubernetes, sample(name))], &with(sources));
        let traces: BTreeMap<_, usize> = all.values().fold(BTreeMap::new(), |mut traces, it| {
            *traces.entry(it.span.trace_id.clone()).or_default() += 1;
            traces
        });
        assert_eq!(traces.len(), 1, "{name}");
        assert_eq!(missing_parents(&all).len(), orphans, "{name}");
        let runs = all.values().filter(|it| it.kind() == "run").count();
        assert_eq!(runs, 1, "{name}");
    }
}

#[test]
fn every_failed_level_says_what_was_wrong() {
    let Value::Array(items) = sample(LIGHTHOUSE)["items"].clone() else { panic!() };
    let all = spans(&items);
    for (kind, error) in [
        ("run", "_OTHER"),
        ("pipeline_run", "task_failure"),
        ("job", "OOMKilled"),
        ("pod", "OOMKilled"),
    ] {
        let found = only(&all, kind);
        assert!(found.failed(), "{kind}");
        assert_eq!(found.text("error.type"), error, "{kind}");
    }
    let errors = |kind: &str| -> Vec<String> {
        let of = all.iter().filter(|it| it.kind() == kind && it.failed());
        of.map(|it| it.text("error.type")).collect()
    };
    assert_eq!(errors("retry"), ["step_failure"]);
    assert_eq!(errors("container"), ["OOMKilled"]);
    assert_eq!(errors("pull"), ["ErrImagePull"]);
    assert_eq!(errors("step").iter().filter(|it| *it == "OOMKilled").count(), 1);
}

#[test]
fn reasons_become_results() {
    let run = object(TEKTON, "PipelineRun");
    for (status, reason, result, error) in [
        ("True", "Succeeded", "success", ""),
        ("True", "Completed", "success", ""),
        ("False", "Failed", "failure", "task_failure"),
        ("False", "", "failure", "task_failure"),
        ("False", "PipelineRunTimeout", "timeout", "PipelineRunTimeout"),
        ("False", "Cancelled", "cancellation", ""),
        ("False", "CancelledRunningFinally", "cancellation", ""),
        ("False", "PipelineRunCancelled", "cancellation", ""),
        ("False", "CouldntGetTask", "error", "CouldntGetTask"),
        ("False", "ReasonOfTomorrow", "error", "ReasonOfTomorrow"),
    ] {
        let mut run = run.clone();
        run["status"]["conditions"][0]["status"] = json!(status);
        run["status"]["conditions"][0]["reason"] = json!(reason);
        let all = spans(&[modified(&run)]);
        let found = only(&all, "run");
        assert_eq!(found.text("cicd.pipeline.result"), result, "{reason}");
        assert_eq!(found.text("error.type"), error, "{reason}");
    }
    let mut run = run;
    run["status"]["conditions"][0]["status"] = json!("Unknown");
    assert!(spans(&[modified(&run)]).is_empty(), "it still runs");
}

#[test]
fn a_task_that_was_tried_again_spans_all_its_tries() {
    let all = spans(&[modified(&object(LIGHTHOUSE, "TaskRun"))]);
    let (job, retry) = (only(&all, "job"), only(&all, "retry"));
    assert_eq!(job.text("spanhook.attempt"), "2");
    assert_eq!(retry.text("spanhook.attempt"), "1");
    assert_eq!(job.span.start_time_unix_nano, retry.span.start_time_unix_nano);
    assert_eq!(retry.span.parent_span_id, job.span.span_id);
    let steps = |above: &Vec<u8>| {
        all.iter().filter(|it| it.kind() == "step" && it.span.parent_span_id == *above).count()
    };
    assert_eq!((steps(&job.span.span_id), steps(&retry.span.span_id)), (2, 2));
    // The third step never ran, in either try.
    assert_eq!((job.span.events.len(), retry.span.events.len()), (1, 1));
}

#[test]
fn a_pod_that_never_ran_ends_when_it_is_deleted() {
    let all = left(&[(Provider::Kubernetes, sample("pods-of-every-end"))], &with(Sources::Objects));
    let pods: BTreeMap<_, _> = all
        .values()
        .filter(|it| it.kind() == "pod")
        .map(|it| {
            (it.text("k8s.pod.name"), (it.text("error.type"), it.text("spanhook.time_repaired")))
        })
        .collect();
    let expected = |error: &str, repaired: &str| (error.to_owned(), repaired.to_owned());
    for (name, found) in [
        ("waits-for-an-image", expected("ImagePullBackOff", "")),
        ("evicted", expected("Evicted", "true")),
        ("node-lost", expected("NodeLost", "")),
        ("no-node", expected("Unschedulable", "")),
        ("stopped", expected("", "")),
        ("of-an-older-tekton", expected("container_failure", "")),
        ("of-nobody", expected("", "true")),
    ] {
        assert_eq!(pods.get(name), Some(&found), "{name}");
    }
}

#[test]
fn a_pull_is_as_long_as_its_message_says_and_tells_the_size() {
    let Value::Array(items) = sample(TEKTON)["items"].clone() else { panic!() };
    let all = spans(&items);
    let pull = only(&all, "pull");
    assert_eq!(pull.span.name, "pull step-fetch");
    assert_eq!(pull.seconds(), 30);
    assert_eq!(pull.text("k8s.image.pull.duration"), "27.25");
    assert_eq!(pull.text("k8s.image.size"), "306857691");
    assert_eq!(pull.text("container.image.name"), "golang");
    assert_eq!(pull.span.parent_span_id, only(&all, "pod").span.span_id);
}

#[test]
fn an_event_of_another_pod_or_of_none_gives_nothing() {
    let Value::Array(items) = sample(TEKTON)["items"].clone() else { panic!() };
    let pulled = items.into_iter().find(|it| it["object"]["kind"] == "Event").unwrap();
    assert_eq!(spans(std::slice::from_ref(&pulled)).len(), 1);
    let mut alone = pulled.clone();
    alone.as_object_mut().unwrap().remove("pod");
    let mut foreign = pulled;
    foreign["pod"]["metadata"]["uid"] = json!("another");
    assert!(spans(&[alone, foreign]).is_empty());
}

#[test]
fn one_bad_object_costs_no_other() {
    let good = spans(&[modified(&object(TEKTON, "PipelineRun"))]);
    for bad in [
        json!(null),
        json!(7),
        json!({}),
        json!({ "object": null }),
        json!({ "object": "text" }),
        json!({ "object": { "kind": "PipelineRun" } }),
        json!({ "object": { "kind": "Pod", "metadata": { "uid": "x" }, "status": { "phase": "Failed" } } }),
    ] {
        let items = [bad.clone(), modified(&object(TEKTON, "PipelineRun"))];
        assert_eq!(spans(&items), good, "{bad}");
        // It waits in the dead-letter queue, with others that are not final or with none.
        let unfinished = json!({ "object": { "kind": "PipelineRun", "metadata": { "uid": "x" } } });
        for beside in [modified(&object(TEKTON, "PipelineRun")), unfinished] {
            let mixed = batch(&[bad.clone(), beside]);
            let outcome = process(&(Provider::Kubernetes, mixed), &Settings::default());
            let Outcome::Accepted(Accepted { unread: 1, rest, .. }) = outcome else {
                panic!("{outcome:?}")
            };
            let [kept] = rest.as_slice() else { panic!("{rest:?}") };
            let Content::Quarantined(kept) = unpack(&kept.body, Some(RAW), None).unwrap() else {
                panic!()
            };
            let kept: Value = serde_json::from_slice(&kept).unwrap();
            assert_eq!(kept, json!({ "cluster": batch(&[])["cluster"], "items": [bad] }));
        }
        let alone = process(&(Provider::Kubernetes, batch(&[bad])), &Settings::default());
        let Outcome::Quarantined { reason, .. } = alone else { panic!("{alone:?}") };
        assert_eq!(reason, Unmappable::UnknownShape);
    }
}

#[test]
fn a_batch_of_more_objects_than_are_mapped_is_kept_whole() {
    let unfinished = json!({ "object": { "kind": "PipelineRun", "metadata": { "uid": "x" } } });
    for (count, kept) in [(1000, false), (1001, true)] {
        let many = batch(&vec![unfinished.clone(); count]);
        let outcome = process(&(Provider::Kubernetes, many), &Settings::default());
        let expected = Unmappable::TooMany(1000, "objects");
        let found = matches!(outcome, Outcome::Quarantined { reason, .. } if reason == expected);
        assert_eq!(found, kept, "{count}");
    }
}

#[test]
fn the_context_that_a_run_was_given_is_linked_or_adopted_by_all_below_it() {
    let mut run = object(TEKTON, "PipelineRun");
    let mut task = object(TEKTON, "TaskRun");
    let mut pod = object(TEKTON, "Pod");
    for it in [&mut run, &mut task, &mut pod] {
        it["metadata"]["annotations"] = json!({
            "tekton.dev/pipelinerunSpanContext":
                r#"{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}"#,
        });
    }
    let items = [modified(&run), modified(&task), modified(&pod)];
    let linked = spans(&items);
    let found = only(&linked, "run");
    assert_eq!(hex::encode(&found.span.links[0].trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(found.span.parent_span_id.is_empty());

    let kubernetes = Own { span_context: SpanContext::Parent, ..Own::default() };
    let settings = Settings { kubernetes, ..Settings::default() };
    let adopted = spans_of(&(Provider::Kubernetes, batch(&items)), &settings);
    assert_eq!(adopted.len(), linked.len());
    for it in &adopted {
        assert_eq!(hex::encode(&it.span.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    }
    let found = only(&adopted, "run");
    assert_eq!(hex::encode(&found.span.parent_span_id), "00f067aa0ba902b7");
    assert!(found.span.links.is_empty());
}

#[test]
fn guids_that_are_missing_or_a_webhooks_own_join_nothing() {
    let all = spans(sample("lighthouse-jobs-of-every-state")["items"].as_array().unwrap());
    assert_eq!(all.len(), 4);
    let traces: std::collections::BTreeSet<_> = all.iter().map(|it| &it.span.trace_id).collect();
    assert_eq!(traces.len(), 4, "each job is a trace of its own");
    let both = spans_of(
        &(Provider::Kubernetes, sample("lighthouse-jobs-of-every-state")),
        &with(Sources::Both),
    );
    let below = both.iter().filter(|it| !it.span.parent_span_id.is_empty());
    let below: Vec<_> = below.map(|it| it.text("lighthouse.job.name")).collect();
    assert_eq!(below, ["acme-shop-main-release-a1b2c"], "only GitHub's GUID is a delivery's");
}

#[test]
fn tasks_and_runs_have_pages_where_the_dashboard_is_known() {
    let dashboard = Some("https://tekton.example.com".into());
    let tekton = tekton::Settings { dashboard, ..tekton::Settings::default() };
    let settings = Settings { tekton, ..Settings::default() };
    let all = spans_of(&(Provider::Kubernetes, sample(TEKTON)), &settings);
    let page = "https://tekton.example.com/#/namespaces/ci/taskruns/build-shop-run-7hq2x-compile";
    assert_eq!(only(&all, "job").text("cicd.pipeline.task.run.url.full"), page);
    let page = "https://tekton.example.com/#/namespaces/ci/pipelineruns/build-shop-run-7hq2x";
    assert_eq!(text(&only(&all, "run").resource, "cicd.pipeline.run.url.full"), page);
}

#[test]
fn a_span_name_holds_nothing_of_the_one_run() {
    let all = spans(sample("pipeline-runs-of-every-end")["items"].as_array().unwrap());
    let names: std::collections::BTreeSet<_> = all.iter().map(|it| it.span.name.as_str()).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["RUN", "RUN build-shop", "RUN push-main"]);
    named(&all, "RUN push-main");
}

/// As CircleCI's, GitLab's and GitHub's do: a test of the conventions holds all of them together.
#[test]
fn a_task_that_never_ran_is_told_as_every_providers_job_is() {
    let mut run = object(TEKTON, "PipelineRun");
    run["status"]["skippedTasks"] = json!([
        { "name": "deploy", "reason": "When Expressions evaluated to false" },
        { "name": "notify", "reason": "Parent Tasks were skipped" },
        null,
    ]);
    let mut task = object(TEKTON, "TaskRun");
    let status = task["status"].as_object_mut().unwrap();
    status.remove("startTime");
    status.remove("steps");
    status["conditions"][0]["status"] = json!("False");
    status["conditions"][0]["reason"] = json!("CouldntGetTask");
    let all = spans(&[modified(&run), modified(&task)]);
    let told: Vec<_> = all
        .iter()
        .flat_map(|it| it.span.events.iter().map(|event| (it.kind(), event)))
        .map(|(kind, event)| {
            let get = |key| text(&event.attributes, key);
            let name = get("cicd.pipeline.task.name");
            let result = get("cicd.pipeline.task.run.result");
            (kind, event.name.clone(), name, result, get("spanhook.reason"))
        })
        .collect();
    let words = |it: [&str; 5]| it.map(ToOwned::to_owned).into();
    let expected: [(String, String, String, String, String); 3] = [
        words(["run", "job not run", "deploy", "skip", "When Expressions evaluated to false"]),
        words(["run", "job not run", "notify", "skip", "Parent Tasks were skipped"]),
        words(["job", "job not run", "compile", "error", "CouldntGetTask"]),
    ];
    assert_eq!(told, expected);
}
