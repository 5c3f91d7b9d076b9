//! What the tests of this folder do alike.

use std::{collections::BTreeMap, fs, path::PathBuf};

use http::HeaderMap;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Any},
    trace::v1::Span,
};
use prost::Message as _;
use serde_json::Value;
use spanhook_core::{
    delivery::{Delivery, Outcome},
    id::TraceIds,
    message::{BODY_LIMIT, Content, Message, unpack},
    provider::Provider,
    rules::ProjectRules,
    settings::Settings,
};

use crate::conventions;

pub(crate) fn with(trace_ids: TraceIds) -> Settings {
    Settings { trace_ids, ..Settings::default() }
}

/// All samples by name.
pub(crate) fn samples() -> BTreeMap<String, Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/github");
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
    };
    fs::read_dir(folder).unwrap().map(|it| read(it.unwrap().path())).collect()
}

pub(crate) fn sample(name: &str) -> Value {
    samples().remove(name).unwrap_or_else(|| panic!("no sample {name}"))
}

/// The whole way of a delivery.
pub(crate) fn process(body: &[u8], settings: &Settings) -> Outcome {
    let delivery = Delivery { headers: &HeaderMap::new(), body };
    delivery.process(Provider::Github, settings, &ProjectRules::default())
}

/// The protobuf of a message that fits the queue.
pub(crate) fn raw(message: &Message) -> Vec<u8> {
    assert!(message.body.len() <= BODY_LIMIT, "{} bytes", message.body.len());
    let get = |name: &str| message.attributes.get(name).map(String::as_str);
    match unpack(&message.body, get("encoding"), get("signal")).unwrap() {
        Content::Otlp(_, raw) => raw.into_owned(),
        Content::Quarantined(_) => panic!("quarantined"),
    }
}

/// What a delivery gives, which keeps to the conventions; nothing where it is ignored.
pub(crate) fn requests(body: &[u8], settings: &Settings) -> Vec<ExportTraceServiceRequest> {
    let Outcome::Accepted(accepted) = process(body, settings) else { return Vec::new() };
    let read = |message| {
        let request = ExportTraceServiceRequest::decode(raw(message).as_slice()).unwrap();
        conventions::check(&request);
        request
    };
    accepted.messages.iter().map(read).collect()
}

/// The spans of a payload, each with the attributes of its resource.
pub(crate) fn spans_of(payload: &Value, settings: &Settings) -> Vec<(Vec<KeyValue>, Span)> {
    let requests = requests(payload.to_string().as_bytes(), settings);
    let groups = requests.into_iter().flat_map(|it| it.resource_spans);
    let of = |group: opentelemetry_proto::tonic::trace::v1::ResourceSpans| {
        let resource = group.resource.unwrap().attributes;
        let spans = group.scope_spans.into_iter().flat_map(|it| it.spans);
        spans.map(move |span| (resource.clone(), span)).collect::<Vec<_>>()
    };
    groups.flat_map(of).collect()
}

pub(crate) fn spans(payload: &Value) -> Vec<Span> {
    spans_of(payload, &Settings::default()).into_iter().map(|(_, span)| span).collect()
}

/// The one span of a kind.
pub(crate) fn only<'s>(spans: &'s [Span], kind: &str) -> &'s Span {
    let mut of = spans.iter().filter(|it| text(&it.attributes, "spanhook.kind") == kind);
    let span = of.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(of.next().is_none(), "more than one {kind}");
    span
}

pub(crate) fn count(spans: &[Span], kind: &str) -> usize {
    spans.iter().filter(|it| text(&it.attributes, "spanhook.kind") == kind).count()
}

/// The value of an attribute as text, empty where there is none.
pub(crate) fn text(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|it| it.key == key).and_then(|it| it.value.as_ref());
    match value.and_then(|it| it.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::BoolValue(it)) => it.to_string(),
        Some(Any::IntValue(it)) => it.to_string(),
        Some(Any::DoubleValue(it)) => it.to_string(),
        Some(other) => panic!("{key} is {other:?}"),
        None => String::new(),
    }
}

/// The reason why a payload gives nothing.
pub(crate) fn ignored(payload: &Value) -> &'static str {
    match process(payload.to_string().as_bytes(), &Settings::default()) {
        Outcome::Ignored { reason, .. } => reason,
        other => panic!("{other:?} of {payload}"),
    }
}

/// A payload with fields of its `workflow_job` set.
pub(crate) fn job(sample_name: &str, fields: &[(&str, Value)]) -> Value {
    changed(sample_name, "workflow_job", fields)
}

/// A payload with fields of its `workflow_run` set.
pub(crate) fn run(sample_name: &str, fields: &[(&str, Value)]) -> Value {
    changed(sample_name, "workflow_run", fields)
}

fn changed(sample_name: &str, key: &str, fields: &[(&str, Value)]) -> Value {
    let mut payload = sample(sample_name);
    for (field, value) in fields {
        payload[key][*field] = value.clone();
    }
    payload
}
