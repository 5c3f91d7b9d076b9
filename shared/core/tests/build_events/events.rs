//! Events as tests write them, and what they are mapped to.

use serde_json::{Value, json};
use spanhook_core::{
    build_event::{BadEvents, Batch, PROVIDER, Sender, map},
    id::{SpanId, TraceId},
    job::Job,
    message::Message,
    otlp::{
        encode::{self, Limits},
        log,
        metric::{self},
        span::{self},
    },
    settings::Settings,
};

pub(crate) const WORKFLOW: &str = "cedf175c-c537-49f8-9b5c-95892f0b2407";
pub(crate) const JOB: &str = "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34";

/// 2026-11-02T10:00:00Z
pub(crate) const RECEIVED: u64 = 1_793_613_600_000_000_000;
pub(crate) const CORRELATION: &str = "2722508965";

pub(crate) fn sender(identity: Option<&Job>) -> Sender<'_> {
    identity.map_or(Sender::Trusted, Sender::Job)
}

pub(crate) fn mapped(event: &Value, identity: Option<&Job>) -> Result<Batch, BadEvents> {
    map(event.to_string().as_bytes(), RECEIVED, &Settings::default(), sender(identity))
}

pub(crate) fn of(event: &Value) -> Batch {
    mapped(event, None).unwrap()
}

/// The least event of a type.
pub(crate) fn event(kind: &str) -> Value {
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

pub(crate) const KINDS: [&str; 6] =
    ["ci_build_metadata", "webpack_build_stats", "artifact", "measure", "mark", "anything else"];

/// An event with a field set at a JSON pointer's place.
pub(crate) fn with(mut event: Value, path: &str, value: Value) -> Value {
    let mut at = &mut event;
    for name in path.split('.') {
        at = &mut at[name];
    }
    *at = value;
    event
}

pub(crate) fn at(event: Value, timestamp: &str) -> Value {
    with(event, "timestamp", timestamp.into())
}

/// The traces of all projects.
pub(crate) fn traces(batch: &Batch) -> Vec<&span::Trace<'static>> {
    batch.telemetry.iter().flat_map(|it| &it.traces).collect()
}

/// The metrics of all projects.
pub(crate) fn metric_groups(batch: &Batch) -> Vec<&metric::Group<'static>> {
    batch.telemetry.iter().flat_map(|it| &it.metrics).collect()
}

/// The log records of all projects.
pub(crate) fn log_groups(batch: &Batch) -> Vec<&log::Group<'static>> {
    batch.telemetry.iter().flat_map(|it| &it.logs).collect()
}

/// Traces and parents of the spans.
pub(crate) fn parents(batch: &Batch) -> Vec<(TraceId, Option<SpanId>)> {
    let spans = |trace: &span::Trace<'static>| {
        let groups = trace.groups.iter().flat_map(|it| it.spans.iter());
        groups.map(|span| (trace.id, span.parent)).collect::<Vec<_>>()
    };
    traces(batch).into_iter().flat_map(spans).collect()
}

/// What is queued of the events.
pub(crate) fn messages(batch: &Batch, limits: Limits) -> Vec<Message> {
    batch.telemetry.iter().flat_map(|it| encode::messages(it, PROVIDER, limits)).collect()
}
