//! A TaskRun with its tries and its steps, and a CustomRun, which has no steps.
//!
//! <https://tekton.dev/docs/pipelines/taskruns/>, <https://tekton.dev/docs/pipelines/customruns/>

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    Found, Kind, Nothing, Of, at,
    condition::{Execution, outcome},
    origin::{Origin, first},
    pod::{Terminated, image_id},
};
use crate::{
    id::SpanId,
    lenient::{List, Object, Text},
    mapping::{Outcome, mark_repaired},
    otlp::span::{Attributes, Event, Kind as SpanKind, Link, Span},
    semconv::{self as sc, RunResult},
    task,
    time::{self, Interval},
};

/// The most steps of a try, and the most tries, that are mapped: a Pod has room for fewer.
const MAX_STEPS: usize = 1000;
const MAX_TRIES: usize = 100;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Spec<'a> {
    task_ref: Object<Reference<'a>>,
    custom_ref: Object<Reference<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Reference<'a> {
    name: Text<'a>,
    kind: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Status<'a> {
    #[serde(flatten)]
    last: Try<'a>,
    retries_status: List<Object<Try<'a>>, MAX_TRIES>,
}

/// One try.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Try<'a> {
    #[serde(flatten)]
    execution: Execution<'a>,
    pod_name: Text<'a>,
    steps: List<Object<Step<'a>>, MAX_STEPS>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Step<'a> {
    name: Text<'a>,
    container: Text<'a>,
    #[serde(rename = "imageID")]
    image_id: Text<'a>,
    terminated: Object<Terminated<'a>>,
    /// Newer Tekton's own word for how it ended.
    termination_reason: Text<'a>,
}

/// The last word that is there of how a step ended.
fn reason<'s, 'a>(step: &'s Step<'a>, end: &'s Terminated<'a>) -> &'s Text<'a> {
    if step.termination_reason.is_empty() { &end.reason } else { &step.termination_reason }
}

/// What is wrong with a step that ended; none where nothing is.
fn failure<'a>(step: &Step<'a>, end: &Terminated<'a>) -> Option<Cow<'a, str>> {
    if end.exit_code.0.is_none_or(|it| it == 0) {
        return None;
    }
    match reason(step, end).as_str() {
        // What its task goes on after is no failure, and neither is what a person stopped.
        "Continued" | "Cancelled" | "TaskRunCancelled" | "Skipped" => None,
        "Error" | "Completed" | "" => Some("step_failure".into()),
        _ => Some(reason(step, end).cow()),
    }
}

impl<'a> Try<'a> {
    fn steps(&self) -> impl Iterator<Item = &Step<'a>> {
        self.steps.items.iter().filter_map(|it| it.get())
    }

    /// How it ended: a failure by its first step that failed.
    fn outcome(&self) -> Option<Outcome<'a>> {
        let failed = self.steps().find_map(|it| failure(it, it.terminated.get()?));
        Some(outcome(self.execution.end()?, failed.unwrap_or("_OTHER".into())))
    }
}

/// What a TaskRun and its tries have in common.
struct Task<'o, 'a, 's> {
    origin: &'o Origin<'a, 's>,
    name: Cow<'a, str>,
}

pub(super) fn spans<'a>(
    kind: Kind,
    spec: &Spec<'a>,
    status: &Status<'a>,
    origin: &Origin<'a, '_>,
) -> Result<Found<'a>, Nothing> {
    let outcome = status.last.outcome().ok_or(Nothing::NotFinal)?;
    let created = at(&origin.meta.creation_timestamp);
    let tries: Vec<_> = status.retries_status.items.iter().filter_map(|it| it.get()).collect();
    // Tekton forgets the first start when it tries again.
    let began = tries.iter().filter_map(|it| it.execution.started()).min();
    let last = &status.last.execution;
    let interval = last.interval(began, created).ok_or(Nothing::Unreadable)?;
    let task = Task { origin, name: name(spec, origin) };
    let (ids, uid) = (origin.ids(), origin.uid());
    let (id, parent) = (ids.object(uid), origin.above_task_run());

    let times = (interval.start, interval.end);
    let mut span = Span::new(id, parent, task.name.clone(), SpanKind::Internal, times);
    span.links = origin.links(kind);
    span.attributes.set(sc::KIND, "job");
    span.attributes.set(sc::ATTEMPT, tries.len() as u64 + 1);
    span.attributes.set(sc::CICD_PIPELINE_TASK_NAME, task.name.clone());
    span.attributes.set(sc::CICD_PIPELINE_TASK_RUN_ID, origin.meta.uid.cow());
    let page = if kind == Kind::TaskRun { "taskruns" } else { "customruns" };
    let url = origin.page(page, origin.meta.name.as_str());
    span.attributes.set(sc::CICD_PIPELINE_TASK_RUN_URL_FULL, url);
    let reason = last.end().map(|it| it.reason.cow());
    if began.is_none() && last.started().is_none() {
        let (result, why) = (outcome.result.clone(), reason.clone().unwrap_or_default());
        span.events.push(task.named().not_run(interval.end, Some(result), why));
    }
    outcome.apply(sc::CICD_PIPELINE_TASK_RUN_RESULT, &mut span);
    let word = if kind == Kind::TaskRun { "taskrun" } else { "customrun" };
    span.attributes.set(format!("tekton.{word}.name"), origin.meta.name.cow());
    span.attributes.set(format!("tekton.{word}.reason"), reason);
    span.attributes.set("tekton.task.name", spec.task_ref.get().map(|it| it.name.cow()));
    span.attributes.set("tekton.custom_task.kind", spec.custom_ref.get().map(|it| it.kind.cow()));
    span.attributes.set(sc::K8S_POD_NAME, status.last.pod_name.cow());
    let waited = created.zip(began.into_iter().chain(last.started()).min());
    let waited = waited.filter(|(from, to)| from < to);
    span.attributes.set("tekton.job.queued_duration", waited.map(time::length));
    mark_repaired(&mut span, &interval);

    let mut steps = task.steps(&status.last, tries.len(), id, &interval, &mut span.events);
    let mut spans = vec![span];
    spans.append(&mut steps);
    for (attempt, one) in tries.iter().enumerate() {
        spans.extend(task.retry(one, attempt, id));
    }
    spans.extend(waited.map(|times| {
        let name = format!("queue {}", task.name);
        let own = (ids.queue(uid), parent.or(Some(id)));
        task.named().queue(own, name, times, Link { trace: origin.trace(), span: id })
    }));
    Ok(Found::new(origin, Of::Tekton, spans))
}

/// The task among others of its pipeline, else the task that it is.
fn name<'a>(spec: &Spec<'a>, origin: &Origin<'a, '_>) -> Cow<'a, str> {
    let labels = &origin.labels;
    let reference =
        |it: &Object<Reference<'a>>| it.get().and_then(|it| first(&[&it.name, &it.kind]));
    first(&[&labels.pipeline_task, &labels.task])
        .or_else(|| reference(&spec.task_ref))
        .or_else(|| reference(&spec.custom_ref))
        .unwrap_or("task".into())
}

impl<'a> Task<'_, 'a, '_> {
    fn named(&self) -> task::Task<'a> {
        let run_id = self.origin.meta.uid.cow();
        task::Task { name: self.name.clone(), run_id, stage: Cow::default() }
    }

    /// A try before the last one, with its steps.
    fn retry(&self, one: &Try<'a>, attempt: usize, parent: SpanId) -> Vec<Span<'a>> {
        let (Some(outcome), Some(interval)) = (one.outcome(), one.execution.interval(None, None))
        else {
            return Vec::new();
        };
        let id = self.origin.ids().retry(self.origin.uid(), attempt);
        let name = format!("try of {}", self.name);
        let times = (interval.start, interval.end);
        let mut span = Span::new(id, Some(parent), name, SpanKind::Internal, times);
        span.attributes.set(sc::KIND, "retry");
        span.attributes.set(sc::JOB, self.name.clone());
        span.attributes.set(sc::ATTEMPT, attempt as u64 + 1);
        outcome.apply("tekton.try.result", &mut span);
        span.attributes.set(sc::K8S_POD_NAME, one.pod_name.cow());
        mark_repaired(&mut span, &interval);
        let mut steps = self.steps(one, attempt, id, &interval, &mut span.events);
        let mut spans = vec![span];
        spans.append(&mut steps);
        spans
    }

    /// The steps of a try that ended; those that never began are events of what is above them. Their
    /// times are those of the commands: Tekton's entrypoint corrects what the containers say, which
    /// all begin at once and wait.
    fn steps(
        &self,
        one: &Try<'a>,
        attempt: usize,
        parent: SpanId,
        above: &Interval,
        not_run: &mut Vec<Event<'a>>,
    ) -> Vec<Span<'a>> {
        let mut spans: Vec<Span<'a>> = Vec::new();
        for step in one.steps() {
            let Some(end) = step.terminated.get() else { continue };
            let mut attributes = Attributes::with_capacity(8);
            attributes.set("tekton.step.name", step.name.cow());
            attributes.set("tekton.step.exit_code", end.exit_code.0);
            attributes.set("tekton.step.reason", reason(step, end).cow());
            let (start, finish) = (at(&end.started_at), at(&end.finished_at));
            if start.is_none() || reason(step, end).as_str() == "Skipped" {
                let time = finish.unwrap_or(above.end);
                not_run.push(Event { time, name: "step not run", attributes });
                continue;
            }
            let Some(interval) = Interval::repair(start, finish, None, Some(above.end)) else {
                continue;
            };
            let name = first(&[&step.name, &step.container]).unwrap_or("step".into());
            let id = self.origin.ids().step(self.origin.uid(), attempt, &name);
            // No API server takes two steps of one name.
            if spans.iter().any(|it| it.id == id) {
                continue;
            }
            let times = (interval.start, interval.end);
            let span = Span::new(id, Some(parent), name, SpanKind::Internal, times);
            let mut span = Span { attributes, ..span };
            span.attributes.set(sc::KIND, "step");
            span.attributes.set(sc::JOB, self.name.clone());
            span.attributes.set(sc::K8S_CONTAINER_NAME, step.container.cow());
            span.attributes.set(sc::CONTAINER_IMAGE_ID, image_id(step.image_id.cow()));
            if let Some(error) = failure(step, end) {
                Outcome::known(RunResult::Failure, error).apply("tekton.step.result", &mut span);
            }
            mark_repaired(&mut span, &interval);
            spans.push(span);
        }
        spans
    }
}
