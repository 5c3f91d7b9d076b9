//! Build events: what jobs themselves report, as spans, metrics and logs.
//!
//! A job posts one JSON event or an array of them. Each has a `type`:
//!
//! | `type` | becomes |
//! | --- | --- |
//! | `ci_build_metadata` | span `build {project}`, histogram `cicd.pipeline.run.duration` |
//! | `webpack_build_stats` | span `{bundler} compile`, gauges `build.*`, log record `build.bundle.stats` |
//! | `artifact` | span `artifact {name}`, gauges `build.artifact.size` and `build.artifact.part.size` |
//! | `measure` | a gauge of that name |
//! | `mark` | span and log record of that name |
//! | any other | a log record that holds the event |
//!
//! Events of a known type are checked, because a job's log is where a mistake is seen and mended;
//! fields that are not known are ignored, so that senders may be newer than the receiver.
//!
//! # Which trace
//!
//! The run that the job proved to be part of ([`Identity`]), else the run that its `context` names,
//! else the `traceparent` of that context, else a trace of the correlation id's own. In a run's
//! trace the spans hang under the job, or the run while the job is not known. In the trace of a
//! correlation id the span of `ci_build_metadata` is the root and the others hang under it: such a
//! correlation id names one build. The project is not part of that trace's id unless it is proved,
//! since a bundler's plugin sends none and its events belong to the same build; so a correlation id
//! is to be unique beyond its project, as `$CI_PIPELINE_ID` and UUIDs are. A sender that may not speak
//! for every project has only traces of correlation ids, apart from everybody else's ([`Sender`]).

mod asset;
mod map;
mod place;
mod private;
mod read;

use std::collections::BTreeSet;

use serde_json::Value;
use thiserror::Error;

use crate::{
    encode::{Limits, encode_logs, encode_metrics, encode_spans},
    id::TraceId,
    identity::Identity,
    log::{self, Record},
    message::Message,
    metric::{self, Metric, Point},
    span::{Attributes, Group, Span, Trace},
    time::Nanos,
    traceparent::TraceparentSettings,
};

/// The attribute `provider` of the messages.
pub const PROVIDER: &str = "build-events";

/// The most events of one request.
pub const MAX_EVENTS: usize = 1000;

/// The longest name or other short text, in bytes.
pub const MAX_TEXT: usize = 256;

/// The most attributes of one event.
pub const MAX_ATTRIBUTES: usize = 64;

/// The most items of a list in the details of a bundle that are kept, in the order of the event.
const MAX_DETAILS: usize = 50;

/// The most assets of a bundle or parts of an artifact that become metric points: the largest.
const MAX_PARTS: usize = 10;

/// Events that can't be taken. The texts say what to send and repeat nothing of what was sent.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadEvents {
    /// The body is no JSON.
    #[error("the body is not JSON; post one event or an array of events")]
    NotJson,
    /// There are more than [`MAX_EVENTS`].
    #[error("post at most {MAX_EVENTS} events at once")]
    TooMany,
    /// An element of the array is no object.
    #[error("events[{0}]: use a JSON object")]
    NotObject(usize),
    /// A field is missing, or none that its type allows.
    #[error("events[{index}].{path}: {expected}")]
    Field {
        /// The event's place in the array.
        index: usize,
        /// Where in the event.
        path: &'static str,
        /// What to type there.
        expected: &'static str,
    },
}

/// Who sends events, and so what is believed of their `context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender<'i> {
    /// A job whose token names its run: what its events say of themselves is ignored.
    Job(&'i Identity),
    /// One who may speak for every project: the run that an event names is believed.
    Trusted,
    /// One who may speak for some projects, and how it proved itself. An id does not tell whose run
    /// it is, so such a sender enters none; its traces of correlation ids are shared only with those
    /// who proved themselves in the same way.
    Confined(&'static str),
}

impl<'i> Sender<'i> {
    fn identity(self) -> Option<&'i Identity> {
        match self {
            Self::Job(identity) => Some(identity),
            Self::Trusted | Self::Confined(_) => None,
        }
    }
}

/// What the events of one request give.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Spans, by trace.
    pub traces: Vec<Trace<'static>>,
    /// Metrics, by resource.
    pub metrics: Vec<metric::Group<'static>>,
    /// Log records, by resource.
    pub logs: Vec<log::Group<'static>>,
    /// What names the project of the first event that has one, for fair queueing.
    pub project: String,
    /// All projects that the events speak of, the empty one for an event that names none.
    pub projects: BTreeSet<String>,
    /// All traces that the events belong to.
    pub trace_ids: BTreeSet<TraceId>,
    /// Whether an event names a run that its sender may not enter.
    pub confined: bool,
}

impl Batch {
    /// The messages of all signals, each of which fits the limits.
    #[must_use]
    pub fn messages(&self, limits: Limits) -> Vec<Message> {
        let traces = self.traces.iter();
        let mut messages: Vec<_> =
            traces.flat_map(|it| encode_spans(it, PROVIDER, &self.project, limits)).collect();
        messages.extend(encode_metrics(&self.metrics, PROVIDER, &self.project, limits));
        messages.extend(encode_logs(&self.logs, PROVIDER, &self.project, limits));
        messages
    }

    fn add_span(&mut self, trace: TraceId, resource: &Attributes<'static>, span: Span<'static>) {
        let trace = entry(
            &mut self.traces,
            |it| it.id == trace,
            || Trace { id: trace, groups: Vec::new() },
        );
        let new = || Group { resource: resource.clone(), spans: Vec::new() };
        entry(&mut trace.groups, |it| it.resource == *resource, new).spans.push(span);
    }

    fn add_point(
        &mut self,
        resource: &Attributes<'static>,
        (name, unit, kind): (&str, &str, metric::Kind),
        point: Point<'static>,
    ) {
        let new = || metric::Group { resource: resource.clone(), metrics: Vec::new() };
        let group = entry(&mut self.metrics, |it| it.resource == *resource, new);
        let same = |it: &Metric<'_>| it.name == name && it.unit == unit && it.kind == kind;
        let new = || Metric {
            name: name.to_owned().into(),
            unit: unit.to_owned().into(),
            kind,
            points: Vec::new(),
        };
        entry(&mut group.metrics, same, new).points.push(point);
    }

    fn add_record(&mut self, resource: &Attributes<'static>, record: Record<'static>) {
        let new = || log::Group { resource: resource.clone(), records: Vec::new() };
        entry(&mut self.logs, |it| it.resource == *resource, new).records.push(record);
    }
}

/// The last item that is `same`, or a new one. Events of one build stand together.
fn entry<T>(items: &mut Vec<T>, same: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> &mut T {
    let place = items.iter().rposition(same).unwrap_or_else(|| {
        items.push(new());
        items.len() - 1
    });
    &mut items[place]
}

/// Maps the events of a request: all of them, or none and why.
///
/// `received` is when the request came, in nanoseconds since the Unix epoch; it stands in for a
/// missing `timestamp`. The settings are those of the traceparent endpoint, since both have to come
/// to the same ids. What a job's identity says wins over the events, and their `context` is ignored.
pub fn map(
    body: &[u8],
    received: Nanos,
    settings: &TraceparentSettings,
    sender: Sender<'_>,
) -> Result<Batch, BadEvents> {
    let mut json: Value = serde_json::from_slice(body).map_err(|_| BadEvents::NotJson)?;
    // Whether a map keeps its order is a feature of the parser that any other crate may turn on.
    json.sort_all_objects();
    let events = match &json {
        Value::Array(events) => events.as_slice(),
        event => std::slice::from_ref(event),
    };
    if events.len() > MAX_EVENTS {
        return Err(BadEvents::TooMany);
    }
    let mut batch = Batch::default();
    for (index, json) in events.iter().enumerate() {
        let event = read::Event::new(index, json)?;
        map::event(&event, received, settings, sender, &mut batch)?;
    }
    Ok(batch)
}
