//! The spans of every recorded delivery, as the Collector would decode them.
//!
//! The payloads are in `$SPANHOOK_FIXTURES`, which no clone has.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

mod conventions;
mod describe;
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use describe::{write_attributes, write_span};
use spanhook_core::{
    delivery::{Mapped, Unmappable},
    id::TraceIds,
    otlp::{
        Signal,
        encode::{Limits, messages},
    },
    provider::{
        Provider,
        gitlab::{self, JobSpans},
    },
    settings::Settings,
};
use support::{map, with_ids, with_jobs};

fn fixtures(folder: &str) -> PathBuf {
    let root = std::env::var_os("SPANHOOK_FIXTURES").expect("SPANHOOK_FIXTURES");
    Path::new(&root).join(folder)
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

fn describe(provider: Provider, mapped: Result<Mapped<'_>, Unmappable>) -> String {
    let telemetry = match mapped {
        Err(reason) => return format!("quarantined: {reason}\n"),
        Ok(Mapped::Ignored(reason)) => return format!("ignored: {reason}\n"),
        Ok(Mapped::Telemetry(telemetry)) => telemetry,
    };
    // Of a delivery of these providers comes one trace of one project, and nothing beside it.
    let [telemetry] = telemetry.as_slice() else { panic!("{telemetry:?}") };
    let [trace] = telemetry.traces.as_slice() else { panic!("{telemetry:?}") };
    assert_eq!((telemetry.count(Signal::Metrics), telemetry.count(Signal::Logs)), (0, 0));
    let mut text = format!("trace {} of {}\n", trace.id, telemetry.project);
    for message in messages(telemetry, provider.as_str(), Limits::default()) {
        let request = support::request(&message);
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

fn snapshot(name: &str, folder: &Path, map: impl Fn(&[u8]) -> String) {
    let text = payloads(folder)
        .iter()
        .map(|(file, body)| format!("=== {file}\n{}", map(body)))
        .collect::<String>();
    insta::assert_snapshot!(name, text);
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn circleci_deliveries_become_these_spans() {
    snapshot("circleci", &fixtures("circleci"), |body| {
        describe(Provider::Circleci, map(Provider::Circleci, body, &Settings::default()))
    });
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn circleci_deliveries_take_circleci_hooks_ids_in_native_mode() {
    let settings = with_ids(TraceIds::Native);
    snapshot("circleci-native", &fixtures("circleci"), |body| {
        describe(Provider::Circleci, map(Provider::Circleci, body, &settings))
            .lines()
            .filter(|line| line.starts_with("trace ") || line.starts_with("  id "))
            .map(|line| format!("{line}\n"))
            .collect()
    });
}

fn gitlab_snapshot(name: &str, folder: &str, trace_ids: TraceIds, job_spans: JobSpans) {
    let settings = with_jobs(trace_ids, job_spans);
    let service_name = "{repository}".parse().unwrap();
    let gitlab = gitlab::Settings { service_name, ..settings.gitlab };
    let settings = Settings { gitlab, ..settings };
    snapshot(name, &fixtures(&format!("gitlab/{folder}")), |body| {
        describe(Provider::Gitlab, map(Provider::Gitlab, body, &settings))
    });
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
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
#[ignore = "needs SPANHOOK_FIXTURES"]
fn gitlab_job_events_become_these_spans_in_job_mode() {
    for folder in
        ["cimonitor/canceled-pipeline", "zoidyzoidzoid-sink", "contrib-pr45781", "gitlab-docs"]
    {
        let name = format!("gitlab-jobs-{}", folder.replace('/', "-"));
        gitlab_snapshot(&name, folder, TraceIds::Hashed, JobSpans::Job);
    }
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn gitlab_child_pipelines_share_the_roots_trace_in_native_mode() {
    gitlab_snapshot("gitlab-native", "synthetic", TraceIds::Native, JobSpans::Pipeline);
}
