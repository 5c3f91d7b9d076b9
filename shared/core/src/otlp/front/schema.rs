//! The messages of OTLP 1.x, as far as they are stable: what the JSON names of their fields are, and
//! which bytes each may hold.
//!
//! <https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto>

use crate::otlp::Signal;

/// A message.
#[derive(Debug)]
pub(super) struct Type(pub(super) &'static [Field]);

impl Type {
    pub(super) fn field(&self, number: u32) -> Option<&'static Field> {
        self.0.iter().find(|it| it.number == number)
    }

    pub(super) fn named(&self, name: &str) -> Option<&'static Field> {
        self.0.iter().find(|it| it.name == name)
    }
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// In JSON.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    /// Base64 in JSON.
    Bytes,
    /// So many bytes, or none at all; hexadecimal in JSON, unlike other bytes.
    Id(usize),
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Fixed32,
    Fixed64,
    Sfixed64,
    Double,
    Message(&'static Type),
}

/// The length of a trace's id.
pub(super) const TRACE: usize = 16;

/// The length of a span's id.
pub(super) const SPAN_ID: usize = 8;

const fn one(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, repeated: false }
}

const fn many(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, repeated: true }
}

const fn message(number: u32, name: &'static str, of: &'static Type) -> Field {
    one(number, name, Kind::Message(of))
}

const fn messages(number: u32, name: &'static str, of: &'static Type) -> Field {
    many(number, name, Kind::Message(of))
}

const fn attributes(number: u32) -> Field {
    messages(number, "attributes", &KEY_VALUE)
}

const fn dropped(number: u32) -> Field {
    one(number, "droppedAttributesCount", Kind::Uint32)
}

/// Field 1 of each request: the groups by resource.
pub(super) fn request(signal: Signal) -> &'static Type {
    match signal {
        Signal::Traces => &TRACES,
        Signal::Metrics => &METRICS,
        Signal::Logs => &LOGS,
    }
}

/// What is counted, or holds what is counted.
pub(super) fn item(signal: Signal) -> &'static Type {
    match signal {
        Signal::Traces => &SPAN,
        Signal::Metrics => &METRIC,
        Signal::Logs => &LOG_RECORD,
    }
}

static TRACES: Type = Type(&[messages(1, "resourceSpans", &RESOURCE_SPANS)]);
static METRICS: Type = Type(&[messages(1, "resourceMetrics", &RESOURCE_METRICS)]);
static LOGS: Type = Type(&[messages(1, "resourceLogs", &RESOURCE_LOGS)]);

static RESOURCE_SPANS: Type = Type(&[
    message(1, "resource", &RESOURCE),
    messages(2, "scopeSpans", &SCOPE_SPANS),
    one(3, "schemaUrl", Kind::Text),
]);
static RESOURCE_METRICS: Type = Type(&[
    message(1, "resource", &RESOURCE),
    messages(2, "scopeMetrics", &SCOPE_METRICS),
    one(3, "schemaUrl", Kind::Text),
]);
static RESOURCE_LOGS: Type = Type(&[
    message(1, "resource", &RESOURCE),
    messages(2, "scopeLogs", &SCOPE_LOGS),
    one(3, "schemaUrl", Kind::Text),
]);

static SCOPE_SPANS: Type = Type(&[
    message(1, "scope", &SCOPE),
    messages(2, "spans", &SPAN),
    one(3, "schemaUrl", Kind::Text),
]);
static SCOPE_METRICS: Type = Type(&[
    message(1, "scope", &SCOPE),
    messages(2, "metrics", &METRIC),
    one(3, "schemaUrl", Kind::Text),
]);
static SCOPE_LOGS: Type = Type(&[
    message(1, "scope", &SCOPE),
    messages(2, "logRecords", &LOG_RECORD),
    one(3, "schemaUrl", Kind::Text),
]);

/// The three groups by resource are numbered alike, and so are the three by scope: this is what they
/// have besides their items.
pub(super) static GROUP: Type =
    Type(&[message(1, "resource", &RESOURCE), one(3, "schemaUrl", Kind::Text)]);
pub(super) static SCOPE_GROUP: Type =
    Type(&[message(1, "scope", &SCOPE), one(3, "schemaUrl", Kind::Text)]);

static RESOURCE: Type = Type(&[attributes(1), dropped(2), messages(3, "entityRefs", &ENTITY_REF)]);

static ENTITY_REF: Type = Type(&[
    one(1, "schemaUrl", Kind::Text),
    one(2, "type", Kind::Text),
    many(3, "idKeys", Kind::Text),
    many(4, "descriptionKeys", Kind::Text),
]);

static SCOPE: Type =
    Type(&[one(1, "name", Kind::Text), one(2, "version", Kind::Text), attributes(3), dropped(4)]);

// Only profiles use indices of a string, but decoders of all signals know them.
static KEY_VALUE: Type = Type(&[
    one(1, "key", Kind::Text),
    message(2, "value", &ANY_VALUE),
    one(3, "keyStrindex", Kind::Int32),
]);

static ANY_VALUE: Type = Type(&[
    one(1, "stringValue", Kind::Text),
    one(2, "boolValue", Kind::Bool),
    one(3, "intValue", Kind::Int64),
    one(4, "doubleValue", Kind::Double),
    message(5, "arrayValue", &ARRAY),
    message(6, "kvlistValue", &KEY_VALUES),
    one(7, "bytesValue", Kind::Bytes),
    one(8, "stringValueStrindex", Kind::Int32),
]);

static ARRAY: Type = Type(&[messages(1, "values", &ANY_VALUE)]);
static KEY_VALUES: Type = Type(&[messages(1, "values", &KEY_VALUE)]);

pub(super) static SPAN: Type = Type(&[
    one(1, "traceId", Kind::Id(TRACE)),
    one(2, "spanId", Kind::Id(SPAN_ID)),
    one(3, "traceState", Kind::Text),
    one(4, "parentSpanId", Kind::Id(SPAN_ID)),
    one(5, "name", Kind::Text),
    one(6, "kind", Kind::Int32),
    one(7, "startTimeUnixNano", Kind::Fixed64),
    one(8, "endTimeUnixNano", Kind::Fixed64),
    attributes(9),
    dropped(10),
    messages(11, "events", &EVENT),
    one(12, "droppedEventsCount", Kind::Uint32),
    messages(13, "links", &LINK),
    one(14, "droppedLinksCount", Kind::Uint32),
    message(15, "status", &STATUS),
    one(16, "flags", Kind::Fixed32),
]);

static EVENT: Type = Type(&[
    one(1, "timeUnixNano", Kind::Fixed64),
    one(2, "name", Kind::Text),
    attributes(3),
    dropped(4),
]);

pub(super) static LINK: Type = Type(&[
    one(1, "traceId", Kind::Id(TRACE)),
    one(2, "spanId", Kind::Id(SPAN_ID)),
    one(3, "traceState", Kind::Text),
    attributes(4),
    dropped(5),
    one(6, "flags", Kind::Fixed32),
]);

static STATUS: Type = Type(&[one(2, "message", Kind::Text), one(3, "code", Kind::Int32)]);

pub(super) static METRIC: Type = Type(&[
    one(1, "name", Kind::Text),
    one(2, "description", Kind::Text),
    one(3, "unit", Kind::Text),
    message(5, "gauge", &GAUGE),
    message(7, "sum", &SUM),
    message(9, "histogram", &HISTOGRAM),
    message(10, "exponentialHistogram", &EXPONENTIAL_HISTOGRAM),
    message(11, "summary", &SUMMARY),
    messages(12, "metadata", &KEY_VALUE),
]);

/// The fields of a metric of which each holds points of one kind, in its field 1.
pub(super) const DATA: [u32; 5] = [5, 7, 9, 10, 11];

static GAUGE: Type = Type(&[messages(1, "dataPoints", &NUMBER)]);
static SUM: Type = Type(&[
    messages(1, "dataPoints", &NUMBER),
    one(2, "aggregationTemporality", Kind::Int32),
    one(3, "isMonotonic", Kind::Bool),
]);
static HISTOGRAM: Type =
    Type(&[messages(1, "dataPoints", &BUCKETED), one(2, "aggregationTemporality", Kind::Int32)]);
static EXPONENTIAL_HISTOGRAM: Type =
    Type(&[messages(1, "dataPoints", &EXPONENTIAL), one(2, "aggregationTemporality", Kind::Int32)]);
static SUMMARY: Type = Type(&[messages(1, "dataPoints", &QUANTILED)]);

static NUMBER: Type = Type(&[
    one(2, "startTimeUnixNano", Kind::Fixed64),
    one(3, "timeUnixNano", Kind::Fixed64),
    one(4, "asDouble", Kind::Double),
    messages(5, "exemplars", &EXEMPLAR),
    one(6, "asInt", Kind::Sfixed64),
    attributes(7),
    one(8, "flags", Kind::Uint32),
]);

static BUCKETED: Type = Type(&[
    one(2, "startTimeUnixNano", Kind::Fixed64),
    one(3, "timeUnixNano", Kind::Fixed64),
    one(4, "count", Kind::Fixed64),
    one(5, "sum", Kind::Double),
    many(6, "bucketCounts", Kind::Fixed64),
    many(7, "explicitBounds", Kind::Double),
    messages(8, "exemplars", &EXEMPLAR),
    attributes(9),
    one(10, "flags", Kind::Uint32),
    one(11, "min", Kind::Double),
    one(12, "max", Kind::Double),
]);

static EXPONENTIAL: Type = Type(&[
    attributes(1),
    one(2, "startTimeUnixNano", Kind::Fixed64),
    one(3, "timeUnixNano", Kind::Fixed64),
    one(4, "count", Kind::Fixed64),
    one(5, "sum", Kind::Double),
    one(6, "scale", Kind::Sint32),
    one(7, "zeroCount", Kind::Fixed64),
    message(8, "positive", &BUCKETS),
    message(9, "negative", &BUCKETS),
    one(10, "flags", Kind::Uint32),
    messages(11, "exemplars", &EXEMPLAR),
    one(12, "min", Kind::Double),
    one(13, "max", Kind::Double),
    one(14, "zeroThreshold", Kind::Double),
]);

static BUCKETS: Type =
    Type(&[one(1, "offset", Kind::Sint32), many(2, "bucketCounts", Kind::Uint64)]);

static QUANTILED: Type = Type(&[
    one(2, "startTimeUnixNano", Kind::Fixed64),
    one(3, "timeUnixNano", Kind::Fixed64),
    one(4, "count", Kind::Fixed64),
    one(5, "sum", Kind::Double),
    messages(6, "quantileValues", &QUANTILE),
    attributes(7),
    one(8, "flags", Kind::Uint32),
]);

static QUANTILE: Type = Type(&[one(1, "quantile", Kind::Double), one(2, "value", Kind::Double)]);

static EXEMPLAR: Type = Type(&[
    one(2, "timeUnixNano", Kind::Fixed64),
    one(3, "asDouble", Kind::Double),
    one(4, "spanId", Kind::Id(SPAN_ID)),
    one(5, "traceId", Kind::Id(TRACE)),
    one(6, "asInt", Kind::Sfixed64),
    messages(7, "filteredAttributes", &KEY_VALUE),
]);

static LOG_RECORD: Type = Type(&[
    one(1, "timeUnixNano", Kind::Fixed64),
    one(2, "severityNumber", Kind::Int32),
    one(3, "severityText", Kind::Text),
    message(5, "body", &ANY_VALUE),
    attributes(6),
    dropped(7),
    one(8, "flags", Kind::Fixed32),
    one(9, "traceId", Kind::Id(TRACE)),
    one(10, "spanId", Kind::Id(SPAN_ID)),
    one(11, "observedTimeUnixNano", Kind::Fixed64),
    one(12, "eventName", Kind::Text),
]);
