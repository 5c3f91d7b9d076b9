//! Metrics and log records, with every field that they have.

use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest},
    common::v1::AnyValue,
    logs::v1::LogRecord,
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
        HistogramDataPoint, Metric, NumberDataPoint, Sum, Summary, SummaryDataPoint, exemplar,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
};
use prost::Message as _;
use spanhook_core::otlp::{
    Signal,
    front::{Encoding, Writer},
};

use super::support::{NOW, decoded, logs, metrics, request, take, text};

pub(crate) fn text_value(value: &str) -> Option<AnyValue> {
    text("", value).value
}

fn exemplar() -> Exemplar {
    Exemplar {
        filtered_attributes: vec![text("k", "v")],
        time_unix_nano: NOW,
        value: Some(exemplar::Value::AsInt(-5)),
        span_id: vec![2; 8],
        trace_id: vec![1; 16],
    }
}

pub(crate) fn every_metric() -> Vec<Metric> {
    let metric = |name: &str, data| Metric {
        name: name.to_owned(),
        unit: "s".to_owned(),
        data: Some(data),
        metadata: vec![text("k", "v")],
        ..Metric::default()
    };
    let number = |value| NumberDataPoint {
        attributes: vec![text("k", "v")],
        start_time_unix_nano: NOW - 1,
        time_unix_nano: NOW,
        value: Some(value),
        exemplars: vec![exemplar()],
        flags: 1,
    };
    let histogram = HistogramDataPoint {
        time_unix_nano: NOW,
        count: 3,
        sum: Some(1.5),
        bucket_counts: vec![1, 2],
        explicit_bounds: vec![0.5],
        min: Some(0.25),
        max: Some(1.0),
        exemplars: vec![exemplar()],
        ..HistogramDataPoint::default()
    };
    let buckets = |offset| Some(Buckets { offset, bucket_counts: vec![1, u64::MAX] });
    let exponential = ExponentialHistogramDataPoint {
        time_unix_nano: NOW,
        count: 3,
        sum: Some(1.5),
        scale: -2,
        zero_count: 1,
        positive: buckets(-7),
        negative: buckets(i32::MAX),
        zero_threshold: 0.125,
        ..ExponentialHistogramDataPoint::default()
    };
    let quantile = ValueAtQuantile { quantile: 0.5, value: 2.0 };
    let summary = SummaryDataPoint {
        time_unix_nano: NOW,
        count: 2,
        sum: 4.0,
        quantile_values: vec![quantile],
        ..SummaryDataPoint::default()
    };
    vec![
        metric(
            "gauge",
            Data::Gauge(Gauge {
                data_points: vec![number(number_data_point::Value::AsDouble(0.5))],
            }),
        ),
        metric(
            "sum",
            Data::Sum(Sum {
                data_points: vec![number(number_data_point::Value::AsInt(i64::MIN))],
                aggregation_temporality: 2,
                is_monotonic: true,
            }),
        ),
        metric(
            "histogram",
            Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 1 }),
        ),
        metric(
            "exponential",
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![exponential],
                aggregation_temporality: 1,
            }),
        ),
        metric("summary", Data::Summary(Summary { data_points: vec![summary] })),
    ]
}

const EVERY_METRIC: &str = r#"{"resourceMetrics": [{
    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "make"}}]},
    "scopeMetrics": [{"metrics": [
        {"name": "gauge", "unit": "s", "metadata": METADATA, "gauge": {"dataPoints": [{
            "attributes": METADATA, "startTimeUnixNano": "1793611799999999999", "timeUnixNano": 1793611800000000000,
            "asDouble": 0.5, "exemplars": [EXEMPLAR], "flags": 1}]}},
        {"name": "sum", "unit": "s", "metadata": METADATA, "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [{
            "attributes": METADATA, "startTimeUnixNano": "1793611799999999999", "timeUnixNano": "1793611800000000000",
            "asInt": "-9223372036854775808", "exemplars": [EXEMPLAR], "flags": 1}]}},
        {"name": "histogram", "unit": "s", "metadata": METADATA, "histogram": {"aggregationTemporality": 1, "dataPoints": [{
            "timeUnixNano": "1793611800000000000", "count": "3", "sum": 1.5, "bucketCounts": ["1", 2],
            "explicitBounds": [0.5], "min": 0.25, "max": 1, "exemplars": [EXEMPLAR]}]}},
        {"name": "exponential", "unit": "s", "metadata": METADATA, "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [{
            "timeUnixNano": "1793611800000000000", "count": "3", "sum": 1.5, "scale": -2, "zeroCount": 1,
            "positive": {"offset": -7, "bucketCounts": [1, "18446744073709551615"]},
            "negative": {"offset": 2147483647, "bucketCounts": ["1", "18446744073709551615"]}, "zeroThreshold": 0.125}]}},
        {"name": "summary", "unit": "s", "metadata": METADATA, "summary": {"dataPoints": [{
            "timeUnixNano": "1793611800000000000", "count": "2", "sum": 4.0,
            "quantileValues": [{"quantile": 0.5, "value": 2}]}]}}
    ]}]
}]}"#;

#[test]
fn metrics_of_every_kind_are_the_same_in_json() {
    let expected = metrics(every_metric());
    let exemplar = r#"{"filteredAttributes": METADATA, "timeUnixNano": "1793611800000000000", "asInt": "-5",
        "spanId": "0202020202020202", "traceId": "01010101010101010101010101010101"}"#;
    let metadata = r#"[{"key": "k", "value": {"stringValue": "v"}}]"#;
    let body = EVERY_METRIC.replace("EXEMPLAR", exemplar).replace("METADATA", metadata);
    for (encoding, body) in
        [(Encoding::Json, body.into_bytes()), (Encoding::Protobuf, expected.encode_to_vec())]
    {
        let taken = take(request(Signal::Metrics, encoding), &body, Writer::Trusted).unwrap();
        assert_eq!((taken.count, taken.rejects.count()), (5, 0), "{encoding:?}");
        assert_eq!(decoded::<ExportMetricsServiceRequest>(&taken), expected, "{encoding:?}");
    }
}

#[test]
fn log_records_are_the_same_in_json() {
    let record = LogRecord {
        time_unix_nano: NOW,
        observed_time_unix_nano: NOW + 1,
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        body: text_value("ready"),
        attributes: vec![text("k", "v")],
        flags: 1,
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        event_name: "started".to_owned(),
        ..LogRecord::default()
    };
    let expected = logs(vec![record, LogRecord::default()]);
    let json = r#"{"resourceLogs": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "make"}}]},
        "scopeLogs": [{"logRecords": [{
            "timeUnixNano": "1793611800000000000", "observedTimeUnixNano": "1793611800000000001",
            "severityNumber": 9, "severityText": "INFO", "body": {"stringValue": "ready"},
            "attributes": [{"key": "k", "value": {"stringValue": "v"}}], "flags": 1,
            "traceId": "01010101010101010101010101010101", "spanId": "0202020202020202",
            "eventName": "started"}, {}]}]}]}"#;
    for (encoding, body) in
        [(Encoding::Json, json.as_bytes().to_vec()), (Encoding::Protobuf, expected.encode_to_vec())]
    {
        let taken = take(request(Signal::Logs, encoding), &body, Writer::Trusted).unwrap();
        assert_eq!(decoded::<ExportLogsServiceRequest>(&taken), expected, "{encoding:?}");
    }
}

/// A decoder would keep the last of them, and the sender hear that all of them were taken.
#[test]
fn a_metric_of_points_of_two_kinds_is_none() {
    let all = every_metric();
    let [gauge, sum, ..] = all.as_slice() else { panic!("{all:?}") };
    let both = [gauge.encode_to_vec(), sum.encode_to_vec()].concat();
    let field = |number: u32, bytes: &[u8]| {
        let mut out = Vec::new();
        prost::encoding::bytes::encode(number, &bytes.to_vec(), &mut out);
        out
    };
    let scope = [field(2, &both), field(2, &gauge.encode_to_vec())].concat();
    let body = field(1, &field(2, &scope));
    let of_metrics = request(Signal::Metrics, Encoding::Protobuf);
    let taken = take(of_metrics, &body, Writer::Trusted).unwrap();
    assert_eq!((taken.count, taken.rejects.count()), (1, 2));
    let written: ExportMetricsServiceRequest = decoded(&taken);
    assert_eq!(
        &written.resource_metrics[0].scope_metrics[0].metrics[..],
        std::slice::from_ref(gauge)
    );
}
