//! Build events: what jobs themselves report, as spans, metrics and logs.
//!
//! A job posts one JSON event or an array of them. Each has a `type`:
//!
//! | `type` | becomes |
//! | --- | --- |
//! | `ci_build_metadata` | span `build {project}`, histogram `cicd.pipeline.run.duration` |
//! | `webpack_build_stats` | span `{bundler} compile`, gauges `build.*`, log records `build.bundle.stats`, `build.asset`, `build.chunk`, `build.chunk.package` |
//! | `artifact` | span `artifact {name}`, gauges `build.artifact.size` and `build.artifact.part.size`, log records `build.artifact.part` |
//! | `measure` | a gauge of that name |
//! | `mark` | span and log record of that name |
//! | any other | a log record that holds the event |
//!
//! Events of a known type are checked, because a job's log is where a mistake is seen and mended;
//! fields that are not known are ignored, so that senders may be newer than the receiver.
//!
//! # Which trace
//!
//! The run that the job proved to be part of (its token's [`Job`]), else the run that its `context` names,
//! else the `traceparent` of that context, else a trace of the correlation id's own. In a run's
//! trace the spans hang under the job, or the run while the job is not known. In the trace of a
//! correlation id the span of `ci_build_metadata` is the root and the others hang under it: such a
//! correlation id names one build. The project is not part of that trace's id unless it is proved,
//! since a bundler's plugin sends none and its events belong to the same build; so a correlation id
//! is to be unique beyond its project, as `$CI_PIPELINE_ID` and UUIDs are. A sender that may not speak
//! for every project has only traces of correlation ids, apart from everybody else's ([`Sender`]).

mod asset;
mod map;
mod package;
mod place;
mod private;
mod read;

use std::collections::BTreeSet;

use serde_json::Value;
use thiserror::Error;

use crate::{
    id::TraceId,
    job::Job,
    legible::legible,
    otlp::{
        Telemetry, entry,
        log::{self, Record},
        metric::{self, Point},
        span::{Attributes, Group, Span, Trace},
    },
    project::Project,
    settings::Settings,
    time::Nanos,
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
    Job(&'i Job),
    /// One who may speak for every project: the run that an event names is believed.
    Trusted,
    /// One who may speak for some projects, and how it proved itself. An id does not tell whose run
    /// it is, so such a sender enters none; its traces of correlation ids are shared only with those
    /// who proved themselves in the same way.
    Confined(&'static str),
}

impl<'i> Sender<'i> {
    fn identity(self) -> Option<&'i Job> {
        match self {
            Self::Job(identity) => Some(identity),
            Self::Trusted | Self::Confined(_) => None,
        }
    }
}

/// What the events of one request give.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// By project, each of which is judged by itself; the unnamed one for events that name none.
    pub telemetry: Vec<Telemetry<'static>>,
    /// All traces that the events belong to.
    pub trace_ids: BTreeSet<TraceId>,
    /// Whether an event names a run that its sender may not enter.
    pub confined: bool,
    /// What could not be read of events that are taken nevertheless.
    pub unread: Unread,
    /// The place of the current event's project.
    current: usize,
}

/// Parts of events that could not be read, for their sender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// How many.
    pub count: usize,
    /// Where the first of them are.
    pub at: Vec<String>,
}

/// The most parts that could not be read whose place is told.
const MAX_UNREAD: usize = 3;

impl Batch {
    /// This part of an event can't be read.
    fn miss(&mut self, path: impl FnOnce() -> String) {
        self.unread.count += 1;
        if self.unread.at.len() < MAX_UNREAD {
            self.unread.at.push(path());
        }
    }

    /// What is added from here on is of this project.
    fn enter(&mut self, project: &str) {
        let project = Project::named(project);
        let place = self.telemetry.iter().position(|it| it.project == project);
        self.current = place.unwrap_or_else(|| {
            self.telemetry.push(Telemetry { project, ..Telemetry::default() });
            self.telemetry.len() - 1
        });
    }

    fn current(&mut self) -> &mut Telemetry<'static> {
        &mut self.telemetry[self.current]
    }

    fn add_span(&mut self, trace: TraceId, resource: &Attributes<'static>, span: Span<'static>) {
        let new = || Trace { id: trace, groups: Vec::new() };
        let trace = entry(&mut self.current().traces, |it| it.id == trace, new);
        let new = || Group { resource: resource.clone(), spans: Vec::new() };
        entry(&mut trace.groups, |it| it.resource == *resource, new).spans.push(span);
    }

    fn add_point(
        &mut self,
        resource: &Attributes<'static>,
        metric: (&str, &str, metric::Kind),
        point: Point<'static>,
    ) {
        metric::add(&mut self.current().metrics, resource, metric, point);
    }

    fn add_record(&mut self, resource: &Attributes<'static>, record: Record<'static>) {
        let new = || log::Group { resource: resource.clone(), records: Vec::new() };
        entry(&mut self.current().logs, |it| it.resource == *resource, new).records.push(record);
    }
}

/// Maps the events of a request: all of them, or none and why.
///
/// `received` is when the request came, in nanoseconds since the Unix epoch; it stands in for a
/// missing `timestamp`. The settings are those of the traceparent endpoint, since both have to come
/// to the same ids. What a job's identity says wins over the events, and their `context` is ignored.
pub fn map(
    body: &[u8],
    received: Nanos,
    settings: &Settings,
    sender: Sender<'_>,
) -> Result<Batch, BadEvents> {
    let body = legible(body.into());
    let mut json: Value = serde_json::from_slice(&body).map_err(|_| BadEvents::NotJson)?;
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
