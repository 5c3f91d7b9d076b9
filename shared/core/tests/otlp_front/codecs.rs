//! What comes in goes out, in either encoding.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value as Any},
    logs::v1::LogRecord,
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
        HistogramDataPoint, Metric, NumberDataPoint, Sum, Summary, SummaryDataPoint, exemplar,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status,
        span::{Event, Link},
    },
};
use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;
use serde_json::{Value, json};
use spanhook_core::otlp::{
    Signal,
    front::{Encoding, Request, Writer},
};

use super::support::{
    NOW, decoded, logs, metrics, raw, request, resource, span, spans, take, taken, text,
};

fn any_value() -> impl Strategy<Value = AnyValue> {
    let value = |it: Any| AnyValue { value: Some(it) };
    let leaf = prop_oneof![
        "\\PC{0,12}".prop_map(Any::StringValue),
        any::<bool>().prop_map(Any::BoolValue),
        any::<i64>().prop_map(Any::IntValue),
        // JSON has no form for some of the others that every reader agrees on.
        any::<i32>().prop_map(|it| Any::DoubleValue(f64::from(it) / 8.0)),
        vec(any::<u8>(), 0..9).prop_map(Any::BytesValue),
    ]
    .prop_map(value);
    leaf.prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4)
                .prop_map(move |values| value(Any::ArrayValue(ArrayValue { values }))),
            vec(("[a-z]{1,4}", inner), 0..4).prop_map(move |pairs| {
                let values = pairs.into_iter().map(|(key, it)| pair(key, it)).collect();
                value(Any::KvlistValue(KeyValueList { values }))
            }),
        ]
    })
}

fn pair(key: String, value: AnyValue) -> KeyValue {
    KeyValue { key, value: Some(value), ..KeyValue::default() }
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(("[a-z.]{1,8}", any_value()).prop_map(|(key, it)| pair(key, it)), 0..4)
}

fn id<const N: usize>() -> impl Strategy<Value = Vec<u8>> {
    any::<[u8; N]>().prop_filter("not all zero", |it| *it != [0; N]).prop_map(Vec::from)
}

fn any_span() -> impl Strategy<Value = Span> {
    let event = (any::<u64>(), "\\PC{0,9}", attributes()).prop_map(|(time, name, attributes)| {
        Event { time_unix_nano: time, name, attributes, dropped_attributes_count: 1 }
    });
    let link = (id::<16>(), id::<8>(), attributes()).prop_map(|(trace_id, span_id, attributes)| {
        Link { trace_id, span_id, attributes, flags: 0x101, ..Link::default() }
    });
    let ids = (prop_oneof![Just(vec![7; 16]), id::<16>()], id::<8>(), option::of(id::<8>()));
    let rest = ("\\PC{0,20}", 0..6i32, any::<(u64, u64, u32)>(), attributes());
    let status =
        option::of(("\\PC{0,9}", 0..3i32).prop_map(|(message, code)| Status { message, code }));
    (ids, rest, vec(event, 0..3), vec(link, 0..3), status).prop_map(
        |(
            (trace_id, span_id, parent),
            (name, kind, (start, end, flags), attributes),
            events,
            links,
            status,
        )| Span {
            trace_id,
            span_id,
            parent_span_id: parent.unwrap_or_default(),
            name,
            kind,
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            flags,
            attributes,
            events,
            links,
            status,
            trace_state: "a=b".to_owned(),
            dropped_links_count: 3,
            ..Span::default()
        },
    )
}

fn any_request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope = vec(any_span(), 0..4).prop_map(|spans| ScopeSpans { spans, ..spans_scope() });
    let group =
        (attributes(), vec(scope, 0..3)).prop_map(|(attributes, scope_spans)| ResourceSpans {
            resource: Some(resource(attributes)),
            scope_spans,
            ..ResourceSpans::default()
        });
    vec(group, 0..4).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

fn spans_scope() -> ScopeSpans {
    spans(Vec::new()).resource_spans.remove(0).scope_spans.remove(0)
}

/// Every span with all that stands above it, sorted.
fn flat(request: ExportTraceServiceRequest) -> Vec<Vec<u8>> {
    let mut flat = Vec::new();
    for group in request.resource_spans {
        for scope in &group.scope_spans {
            for span in &scope.spans {
                let scope_spans = vec![ScopeSpans { spans: vec![span.clone()], ..scope.clone() }];
                let group = ResourceSpans { scope_spans, ..group.clone() };
                flat.push(group.encode_to_vec());
            }
        }
    }
    flat.sort();
    flat
}

fn hex_of(bytes: &[u8]) -> Value {
    hex::encode(bytes).into()
}

fn json_value(value: &AnyValue) -> Value {
    use base64::{Engine, engine::general_purpose::STANDARD};
    match value.value.as_ref().unwrap() {
        Any::StringValue(it) => json!({ "stringValue": it }),
        Any::BoolValue(it) => json!({ "boolValue": it }),
        Any::IntValue(it) => json!({ "intValue": it.to_string() }),
        Any::DoubleValue(it) => json!({ "doubleValue": it }),
        Any::BytesValue(it) => json!({ "bytesValue": STANDARD.encode(it) }),
        Any::ArrayValue(it) => {
            let values: Vec<_> = it.values.iter().map(json_value).collect();
            json!({ "arrayValue": { "values": values } })
        }
        Any::KvlistValue(it) => json!({ "kvlistValue": { "values": json_pairs(&it.values) } }),
        Any::StringValueStrindex(_) => panic!("of profiles"),
    }
}

fn json_pairs(pairs: &[KeyValue]) -> Vec<Value> {
    let value = |it: &KeyValue| json_value(it.value.as_ref().unwrap());
    pairs.iter().map(|it| json!({ "key": it.key, "value": value(it) })).collect()
}

fn json_span(span: &Span) -> Value {
    let event = |it: &Event| {
        json!({
            "timeUnixNano": it.time_unix_nano.to_string(), "name": it.name,
            "attributes": json_pairs(&it.attributes),
            "droppedAttributesCount": it.dropped_attributes_count,
        })
    };
    let link = |it: &Link| {
        json!({
            "traceId": hex_of(&it.trace_id), "spanId": hex_of(&it.span_id),
            "attributes": json_pairs(&it.attributes), "flags": it.flags,
        })
    };
    let status = span.status.as_ref().map(|it| json!({ "message": it.message, "code": it.code }));
    json!({
        "traceId": hex_of(&span.trace_id), "spanId": hex_of(&span.span_id),
        "parentSpanId": hex_of(&span.parent_span_id), "name": span.name, "kind": span.kind,
        // A number is as good as text.
        "startTimeUnixNano": span.start_time_unix_nano,
        "endTimeUnixNano": span.end_time_unix_nano.to_string(), "flags": span.flags,
        "attributes": json_pairs(&span.attributes), "status": status,
        "events": span.events.iter().map(event).collect::<Vec<_>>(),
        "links": span.links.iter().map(link).collect::<Vec<_>>(),
        "traceState": span.trace_state, "droppedLinksCount": span.dropped_links_count,
        "ofANewerVersion": { "deep": [1, { "x": null }] },
    })
}

fn json_request(request: &ExportTraceServiceRequest) -> String {
    let scope = |it: &ScopeSpans| {
        let spans: Vec<_> = it.spans.iter().map(json_span).collect();
        json!({ "scope": { "name": "tests", "unknown": 1 }, "spans": spans })
    };
    let group = |it: &ResourceSpans| {
        let attributes = json_pairs(&it.resource.as_ref().unwrap().attributes);
        let scopes: Vec<_> = it.scope_spans.iter().map(scope).collect();
        json!({ "resource": { "attributes": attributes }, "scopeSpans": scopes })
    };
    let groups: Vec<_> = request.resource_spans.iter().map(group).collect();
    json!({ "resourceSpans": groups }).to_string()
}

const JSON: Request = request(Signal::Traces, Encoding::Json);

proptest! {
    #[test]
    fn what_comes_in_goes_out_span_for_span(request in any_request()) {
        let taken = taken(&request, Writer::Trusted);
        let count: usize = flat(request.clone()).len();
        prop_assert_eq!((taken.count, taken.rejects.count()), (count, 0));
        prop_assert_eq!(flat(decoded(&taken)), flat(request));
    }

    #[test]
    fn json_gives_what_protobuf_gives(request in any_request()) {
        let of_json = take(JSON, json_request(&request).as_bytes(), Writer::Trusted).unwrap();
        prop_assert_eq!(flat(decoded(&of_json)), flat(request));
    }

    #[test]
    fn any_bytes_are_taken_or_refused(
        bytes in vec(any::<u8>(), 0..300), text in "\\PC{0,99}", cut in any::<prop::sample::Index>(),
        request in any_request(), flip: u8,
    ) {
        let mut damaged = request.encode_to_vec();
        if !damaged.is_empty() {
            let at = cut.index(damaged.len());
            damaged[at] ^= flip;
        }
        let mut json = json_request(&request).into_bytes();
        let at = cut.index(json.len());
        json[at] = flip;
        for body in [&bytes, text.as_bytes(), &damaged, &json] {
            for signal in Signal::ALL {
                for encoding in [Encoding::Protobuf, Encoding::Json] {
                    let request = Request { signal, encoding };
                    if let Ok(taken) = take(request, body, Writer::Trusted) {
                        // What is taken can be decoded: the Collector must not stumble over it.
                        let raw = raw(&taken);
                        match signal {
                            Signal::Traces => drop(ExportTraceServiceRequest::decode(&*raw).unwrap()),
                            Signal::Metrics => drop(ExportMetricsServiceRequest::decode(&*raw).unwrap()),
                            Signal::Logs => drop(ExportLogsServiceRequest::decode(&*raw).unwrap()),
                        }
                    }
                }
            }
        }
    }
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

fn every_metric() -> Vec<Metric> {
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
        body: text("", "ready").value,
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

#[test]
fn json_that_is_wrong_names_the_field_and_repeats_nothing() {
    let of_span = |field: &str| {
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{field}}}]}}]}}]}}"#)
    };
    let mut text = String::new();
    for body in [
        String::new(),
        "[]".to_owned(),
        "s3cret".to_owned(),
        r#"{"resourceSpans": {}} s3cret"#.to_owned(),
        r#"{"resourceSpans": "s3cret"}"#.to_owned(),
        of_span(r#""traceId": "s3cret""#),
        of_span(r#""kind": "SPAN_KIND_SERVER""#),
        of_span(r#""startTimeUnixNano": "-1""#),
        of_span(r#""startTimeUnixNano": 1.5"#),
        of_span(r#""attributes": [[]]"#),
        of_span(r#""attributes": [{"key": "k", "value": {"bytesValue": "s3cret!"}}]"#),
        of_span(r#""name": 7"#),
    ] {
        let refused = take(JSON, body.as_bytes(), Writer::Trusted).unwrap_err().to_string();
        assert!(!refused.contains("s3cret"), "{refused}");
        text += &format!("{body}\n  {refused}\n");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn null_is_absent_and_empty_ids_are_none() {
    let json = r#"{"resourceSpans": [{"resource": null, "scopeSpans": [{"scope": null, "spans": [{
        "traceId": "AB000000000000000000000000000000", "spanId": "00000000000000ff", "parentSpanId": "",
        "status": {}, "events": null, "endTimeUnixNano": 1e9}]}]}], "resourceMetrics": 1}"#;
    let taken = take(JSON, json.as_bytes(), Writer::Trusted).unwrap();
    let [span] = super::support::out(&taken).try_into().unwrap();
    assert_eq!(
        (span.trace_id[0], span.span_id[7], span.end_time_unix_nano),
        (0xab, 0xff, 1_000_000_000)
    );
    assert!(span.parent_span_id.is_empty() && span.events.is_empty());
}

/// Fields that this version has no name for, at every level where they can be.
#[test]
fn what_a_newer_version_has_added_arrives() {
    let field = |number: u32, bytes: &[u8]| {
        let mut out = Vec::new();
        prost::encoding::bytes::encode(number, &bytes.to_vec(), &mut out);
        out
    };
    let unknown = |bytes: Vec<u8>| [bytes, field(900, b"of a newer version")].concat();
    let span = unknown(span([1; 16], 1).encode_to_vec());
    let scope = unknown(field(2, &span));
    let resource = unknown([field(1, &unknown(Vec::new())), field(2, &scope)].concat());
    let body = field(1, &resource);
    let taken = take(super::support::SPANS, &body, Writer::Trusted).unwrap();
    let found = raw(&taken).windows(18).filter(|it| it == b"of a newer version").count();
    assert_eq!(found, 4);
    // But not beside the groups: the forwarder joins requests by their groups.
    let beside = take(super::support::SPANS, &unknown(body), Writer::Trusted).unwrap();
    assert_eq!(beside.messages, taken.messages);
}
