//! Counters and gauges, in Prometheus' text format.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, PoisonError},
};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Items that the receiver took, by kind.
    Sent,
    /// Items that the receiver could not read and keeps for an operator, by kind.
    Quarantined,
    /// Items that the receiver refused for good, by kind.
    Dropped,
    /// Requests with batches, by the receiver's answer.
    Posts,
    /// Items that wait to be sent.
    Queued,
    /// When a batch was taken last, in seconds since the Unix epoch.
    LastSent,
    /// Whether a kind is watched.
    Watching,
    /// Lists that were read, by kind.
    Lists,
    /// What went wrong with lists and watches, by kind and reason.
    WatchErrors,
    /// Deliveries of Tekton and Lighthouse, by path and answer.
    Passed,
}

impl Metric {
    const ALL: [Self; 10] = [
        Self::Sent,
        Self::Quarantined,
        Self::Dropped,
        Self::Posts,
        Self::Queued,
        Self::LastSent,
        Self::Watching,
        Self::Lists,
        Self::WatchErrors,
        Self::Passed,
    ];

    /// Name, type and help.
    fn describe(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Sent => ("items_sent_total", "counter", "Items that the receiver took."),
            Self::Quarantined => {
                ("items_quarantined_total", "counter", "Items in the receiver's dead-letter queue.")
            }
            Self::Dropped => {
                ("items_dropped_total", "counter", "Items that the receiver refused for good.")
            }
            Self::Posts => ("posts_total", "counter", "Requests with batches by answer."),
            Self::Queued => ("queued_items", "gauge", "Items that wait to be sent."),
            Self::LastSent => {
                ("last_sent_timestamp_seconds", "gauge", "When a batch was taken last.")
            }
            Self::Watching => ("watching", "gauge", "Whether objects of this kind are watched."),
            Self::Lists => ("lists_total", "counter", "Lists of objects that were read."),
            Self::WatchErrors => {
                ("watch_errors_total", "counter", "Lists and watches that failed.")
            }
            Self::Passed => {
                ("deliveries_passed_total", "counter", "Deliveries of Tekton and Lighthouse.")
            }
        }
    }
}

/// The relay's own numbers. Labels are few and fixed: kinds, statuses, reasons, namespaces that the
/// operator named.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<BTreeMap<(Metric, String), u64>>);

/// A label's name and value.
pub type Label<'l> = (&'static str, &'l str);

impl Metrics {
    /// Adds to a counter, or to a gauge.
    pub fn add(&self, metric: Metric, labels: &[Label<'_>], count: u64) {
        *self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(key(metric, labels))
            .or_default() += count;
    }

    /// Takes from a gauge what was added to it.
    pub fn take(&self, metric: Metric, count: u64) {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = values.entry(key(metric, &[])).or_default();
        *value = value.saturating_sub(count);
    }

    /// Sets a gauge.
    pub fn set(&self, metric: Metric, labels: &[Label<'_>], value: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key(metric, labels), value);
    }

    /// All of it.
    #[must_use]
    pub fn text(&self) -> String {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for metric in Metric::ALL {
            let (name, kind, help) = metric.describe();
            // Writing to a String does not fail.
            let _ = writeln!(text, "# HELP spanhook_relay_{name} {help}");
            let _ = writeln!(text, "# TYPE spanhook_relay_{name} {kind}");
            for ((_, labels), value) in values.iter().filter(|((it, _), _)| *it == metric) {
                let _ = writeln!(text, "spanhook_relay_{name}{labels} {value}");
            }
        }
        text
    }
}

fn key(metric: Metric, labels: &[Label<'_>]) -> (Metric, String) {
    let each = labels.iter().map(|(name, value)| format!("{name}={value:?}"));
    let labels = each.collect::<Vec<_>>().join(",");
    (metric, if labels.is_empty() { labels } else { format!("{{{labels}}}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        metrics.add(Metric::Sent, &[("kind", "Pod")], 2);
        metrics.add(Metric::Sent, &[("kind", "Pod")], 1);
        metrics.add(Metric::Posts, &[("status", "503")], 1);
        metrics.set(Metric::Queued, &[], 7);
        metrics.set(Metric::Watching, &[("kind", "Pod"), ("namespace", "jx")], 1);
        insta::assert_snapshot!(metrics.text());
    }
}
