//! The metric model that a mapping fills and [`super::encode`] writes.
//!
//! It has what somebody who remembers nothing can send: a gauge, and a histogram with delta
//! temporality whose points each hold one measurement. A cumulative sum would need a memory.
//!
//! <https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto>

use std::borrow::Cow;

use crate::{
    id::{SpanId, TraceId},
    otlp::span::Attributes,
    time::Nanos,
};

/// Metrics of one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Group<'a> {
    /// What the resource is.
    pub resource: Attributes<'a>,
    /// Its metrics, each name and unit once.
    pub metrics: Vec<Metric<'a>>,
}

/// One metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric<'a> {
    /// The instrument's name.
    ///
    /// <https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-name-syntax>
    pub name: Cow<'a, str>,
    /// The unit in UCUM's notation, empty when there is none.
    pub unit: Cow<'a, str>,
    /// What its points mean.
    pub kind: Kind,
    /// What was measured.
    pub points: Vec<Point<'a>>,
}

/// The meaning of a metric's points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// The value at a moment.
    Gauge,
    /// One measurement a point, counted in the bucket between two of these bounds. They are
    /// increasing, and a measurement that is equal to a bound is below it.
    DeltaHistogram(&'static [f64]),
}

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Point<'a> {
    /// When what was measured began, in nanoseconds since the Unix epoch.
    pub start: Nanos,
    /// When it was measured, in nanoseconds since the Unix epoch.
    pub time: Nanos,
    /// The value in the metric's unit. Bytes are exact up to 2^53.
    pub value: f64,
    /// What tells it from the metric's other points; of low cardinality.
    pub attributes: Attributes<'a>,
    /// The trace, and the span in it, that the measurement is an example of.
    ///
    /// <https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exemplars>
    pub exemplar: Option<(TraceId, SpanId)>,
}

/// How many points there are.
#[must_use]
pub fn point_count(groups: &[Group<'_>]) -> usize {
    groups.iter().flat_map(|group| &group.metrics).map(|metric| metric.points.len()).sum()
}
