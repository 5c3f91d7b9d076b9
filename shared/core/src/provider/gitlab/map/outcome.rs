//! How a pipeline or a job ended.

use crate::{lenient::Text, mapping::Outcome, semconv::RunResult};

pub(super) fn of<'a>(status: &Text<'a>, reason: &Text<'a>) -> Outcome<'a> {
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
pub(super) fn failure<'a>(reason: &Text<'a>) -> Outcome<'a> {
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
