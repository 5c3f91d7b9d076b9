//! Build events: the samples as the Collector would decode them, every mistake, and anything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conventions;
mod describe;
mod points;
mod support;

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use describe::{date, value, write_attributes, write_span};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{KeyValue, any_value},
    logs::v1::LogRecord,
    metrics::v1::{Metric, metric::Data, number_data_point},
};
use points::{points, write_metrics};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};
use spanhook_core::{
    build_event::{BadEvents, Batch, PROVIDER, Sender, map},
    id::{Hashed, SpanId, TraceId, TraceIds},
    job::{BadJob, Claim, Job},
    message::{Content, Message, unpack},
    otlp::{
        Signal, Telemetry,
        encode::{self, Limits},
        log,
        metric::{self, Kind},
        span::{self, Attributes, Status},
    },
    provider::Provider,
    settings::Settings,
};
use support::{claim, place, with_ids};

/// 2026-11-02T10:00:00Z
const RECEIVED: u64 = 1_793_613_600_000_000_000;
const CORRELATION: &str = "2722508965";

fn sender(identity: Option<&Job>) -> Sender<'_> {
    identity.map_or(Sender::Trusted, Sender::Job)
}

fn mapped(event: &Value, identity: Option<&Job>) -> Result<Batch, BadEvents> {
    map(event.to_string().as_bytes(), RECEIVED, &Settings::default(), sender(identity))
}

fn of(event: &Value) -> Batch {
    mapped(event, None).unwrap()
}

/// The least event of a type.
fn event(kind: &str) -> Value {
    match kind {
        "ci_build_metadata" => {
            json!({ "type": kind, "correlation_id": CORRELATION, "metrics": { "duration_seconds": 60 } })
        }
        "webpack_build_stats" => {
            json!({ "type": kind, "correlation_id": CORRELATION, "metrics": { "compile_time_ms": 1500 } })
        }
        "artifact" => {
            json!({ "type": kind, "correlation_id": CORRELATION, "name": "app", "size_bytes": 5 })
        }
        "measure" => {
            json!({ "type": kind, "correlation_id": CORRELATION, "name": "hits", "value": 1 })
        }
        _ => json!({ "type": kind, "correlation_id": CORRELATION, "name": "here" }),
    }
}

const KINDS: [&str; 6] =
    ["ci_build_metadata", "webpack_build_stats", "artifact", "measure", "mark", "anything else"];

/// An event with a field set at a JSON pointer's place.
fn with(mut event: Value, path: &str, value: Value) -> Value {
    let mut at = &mut event;
    for name in path.split('.') {
        at = &mut at[name];
    }
    *at = value;
    event
}

fn at(event: Value, timestamp: &str) -> Value {
    with(event, "timestamp", timestamp.into())
}

/// The traces of all projects.
fn traces(batch: &Batch) -> Vec<&span::Trace<'static>> {
    batch.telemetry.iter().flat_map(|it| &it.traces).collect()
}

/// The metrics of all projects.
fn metric_groups(batch: &Batch) -> Vec<&metric::Group<'static>> {
    batch.telemetry.iter().flat_map(|it| &it.metrics).collect()
}

/// The log records of all projects.
fn log_groups(batch: &Batch) -> Vec<&log::Group<'static>> {
    batch.telemetry.iter().flat_map(|it| &it.logs).collect()
}

/// Traces and parents of the spans.
fn parents(batch: &Batch) -> Vec<(TraceId, Option<SpanId>)> {
    let spans = |trace: &span::Trace<'static>| {
        let groups = trace.groups.iter().flat_map(|it| it.spans.iter());
        groups.map(|span| (trace.id, span.parent)).collect::<Vec<_>>()
    };
    traces(batch).into_iter().flat_map(spans).collect()
}

/// What is queued of the events.
fn messages(batch: &Batch, limits: Limits) -> Vec<Message> {
    batch.telemetry.iter().flat_map(|it| encode::messages(it, PROVIDER, limits)).collect()
}

/// What the messages hold, decoded by types that spanhook did not write.
#[derive(Default)]
struct Decoded {
    traces: Vec<ExportTraceServiceRequest>,
    metrics: Vec<ExportMetricsServiceRequest>,
    logs: Vec<ExportLogsServiceRequest>,
}

fn decoded(messages: &[Message], limits: Limits) -> Decoded {
    let mut decoded = Decoded::default();
    for message in messages {
        assert!(message.body.len() <= limits.body, "{} bytes", message.body.len());
        assert!(message.attributes.len() <= 10);
        let get = |name: &str| message.attributes.get(name).map(String::as_str);
        assert_eq!(get("provider"), Some("build-events"));
        let count = |name: &str| get(name).unwrap().parse::<usize>().unwrap();
        match unpack(&message.body, get("encoding"), get("signal")).unwrap() {
            Content::Otlp(Signal::Traces, raw) => {
                decoded.traces.push(ExportTraceServiceRequest::decode(raw.as_slice()).unwrap());
            }
            Content::Otlp(Signal::Metrics, raw) => {
                let request = ExportMetricsServiceRequest::decode(raw.as_slice()).unwrap();
                assert_eq!(
                    count("points"),
                    metrics(&request).map(|it| points(it).len()).sum::<usize>()
                );
                decoded.metrics.push(request);
            }
            Content::Otlp(Signal::Logs, raw) => {
                let request = ExportLogsServiceRequest::decode(raw.as_slice()).unwrap();
                assert_eq!(count("records"), records(&request).count());
                decoded.logs.push(request);
            }
            Content::Quarantined(_) => panic!("nothing is quarantined"),
        }
    }
    decoded
}

fn metrics(request: &ExportMetricsServiceRequest) -> impl Iterator<Item = &Metric> {
    let scopes = request.resource_metrics.iter().flat_map(|it| &it.scope_metrics);
    scopes.flat_map(|it| &it.metrics)
}

fn records(request: &ExportLogsServiceRequest) -> impl Iterator<Item = &LogRecord> {
    let scopes = request.resource_logs.iter().flat_map(|it| &it.scope_logs);
    scopes.flat_map(|it| &it.log_records)
}

fn describe(batch: &Batch) -> String {
    batch.telemetry.iter().map(describe_project).collect()
}

fn describe_project(telemetry: &Telemetry<'static>) -> String {
    let messages = encode::messages(telemetry, PROVIDER, Limits::default());
    let decoded = decoded(&messages, Limits::default());
    let mut text = format!("project {}\n", telemetry.project);
    for request in &decoded.traces {
        conventions::check(request);
        for group in &request.resource_spans {
            text += "resource\n";
            write_attributes(&group.resource.as_ref().unwrap().attributes, "  ", &mut text);
            for span in group.scope_spans.iter().flat_map(|it| &it.spans) {
                writeln!(text, "trace {}", hex::encode(&span.trace_id)).unwrap();
                write_span(span, &mut text);
            }
        }
    }
    decoded.metrics.iter().for_each(|it| write_metrics(it, false, &mut text));
    for group in decoded.logs.iter().flat_map(|it| &it.resource_logs) {
        assert_eq!(group.schema_url, "https://opentelemetry.io/schemas/1.44.0");
        for record in group.scope_logs.iter().flat_map(|it| &it.log_records) {
            assert_eq!((record.severity_number, record.severity_text.as_str()), (9, "INFO"));
            let (trace, span) = (hex::encode(&record.trace_id), hex::encode(&record.span_id));
            let time = date(record.time_unix_nano);
            writeln!(text, "log {:?} at {time} {trace} {span}", record.event_name).unwrap();
            writeln!(text, "  {}", value(record.body.as_ref())).unwrap();
            write_attributes(&record.attributes, "  ", &mut text);
        }
    }
    text
}

#[test]
fn the_samples_become_these_spans_metrics_and_logs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/build-events");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    for file in files {
        let body = fs::read(&file).unwrap();
        let batch = map(&body, RECEIVED, &Settings::default(), Sender::Trusted).unwrap();
        let name = format!("build-events-{}", file.file_stem().unwrap().to_str().unwrap());
        insta::assert_snapshot!(name, describe(&batch));
    }
}

#[test]
fn every_type_gives_its_signals() {
    for (kind, spans, points, records) in [
        ("ci_build_metadata", 1, 1, 0),
        ("webpack_build_stats", 1, 1, 0),
        ("artifact", 1, 1, 0),
        ("measure", 0, 1, 0),
        ("mark", 1, 0, 1),
        ("anything else", 0, 0, 1),
    ] {
        let batch = of(&event(kind));
        let count = |signal| batch.telemetry.iter().map(|it| it.count(signal)).sum::<usize>();
        let found = (parents(&batch).len(), count(Signal::Metrics), count(Signal::Logs));
        assert_eq!(found, (spans, points, records), "{kind}");
    }
    assert_eq!(of(&json!([])), Batch::default());
}

#[test]
fn a_mistake_is_told_by_its_place_and_what_to_type() {
    let text = "use text of at most 256 bytes";
    let bytes = "use a whole number of bytes, not negative";
    let count = "use a whole number, not negative";
    let seconds = "use a number of seconds, not negative";
    let milliseconds = "use a number of milliseconds, not negative";
    let time = "use RFC 3339 such as 2026-11-02T09:30:00Z, or seconds or milliseconds since 1970";
    let kind =
        "use ci_build_metadata, webpack_build_stats, artifact, measure, mark or a name of your own";
    let id = "use text that names the build, such as $CI_PIPELINE_ID";
    let breakdown =
        "use an object of names of at most 256 bytes, each with a whole number of bytes";
    let long = "s3cret".repeat(50);
    let many: serde_json::Map<_, _> = (0..65).map(|it| (it.to_string(), it.into())).collect();
    for (of, path, value, expected) in [
        ("mark", "type", Value::Null, kind),
        ("mark", "type", json!(" "), kind),
        ("mark", "type", json!(long), kind),
        ("mark", "correlation_id", Value::Null, id),
        ("mark", "correlation_id", json!(""), id),
        ("mark", "correlation_id", json!(["s3cret"]), text),
        ("mark", "correlation_id", json!(long), text),
        ("mark", "timestamp", json!("s3cret"), time),
        ("mark", "timestamp", json!(-1), time),
        ("mark", "timestamp", json!(0), time),
        ("mark", "timestamp", json!(1e300), time),
        ("mark", "timestamp", json!(u64::MAX), time),
        ("mark", "timestamp", json!({}), time),
        ("mark", "project", json!(long), text),
        ("mark", "git_ref", json!({ "s3cret": 1 }), text),
        ("mark", "commit_sha", json!(true), text),
        ("mark", "name", Value::Null, text),
        ("mark", "name", json!(long), text),
        ("mark", "attributes", json!("s3cret"), "use an object"),
        ("mark", "attributes", json!(many), "use at most 64 attributes"),
        ("mark", "attributes", json!({ "": 1 }), "use names of 1 to 256 bytes"),
        ("mark", "attributes", json!({ long.as_str(): 1 }), "use names of 1 to 256 bytes"),
        (
            "mark",
            "attributes",
            json!({ "a": ["s3cret"] }),
            "use text, a number, true or false as a value",
        ),
        ("ci_build_metadata", "metrics.duration_seconds", Value::Null, seconds),
        ("ci_build_metadata", "metrics.duration_seconds", json!(-1), seconds),
        ("ci_build_metadata", "metrics.duration_seconds", json!("s3cret"), seconds),
        ("ci_build_metadata", "metrics.duration_seconds", json!("NaN"), seconds),
        ("ci_build_metadata", "job_status", json!([]), text),
        ("webpack_build_stats", "metrics.compile_time_ms", Value::Null, milliseconds),
        ("webpack_build_stats", "metrics.compile_time_ms", json!(-0.5), milliseconds),
        ("webpack_build_stats", "metrics.total_asset_size_bytes", json!(1.5), bytes),
        ("webpack_build_stats", "metrics.asset_count", json!(-1), count),
        ("webpack_build_stats", "metrics.chunk_count", json!("many"), count),
        ("webpack_build_stats", "errors_count", json!([1]), count),
        ("webpack_build_stats", "bundler", json!({}), text),
        ("webpack_build_stats", "bundler_version", json!({}), text),
        ("artifact", "name", json!(""), text),
        ("artifact", "size_bytes", Value::Null, bytes),
        ("artifact", "size_bytes", json!(-1), bytes),
        ("artifact", "variant", json!(long), text),
        ("artifact", "version", json!(long), text),
        ("artifact", "digest", json!(long), text),
        ("artifact", "breakdown", json!([1]), breakdown),
        ("artifact", "breakdown", json!({ "s3cret": "s3cret" }), breakdown),
        ("artifact", "breakdown", json!({ long.as_str(): 1 }), breakdown),
        ("measure", "value", Value::Null, "use a number"),
        ("measure", "value", json!("s3cret"), "use a number"),
        ("measure", "unit", json!("é"), "use at most 63 ASCII characters, such as s or By"),
        ("mark", "context", json!("s3cret"), "use an object"),
        ("mark", "context.provider", json!("s3cret"), "use circleci, gitlab or github"),
        ("mark", "context.host", json!({}), text),
    ] {
        let odd = with(event(of), path, value);
        let error = mapped(&json!([event("mark"), event("artifact"), odd]), None).unwrap_err();
        assert_eq!(error.to_string(), format!("events[2].{path}: {expected}"));
    }
}

#[test]
fn an_id_of_another_form_is_told_where_to_find_the_right_one() {
    for (provider, path, value, expected) in [
        ("circleci", "run_id", json!("s3cret"), "use $CIRCLE_WORKFLOW_ID"),
        ("circleci", "job_id", json!(7), "use $CIRCLE_WORKFLOW_JOB_ID"),
        ("gitlab", "run_id", json!(-7), "use $CI_PIPELINE_ID"),
        ("gitlab", "job_id", json!("07"), "use $CI_JOB_ID"),
        ("gitlab", "root_id", json!("s3cret"), "use the number of the root pipeline"),
        (
            "gitlab",
            "host",
            json!("https://gitlab.com"),
            "use a host name, with its port if it has one",
        ),
        ("github", "run_id", json!("s3cret"), "use $GITHUB_RUN_ID"),
        ("github", "job_id", json!("build"), "use ${{ job.check_run_id }}"),
        ("github", "attempt", json!(0), "use $GITHUB_RUN_ATTEMPT"),
    ] {
        let run = if provider == "circleci" { json!(WORKFLOW) } else { json!(9) };
        let context = json!({ "provider": provider, "run_id": run });
        let odd = with(event("mark"), "context", with(context, path, value));
        let error = mapped(&odd, None).unwrap_err().to_string();
        assert_eq!(error, format!("events[0].context.{path}: {expected}"));
    }
}

#[test]
fn a_body_of_another_shape_is_refused() {
    assert_eq!(mapped(&json!([1]), None), Err(BadEvents::NotObject(0)));
    assert_eq!(mapped(&json!(vec![0; 1001]), None), Err(BadEvents::TooMany));
    let body = map(b"{", RECEIVED, &Settings::default(), Sender::Trusted);
    assert_eq!(body, Err(BadEvents::NotJson));
}

const WORKFLOW: &str = "cedf175c-c537-49f8-9b5c-95892f0b2407";
const JOB: &str = "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34";

#[test]
fn an_event_of_an_unknown_type_is_kept_whatever_it_holds() {
    let odd = json!({
        "type": "from tomorrow", "timestamp": "soon", "correlation_id": [1], "project": {},
        "git_ref": 7.5, "context": { "provider": "s3cret", "run_id": {} }, "attributes": 3,
    });
    let batch = of(&odd);
    let record = &log_groups(&batch)[0].records[0];
    assert_eq!((record.event_name.as_ref(), record.time), ("from tomorrow", RECEIVED));
    assert_eq!(record.context, None);
    assert_eq!(serde_json::from_str::<Value>(&record.body).unwrap(), odd);
    let odd = json!({ "type": "x", "context": { "provider": "gitlab", "run_id": "x" } });
    let own = Hashed::new("build", "").trace("x");
    assert_eq!(log_groups(&of(&odd))[0].records[0].context.unwrap().0, own, "no run, but a name");
}

#[test]
fn a_body_is_cut_at_64_kib_between_characters() {
    let batch = of(&json!({ "type": "x", "text": "é".repeat(40_000) }));
    let decoded = decoded(&messages(&batch, Limits::default()), Limits::default());
    let body = records(&decoded.logs[0]).next().unwrap().body.clone().unwrap().value;
    let Some(any_value::Value::StringValue(body)) = body else { panic!() };
    assert!((64 * 1024 - 1..=64 * 1024).contains(&body.len()), "{}", body.len());
}

#[test]
fn every_form_of_timestamp_is_read() {
    for (timestamp, nanos) in [
        (json!("2026-11-02T09:30:00Z"), 1_793_611_800_000_000_000),
        (json!("2026-11-02T10:30:00.250+01:00"), 1_793_611_800_250_000_000),
        (json!(1_793_611_800), 1_793_611_800_000_000_000),
        (json!("1793611800"), 1_793_611_800_000_000_000),
        (json!(1_793_611_800.25), 1_793_611_800_250_000_000),
        (json!(1_793_611_800_250_u64), 1_793_611_800_250_000_000),
        (json!(1_793_611_800_250.5), 1_793_611_800_250_500_000_u64),
        (json!(""), RECEIVED),
        (Value::Null, RECEIVED),
    ] {
        let batch = of(&with(event("mark"), "timestamp", timestamp.clone()));
        let time = log_groups(&batch)[0].records[0].time;
        assert!(time.abs_diff(nanos) < 500, "{timestamp}: {time}");
    }
}

#[test]
fn the_trace_is_the_runs_else_the_traceparents_else_the_correlation_ids() {
    let placed = |context: Value| {
        let found = parents(&of(&with(event("mark"), "context", context)));
        (found[0].0, found[0].1.unwrap())
    };
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let settings = Settings::default();

    let there = place(Provider::Circleci, &claim(WORKFLOW, JOB), &settings);
    let run =
        json!({ "provider": "circleci", "run_id": WORKFLOW.to_uppercase(), "host": "x.test" });
    assert_eq!(placed(run.clone()), (there.trace, there.run));
    let job = with(run, "job_id", json!(JOB));
    assert_eq!(placed(job), (there.trace, there.job.unwrap()));
    // The vector of the contract.
    assert_eq!(there.trace.to_string(), "e8a005b2bbea3d6ab25bbccc6d8a0d9a");

    let there = |host: &str| {
        let claim = Claim { host: Some(host.to_owned()), ..claim("9", "7") };
        place(Provider::Gitlab, &claim, &settings)
    };
    let run = json!({ "provider": "gitlab", "run_id": 9, "traceparent": traceparent });
    assert_eq!(placed(run.clone()), (there("gitlab.com").trace, there("gitlab.com").run));
    let job = with(with(run, "job_id", json!("7")), "host", json!("GitLab.example.com:443"));
    let there = there("gitlab.example.com");
    assert_eq!(placed(job), (there.trace, there.job.unwrap()));

    let ids = Hashed::new("github", "github.com");
    let run = json!({ "provider": "github", "run_id": 9 });
    assert_eq!(placed(run.clone()), (ids.trace("9/1"), ids.span("run", &["9/1"])));
    let job = with(with(run, "attempt", json!(2)), "job_id", json!(7));
    assert_eq!(placed(job), (ids.trace("9/2"), ids.span("job", &["7"])));

    let (trace, span) = placed(json!({ "provider": "gitlab", "traceparent": traceparent }));
    assert_eq!(format!("00-{trace}-{span}-01"), traceparent);

    let ids = Hashed::new("build", "");
    let own = (ids.trace(CORRELATION), ids.span("run", &[CORRELATION]));
    assert_eq!(placed(json!({})), own);
    assert_eq!(placed(json!({ "traceparent": "00-0-0-00", "run_id": "x" })), own);
}

#[test]
fn native_ids_put_a_child_pipeline_into_its_roots_trace() {
    let settings = with_ids(TraceIds::Native);
    let context = json!({ "provider": "gitlab", "run_id": 9, "root_id": 5, "job_id": 7 });
    let body = with(event("mark"), "context", context).to_string();
    let batch = map(body.as_bytes(), RECEIVED, &settings, Sender::Trusted).unwrap();
    let child = Claim { root_id: Some("5".to_owned()), ..claim("9", "7") };
    let there = place(Provider::Gitlab, &child, &settings);
    assert_eq!(parents(&batch), [(there.trace, there.job)]);
    assert_eq!(*there.trace.as_bytes(), 5u128.to_be_bytes());
}

#[test]
fn in_a_trace_of_its_own_the_build_is_the_root() {
    let events = ["mark", "artifact", "webpack_build_stats", "ci_build_metadata"].map(event);
    let batch = of(&json!(events));
    let spans = &traces(&batch)[0].groups[0].spans;
    let root = spans.iter().find(|it| it.parent.is_none()).unwrap();
    assert_eq!(root.name, "build");
    assert!(spans.iter().all(|it| it.id == root.id || it.parent == Some(root.id)));
    // In the trace of a run it is one span among others.
    let context = json!({ "provider": "gitlab", "run_id": 9 });
    let batch = of(&with(event("ci_build_metadata"), "context", context));
    assert!(parents(&batch)[0].1.is_some());
}

#[test]
fn the_events_of_one_build_meet_whether_or_not_they_name_the_project() {
    let build = with(event("ci_build_metadata"), "project", "acme/shop".into());
    let batch = of(&json!([build, event("webpack_build_stats")]));
    assert_eq!(batch.telemetry.len(), 2, "each project is judged by itself");
    let found: BTreeSet<_> = traces(&batch).iter().map(|it| it.id).collect();
    assert_eq!((found.len(), &found), (1, &batch.trace_ids));
}

#[test]
fn proved_projects_may_count_their_builds_alike() {
    let trace = |project: &str, run: &str| {
        let claim = Claim { project: Some(project.into()), ..claim(run, "") };
        let job = Job::new(Provider::Gitlab, &claim).unwrap();
        parents(&mapped(&event("mark"), Some(&job)).unwrap())[0].0
    };
    assert_ne!(trace("acme/shop", "8"), trace("acme/site", "9"));
}

#[test]
fn what_differs_has_a_span_of_its_own_and_what_is_sent_again_does_not() {
    let id = |event: &Value, received| {
        let body = event.to_string();
        let batch = map(body.as_bytes(), received, &Settings::default(), Sender::Trusted).unwrap();
        traces(&batch)[0].groups[0].spans[0].id
    };
    let first = at(event("artifact"), "2026-11-02T09:30:00Z");
    for other in [
        at(event("artifact"), "2026-11-02T09:30:01Z"),
        at(event("mark"), "2026-11-02T09:30:00Z"),
        event("artifact"),
        with(first.clone(), "name", "other".into()),
        with(first.clone(), "variant", "debug".into()),
        with(first.clone(), "correlation_id", "2".into()),
        with(first.clone(), "context", json!({ "provider": "gitlab", "run_id": 9 })),
    ] {
        assert_ne!(id(&first, RECEIVED), id(&other, RECEIVED), "{other}");
        assert_eq!(id(&other, RECEIVED), id(&other, RECEIVED + 1), "{other}");
    }
    assert_eq!(
        id(&first, RECEIVED),
        id(&with(first.clone(), "timestamp", json!(1_793_611_800)), RECEIVED),
        "one moment, written in another way"
    );
}

#[test]
fn how_a_build_ended_is_told_in_the_words_of_the_conventions() {
    for (status, result, error) in [
        ("success", "success", None),
        ("failed", "failure", Some("failed")),
        ("error", "error", Some("error")),
        ("timedout", "timeout", Some("timeout")),
        ("canceled", "cancellation", None),
        ("ABORTED", "cancellation", None),
        ("skipped", "skip", None),
        ("blocked", "blocked", None),
    ] {
        let batch = of(&with(event("ci_build_metadata"), "job_status", status.into()));
        let span = &traces(&batch)[0].groups[0].spans[0];
        let point = &metric_groups(&batch)[0].metrics[0].points[0];
        let text = |value: Option<&span::Value<'_>>| match value {
            Some(span::Value::Text(text)) => Some(text.to_string()),
            _ => None,
        };
        for attributes in [&span.attributes, &point.attributes] {
            assert_eq!(text(attributes.get("cicd.pipeline.result")).as_deref(), Some(result));
            assert_eq!(text(attributes.get("error.type")).as_deref(), error, "{status}");
        }
        assert_eq!(span.status != Status::Unset, error.is_some());
    }
}

#[test]
fn a_failed_bundle_has_no_sizes() {
    for (field, value) in [("job_status", json!("failed")), ("errors_count", json!(1))] {
        let bundle = with(event("webpack_build_stats"), "metrics.asset_count", json!(0));
        let bundle =
            with(bundle, "details", json!({ "largest_assets": [{ "name": "a", "size": 1 }] }));
        let names = |batch: &Batch| -> Vec<String> {
            metric_groups(batch)[0].metrics.iter().map(|it| it.name.to_string()).collect()
        };
        let all = ["build.compile.duration", "build.bundle.assets", "build.asset.size"];
        assert_eq!(names(&of(&bundle)), all);
        let batch = of(&with(bundle, field, value));
        assert_eq!(names(&batch), ["build.compile.duration"]);
        let span = &traces(&batch)[0].groups[0].spans[0];
        assert_ne!(span.status, Status::Unset);
        assert!(span.attributes.get("error.type").is_some());
    }
}

#[test]
fn the_details_of_a_bundle_may_have_any_shape() {
    for details in [
        json!(null),
        json!("text"),
        json!([1]),
        json!({ "largest_assets": 3 }),
        json!({ "largest_assets": { "a.js": 3 } }),
        json!({ "largest_assets": [1, null, {}, { "name": 3 }, { "name": "a.js", "size": "big" }] }),
    ] {
        let batch = of(&with(event("webpack_build_stats"), "details", details));
        assert_eq!(batch.telemetry[0].count(Signal::Metrics), 1);
    }
    let assets: Vec<_> =
        (0..60).map(|it| json!({ "name": format!("{it}.js"), "size": it })).collect();
    let batch = of(&with(event("webpack_build_stats"), "details.largest_assets", json!(assets)));
    let sizes = &metric_groups(&batch)[0].metrics[1].points;
    let values: Vec<_> = sizes.iter().map(|it| it.value).collect();
    assert_eq!(values, (50..60).rev().map(f64::from).collect::<Vec<_>>());
    let body: Value = serde_json::from_str(&log_groups(&batch)[0].records[0].body).unwrap();
    assert_eq!(body["largest_assets"].as_array().unwrap().len(), 50);
}

#[test]
fn no_secret_and_no_person_is_kept() {
    let attributes = json!({ "api_token": "s3cret", "author": "Ada", "user.email": "Ada" });
    let private = json!({ "password": { "old": "s3cret" }, "commit": { "author_name": "Ada" } });
    let events = json!([
        with(event("mark"), "attributes", attributes.clone()),
        with(event("measure"), "attributes", attributes),
        with(event("webpack_build_stats"), "details", private.clone()),
        with(event("x"), "data", private),
    ]);
    let text = format!("{:?}", of(&events));
    assert!(text.contains("api_token") && text.contains("[blanked]"), "{text}");
    assert!(!text.contains("s3cret") && !text.contains("Ada"), "{text}");
}

#[test]
fn an_identity_wins_over_what_the_event_says() {
    let identity = Claim {
        project: Some("acme/shop".into()),
        ref_name: Some("refs/heads/main".into()),
        revision: Some("abc".into()),
        host: Some("gitlab.example.com".into()),
        ..claim("9", "7")
    };
    let identity = Job::new(Provider::Gitlab, &identity).unwrap();
    let claims = json!({
        "type": "mark", "name": "here", "project": "evil/shop", "git_ref": "evil", "commit_sha": "evil",
        "context": { "provider": "evil", "run_id": [], "traceparent": "evil" },
    });
    let batch = mapped(&claims, Some(&identity)).unwrap();
    let there = identity.place(&Settings::default());
    assert_eq!(parents(&batch), [(there.trace, there.job)]);
    assert!(!format!("{batch:?}").contains("evil"));
    let resource = &traces(&batch)[0].groups[0].resource;
    let text = |key| match resource.get(key) {
        Some(span::Value::Text(text)) => text.to_string(),
        _ => String::new(),
    };
    assert_eq!(text("service.name"), "shop");
    assert_eq!(text("correlation_id"), "9", "a run needs no other name");
    assert_eq!(text("cicd.pipeline.run.id"), "9");
    assert_eq!(text("vcs.ref.head.name"), "main");
    assert_eq!(text("vcs.ref.head.revision"), "abc");
}

#[test]
fn nobody_proves_a_job_without_its_run_and_an_event_proves_no_project() {
    for run_id in [None, Some("not a UUID".to_owned())] {
        let claim = Claim { project: Some("acme/shop".into()), run_id, ..Claim::default() };
        let no_run = BadJob { field: "run_id", expected: "use $CIRCLE_WORKFLOW_ID" };
        assert_eq!(Job::new(Provider::Circleci, &claim), Err(no_run));
    }
    let batch = of(&with(event("mark"), "project", "acme/shop".into()));
    assert_ne!(parents(&batch)[0].0, Hashed::new("build", "acme/shop").trace(CORRELATION));
    assert_eq!(parents(&batch)[0].0, Hashed::new("build", "").trace(CORRELATION));
}

#[test]
fn the_largest_allowed_events_fit_the_queue() {
    // Text that does not compress, of characters that take two bytes each.
    let noise = |seed: usize, length: usize| -> String {
        let mut state = seed as u64 + 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from_u32(0xA0 + u32::try_from(state % 0x700).unwrap()).unwrap()
        };
        (0..length / 2).map(|_| next()).collect()
    };
    let attributes: serde_json::Map<_, _> =
        (0..64).map(|it| (noise(it, 256), noise(it + 100, 2048).into())).collect();
    for kind in ["mark", "measure"] {
        let mut huge = with(event(kind), "attributes", json!(attributes));
        for (seed, field) in
            ["correlation_id", "project", "git_ref", "commit_sha", "name"].iter().enumerate()
        {
            huge[*field] = noise(seed + 900, 256).into();
        }
        decoded(&messages(&of(&huge), Limits::default()), Limits::default());
    }
}

#[test]
fn a_measurement_is_counted_in_the_bucket_that_ends_with_it() {
    for (seconds, bucket) in [
        (0.0, "(0, 1]"),
        (1.0, "(0, 1]"),
        (1.5, "(1, 5]"),
        (21600.0, "(10800, 21600]"),
        (1e9, "(21600, inf]"),
    ] {
        let event = with(event("ci_build_metadata"), "metrics.duration_seconds", json!(seconds));
        assert!(describe(&of(&event)).contains(&format!("in {bucket}")), "{seconds}");
    }
}

/// JSON of any shape.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|it| json!(it)),
        "\\PC{0,20}".prop_map(Value::from),
        Just(json!("gitlab")),
        Just(json!("2026-11-02T09:30:00Z")),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,10}", inner, 0..5)
                .prop_map(|it| it.into_iter().collect()),
        ]
    })
}

/// An event of any type with any field replaced by anything.
fn any_event() -> impl Strategy<Value = Value> {
    const FIELDS: [&str; 22] = [
        "timestamp",
        "correlation_id",
        "project",
        "git_ref",
        "commit_sha",
        "job_status",
        "metrics",
        "metrics.duration_seconds",
        "metrics.compile_time_ms",
        "details",
        "details.largest_assets",
        "bundler",
        "errors_count",
        "name",
        "variant",
        "size_bytes",
        "breakdown",
        "value",
        "unit",
        "attributes",
        "context",
        "other",
    ];
    const CONTEXT: [&str; 10] = [
        "provider",
        "host",
        "run_id",
        "job_id",
        "attempt",
        "project",
        "ref",
        "revision",
        "root_id",
        "traceparent",
    ];
    let fields = prop::collection::vec((prop::sample::select(&FIELDS), any_json()), 0..4);
    let context = prop::collection::vec((prop::sample::select(&CONTEXT), any_json()), 0..4);
    (prop::sample::select(&KINDS), fields, context).prop_map(|(kind, fields, context)| {
        let mut event = event(kind);
        for (field, value) in context {
            event["context"][field] = value;
        }
        for (field, value) in fields {
            let (outer, inner) = field.split_once('.').unwrap_or((field, ""));
            match event.get_mut(outer).and_then(Value::as_object_mut) {
                Some(object) if !inner.is_empty() => drop(object.insert(inner.into(), value)),
                _ => event[outer] = value,
            }
        }
        event
    })
}

/// Whether the attributes are the same as those on the wire.
fn same(went_in: &Attributes<'_>, came_out: &[KeyValue]) -> bool {
    let went_in = went_in.iter().map(|(key, value)| {
        let value = match value {
            span::Value::Text(it) => any_value::Value::StringValue(it.to_string()),
            span::Value::Int(it) => any_value::Value::IntValue(*it),
            span::Value::Double(it) => any_value::Value::DoubleValue(*it),
            span::Value::Bool(it) => any_value::Value::BoolValue(*it),
            span::Value::List(_) => panic!("events have no lists"),
        };
        (key.to_owned(), value)
    });
    let value = |it: &KeyValue| it.value.clone().unwrap().value.unwrap();
    went_in.eq(came_out.iter().map(|it| (it.key.clone(), value(it))))
}

proptest! {
    #[test]
    fn any_bytes_are_mapped_or_refused(body: Vec<u8>) {
        let _ = map(&body, RECEIVED, &Settings::default(), Sender::Trusted);
    }

    #[test]
    fn any_event_is_mapped_or_refused_and_what_is_mapped_can_be_sent(
        events in prop::collection::vec(any_event(), 0..6),
        received: u64,
    ) {
        let body = json!(events).to_string();
        let settings = Settings::default();
        let first = map(body.as_bytes(), received, &settings, Sender::Trusted);
        prop_assert_eq!(&first, &map(body.as_bytes(), received, &settings, Sender::Trusted));
        if let Ok(batch) = first {
            decoded(&messages(&batch, Limits::default()), Limits::default());
        }
    }

    #[test]
    fn the_encoders_write_what_went_in(events in prop::collection::vec(any_event(), 1..6)) {
        let Ok(batch) = mapped(&json!(events), None) else { return Ok(()) };
        let decoded = decoded(&messages(&batch, Limits::default()), Limits::default());

        let went_in: Vec<_> = metric_groups(&batch).into_iter().flat_map(|it| &it.metrics).collect();
        let came_out: Vec<_> = decoded.metrics.iter().flat_map(metrics).collect();
        prop_assert_eq!(went_in.len(), came_out.len());
        for (went_in, came_out) in went_in.into_iter().zip(came_out) {
            prop_assert_eq!((&*went_in.name, &*went_in.unit), (&*came_out.name, &*came_out.unit));
            if let Some(Data::Gauge(gauge)) = &came_out.data {
                prop_assert_eq!(went_in.kind, Kind::Gauge);
                for (went_in, came_out) in went_in.points.iter().zip(&gauge.data_points) {
                    let value = number_data_point::Value::AsDouble(went_in.value);
                    prop_assert_eq!(Some(value), came_out.value);
                    prop_assert_eq!(went_in.time, came_out.time_unix_nano);
                    prop_assert!(same(&went_in.attributes, &came_out.attributes));
                    let (trace, span) = went_in.exemplar.unwrap();
                    prop_assert_eq!(&trace.as_bytes()[..], &*came_out.exemplars[0].trace_id);
                    prop_assert_eq!(&span.as_bytes()[..], &*came_out.exemplars[0].span_id);
                }
            }
        }

        let went_in: Vec<_> = log_groups(&batch).into_iter().flat_map(|it| &it.records).collect();
        let came_out: Vec<_> = decoded.logs.iter().flat_map(records).collect();
        prop_assert_eq!(went_in.len(), came_out.len());
        for (went_in, came_out) in went_in.into_iter().zip(came_out) {
            prop_assert_eq!(&*went_in.event_name, &*came_out.event_name);
            prop_assert_eq!(went_in.time, came_out.time_unix_nano);
            prop_assert_eq!(went_in.observed, came_out.observed_time_unix_nano);
            prop_assert!(same(&went_in.attributes, &came_out.attributes));
            let context = went_in.context;
            let (trace, span) = context.map_or((vec![], vec![]), |(trace, span)| {
                (trace.as_bytes().to_vec(), span.as_bytes().to_vec())
            });
            prop_assert_eq!((trace, span), (came_out.trace_id.clone(), came_out.span_id.clone()));
            let body = came_out.body.as_ref().and_then(|it| it.value.clone());
            prop_assert_eq!(body, Some(any_value::Value::StringValue(went_in.body.to_string())));
        }
    }

    #[test]
    fn with_an_identity_no_event_moves_its_spans(events in prop::collection::vec(any_event(), 1..6)) {
        let identity = Job::new(Provider::Gitlab, &claim("9", "7")).unwrap();
        let there = identity.place(&Settings::default());
        if let Ok(batch) = mapped(&json!(events), Some(&identity)) {
            for (trace, parent) in parents(&batch) {
                prop_assert_eq!((trace, parent), (there.trace, there.job));
            }
            for record in log_groups(&batch).into_iter().flat_map(|it| &it.records) {
                prop_assert_eq!(record.context.unwrap().0, there.trace);
            }
            let metrics = metric_groups(&batch).into_iter().flat_map(|it| &it.metrics);
            for point in metrics.flat_map(|it| &it.points) {
                prop_assert_eq!(point.exemplar.unwrap().0, there.trace);
            }
        }
    }

    #[test]
    fn splitting_keeps_every_span_point_and_record_in_order(
        kinds in prop::collection::vec(prop::sample::select(&KINDS), 1..40),
        body in 600..4000usize,
        raw in 600..8000usize,
    ) {
        let events: Vec<_> = kinds
            .iter()
            .enumerate()
            .map(|(nth, kind)| {
                // Alternating projects give alternating resources.
                let event = with(event(kind), "project", format!("acme/{}", nth % 3).into());
                at(event, &(1_793_611_800 + nth).to_string())
            })
            .collect();
        let batch = of(&json!(events));
        let whole = Limits::default();
        let small = Limits { body, raw };
        let names = |limits| {
            let decoded = decoded(&messages(&batch, limits), Limits { body: whole.body, raw: whole.raw });
            let groups = decoded.traces.iter().flat_map(|it| &it.resource_spans);
            let spans = groups.flat_map(|it| &it.scope_spans).flat_map(|it| &it.spans);
            let spans = spans.map(|it| hex::encode(&it.span_id));
            let points = decoded.metrics.iter().flat_map(metrics).flat_map(points);
            let records = decoded.logs.iter().flat_map(records).map(|it| format!("{it:?}"));
            spans.chain(points).chain(records).collect::<Vec<_>>()
        };
        prop_assert_eq!(names(small), names(whole));
        let more = messages(&batch, small).len() >= messages(&batch, whole).len();
        prop_assert!(more);
        for message in messages(&batch, Limits { body, raw: usize::MAX }) {
            let alone = ["spans", "points", "records"].iter().any(|it| {
                message.attributes.get(*it).is_some_and(|count| count == "1")
            });
            prop_assert!(alone || message.body.len() <= body);
        }
    }
}

/// Whose run an id is can't be told: who may not speak for every project enters none.
#[test]
fn a_confined_sender_enters_no_run_and_no_others_trace() {
    const JOINED: &str = "00-11111111111111111111111111111111-2222222222222222-01";
    let with = |context: Value| {
        json!({ "type": "mark", "name": "x", "project": "acme/site", "correlation_id": "7",
            "context": context })
    };
    let gitlab = json!({ "provider": "gitlab", "run_id": "2722508965", "job_id": "15651125844" });
    let place = |event: &Value, sender| {
        let body = event.to_string();
        let batch = map(body.as_bytes(), RECEIVED, &Settings::default(), sender).unwrap();
        (traces(&batch)[0].id.to_string(), batch.confined)
    };
    let proofs = [Sender::Trusted, Sender::Confined("signature"), Sender::Confined("bearer")];
    let own = proofs.map(|sender| place(&with(Value::Null), sender));
    assert!(own.iter().all(|(_, confined)| !confined));
    assert!(own[0] != own[1] && own[1] != own[2] && own[0] != own[2]);
    for context in [gitlab, json!({ "traceparent": JOINED })] {
        let event = with(context);
        assert_ne!(place(&event, Sender::Trusted), own[0]);
        assert_eq!(place(&event, proofs[1]), (own[1].0.clone(), true));
    }
}
