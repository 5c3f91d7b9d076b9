//! What is queued of events, decoded by types that spanhook did not write, and as text.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    logs::v1::LogRecord,
    metrics::v1::{
        Exemplar, HistogramDataPoint, Metric, NumberDataPoint, exemplar, metric::Data,
        number_data_point,
    },
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

pub(crate) fn metrics(request: &ExportMetricsServiceRequest) -> impl Iterator<Item = &Metric> {
    let scopes = request.resource_metrics.iter().flat_map(|it| &it.scope_metrics);
    scopes.flat_map(|it| &it.metrics)
}

pub(crate) fn records(request: &ExportLogsServiceRequest) -> impl Iterator<Item = &LogRecord> {
    let scopes = request.resource_logs.iter().flat_map(|it| &it.scope_logs);
    scopes.flat_map(|it| &it.log_records)
}

/// The points of a metric as text, with their attributes and exemplars.
pub(crate) fn points(metric: &Metric) -> Vec<String> {
    let exemplars = |exemplars: &[Exemplar]| {
        exemplars.iter().fold(String::new(), |mut text, it| {
            let Some(exemplar::Value::AsDouble(value)) = it.value else { panic!() };
            let (trace, span) = (hex::encode(&it.trace_id), hex::encode(&it.span_id));
            writeln!(text, "    exemplar {value} {trace} {span}").unwrap();
            text
        })
    };
    match metric.data.as_ref().unwrap() {
        Data::Gauge(gauge) => {
            let text = |it: &NumberDataPoint| {
                let Some(number_data_point::Value::AsDouble(value)) = it.value else { panic!() };
                let mut text = format!("  {value} at {}\n", date(it.time_unix_nano));
                write_attributes(&it.attributes, "    ", &mut text);
                text + &exemplars(&it.exemplars)
            };
            gauge.data_points.iter().map(text).collect()
        }
        Data::Histogram(histogram) => {
            assert_eq!(histogram.aggregation_temporality, 1, "delta");
            let text = |it: &HistogramDataPoint| {
                assert_eq!(it.bucket_counts.len(), it.explicit_bounds.len() + 1);
                assert_eq!((it.count, it.sum), (1, it.min));
                assert_eq!(it.min, it.max);
                let bucket = it.bucket_counts.iter().position(|it| *it == 1).unwrap();
                let times = (date(it.start_time_unix_nano), date(it.time_unix_nano));
                let bounds = (
                    bucket.checked_sub(1).map_or(0.0, |below| it.explicit_bounds[below]),
                    it.explicit_bounds.get(bucket).copied().unwrap_or(f64::INFINITY),
                );
                let sum = it.sum.unwrap();
                let mut text = format!(
                    "  {sum} in ({}, {}] from {} to {}\n",
                    bounds.0, bounds.1, times.0, times.1
                );
                write_attributes(&it.attributes, "    ", &mut text);
                text + &exemplars(&it.exemplars)
            };
            histogram.data_points.iter().map(text).collect()
        }
        other => panic!("unexpected {other:?}"),
    }
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
    for group in decoded.metrics.iter().flat_map(|it| &it.resource_metrics) {
        assert_eq!(group.schema_url, "https://opentelemetry.io/schemas/1.44.0");
        assert!(!group.resource.as_ref().unwrap().attributes.is_empty());
        for scope in &group.scope_metrics {
            assert_eq!(scope.schema_url, group.schema_url);
            assert_eq!(scope.scope.as_ref().unwrap().name, "spanhook");
            for metric in &scope.metrics {
                writeln!(text, "metric {} [{}]", metric.name, metric.unit).unwrap();
                text += &points(metric).concat();
            }
        }
    }
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
