//! The event of a job: its span, the time that it waited, and its steps.

use std::borrow::Cow;

use super::{
    super::{
        ids::JobKey,
        payload::{Event, Job, Step},
    },
    at, is_finished, outcome,
    run::{Facts, Run},
    step::{self, Steps},
};
use crate::{
    delivery::{Mapped, Unmappable},
    lenient::Text,
    mapping::{mark_repaired, public_url},
    otlp::span::{Attributes, Group, Kind, Link, Span},
    semconv as sc,
    settings::Settings,
    task::Task,
    time::{self, Interval, Nanos},
};

pub(super) fn map<'a>(event: Event<'a>, settings: &Settings) -> Result<Mapped<'a>, Unmappable> {
    // Seen of a queue service that lost its own record.
    let Some(this) = event.workflow_job.object else {
        return Ok(Mapped::Ignored("the job is null"));
    };
    if !is_finished(&this.status, &this.conclusion) {
        return Ok(Mapped::Ignored("the job is not finished"));
    }
    if is_foreign(&this) {
        return Ok(Mapped::Ignored("the check is another app's and no job"));
    }
    let facts = Facts {
        id: this.run_id.0.ok_or(Unmappable::NoRun)?,
        attempt: this.run_attempt.0,
        name: this.workflow_name.cow(),
        branch: this.head_branch.cow(),
        branch_type: None,
        sha: this.head_sha.cow(),
        change: None,
    };
    let run = Run::new(event.repository.get(), facts, settings);
    let id = this.id.0.ok_or(Unmappable::NoRun)?;
    let times = Times::of(&this).ok_or(Unmappable::NoTime)?;
    let key = JobKey { id, name: this.name.as_str() };

    let own = |spans| Group { resource: run.resource.clone(), spans };
    if run.attempt() > 1 && is_carried_over(&this) {
        return Ok(run.finish(vec![own(vec![marker(&this, key, &times, &run)])]));
    }
    let mut spans = vec![span(&this, key, &times, &run)];
    if let Some(deployment) = event.deployment.get() {
        let attributes = &mut spans[0].attributes;
        attributes.set(sc::DEPLOYMENT_ENVIRONMENT_NAME, deployment.environment.cow());
        attributes.set("github.deployment.id", deployment.id.0.map(|it| it.to_string()));
    }
    if run.step_spans() {
        let parts = this.steps.items.iter().filter_map(|it| it.get());
        let mut steps = Steps::of(parts, key, &run, times.interval);
        steps.spans.iter_mut().for_each(|it| it.attributes.set(sc::JOB, task_name(&this)));
        spans[0].events.append(&mut steps.not_run);
        let dropped = Some(this.steps.dropped as u64).filter(|it| *it > 0);
        spans[0].attributes.set("github.job.dropped_steps", dropped);
        spans.extend(steps.spans);
    }
    let mut groups = vec![own(queue(&this, key, &times, &run).into_iter().collect())];
    match worker(&this, &run) {
        Some(resource) => groups.push(Group { resource, spans }),
        None => groups[0].spans.extend(spans),
    }
    groups.retain(|it| !it.spans.is_empty());
    Ok(run.finish(groups))
}

/// A check run of another GitHub App that comes as a job: no runner, no labels and no steps, which a
/// job lacks only when it was skipped, or cancelled before anything was known of it.
///
/// <https://github.com/actions/actions-runner-controller/issues/2118>
fn is_foreign(job: &Job<'_>) -> bool {
    let bare =
        job.runner_id.0.is_none() && job.labels.items.is_empty() && job.steps.items.is_empty();
    bare && match job.conclusion.as_str() {
        "skipped" => false,
        "cancelled" => job.workflow_name.is_empty(),
        _ => true,
    }
}

/// The runner that took the job; 0 stands for none.
fn runner(job: &Job<'_>) -> Option<u64> {
    job.runner_id.0.filter(|it| *it > 0)
}

/// Whether anything of the job was executed.
fn ran(job: &Job<'_>) -> bool {
    runner(job).is_some() || !job.steps.items.is_empty()
}

/// Whether it ended without anything of it being executed.
fn never_ran(job: &Job<'_>) -> bool {
    match job.conclusion.as_str() {
        "skipped" => true,
        // It was given up, by a person or for want of a runner.
        "cancelled" | "failure" => !ran(job),
        _ => false,
    }
}

/// A job that ended before its record was made ended in an earlier attempt: when failed jobs are run
/// again GitHub makes new records of all others, with the old times.
///
/// <https://github.com/actions/actions-runner-controller/issues/4315>
fn is_carried_over(job: &Job<'_>) -> bool {
    let ended = at(&job.completed_at).zip(at(&job.created_at));
    ran(job) && job.conclusion.as_str() != "skipped" && ended.is_some_and(|(end, made)| end < made)
}

/// When a job began and ended, and what it waited for before.
struct Times {
    created: Option<Nanos>,
    interval: Interval,
    /// From the record's creation until the job began, or was given up.
    waited: Option<(Nanos, Nanos)>,
}

impl Times {
    /// None when not one date can be read.
    fn of(job: &Job<'_>) -> Option<Self> {
        let created = at(&job.created_at);
        let (started, completed) = (at(&job.started_at), at(&job.completed_at));
        let moment = |at: Nanos, repaired| Interval { start: at, end: at, repaired };
        if job.conclusion.as_str() == "skipped" {
            let interval = moment(created.or(completed).or(started)?, false);
            return Some(Self { created, interval, waited: None });
        }
        let (ran, never_ran) = (ran(job), never_ran(job));
        let interval = match started {
            Some(start) if !never_ran => {
                let steps = job.steps.items.iter().filter_map(|it| it.get());
                let last = steps.filter_map(|it| at(&it.completed_at)).max();
                Interval::repair(Some(start), completed, None, last)?
            }
            // Nothing is known of when it began.
            _ => moment(
                completed.or(started).or(created)?,
                completed.is_none() || started.is_none() && !never_ran,
            ),
        };
        let waited = created.map(|it| (it, interval.start)).filter(|(from, to)| from < to);
        // A job that ran, at a time that is not told, did not wait until its end.
        let waited = waited.filter(|_| started.is_some() || !ran);
        Some(Self { created, interval, waited })
    }
}

/// The job's name, unless that holds something of this run: matrix values may.
fn name<'a>(job: &Job<'a>, run: &Run<'a, '_>) -> Option<Cow<'a, str>> {
    let name = job.name.cow();
    (!name.is_empty() && !run.varies(&name)).then_some(name)
}

/// `{prefix} {name}`, or the prefix alone.
fn prefixed<'a>(prefix: &'static str, name: Option<Cow<'a, str>>) -> Cow<'a, str> {
    name.map_or(prefix.into(), |name| format!("{prefix} {name}").into())
}

/// The job among others of its workflow: with the values of its matrix.
fn task_name<'a>(job: &Job<'a>) -> Cow<'a, str> {
    if job.name.is_empty() { "job".into() } else { job.name.cow() }
}

fn task<'a>(job: &Job<'a>, key: JobKey<'_>) -> Task<'a> {
    Task { name: task_name(job), run_id: key.id.to_string().into(), stage: Cow::default() }
}

fn span<'a>(job: &Job<'a>, key: JobKey<'_>, times: &Times, run: &Run<'a, '_>) -> Span<'a> {
    let ids = run.ids();
    let Interval { start, end, .. } = times.interval;
    let span_name = name(job, run).unwrap_or("job".into());
    let mut span =
        Span::new(ids.job(key), Some(ids.run()), span_name, Kind::Internal, (start, end));
    span.attributes.set(sc::KIND, "job");
    span.attributes.set(sc::ATTEMPT, run.attempt());
    span.attributes.set(sc::CICD_PIPELINE_TASK_NAME, task_name(job));
    span.attributes.set(sc::CICD_PIPELINE_TASK_RUN_ID, key.id.to_string());
    span.attributes.set(sc::CICD_PIPELINE_TASK_RUN_URL_FULL, url(job, key, run));
    let outcome = outcome::of_job(job);
    if never_ran(job) {
        let reason = outcome.error.clone().unwrap_or_else(|| job.conclusion.cow());
        span.events.push(task(job, key).not_run(start, Some(outcome.result.clone()), reason));
    }
    outcome.apply(sc::CICD_PIPELINE_TASK_RUN_RESULT, &mut span);
    span.attributes.set("github.job.conclusion", job.conclusion.cow());
    span.attributes.set("github.job.queued_duration", times.waited.map(time::length));
    if let Some(failed) = failed_step(job) {
        span.attributes.set("github.job.failed_step.name", failed.name.cow());
        span.attributes.set("github.job.failed_step.number", failed.number.0);
    }
    mark_repaired(&mut span, &times.interval);
    span
}

fn failed_step<'j, 'a>(job: &'j Job<'a>) -> Option<&'j Step<'a>> {
    let mut steps = job.steps.items.iter().filter_map(|it| it.get());
    steps.find(|it| it.conclusion.as_str() == step::FAILURE)
}

/// GitHub's own address of the job, whose form changed over the years.
fn url<'a>(job: &Job<'a>, key: JobKey<'_>, run: &Run<'a, '_>) -> Cow<'a, str> {
    let given = match job.html_url.cow() {
        Cow::Borrowed(url) => public_url(url),
        Cow::Owned(url) => public_url(&url).map(|it| it.into_owned().into()),
    };
    given.unwrap_or_else(|| run.job_url(key.id).into())
}

/// The time that the job waited for a runner, and before that for an approval: nothing tells them
/// apart.
fn queue<'a>(job: &Job<'a>, key: JobKey<'_>, times: &Times, run: &Run<'a, '_>) -> Option<Span<'a>> {
    let ids = run.ids();
    let name = prefixed("queue", name(job, run));
    let link = Link { trace: ids.trace(), span: ids.job(key) };
    Some(task(job, key).queue((ids.queue(key), Some(ids.run())), name, times.waited?, link))
}

/// A job that was not run again. It is no task: its time and its failure counted when it ran.
fn marker<'a>(job: &Job<'a>, key: JobKey<'_>, times: &Times, run: &Run<'a, '_>) -> Span<'a> {
    let ids = run.ids();
    let name = prefixed("reused", name(job, run));
    let at = times.created.unwrap_or(times.interval.end);
    let mut span = Span::new(ids.job(key), Some(ids.run()), name, Kind::Internal, (at, at));
    // Where it ran is not told: the earlier attempt's run is the nearest that is known.
    span.links.extend(run.previous());
    let attributes = &mut span.attributes;
    attributes.set(sc::KIND, "marker");
    attributes.set(sc::JOB, task_name(job));
    attributes.set("github.job.reused", true);
    attributes.set("github.job.id", key.id.to_string());
    attributes.set("github.job.conclusion", job.conclusion.cow());
    attributes.set("github.job.original.started_at", job.started_at.cow());
    attributes.set("github.job.original.completed_at", job.completed_at.cow());
    span
}

/// The runner as a resource of its own; none where no runner took the job.
fn worker<'a>(job: &Job<'a>, run: &Run<'a, '_>) -> Option<Attributes<'a>> {
    let id = runner(job)?;
    let labels: Vec<_> =
        job.labels.items.iter().map(Text::cow).filter(|it| !it.is_empty()).collect();
    let mut resource = run.resource.clone();
    resource.set(sc::CICD_WORKER_ID, id.to_string());
    resource.set(sc::CICD_WORKER_NAME, job.runner_name.cow());
    resource.set("github.runner.group.id", job.runner_group_id.0.map(|it| it.to_string()));
    resource.set("github.runner.group.name", job.runner_group_name.cow());
    resource.set("github.runner.type", runner_type(job, &labels));
    // Those that were asked for: what the runner has is not told.
    resource.set("github.runner.labels", labels);
    Some(resource)
}

/// Concluded, as no field tells: only GitHub's own runners are in the group of this name.
fn runner_type(job: &Job<'_>, labels: &[Cow<'_, str>]) -> Option<&'static str> {
    let asked = labels.iter().any(|it| it.eq_ignore_ascii_case("self-hosted"));
    match job.runner_group_name.as_str() {
        _ if asked => Some("self-hosted"),
        "" => None,
        "GitHub Actions" => Some("github-hosted"),
        _ => Some("self-hosted"),
    }
}
