//! What was recorded of GitHub, read from `$SPANHOOK_FIXTURES`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use http::{HeaderMap, HeaderName};
use serde_json::{Value, json};
use spanhook_core::{
    delivery::Outcome,
    id::TraceIds,
    provider::{Provider, github::NativeJobId},
    secret::Secrets,
    settings::Settings,
};

use crate::{
    orders::{any_order_is_the_same, left, nobody_is_named, with_word},
    support::{count, ignored, only, process, requests, spans, spans_of, text, with},
};

fn root() -> PathBuf {
    Path::new(&std::env::var("SPANHOOK_FIXTURES").unwrap()).join("github")
}

fn read(path: &Path) -> Value {
    let json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    // A recorded delivery is `{headers, body}`.
    json.get("body").cloned().unwrap_or(json)
}

fn fixture(name: &str) -> Value {
    read(&root().join(name))
}

/// The deliveries of a folder in the order of their numbers.
fn sequence(folder: &str) -> Vec<Value> {
    let mut found: Vec<_> = all(&root().join(folder));
    found.sort_by_key(|path| path.file_stem().unwrap().to_str().unwrap().parse::<u32>().unwrap());
    found.iter().map(|it| read(it)).collect()
}

fn all(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all(&path));
        } else if path.extension().is_some_and(|it| it == "json") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn recorded_sequences_give_the_same_spans_in_any_order() {
    for (folder, runs, jobs) in [
        ("cimonitor/push-failed", 1, 4),
        ("cimonitor/release", 1, 7),
        ("extra/synthetic/rerun-failed-jobs", 2, 3),
        ("extra/synthetic/environment-approval", 0, 1),
    ] {
        let sequence = sequence(folder);
        any_order_is_the_same(&sequence);
        let found = left(&sequence, &Settings::default());
        assert_eq!(with_word(&found, "cicd.pipeline.action.name"), runs, "{folder}");
        assert_eq!(with_word(&found, "cicd.pipeline.task.run.url.full"), jobs, "{folder}");
    }
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn every_fixture_keeps_to_the_conventions_and_names_nobody() {
    for path in all(&root()) {
        let name = path.display().to_string();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if stem.starts_with("GOLDEN") || stem == "SIGNATURE_VECTORS" {
            continue;
        }
        let payload = read(&path);
        for ids in [TraceIds::Hashed, TraceIds::Native] {
            let body = payload.to_string();
            let quarantined =
                matches!(process(body.as_bytes(), &with(ids)), Outcome::Quarantined { .. });
            assert!(!quarantined, "{name}");
            requests(body.as_bytes(), &with(ids));
        }
        nobody_is_named(&name, &payload);
    }
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn issues_9_17_20_and_29_every_other_event_is_acknowledged() {
    for path in all(&root().join("cimonitor")) {
        let payload = read(&path);
        let own = payload.get("workflow_job").or_else(|| payload.get("workflow_run"));
        if own.is_none() {
            assert_eq!(ignored(&payload), "this kind of event gives no span", "{}", path.display());
        }
    }
    for path in all(&root().join("extra/octokit-webhooks")) {
        let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        if !folder.starts_with("workflow_") && folder != "ping" || folder == "workflow_dispatch" {
            ignored(&read(&path));
        }
    }
    let synthetic = |name: &str| fixture(&format!("extra/synthetic/{name}"));
    assert_eq!(ignored(&synthetic("job.null.json")), "the job is null");
    let foreign = synthetic("job.check-run-in-disguise.json");
    assert_eq!(ignored(&foreign), "the check is another app's and no job");
    ignored(&fixture("liatrio-githubactionsreceiver/unknown/1_workflow_job_unknown.json"));
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn native_ids_are_the_golden_ones() {
    let golden: Value = fixture("GOLDEN_IDS.json");
    let payload = fixture(golden["source_payload"].as_str().unwrap());
    let gate =
        golden.as_object().unwrap().iter().find(|(key, _)| key.starts_with("check_run_id_gate"));
    for (kind, expected) in
        [(NativeJobId::CheckRun, gate.unwrap().1), (NativeJobId::Name, &golden["legacy"])]
    {
        let mut settings = with(TraceIds::Native);
        settings.github.native_job_id = kind;
        let found: Vec<_> = spans_of(&payload, &settings).into_iter().map(|it| it.1).collect();
        let (job, queue) = (only(&found, "job"), only(&found, "queue"));
        assert_eq!(golden["trace_id"], hex(&job.trace_id));
        assert_eq!(golden["root_span_id"], hex(&job.parent_span_id));
        assert_eq!(expected["job"], hex(&job.span_id), "{kind:?}");
        assert_eq!(expected["queue"], hex(&queue.span_id), "{kind:?}");
        let steps = found.iter().filter(|it| text(&it.attributes, "spanhook.kind") == "step");
        let steps: serde_json::Map<_, _> =
            steps.map(|it| (it.name.clone(), json!(hex(&it.span_id)))).collect();
        assert_eq!(expected["steps"], json!(steps), "{kind:?}");
    }
    let run = fixture("contrib-githubreceiver-via-liatrio/workflow-run-completed.json");
    let run = spans_of(&run, &with(TraceIds::Native)).remove(0).1;
    assert_eq!(golden["root_span_id"], hex(&run.span_id));
    assert_eq!(golden["previous_attempt_trace_id(link)"], hex(&run.links[0].trace_id));

    let golden: Value = fixture("extra/contrib-githubreceiver-reduced/GOLDEN_IDS_2.json");
    let payload = fixture("contrib-githubreceiver/workflow-job-skipped.json");
    for (kind, key) in [(NativeJobId::CheckRun, "check_run_id_gate"), (NativeJobId::Name, "legacy")]
    {
        let mut settings = with(TraceIds::Native);
        settings.github.native_job_id = kind;
        let job = spans_of(&payload, &settings).remove(0).1;
        assert_eq!(golden["trace_id"], hex(&job.trace_id));
        assert_eq!(golden["root_span_id"], hex(&job.parent_span_id));
        assert_eq!(golden[key]["job"], hex(&job.span_id), "{kind:?}");
    }
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn issues_4_11_13_14_18_19_and_23_collected_shapes_become_what_they_should() {
    let of = |name: &str| spans(&fixture(name));
    let same_names = of("extra/synthetic/job.same-step-names.json");
    assert_eq!(count(&same_names, "step"), 7);
    let cancelled = of("extra/synthetic/job.cancelled-in-queue.json");
    assert_eq!((count(&cancelled, "queue"), cancelled.len()), (1, 2));
    let lost = of("extra/synthetic/job.unfinished-step.json");
    assert_eq!(text(&only(&lost, "job").attributes, "error.type"), "runner_lost");
    let reused = of("extra/synthetic/rerun-failed-jobs/4.json");
    assert_eq!((reused.len(), reused[0].name.as_str()), (1, "reused build"));
    let skipped = of("contrib-githubreceiver/workflow-job-skipped.json");
    assert_eq!(
        (skipped.len(), text(&skipped[0].attributes, "cicd.pipeline.task.run.result").as_str()),
        (1, "skip")
    );
    let folder = "extra/contrib-githubreceiver-reduced";
    let (job, run) = (
        of(&format!("{folder}/workflow_job.completed.reusable.json")),
        of(&format!("{folder}/workflow_run.completed.reusable.json")),
    );
    assert_eq!(job[0].trace_id, run[0].trace_id);
    assert_eq!(only(&job, "job").parent_span_id, run[0].span_id);
    for payload in sequence("cimonitor/release") {
        for (resource, _) in spans_of(&payload, &Settings::default()) {
            assert_eq!(text(&resource, "vcs.ref.head.name"), "4.11.1");
            // Only the run's event tells that it is a tag, by the workflows that it called there.
            assert_ne!(text(&resource, "vcs.ref.head.type"), "branch");
        }
    }
    let (run, job) = (of("extra/synthetic/ghes/run.json"), of("extra/synthetic/ghes/job.json"));
    assert_eq!(only(&job, "job").parent_span_id, run[0].span_id);
    let old = of("extra/hub4j-github-api/workflow_job.json");
    assert_eq!((count(&old, "job"), count(&old, "queue")), (1, 0));
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn issue_10_every_signature_vector_is_judged_right() {
    let table = fixture("extra/synthetic/SIGNATURE_VECTORS.json");
    let secrets = Secrets::new([table["secret"].as_str().unwrap()]);
    let vectors = table["vectors"].as_array().unwrap();
    for vector in vectors {
        let mut headers = HeaderMap::new();
        for name in ["X-Hub-Signature-256", "X-Hub-Signature"] {
            if let Some(value) = vector[name].as_str() {
                headers.insert(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
            }
        }
        let body = vector["body"].as_str().unwrap().as_bytes();
        let verdict = Provider::Github.room().checks[0].verify(&headers, body, &secrets, 0);
        assert_eq!(vector["ok"], verdict.is_ok(), "{}", vector["name"]);
    }
    assert!(vectors.len() > 9);
}
