//! What is queued of events, decoded by types that spanhook did not write, and as text.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    logs::v1::LogRecord,
    metrics::v1::Metric,
};
use prost::Message as _;
use spanhook_core::{
    build_event::{Batch, PROVIDER},
    message::{Content, Message, unpack},
    otlp::{
        Signal, Telemetry,
        encode::{self, Limits},
    },
};

use crate::{
    conventions,
    describe::{date, value, write_attributes, write_span},
    points::{points, write_metrics},
};

/// What the messages hold, decoded by types that spanhook did not write.
#[derive(Default)]
pub(crate) struct Decoded {
    pub(crate) traces: Vec<ExportTraceServiceRequest>,
    pub(crate) metrics: Vec<ExportMetricsServiceRequest>,
    pub(crate) logs: Vec<ExportLogsServiceRequest>,
}

pub(crate) fn decoded(messages: &[Message], limits: Limits) -> Decoded {
    let mut decoded = Decoded::default();
    for message in messages {
        assert!(message.body.len() <= limits.body, "{} bytes", message.body.len());
        assert!(message.attributes.len() <= 10);
        let get = |name: &str| message.attributes.get(name).map(String::as_str);
        assert_eq!(get("provider"), Some("build-events"));
        let count = |name: &str| get(name).unwrap().parse::<usize>().unwrap();
        match unpack(&message.body, get("encoding"), get("signal")).unwrap() {
            Content::Otlp(Signal::Traces, raw) => {
                decoded.traces.push(ExportTraceServiceRequest::decode(&*raw).unwrap());
            }
            Content::Otlp(Signal::Metrics, raw) => {
                let request = ExportMetricsServiceRequest::decode(&*raw).unwrap();
                assert_eq!(
                    count("points"),
                    metrics(&request).map(|it| points(it).len()).sum::<usize>()
                );
                decoded.metrics.push(request);
            }
            Content::Otlp(Signal::Logs, raw) => {
                let request = ExportLogsServiceRequest::decode(&*raw).unwrap();
                assert_eq!(count("records"), records(&request).count());
                decoded.logs.push(request);
            }
            Content::Quarantined(_) => panic!("nothing is quarantined"),
        }
    }
    decoded
}

pub(crate) fn metrics(request: &ExportMetricsServiceRequest) -> impl Iterator<Item = &Metric> {
    let scopes = request.resource_metrics.iter().flat_map(|it| &it.scope_metrics);
    scopes.flat_map(|it| &it.metrics)
}

pub(crate) fn records(request: &ExportLogsServiceRequest) -> impl Iterator<Item = &LogRecord> {
    let scopes = request.resource_logs.iter().flat_map(|it| &it.scope_logs);
    scopes.flat_map(|it| &it.log_records)
}

pub(crate) fn describe(batch: &Batch) -> String {
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
