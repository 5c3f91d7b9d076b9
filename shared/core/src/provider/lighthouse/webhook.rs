//! A webhook of the code host, as Lighthouse passes it on: the event that jobs come from.

use std::borrow::Cow;

use super::{
    origin::{Origin, some},
    payload::{Delivered, PullRequest},
    pull_request,
};
use crate::{
    delivery::{Mapped, Unmappable},
    id::{SpanId, TraceId},
    otlp::{
        Telemetry,
        span::{Attributes, Group, Kind, Span, Trace},
    },
    provider::kubernetes::{
        ids::Key,
        object::{at, origin::refer},
    },
    semconv as sc,
    settings::Settings,
    time::Nanos,
};

/// What happened, as far as spans are made of it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Push,
    PullRequest,
    Comment,
    Review,
    Deployment,
}

impl What {
    fn of(event: &Delivered) -> Option<Self> {
        if event.deploymentstatus.get().is_some() {
            Some(Self::Deployment)
        } else if event.review.get().is_some() {
            Some(Self::Review)
        } else if event.comment.get().is_some() {
            Some(Self::Comment)
        } else if event.pullrequest.get().is_some() {
            Some(Self::PullRequest)
        } else {
            let pushed = !event.after.is_empty() && event.deleted.0 != Some(true);
            // A branch that is gone is at zero, and a tag brings no commit.
            let branch = !event.r#ref.as_str().starts_with("refs/tags/");
            let there = event.after.as_str().bytes().any(|it| it != b'0');
            (pushed && branch && there).then_some(Self::Push)
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::PullRequest => "pull_request",
            Self::Comment => "comment",
            Self::Review => "review",
            Self::Deployment => "deployment_status",
        }
    }
}

/// The commit that an event is about, and the branch, or `PR-1`, that its jobs name.
fn commit(what: What, event: &Delivered) -> Option<(Cow<'static, str>, Cow<'static, str>)> {
    let (sha, branch) = match what {
        What::Push => {
            let name = event.r#ref.as_str();
            let name = name.strip_prefix("refs/heads/").unwrap_or(name);
            (some(&event.after), Some(name.to_owned()))
        }
        What::Deployment => {
            let it = event.deployment.get()?;
            (some(&it.sha), Some(it.r#ref.as_str().to_owned()))
        }
        What::PullRequest | What::Comment | What::Review => {
            let it = event.pullrequest.get()?;
            (some(&it.sha), it.number.0.map(|it| format!("PR-{it}")))
        }
    };
    Some((sha?, branch.filter(|it| !it.is_empty())?.into()))
}

/// Whether an event brought its commit: jobs of the commit hang under it.
fn brings(what: What, event: &Delivered) -> bool {
    let action = event.action.as_str();
    what == What::Push
        || what == What::PullRequest
            && matches!(
                action,
                "opened"
                    | "open"
                    | "created"
                    | "create"
                    | "sync"
                    | "synced"
                    | "synchronize"
                    | "synchronized"
            )
}

/// When it happened. A push has no date of its own, and is as old as its delivery.
fn time(what: What, event: &Delivered, received: Option<Nanos>) -> Option<Nanos> {
    let request = event.pullrequest.get();
    let of_request = |it: &PullRequest| match event.action.as_str() {
        "opened" | "open" | "created" | "create" => at(&it.created).or_else(|| at(&it.updated)),
        _ => at(&it.updated),
    };
    let parts = [&event.deploymentstatus, &event.review, &event.comment];
    let part = parts.into_iter().find_map(|it| it.get());
    let told = match what {
        What::Push => None,
        What::PullRequest => request.and_then(of_request),
        _ => part.and_then(|it| at(&it.updated).or_else(|| at(&it.created))),
    };
    let committed = event.commit.get().and_then(|it| it.committer.get()).map(|it| &it.date);
    told.or(received).or_else(|| committed.and_then(at))
}

pub(super) fn map(
    event: &Delivered,
    by_commit: bool,
    received: Option<Nanos>,
    settings: &Settings,
) -> Result<Mapped<'static>, Unmappable> {
    let Some(what) = What::of(event) else {
        return Ok(Mapped::Ignored("this kind of event gives no span"));
    };
    let origin = Origin::of_webhook(settings, event);
    let time = time(what, event, received).ok_or(Unmappable::NoTime)?;
    let id = origin.event(what.as_str(), event);
    let commit = commit(what, event);
    let (trace, span, parent) = place(what, event, &origin, &id, commit.as_ref(), by_commit);

    let name = match event.action.as_str() {
        "" => what.as_str().to_owned(),
        action => format!("{} {action}", what.as_str()),
    };
    let kind = if parent.is_none() { Kind::Server } else { Kind::Internal };
    let mut span = Span::new(span, parent, name, kind, (time, time));
    span.attributes.set(sc::KIND, "event");
    span.attributes.set(sc::TRIGGER, what.as_str());
    span.attributes.set("lighthouse.event.id", id);
    span.attributes.set("lighthouse.event.action", event.action.cow());
    let environment = event.deploymentstatus.get().map(|it| it.environment.cow());
    span.attributes.set(sc::DEPLOYMENT_ENVIRONMENT_NAME, environment);

    let resource = resource(event, &origin, commit);
    let trace = Trace { id: trace, groups: vec![Group { resource, spans: vec![span] }] };
    let mut traces = vec![trace];
    if what == What::PullRequest {
        traces.extend(pull_request::map(event, &origin, time));
    }
    let project = origin.project();
    Ok(Mapped::Telemetry(vec![Telemetry { project, traces, ..Telemetry::default() }]))
}

/// The trace, the span and the span above it. By commit, what brought it is at the top and what
/// else is known of it below; what knows of no commit is a trace of its own.
fn place(
    what: What,
    event: &Delivered,
    origin: &Origin<'_>,
    id: &str,
    commit: Option<&(Cow<'static, str>, Cow<'static, str>)>,
    by_commit: bool,
) -> (TraceId, SpanId, Option<SpanId>) {
    let ids = origin.ids();
    let Some((sha, branch)) = commit.filter(|_| by_commit) else {
        return (ids.trace(Key::Event(id)), ids.event(id), None);
    };
    let repository = origin.key();
    let trace = ids.trace(Key::Commit(&repository, sha));
    let top = ids.commit_event(&repository, sha, branch);
    if brings(what, event) { (trace, top, None) } else { (trace, ids.event(id), Some(top)) }
}

fn resource(
    event: &Delivered,
    origin: &Origin<'_>,
    commit: Option<(Cow<'static, str>, Cow<'static, str>)>,
) -> Attributes<'static> {
    let mut resource = origin.resource(&crate::lenient::Text::default());
    let request = event.pullrequest.get();
    let number = request.and_then(|it| it.number.0);
    let number = number.or_else(|| event.issue.get().and_then(|it| it.number.0));
    let base = request.and_then(|it| it.base.get()).and_then(|it| some(&it.sha));
    let (sha, branch) = commit.unzip();
    let branch = request.map(|it| it.source.cow()).or(branch).unwrap_or_default();
    refer(&mut resource, branch, sha, number.map(|it| it.to_string().into()), base);
    let target = request.map(|it| it.target.cow()).filter(|it| !it.is_empty());
    resource.set(sc::VCS_REF_BASE_TYPE, target.as_ref().map(|_| "branch"));
    resource.set(sc::VCS_REF_BASE_NAME, target);
    resource
}
