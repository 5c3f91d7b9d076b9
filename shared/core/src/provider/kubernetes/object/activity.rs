//! A PipelineActivity, of Jenkins X: its previews and promotions, which nothing else tells. The
//! stages and steps that it lists are those of TaskRuns in other words, and are left out.
//!
//! <https://github.com/jenkins-x/jx-api/blob/main/pkg/apis/jenkins.io/v1/types_pipeline.go>

use serde::Deserialize;

use super::{
    Found, Kind, Nothing, Of, at,
    origin::{Origin, first},
};
use crate::{
    id::{SpanId, decimal},
    lenient::{List, Object, Text},
    mapping::{Outcome, mark_repaired, public_url},
    otlp::span::{Kind as SpanKind, Span},
    semconv::{self as sc, RunResult},
    time::Interval,
};

/// The most stages, previews and promotions that are mapped.
const MAX_STEPS: usize = 1000;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Spec<'a> {
    status: Text<'a>,
    started_timestamp: Text<'a>,
    completed_timestamp: Text<'a>,
    steps: List<Object<Step<'a>>, MAX_STEPS>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Step<'a> {
    preview: Object<Part<'a>>,
    promote: Object<Part<'a>>,
}

/// A preview, a promotion, or a part of that.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Part<'a> {
    status: Text<'a>,
    started_timestamp: Text<'a>,
    completed_timestamp: Text<'a>,
    environment: Text<'a>,
    #[serde(rename = "applicationURL")]
    application_url: Text<'a>,
    #[serde(rename = "pullRequestURL")]
    pull_request_url: Text<'a>,
}

/// How it ended, once it did.
fn outcome(status: &str) -> Option<Outcome<'static>> {
    Some(match status {
        "Succeeded" => Outcome::known(RunResult::Success, ""),
        "Aborted" | "Cancelled" => Outcome::known(RunResult::Cancellation, ""),
        "NotExecuted" => Outcome::known(RunResult::Skip, ""),
        "Failed" => Outcome::known(RunResult::Failure, "_OTHER"),
        "Error" => Outcome::known(RunResult::Error, "error"),
        "TimedOut" => Outcome::known(RunResult::Timeout, "timeout"),
        _ => return None,
    })
}

pub(super) fn spans<'a>(spec: &Spec<'a>, origin: &Origin<'a, '_>) -> Result<Found<'a>, Nothing> {
    let outcome = outcome(spec.status.as_str()).ok_or(Nothing::NotFinal)?;
    let interval = interval(&spec.started_timestamp, &spec.completed_timestamp, None);
    let interval = interval.ok_or(Nothing::NotFinal)?;
    let (ids, uid) = (origin.ids(), origin.uid());
    let id = ids.object(uid);
    let steps = spec.steps.items.iter().filter_map(|it| it.get()).enumerate();
    let parts = steps.flat_map(|(at, step)| {
        let both = [("preview", step.preview.get()), ("promote", step.promote.get())];
        both.into_iter().filter_map(move |(word, part)| Some((at, word, part?)))
    });
    let parts: Vec<_> = parts
        .filter_map(|(at, word, it)| {
            let index = &mut [0; 20];
            let id_of = ids.activity(&[uid, word, decimal(at as u64, index)]);
            part(it, word, (id_of, id), &interval)
        })
        .collect();
    if parts.is_empty() {
        return Err(Nothing::NoSpan);
    }
    let name = origin.pipeline();
    let name = if name.is_empty() { "activity".into() } else { format!("activity {name}") };
    let times = (interval.start, interval.end);
    let mut span = Span::new(id, origin.job(), name, SpanKind::Internal, times);
    span.links = origin.links(Kind::PipelineActivity);
    span.attributes.set(sc::KIND, "activity");
    span.attributes.set("lighthouse.activity.name", origin.meta.name.cow());
    span.attributes.set("lighthouse.activity.status", spec.status.cow());
    outcome.apply("lighthouse.activity.result", &mut span);
    mark_repaired(&mut span, &interval);
    let spans = [span].into_iter().chain(parts).collect();
    Ok(Found::new(origin, Of::Lighthouse, spans))
}

fn interval(start: &Text<'_>, end: &Text<'_>, above: Option<&Interval>) -> Option<Interval> {
    Interval::repair(at(start), at(end), None, above.map(|it| it.end))
}

fn part<'a>(
    of: &Part<'a>,
    word: &'static str,
    (id, parent): (SpanId, SpanId),
    above: &Interval,
) -> Option<Span<'a>> {
    let outcome = outcome(of.status.as_str())?;
    let interval = interval(&of.started_timestamp, &of.completed_timestamp, Some(above))?;
    // A preview's environment is the pull request's own.
    let name = match first(&[&of.environment]).filter(|_| word == "promote") {
        Some(environment) => format!("{word} {environment}"),
        None => word.to_owned(),
    };
    let times = (interval.start, interval.end);
    let mut span = Span::new(id, Some(parent), name, SpanKind::Internal, times);
    span.attributes.set(sc::KIND, "step");
    span.attributes.set(sc::DEPLOYMENT_ENVIRONMENT_NAME, of.environment.cow());
    span.attributes.set("lighthouse.activity.status", of.status.cow());
    let url = |it: &Text<'a>| public_url(it.as_str()).map(std::borrow::Cow::into_owned);
    span.attributes.set("lighthouse.activity.application.url", url(&of.application_url));
    span.attributes.set("lighthouse.activity.pull_request.url", url(&of.pull_request_url));
    outcome.apply("lighthouse.activity.result", &mut span);
    mark_repaired(&mut span, &interval);
    Some(span)
}
