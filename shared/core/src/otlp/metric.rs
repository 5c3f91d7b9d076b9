//! The metric model that a mapping fills and [`super::encode`] writes.
//!
//! It has what somebody who remembers nothing can send: a gauge, and a histogram with delta
//! temporality whose points each hold one measurement. A cumulative sum would need a memory.
//!
//! <https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto>

use std::borrow::Cow;

use crate::{
    id::{SpanId, TraceId},
    otlp::{entry, span::Attributes},
    time::Nanos,
};

/// Bounds of the lengths of CI work, in seconds, from a second to six hours. The conventions advise
/// none; these are those of `infra/collector/span-metrics.yaml`, which makes the same metrics.
pub const WORK: Kind = Kind::DeltaHistogram(&[
    1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0, 5400.0,
    7200.0, 10800.0, 21600.0,
]);

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
    /// Since when the point counts measurements, in nanoseconds since the Unix epoch.
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

/// Adds a point to the metric of this name, unit and kind on this resource.
pub(crate) fn add<'a>(
    groups: &mut Vec<Group<'a>>,
    resource: &Attributes<'a>,
    (name, unit, kind): (&str, &str, Kind),
    point: Point<'a>,
) {
    let new = || Group { resource: resource.clone(), metrics: Vec::new() };
    let group = entry(groups, |it| it.resource == *resource, new);
    let same = |it: &Metric<'_>| it.name == name && it.unit == unit && it.kind == kind;
    let new = || Metric {
        name: name.to_owned().into(),
        unit: unit.to_owned().into(),
        kind,
        points: Vec::new(),
    };
    entry(&mut group.metrics, same, new).points.push(point);
}

/// How many points there are.
#[must_use]
pub fn point_count(groups: &[Group<'_>]) -> usize {
    groups.iter().flat_map(|group| &group.metrics).map(|metric| metric.points.len()).sum()
}
