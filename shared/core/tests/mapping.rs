//! Mappings beyond what was recorded: odd jobs, gaps, downstream pipelines, size, and anything.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking")]

mod conventions;
mod support;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use spanhook_core::{
    delivery::{Mapped, Unmappable},
    id::TraceIds,
    job::{Claim, Job},
    otlp::encode::{Limits, messages},
    provider::{Provider, gitlab::JobSpans},
    rules::ProjectRules,
    settings::Settings,
    traceparent::Context,
};
use support::{claim, map, with_ids, with_jobs};

fn requests(
    provider: Provider,
    mapped: Mapped<'_>,
    limits: Limits,
) -> Vec<ExportTraceServiceRequest> {
    let Mapped::Telemetry(telemetry) = mapped else { return Vec::new() };
    let messages = telemetry.iter().flat_map(|it| messages(it, provider.as_str(), limits));
    let decode = |message| {
        let request = support::request(&message);
        conventions::check(&request);
        request
    };
    messages.map(decode).collect()
}

fn spans(requests: Vec<ExportTraceServiceRequest>) -> Vec<Span> {
    let groups = requests.into_iter().flat_map(|it| it.resource_spans);
    groups.flat_map(|it| it.scope_spans).flat_map(|it| it.spans).collect()
}

#[allow(clippy::needless_pass_by_value, reason = "it is made at the call")]
fn pipeline(builds: Value) -> Value {
    json!({
        "object_kind": "pipeline",
        "object_attributes": {
            "id": 9, "status": "failed", "ref": "main",
            "created_at": "2026-11-02 09:30:00 UTC", "finished_at": "2026-11-02 09:40:00 UTC",
        },
        "project": { "id": 1, "web_url": "https://gitlab.example.com/a/b", "path_with_namespace": "a/b" },
        "builds": builds,
    })
}

fn job(id: u64, status: &str) -> Value {
    json!({
        "id": id, "stage": "test", "name": format!("job {id}"), "status": status,
        "started_at": "2026-11-02 09:31:00 UTC", "finished_at": "2026-11-02 09:32:00 UTC",
    })
}

fn of(body: &Value) -> Vec<Span> {
    let text = body.to_string();
    let mapped = map(Provider::Gitlab, text.as_bytes(), &Settings::default()).unwrap();
    spans(requests(Provider::Gitlab, mapped, Limits::default()))
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value::{
        BoolValue, IntValue, StringValue,
    };
    match span.attributes.iter().find(|it| it.key == key)?.value.as_ref()?.value.as_ref()? {
        StringValue(text) => Some(text.clone()),
        BoolValue(it) => Some(it.to_string()),
        IntValue(it) => Some(it.to_string()),
        _ => None,
    }
}

fn named<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    spans.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("no span {name}"))
}

#[test]
fn one_odd_job_costs_no_other_job() {
    let mut odd = job(2, "success");
    for (field, value) in [
        ("started_at", json!({})),
        ("finished_at", json!([1])),
        ("runner", json!("none")),
        ("stage", json!(null)),
        ("name", json!(17)),
        ("queued_duration", json!("soon")),
        ("allow_failure", json!("yes")),
        ("environment", json!(false)),
    ] {
        odd[field] = value;
    }
    let found =
        of(&pipeline(json!([job(1, "success"), odd, null, 5, "text", [], {}, job(3, "failed")])));
    named(&found, "job 1");
    named(&found, "job 3");
    assert_eq!(attribute(named(&found, "17"), "spanhook.time_repaired").as_deref(), Some("true"));
}

#[test]
fn missing_and_reversed_times_are_repaired_and_marked() {
    let mut reversed = job(1, "success");
    reversed["finished_at"] = json!("2026-11-02 09:30:00 UTC");
    let mut unfinished = job(2, "failed");
    unfinished["finished_at"] = json!(null);
    let found = of(&pipeline(json!([reversed, unfinished, job(3, "success")])));
    for (name, marked) in [("job 1", true), ("job 2", true), ("job 3", false)] {
        let span = named(&found, name);
        assert_eq!(attribute(span, "spanhook.time_repaired").is_some(), marked, "{name}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
}

#[test]
fn jobs_that_never_started_are_events_of_the_run_with_their_reason() {
    let never = |id, status, reason: Value| json!({ "id": id, "name": format!("n{id}"), "status": status, "failure_reason": reason, "started_at": null });
    let found = of(&pipeline(json!([
        never(1, "skipped", json!(null)),
        never(2, "manual", json!(null)),
        never(3, "created", json!(null)),
        never(4, "failed", json!("stuck_or_timeout_failure")),
        never(5, "canceled", json!(null)),
    ])));
    assert_eq!(found.len(), 1, "only the run");
    let text = format!("{:?}", found[0].events);
    for reason in ["skipped", "manual", "created", "stuck_or_timeout_failure", "canceled"] {
        assert!(text.contains(reason), "{reason} in {text}");
    }
    assert_eq!(attribute(&found[0], "error.type").as_deref(), Some("stuck_or_timeout_failure"));
    assert_eq!(attribute(&found[0], "cicd.pipeline.result").as_deref(), Some("timeout"));
}

#[test]
fn failure_reasons_become_results() {
    for (reason, result) in [
        ("script_failure", "failure"),
        ("job_execution_timeout", "timeout"),
        ("stuck_pending_no_matching_runners", "timeout"),
        ("no_updates_running", "timeout"),
        ("runner_system_failure", "error"),
        ("a_reason_of_tomorrow", "error"),
        ("", "failure"),
    ] {
        let mut failed = job(1, "failed");
        failed["failure_reason"] = json!(reason);
        let found = of(&pipeline(json!([failed])));
        let span = named(&found, "job 1");
        assert_eq!(
            attribute(span, "cicd.pipeline.task.run.result").as_deref(),
            Some(result),
            "{reason}"
        );
        assert_eq!(span.status.as_ref().unwrap().code, 2);
        let expected = if reason.is_empty() { "_OTHER" } else { reason };
        assert_eq!(attribute(span, "error.type").as_deref(), Some(expected));
    }
}

#[test]
fn unknown_statuses_are_kept_as_text_and_are_no_errors() {
    let found = of(&pipeline(json!([job(1, "levitating")])));
    let span = named(&found, "job 1");
    assert_eq!(attribute(span, "cicd.pipeline.task.run.result").as_deref(), Some("levitating"));
    assert!(span.status.as_ref().is_none_or(|it| it.code == 0));
}

#[test]
fn a_span_name_holds_nothing_of_the_one_run() {
    for (name, expected) in [
        (json!("Nightly build"), "RUN Nightly build"),
        (json!(null), "RUN a/b"),
        (json!("Pipeline for main"), "RUN"),
        (json!("Deploy 0123abcd"), "RUN"),
        (json!("maintenance"), "RUN maintenance"),
        (json!("Run 9"), "RUN"),
    ] {
        let mut body = pipeline(json!([]));
        body["object_attributes"]["name"] = name;
        body["object_attributes"]["sha"] = json!("0123abcd4567ef");
        assert_eq!(of(&body)[0].name, expected);
    }
}

#[test]
fn a_downstream_pipeline_links_to_its_trigger_and_natively_hangs_under_it() {
    let source = |project: u64| json!({ "project": { "id": project, "web_url": "https://gitlab.example.com/a/b" }, "pipeline_id": 8, "job_id": 70, "bridge_id": 70 });
    let run = |project, origin, trace_ids| {
        let mut body = pipeline(json!([]));
        body["source_pipeline"] = source(project);
        body["object_attributes"]["source"] = json!(origin);
        body["object_attributes"]["root_pipeline_id"] = json!(if project == 1 { 8 } else { 9 });
        let text = body.to_string();
        let mapped = map(Provider::Gitlab, text.as_bytes(), &with_ids(trace_ids)).unwrap();
        spans(requests(Provider::Gitlab, mapped, Limits::default())).remove(0)
    };
    let child = run(1, "parent_pipeline", TraceIds::Native);
    assert_eq!(child.trace_id, 8u128.to_be_bytes());
    assert_eq!(child.parent_span_id, 70u64.to_be_bytes());
    assert!(child.links.is_empty());
    for (project, origin, ids) in [
        (1, "parent_pipeline", TraceIds::Hashed),
        (2, "pipeline", TraceIds::Hashed),
        (2, "pipeline", TraceIds::Native),
    ] {
        let downstream = run(project, origin, ids);
        assert!(
            downstream.parent_span_id.is_empty() && downstream.links.len() == 1,
            "{origin} {ids:?}"
        );
        assert_ne!(downstream.links[0].trace_id, downstream.trace_id);
    }
    // The link leads to the span that the upstream pipeline's own event makes of its bridge.
    let mut upstream = pipeline(json!([]));
    upstream["object_attributes"]["id"] = json!(8);
    upstream["bridges"] = json!([job(70, "success")]);
    let upstream = of(&upstream);
    let link = &run(2, "pipeline", TraceIds::Hashed).links[0];
    assert_eq!(
        (&link.trace_id, &link.span_id),
        (&named(&upstream, "job 70").trace_id, &named(&upstream, "job 70").span_id)
    );
}

#[test]
fn personal_data_and_variable_values_stay_out_of_spans() {
    let mut body = pipeline(json!([job(1, "success")]));
    body["user"] =
        json!({ "name": "Private Person", "email": "private@example.com", "username": "private" });
    body["commit"] = json!({ "title": "A title", "message": "A title\n\nprivate body", "author": { "name": "Private Person", "email": "private@example.com" } });
    body["object_attributes"]["variables"] = json!([{ "key": "TOKEN", "value": "private-value" }]);
    body["project"]["web_url"] =
        json!("https://user:private-token@gitlab.example.com/a/b?private_token=private");
    let text = format!("{:?}", of(&body)).to_lowercase();
    assert!(!text.contains("private"), "{text}");
    assert!(text.contains("a title"));
}

#[test]
fn a_pipeline_of_many_jobs_is_split_into_messages_that_fit() {
    let jobs: Vec<_> = (0..3000).map(|id| job(id, "success")).collect();
    let text = pipeline(json!(jobs)).to_string();
    let split = |limits| {
        let mapped = map(Provider::Gitlab, text.as_bytes(), &Settings::default()).unwrap();
        requests(Provider::Gitlab, mapped, limits)
    };
    let small = split(Limits { body: 20_000, raw: 200_000, ..Limits::default() });
    assert!(small.len() > 5, "{} messages", small.len());
    let ids = |requests| {
        spans(requests).into_iter().map(|it| it.span_id).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(ids(small), ids(split(Limits::default())));
}

#[test]
fn a_run_with_too_many_events_for_one_message_keeps_what_fits_and_counts_the_rest() {
    let noise = |id: u64| {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hash = DefaultHasher::new();
        id.hash(&mut hash);
        format!("{:x}{:x}", hash.finish(), hash.finish().rotate_left(17))
    };
    let jobs: Vec<_> =
        (0..20_000).map(|id| json!({ "id": id, "name": noise(id), "status": "skipped" })).collect();
    let found = of(&pipeline(json!(jobs)));
    assert_eq!(found.len(), 1);
    assert!(!found[0].events.is_empty());
    assert_eq!(found[0].events.len() + found[0].dropped_events_count as usize, 20_000);
}

/// Eight million empty jobs fit a delivery of 24 MB; their spans took 5.9 GB.
#[test]
fn a_pipeline_of_absurdly_many_jobs_is_kept_and_not_mapped() {
    const MAX_JOBS: usize = 20_000;
    let pipeline = |builds: usize, bridges: usize| {
        let empty = |count| vec!["{}"; count].join(",");
        format!(
            r#"{{"object_kind":"pipeline","object_attributes":{{"id":1,"status":"failed","created_at":"2026-11-02T09:30:00Z"}},"builds":[{}],"bridges":[{}]}}"#,
            empty(builds),
            empty(bridges)
        )
    };
    for (builds, bridges, mapped) in [
        (MAX_JOBS, 0, true),
        (MAX_JOBS + 1, 0, false),
        (0, MAX_JOBS + 1, false),
        (MAX_JOBS / 2, MAX_JOBS / 2 + 1, false),
    ] {
        let body = pipeline(builds, bridges);
        let result = map(Provider::Gitlab, body.as_bytes(), &Settings::default()).map(|_| ());
        let expected = if mapped { Ok(()) } else { Err(Unmappable::TooMany(MAX_JOBS, "jobs")) };
        assert_eq!(result, expected, "{builds} builds, {bridges} bridges");
    }
}

#[test]
fn what_can_not_be_mapped_says_why() {
    let settings = Settings::default();
    for (body, reason) in [
        ("", Unmappable::NotJson),
        ("[", Unmappable::NotJson),
        ("nonsense", Unmappable::NotJson),
        ("{}", Unmappable::UnknownShape),
        ("{\"object_kind\":\"pipeline\"}", Unmappable::UnknownShape),
        (
            "{\"object_kind\":\"pipeline\",\"object_attributes\":{\"status\":\"success\"}}",
            Unmappable::NoRun,
        ),
        (
            "{\"object_kind\":\"pipeline\",\"object_attributes\":{\"id\":1,\"status\":\"success\"}}",
            Unmappable::NoTime,
        ),
    ] {
        assert_eq!(map(Provider::Gitlab, body.as_bytes(), &settings), Err(reason), "{body}");
    }
    for (body, reason) in [
        ("", Unmappable::NotJson),
        ("{}", Unmappable::UnknownShape),
        ("{\"type\":\"job-completed\"}", Unmappable::UnknownShape),
        ("{\"type\":\"workflow-completed\"}", Unmappable::NoRun),
        ("{\"type\":\"ping\"}", Unmappable::NoRun),
        ("{\"type\":\"ping\",\"id\":\"x\"}", Unmappable::NoTime),
    ] {
        assert_eq!(map(Provider::Circleci, body.as_bytes(), &settings), Err(reason), "{body}");
    }
}

#[test]
fn a_circleci_job_that_lacks_its_end_is_repaired_not_dropped() {
    let text = json!({
        "type": "job-completed", "happened_at": "2026-11-02T09:31:00Z",
        "workflow": { "id": "cedf175c-c537-49f8-9b5c-95892f0b2407" },
        "job": { "id": "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34", "name": "x", "status": "canceled", "number": null, "started_at": null },
    })
    .to_string();
    let mapped = map(Provider::Circleci, text.as_bytes(), &Settings::default()).unwrap();
    let found = spans(requests(Provider::Circleci, mapped, Limits::default()));
    assert_eq!(attribute(&found[0], "spanhook.time_repaired").as_deref(), Some("true"));
    assert_eq!(
        attribute(&found[0], "cicd.pipeline.task.run.result").as_deref(),
        Some("cancellation")
    );
}

/// JSON with the providers' keys and values of every type.
fn payload() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|it| json!(it)),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "pipeline",
            "build",
            "job-completed",
            "workflow-completed",
            "ping",
            "success",
            "failed",
            "canceled",
            "skipped",
            "running",
            "2026-11-02 09:30:00 UTC",
            "2026-11-02T09:30:00Z",
            "cedf175c-c537-49f8-9b5c-95892f0b2407",
            "https://a.b/c/d",
            "git@a.b:c/d.git",
        ])
        .prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "type",
        "id",
        "happened_at",
        "workflow",
        "job",
        "pipeline",
        "project",
        "organization",
        "webhook",
        "name",
        "number",
        "started_at",
        "stopped_at",
        "created_at",
        "finished_at",
        "status",
        "vcs",
        "trigger_parameters",
        "git",
        "gitlab",
        "object_kind",
        "object_attributes",
        "builds",
        "bridges",
        "source_pipeline",
        "runner",
        "tags",
        "environment",
        "merge_request",
        "commit",
        "ref",
        "sha",
        "web_url",
        "stage",
        "queued_duration",
        "duration",
        "failure_reason",
        "pipeline_id",
        "build_id",
        "build_status",
        "build_started_at",
        "root_pipeline_id",
    ]);
    leaf.prop_recursive(5, 200, 12, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..14).prop_map(|it| json!(it)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_payload_is_mapped_by_the_conventions_or_refused(payload in payload(), native: bool, jobs: bool) {
        let text = payload.to_string();
        let ids = if native { TraceIds::Native } else { TraceIds::Hashed };
        let mode = if jobs { JobSpans::Job } else { JobSpans::Pipeline };
        let settings = with_jobs(ids, mode);
        for provider in Provider::ALL {
            if let Ok(mapped) = map(provider, text.as_bytes(), &settings) {
                spans(requests(provider, mapped, Limits::default()));
            }
        }
    }

    #[test]
    fn any_bytes_are_mapped_or_refused(body: Vec<u8>) {
        for provider in Provider::ALL {
            let _ = map(provider, &body, &Settings::default());
        }
    }
}

#[test]
fn the_shell_function_of_the_docs_computes_every_vector() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let page = std::fs::read_to_string(format!("{root}/docs/ids.md")).unwrap();
    let function = page.lines().find(|line| line.starts_with("id() {")).unwrap();
    let vectors = std::fs::read_to_string(format!("{root}/tests/vectors.tsv")).unwrap();
    for line in vectors.lines().skip(1) {
        let [provider, scheme, host, run, job, expected] = line.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("{line}")
        };
        let trace_ids = if scheme == "native" { TraceIds::Native } else { TraceIds::Hashed };
        // GitHub's runs are attempts: `id/attempt`.
        let (id, attempt) = run.split_once('/').map_or((run, None), |(id, it)| (id, Some(it)));
        let told = Claim {
            host: Some(host.to_owned()),
            attempt: attempt.map(ToOwned::to_owned),
            ..claim(id, job)
        };
        let job_of_run = Job::new(Provider::named(provider).unwrap(), &told).unwrap();
        let settings = with_ids(trace_ids);
        let context = Context::of(&job_of_run, &settings, &ProjectRules::default(), None);
        assert_eq!(spanhook_core::id::traceparent(context.trace, context.span, true), expected);
        if scheme == "hashed" {
            // Where the job is not known the run's span is the parent.
            let span = if job.is_empty() { format!("run {run}") } else { format!("job {job}") };
            let script = format!(
                "{function}\necho 00-$(id 16 spanhook/1 {provider} {host} trace {run})-$(id 8 spanhook/1 {provider} {host} {span})-01"
            );
            let shell = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&shell.stdout).trim(), expected);
        }
    }
}
