//! Events to spans.

mod job;
mod jobs;
mod outcome;
mod people;
mod run;

use self::{
    jobs::Jobs,
    run::{Run, commit_title},
};
use super::{
    payload::{Build, Event, MAX_JOBS, Pipeline},
    settings::JobSpans,
};
use crate::{
    delivery::{Delivery, Mapped, Unmappable},
    lenient::Text,
    mapping::{mark_repaired, read},
    otlp::span::{Kind, Span},
    semconv as sc,
    settings::Settings,
    time::{self, Interval},
};

/// Maps a verified delivery.
pub(super) fn map<'a>(
    delivery: &Delivery<'a>,
    settings: &Settings,
) -> Result<Mapped<'a>, Unmappable> {
    let event: Event<'a> = read(delivery.body)?;
    match event.object_kind.as_str() {
        "pipeline" => pipeline(event, settings),
        "build" => job(event, settings),
        // The kind is not always there; the shape is.
        "" if event.object_attributes.get().is_some_and(|it| !it.status.is_empty()) => {
            pipeline(event, settings)
        }
        "" => Err(Unmappable::UnknownShape),
        _ => Ok(Mapped::Ignored("this kind of event gives no span")),
    }
}

fn pipeline<'a>(mut event: Event<'a>, settings: &Settings) -> Result<Mapped<'a>, Unmappable> {
    let pipeline = event.object_attributes.0.take().ok_or(Unmappable::UnknownShape)?;
    let id = pipeline.id.0.ok_or(Unmappable::NoRun)?;
    let finished_at = time::parse(pipeline.finished_at.as_str());
    match pipeline.status.as_str() {
        "success" | "failed" | "canceled" | "skipped" => {}
        "" if finished_at.is_some() => {}
        _ => return Ok(Mapped::Ignored("the pipeline is not finished")),
    }
    let (builds, bridges) = (std::mem::take(&mut event.builds), std::mem::take(&mut event.bridges));
    let kept = builds.items.len() + bridges.items.len();
    if builds.dropped + bridges.dropped > 0 || kept > MAX_JOBS {
        return Err(Unmappable::TooMany(MAX_JOBS, "jobs"));
    }
    let run = Run::of_pipeline(&event, &pipeline, id, settings);

    let created_at = time::parse(pipeline.created_at.as_str());
    let mut jobs = Jobs::new(&run, created_at, finished_at);
    let bridges =
        bridges.items.into_iter().filter_map(|it| it.0).map(|it| Build { bridge: true, ..it });
    for build in builds.items.into_iter().filter_map(|it| it.0).chain(bridges) {
        jobs.add(&build);
    }
    let interval = Interval::repair(created_at.or(jobs.start), finished_at, None, jobs.end)
        .ok_or(Unmappable::NoTime)?;

    let times = (interval.start, interval.end);
    let mut span = Span::new(run.ids().run(), None, run.span_name(&event), Kind::Server, times);
    span.attributes.set(sc::KIND, "run");
    span.attributes.set(sc::TRIGGER, pipeline.source.cow());
    span.attributes.set(sc::CICD_PIPELINE_ACTION_NAME, sc::ACTION_RUN);
    jobs.outcome(&pipeline.status).apply(sc::CICD_PIPELINE_RESULT, &mut span);
    describe(&pipeline, &run, &mut span);
    span.attributes.set("gitlab.commit.title", commit_title(&event));
    if let Some(commit) = event.commit.get() {
        let at = time::parse(commit.timestamp.as_str()).and_then(time::utc);
        span.attributes.set("gitlab.commit.timestamp", at);
        people::author(commit, settings, &mut span);
    }
    people::actor(event.user.get(), settings, &mut span);
    mark_repaired(&mut span, &interval);
    if let Some(source) = event.source_pipeline.get() {
        run.attach(source, &pipeline, &mut span);
    }
    Ok(run.finish(jobs.into_groups(span)))
}

fn describe<'a>(pipeline: &Pipeline<'a>, run: &Run<'a, '_>, span: &mut Span<'a>) {
    let attributes = &mut span.attributes;
    attributes.set("gitlab.pipeline.iid", pipeline.iid.0);
    attributes.set("gitlab.pipeline.source", pipeline.source.cow());
    attributes.set("gitlab.pipeline.status", pipeline.status.cow());
    attributes.set("gitlab.pipeline.detailed_status", pipeline.detailed_status.cow());
    attributes.set("gitlab.pipeline.duration", pipeline.duration.0);
    attributes.set("gitlab.pipeline.queued_duration", pipeline.queued_duration.0);
    attributes.set("gitlab.pipeline.protected_ref", pipeline.protected_ref.0);
    attributes.set("gitlab.pipeline.root.id", pipeline.root_pipeline_id.0);
    attributes.set("gitlab.project.id", run.project_id.0);
    attributes.set("gitlab.project.path", run.project_path.clone());
}

/// A Job event: the job's span and its queue time, when Job events make the spans.
fn job<'a>(event: Event<'a>, settings: &Settings) -> Result<Mapped<'a>, Unmappable> {
    if settings.gitlab.job_spans == JobSpans::Pipeline {
        return Ok(Mapped::Ignored("job spans come from the pipeline event"));
    }
    let id = event.pipeline_id.0.ok_or(Unmappable::NoRun)?;
    let run = Run::of_job(&event, id, settings);
    let prefer = |iso: &Text<'a>, local: &Text<'a>| {
        if time::parse(iso.as_str()).is_some() { iso.clone() } else { local.clone() }
    };
    let build = Build {
        id: event.build_id,
        stage: event.build_stage,
        name: event.build_name,
        status: event.build_status,
        created_at: prefer(&event.build_created_at_iso, &event.build_created_at),
        started_at: prefer(&event.build_started_at_iso, &event.build_started_at),
        finished_at: prefer(&event.build_finished_at_iso, &event.build_finished_at),
        duration: event.build_duration,
        queued_duration: event.build_queued_duration,
        failure_reason: event.build_failure_reason,
        allow_failure: event.build_allow_failure,
        retries_count: event.retries_count,
        user: event.user,
        runner: event.runner,
        environment: event.environment,
        ..Build::default()
    };
    let mut jobs = Jobs::new(&run, None, None);
    jobs.emit = true;
    jobs.add(&build);
    let groups: Vec<_> = jobs.groups.into_iter().filter(|it| !it.spans.is_empty()).collect();
    if groups.is_empty() {
        return Ok(Mapped::Ignored("the job is not finished, or never ran"));
    }
    Ok(run.finish(groups))
}
