//! Rows of the exporter's table `otel_traces`, of deliveries that are mapped and encoded as the
//! functions do it: so many spans of made-up runs of every provider, or those of sample deliveries.
//!
//! usage: `cargo run --release -p spanhook-core --example generate-spans -- 1000000 > spans.jsonl`
//! or `… --example generate-spans -- events/github/workflow-run-failed.json … > spans.jsonl`

mod ci;
mod cluster;

use std::{
    io::{BufWriter, Write, stdout},
    process::ExitCode,
};

use http::HeaderMap;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    trace::v1::{ResourceSpans, Span},
};
use prost::Message as _;
use serde_json::{Map, Value, json};
use spanhook_core::{
    delivery::{Delivery, Outcome},
    message::{Content, unpack},
    otlp::Signal,
    provider::Provider,
    rules::ProjectRules,
    settings::{Settings, Vars},
};

use ci::Ci;

fn main() -> ExitCode {
    let mut out = BufWriter::new(stdout().lock());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let written = match arguments.as_slice() {
        [] => Err("usage: generate-spans NUMBER, or generate-spans FILE...".into()),
        [count] if count.parse::<usize>().is_ok() => {
            count.parse().map_err(Into::into).and_then(|count| made_up(count, &mut out))
        }
        files => files.iter().try_for_each(|it| sample(it, &mut out)),
    };
    match written.and_then(|()| out.flush().map_err(Into::into)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "generate-spans: {error}");
            ExitCode::FAILURE
        }
    }
}

type Written = Result<(), Box<dyn std::error::Error>>;

/// The spans of so many made-up runs that there are `count` of them.
fn made_up(count: usize, out: &mut impl Write) -> Written {
    let mut ci = Ci::new();
    let mut written = 0;
    while written < count {
        let deliveries = match ci.random.u8(..) {
            0..90 => vec![ci.gitlab()],
            90..160 => ci.github(),
            160..225 => ci.circleci(),
            225..245 => ci.lighthouse(),
            _ => ci.tekton(),
        };
        for (provider, delivery) in deliveries {
            written += write(provider, &delivery, out)?;
        }
    }
    Ok(())
}

/// The spans of a file with a delivery.
fn sample(path: &str, out: &mut impl Write) -> Written {
    let read = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let delivery = serde_json::from_slice(&read).map_err(|error| format!("{path}: {error}"))?;
    let provider = Provider::of_payload(&delivery).ok_or(format!("{path}: of no provider"))?;
    write(provider, &delivery, out).map(|_| ())
}

/// How many rows a delivery gave.
fn write(
    provider: Provider,
    delivery: &Value,
    out: &mut impl Write,
) -> Result<usize, Box<dyn std::error::Error>> {
    let rows = delivered(provider, delivery, &settings()?);
    for row in &rows {
        serde_json::to_writer(&mut *out, row)?;
        out.write_all(b"\n")?;
    }
    Ok(rows.len())
}

/// Those with which events and objects of the made-up cluster are told as one run.
fn settings() -> Result<Settings, Box<dyn std::error::Error>> {
    let vars = [("KUBERNETES_CLUSTER", cluster::NAME), ("LIGHTHOUSE_SOURCES", "both")];
    let vars: Vars = vars.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    Ok(Settings::parse(&vars)?)
}

/// The rows of one delivery.
fn delivered(provider: Provider, delivery: &Value, settings: &Settings) -> Vec<Value> {
    let body = delivery.to_string();
    let delivery = Delivery { headers: &HeaderMap::new(), body: body.as_bytes() };
    let outcome = delivery.process(provider, settings, &ProjectRules::default());
    let Outcome::Accepted(accepted) = outcome else { return Vec::new() };
    let requests = accepted.messages.iter().filter_map(|message| {
        let attribute = |name: &str| message.attributes.get(name).map(String::as_str);
        match unpack(&message.body, attribute("encoding"), attribute("signal")) {
            Ok(Content::Otlp(Signal::Traces, raw)) => ExportTraceServiceRequest::decode(&*raw).ok(),
            _ => None,
        }
    });
    requests.flat_map(|request| request.resource_spans).flat_map(rows).collect()
}

/// The rows of one resource, as the Collector's exporter writes them.
fn rows(group: ResourceSpans) -> Vec<Value> {
    let resource = attributes(group.resource.map(|it| it.attributes).unwrap_or_default());
    let service = resource.get("service.name").cloned().unwrap_or_default();
    let mut rows = Vec::new();
    for scope in group.scope_spans {
        let (name, version) = scope.scope.map(|it| (it.name, it.version)).unwrap_or_default();
        for span in scope.spans {
            rows.push(row(span, &resource, &service, (&name, &version)));
        }
    }
    rows
}

fn row(span: Span, resource: &Map<String, Value>, service: &Value, scope: (&str, &str)) -> Value {
    let status = span.status.unwrap_or_default();
    json!({
        "Timestamp": span.start_time_unix_nano,
        "TraceId": hex(&span.trace_id),
        "SpanId": hex(&span.span_id),
        "ParentSpanId": hex(&span.parent_span_id),
        "TraceState": span.trace_state,
        "SpanName": span.name,
        "SpanKind": if span.kind == 2 { "Server" } else { "Internal" },
        "ServiceName": service,
        "ResourceAttributes": resource,
        "ScopeName": scope.0,
        "ScopeVersion": scope.1,
        "SpanAttributes": attributes(span.attributes),
        "Duration": span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano),
        "StatusCode": if status.code == 2 { "Error" } else { "Unset" },
        "StatusMessage": status.message,
        "Events.Timestamp": span.events.iter().map(|it| it.time_unix_nano).collect::<Vec<_>>(),
        "Events.Name": span.events.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
        "Events.Attributes":
            span.events.iter().map(|it| attributes(it.attributes.clone())).collect::<Vec<_>>(),
        "Links.TraceId": span.links.iter().map(|it| hex(&it.trace_id)).collect::<Vec<_>>(),
        "Links.SpanId": span.links.iter().map(|it| hex(&it.span_id)).collect::<Vec<_>>(),
        "Links.TraceState": span.links.iter().map(|it| it.trace_state.as_str()).collect::<Vec<_>>(),
        "Links.Attributes":
            span.links.iter().map(|it| attributes(it.attributes.clone())).collect::<Vec<_>>(),
    })
}

/// The exporter's maps hold text only.
fn attributes(pairs: Vec<KeyValue>) -> Map<String, Value> {
    pairs.into_iter().map(|pair| (pair.key, text(pair.value).into())).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|it| it.value) {
        Some(Any::StringValue(text)) => text,
        Some(Any::IntValue(number)) => number.to_string(),
        Some(Any::DoubleValue(number)) => number.to_string(),
        Some(Any::BoolValue(flag)) => flag.to_string(),
        Some(Any::ArrayValue(list)) => {
            let texts: Vec<_> = list.values.into_iter().map(|it| text(Some(it))).collect();
            json!(texts).to_string()
        }
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
