//! The event of a run: its span.

use std::borrow::Cow;

use super::{
    super::payload::{Event, Workflow, WorkflowRun},
    at, is_finished, outcome,
    run::{Change, Facts, Run},
};
use crate::{
    delivery::{Mapped, Unmappable},
    lenient::Text,
    mapping::{first_line, mark_repaired, mentions},
    otlp::span::{Group, Kind, Span},
    semconv as sc,
    settings::Settings,
    time::Interval,
};

pub(super) fn map<'a>(event: Event<'a>, settings: &Settings) -> Result<Mapped<'a>, Unmappable> {
    let Some(this) = event.workflow_run.object else {
        return Ok(Mapped::Ignored("the run is null"));
    };
    if !is_finished(&this.status, &this.conclusion) {
        return Ok(Mapped::Ignored("the run is not finished"));
    }
    let workflow = event.workflow.object.unwrap_or_default();
    let facts = Facts {
        id: this.id.0.ok_or(Unmappable::NoRun)?,
        attempt: this.run_attempt.0,
        name: name(&this, &workflow),
        branch: this.head_branch.cow(),
        branch_type: branch_type(&this),
        sha: this.head_sha.cow(),
        change: {
            let requests: Vec<_> =
                this.pull_requests.items.iter().filter_map(|it| it.get()).collect();
            Change::only(&requests)
        },
    };
    let run = Run::new(event.repository.get(), facts, settings);

    // What an attempt after the first was created at is the first one's time.
    let created_at = at(&this.created_at);
    let first = created_at.filter(|_| run.attempt() == 1);
    let start = at(&this.run_started_at).or(first);
    let interval = Interval::repair(start, at(&this.updated_at), None, created_at)
        .ok_or(Unmappable::NoTime)?;
    let times = (interval.start, interval.end);
    let span_name = span_name(&this, &workflow, &run);
    let mut span = Span::new(run.ids().run(), None, span_name, Kind::Server, times);
    span.links.extend(run.previous());
    span.attributes.set(sc::KIND, "run");
    span.attributes.set(sc::ATTEMPT, run.attempt());
    span.attributes.set(sc::TRIGGER, this.event.cow());
    span.attributes.set(sc::CICD_PIPELINE_ACTION_NAME, sc::ACTION_RUN);
    outcome::of(&this.conclusion).apply(sc::CICD_PIPELINE_RESULT, &mut span);
    describe(&this, &workflow, &run, &mut span);
    mark_repaired(&mut span, &interval);
    let resource = run.resource.clone();
    Ok(run.finish(vec![Group { resource, spans: vec![span] }]))
}

fn describe<'a>(
    this: &WorkflowRun<'a>,
    workflow: &Workflow<'a>,
    run: &Run<'a, '_>,
    span: &mut Span<'a>,
) {
    let id = |it: Option<u64>| it.map(|it| it.to_string());
    let attributes = &mut span.attributes;
    attributes.set("github.run.number", this.run_number.0);
    attributes.set("github.run.event", this.event.cow());
    attributes.set("github.run.conclusion", this.conclusion.cow());
    attributes.set("github.run.display_title", first_line(this.display_title.cow()));
    attributes.set("github.workflow.id", id(this.workflow_id.0));
    attributes.set("github.workflow.path", path(this, workflow));
    attributes.set("github.check_suite.id", id(this.check_suite_id.0));
    let referenced = this.referenced_workflows.items.iter().filter_map(|it| it.get());
    let referenced: Vec<_> =
        referenced.map(|it| it.path.cow()).filter(|it| !it.is_empty()).collect();
    attributes.set("github.referenced_workflows", referenced);
    let head = this.head_repository.get().map(|it| &it.full_name);
    let fork = head.filter(|it| !run.is_of(it.as_str()));
    attributes.set("github.head_repository", fork.map(Text::cow));
}

/// The name that the file gives itself. A run's own name is its title where the file says so
/// (`run-name`), and no name of a pipeline.
///
/// <https://github.com/actions/runner/issues/4141>
fn name<'a>(this: &WorkflowRun<'a>, workflow: &Workflow<'a>) -> Cow<'a, str> {
    if !workflow.name.is_empty() {
        return workflow.name.cow();
    }
    if !this.name.is_empty() && this.name != this.display_title {
        return this.name.cow();
    }
    match path(this, workflow) {
        Cow::Borrowed(path) => path.rsplit('/').next().unwrap_or_default().into(),
        Cow::Owned(path) => path.rsplit('/').next().unwrap_or_default().to_owned().into(),
    }
}

/// The file, without the reference that it was read at.
fn path<'a>(this: &WorkflowRun<'a>, workflow: &Workflow<'a>) -> Cow<'a, str> {
    let path = if workflow.path.is_empty() { &this.path } else { &workflow.path };
    let cut = |path: &str| path.split('@').next().unwrap_or_default().len();
    match path.cow() {
        Cow::Borrowed(path) => path[..cut(path)].into(),
        Cow::Owned(path) => path[..cut(&path)].to_owned().into(),
    }
}

/// Whether the reference is a branch or a tag, as far as the event tells: a push of either gives
/// its name only.
fn branch_type(this: &WorkflowRun<'_>) -> Option<&'static str> {
    let tag = format!("refs/tags/{}", this.head_branch.as_str());
    let mut referenced = this.referenced_workflows.items.iter().filter_map(|it| it.get());
    match this.event.as_str() {
        "release" => Some("tag"),
        "merge_group" | "schedule" => Some("branch"),
        event if event.starts_with("pull_request") => Some("branch"),
        _ if referenced.any(|it| it.r#ref.as_str() == tag) => Some("tag"),
        _ => None,
    }
}

/// A name that holds something of this run would make one span name a run.
fn span_name<'a>(
    this: &WorkflowRun<'a>,
    workflow: &Workflow<'a>,
    run: &Run<'a, '_>,
) -> Cow<'a, str> {
    let name = run.resource.text(sc::CICD_PIPELINE_NAME);
    let number = this.run_number.0.map(|it| it.to_string()).unwrap_or_default();
    let title = this.display_title.as_str();
    // Where nobody gave a title it is the workflow's name.
    let titled = title != name && mentions(name, title);
    let nameless = workflow.name.is_empty() && this.event.as_str() == "dynamic";
    if name.is_empty() || nameless || titled || mentions(name, &number) || run.varies(name) {
        return sc::ACTION_RUN.into();
    }
    format!("{} {name}", sc::ACTION_RUN).into()
}
