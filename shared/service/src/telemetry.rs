//! What spanhook says of itself: JSON logs, CloudWatch metrics on Lambda, OTLP when it has an
//! endpoint.
//!
//! A webhook function adds no network call to its path: its counters are log lines, and its own
//! span rides in the queue with those it made. The other functions export through
//! `opentelemetry-otlp` and flush before the runtime freezes them.

mod kinds;

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, MeterProvider},
};
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::{SdkMeterProvider, Temporality},
    trace::SdkTracerProvider,
};
use serde_json::json;
use spanhook_core::{
    id::Hashed,
    message::Message,
    otlp::{
        self,
        encode::{self, Limits},
        span::{Attributes, Group, Kind, Link, Span, Trace},
    },
    project::Project,
    provider::Provider,
    semconv,
};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use tracing_subscriber::EnvFilter;

use self::kinds::Kinds;
use crate::settings::{SettingsError, Variable, Vars, var};

/// The CloudWatch namespace and the OTLP scope.
const NAMESPACE: &str = "spanhook";

/// Upper bounds of the delivery lag's buckets, in milliseconds, from a second to a day: the SDK's own end at ten seconds,
/// where an alarm of minutes would see nothing.
const LAG_BOUNDS: [f64; 14] =
    [1e3, 2e3, 5e3, 1e4, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 216e5, 864e5];

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Deliveries, whatever became of them.
    Received,
    /// Deliveries whose signature held.
    Verified,
    /// Deliveries whose signature did not, by reason.
    Rejected,
    /// Verified deliveries with nothing to emit.
    Ignored,
    /// Deliveries that the queue did not take; the provider was asked to retry.
    Refused,
    /// Spans queued, and on the forwarder's side delivered.
    Spans,
    /// Messages queued.
    Messages,
    /// Messages that the Collector took.
    Delivered,
    /// Messages that wait for another try.
    Retried,
    /// Messages and deliveries that went to the dead-letter queue.
    DeadLettered,
    /// Spans that the Collector refused within a request that it took.
    PartiallyRejected,
    /// Answers that only an operator can mend (401, 403, 404 …).
    Misconfigured,
    /// From the end of the work to the Collector's acknowledgement, in milliseconds.
    DeliveryLag,
}

impl Metric {
    /// The name, without a namespace.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Verified => "verified",
            Self::Rejected => "rejected",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
            Self::Spans => "spans",
            Self::Messages => "messages",
            Self::Delivered => "delivered",
            Self::Retried => "retried",
            Self::DeadLettered => "dead_lettered",
            Self::PartiallyRejected => "partially_rejected",
            Self::Misconfigured => "misconfigured",
            Self::DeliveryLag => "delivery_lag",
        }
    }

    fn cloudwatch_unit(self) -> &'static str {
        if self == Self::DeliveryLag { "Milliseconds" } else { "Count" }
    }
}

/// `TELEMETRY_OTLP_ENDPOINT`
pub static ENDPOINT: Variable = Variable::new(
    "TELEMETRY_OTLP_ENDPOINT",
    "",
    "use the base URL of an OTLP/HTTP receiver, such as http://localhost:4318",
    "OTLP/HTTP base URL for spanhook's own spans and metrics",
);

/// `LOG_LEVEL`
pub static LOG_LEVEL: Variable = Variable::new(
    "LOG_LEVEL",
    "info",
    "use a level, or a list of `target=level`",
    "`info`, or a list of `target=level`",
);

/// The variables of what spanhook says of itself.
#[must_use]
pub fn variables() -> [&'static Variable; 2] {
    [&ENDPOINT, &LOG_LEVEL]
}

/// Where telemetry goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// Base URL of an OTLP/HTTP receiver (`TELEMETRY_OTLP_ENDPOINT`).
    pub endpoint: Option<String>,
    /// The function's name on Lambda, where counters are printed in CloudWatch's embedded metric
    /// format with it as a dimension: two deployments in one account stay apart.
    pub lambda: Option<String>,
}

impl TelemetrySettings {
    /// Reads `TELEMETRY_OTLP_ENDPOINT`; AWS sets the other one.
    pub fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        let endpoint = ENDPOINT.get(vars).map(|it| it.trim_end_matches('/'));
        if endpoint.is_some_and(|it| !it.starts_with("http://") && !it.starts_with("https://")) {
            return Err(ENDPOINT.invalid());
        }
        Ok(Self {
            endpoint: endpoint.map(ToOwned::to_owned),
            lambda: var(vars, "AWS_LAMBDA_FUNCTION_NAME").map(ToOwned::to_owned),
        })
    }
}

/// Telemetry that can't be set up.
#[derive(Debug, Error)]
#[error("own telemetry can't be exported to TELEMETRY_OTLP_ENDPOINT: {0}")]
pub struct TelemetryError(#[from] opentelemetry_otlp::ExporterBuildError);

/// Starts JSON logs on standard output. `LOG_LEVEL` takes a level or a list of `target=level`.
pub fn init_logs(vars: &Vars) {
    // The exporter would say of its own failures that it failed to export them.
    let quiet = format!("{},opentelemetry=off", LOG_LEVEL.default);
    let filter = EnvFilter::new(LOG_LEVEL.get(vars).unwrap_or(&quiet));
    // A second call, as in tests, keeps the first subscriber.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .try_init();
}

/// The process's own counters and spans. Clones share them.
#[derive(Clone, Debug)]
pub struct Telemetry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    function: String,
    lambda: Option<String>,
    exports_spans: bool,
    otlp: Option<Otlp>,
    totals: [AtomicU64; METRICS.len()],
    spans: AtomicU64,
    kinds: Kinds,
}

#[derive(Debug)]
struct Otlp {
    traces: SdkTracerProvider,
    meters: SdkMeterProvider,
    counters: BTreeMap<Metric, Counter<u64>>,
    lag: Histogram<u64>,
    /// Held while what waits is exported.
    flushing: Mutex<()>,
}

const METRICS: [Metric; 13] = [
    Metric::Received,
    Metric::Verified,
    Metric::Rejected,
    Metric::Ignored,
    Metric::Refused,
    Metric::Spans,
    Metric::Messages,
    Metric::Delivered,
    Metric::Retried,
    Metric::DeadLettered,
    Metric::PartiallyRejected,
    Metric::Misconfigured,
    Metric::DeliveryLag,
];

impl Telemetry {
    /// Telemetry of a function that exports over the network itself.
    pub fn exporting(function: &str, settings: &TelemetrySettings) -> Result<Self, TelemetryError> {
        let otlp = settings.endpoint.as_deref().map(|it| Otlp::new(function, it)).transpose()?;
        Ok(Self::new(function.to_owned(), settings, otlp))
    }

    /// Telemetry of a webhook function, which makes no network call for it.
    #[must_use]
    pub fn queued(function: impl Into<String>, settings: &TelemetrySettings) -> Self {
        Self::new(function.into(), settings, None)
    }

    fn new(function: String, settings: &TelemetrySettings, otlp: Option<Otlp>) -> Self {
        Self(Arc::new(Inner {
            function,
            lambda: settings.lambda.clone(),
            exports_spans: settings.endpoint.is_some(),
            otlp,
            totals: std::array::from_fn(|_| AtomicU64::new(0)),
            spans: AtomicU64::new(0),
            kinds: Kinds::default(),
        }))
    }

    /// Says in the log that a proved delivery arrived and what became of it, if it is the first of
    /// its kind in this process, or a ping.
    pub fn arrived(&self, provider: &str, kind: &str, outcome: &str, spans: usize) {
        self.0.kinds.tell(provider, kind, outcome, spans);
    }

    /// Counts; `provider` and `reason` are dimensions of few values.
    pub fn count(&self, provider: &str, reason: &str, metrics: &[(Metric, u64)]) {
        for (metric, value) in metrics {
            if let Some(at) = METRICS.iter().position(|it| it == metric) {
                self.0.totals[at].fetch_add(*value, Ordering::Relaxed);
            }
        }
        if let Some(name) = &self.0.lambda {
            print_embedded(name, provider, reason, metrics);
        }
        if let Some(otlp) = &self.0.otlp {
            let labels = [
                KeyValue::new("function", self.0.function.clone()),
                KeyValue::new("provider", provider.to_owned()),
                KeyValue::new("reason", reason.to_owned()),
            ];
            for (metric, value) in metrics {
                match otlp.counters.get(metric) {
                    Some(counter) => counter.add(*value, &labels),
                    None => otlp.lag.record(*value, &labels),
                }
            }
        }
    }

    /// All that was counted since the start, for a status page. A sum of lags tells nothing.
    #[must_use]
    pub fn totals(&self) -> Vec<(&'static str, u64)> {
        let totals = METRICS.iter().zip(&self.0.totals);
        let totals = totals.filter(|(metric, _)| **metric != Metric::DeliveryLag);
        totals.map(|(metric, total)| (metric.as_str(), total.load(Ordering::Relaxed))).collect()
    }

    /// The message with a webhook function's own span, linked to the run that it queued. It is in
    /// a trace of its own: CI traces hold CI only.
    #[must_use]
    pub fn own_span(&self, provider: Provider, run: Link, start: u64, end: u64) -> Option<Message> {
        if !self.0.exports_spans || self.0.otlp.is_some() {
            return None;
        }
        let nth = self.0.spans.fetch_add(1, Ordering::Relaxed);
        let key = format!("{start}-{nth}-{}", std::process::id());
        let ids = Hashed::new(NAMESPACE, &self.0.function);
        let name = format!("POST /{provider}");
        let id = ids.span("delivery", &[&key]);
        let mut span = Span::new(id, None, name, Kind::Server, (start, end.max(start)));
        span.attributes.set("http.request.method", "POST");
        span.attributes.set("http.route", format!("/{provider}"));
        span.attributes.set("faas.trigger", "http");
        span.links.push(run);
        let mut resource = Attributes::default();
        resource.set(semconv::SERVICE_NAME, &*self.0.function);
        let trace =
            Trace { id: ids.trace(&key), groups: vec![Group { resource, spans: vec![span] }] };
        let telemetry = otlp::Telemetry {
            project: Project::named(NAMESPACE),
            traces: vec![trace],
            ..otlp::Telemetry::default()
        };
        encode::messages(&telemetry, provider.as_str(), Limits::default()).pop()
    }

    /// A span of this process, exported when there is an endpoint.
    pub fn span(
        &self,
        name: &'static str,
        start: u64,
        end: u64,
        attributes: &[(&'static str, i64)],
    ) {
        use opentelemetry::trace::{Span as _, SpanKind, Tracer, TracerProvider};
        let Some(otlp) = &self.0.otlp else { return };
        let at = |nanos| std::time::UNIX_EPOCH + std::time::Duration::from_nanos(nanos);
        let tracer = otlp.traces.tracer(NAMESPACE);
        let mut span = tracer
            .span_builder(name)
            .with_kind(SpanKind::Consumer)
            .with_start_time(at(start))
            .with_attributes(attributes.iter().map(|(key, value)| KeyValue::new(*key, *value)))
            .start(&tracer);
        span.end_with_timestamp(at(end));
    }

    /// Exports what is waiting, before the runtime freezes the process; by `until` it is given up
    /// waiting for, since spanhook's own telemetry is worth less than an answer in time.
    pub async fn flush(&self, until: Instant) {
        if self.0.otlp.is_none() {
            return;
        }
        let inner = Arc::clone(&self.0);
        let flushed = tokio::task::spawn_blocking(move || {
            let Some(otlp) = &inner.otlp else { return };
            // One that was given up on may still wait for the network; a second would wait for it.
            let Ok(_turn) = otlp.flushing.try_lock() else { return };
            for result in [otlp.traces.force_flush(), otlp.meters.force_flush()] {
                if let Err(error) = result {
                    tracing::warn!(%error, "own telemetry was not exported");
                }
            }
        });
        // A panic of the SDK is no reason to fail an invocation.
        if timeout_at(until, flushed).await.is_err() {
            tracing::warn!("own telemetry was not exported in time");
        }
    }
}

/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
fn print_embedded(function: &str, provider: &str, reason: &str, metrics: &[(Metric, u64)]) {
    let now = crate::clock::Clock::SYSTEM.since_epoch().as_millis();
    let named: Vec<_> = metrics
        .iter()
        .map(|(it, _)| json!({ "Name": it.as_str(), "Unit": it.cloudwatch_unit() }))
        .collect();
    let mut line = json!({
        "_aws": {
            "Timestamp": u64::try_from(now).unwrap_or_default(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["function"], ["function", "provider", "reason"]],
                "Metrics": named,
            }],
        },
        "function": function,
        "provider": provider,
        "reason": reason,
    });
    for (metric, value) in metrics {
        line[metric.as_str()] = (*value).into();
    }
    // A closed standard output costs counters, never a delivery.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

impl Otlp {
    fn new(function: &str, endpoint: &str) -> Result<Self, TelemetryError> {
        let resource = Resource::builder().with_service_name(function.to_owned()).build();
        let spans = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{endpoint}/v1/traces"))
            .build()?;
        let metrics = opentelemetry_otlp::MetricExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{endpoint}/v1/metrics"))
            .with_temporality(Temporality::Delta)
            .build()?;
        let traces = SdkTracerProvider::builder()
            .with_batch_exporter(spans)
            .with_resource(resource.clone())
            .build();
        let meters = SdkMeterProvider::builder()
            .with_periodic_exporter(metrics)
            .with_resource(resource)
            .build();
        let meter = meters.meter(NAMESPACE);
        let counter = |metric: &Metric| {
            (*metric, meter.u64_counter(format!("{NAMESPACE}.{}", metric.as_str())).build())
        };
        let counters =
            METRICS.iter().filter(|it| **it != Metric::DeliveryLag).map(counter).collect();
        let lag = meter
            .u64_histogram(format!("{NAMESPACE}.{}", Metric::DeliveryLag.as_str()))
            .with_unit("ms")
            .with_boundaries(LAG_BOUNDS.to_vec())
            .build();
        Ok(Self { traces, meters, counters, lag, flushing: Mutex::default() })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_receiver_that_hangs_keeps_a_flush_no_longer_than_it_may_take() {
        // Takes connections and never answers.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let settings = TelemetrySettings { endpoint: Some(endpoint), lambda: None };
        let telemetry = Telemetry::exporting("test", &settings).unwrap();
        telemetry.span("forward", 1, 2, &[]);
        let inner = Arc::clone(&telemetry.0);
        telemetry.flush(Instant::now() + Duration::from_millis(50)).await;
        let otlp = inner.otlp.as_ref().unwrap();
        let exporting = async {
            while otlp.flushing.try_lock().is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waits = tokio::time::timeout(Duration::from_secs(5), exporting).await;
        waits.expect("the export still waits for the network when the flush is over");
        // Nor does a second one queue behind it.
        telemetry.flush(Instant::now() + Duration::from_secs(60)).await;
        assert!(otlp.flushing.try_lock().is_err());
        // The runtime does not wait for it either: nothing of it must outlive the test.
        drop(silent);
    }
}
