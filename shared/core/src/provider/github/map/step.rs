//! The steps of a job.

use std::collections::HashSet;

use super::{
    super::{ids::JobKey, payload::Step},
    at,
    run::Run,
};
use crate::{
    id::SpanId,
    mapping::mark_repaired,
    otlp::span::{Attributes, Event, Kind, Span, Status},
    semconv as sc,
    time::Interval,
};

/// The conclusion of a step that failed the job.
pub(super) const FAILURE: &str = "failure";

/// A job's steps: those that ran are spans, the others events of the job.
pub(super) struct Steps<'a> {
    pub(super) spans: Vec<Span<'a>>,
    pub(super) not_run: Vec<Event<'a>>,
}

impl<'a> Steps<'a> {
    /// Steps keep their own times: some begin a second before their job, and the last one may end
    /// before the one above it.
    pub(super) fn of<'p>(
        steps: impl Iterator<Item = &'p Step<'a>>,
        job: JobKey<'_>,
        run: &Run<'a, '_>,
        of_job: Interval,
    ) -> Self
    where
        'a: 'p,
    {
        let ids = run.ids();
        let parent = Some(ids.job(job));
        let mut taken: HashSet<SpanId> = HashSet::new();
        let (mut spans, mut not_run) = (Vec::new(), Vec::new());
        for (place, step) in steps.enumerate() {
            let (started, completed) = (at(&step.started_at), at(&step.completed_at));
            let attributes = attributes(step);
            let ran = started.filter(|_| step.conclusion.as_str() != "skipped");
            // Names repeat within a job, and no two spans may have one id. A step that did not run
            // takes none: of two with one name and opposite conditions the other one has it.
            let own = (step.name.as_str(), step.number.0, place);
            let id = ran.and_then(|_| {
                ids.step(job, own).into_iter().flatten().find(|it| taken.insert(*it))
            });
            let (Some(id), Some(start)) = (id, ran) else {
                let time = started.or(completed).unwrap_or(of_job.end);
                not_run.push(Event { time, name: "step not run", attributes });
                continue;
            };
            // A runner that was lost leaves a step without an end.
            let Some(interval) = Interval::repair(Some(start), completed, None, Some(of_job.end))
            else {
                continue;
            };
            let name = if step.name.is_empty() { "step".into() } else { step.name.cow() };
            let times = (interval.start, interval.end);
            let mut span =
                Span { attributes, ..Span::new(id, parent, name, Kind::Internal, times) };
            span.attributes.set(sc::KIND, "step");
            if step.conclusion.as_str() == FAILURE {
                span.status = Status::Error("step_failure".into());
                span.attributes.set(sc::ERROR_TYPE, "step_failure");
            }
            mark_repaired(&mut span, &interval);
            spans.push(span);
        }
        Self { spans, not_run }
    }
}

fn attributes<'a>(step: &Step<'a>) -> Attributes<'a> {
    let mut attributes = Attributes::with_capacity(8);
    attributes.set("github.step.name", step.name.cow());
    attributes.set("github.step.number", step.number.0);
    attributes.set("github.step.status", step.status.cow());
    attributes.set("github.step.conclusion", step.conclusion.cow());
    attributes
}
