//! A LighthouseJob: the run of a pipeline that Lighthouse began.
//!
//! <https://github.com/jenkins-x/lighthouse/blob/main/pkg/apis/lighthouse/v1alpha1/types.go>

use std::borrow::Cow;

use serde::Deserialize;

use super::{Found, Kind, Nothing, Of, at, origin::Origin};
use crate::{
    lenient::Text,
    mapping::{Outcome, mark_repaired},
    otlp::span::{Kind as SpanKind, Span},
    provider::kubernetes::address,
    semconv::{self as sc, RunResult},
    time::Interval,
};

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Spec<'a> {
    context: Text<'a>,
    agent: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Status<'a> {
    state: Text<'a>,
    start_time: Text<'a>,
    completion_time: Text<'a>,
    #[serde(rename = "reportURL")]
    report_url: Text<'a>,
}

/// How Lighthouse calls the end of a job or of a part of it; none while it runs.
pub(crate) fn outcome(state: &str) -> Option<Outcome<'static>> {
    Some(match state {
        "success" => Outcome::known(RunResult::Success, ""),
        "failure" => Outcome::known(RunResult::Failure, "_OTHER"),
        "aborted" => Outcome::known(RunResult::Cancellation, ""),
        "error" => Outcome::known(RunResult::Error, "error"),
        _ => return None,
    })
}

pub(super) fn spans<'a>(
    spec: &Spec<'a>,
    status: &Status<'a>,
    origin: &Origin<'a, '_>,
) -> Result<Found<'a>, Nothing> {
    let outcome = outcome(status.state.as_str()).ok_or(Nothing::NotFinal)?;
    let created = at(&origin.meta.creation_timestamp);
    let start = at(&status.start_time);
    let interval = Interval::repair(start.or(created), at(&status.completion_time), None, None);
    let interval = interval.ok_or(Nothing::Unreadable)?;
    let interval = Interval { repaired: interval.repaired || start.is_none(), ..interval };
    let name = origin.pipeline();
    let name =
        if name.is_empty() { sc::ACTION_RUN.into() } else { format!("{} {name}", sc::ACTION_RUN) };
    let times = (interval.start, interval.end);
    let id = origin.ids().job(origin.meta.name.as_str());
    let mut span = Span::new(id, origin.above_job(), name, SpanKind::Server, times);
    span.links = origin.links(Kind::LighthouseJob);
    span.attributes.set(sc::KIND, "run");
    span.attributes.set(sc::TRIGGER, origin.trigger());
    span.attributes.set(sc::CICD_PIPELINE_ACTION_NAME, sc::ACTION_RUN);
    outcome.apply(sc::CICD_PIPELINE_RESULT, &mut span);
    span.attributes.set("lighthouse.job.name", origin.meta.name.cow());
    span.attributes.set("lighthouse.job.context", spec.context.cow());
    span.attributes.set("lighthouse.job.agent", spec.agent.cow());
    span.attributes.set("lighthouse.job.state", status.state.cow());
    mark_repaired(&mut span, &interval);
    let mut found = Found::new(origin, Of::Lighthouse, vec![span]);
    let url = address(status.report_url.as_str()).map(Cow::into_owned);
    found.resource.set(sc::CICD_PIPELINE_RUN_URL_FULL, url);
    Ok(found)
}
