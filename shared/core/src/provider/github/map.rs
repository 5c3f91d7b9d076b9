//! Events to spans.

mod job;
mod outcome;
mod run;
mod step;
mod workflow;

use super::{ids, payload::Event};
use crate::{
    delivery::{Delivery, Mapped, Unmappable},
    host::Host,
    lenient::Text,
    mapping::{Names, Repository, read},
    otlp::{
        Telemetry,
        span::{Attributes, Group, Kind, Span, Trace},
    },
    project::Project,
    semconv as sc,
    settings::Settings,
    time::{self, Nanos, SECOND},
};

/// Maps a verified delivery. What it is, its shape tells: the header that names the event is not
/// signed. Whatever GitHub may send is acknowledged, as it shows every other answer as a failure.
pub(super) fn map<'a>(
    delivery: &Delivery<'a>,
    settings: &Settings,
) -> Result<Mapped<'a>, Unmappable> {
    let event: Event<'a> = read(delivery.body)?;
    if event.workflow_job.present {
        return job::map(event, settings);
    }
    if event.workflow_run.present && event.workflow.present && !of_another_event(&event) {
        return workflow::map(event, settings);
    }
    if !event.zen.is_empty() {
        return Ok(ping(&event, settings));
    }
    let known = [
        &event.action,
        &event.sender,
        &event.organization,
        &event.enterprise,
        &event.installation,
        &event.check_run,
        &event.deployment_status,
    ];
    let known = known.iter().any(|it| it.is_some()) || event.repository.get().is_some();
    if known || event.workflow_run.present {
        return Ok(Mapped::Ignored("this kind of event gives no span"));
    }
    Err(Unmappable::UnknownShape)
}

/// Deployments, their reviews and check runs hold a run, which is not finished.
fn of_another_event(event: &Event<'_>) -> bool {
    let others = [
        &event.deployment_status,
        &event.deployment_review,
        &event.check_run,
        &event.environment,
        &event.workflow_job_run,
    ];
    event.deployment.get().is_some() || others.iter().any(|it| it.is_some())
}

/// Whether a job or a run is finished. The action does not tell: a run that waits for an approval is
/// completed when it is requested.
fn is_finished(status: &Text<'_>, conclusion: &Text<'_>) -> bool {
    matches!(status.as_str(), "completed" | "") && !conclusion.is_empty()
}

/// The year 2000, in nanoseconds since the epoch.
const YEAR_2000: Nanos = 946_684_800 * SECOND;

/// A date. GitHub is younger than 2000: an earlier one is a zero that somebody wrote as a date.
fn at(text: &Text<'_>) -> Option<Nanos> {
    time::parse(text.as_str()).filter(|it| *it >= YEAR_2000)
}

/// A ping becomes a small trace of its own, so that a new webhook shows up. Its time is that of the
/// webhook's last change, as a ping has none.
fn ping<'a>(event: &Event<'a>, settings: &Settings) -> Mapped<'a> {
    let Some(hook) = event.hook.get() else {
        return Mapped::Ignored("the ping names no webhook");
    };
    let time = at(&hook.updated_at).or_else(|| at(&hook.created_at));
    let (Some(id), Some(time)) = (event.hook_id.0.or(hook.id.0), time) else {
        return Mapped::Ignored("the ping names no webhook");
    };
    let repository = event.repository.get();
    let parsed = repository.and_then(|it| Repository::parse(it.html_url.as_str()));
    let host = parsed.as_ref().and_then(|it| it.host.clone());
    let host: Host = host.unwrap_or_else(|| settings.github.host.clone());
    let (trace, span) = ids::ping(&host, id);

    let mut span = Span::new(span, None, "ping", Kind::Internal, (time, time));
    span.attributes.set(sc::KIND, "ping");
    span.attributes.set("github.hook.id", id.to_string());
    span.attributes.set("github.hook.type", hook.r#type.cow());
    let (name, url) = parsed.map(|it| (it.name, it.url)).unwrap_or_default();
    let path = repository.map(|it| it.full_name.cow()).unwrap_or_default();
    let names = Names { project: &path, repository: &name, pipeline: "ping" };
    let mut resource = Attributes::default();
    resource.set(sc::SERVICE_NAME, settings.github.service_name.render(names));
    resource.set(sc::PROVIDER, super::ROOM.name);
    resource.set(sc::VCS_PROVIDER_NAME, super::ROOM.name);
    resource.set(sc::VCS_REPOSITORY_URL_FULL, url);
    resource.set(sc::VCS_REPOSITORY_NAME, name);
    let trace = Trace { id: trace, groups: vec![Group { resource, spans: vec![span] }] };
    let project = Project::new(host.as_str(), path);
    Mapped::Telemetry(vec![Telemetry { project, traces: vec![trace], ..Telemetry::default() }])
}
