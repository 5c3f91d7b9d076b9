//! A PipelineRun: the run of a pipeline, or the way in which a LighthouseJob is carried out.
//!
//! <https://tekton.dev/docs/pipelines/pipelineruns/>

use super::{
    Found, Kind, Nothing, Of, at,
    condition::{Execution, outcome},
    origin::Origin,
};
use crate::{
    mapping::mark_repaired,
    otlp::span::{Kind as SpanKind, Span},
    semconv as sc,
};

pub(super) fn spans<'a>(
    status: &Execution<'a>,
    origin: &Origin<'a, '_>,
) -> Result<Found<'a>, Nothing> {
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
