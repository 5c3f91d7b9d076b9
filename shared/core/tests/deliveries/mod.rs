//! Deliveries, and what becomes of them, as the Collector would decode it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use spanhook_core::{
    delivery::Mapped,
    id::TraceIds,
    mapping::ServiceName,
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

use crate::{
    conventions,
    describe::{write_attributes, write_span},
    support::{self, map, with_jobs},
};

/// Payloads below a folder in the order of their names; a recorded delivery is `{headers, body}`.
pub(crate) fn payloads(folder: &Path) -> Vec<(String, Vec<u8>)> {
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

/// The settings of the snapshots: the services of GitLab's projects are named apart.
pub(crate) fn settings(trace_ids: TraceIds, job_spans: JobSpans) -> Settings {
    let settings = with_jobs(trace_ids, job_spans);
    let service_name = ServiceName::parse("{repository}", "gitlab").unwrap();
    let gitlab = gitlab::Settings { service_name, ..settings.gitlab };
    Settings { gitlab, ..settings }
}

/// What a delivery becomes.
pub(crate) fn describe(provider: Provider, body: &[u8], settings: &Settings) -> String {
    let telemetry = match map(provider, body, settings) {
        Err(reason) => return format!("quarantined: {reason}\n"),
        Ok(Mapped::Ignored(reason)) => return format!("ignored: {reason}\n"),
        Ok(Mapped::Telemetry(telemetry)) => telemetry,
        Ok(partly) => panic!("{partly:?}"),
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

/// Of a description, only the ids.
pub(crate) fn ids(text: &str) -> String {
    let is_id = |line: &&str| ["trace ", "  id ", "  link "].iter().any(|it| line.starts_with(it));
    text.lines().filter(is_id).map(|line| format!("{line}\n")).collect()
}
