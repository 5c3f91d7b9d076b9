//! Jobs, steps and runs in all the shapes that others stumbled over.

use opentelemetry_proto::tonic::{common::v1::KeyValue, trace::v1::Span};
use serde_json::{Value, json};
use spanhook_core::{
    delivery::Outcome, id::TraceIds, mapping::ServiceName, provider::github, settings::Settings,
};

use crate::{
    describe::{write_attributes, write_span},
    support::{
        count, ignored, job, only, process, requests, run, sample, samples, spans, spans_of, text,
        with,
    },
};

const JOB: &str = "workflow-job-build";
const RUN: &str = "workflow-run-failed";
const TASK: &str = "cicd.pipeline.task.run.result";
const RESULT: &str = "cicd.pipeline.result";
/// 2000-01-01
const YEAR_2000: u64 = 946_684_800_000_000_000;

fn described(settings: &Settings, keep: impl Fn(&str) -> bool) -> String {
    let mut all = String::new();
    for (name, payload) in samples() {
        all += &format!("=== {name}\n");
        if let Outcome::Ignored { reason, .. } = process(payload.to_string().as_bytes(), settings) {
            all += &format!("ignored: {reason}\n");
        }
        let mut resource: Vec<KeyValue> = Vec::new();
        for (of, span) in spans_of(&payload, settings) {
            let mut text = String::new();
            if of != resource {
                text += &format!("resource of trace {}\n", hex::encode(&span.trace_id));
                write_attributes(&of, "  ", &mut text);
                resource = of;
            }
            write_span(&span, &mut text);
            all.extend(text.lines().filter(|it| keep(it)).flat_map(|it| [it, "\n"]));
        }
    }
    all
}

#[test]
fn the_samples_become_these_spans() {
    let settings = Settings {
        github: github::Settings {
            service_name: ServiceName::parse("{repository}", "github").unwrap(),
            custom_properties: vec!["team".into(), "platforms".into(), "tier".into()],
            ..github::Settings::default()
        },
        ..Settings::default()
    };
    insta::assert_snapshot!("samples", described(&settings, |_| true));
}

#[test]
fn the_samples_take_the_receivers_ids_in_native_mode() {
    let ids = |line: &str| {
        ["=== ", "resource of", "  id ", "  link "].iter().any(|it| line.starts_with(it))
    };
    insta::assert_snapshot!("samples-native", described(&with(TraceIds::Native), ids));
}

fn lasts(span: &Span) -> u64 {
    span.end_time_unix_nano - span.start_time_unix_nano
}

#[test]
fn issue_1_no_times_are_no_span_of_centuries() {
    let zero = "0001-01-01T00:00:00Z";
    for time in [Value::Null, json!(zero), json!("1970-01-01T00:00:00Z"), json!("")] {
        let mut payload = job(JOB, &[("started_at", time.clone())]);
        for step in payload["workflow_job"]["steps"].as_array_mut().unwrap() {
            step["started_at"] = time.clone();
            step["completed_at"] = time.clone();
        }
        let found = spans(&payload);
        assert!(found.iter().all(|it| it.start_time_unix_nano > YEAR_2000), "{time}");
        assert_eq!((count(&found, "step"), lasts(only(&found, "job"))), (0, 0), "{time}");
        assert_eq!(count(&found, "queue"), 0, "nothing tells how long it waited");
        let marked = text(&only(&found, "job").attributes, "spanhook.time_repaired");
        assert_eq!(marked, "true", "{time}");
    }
    // One step without an end lasts as long as its job.
    let found = spans(&sample("workflow-job-runner-lost"));
    let of_job = only(&found, "job");
    let lost = found.iter().find(|it| it.name == "Run the browsers").unwrap();
    assert_eq!(lost.end_time_unix_nano, of_job.end_time_unix_nano);
    assert_eq!(text(&lost.attributes, "spanhook.time_repaired"), "true");
    assert_eq!(text(&of_job.attributes, "error.type"), "runner_lost");
}

#[test]
fn issue_2_who_starts_before_its_record_did_not_wait() {
    let found = spans(&sample("workflow-job-started-before-its-record"));
    assert_eq!((count(&found, "queue"), count(&found, "job")), (0, 1));
    assert_eq!(text(&only(&found, "job").attributes, "github.job.queued_duration"), "");
}

#[test]
fn issue_3_jobs_of_one_name_are_two_spans() {
    for ids in [TraceIds::Hashed, TraceIds::Native] {
        let of = |id: u64| spans_of(&job(JOB, &[("id", json!(id))]), &with(ids));
        let all: std::collections::HashSet<_> =
            of(1).into_iter().chain(of(2)).map(|(_, it)| it.span_id).collect();
        assert_eq!(all.len(), of(1).len() + of(2).len(), "{ids:?}");
    }
}

#[test]
fn issue_4_steps_of_one_name_are_as_many_spans() {
    for ids in [TraceIds::Hashed, TraceIds::Native] {
        let mut payload = sample(JOB);
        // A number that comes twice, and none at all.
        payload["workflow_job"]["steps"][1]["number"] = json!(1);
        payload["workflow_job"]["steps"][2]["number"] = json!(null);
        for payload in [sample(JOB), payload] {
            let found = spans_of(&payload, &with(ids));
            let distinct: std::collections::HashSet<_> =
                found.iter().map(|(_, it)| &it.span_id).collect();
            assert_eq!((found.len(), distinct.len()), (10, 10), "{ids:?}");
        }
    }
}

/// A job's own spans hang under the id that it computes of the step's name.
#[test]
fn issue_4_of_steps_of_one_name_the_first_that_ran_has_the_receivers_id() {
    let mut payload = sample(JOB);
    let steps = payload["workflow_job"]["steps"].as_array_mut().unwrap();
    steps[0]["name"] = json!("Build");
    let native = spans_of(&payload, &with(TraceIds::Native)).remove(2).1;
    let mut skipped = payload["workflow_job"]["steps"][0].clone();
    skipped["conclusion"] = json!("skipped");
    skipped["number"] = json!(99);
    payload["workflow_job"]["steps"].as_array_mut().unwrap().insert(0, skipped);
    let beside = spans_of(&payload, &with(TraceIds::Native)).remove(2).1;
    assert_eq!((native.name.as_str(), &native.span_id), ("Build", &beside.span_id));
}

#[test]
fn issues_5_and_15_a_skipped_step_is_an_event_and_no_failure() {
    let found = spans(&sample(JOB));
    let of_job = only(&found, "job");
    assert_eq!(of_job.events.len(), 1);
    assert_eq!(text(&of_job.events[0].attributes, "github.step.name"), "Upload on failure");
    assert_eq!(text(&of_job.attributes, TASK), "success");
    assert_eq!(lasts(of_job), 210_000_000_000, "until completed_at, not until the last step");
}

#[test]
fn issue_8_an_attempt_links_to_the_span_of_the_one_before() {
    for ids in [TraceIds::Hashed, TraceIds::Native] {
        let of = |name| spans_of(&sample(name), &with(ids)).remove(0).1;
        let (first, second) = (of("workflow-run-failed"), of("workflow-run-attempt-2"));
        assert!(first.links.is_empty() && !first.span_id.is_empty());
        assert_eq!(second.links.len(), 1);
        let link = &second.links[0];
        assert_eq!((&link.trace_id, &link.span_id), (&first.trace_id, &first.span_id), "{ids:?}");
        assert_ne!(first.trace_id, second.trace_id);
    }
}

fn resource(payload: &Value, key: &str) -> String {
    text(&spans_of(payload, &Settings::default())[0].0, key)
}

#[test]
fn issue_11_only_what_is_known_of_a_reference_is_said() {
    let head = "vcs.ref.head.type";
    for (name, expected) in [
        ("workflow-run-failed", "branch"),      // a pull request
        ("workflow-run-merge-queue", "branch"), // by the event
        ("workflow-run-timed-out", "branch"),   // a schedule
        ("workflow-run-release", "tag"),        // by the event
        ("workflow-run-tag-push", "tag"),       // by a workflow that was called at it
        ("workflow-run-cancelled", "branch"),   // the default branch
        ("workflow-run-nulls", ""),
        ("workflow-job-build", ""),
        ("workflow-job-enterprise-server", "branch"),
    ] {
        assert_eq!(resource(&sample(name), head), expected, "{name}");
    }
    let pushed = run(RUN, &[("event", json!("push"))]);
    assert_eq!(resource(&pushed, head), "", "a branch or a tag");
}

#[test]
fn issue_11_ids_are_text() {
    use opentelemetry_proto::tonic::common::v1::any_value::Value::IntValue;
    let numbers = [
        "spanhook.attempt",
        "github.run.attempt",
        "github.run.number",
        "github.step.number",
        "github.job.failed_step.number",
    ];
    for (name, payload) in samples() {
        for (resource, span) in spans_of(&payload, &Settings::default()) {
            for attribute in resource.iter().chain(&span.attributes) {
                let value = attribute.value.as_ref().and_then(|it| it.value.as_ref());
                let is_number = matches!(value, Some(IntValue(_)));
                assert!(
                    !is_number || numbers.contains(&attribute.key.as_str()),
                    "{name} {attribute:?}"
                );
            }
        }
    }
}

#[test]
fn issue_12_custom_properties_of_any_type_are_read() {
    let settings = Settings {
        github: github::Settings {
            custom_properties: ["team", "platforms", "tier", "odd", "none"].map(Into::into).into(),
            ..github::Settings::default()
        },
        ..Settings::default()
    };
    let mut payload = sample(JOB);
    payload["repository"]["custom_properties"]["odd"] = json!([1, null, { "a": 1 }]);
    let of = |payload: &Value, settings: &Settings| spans_of(payload, settings)[0].0.clone();
    let prefix = "github.repository.custom_properties.";
    let keys = |found: &[KeyValue]| -> Vec<String> {
        let own = found.iter().filter_map(|it| it.key.strip_prefix(prefix));
        own.map(str::to_owned).collect()
    };
    assert_eq!(keys(&of(&payload, &settings)), ["team", "platforms"]);
    assert!(keys(&of(&payload, &Settings::default())).is_empty(), "only those that are named");
    for odd in [json!(null), json!("x"), json!([1])] {
        payload["repository"]["custom_properties"] = odd;
        assert!(keys(&of(&payload, &settings)).is_empty());
    }
}

#[test]
fn issue_13_a_server_of_ones_own_keeps_its_host_and_port() {
    for name in ["workflow-run-enterprise-server", "workflow-job-enterprise-server"] {
        let url = resource(&sample(name), "cicd.pipeline.run.url.full");
        let expected = "https://github.example.com:8443/acme/shop/actions/runs/9/attempts/1";
        assert_eq!(url, expected, "{name}");
    }
    // Its numbers are small, and the host keeps them apart.
    let mut elsewhere = sample("workflow-run-enterprise-server");
    let here = spans(&elsewhere).remove(0);
    elsewhere["repository"]["html_url"] = json!("https://github.example.com/acme/shop");
    assert_ne!(spans(&elsewhere)[0].trace_id, here.trace_id);
}

#[test]
fn issue_14_a_job_and_its_run_say_the_same_of_their_pipeline() {
    let settings = Settings::default();
    let of = |name| spans_of(&sample(name), &settings).remove(0);
    let (run, job) = (of(RUN), of(JOB));
    for key in [
        "service.name",
        "cicd.pipeline.name",
        "cicd.pipeline.run.id",
        "cicd.pipeline.run.url.full",
        "vcs.repository.url.full",
        "vcs.ref.head.revision",
        "github.run.attempt",
        "spanhook.provider",
    ] {
        assert!(!text(&run.0, key).is_empty(), "{key}");
        assert_eq!(text(&run.0, key), text(&job.0, key), "{key}");
    }
    assert_eq!(run.1.trace_id, job.1.trace_id);
    assert_eq!(run.1.span_id, job.1.parent_span_id);
}

#[test]
fn issue_16_a_runner_may_have_any_name() {
    for (id, name, worker) in [
        (json!(3), json!("rack-3"), "rack-3"),
        (json!(3), json!(""), ""),
        (json!(3), json!(null), ""),
        (json!(0), json!(""), ""),
        (json!(null), json!(null), ""),
    ] {
        let payload = job(JOB, &[("runner_id", id.clone()), ("runner_name", name)]);
        let found = spans_of(&payload, &Settings::default());
        let of_job = found.iter().find(|it| text(&it.1.attributes, "spanhook.kind") == "job");
        let (resource, _) = of_job.unwrap();
        assert_eq!(text(resource, "cicd.worker.name"), worker);
        assert_eq!(text(resource, "cicd.worker.id"), if id == 3 { "3" } else { "" });
    }
}

#[test]
fn issue_18_who_is_given_up_in_the_queue_waited_and_did_not_run() {
    for (name, result, error) in [
        ("workflow-job-cancelled-in-queue", "cancellation", ""),
        ("workflow-job-cancelled-without-start", "cancellation", ""),
        ("workflow-job-no-runner", "error", "no_runner"),
    ] {
        let found = spans_of(&sample(name), &Settings::default());
        assert!(found.iter().all(|it| text(&it.0, "cicd.worker.id").is_empty()), "{name}");
        let found: Vec<_> = found.into_iter().map(|it| it.1).collect();
        let (of_job, queue) = (only(&found, "job"), only(&found, "queue"));
        assert_eq!((lasts(of_job), found.len()), (0, 2), "{name}");
        assert_eq!(of_job.start_time_unix_nano, queue.end_time_unix_nano, "{name}");
        assert_eq!(text(&of_job.attributes, TASK), result, "{name}");
        assert_eq!(text(&of_job.attributes, "error.type"), error, "{name}");
    }
}

#[test]
fn issue_19_a_job_that_is_carried_over_counts_nowhere() {
    let found = spans(&sample("workflow-job-build-reused"));
    let marker = only(&found, "marker");
    assert_eq!((found.len(), marker.name.as_str(), lasts(marker)), (1, "reused build", 0));
    assert!(marker.attributes.iter().all(|it| !it.key.starts_with("cicd.")), "no task");
    let before = spans(&sample("workflow-run-failed")).remove(0);
    assert_eq!(marker.links[0].span_id, before.span_id);
    // Run again in full it is a job like any other, and so is one that was skipped.
    let again = job("workflow-job-build-reused", &[("created_at", json!("2026-11-02T08:59:00Z"))]);
    assert_eq!(count(&spans(&again), "job"), 1);
    let skipped = job("workflow-job-deploy-skipped", &[("run_attempt", json!(2))]);
    assert_eq!(count(&spans(&skipped), "job"), 1);
}

#[test]
fn issue_22_success_is_no_status_and_each_job_has_its_own_wait() {
    let found = spans(&sample(JOB));
    assert!(found.iter().all(|it| it.status.as_ref().is_none_or(|it| it.code == 0)));
    let (queue, of_job) = (only(&found, "queue"), only(&found, "job"));
    assert_eq!(lasts(queue), 9_000_000_000);
    assert_eq!(queue.links[0].span_id, of_job.span_id);
    assert_eq!(text(&of_job.attributes, "github.job.queued_duration"), "9");
}

#[test]
fn issue_23_a_skipped_job_is_seen() {
    let found = spans(&sample("workflow-job-deploy-skipped"));
    assert_eq!((found.len(), text(&found[0].attributes, TASK)), (1, "skip".to_owned()));
}

#[test]
fn issue_24_a_runs_number_is_in_no_id() {
    let of = |number: u64| {
        let found = spans(&run(RUN, &[("run_number", json!(number))])).remove(0);
        (found.trace_id, found.span_id)
    };
    assert_eq!(of(1), of(2));
}

#[test]
fn issue_26_the_file_names_the_pipeline_and_not_the_runs_title() {
    for (name, pipeline, span_name) in [
        ("workflow-run-run-name", "Deploy", "RUN Deploy"),
        ("workflow-run-dynamic", "Dependabot Updates", "RUN Dependabot Updates"),
        ("workflow-run-nulls", "ci.yml", "RUN ci.yml"),
        (
            "workflow-run-startup-failure",
            ".github/workflows/ci.yml",
            "RUN .github/workflows/ci.yml",
        ),
        ("workflow-run-timed-out", "CI", "RUN CI"), // of which the title is the workflow's name
    ] {
        assert_eq!(resource(&sample(name), "cicd.pipeline.name"), pipeline, "{name}");
        assert_eq!(spans(&sample(name))[0].name, span_name, "{name}");
    }
    for (name, expected) in [
        ("Nightly", "RUN Nightly"),
        ("Build discount-codes", "RUN"),
        ("Check 5f3a1c9", "RUN"),
        ("Run 412", "RUN"),
        ("CI: Add discount codes", "RUN"),
    ] {
        let mut payload = sample(RUN);
        payload["workflow"]["name"] = json!(name);
        assert_eq!(spans(&payload)[0].name, expected);
        let found = spans(&job(JOB, &[("name", json!("Test (discount-codes)"))]));
        assert_eq!(only(&found, "job").name, "job");
        assert_eq!(
            text(&only(&found, "job").attributes, "cicd.pipeline.task.name"),
            "Test (discount-codes)"
        );
    }
    let mut nameless = sample("workflow-run-dynamic");
    nameless["workflow"] = json!({});
    assert_eq!(spans(&nameless)[0].name, "RUN");
}

#[test]
fn issue_27_a_run_that_is_completed_as_it_starts_and_again_later_is_one_span() {
    let of = |end: &str| spans(&run(RUN, &[("updated_at", json!(end))])).remove(0);
    let (early, late) = (of("2026-11-02T09:00:00Z"), of("2026-11-02T09:12:00Z"));
    assert_eq!((lasts(&early), lasts(&late)), (0, 720_000_000_000));
    assert_eq!((early.trace_id, early.span_id), (late.trace_id, late.span_id));
}

#[test]
fn conclusions_become_results() {
    for (conclusion, result, error) in [
        ("success", "success", ""),
        ("failure", "failure", "_OTHER"),
        ("timed_out", "timeout", "timed_out"),
        ("startup_failure", "error", "startup_failure"),
        ("cancelled", "cancellation", ""),
        ("skipped", "skip", ""),
        ("neutral", "success", ""),
        ("action_required", "skip", ""),
        ("stale", "timeout", "stale"),
        ("pink", "pink", ""),
    ] {
        let found = spans(&run(RUN, &[("conclusion", json!(conclusion))])).remove(0);
        let of = |key| text(&found.attributes, key);
        assert_eq!((of(RESULT), of("error.type")), (result.into(), error.into()), "{conclusion}");
        assert_eq!(of("github.run.conclusion"), conclusion);
        let expected = i32::from(!error.is_empty()) * 2;
        assert_eq!(found.status.map_or(0, |it| it.code), expected, "{conclusion}");
    }
    let found = spans(&sample("workflow-job-test-failed"));
    let of = |key| text(&only(&found, "job").attributes, key);
    assert_eq!((of(TASK), of("error.type")), ("failure".into(), "step_failure".into()));
    assert_eq!(of("github.job.failed_step.name"), "Test");
    assert_eq!(ignored(&run(RUN, &[("conclusion", json!(null))])), "the run is not finished");
}

#[test]
fn every_span_says_what_it_is_and_whose() {
    for (name, payload) in samples() {
        for (resource, span) in spans_of(&payload, &Settings::default()) {
            let of = |key| text(&span.attributes, key);
            let kind = of("spanhook.kind");
            assert_eq!(text(&resource, "spanhook.provider"), "github", "{name}");
            let known = ["run", "job", "queue", "step", "marker", "ping"];
            assert!(known.contains(&kind.as_str()), "{name}: {kind}");
            let (run, job) = (kind == "run", kind == "job");
            assert_eq!(of("spanhook.attempt").is_empty(), !(run || job), "{name}: {kind}");
            assert_eq!(of("spanhook.trigger").is_empty(), !run, "{name}: {kind}");
            let of_a_job = ["queue", "step", "marker"].contains(&kind.as_str());
            assert_eq!(of("spanhook.job").is_empty(), !of_a_job, "{name}: {kind}");
        }
    }
}

#[test]
fn steps_can_be_left_out() {
    let mut settings = Settings::default();
    settings.github.step_spans = false;
    let found: Vec<_> = spans_of(&sample(JOB), &settings).into_iter().map(|it| it.1).collect();
    assert_eq!((count(&found, "step"), only(&found, "job").events.len()), (0, 0));
}

#[test]
fn issue_30_a_job_of_many_steps_is_split_into_messages_that_fit() {
    let steps = |count: u64, length: usize| -> Vec<Value> {
        let name = |number: u64| {
            let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("{noise:x}").repeat(length / 16)
        };
        let step = |number: u64| {
            json!({
                "number": number, "name": name(number), "status": "completed", "conclusion": "success",
                "started_at": "2026-11-02T09:00:26Z", "completed_at": "2026-11-02T09:00:27Z",
            })
        };
        (1..=count).map(step).collect()
    };
    let most = job(JOB, &[("steps", json!(vec![json!({}); 20_001]))]);
    let found = spans(&most);
    assert_eq!(text(&only(&found, "job").attributes, "github.job.dropped_steps"), "1");
    for (count, length) in [(1_000, 1_500), (10_000, 40)] {
        for ids in [TraceIds::Hashed, TraceIds::Native] {
            let payload = job(JOB, &[("steps", json!(steps(count, length)))]);
            // Each message is checked to fit as it is read.
            let parts = requests(payload.to_string().as_bytes(), &with(ids));
            assert!(parts.len() > 1, "{}", parts.len());
            let found = parts.into_iter().flat_map(|it| it.resource_spans);
            let found = found.flat_map(|it| it.scope_spans).flat_map(|it| it.spans);
            let distinct: std::collections::HashSet<_> = found.map(|it| it.span_id).collect();
            assert_eq!(distinct.len() as u64, count + 2, "{ids:?}");
        }
    }
}
