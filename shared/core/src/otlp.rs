//! OTLP's signals: their model, borrowed from the payload, their encoding, and what others send.

pub mod encode;
pub mod front;
pub mod log;
pub mod metric;
pub mod span;

use crate::project::Project;

/// What a request to a Collector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// `ExportTraceServiceRequest`
    Traces,
    /// `ExportMetricsServiceRequest`
    Metrics,
    /// `ExportLogsServiceRequest`
    Logs,
}

impl Signal {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// The word in addresses, variables and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    /// What is counted of it.
    #[must_use]
    pub fn items(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Metrics => "points",
            Self::Logs => "records",
        }
    }

    /// The signal of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }
}

/// What a delivery gives of one project: any number of traces, and metrics and logs beside them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry<'a> {
    /// The project, for rules and for fair queueing.
    pub project: Project,
    /// Spans, by trace.
    pub traces: Vec<span::Trace<'a>>,
    /// Metrics, by resource.
    pub metrics: Vec<metric::Group<'a>>,
    /// Log records, by resource.
    pub logs: Vec<log::Group<'a>>,
}

impl Telemetry<'_> {
    /// How many spans, points or records there are.
    #[must_use]
    pub fn count(&self, signal: Signal) -> usize {
        match signal {
            Signal::Traces => self.traces.iter().map(span::Trace::span_count).sum(),
            Signal::Metrics => metric::point_count(&self.metrics),
            Signal::Logs => log::record_count(&self.logs),
        }
    }
}

/// The last item that is `same`, or a new one: what belongs together mostly comes together.
pub(crate) fn entry<T>(
    items: &mut Vec<T>,
    same: impl Fn(&T) -> bool,
    new: impl FnOnce() -> T,
) -> &mut T {
    let place = items.iter().rposition(same).unwrap_or_else(|| {
        items.push(new());
        items.len() - 1
    });
    &mut items[place]
}
