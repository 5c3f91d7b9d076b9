//! The spans of every recorded delivery, as the Collector would decode them.
//!
//! Reads the payloads from `$SPANHOOK_FIXTURES`; without it the tests say so and pass.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and says when it is skipped"
)]

mod conventions;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message as _;
use spanhook_core::{
    circleci::{self, CircleciSettings},
    encode::{Limits, encode},
    gitlab::{self, GitlabSettings, JobSpans},
    id::{GitlabJobKind, TraceIds},
    mapping::{Mapped, Provider, Unmappable},
    message::{Content, unpack},
};

fn fixtures(folder: &str) -> Option<PathBuf> {
    let Ok(root) = std::env::var("SPANHOOK_FIXTURES") else {
        eprintln!("SKIPPED: set SPANHOOK_FIXTURES to the folder of recorded payloads");
        return None;
    };
    Some(Path::new(&root).join(folder))
}

/// Payloads below a folder in the order of their names; a recorded delivery is `{headers, body}`.
fn payloads(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "json") {
                found.push(path);
            }
        }
    }
    let number = |path: &PathBuf| path.file_stem().and_then(|it| it.to_str()?.parse::<u32>().ok());
    found.sort_by_key(|path| (path.parent().map(Path::to_owned), number(path), path.clone()));
    let read = |path: PathBuf| {
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        let body = fs::read(path).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let body = json.get("body").map_or(body, |it| serde_json::to_vec(it).unwrap());
        (name, body)
    };
    found.into_iter().map(read).collect()
}

fn circleci(trace_ids: TraceIds) -> CircleciSettings {
    CircleciSettings {
        trace_ids,
        host: "circleci.com".into(),
        service_name: "circleci".parse().unwrap(),
    }
}

fn gitlab(trace_ids: TraceIds, job_spans: JobSpans) -> GitlabSettings {
    GitlabSettings {
        trace_ids,
        job_kind: GitlabJobKind::Default,
        job_spans,
        host: "gitlab.com".into(),
        service_name: "{repository}".parse().unwrap(),
    }
}

fn describe(provider: Provider, mapped: Result<Mapped<'_>, Unmappable>) -> String {
    match mapped {
        Err(reason) => format!("quarantined: {reason}\n"),
        Ok(Mapped::Ignored(reason)) => format!("ignored: {reason}\n"),
        Ok(Mapped::Trace { trace, project }) => {
            let messages = encode(&trace, provider, &project, Limits::default());
            let mut text = format!("trace {} of {project}\n", trace.id);
            for message in messages {
                let encoding = message.attributes.get("encoding").map(String::as_str);
                let Content::Traces(raw) = unpack(&message.body, encoding, None).unwrap() else {
                    panic!("not a traces message")
                };
                let request = ExportTraceServiceRequest::decode(raw.as_slice()).unwrap();
                conventions::check(&request);
                for group in request.resource_spans {
                    assert_eq!(group.schema_url, "https://opentelemetry.io/schemas/1.44.0");
                    text += "resource\n";
                    write_attributes(&group.resource.unwrap().attributes, "  ", &mut text);
                    for span in group.scope_spans.into_iter().flat_map(|it| it.spans) {
                        write_span(&span, &mut text);
                    }
                }
            }
            text
        }
    }
}

fn write_span(span: &Span, text: &mut String) {
    let kind = ["", "INTERNAL", "SERVER"][usize::try_from(span.kind).unwrap()];
    let status = span.status.as_ref().map_or("", |it| if it.code == 2 { " ERROR" } else { "" });
    writeln!(text, "{kind} {:?}{status}", span.name).unwrap();
    let parent = hex::encode(&span.parent_span_id);
    writeln!(text, "  id {} parent {parent}", hex::encode(&span.span_id)).unwrap();
    let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
    let date = |nanos: u64| jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap();
    writeln!(text, "  {} .. {}", date(start), date(end)).unwrap();
    write_attributes(&span.attributes, "  ", text);
    for event in &span.events {
        writeln!(text, "  event {:?} {}", event.name, date(event.time_unix_nano)).unwrap();
        write_attributes(&event.attributes, "    ", text);
    }
    for link in &span.links {
        let (trace, span) = (hex::encode(&link.trace_id), hex::encode(&link.span_id));
        writeln!(text, "  link {trace} {span}").unwrap();
    }
}

fn write_attributes(attributes: &[KeyValue], indent: &str, text: &mut String) {
    for attribute in attributes {
        writeln!(text, "{indent}{} = {}", attribute.key, value(attribute.value.as_ref())).unwrap();
    }
}

fn value(value: Option<&AnyValue>) -> String {
    match value.and_then(|it| it.value.as_ref()) {
        Some(Value::StringValue(it)) => format!("{it:?}"),
        Some(Value::BoolValue(it)) => it.to_string(),
        Some(Value::IntValue(it)) => it.to_string(),
        Some(Value::DoubleValue(it)) => format!("{it:?}"),
        Some(Value::ArrayValue(it)) => {
            let items: Vec<_> = it.values.iter().map(|it| self::value(Some(it))).collect();
            format!("[{}]", items.join(", "))
        }
        other => panic!("unexpected value {other:?}"),
    }
}

fn snapshot(name: &str, folder: Option<PathBuf>, map: impl Fn(&[u8]) -> String) {
    let Some(folder) = folder else { return };
    let text = payloads(&folder)
        .iter()
        .map(|(file, body)| format!("=== {file}\n{}", map(body)))
        .collect::<String>();
    insta::assert_snapshot!(name, text);
}

#[test]
fn circleci_deliveries_become_these_spans() {
    let map = |body: &[u8]| {
        describe(Provider::Circleci, circleci::map(body, &circleci(TraceIds::Hashed)))
    };
    snapshot("circleci", fixtures("circleci"), map);
}

#[test]
fn circleci_deliveries_take_circleci_hooks_ids_in_native_mode() {
    let map = |body: &[u8]| {
        describe(Provider::Circleci, circleci::map(body, &circleci(TraceIds::Native)))
            .lines()
            .filter(|line| line.starts_with("trace ") || line.starts_with("  id "))
            .map(|line| format!("{line}\n"))
            .collect()
    };
    snapshot("circleci-native", fixtures("circleci"), map);
}

fn gitlab_snapshot(name: &str, folder: &str, trace_ids: TraceIds, job_spans: JobSpans) {
    let settings = gitlab(trace_ids, job_spans);
    let map = |body: &[u8]| describe(Provider::Gitlab, gitlab::map(body, &settings));
    snapshot(name, fixtures(&format!("gitlab/{folder}")), map);
}

#[test]
fn gitlab_deliveries_become_these_spans() {
    for folder in [
        "cimonitor/pipeline",
        "cimonitor/canceled-pipeline",
        "cimonitor/deployment",
        "go-gitlab",
        "liatrio-gitlabprocessor",
        "zoidyzoidzoid-sink",
        "contrib-pr45781",
        "gitlab-docs",
        "synthetic",
    ] {
        let name = format!("gitlab-{}", folder.replace('/', "-"));
        gitlab_snapshot(&name, folder, TraceIds::Hashed, JobSpans::Pipeline);
    }
}

#[test]
fn gitlab_job_events_become_these_spans_in_job_mode() {
    for folder in
        ["cimonitor/canceled-pipeline", "zoidyzoidzoid-sink", "contrib-pr45781", "gitlab-docs"]
    {
        let name = format!("gitlab-jobs-{}", folder.replace('/', "-"));
        gitlab_snapshot(&name, folder, TraceIds::Hashed, JobSpans::Job);
    }
}

#[test]
fn gitlab_child_pipelines_share_the_roots_trace_in_native_mode() {
    gitlab_snapshot("gitlab-native", "synthetic", TraceIds::Native, JobSpans::Pipeline);
}
