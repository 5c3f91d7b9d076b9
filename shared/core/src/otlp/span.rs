//! The span model that a mapping fills and [`super::encode`] writes.
//!
//! It borrows from the payload: a pipeline of 10,000 jobs is mapped without copying its strings.
//! Field for field it is OTLP's `ResourceSpans`, less what CI never needs.
//!
//! <https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/trace/v1/trace.proto>

use std::borrow::Cow;

use crate::{
    id::{SpanId, TraceId},
    time::Nanos,
};

/// All spans that one delivery gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace<'a> {
    /// The trace that every span belongs to.
    pub id: TraceId,
    /// Spans by the resource that they are observed on: the run, and each worker.
    pub groups: Vec<Group<'a>>,
}

impl Trace<'_> {
    /// How many spans there are.
    #[must_use]
    pub fn span_count(&self) -> usize {
        self.groups.iter().map(|group| group.spans.len()).sum()
    }
}

/// Spans of one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Group<'a> {
    /// What the resource is: service, pipeline run, repository, worker.
    pub resource: Attributes<'a>,
    /// Its spans, in the order of the payload.
    pub spans: Vec<Span<'a>>,
}

/// One span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span<'a> {
    /// Its own id.
    pub id: SpanId,
    /// The span it hangs under; none for the run.
    pub parent: Option<SpanId>,
    /// Its name, of low cardinality.
    pub name: Cow<'a, str>,
    /// SERVER for a run, INTERNAL for what happens within it.
    pub kind: Kind,
    /// When it began, in nanoseconds since the Unix epoch.
    pub start: Nanos,
    /// When it ended, never before `start`.
    pub end: Nanos,
    /// What is known of it.
    pub attributes: Attributes<'a>,
    /// Things that happened at one moment within it.
    pub events: Vec<Event<'a>>,
    /// How many events were left out for want of room.
    pub dropped_events: usize,
    /// Spans of other traces, or of this one, that it has to do with.
    pub links: Vec<Link>,
    /// Whether it failed.
    pub status: Status<'a>,
}

impl<'a> Span<'a> {
    /// A span of which no more is known than this.
    #[must_use]
    pub fn new(
        id: SpanId,
        parent: Option<SpanId>,
        name: impl Into<Cow<'a, str>>,
        kind: Kind,
        (start, end): (Nanos, Nanos),
    ) -> Self {
        Self {
            id,
            parent,
            name: name.into(),
            kind,
            start,
            end,
            attributes: Attributes::with_capacity(20),
            events: Vec::new(),
            dropped_events: 0,
            links: Vec::new(),
            status: Status::Unset,
        }
    }
}

/// OTLP's span kinds, as far as CI has them; the numbers are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work inside a run.
    Internal = 1,
    /// A pipeline run.
    Server = 2,
}

/// OTLP's status: unset unless something failed.
///
/// <https://opentelemetry.io/docs/specs/semconv/general/recording-errors/>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Status<'a> {
    /// No error.
    #[default]
    Unset,
    /// An error, with a short description.
    Error(Cow<'a, str>),
}

/// A span event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// When, in nanoseconds since the Unix epoch.
    pub time: Nanos,
    /// What.
    pub name: &'static str,
    /// What is known of it.
    pub attributes: Attributes<'a>,
}

/// A link to a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its trace.
    pub trace: TraceId,
    /// The span itself.
    pub span: SpanId,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// A whole number.
    Int(i64),
    /// A fraction, for seconds.
    Double(f64),
    /// Yes or no.
    Bool(bool),
    /// A list of texts.
    List(Vec<Cow<'a, str>>),
}

/// Attributes in the order in which they were set. A key is set at most once, and never to an
/// empty text: providers send `""` for what is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Attributes<'a> {
    /// No attributes, with room for `capacity`.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Sets `key` unless the value is absent.
    pub fn set(&mut self, key: impl Into<Cow<'a, str>>, value: impl IntoValue<'a>) {
        if let Some(value) = value.into_value() {
            let key = key.into();
            debug_assert!(self.get(&key).is_none(), "{key} is set twice");
            self.0.push((key, value));
        }
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The text of `key`, empty where it is absent or no text.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        match self.get(key) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// Keys and values.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value<'a>)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }
}

/// What can be the value of an attribute, or be absent.
pub trait IntoValue<'a> {
    /// The value, unless it is absent.
    fn into_value(self) -> Option<Value<'a>>;
}

impl<'a> IntoValue<'a> for Value<'a> {
    fn into_value(self) -> Option<Value<'a>> {
        Some(self)
    }
}

impl<'a> IntoValue<'a> for &'a str {
    fn into_value(self) -> Option<Value<'a>> {
        (!self.is_empty()).then_some(Value::Text(Cow::Borrowed(self)))
    }
}

impl<'a> IntoValue<'a> for String {
    fn into_value(self) -> Option<Value<'a>> {
        (!self.is_empty()).then_some(Value::Text(Cow::Owned(self)))
    }
}

impl<'a> IntoValue<'a> for Cow<'a, str> {
    fn into_value(self) -> Option<Value<'a>> {
        (!self.is_empty()).then_some(Value::Text(self))
    }
}

impl<'a> IntoValue<'a> for i64 {
    fn into_value(self) -> Option<Value<'a>> {
        Some(Value::Int(self))
    }
}

impl<'a> IntoValue<'a> for u64 {
    fn into_value(self) -> Option<Value<'a>> {
        // Above 2^63 OTLP has no whole number; text keeps every digit.
        Some(i64::try_from(self).map_or_else(|_| Value::Text(self.to_string().into()), Value::Int))
    }
}

impl<'a> IntoValue<'a> for f64 {
    fn into_value(self) -> Option<Value<'a>> {
        self.is_finite().then_some(Value::Double(self))
    }
}

impl<'a> IntoValue<'a> for bool {
    fn into_value(self) -> Option<Value<'a>> {
        Some(Value::Bool(self))
    }
}

impl<'a> IntoValue<'a> for Vec<Cow<'a, str>> {
    fn into_value(self) -> Option<Value<'a>> {
        (!self.is_empty()).then_some(Value::List(self))
    }
}

impl<'a, T: IntoValue<'a>> IntoValue<'a> for Option<T> {
    fn into_value(self) -> Option<Value<'a>> {
        self.and_then(T::into_value)
    }
}
