//! What is told of one job.

use std::borrow::Cow;

use super::{
    super::payload::{Build, Environment},
    outcome, people,
    run::Run,
};
use crate::{
    otlp::span::{Event, Span},
    semconv as sc,
    task::Task,
    time::Nanos,
};

/// What names a job.
pub(super) fn task<'a>(build: &Build<'a>) -> Task<'a> {
    Task {
        name: if build.name.is_empty() { "job".into() } else { build.name.cow() },
        run_id: build.id.0.map(|it| it.to_string()).unwrap_or_default().into(),
        stage: build.stage.cow(),
    }
}

pub(super) fn describe<'a>(build: &Build<'a>, run: &Run<'a, '_>, span: &mut Span<'a>) {
    let id = build.id.0.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
    let url = run.page(&format!("jobs/{id}"));
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
    outcome::of(&build.status, &build.failure_reason)
        .apply(sc::CICD_PIPELINE_TASK_RUN_RESULT, span);
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
    people::actor(build.user.get(), run.settings, span);
}

/// The tier is what the conventions call the environment; GitLab's own name stays beside it.
fn environment_name<'a>(environment: &Environment<'a>) -> Cow<'a, str> {
    match environment.deployment_tier.as_str() {
        "" | "other" => environment.name.cow(),
        "testing" => "test".into(),
        _ => environment.deployment_tier.cow(),
    }
}

/// An event on the run: the job has no span, because it never began. One that was skipped or waits
/// for a person may still begin, under the same id, and then has a span.
pub(super) fn not_run<'a>(build: &Build<'a>, at: Option<Nanos>) -> Event<'a> {
    let (status, reason) = (build.status.as_str(), &build.failure_reason);
    let result = matches!(status, "failed" | "canceled" | "skipped")
        .then(|| outcome::of(&build.status, reason).result);
    let failed = status == "failed" && !reason.is_empty();
    let reason = if failed { reason.cow() } else { build.status.cow() };
    task(build).not_run(at.unwrap_or(0), result, reason)
}
