//! Events to spans.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use super::{
    ids::GitlabIds,
    payload::{
        Build, Environment, Event, MAX_JOBS, MergeRequest, Pipeline, Runner, SourcePipeline,
    },
    settings::JobSpans,
};
use crate::{
    delivery::{Delivery, Mapped, Unmappable},
    host::Host,
    id::{SpanId, TraceIds},
    lenient::{Int, Object, Text},
    mapping::{Outcome, Repository, first_line, mark_repaired, mentions, read},
    otlp::{
        Telemetry,
        span::{Attributes, Event as SpanEvent, Group, Kind, Link, Span, Status, Trace, Value},
    },
    project::Project,
    semconv::{self as sc, RunResult},
    settings::Settings,
    time::{self, Interval, Nanos},
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
        return Err(Unmappable::TooManyJobs(MAX_JOBS));
    }
    let run = Run::of_pipeline(&event, &pipeline, id, settings);

    let mut jobs = Jobs::new(&run, finished_at);
    let bridges =
        bridges.items.into_iter().filter_map(|it| it.0).map(|it| Build { bridge: true, ..it });
    for build in builds.items.into_iter().filter_map(|it| it.0).chain(bridges) {
        jobs.add(&build);
    }
    let interval = Interval::repair(
        time::parse(pipeline.created_at.as_str()).or(jobs.start),
        finished_at,
        None,
        jobs.end,
    )
    .ok_or(Unmappable::NoTime)?;

    let times = (interval.start, interval.end);
    let mut span = Span::new(run.ids().run(), None, run.span_name(&event), Kind::Server, times);
    span.attributes.set(sc::KIND, "run");
    span.attributes.set(sc::TRIGGER, pipeline.source.cow());
    span.attributes.set(sc::CICD_PIPELINE_ACTION_NAME, sc::ACTION_RUN);
    jobs.outcome(&pipeline.status).apply(sc::CICD_PIPELINE_RESULT, &mut span);
    describe_pipeline(&pipeline, &run, &mut span);
    span.attributes.set("gitlab.commit.title", commit_title(&event));
    mark_repaired(&mut span, &interval);
    if let Some(source) = event.source_pipeline.get() {
        run.attach(source, &pipeline, &mut span);
    }
    Ok(run.finish(jobs.into_groups(span)))
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
        started_at: prefer(&event.build_started_at_iso, &event.build_started_at),
        finished_at: prefer(&event.build_finished_at_iso, &event.build_finished_at),
        duration: event.build_duration,
        queued_duration: event.build_queued_duration,
        failure_reason: event.build_failure_reason,
        allow_failure: event.build_allow_failure,
        retries_count: event.retries_count,
        runner: event.runner,
        environment: event.environment,
        ..Build::default()
    };
    let mut jobs = Jobs::new(&run, None);
    jobs.emit = true;
    jobs.add(&build);
    let groups: Vec<_> = jobs.groups.into_iter().filter(|it| !it.spans.is_empty()).collect();
    if groups.is_empty() {
        return Ok(Mapped::Ignored("the job is not finished, or never ran"));
    }
    Ok(run.finish(groups))
}

/// The pipeline that jobs hang under, and the resource that all its spans share.
struct Run<'a, 's> {
    settings: &'s Settings,
    host: Host,
    /// `web_url` of the project, of which every other address is made.
    project_url: String,
    project_path: Cow<'a, str>,
    project_id: Int,
    id: u64,
    root: u64,
    /// The pipeline's name, else the project's path.
    name: Cow<'a, str>,
    resource: Attributes<'a>,
}

impl<'a, 's> Run<'a, 's> {
    fn of_pipeline(
        event: &Event<'a>,
        pipeline: &Pipeline<'a>,
        id: u64,
        settings: &'s Settings,
    ) -> Self {
        let mut run = Self::new(event, id, settings, pipeline.name.cow());
        let child = event.source_pipeline.get().filter(|it| run.is_child(it, &pipeline.source));
        run.root = pipeline
            .root_pipeline_id
            .0
            .or_else(|| child.and_then(|it| it.pipeline_id.0))
            .unwrap_or(id);
        run.refer(&pipeline.r#ref, pipeline.tag.0, &pipeline.sha);
        if let Some(request) = event.merge_request.get() {
            run.merge_request(request);
        }
        run
    }

    fn of_job(event: &Event<'a>, id: u64, settings: &'s Settings) -> Self {
        let commit = event.commit.get();
        let name = commit.map(|it| it.name.cow()).unwrap_or_default();
        let mut run = Self::new(event, id, settings, name);
        let child = event.source_pipeline.get().filter(|it| run.is_child(it, &Text::default()));
        run.root = child.and_then(|it| it.pipeline_id.0).unwrap_or(id);
        let sha = commit.filter(|_| event.sha.is_empty()).map_or(&event.sha, |it| &it.sha);
        run.refer(&event.r#ref, event.tag.0, sha);
        run
    }

    fn new(event: &Event<'a>, id: u64, settings: &'s Settings, name: Cow<'a, str>) -> Self {
        let project = event.project.get();
        let urls = [project.map(|it| &it.web_url), event.repository.get().map(|it| &it.homepage)];
        let repository = urls
            .into_iter()
            .flatten()
            .find_map(|url| Repository::parse(url.as_str()))
            .unwrap_or_default();
        let path = project.map(|it| it.path_with_namespace.cow()).unwrap_or_default();
        let path = match (path.is_empty(), repository.owner.is_empty()) {
            (false, _) => path,
            (true, false) => format!("{}/{}", repository.owner, repository.name).into(),
            (true, true) => repository.name.clone().into(),
        };
        let name = if name.is_empty() { path.clone() } else { name };
        let repository_name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let host = repository.host.unwrap_or_else(|| settings.gitlab.host.clone());
        let project_url = if repository.url.is_empty() {
            format!("https://{host}/{path}")
        } else {
            repository.url
        };

        let mut resource = Attributes::with_capacity(20);
        resource
            .set(sc::SERVICE_NAME, settings.gitlab.service_name.render(&repository_name, &name));
        resource.set(sc::PROVIDER, super::ROOM.name);
        resource.set(sc::CICD_PIPELINE_NAME, name.clone());
        resource.set(sc::CICD_PIPELINE_RUN_ID, id.to_string());
        resource.set(sc::CICD_PIPELINE_RUN_URL_FULL, format!("{project_url}/-/pipelines/{id}"));
        resource.set(sc::VCS_PROVIDER_NAME, "gitlab");
        resource.set(sc::VCS_REPOSITORY_URL_FULL, project_url.clone());
        resource.set(sc::VCS_REPOSITORY_NAME, repository_name);
        resource.set(sc::VCS_OWNER_NAME, path.rsplit_once('/').map(|(owner, _)| owner.to_owned()));
        let project_id = project.map_or(event.project_id, |it| it.id);
        Self {
            settings,
            host,
            project_url,
            project_path: path,
            project_id,
            id,
            root: id,
            name,
            resource,
        }
    }

    fn refer(&mut self, name: &Text<'a>, tag: Option<bool>, sha: &Text<'a>) {
        let kind = if tag == Some(true) { "tag" } else { "branch" };
        let kind = (!name.is_empty()).then_some(kind);
        self.resource.set(sc::VCS_REF_HEAD_NAME, name.cow());
        self.resource.set(sc::VCS_REF_HEAD_TYPE, kind);
        self.resource.set(sc::VCS_REF_TYPE, kind);
        self.resource.set(sc::VCS_REF_HEAD_REVISION, sha.cow());
    }

    fn merge_request(&mut self, request: &MergeRequest<'a>) {
        let state = match request.state.as_str() {
            "opened" => Some("open"),
            "closed" => Some("closed"),
            "merged" => Some("merged"),
            _ => None,
        };
        let base = (!request.target_branch.is_empty()).then_some("branch");
        self.resource.set(sc::VCS_CHANGE_ID, request.iid.0.map(|it| it.to_string()));
        self.resource.set(sc::VCS_CHANGE_TITLE, first_line(request.title.cow()));
        self.resource.set(sc::VCS_CHANGE_STATE, state);
        self.resource.set(sc::VCS_REF_BASE_NAME, request.target_branch.cow());
        self.resource.set(sc::VCS_REF_BASE_TYPE, base);
        if let (Some(source), Some(target)) =
            (request.source_project_id.0, request.target_project_id.0)
        {
            self.resource.set("gitlab.merge_request.fork", source != target);
        }
    }

    fn ids(&self) -> GitlabIds<'_> {
        self.ids_of(&self.host, self.root, self.id)
    }

    fn ids_of<'h>(&self, host: &'h Host, root: u64, pipeline: u64) -> GitlabIds<'h> {
        let (scheme, kind) = (self.settings.trace_ids, self.settings.gitlab.job_kind);
        GitlabIds::new(scheme, kind, host.as_str(), root, pipeline)
    }

    /// A child pipeline runs in the project of its parent, a multi-project one elsewhere.
    fn is_child(&self, source: &SourcePipeline<'a>, pipeline_source: &Text<'a>) -> bool {
        let project = source.project.get().and_then(|it| it.id.0);
        project.is_some()
            && project == self.project_id.0
            && matches!(pipeline_source.as_str(), "" | "parent_pipeline")
    }

    /// A name that holds something of this run would make one span name a run.
    fn span_name(&self, event: &Event<'a>) -> Cow<'a, str> {
        let own = [
            self.resource.get(sc::VCS_REF_HEAD_NAME),
            self.resource.get(sc::VCS_CHANGE_TITLE),
            self.resource.get(sc::VCS_REF_HEAD_REVISION),
            self.resource.get(sc::VCS_CHANGE_ID),
            self.resource.get(sc::CICD_PIPELINE_RUN_ID),
        ];
        let own = own.into_iter().flatten().filter_map(|value| match value {
            Value::Text(text) => Some(text.as_ref()),
            _ => None,
        });
        let sha = self.resource.get(sc::VCS_REF_HEAD_REVISION);
        let short_sha = match sha {
            Some(Value::Text(sha)) => sha.get(..8).unwrap_or_default(),
            _ => "",
        };
        let title = commit_title(event);
        let is_path = self.name == self.project_path;
        let varies = own.chain([short_sha, &title]).any(|it| mentions(&self.name, it));
        if self.name.is_empty() || (varies && !is_path) {
            return sc::ACTION_RUN.into();
        }
        format!("{} {}", sc::ACTION_RUN, self.name).into()
    }

    /// Ties a downstream pipeline to the job that triggered it.
    fn attach(&self, source: &SourcePipeline<'a>, pipeline: &Pipeline<'a>, span: &mut Span<'a>) {
        let (Some(upstream), Some(job)) =
            (source.pipeline_id.0, source.bridge_id.0.or(source.job_id.0))
        else {
            return;
        };
        let project = source.project.get();
        let repository = project.and_then(|it| Repository::parse(it.web_url.as_str()));
        let host = repository.and_then(|it| it.host).unwrap_or_else(|| self.host.clone());
        let child = self.is_child(source, &pipeline.source);
        let root = if child { self.root } else { upstream };
        let ids = self.ids_of(&host, root, upstream);
        // Since 19.2 `bridge_id` tells a trigger job from one that called the API; before, nearly
        // every downstream pipeline comes from a trigger job.
        let called_api = source.bridge_id.0.is_none() && pipeline.root_pipeline_id.0.is_some();
        let trigger = if called_api { ids.job(job) } else { ids.bridge(job) };
        if child && self.settings.trace_ids == TraceIds::Native {
            span.parent = Some(trigger);
        } else {
            span.links.push(Link { trace: ids.trace(), span: trigger });
        }
        span.attributes.set("gitlab.upstream.pipeline.id", Some(upstream));
        span.attributes.set("gitlab.upstream.job.id", Some(job));
        span.attributes
            .set("gitlab.upstream.project.path", project.map(|it| it.path_with_namespace.cow()));
    }

    fn finish(&self, groups: Vec<Group<'a>>) -> Mapped<'a> {
        let trace = Trace { id: self.ids().trace(), groups };
        let project = Project::new(self.host.as_str(), self.project_path.clone());
        Mapped::Telemetry(vec![Telemetry { project, traces: vec![trace], ..Telemetry::default() }])
    }
}

/// Jobs as they are added, by the resource that they ran on.
struct Jobs<'r, 'a, 's> {
    run: &'r Run<'a, 's>,
    finished_at: Option<Nanos>,
    /// Whether job spans are made here: bridges always, others as the setting says.
    emit: bool,
    /// The first group is the run's own.
    groups: Vec<Group<'a>>,
    runners: HashMap<(Option<u64>, Cow<'a, str>), usize>,
    seen: HashSet<u64>,
    stages: Vec<Stage<'a>>,
    stage_index: HashMap<Cow<'a, str>, usize>,
    not_run: Vec<SpanEvent<'a>>,
    failures: Vec<(Nanos, Outcome<'a>)>,
    start: Option<Nanos>,
    end: Option<Nanos>,
}

struct Stage<'a> {
    name: Cow<'a, str>,
    start: Nanos,
    end: Nanos,
    error: Option<Cow<'a, str>>,
}

impl<'r, 'a, 's> Jobs<'r, 'a, 's> {
    fn new(run: &'r Run<'a, 's>, finished_at: Option<Nanos>) -> Self {
        Self {
            run,
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

    fn add(&mut self, build: &Build<'a>) {
        // One id is one span, even if the payload repeats it.
        if build.id.0.is_some_and(|id| !self.seen.insert(id)) {
            return;
        }
        let started_at = time::parse(build.started_at.as_str());
        let finished_at = time::parse(build.finished_at.as_str());
        let status = build.status.as_str();
        let duration = build.duration.0.filter(|it| *it > 0.0);
        if started_at.is_none() && duration.is_none() && status != "success" {
            self.not_run.push(not_run(build, finished_at.or(self.finished_at)));
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
            self.not_run.push(not_run(build, None));
            return;
        };
        self.start = Some(self.start.map_or(interval.start, |it| it.min(interval.start)));
        self.end = Some(self.end.map_or(interval.end, |it| it.max(interval.end)));
        self.note_failure(build, interval.end);
        let stage = self.stage(build, interval);
        if self.emit || build.bridge {
            self.emit(build, interval, stage);
        }
    }

    fn note_failure(&mut self, build: &Build<'a>, at: Nanos) {
        if build.status.as_str() == "failed" && build.allow_failure.0 != Some(true) {
            self.failures.push((at, failure(&build.failure_reason)));
        }
    }

    /// Widens the job's stage, and gives the stage's span.
    fn stage(&mut self, build: &Build<'a>, interval: Interval) -> Option<SpanId> {
        let name = build.stage.cow();
        if name.is_empty() {
            return None;
        }
        let index = *self.stage_index.entry(name.clone()).or_insert(self.stages.len());
        if index == self.stages.len() {
            let Interval { start, end, .. } = interval;
            self.stages.push(Stage { name, start, end, error: None });
        }
        let stage = &mut self.stages[index];
        stage.start = stage.start.min(interval.start);
        stage.end = stage.end.max(interval.end);
        let failed = build.status.as_str() == "failed" && build.allow_failure.0 != Some(true);
        if failed && stage.error.is_none() {
            stage.error = failure(&build.failure_reason).error;
        }
        Some(self.run.ids().stage(build.stage.as_str()))
    }

    fn emit(&mut self, build: &Build<'a>, interval: Interval, stage: Option<SpanId>) {
        let ids = self.run.ids();
        let parent = Some(stage.unwrap_or_else(|| ids.run()));
        let id = match build.id.0 {
            Some(id) if build.bridge => ids.bridge(id),
            Some(id) => ids.job(id),
            None => ids.unnumbered("job", build.stage.as_str(), build.name.as_str()),
        };
        let queue = build.queued_duration.0.map(|waited| {
            let waiting = match build.id.0 {
                Some(id) => ids.queue(id),
                None => ids.unnumbered("queue", build.stage.as_str(), build.name.as_str()),
            };
            let start = interval.start.saturating_sub(time::seconds(waited));
            let name = format!("queue {}", build.name.as_str());
            let times = (start, interval.start);
            let mut span = Span::new(waiting, parent, name, Kind::Internal, times);
            span.attributes.set(sc::KIND, "queue");
            span.attributes.set(sc::STAGE, build.stage.cow());
            span.attributes.set(sc::JOB, build.name.cow());
            span.links.push(Link { trace: ids.trace(), span: id });
            if waited < 0.0 {
                span.attributes.set(sc::TIME_REPAIRED, true);
            }
            span
        });
        self.groups[0].spans.extend(queue);
        let group = self.group(&build.runner);
        let times = (interval.start, interval.end);
        let name = if build.name.is_empty() { "job".into() } else { build.name.cow() };
        let mut span = Span::new(id, parent, name, Kind::Internal, times);
        describe_job(build, self.run, &mut span);
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
    fn outcome(&self, status: &Text<'a>) -> Outcome<'a> {
        if status.as_str() != "failed" {
            return outcome(status, &Text::default());
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

    fn into_groups(mut self, mut root: Span<'a>) -> Vec<Group<'a>> {
        let (ids, end) = (self.run.ids(), root.end);
        for event in &mut self.not_run {
            if event.time == 0 {
                event.time = end;
            }
        }
        root.events = self.not_run;
        let stages = self.stages.into_iter().map(|stage| {
            let id = ids.stage(&stage.name);
            let times = (stage.start, stage.end);
            let mut span =
                Span::new(id, Some(ids.run()), stage.name.clone(), Kind::Internal, times);
            span.attributes.set(sc::KIND, "stage");
            span.attributes.set(sc::STAGE, stage.name.clone());
            span.attributes.set("gitlab.stage.name", stage.name);
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

fn describe_pipeline<'a>(pipeline: &Pipeline<'a>, run: &Run<'a, '_>, span: &mut Span<'a>) {
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

fn describe_job<'a>(build: &Build<'a>, run: &Run<'a, '_>, span: &mut Span<'a>) {
    let id = build.id.0.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
    let url = format!("{}/-/jobs/{id}", run.project_url);
    let kind = ["build", "test", "deploy"].into_iter().find(|it| *it == build.stage.as_str());
    let name = span.name.clone();
    span.attributes.set(sc::KIND, "job");
    span.attributes.set(sc::STAGE, build.stage.cow());
    // GitLab counts the tries before this one, and only in Job events.
    span.attributes.set(sc::ATTEMPT, build.retries_count.0.map(|it| it.saturating_add(1)));
    span.attributes.set(sc::CICD_PIPELINE_TASK_NAME, name);
    span.attributes.set(sc::CICD_PIPELINE_TASK_RUN_ID, id);
    span.attributes.set(sc::CICD_PIPELINE_TASK_RUN_URL_FULL, url);
    span.attributes.set(sc::CICD_PIPELINE_TASK_TYPE, kind);
    outcome(&build.status, &build.failure_reason).apply(sc::CICD_PIPELINE_TASK_RUN_RESULT, span);
    let attributes = &mut span.attributes;
    attributes.set("gitlab.job.status", build.status.cow());
    attributes.set("gitlab.job.stage", build.stage.cow());
    if build.status.as_str() == "failed" {
        attributes.set("gitlab.job.failure_reason", build.failure_reason.cow());
    }
    attributes.set("gitlab.job.when", build.when.cow());
    attributes.set("gitlab.job.manual", build.manual.0);
    attributes.set("gitlab.job.allow_failure", build.allow_failure.0);
    attributes.set("gitlab.job.duration", build.duration.0);
    attributes.set("gitlab.job.queued_duration", build.queued_duration.0);
    attributes.set("gitlab.job.retries_count", build.retries_count.0);
    attributes.set("gitlab.job.bridge", build.bridge.then_some(true));
    if let Some(artifacts) = build.artifacts_file.get() {
        attributes.set("gitlab.job.artifacts.filename", artifacts.filename.cow());
        attributes.set("gitlab.job.artifacts.size", artifacts.size.0);
    }
    if let Some(environment) = build.environment.get() {
        attributes.set(sc::DEPLOYMENT_ENVIRONMENT_NAME, environment_name(environment));
        attributes.set("gitlab.environment.name", environment.name.cow());
        attributes.set("gitlab.environment.action", environment.action.cow());
        attributes.set("gitlab.environment.tier", environment.deployment_tier.cow());
    }
}

/// The tier is what the conventions call the environment; GitLab's own name stays beside it.
fn environment_name<'a>(environment: &Environment<'a>) -> Cow<'a, str> {
    match environment.deployment_tier.as_str() {
        "" | "other" => environment.name.cow(),
        "testing" => "test".into(),
        _ => environment.deployment_tier.cow(),
    }
}

/// An event on the run: the job has no span, because it never began.
fn not_run<'a>(build: &Build<'a>, at: Option<Nanos>) -> SpanEvent<'a> {
    let reason = if build.failure_reason.is_empty() {
        build.status.cow()
    } else {
        build.failure_reason.cow()
    };
    let mut attributes = Attributes::with_capacity(5);
    attributes.set(sc::STAGE, build.stage.cow());
    attributes.set(sc::CICD_PIPELINE_TASK_NAME, build.name.cow());
    attributes.set(sc::CICD_PIPELINE_TASK_RUN_ID, build.id.0.map(|it| it.to_string()));
    attributes.set("gitlab.job.stage", build.stage.cow());
    attributes.set("reason", reason);
    SpanEvent { time: at.unwrap_or(0), name: "job not run", attributes }
}

fn commit_title<'a>(event: &Event<'a>) -> Cow<'a, str> {
    let Some(commit) = event.commit.get() else { return Cow::default() };
    first_line(if commit.title.is_empty() { commit.message.cow() } else { commit.title.cow() })
}

fn outcome<'a>(status: &Text<'a>, reason: &Text<'a>) -> Outcome<'a> {
    match status.as_str() {
        "success" => Outcome::known(RunResult::Success, ""),
        "failed" => failure(reason),
        "canceled" => Outcome::known(RunResult::Cancellation, ""),
        "skipped" => Outcome::known(RunResult::Skip, ""),
        "" => Outcome::unknown("unknown".into()),
        _ => Outcome::unknown(status.cow()),
    }
}

/// A script that fails is the work's fault, everything else the CI system's.
///
/// <https://docs.gitlab.com/api/jobs/> lists the reasons.
fn failure<'a>(reason: &Text<'a>) -> Outcome<'a> {
    let text = reason.as_str();
    let result = match text {
        "" => return Outcome::known(RunResult::Failure, "_OTHER"),
        "script_failure" => RunResult::Failure,
        _ if text.contains("timeout")
            || text.starts_with("stuck_")
            || text.starts_with("no_updates_") =>
        {
            RunResult::Timeout
        }
        _ => RunResult::Error,
    };
    Outcome::known(result, reason.cow())
}
