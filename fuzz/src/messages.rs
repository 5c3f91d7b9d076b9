//! Queue messages: any that may lie in a queue, and those that were made here.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::KeyValue,
    metrics::v1::{Metric, metric::Data},
    trace::v1::Span,
};
use spanhook_core::{
    id::TraceId,
    message::{self, BODY_LIMIT, Content, Message, OTLP, PROTOBUF, RAW, Undecodable},
    otlp::Signal,
};

use crate::cut;

/// The most that SQS takes of a message's attributes.
const MAX_ATTRIBUTES: usize = 10;

/// Reads a message as the forwarder does. The one place that knows how its body is held.
pub(crate) fn read(message: &Message) -> Result<Content<'_>, Undecodable> {
    message::read(&message.body, &message.attributes)
}

/// A message of these bytes, as a queue gives it back.
fn unpack(
    raw: &[u8],
    encoding: &str,
    signal: Option<&str>,
) -> Result<Content<'static>, Undecodable> {
    match message::unpack(&message::pack(raw), Some(encoding), signal)? {
        Content::Otlp(signal, raw) => Ok(Content::Otlp(signal, raw.into_owned().into())),
        Content::Quarantined(delivery) => Ok(Content::Quarantined(delivery)),
    }
}

/// A message in the queue: raw text, or bytes that are packed first so that they reach the parser.
/// Whatever is read can be joined to others by its bytes.
pub fn message(data: &[u8]) -> bool {
    let Some((kind, rest)) = cut::choice(data) else { return false };
    let signal = ["traces", "metrics", "logs", "profiles"].get(kind / 5 % 8).copied();
    let content = match kind % 5 {
        0 => {
            let content = unpack(rest, OTLP, signal);
            assert_eq!(message::unpack(rest, Some(PROTOBUF), signal), content, "packed or not");
            content
        }
        1 => {
            let Ok(text) = std::str::from_utf8(rest) else { return false };
            message::unpack(text, Some([OTLP, RAW, "identity"][kind / 5 % 3]), signal)
        }
        2 => {
            let at = kind.min(rest.len());
            let joined = message::join_parts(&[rest[..at].to_vec(), rest[at..].to_vec()]);
            assert_eq!(joined, message::join_parts(&[rest.to_vec()]), "where it was cut");
            return joined.is_ok();
        }
        3 => {
            let Ok(text) = std::str::from_utf8(rest) else { return false };
            return !message::kept_headers(text).is_empty();
        }
        _ => {
            let content = unpack(rest, RAW, signal);
            assert_eq!(content, Ok(Content::Quarantined(rest.to_vec())));
            return true;
        }
    };
    let Ok(Content::Otlp(signal, raw)) = content else { return false };
    let twice = raw.repeat(2);
    let joined = unpack(&twice, OTLP, Some(signal.as_str()));
    assert_eq!(joined, Ok(Content::Otlp(signal, twice.into())), "joined requests are whole");
    true
}

/// What messages hold, as types that spanhook did not write decode it.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) spans: Vec<Span>,
    /// The attributes of each span's resource.
    pub(crate) resources: Vec<Vec<KeyValue>>,
    pub(crate) points: usize,
    pub(crate) records: usize,
    /// All that is packed in them, for a look at what must not be there.
    pub(crate) raw: Vec<u8>,
}

impl Held {
    /// Decodes messages and checks what holds for each.
    pub(crate) fn of(messages: &[Message]) -> Self {
        let mut held = Self::default();
        for message in messages {
            check_envelope(message);
            let Ok(Content::Otlp(signal, raw)) = read(message) else {
                panic!("a message that was made here can be read: {message:?}")
            };
            held.raw.extend_from_slice(&raw);
            held.raw.extend_from_slice(format!("{:?}", message.attributes).as_bytes());
            let counted: usize = message.attributes[signal.items()].parse().unwrap_or(usize::MAX);
            let found = held.add(signal, &raw, message.attributes.get("trace_id"));
            assert_eq!(counted, found, "the count in the attributes");
        }
        held
    }

    fn add(&mut self, signal: Signal, raw: &[u8], trace: Option<&String>) -> usize {
        match signal {
            Signal::Traces => {
                let before = self.spans.len();
                let request: ExportTraceServiceRequest = decoded(raw);
                for group in request.resource_spans {
                    let resource = group.resource.unwrap_or_default().attributes;
                    for span in group.scope_spans.into_iter().flat_map(|it| it.spans) {
                        let id = <[u8; 16]>::try_from(&*span.trace_id).ok().and_then(TraceId::new);
                        let id = id.unwrap_or_else(|| panic!("a trace id: {span:?}")).to_string();
                        assert!(trace.is_none_or(|it| *it == id), "the trace of its message");
                        assert!(span.span_id.len() == 8 && span.span_id != [0; 8], "{span:?}");
                        self.spans.push(span);
                        self.resources.push(resource.clone());
                    }
                }
                self.spans.len() - before
            }
            Signal::Metrics => {
                let request: ExportMetricsServiceRequest = decoded(raw);
                let groups = request.resource_metrics.into_iter().flat_map(|it| it.scope_metrics);
                let count = groups.flat_map(|it| it.metrics).map(|it| points(&it)).sum();
                self.points += count;
                count
            }
            Signal::Logs => {
                let request: ExportLogsServiceRequest = decoded(raw);
                let groups = request.resource_logs.into_iter().flat_map(|it| it.scope_logs);
                let count = groups.map(|it| it.log_records.len()).sum();
                self.records += count;
                count
            }
        }
    }

    /// What holds for spans that were mapped here; those of others come as they are.
    pub(crate) fn check_mapped(&self) {
        for span in &self.spans {
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
            assert!(!span.name.is_empty() && span.name.len() <= 2048, "{span:?}");
            assert!(span.parent_span_id != span.span_id, "{span:?}");
            check_keys(&span.attributes);
        }
        self.resources.iter().for_each(|it| check_keys(it));
    }
}

fn decoded<T: prost::Message + Default>(raw: &[u8]) -> T {
    T::decode(raw).unwrap_or_else(|error| panic!("others can decode it: {error}"))
}

pub(crate) fn points(metric: &Metric) -> usize {
    match &metric.data {
        None => 0,
        Some(Data::Gauge(it)) => it.data_points.len(),
        Some(Data::Sum(it)) => it.data_points.len(),
        Some(Data::Histogram(it)) => it.data_points.len(),
        Some(Data::ExponentialHistogram(it)) => it.data_points.len(),
        Some(Data::Summary(it)) => it.data_points.len(),
    }
}

/// <https://opentelemetry.io/docs/specs/otel/common/#attribute-collections>
fn check_keys(attributes: &[KeyValue]) {
    let mut keys: Vec<_> = attributes.iter().map(|it| it.key.as_str()).collect();
    assert!(keys.iter().all(|it| !it.is_empty()), "{keys:?}");
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count, "each attribute once: {keys:?}");
}

/// What SQS asks of a message.
fn check_envelope(message: &Message) {
    assert!(message.body.len() <= BODY_LIMIT, "{} bytes", message.body.len());
    assert!(message.attributes.len() <= MAX_ATTRIBUTES, "{:?}", message.attributes);
    for (name, value) in &message.attributes {
        let clean = value.chars().all(|it| it == ' ' || it.is_ascii_graphic());
        assert!(!value.is_empty() && clean, "{name}: {value:?}");
    }
    assert!((1..=128).contains(&message.group.len()), "{}", message.group);
}

/// The delivery in quarantined messages, all parts together.
pub(crate) fn quarantined(messages: &[Message]) -> Vec<u8> {
    assert!(!messages.is_empty(), "what can't be mapped is kept");
    messages.iter().for_each(check_envelope);
    let [message] = messages else { return Vec::new() };
    match read(message) {
        Ok(Content::Quarantined(body)) => body,
        content => panic!("a delivery: {content:?}"),
    }
}
