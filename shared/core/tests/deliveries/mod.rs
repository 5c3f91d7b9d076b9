//! Deliveries, and what becomes of them, as the Collector would decode it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use spanhook_core::{
    circleci::CircleciSettings,
    encode::{Limits, encode},
    gitlab::{GitlabSettings, JobSpans},
    id::{GitlabJobKind, TraceIds},
    mapping::{Mapped, Provider, Unmappable},
    message::{Content, unpack},
};

use crate::{
    conventions,
    describe::{write_attributes, write_span},
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

pub(crate) fn circleci(trace_ids: TraceIds) -> CircleciSettings {
    CircleciSettings {
        trace_ids,
        host: "circleci.com".into(),
        service_name: "circleci".parse().unwrap(),
    }
}

pub(crate) fn gitlab(trace_ids: TraceIds, job_spans: JobSpans) -> GitlabSettings {
    GitlabSettings {
        trace_ids,
        job_kind: GitlabJobKind::Default,
        job_spans,
        host: "gitlab.com".into(),
        service_name: "{repository}".parse().unwrap(),
    }
}

pub(crate) fn describe(provider: Provider, mapped: Result<Mapped<'_>, Unmappable>) -> String {
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

/// Of a description, only the ids.
pub(crate) fn ids(text: &str) -> String {
    let is_id = |line: &&str| ["trace ", "  id ", "  link "].iter().any(|it| line.starts_with(it));
    text.lines().filter(is_id).map(|line| format!("{line}\n")).collect()
}
