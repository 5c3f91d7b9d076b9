//! Metrics as text, for snapshots.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{
        Exemplar, HistogramDataPoint, Metric, NumberDataPoint, exemplar, metric::Data,
        number_data_point,
    },
};

use crate::describe::{date, write_attributes};

/// The metrics of a request, with their resources where those are asked for.
pub(crate) fn write_metrics(
    request: &ExportMetricsServiceRequest,
    resources: bool,
    text: &mut String,
) {
    for group in &request.resource_metrics {
        assert_eq!(group.schema_url, "https://opentelemetry.io/schemas/1.44.0");
        let resource = &group.resource.as_ref().unwrap().attributes;
        assert!(!resource.is_empty());
        if resources {
            *text += "resource\n";
            write_attributes(resource, "  ", text);
        }
        for scope in &group.scope_metrics {
            assert_eq!(scope.schema_url, group.schema_url);
            assert_eq!(scope.scope.as_ref().unwrap().name, "spanhook");
            for metric in &scope.metrics {
                writeln!(text, "metric {} [{}]", metric.name, metric.unit).unwrap();
                *text += &points(metric).concat();
            }
        }
    }
}

/// The points of a metric as text, with their attributes and exemplars.
pub(crate) fn points(metric: &Metric) -> Vec<String> {
    let exemplars = |exemplars: &[Exemplar]| {
        exemplars.iter().fold(String::new(), |mut text, it| {
            let Some(exemplar::Value::AsDouble(value)) = it.value else { panic!() };
            let (trace, span) = (hex::encode(&it.trace_id), hex::encode(&it.span_id));
            writeln!(text, "    exemplar {value} {trace} {span}").unwrap();
            text
        })
    };
    match metric.data.as_ref().unwrap() {
        Data::Gauge(gauge) => {
            let text = |it: &NumberDataPoint| {
                let Some(number_data_point::Value::AsDouble(value)) = it.value else { panic!() };
                let mut text = format!("  {value} at {}\n", date(it.time_unix_nano));
                write_attributes(&it.attributes, "    ", &mut text);
                text + &exemplars(&it.exemplars)
            };
            gauge.data_points.iter().map(text).collect()
        }
        Data::Histogram(histogram) => {
            assert_eq!(histogram.aggregation_temporality, 1, "delta");
            let text = |it: &HistogramDataPoint| {
                assert_eq!(it.bucket_counts.len(), it.explicit_bounds.len() + 1);
                assert_eq!((it.count, it.sum), (1, it.min));
                assert_eq!(it.min, it.max);
                let bucket = it.bucket_counts.iter().position(|it| *it == 1).unwrap();
                let times = (date(it.start_time_unix_nano), date(it.time_unix_nano));
                let bounds = (
                    bucket.checked_sub(1).map_or(0.0, |below| it.explicit_bounds[below]),
                    it.explicit_bounds.get(bucket).copied().unwrap_or(f64::INFINITY),
                );
                let sum = it.sum.unwrap();
                let mut text = format!(
                    "  {sum} in ({}, {}] from {} to {}\n",
                    bounds.0, bounds.1, times.0, times.1
                );
                write_attributes(&it.attributes, "    ", &mut text);
                text + &exemplars(&it.exemplars)
            };
            histogram.data_points.iter().map(text).collect()
        }
        other => panic!("unexpected {other:?}"),
    }
}
