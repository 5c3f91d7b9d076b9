//! What builds measured, beside their trace.

use std::{collections::BTreeSet, fmt};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{Exemplar, metric::Data, number_data_point::Value},
};
use serde::Serialize;

use super::{hex, named};

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Measure {
    /// The metric's name.
    pub(crate) name: String,
    /// The value in its unit.
    pub(crate) value: f64,
    /// In UCUM's notation.
    pub(crate) unit: String,
    /// What tells it from others of that name.
    pub(crate) attributes: Vec<(String, String)>,
    /// Nanoseconds since the epoch.
    #[serde(serialize_with = "super::as_text")]
    pub(crate) time: u64,
    /// The traces of its exemplars, hexadecimal.
    #[serde(skip)]
    pub(crate) traces: BTreeSet<String>,
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} {}", self.name, self.value, self.unit)?;
        self.attributes.iter().try_for_each(|(key, value)| write!(f, "  {key}={value}"))
    }
}

/// The measurements of a request: points of gauges, and histograms' sums.
pub(crate) fn measures(request: ExportMetricsServiceRequest) -> Vec<Measure> {
    let groups = request.resource_metrics.into_iter().flat_map(|it| it.scope_metrics);
    let mut found = Vec::new();
    for metric in groups.flat_map(|it| it.metrics) {
        let (name, unit) = (metric.name, metric.unit);
        let measure = |value, attributes, time, exemplars: &[Exemplar]| Measure {
            name: name.clone(),
            value,
            unit: unit.clone(),
            attributes: named(attributes),
            time,
            traces: exemplars.iter().map(|it| hex(&it.trace_id)).collect(),
        };
        match metric.data {
            Some(Data::Gauge(gauge)) => found.extend(gauge.data_points.into_iter().map(|it| {
                #[expect(clippy::cast_precision_loss, reason = "it is only shown")]
                let value = match it.value {
                    Some(Value::AsDouble(value)) => value,
                    Some(Value::AsInt(value)) => value as f64,
                    None => 0.0,
                };
                measure(value, it.attributes, it.time_unix_nano, &it.exemplars)
            })),
            Some(Data::Histogram(histogram)) => {
                found.extend(histogram.data_points.into_iter().map(|it| {
                    let sum = it.sum.unwrap_or_default();
                    measure(sum, it.attributes, it.time_unix_nano, &it.exemplars)
                }));
            }
            _ => {}
        }
    }
    found
}
