//! Requests as an SDK makes them, and what the queue holds of them.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{Metric, ResourceMetrics, ScopeMetrics},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use spanhook_core::{
    job::{Claim, Job},
    message::{self, Content},
    otlp::{
        Signal,
        front::{Encoding, Refused, Request, Taken, Writer},
    },
    provider::Provider,
    rules::ProjectRules,
    settings::Settings,
};

/// What a body may hold.
pub(crate) const LIMIT: usize = 26_214_400;

/// When requests are received.
pub(crate) const NOW: u64 = 1_793_611_800_000_000_000;

pub(crate) const fn request(signal: Signal, encoding: Encoding) -> Request {
    Request { signal, encoding }
}

pub(crate) const SPANS: Request = request(Signal::Traces, Encoding::Protobuf);

/// With no rules and no settings.
pub(crate) fn take(request: Request, body: &[u8], writer: Writer<'_>) -> Result<Taken, Refused> {
    let rules = ProjectRules::default();
    request.take(body, LIMIT, writer, NOW, &Settings::default(), &rules)
}

pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(any_value::Value::StringValue(value.to_owned()));
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value }), ..KeyValue::default() }
}

pub(crate) fn resource(attributes: Vec<KeyValue>) -> Resource {
    Resource { attributes, ..Resource::default() }
}

/// A span of `trace`, told from others by its number.
pub(crate) fn span(trace: [u8; 16], number: u64) -> Span {
    Span {
        trace_id: trace.to_vec(),
        span_id: number.to_be_bytes().to_vec(),
        name: format!("step {number}"),
        kind: 1,
        start_time_unix_nano: NOW - 2_000_000_000,
        end_time_unix_nano: NOW - 1_000_000_000,
        ..Span::default()
    }
}

/// Spans of one scope.
pub(crate) fn spans(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope = Some(InstrumentationScope { name: "tests".to_owned(), ..Default::default() });
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource(vec![text("service.name", "make")])),
            scope_spans: vec![ScopeSpans { scope, spans, ..ScopeSpans::default() }],
            schema_url: "https://opentelemetry.io/schemas/1.37.0".to_owned(),
        }],
    }
}

pub(crate) fn metrics(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource(vec![text("service.name", "make")])),
            scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
}

pub(crate) fn logs(log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource(vec![text("service.name", "make")])),
            scope_logs: vec![ScopeLogs { log_records, ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        }],
    }
}

/// A GitLab job, with another's run to tell it from.
pub(crate) fn job() -> Job {
    let claim = Claim {
        host: Some("gitlab.example.com".to_owned()),
        run_id: Some("2722508965".to_owned()),
        job_id: Some("15651125844".to_owned()),
        project: Some("acme/web/shop".to_owned()),
        ..Claim::default()
    };
    Job::new(Provider::Gitlab, &claim).unwrap()
}

/// The trace of that job's run.
pub(crate) fn own() -> [u8; 16] {
    *job().place(&Settings::default()).trace.as_bytes()
}

/// What the queue holds, joined as the forwarder joins it.
pub(crate) fn raw(taken: &Taken) -> Vec<u8> {
    let content = taken.messages.iter().map(|it| message::read(&it.body, &it.attributes).unwrap());
    content
        .flat_map(|it| match it {
            Content::Otlp(_, raw) => raw.into_owned(),
            Content::Quarantined(_) => panic!("quarantined"),
        })
        .collect()
}

pub(crate) fn decoded<T: prost::Message + Default>(taken: &Taken) -> T {
    T::decode(raw(taken).as_slice()).unwrap()
}

/// The spans in the queue.
pub(crate) fn out(taken: &Taken) -> Vec<Span> {
    let request: ExportTraceServiceRequest = decoded(taken);
    let groups = request.resource_spans.into_iter().flat_map(|it| it.scope_spans);
    groups.flat_map(|it| it.spans).collect()
}

pub(crate) fn taken(spans: &ExportTraceServiceRequest, writer: Writer<'_>) -> Taken {
    take(SPANS, &spans.encode_to_vec(), writer).unwrap()
}
