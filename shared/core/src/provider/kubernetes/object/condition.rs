//! How a PipelineRun, a TaskRun or a CustomRun ended: its condition `Succeeded`.
//!
//! <https://tekton.dev/docs/pipelines/pipelineruns/#monitoring-execution-status>

use std::borrow::Cow;

use serde::Deserialize;

use crate::{
    lenient::{List, Object, Text},
    mapping::Outcome,
    semconv::RunResult,
    time::{Interval, Nanos},
};

use super::at;

/// The most conditions of an object that are read; none has more than a dozen.
const MAX_CONDITIONS: usize = 64;

pub(super) type Conditions<'a> = List<Object<Condition<'a>>, MAX_CONDITIONS>;

/// One of `status.conditions`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Condition<'a> {
    r#type: Text<'a>,
    pub(super) status: Text<'a>,
    pub(super) reason: Text<'a>,
    pub(super) last_transition_time: Text<'a>,
}

impl<'a, const MAX: usize> List<Object<Condition<'a>>, MAX> {
    /// The condition of that type.
    pub(super) fn named(&self, name: &str) -> Option<&Condition<'a>> {
        self.items.iter().filter_map(|it| it.get()).find(|it| it.r#type.as_str() == name)
    }
}

/// What PipelineRuns, TaskRuns and CustomRuns say of their execution alike.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Execution<'a> {
    start_time: Text<'a>,
    completion_time: Text<'a>,
    conditions: Conditions<'a>,
}

impl<'a> Execution<'a> {
    /// The condition, once it is final.
    pub(super) fn end(&self) -> Option<&Condition<'a>> {
        let found = self.conditions.named("Succeeded")?;
        matches!(found.status.as_str(), "True" | "False").then_some(found)
    }

    pub(super) fn started(&self) -> Option<Nanos> {
        at(&self.start_time)
    }

    /// Its times, from the earliest try on. A start that is missing is the object's creation: what
    /// was refused before it began has none.
    pub(super) fn interval(
        &self,
        earlier: Option<Nanos>,
        created: Option<Nanos>,
    ) -> Option<Interval> {
        let changed = self.end().and_then(|it| at(&it.last_transition_time));
        let start = earlier.into_iter().chain(self.started()).min();
        let found = Interval::repair(start.or(created), at(&self.completion_time), None, changed)?;
        Some(Interval { repaired: found.repaired || start.is_none(), ..found })
    }
}

/// As Pipelines-as-Code reads the reasons; `failed` is what to call a failure of the work itself.
///
/// <https://tekton.dev/docs/pipelines/taskruns/#monitoring-execution-status>
pub(super) fn outcome<'a>(end: &Condition<'a>, failed: impl Into<Cow<'a, str>>) -> Outcome<'a> {
    if end.status.as_str() == "True" {
        return Outcome::known(RunResult::Success, "");
    }
    let reason = end.reason.as_str();
    match reason {
        "Failed" | "" => Outcome::known(RunResult::Failure, failed),
        "Cancelled"
        | "CancelledRunningFinally"
        | "StoppedRunningFinally"
        | "PipelineRunCancelled"
        | "PipelineRunStopped"
        | "TaskRunCancelled"
        | "CustomRunCancelled" => Outcome::known(RunResult::Cancellation, ""),
        "PipelineRunTimeout" | "TaskRunTimeout" | "CustomRunTimedOut" => {
            Outcome::known(RunResult::Timeout, end.reason.cow())
        }
        _ => Outcome::known(RunResult::Error, end.reason.cow()),
    }
}
