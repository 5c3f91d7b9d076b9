//! `ExportMetricsServiceRequest`.

use std::ptr;

use prost::encoding::{double, fixed64};

use super::{
    Envelope, attributes, bytes_field, message_field, scope, split, text, varint_field,
    write_resource,
};
use crate::{
    message::Message,
    otlp::{
        Signal,
        metric::{Group, Kind, Metric, Point},
    },
};

/// `AGGREGATION_TEMPORALITY_DELTA`
const DELTA: u64 = 1;

type Placed<'m, 'a> = (&'m Group<'a>, &'m Metric<'a>, &'m Point<'a>);

/// The messages of metrics, in order. No point is split.
pub(super) fn encode_metrics(groups: &[Group<'_>], envelope: Envelope<'_>) -> Vec<Message> {
    let metrics = groups.iter().flat_map(|group| group.metrics.iter().map(move |it| (group, it)));
    let points: Vec<Placed<'_, '_>> = metrics
        .flat_map(|(group, metric)| metric.points.iter().map(move |it| (group, metric, it)))
        .collect();
    let ended_at = points.iter().map(|(_, _, point)| point.time).max().unwrap_or(0);
    let mut messages = Vec::new();
    split(&points, envelope.limits, &write_request, &mut |points, body| {
        messages.push(envelope.message(Signal::Metrics, (points.len(), ended_at), body));
    });
    messages
}

fn write_request(points: &[Placed<'_, '_>]) -> Vec<u8> {
    let mut request = Vec::new();
    for of_group in points.chunk_by(|a, b| ptr::eq(a.0, b.0)) {
        let mut scope_metrics = scope();
        for of_metric in of_group.chunk_by(|a, b| ptr::eq(a.1, b.1)) {
            message_field(2, &mut scope_metrics, |out| write_metric(of_metric, out));
        }
        if let Some((group, _, _)) = of_group.first() {
            write_resource(&group.resource, scope_metrics, &mut request);
        }
    }
    request
}

/// A `Metric` with those of its points that are in the message.
fn write_metric(points: &[Placed<'_, '_>], out: &mut Vec<u8>) {
    let Some((_, metric, _)) = points.first() else { return };
    text(1, &metric.name, out);
    text(3, &metric.unit, out);
    let points = points.iter().map(|(_, _, point)| *point);
    match metric.kind {
        Kind::Gauge => message_field(5, out, |gauge| {
            points.for_each(|it| message_field(1, gauge, |out| write_number(it, out)));
        }),
        Kind::DeltaHistogram(bounds) => message_field(9, out, |histogram| {
            points.for_each(|it| message_field(1, histogram, |out| write_bucket(it, bounds, out)));
            varint_field(2, DELTA, histogram);
        }),
    }
}

/// A `NumberDataPoint`.
fn write_number(point: &Point<'_>, out: &mut Vec<u8>) {
    fixed64::encode(2, &point.start, out);
    fixed64::encode(3, &point.time, out);
    double::encode(4, &point.value, out);
    write_exemplar(5, point, out);
    attributes(7, &point.attributes, out);
}

/// A `HistogramDataPoint` of one measurement.
fn write_bucket(point: &Point<'_>, bounds: &[f64], out: &mut Vec<u8>) {
    fixed64::encode(2, &point.start, out);
    fixed64::encode(3, &point.time, out);
    fixed64::encode(4, &1, out);
    double::encode(5, &point.value, out);
    let mut buckets = vec![0; bounds.len() + 1];
    // One more than the bounds, so that what is above all of them has its place.
    buckets[bounds.partition_point(|bound| *bound < point.value)] = 1;
    fixed64::encode_packed(6, &buckets, out);
    double::encode_packed(7, bounds, out);
    write_exemplar(8, point, out);
    attributes(9, &point.attributes, out);
    double::encode(11, &point.value, out);
    double::encode(12, &point.value, out);
}

fn write_exemplar(tag: u32, point: &Point<'_>, out: &mut Vec<u8>) {
    let Some((trace, span)) = point.exemplar else { return };
    message_field(tag, out, |exemplar| {
        fixed64::encode(2, &point.time, exemplar);
        double::encode(3, &point.value, exemplar);
        bytes_field(4, span.as_bytes(), exemplar);
        bytes_field(5, trace.as_bytes(), exemplar);
    });
}
