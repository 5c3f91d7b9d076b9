//! Objects of a cluster to spans: one library, whichever source brought them. The same object gives
//! the same spans to the byte, so whether a relay, Tekton or both of them tell it makes no
//! difference.
//!
//! A span is emitted once its object is final, from that object alone: nothing is looked up and
//! nothing is remembered, so neither an order nor a restart can tear a trace.

mod activity;
mod condition;
mod event;
pub(crate) mod job;
mod metadata;
pub(crate) mod origin;
mod pipeline_run;
mod pod;
mod task_run;

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

pub(crate) use self::metadata::Metadata;
use self::origin::Origin;
use crate::{
    host::Host,
    id::TraceId,
    lenient::{Object, Text},
    mapping::ServiceName,
    otlp::{
        Telemetry, entry,
        span::{Attributes, Group, Span, Trace},
    },
    project::Project,
    settings::Settings,
    time::{self, Nanos, SECOND},
};

/// The kinds of objects that give spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    LighthouseJob,
    PipelineActivity,
    PipelineRun,
    TaskRun,
    CustomRun,
    Pod,
    Event,
}

impl Kind {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "LighthouseJob" => Self::LighthouseJob,
            "PipelineActivity" => Self::PipelineActivity,
            "PipelineRun" => Self::PipelineRun,
            "TaskRun" => Self::TaskRun,
            "CustomRun" => Self::CustomRun,
            "Pod" => Self::Pod,
            "Event" => Self::Event,
            _ => return None,
        })
    }
}

/// Whose an object is: spans say so by it, and not by who brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Lighthouse,
    Tekton,
    Kubernetes,
}

impl Of {
    /// The provider's name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Lighthouse => "lighthouse",
            Self::Tekton => "tekton",
            Self::Kubernetes => "kubernetes",
        }
    }

    pub(crate) fn service_name(self, settings: &Settings) -> &ServiceName {
        match self {
            Self::Lighthouse => &settings.lighthouse.service_name,
            Self::Tekton => &settings.tekton.service_name,
            Self::Kubernetes => &settings.kubernetes.service_name,
        }
    }
}

/// An object as a source tells it.
pub(crate) struct Observed<'a> {
    pub(crate) kind: Kind,
    /// The object's JSON.
    pub(crate) json: &'a str,
    /// When it was deleted, if it was and its source saw that.
    pub(crate) deleted: Option<Nanos>,
    /// The Pod that a Kubernetes event is of: the event does not tell what that belongs to.
    pub(crate) pod: Option<Metadata<'a>>,
}

/// Why an object gives no spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// It is not final; another delivery tells the rest.
    NotFinal,
    /// It never gives spans.
    NoSpan,
    /// It can't be read, or has neither a UID nor a date.
    Unreadable,
}

/// The spans of one object.
pub(crate) struct Found<'a> {
    pub(crate) project: Project,
    pub(crate) trace: TraceId,
    pub(crate) resource: Attributes<'a>,
    pub(crate) spans: Vec<Span<'a>>,
}

impl<'a> Found<'a> {
    fn new(origin: &Origin<'a, '_>, of: Of, spans: Vec<Span<'a>>) -> Self {
        Self {
            project: origin.project(),
            trace: origin.trace(),
            resource: origin.resource(of),
            spans,
        }
    }
}

/// The spans of an object.
pub(crate) fn spans<'a>(
    observed: Observed<'a>,
    cluster: &Host,
    settings: &Settings,
) -> Result<Found<'a>, Nothing> {
    let Observed { kind, json, deleted, pod } = observed;
    let whole: Whole<'a> = read(json).ok_or(Nothing::Unreadable)?;
    let meta = whole.metadata.0.unwrap_or_default();
    if kind == Kind::Event {
        let pod = pod.ok_or(Nothing::NoSpan)?;
        let origin = Origin::new(pod, Kind::Pod, cluster, settings).ok_or(Nothing::Unreadable)?;
        return event::spans(read(json).ok_or(Nothing::Unreadable)?, &meta, &origin);
    }
    let origin = Origin::new(meta, kind, cluster, settings).ok_or(Nothing::Unreadable)?;
    let (spec, status) = (raw(whole.spec), raw(whole.status));
    match kind {
        Kind::LighthouseJob => job::spans(&part(spec), &part(status), &origin),
        Kind::PipelineActivity => activity::spans(&part(spec), &origin),
        Kind::PipelineRun => pipeline_run::spans(&part(status), &origin),
        Kind::TaskRun | Kind::CustomRun => {
            task_run::spans(kind, &part(spec), &part(status), &origin)
        }
        Kind::Pod | Kind::Event => pod::spans(&part(spec), &part(status), deleted, &origin),
    }
}

/// An object before its kind matters.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Whole<'a> {
    metadata: Object<Metadata<'a>>,
    spec: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
}

fn raw(part: Option<&RawValue>) -> &str {
    part.map(RawValue::get).unwrap_or_default()
}

/// Reads an object's JSON, whatever else it may be.
pub(crate) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    serde_json::from_str::<Object<T>>(json).ok()?.0
}

/// Reads a part of an object, empty where it can't be read.
fn part<'a, T: Deserialize<'a> + Default>(json: &'a str) -> T {
    read(json).unwrap_or_default()
}

/// The year 2000, in nanoseconds since the epoch.
const YEAR_2000: Nanos = 946_684_800 * SECOND;

/// A date. Go writes a time that is not set as the first day of the year 1.
pub(crate) fn at(text: &Text<'_>) -> Option<Nanos> {
    time::parse(text.as_str()).filter(|it| *it >= YEAR_2000)
}

/// Joins what the objects of a delivery gave by project, trace and resource. A span that comes twice
/// is kept once.
pub(crate) fn collect<'a>(found: impl Iterator<Item = Found<'a>>) -> Vec<Telemetry<'a>> {
    let mut all: Vec<Telemetry<'a>> = Vec::new();
    // A thousand objects may have a thousand steps each: to look through a list would take minutes.
    let mut seen = HashSet::new();
    for Found { project, trace, resource, spans } in found {
        let new = || Telemetry { project: project.clone(), ..Telemetry::default() };
        let of_project = entry(&mut all, |it| it.project == project, new);
        let new = || Trace { id: trace, groups: Vec::new() };
        let in_trace = entry(&mut of_project.traces, |it| it.id == trace, new);
        let new = || Group { resource: resource.clone(), spans: Vec::new() };
        let group = entry(&mut in_trace.groups, |it| it.resource == resource, new);
        group.spans.extend(spans.into_iter().filter(|it| seen.insert((trace, it.id))));
    }
    all
}
