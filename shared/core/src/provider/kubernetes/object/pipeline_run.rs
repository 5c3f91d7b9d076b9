//! A PipelineRun: the run of a pipeline, or the way in which a LighthouseJob is carried out.
//!
//! <https://tekton.dev/docs/pipelines/pipelineruns/>

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    Found, Kind, Nothing, Of, at,
    condition::{Execution, outcome},
    origin::{Origin, first},
};
use crate::{
    lenient::{List, Object, Text},
    mapping::mark_repaired,
    otlp::span::{Kind as SpanKind, Span},
    semconv::{self as sc, RunResult},
    task::Task,
};

/// The most tasks that are told to be skipped; no pipeline that fits an object has as many.
const MAX_SKIPPED: usize = 1000;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Status<'a> {
    #[serde(flatten)]
    execution: Execution<'a>,
    skipped_tasks: List<Object<Skipped<'a>>, MAX_SKIPPED>,
}

/// A task that got no TaskRun, so nothing else tells of it.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Skipped<'a> {
    name: Text<'a>,
    reason: Text<'a>,
}

pub(super) fn spans<'a>(
    status: &Status<'a>,
    origin: &Origin<'a, '_>,
) -> Result<Found<'a>, Nothing> {
    let Status { execution: status, skipped_tasks } = status;
    let end = status.end().ok_or(Nothing::NotFinal)?;
    let created = at(&origin.meta.creation_timestamp);
    let interval = status.interval(None, created).ok_or(Nothing::Unreadable)?;
    let (ids, uid) = (origin.ids(), origin.uid());
    let (id, parent) = (ids.object(uid), origin.above_pipeline_run());
    let pipeline = origin.pipeline();
    let named = |word: &'static str| {
        if pipeline.is_empty() { word.to_owned() } else { format!("{word} {pipeline}") }
    };
    let (kind, name, span_kind) = if origin.is_of_job() {
        ("pipeline_run", named("pipeline"), SpanKind::Internal)
    } else {
        ("run", named(sc::ACTION_RUN), SpanKind::Server)
    };
    let mut span = Span::new(id, parent, name, span_kind, (interval.start, interval.end));
    span.links = origin.links(Kind::PipelineRun);
    span.attributes.set(sc::KIND, kind);
    if span_kind == SpanKind::Server {
        span.attributes.set(sc::TRIGGER, origin.trigger());
        span.attributes.set(sc::CICD_PIPELINE_ACTION_NAME, sc::ACTION_RUN);
    }
    outcome(end, "task_failure").apply(sc::CICD_PIPELINE_RESULT, &mut span);
    span.attributes.set("tekton.pipelinerun.name", origin.meta.name.cow());
    span.attributes.set("tekton.pipelinerun.uid", origin.meta.uid.cow());
    span.attributes.set("tekton.pipelinerun.reason", end.reason.cow());
    mark_repaired(&mut span, &interval);
    span.events.extend(skipped_tasks.items.iter().filter_map(|it| it.get()).map(|it| {
        let name = first(&[&it.name]).unwrap_or("task".into());
        let task = Task { name, run_id: Cow::default(), stage: Cow::default() };
        task.not_run(interval.end, Some(RunResult::Skip.as_str().into()), it.reason.cow())
    }));
    let waited = created.zip(status.started()).filter(|(from, to)| from < to);
    // A run has no span above it to wait under.
    let queue = waited.map(|times| {
        let above = parent.or(Some(id));
        let mut span = Span::new(ids.queue(uid), above, named("queue"), SpanKind::Internal, times);
        span.attributes.set(sc::KIND, "queue");
        span
    });
    let mut found =
        Found::new(origin, Of::Tekton, [Some(span), queue].into_iter().flatten().collect());
    let url = origin.page("pipelineruns", origin.meta.name.as_str());
    found.resource.set(sc::CICD_PIPELINE_RUN_URL_FULL, url);
    Ok(found)
}
