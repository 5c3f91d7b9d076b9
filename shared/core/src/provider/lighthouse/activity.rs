//! An activity: how a job went, with its tasks and their steps, as Lighthouse reports it to the code
//! host.

use std::{borrow::Cow, collections::HashMap};

use super::{
    origin::{Origin, some},
    payload::{Delivered, Part, Stage},
};
use crate::{
    delivery::{Mapped, Unmappable},
    id::{SpanId, decimal},
    mapping::{Outcome, mark_repaired},
    otlp::{
        Telemetry,
        span::{Attributes, Event, Group, Kind, Span, Trace},
    },
    provider::kubernetes::{
        address,
        ids::{Ids, Key},
        object::{at, job, origin::refer},
    },
    semconv as sc,
    settings::Settings,
    task::Task,
    time::{Interval, Nanos},
};

pub(super) fn map(event: &Delivered, settings: &Settings) -> Result<Mapped<'static>, Unmappable> {
    let Some(outcome) = job::outcome(event.status.as_str()) else {
        return Ok(Mapped::Ignored("the job is not finished"));
    };
    let job = some(&event.jobid).or_else(|| some(&event.name)).ok_or(Unmappable::NoRun)?;
    let times = (at(&event.starttime), at(&event.completiontime));
    let parts = event.stages.items.iter().filter_map(|it| it.get());
    let last = parts.filter_map(|it| at(&it.part.completiontime)).max();
    let interval = Interval::repair(times.0, times.1, None, last).ok_or(Unmappable::NoTime)?;
    let origin =
        Origin::new(settings, event.giturl.as_str(), event.owner.as_str(), &event.reponame);
    let ids = origin.ids();
    // The commit's trace, below the event that brought it.
    let repository = origin.key();
    let (trace, above) = match (event.lastcommitsha.get(), event.branch.get()) {
        (Some(sha), Some(branch)) => (
            ids.trace(Key::Commit(&repository, sha)),
            Some(ids.commit_event(&repository, sha, branch)),
        ),
        _ => (ids.trace(Key::Job(&job)), None),
    };
    let name = |word: &'static str| match event.context.get() {
        Some(context) => format!("{word} {context}"),
        None => word.to_owned(),
    };
    let id = ids.job(&job);
    let mut run = span(id, above, name(sc::ACTION_RUN).into(), Kind::Server, &interval);
    run.attributes.set(sc::KIND, "run");
    run.attributes.set(sc::CICD_PIPELINE_ACTION_NAME, sc::ACTION_RUN);
    outcome.clone().apply(sc::CICD_PIPELINE_RESULT, &mut run);
    run.attributes.set("lighthouse.job.name", job.clone());
    run.attributes.set("lighthouse.job.context", event.context.cow());
    run.attributes.set("lighthouse.job.state", event.status.cow());

    let mut spans = vec![run];
    if !event.name.is_empty() {
        let activity = Activity { ids, name: event.name.as_str(), end: interval.end };
        let below = activity.id(&[]);
        let mut run = span(below, Some(id), name("pipeline").into(), Kind::Internal, &interval);
        run.attributes.set(sc::KIND, "pipeline_run");
        outcome.apply(sc::CICD_PIPELINE_RESULT, &mut run);
        run.attributes.set("tekton.pipelinerun.name", event.name.cow());
        let stages = activity.stages(event, below, &mut run.events);
        spans.push(run);
        spans.extend(stages);
    }
    let mut resource = origin.resource(&event.context);
    resource.set(sc::CICD_PIPELINE_RUN_ID, job);
    let url = [&event.linkurl, &event.logurl].into_iter().find_map(|it| address(it.as_str()));
    resource.set(sc::CICD_PIPELINE_RUN_URL_FULL, url.map(Cow::into_owned));
    let base = some(&event.basesha);
    refer(&mut resource, event.branch.cow(), some(&event.lastcommitsha), None, base);
    let trace = Trace { id: trace, groups: vec![Group { resource, spans }] };
    let project = origin.project();
    Ok(Mapped::Telemetry(vec![Telemetry { project, traces: vec![trace], ..Telemetry::default() }]))
}

fn span(
    id: SpanId,
    parent: Option<SpanId>,
    name: Cow<'static, str>,
    kind: Kind,
    interval: &Interval,
) -> Span<'static> {
    let mut span = Span::new(id, parent, name, kind, (interval.start, interval.end));
    mark_repaired(&mut span, interval);
    span
}

/// The parts of an activity.
struct Activity<'e> {
    ids: Ids<'e>,
    name: &'e str,
    end: Nanos,
}

impl Activity<'_> {
    fn id(&self, keys: &[&str]) -> SpanId {
        self.ids.activity(&[&[self.name], keys].concat())
    }

    fn stages(
        &self,
        event: &Delivered,
        above: SpanId,
        not_run: &mut Vec<Event<'static>>,
    ) -> Vec<Span<'static>> {
        let mut seen: HashMap<&str, u64> = HashMap::new();
        let mut spans = Vec::new();
        for stage in event.stages.items.iter().filter_map(|it| it.get()) {
            let name = stage.part.name.as_str();
            let repeat = seen.entry(name).or_default();
            let index = &mut [0; 20];
            let index = decimal(*repeat, index);
            *repeat += 1;
            spans.extend(self.stage(stage, (name, index), above, not_run));
        }
        spans
    }

    fn stage(
        &self,
        stage: &Stage,
        (name, index): (&str, &str),
        above: SpanId,
        not_run: &mut Vec<Event<'static>>,
    ) -> Vec<Span<'static>> {
        let id = self.id(&[name, index]);
        let Some((mut task, outcome)) = self.part(&stage.part, id, above) else {
            let task = Task {
                name: some(&stage.part.name).unwrap_or("task".into()),
                run_id: format!("{}/{name}/{index}", self.name).into(),
                stage: Cow::default(),
            };
            let result = job::outcome(stage.part.status.as_str()).map(|it| it.result);
            let reason = some(&stage.part.status).unwrap_or_default();
            not_run.push(task.not_run(self.moment(&stage.part), result, reason));
            return Vec::new();
        };
        task.attributes.set(sc::KIND, "job");
        task.attributes.set(sc::CICD_PIPELINE_TASK_NAME, task.name.clone());
        task.attributes.set(sc::CICD_PIPELINE_TASK_RUN_ID, format!("{}/{name}/{index}", self.name));
        outcome.apply(sc::CICD_PIPELINE_TASK_RUN_RESULT, &mut task);
        let mut steps: Vec<Span<'static>> = Vec::new();
        for step in stage.steps.items.iter().filter_map(|it| it.get()) {
            let step_id = self.id(&[name, index, step.name.as_str()]);
            let found = self.part(step, step_id, id);
            let Some((mut span, outcome)) =
                found.filter(|_| steps.iter().all(|it| it.id != step_id))
            else {
                task.events.push(self.step_not_run(step));
                continue;
            };
            span.attributes.set(sc::KIND, "step");
            span.attributes.set(sc::JOB, task.name.clone());
            outcome.apply("lighthouse.step.result", &mut span);
            steps.push(span);
        }
        [vec![task], steps].concat()
    }

    /// A part that ran and ended.
    fn part(
        &self,
        part: &Part,
        id: SpanId,
        above: SpanId,
    ) -> Option<(Span<'static>, Outcome<'static>)> {
        let outcome = job::outcome(part.status.as_str())?;
        let interval = Interval::repair(
            Some(at(&part.starttime)?),
            at(&part.completiontime),
            None,
            Some(self.end),
        )?;
        let name = some(&part.name).unwrap_or("task".into());
        Some((span(id, Some(above), name, Kind::Internal, &interval), outcome))
    }

    fn step_not_run(&self, part: &Part) -> Event<'static> {
        let mut attributes = Attributes::with_capacity(2);
        attributes.set("lighthouse.part.name", part.name.cow());
        attributes.set("lighthouse.part.status", part.status.cow());
        Event { time: self.moment(part), name: "step not run", attributes }
    }

    /// When a part ended that has no span.
    fn moment(&self, part: &Part) -> Nanos {
        at(&part.completiontime).or_else(|| at(&part.starttime)).unwrap_or(self.end)
    }
}
