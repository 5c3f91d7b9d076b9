//! The jobs of a pipeline as spans, by the runner that they ran on, and the stages that they make.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use super::{
    super::{
        payload::{Build, Runner},
        settings::JobSpans,
    },
    job, outcome,
    run::Run,
};
use crate::{
    id::SpanId,
    lenient::{Object, Text},
    mapping::{Outcome, mark_repaired},
    otlp::span::{Event, Group, Kind, Link, Span, Status},
    semconv::{self as sc, RunResult},
    time::{self, Interval, Nanos},
};

/// Jobs as they are added, by the resource that they ran on.
pub(super) struct Jobs<'r, 'a, 's> {
    run: &'r Run<'a, 's>,
    created_at: Option<Nanos>,
    finished_at: Option<Nanos>,
    /// Whether job spans are made here: bridges always, others as the setting says.
    pub(super) emit: bool,
    /// The first group is the run's own.
    pub(super) groups: Vec<Group<'a>>,
    runners: HashMap<(Option<u64>, Cow<'a, str>), usize>,
    seen: HashSet<u64>,
    stages: Vec<Stage<'a>>,
    stage_index: HashMap<Cow<'a, str>, usize>,
    not_run: Vec<Event<'a>>,
    failures: Vec<(Nanos, Outcome<'a>)>,
    pub(super) start: Option<Nanos>,
    pub(super) end: Option<Nanos>,
}

/// A stage lasts from the moment at which its first job waited for a runner to the end of its last job.
struct Stage<'a> {
    name: Cow<'a, str>,
    queued: Nanos,
    began: Nanos,
    end: Nanos,
    error: Option<Cow<'a, str>>,
}

impl<'r, 'a, 's> Jobs<'r, 'a, 's> {
    pub(super) fn new(
        run: &'r Run<'a, 's>,
        created_at: Option<Nanos>,
        finished_at: Option<Nanos>,
    ) -> Self {
        Self {
            run,
            created_at,
            finished_at,
            emit: run.settings.gitlab.job_spans == JobSpans::Pipeline,
            groups: vec![Group { resource: run.resource.clone(), spans: Vec::new() }],
            runners: HashMap::new(),
            seen: HashSet::new(),
            stages: Vec::new(),
            stage_index: HashMap::new(),
            not_run: Vec::new(),
            failures: Vec::new(),
            start: None,
            end: None,
        }
    }

    pub(super) fn add(&mut self, build: &Build<'a>) {
        // One id is one span, even if the payload repeats it.
        if build.id.0.is_some_and(|id| !self.seen.insert(id)) {
            return;
        }
        let started_at = time::parse(build.started_at.as_str());
        let finished_at = time::parse(build.finished_at.as_str());
        let status = build.status.as_str();
        let duration = build.duration.0.filter(|it| *it > 0.0);
        if started_at.is_none() && duration.is_none() && status != "success" {
            self.not_run.push(job::not_run(build, finished_at.or(self.finished_at)));
            self.note_failure(build, finished_at.or(self.finished_at).unwrap_or(0));
            return;
        }
        let ended = matches!(status, "success" | "failed" | "canceled" | "skipped");
        if !ended && finished_at.is_none() {
            return; // Still running: a later event has it.
        }
        let duration = duration.map(time::seconds);
        let Some(interval) = Interval::repair(started_at, finished_at, duration, self.finished_at)
        else {
            self.not_run.push(job::not_run(build, None));
            return;
        };
        self.start = Some(self.start.map_or(interval.start, |it| it.min(interval.start)));
        self.end = Some(self.end.map_or(interval.end, |it| it.max(interval.end)));
        self.note_failure(build, interval.end);
        let waited = self.waited(build, interval.start);
        let stage = self.stage(build, waited.map_or(interval.start, |it| it.start), interval);
        if self.emit || build.bridge {
            self.emit(build, interval, waited, stage);
        }
    }

    /// The time that a job waited before it began. GitLab tells its length exactly and the moments to
    /// the second, so it may seem to begin before the job was made, and the job before its pipeline.
    fn waited(&self, build: &Build<'a>, began: Nanos) -> Option<Interval> {
        let waited = build.queued_duration.0?;
        let made = time::parse(build.created_at.as_str()).max(self.created_at).unwrap_or(0);
        let start = began.saturating_sub(time::seconds(waited));
        let earliest = made.min(began);
        let repaired = waited < 0.0 || start.saturating_add(time::SECOND) <= earliest;
        Some(Interval { start: start.max(earliest), end: began, repaired })
    }

    fn note_failure(&mut self, build: &Build<'a>, at: Nanos) {
        if build.status.as_str() == "failed" && build.allow_failure.0 != Some(true) {
            self.failures.push((at, outcome::failure(&build.failure_reason)));
        }
    }

    /// Widens the job's stage, and gives the stage's span.
    fn stage(&mut self, build: &Build<'a>, queued: Nanos, interval: Interval) -> Option<SpanId> {
        let name = build.stage.cow();
        if name.is_empty() {
            return None;
        }
        let index = *self.stage_index.entry(name.clone()).or_insert(self.stages.len());
        if index == self.stages.len() {
            let Interval { start, end, .. } = interval;
            self.stages.push(Stage { name, queued, began: start, end, error: None });
        }
        let stage = &mut self.stages[index];
        stage.queued = stage.queued.min(queued);
        stage.began = stage.began.min(interval.start);
        stage.end = stage.end.max(interval.end);
        let failed = build.status.as_str() == "failed" && build.allow_failure.0 != Some(true);
        if failed && stage.error.is_none() {
            stage.error = outcome::failure(&build.failure_reason).error;
        }
        Some(self.run.ids().stage(build.stage.as_str()))
    }

    fn emit(
        &mut self,
        build: &Build<'a>,
        interval: Interval,
        waited: Option<Interval>,
        stage: Option<SpanId>,
    ) {
        let ids = self.run.ids();
        let parent = Some(stage.unwrap_or_else(|| ids.run()));
        let id = match build.id.0 {
            Some(id) if build.bridge => ids.bridge(id),
            Some(id) => ids.job(id),
            None => ids.unnumbered("job", build.stage.as_str(), build.name.as_str()),
        };
        let task = job::task(build);
        let name = task.name.clone();
        let queue = waited.map(|waited| {
            let own = match build.id.0 {
                Some(id) => ids.queue(id),
                None => ids.unnumbered("queue", build.stage.as_str(), build.name.as_str()),
            };
            let times = (waited.start, waited.end);
            let job = Link { trace: ids.trace(), span: id };
            let mut span = task.queue((own, parent), format!("queue {name}"), times, job);
            mark_repaired(&mut span, &waited);
            span
        });
        self.groups[0].spans.extend(queue);
        let group = self.group(&build.runner);
        let times = (interval.start, interval.end);
        let mut span = Span::new(id, parent, name, Kind::Internal, times);
        job::describe(build, self.run, &mut span);
        mark_repaired(&mut span, &interval);
        self.groups[group].spans.push(span);
    }

    /// The group of a runner: a worker is a resource, so its jobs have one of their own.
    fn group(&mut self, runner: &Object<Runner<'a>>) -> usize {
        let Some(runner) = runner.get() else { return 0 };
        let next = self.groups.len();
        let key = (runner.id.0, runner.description.cow());
        let index = *self.runners.entry(key).or_insert(next);
        if index == next {
            let mut resource = self.run.resource.clone();
            resource.set(sc::CICD_WORKER_ID, runner.id.0.map(|it| it.to_string()));
            resource.set(sc::CICD_WORKER_NAME, runner.description.cow());
            resource.set("gitlab.runner.type", runner.kind.cow());
            resource.set("gitlab.runner.shared", runner.is_shared.0);
            let tags: Vec<_> = runner.tags.items.iter().map(Text::cow).collect();
            resource.set("gitlab.runner.tags", tags);
            self.groups.push(Group { resource, spans: Vec::new() });
        }
        index
    }

    /// How the pipeline ended, and the reason of the first job that made it fail.
    pub(super) fn outcome(&self, status: &Text<'a>) -> Outcome<'a> {
        if status.as_str() != "failed" {
            return outcome::of(status, &Text::default());
        }
        // Failed work explains a pipeline better than a runner that broke down beside it.
        let of = |result: RunResult| {
            let failures = self.failures.iter().filter(|it| it.1.result == result.as_str());
            failures.min_by_key(|it| it.0).map(|it| it.1.clone())
        };
        of(RunResult::Failure)
            .or_else(|| of(RunResult::Timeout))
            .or_else(|| of(RunResult::Error))
            .unwrap_or_else(|| Outcome::known(RunResult::Failure, "_OTHER"))
    }

    pub(super) fn into_groups(mut self, mut root: Span<'a>) -> Vec<Group<'a>> {
        let (ids, end) = (self.run.ids(), root.end);
        for event in &mut self.not_run {
            if event.time == 0 {
                event.time = end;
            }
        }
        root.events = self.not_run;
        let stages = self.stages.into_iter().map(|stage| {
            let id = ids.stage(&stage.name);
            let times = (stage.queued, stage.end);
            let mut span =
                Span::new(id, Some(ids.run()), stage.name.clone(), Kind::Internal, times);
            span.attributes.set(sc::KIND, "stage");
            span.attributes.set(sc::STAGE, stage.name.clone());
            span.attributes.set("gitlab.stage.name", stage.name);
            let queued = Some((stage.queued, stage.began)).filter(|(from, to)| from < to);
            span.attributes.set("gitlab.stage.queued_duration", queued.map(time::length));
            if let Some(error) = stage.error {
                span.status = Status::Error(error.clone());
                span.attributes.set(sc::ERROR_TYPE, error);
            }
            span
        });
        let mut spans: Vec<_> = std::iter::once(root).chain(stages).collect();
        spans.append(&mut self.groups[0].spans);
        self.groups[0].spans = spans;
        self.groups
    }
}
