//! Telemetry to queue messages: protobuf, split so that every message fits, zstd, base64.
//!
//! The protobuf is written straight from the borrowed span model with prost's wire primitives.
//! Filling `opentelemetry-proto`'s owned messages first would copy every key and value of 10,000
//! jobs; in the tests those types decode what is written here. Metrics and logs are few, and are
//! written the same way because the primitives are here already, and those types would bring the
//! SDK's asynchronous half into this crate.

mod logs;
mod metrics;

use std::borrow::Cow;

use bytes::Bytes;
use prost::encoding::{
    WireType, double, encode_key, encode_varint, encoded_len_varint, fixed64, key_len,
};

use self::{logs::encode_logs, metrics::encode_metrics};
use super::{
    Signal, Telemetry,
    span::{Attributes, Event, Group, Link, Span, Status, Trace, Value},
};
use crate::{
    message::{self, Message, Packing},
    project::Project,
    semconv::{SCHEMA_URL, SCOPE_NAME, SCOPE_VERSION},
};

/// Sizes that a message must not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What the queue takes as a body.
    pub packing: Packing,
    /// The body as it is queued, in bytes.
    pub body: usize,
    /// The protobuf inside it, in bytes: it must join others in a request of at most 3.5 MiB.
    pub raw: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { packing: Packing::Text, body: message::BODY_LIMIT, raw: 2 * 1024 * 1024 }
    }
}

impl Limits {
    /// Those of a queue that takes bytes, as many as an export request may have.
    pub const BYTES: Self =
        Self { packing: Packing::Bytes, body: 2 * 1024 * 1024, raw: 2 * 1024 * 1024 };
}

/// Longer texts are cut, so that one value can't make a span too large for the queue.
const TEXT_LIMIT: usize = 2048;

/// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK` and the sampled bit: the parent is known to be local.
const FLAGS: u32 = 0x0000_0101;

/// The `ExportTraceServiceRequest` of a trace that is sent at once and not queued.
#[must_use]
pub fn request(trace: &Trace<'_>) -> Vec<u8> {
    write_request(trace, &placed(trace), usize::MAX).0
}

/// The messages of all signals, in order, each of which fits the limits. No span, point or record
/// is split; of a lone span that does not fit, the last events are left out and counted, as OTLP
/// provides. `source` is the provider, or what else made them.
#[must_use]
pub fn messages(telemetry: &Telemetry<'_>, source: &str, limits: Limits) -> Vec<Message> {
    let envelope = Envelope { source, project: &telemetry.project, limits };
    let traces = telemetry.traces.iter();
    let mut messages: Vec<_> = traces.flat_map(|it| encode_spans(it, envelope)).collect();
    messages.extend(encode_metrics(&telemetry.metrics, envelope));
    messages.extend(encode_logs(&telemetry.logs, envelope));
    messages
}

/// What the messages of one project have in common.
#[derive(Clone, Copy)]
struct Envelope<'e> {
    source: &'e str,
    project: &'e Project,
    limits: Limits,
}

impl Envelope<'_> {
    fn message(&self, signal: Signal, items: (usize, u64), body: Bytes) -> Message {
        let body = (self.limits.packing, body);
        Message::otlp(signal, self.source, self.project, items, body)
    }
}

fn encode_spans(trace: &Trace<'_>, envelope: Envelope<'_>) -> Vec<Message> {
    let spans = placed(trace);
    let mut messages = Vec::new();
    let mut rest = spans.as_slice();
    while !rest.is_empty() {
        let (raw, taken) = write_request(trace, rest, envelope.limits.raw);
        compress(trace, envelope, (&rest[..taken], raw), &mut messages);
        rest = &rest[taken..];
    }
    messages
}

type Placed<'t, 'a> = (&'t Group<'a>, Cow<'t, Span<'a>>);

fn placed<'t, 'a>(trace: &'t Trace<'a>) -> Vec<Placed<'t, 'a>> {
    let of = |group: &'t Group<'a>| group.spans.iter().map(move |it| (group, Cow::Borrowed(it)));
    trace.groups.iter().flat_map(of).collect()
}

fn compress(
    trace: &Trace<'_>,
    envelope: Envelope<'_>,
    (spans, raw): (&[Placed<'_, '_>], Vec<u8>),
    messages: &mut Vec<Message>,
) {
    let limits = envelope.limits;
    let raw_fits = raw.len() <= limits.raw;
    let body = limits.packing.pack(raw);
    let message = |body| {
        // The whole trace's: its parts leave together, and none is late because its jobs were early.
        let all = trace.groups.iter().flat_map(|group| &group.spans);
        let ended_at = all.map(|span| span.end).max().unwrap_or(0);
        envelope.message(Signal::Traces, (spans.len(), ended_at), body).of_trace(trace.id)
    };
    if body.len() <= limits.body && raw_fits {
        messages.push(message(body));
        return;
    }
    let write = |spans: &[Placed<'_, '_>]| write_request(trace, spans, usize::MAX).0;
    match spans {
        [(group, span)] if !span.events.is_empty() => {
            let mut fewer = span.clone().into_owned();
            fewer.events.truncate(span.events.len() / 2);
            fewer.dropped_events += span.events.len() - fewer.events.len();
            let spans = [(*group, Cow::Owned(fewer))];
            let raw = write(&spans);
            compress(trace, envelope, (&spans, raw), messages);
        }
        // Its texts are cut and their number is fixed, so it is below what the queue takes.
        [_] | [] => messages.push(message(body)),
        _ => {
            let (left, right) = spans.split_at(spans.len() / 2);
            for half in [left, right] {
                let raw = write(half);
                compress(trace, envelope, (half, raw), messages);
            }
        }
    }
}

/// One `ExportTraceServiceRequest` with as many of the spans as fit, at least one, and how many.
fn write_request(trace: &Trace<'_>, spans: &[Placed<'_, '_>], limit: usize) -> (Vec<u8>, usize) {
    let mut request = Vec::new();
    let mut encoded = Vec::new(); // one span, reused
    let mut taken = 0;
    while let Some((group, _)) = spans.get(taken) {
        let first = taken;
        let mut scope_spans = scope();
        while let Some((_, span)) = spans.get(taken).filter(|(it, _)| std::ptr::eq(*it, *group)) {
            encoded.clear();
            write_span(trace, span, &mut encoded);
            if taken > 0 && request.len() + scope_spans.len() + encoded.len() > limit {
                break;
            }
            bytes_field(2, &encoded, &mut scope_spans);
            taken += 1;
        }
        if taken == first {
            break;
        }
        write_resource(&group.resource, scope_spans, &mut request);
        if spans.get(taken).is_some_and(|(it, _)| std::ptr::eq(*it, *group)) {
            break;
        }
    }
    (request, taken)
}

/// The beginning of a `ScopeSpans`, `ScopeMetrics` or `ScopeLogs`; their fields are numbered alike.
fn scope() -> Vec<u8> {
    let mut scope = Vec::new();
    message_field(1, &mut scope, |it| {
        text(1, SCOPE_NAME, it);
        text(2, SCOPE_VERSION, it);
    });
    scope
}

/// A resource and its one scope, which is completed.
fn write_resource(resource: &Attributes<'_>, mut scope: Vec<u8>, request: &mut Vec<u8>) {
    text(3, SCHEMA_URL, &mut scope);
    message_field(1, request, |group| {
        message_field(1, group, |it| attributes(1, resource, it));
        bytes_field(2, &scope, group);
        text(3, SCHEMA_URL, group);
    });
}

/// Hands `send` the parts of `items` that each fit a message, with its body.
pub(super) fn split<T>(
    items: &[T],
    limits: Limits,
    write: &impl Fn(&[T]) -> Vec<u8>,
    send: &mut impl FnMut(&[T], Bytes),
) {
    if items.is_empty() {
        return;
    }
    let raw = write(items);
    if raw.len() <= limits.raw || items.len() == 1 {
        let body = limits.packing.pack(raw);
        // A lone item has its texts cut and their number bounded, so it is below what the queue takes.
        if body.len() <= limits.body || items.len() == 1 {
            return send(items, body);
        }
    }
    let (left, right) = items.split_at(items.len() / 2);
    split(left, limits, write, send);
    split(right, limits, write, send);
}

fn write_span(trace: &Trace<'_>, span: &Span<'_>, out: &mut Vec<u8>) {
    bytes_field(1, trace.id.as_bytes(), out);
    bytes_field(2, span.id.as_bytes(), out);
    if let Some(parent) = span.parent {
        bytes_field(4, parent.as_bytes(), out);
    }
    text(5, &span.name, out);
    varint_field(6, span.kind as u64, out);
    fixed64::encode(7, &span.start, out);
    fixed64::encode(8, &span.end, out);
    attributes(9, &span.attributes, out);
    span.events.iter().for_each(|event| message_field(11, out, |out| write_event(event, out)));
    if span.dropped_events > 0 {
        varint_field(12, span.dropped_events as u64, out);
    }
    span.links.iter().for_each(|link| message_field(13, out, |out| write_link(link, out)));
    if let Status::Error(description) = &span.status {
        message_field(15, out, |status| {
            text(2, description, status);
            varint_field(3, 2, status);
        });
    }
    prost::encoding::fixed32::encode(16, &FLAGS, out);
}

fn write_event(event: &Event<'_>, out: &mut Vec<u8>) {
    fixed64::encode(1, &event.time, out);
    text(2, event.name, out);
    attributes(3, &event.attributes, out);
}

fn write_link(link: &Link, out: &mut Vec<u8>) {
    bytes_field(1, link.trace.as_bytes(), out);
    bytes_field(2, link.span.as_bytes(), out);
}

/// A repeated `KeyValue`. Lengths are computed first: these are most of a request's bytes.
pub(super) fn attributes(tag: u32, attributes: &Attributes<'_>, out: &mut Vec<u8>) {
    for (key, value) in attributes.iter() {
        let value_len = value_len(value);
        let len =
            string_len(1, key) + key_len(2) + encoded_len_varint(value_len as u64) + value_len;
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(len as u64, out);
        text(1, key, out);
        encode_key(2, WireType::LengthDelimited, out);
        encode_varint(value_len as u64, out);
        write_value(value, out);
    }
}

fn string_len(tag: u32, text: &str) -> usize {
    key_len(tag) + encoded_len_varint(text.len() as u64) + text.len()
}

/// The length of an `AnyValue`.
fn value_len(value: &Value<'_>) -> usize {
    match value {
        Value::Text(text) => string_len(1, clip(text)),
        Value::Bool(_) => key_len(2) + 1,
        Value::Int(number) => key_len(3) + encoded_len_varint(number.cast_unsigned()),
        Value::Double(_) => key_len(4) + 8,
        Value::List(items) => {
            let len = list_len(items);
            key_len(5) + encoded_len_varint(len as u64) + len
        }
    }
}

/// The length of an `ArrayValue`.
fn list_len(items: &[Cow<'_, str>]) -> usize {
    let item_len = |item: &Cow<'_, str>| {
        let len = string_len(1, clip(item));
        key_len(1) + encoded_len_varint(len as u64) + len
    };
    items.iter().map(item_len).sum()
}

fn write_value(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(it) => text(1, clip(it), out),
        Value::Bool(it) => varint_field(2, u64::from(*it), out),
        Value::Int(it) => varint_field(3, it.cast_unsigned(), out),
        Value::Double(it) => double::encode(4, it, out),
        Value::List(items) => {
            encode_key(5, WireType::LengthDelimited, out);
            encode_varint(list_len(items) as u64, out);
            for item in items {
                message_field(1, out, |out| text(1, clip(item), out));
            }
        }
    }
}

/// At most [`TEXT_LIMIT`] bytes, cut between characters.
fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_LIMIT)]
}

fn text(tag: u32, text: &str, out: &mut Vec<u8>) {
    bytes_field(tag, clip(text).as_bytes(), out);
}

pub(super) fn bytes_field(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

pub(super) fn varint_field(tag: u32, value: u64, out: &mut Vec<u8>) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(value, out);
}

/// A nested message. Its length is not known before it is written, so it takes a buffer of its own.
pub(super) fn message_field(tag: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut nested = Vec::new();
    write(&mut nested);
    bytes_field(tag, &nested, out);
}
