//! OTLP as text, for snapshots.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::Span,
};

pub(crate) fn write_span(span: &Span, text: &mut String) {
    let kind = ["", "INTERNAL", "SERVER"][usize::try_from(span.kind).unwrap()];
    let status = span.status.as_ref().map_or("", |it| if it.code == 2 { " ERROR" } else { "" });
    writeln!(text, "{kind} {:?}{status}", span.name).unwrap();
    let parent = hex::encode(&span.parent_span_id);
    writeln!(text, "  id {} parent {parent}", hex::encode(&span.span_id)).unwrap();
    let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
    writeln!(text, "  {} .. {}", date(start), date(end)).unwrap();
    write_attributes(&span.attributes, "  ", text);
    for event in &span.events {
        writeln!(text, "  event {:?} {}", event.name, date(event.time_unix_nano)).unwrap();
        write_attributes(&event.attributes, "    ", text);
    }
    for link in &span.links {
        let (trace, span) = (hex::encode(&link.trace_id), hex::encode(&link.span_id));
        writeln!(text, "  link {trace} {span}").unwrap();
    }
}

pub(crate) fn write_attributes(attributes: &[KeyValue], indent: &str, text: &mut String) {
    for attribute in attributes {
        writeln!(text, "{indent}{} = {}", attribute.key, value(attribute.value.as_ref())).unwrap();
    }
}

pub(crate) fn value(value: Option<&AnyValue>) -> String {
    match value.and_then(|it| it.value.as_ref()) {
        Some(Value::StringValue(it)) => format!("{it:?}"),
        Some(Value::BoolValue(it)) => it.to_string(),
        Some(Value::IntValue(it)) => it.to_string(),
        Some(Value::DoubleValue(it)) => format!("{it:?}"),
        Some(Value::ArrayValue(it)) => {
            let items: Vec<_> = it.values.iter().map(|it| self::value(Some(it))).collect();
            format!("[{}]", items.join(", "))
        }
        other => panic!("unexpected value {other:?}"),
    }
}

pub(crate) fn date(nanos: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap()
}
