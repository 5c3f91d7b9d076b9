//! What comes in goes out, in either encoding.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value as Any},
    logs::v1::LogRecord,
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

use super::signals::{every_metric, text_value};
use super::support::{decoded, logs, metrics, raw, request, resource, span, spans, take, taken};

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
        let record = LogRecord { body: text_value("ready"), trace_id: vec![1; 16], ..LogRecord::default() };
        let [spans, metrics, logs] = [
            request.encode_to_vec(),
            metrics(every_metric()).encode_to_vec(),
            logs(vec![record]).encode_to_vec(),
        ]
        .map(|mut damaged| {
            if !damaged.is_empty() {
                let at = cut.index(damaged.len());
                damaged[at] ^= flip;
            }
            damaged
        });
        let mut json = json_request(&request).into_bytes();
        let at = cut.index(json.len());
        json[at] = flip;
        for body in [&bytes, text.as_bytes(), &spans, &metrics, &logs, &json] {
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

/// The Collector would refuse what others sent with it.
#[test]
fn a_field_of_another_type_costs_its_span_and_no_other() {
    let field = |number: u32, bytes: &[u8]| {
        let mut out = Vec::new();
        prost::encoding::bytes::encode(number, &bytes.to_vec(), &mut out);
        out
    };
    let good = span([1; 16], 1).encode_to_vec();
    let attribute = |bytes: Vec<u8>| [good.clone(), field(9, &bytes)].concat();
    for bad in [
        [good.clone(), field(6, b"server")].concat(),
        [good.clone(), field(7, b"12345678")].concat(),
        [good.clone(), field(5, b"\xff")].concat(),
        attribute(field(2, &field(3, b"7"))),
        attribute(field(2, &field(8, b"7"))),
        attribute(field(3, b"7")),
        attribute(b"\x0a\x05cut".to_vec()),
    ] {
        let spans = [field(2, &bad), field(2, &good)].concat();
        let body = field(1, &field(2, &spans));
        let taken = take(super::support::SPANS, &body, Writer::Trusted).unwrap();
        assert_eq!((taken.count, taken.rejects.count()), (1, 1), "{}", bad.escape_ascii());
        assert_eq!(super::support::out(&taken), [span([1; 16], 1)]);
    }
}
