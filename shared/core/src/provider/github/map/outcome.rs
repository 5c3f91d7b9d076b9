//! How a run or a job ended.

use super::super::payload::Job;
use crate::{lenient::Text, mapping::Outcome, semconv::RunResult};

/// By the conclusion alone. A run over its time is `cancelled`, and nothing tells that from what a
/// person stopped.
///
/// <https://docs.github.com/en/rest/checks/runs#get-a-check-run>
pub(super) fn of<'a>(conclusion: &Text<'a>) -> Outcome<'a> {
    match conclusion.as_str() {
        "success" | "neutral" => Outcome::known(RunResult::Success, ""),
        "failure" => Outcome::known(RunResult::Failure, "_OTHER"),
        "cancelled" => Outcome::known(RunResult::Cancellation, ""),
        // Nothing ran yet: a person is asked to allow it.
        "skipped" | "action_required" => Outcome::known(RunResult::Skip, ""),
        // `stale`: GitHub gave up after two weeks.
        "timed_out" | "stale" => Outcome::known(RunResult::Timeout, conclusion.cow()),
        "startup_failure" => Outcome::known(RunResult::Error, conclusion.cow()),
        _ => Outcome::unknown(conclusion.cow()),
    }
}

/// Of a job, which tells more of a failure.
pub(super) fn of_job<'a>(job: &Job<'a>) -> Outcome<'a> {
    if job.conclusion.as_str() != "failure" {
        return of(&job.conclusion);
    }
    let mut steps = job.steps.items.iter().filter_map(|it| it.get());
    let no_runner = job.runner_id.0.is_none_or(|it| it == 0) && job.steps.items.is_empty();
    if steps.clone().any(|it| it.conclusion.as_str() == "failure") {
        Outcome::known(RunResult::Failure, "step_failure")
    } else if no_runner {
        Outcome::known(RunResult::Error, "no_runner")
    } else if steps.any(|it| it.conclusion.is_empty()) {
        Outcome::known(RunResult::Error, "runner_lost")
    } else {
        Outcome::known(RunResult::Failure, "_OTHER")
    }
}
