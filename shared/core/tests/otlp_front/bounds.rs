//! What a request may cost, and how a large one is split.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value as Any},
    logs::v1::LogRecord,
    metrics::v1::{Metric, NumberDataPoint, Sum, metric::Data, number_data_point},
    trace::v1::Span,
};
use prost::Message as _;
use spanhook_core::{
    message::{self, BODY_LIMIT, Content},
    otlp::{
        Signal,
        front::{Code, Encoding, MAX_ITEMS, Refused, Writer},
    },
    settings::Settings,
};

use super::support::{
    LIMIT, NOW, SPANS, decoded, job, logs, metrics, out, own, request, span, spans, take, taken,
    text,
};

/// Text that hardly compresses.
fn noise(seed: u64, bytes: usize) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.alphanumeric()).take(bytes).collect()
}

#[test]
fn ten_thousand_spans_arrive_over_messages_that_each_fit() {
    let job = job();
    let all: Vec<_> = (1..=10_000)
        .map(|number| Span {
            attributes: vec![text("command", &noise(number, 200))],
            // A part is as late as the whole.
            end_time_unix_nano: NOW - 1_000_000_000 - (10_000 - number) * 50_000,
            ..span(own(), number)
        })
        .collect();
    let taken = taken(&spans(all.clone()), Writer::Job(&job));
    assert_eq!((taken.count, out(&taken)), (10_000, all));
    assert!(taken.messages.len() > 5, "{}", taken.messages.len());
    let mut count = 0;
    for message in &taken.messages {
        assert!(message.body.len() <= BODY_LIMIT);
        let Content::Otlp(Signal::Traces, raw) =
            message::read(&message.body, &message.attributes).unwrap()
        else {
            panic!("no spans")
        };
        assert!(raw.len() <= 2 * 1024 * 1024);
        count += message.attributes["spans"].parse::<usize>().unwrap();
        assert_eq!(message.attributes["ended_at"], ((NOW - 1_000_000_000) / 1_000_000).to_string());
        assert_eq!(message.attributes["trace_id"], hex::encode(own()));
    }
    assert_eq!(count, 10_000);
}

#[test]
fn a_metric_of_many_points_arrives_in_parts_that_are_each_whole() {
    let number = |index: u64| NumberDataPoint {
        attributes: vec![text("file", &noise(index, 100))],
        time_unix_nano: NOW + index,
        value: Some(number_data_point::Value::AsInt(index.cast_signed())),
        ..NumberDataPoint::default()
    };
    let sum = Sum {
        data_points: (0..5_000).map(number).collect(),
        aggregation_temporality: 1,
        is_monotonic: true,
    };
    let metric = Metric {
        name: "build.files".to_owned(),
        unit: "By".to_owned(),
        data: Some(Data::Sum(sum.clone())),
        ..Metric::default()
    };
    let of_metrics = request(Signal::Metrics, Encoding::Protobuf);
    let body = metrics(vec![metric]).encode_to_vec();
    let taken = take(of_metrics, &body, Writer::Trusted).unwrap();
    assert_eq!((taken.count, taken.rejects.count()), (5_000, 0));
    assert!(
        taken.messages.len() > 1 && taken.messages.iter().all(|it| it.body.len() <= BODY_LIMIT)
    );
    let written: ExportMetricsServiceRequest = decoded(&taken);
    let groups = written.resource_metrics.into_iter().flat_map(|it| it.scope_metrics);
    let mut points = Vec::new();
    for metric in groups.flat_map(|it| it.metrics) {
        assert_eq!((&*metric.name, &*metric.unit), ("build.files", "By"));
        let Some(Data::Sum(part)) = metric.data else { panic!("no sum") };
        assert!(part.is_monotonic && part.aggregation_temporality == 1);
        points.extend(part.data_points);
    }
    assert_eq!(points, sum.data_points);
}

#[test]
fn a_span_that_no_message_holds_costs_no_other() {
    let large =
        |bytes| Span { attributes: vec![text("output", &noise(1, bytes))], ..span(own(), 1) };
    for bytes in [400_000, 3_000_000] {
        let taken = taken(&spans(vec![large(bytes), span(own(), 2)]), Writer::Trusted);
        assert_eq!((taken.count, taken.rejects.count()), (1, 1));
        insta::allow_duplicates! {
            insta::assert_snapshot!(taken.rejects, @"not taken: 1 too large for the queue; shorten attributes or events");
        }
    }
    // What repeats itself is small in the queue.
    let log =
        Span { attributes: vec![text("output", &"again ".repeat(200_000))], ..span(own(), 1) };
    assert_eq!(taken(&spans(vec![log]), Writer::Trusted).count, 1);
}

#[test]
fn a_resource_that_every_message_would_repeat_is_bounded() {
    let mut sent = spans(vec![span(own(), 1)]);
    sent.resource_spans[0].resource.as_mut().unwrap().attributes =
        vec![text("k", &noise(1, 70_000))];
    let refused = take(SPANS, &sent.encode_to_vec(), Writer::Trusted).unwrap_err();
    assert!(refused.to_string().contains("too large for the queue"), "{refused}");
}

#[test]
fn many_traces_share_messages_and_none_is_lost() {
    let of = |count: u64| {
        let trace = |number: u64| {
            let mut trace = [1; 16];
            trace[..8].copy_from_slice(&number.to_be_bytes());
            span(trace, number)
        };
        taken(&spans((1..=count).map(trace).collect()), Writer::Trusted)
    };
    let few = of(1_000);
    assert!(few.messages.iter().all(|it| it.attributes.contains_key("trace_id")));
    assert_eq!((few.messages.len(), out(&few).len()), (1_000, 1_000));
    let many = of(20_000);
    assert!(many.messages.iter().all(|it| !it.attributes.contains_key("trace_id")));
    assert_eq!((out(&many).len(), many.count), (20_000, 20_000));
    assert!(many.messages.len() < 50, "{}", many.messages.len());
}

#[test]
fn nothing_that_is_tiny_becomes_large() {
    // Groups of two bytes each.
    let groups = [10, 0].repeat(LIMIT / 2);
    let taken = take(SPANS, &groups, Writer::Trusted).unwrap();
    assert!(taken.messages.is_empty());
    // Records of two bytes each.
    let body = logs(vec![LogRecord::default(); MAX_ITEMS + 1]).encode_to_vec();
    let of_logs = request(Signal::Logs, Encoding::Protobuf);
    let refused = take(of_logs, &body, Writer::Trusted).unwrap_err();
    assert_eq!((&refused, refused.code()), (&Refused::TooMany, Code::TooLarge));
    // Numbers of two bytes each in JSON, which are eight in protobuf.
    let bounds = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{{"explicitBounds":[{}1]}}]}}}}]}}]}}]}}"#,
        "1,".repeat(100_000)
    );
    let of_json = request(Signal::Metrics, Encoding::Json);
    let settings = Settings::default();
    let rules = spanhook_core::rules::ProjectRules::default();
    let refused = of_json.take(bounds.as_bytes(), 400_000, Writer::Trusted, NOW, &settings, &rules);
    assert_eq!(refused, Err(Refused::Json("explicitBounds")));
}

#[test]
fn values_in_values_end_somewhere() {
    let nested = |depth| {
        let mut value = AnyValue { value: Some(Any::BoolValue(true)) };
        for _ in 0..depth {
            value = AnyValue { value: Some(Any::ArrayValue(ArrayValue { values: vec![value] })) };
        }
        let attribute = KeyValue { key: "k".to_owned(), value: Some(value), ..KeyValue::default() };
        Span { attributes: vec![attribute], ..span(own(), 1) }
    };
    let taken = taken(&spans(vec![nested(25), nested(40), span(own(), 2)]), Writer::Trusted);
    assert_eq!((taken.count, taken.rejects.count()), (2, 1));
    let deep = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"k","value":{}{}}}]}}}}]}}"#,
        r#"{"arrayValue":{"values":["#.repeat(100_000),
        "]}}".repeat(100_000)
    );
    let of_json = request(Signal::Traces, Encoding::Json);
    assert!(matches!(take(of_json, deep.as_bytes(), Writer::Trusted), Err(Refused::Json(_))));
}
