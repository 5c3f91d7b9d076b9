//! The log model that a mapping fills and [`super::encode`] writes.
//!
//! <https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/logs/v1/logs.proto>

use std::borrow::Cow;

use crate::{
    id::{SpanId, TraceId},
    otlp::span::Attributes,
    time::Nanos,
};

/// The longest body that is written, in bytes; what is longer is cut between characters.
pub const BODY_LIMIT: usize = 64 * 1024;

/// Log records of one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Group<'a> {
    /// What the resource is.
    pub resource: Attributes<'a>,
    /// Its records, in the order of the payload.
    pub records: Vec<Record<'a>>,
}

/// A log record of severity INFO: what jobs report is never spanhook's own trouble.
#[derive(Clone, Debug, PartialEq)]
pub struct Record<'a> {
    /// When it happened, in nanoseconds since the Unix epoch.
    pub time: Nanos,
    /// When it was received, in nanoseconds since the Unix epoch.
    pub observed: Nanos,
    /// The class of event.
    ///
    /// <https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-eventname>
    pub event_name: Cow<'a, str>,
    /// Its text, empty when there is none.
    pub body: Cow<'a, str>,
    /// What is known of it.
    pub attributes: Attributes<'a>,
    /// The trace, and the span in it, that it belongs to.
    pub context: Option<(TraceId, SpanId)>,
}

/// How many records there are.
#[must_use]
pub fn record_count(groups: &[Group<'_>]) -> usize {
    groups.iter().map(|group| group.records.len()).sum()
}
