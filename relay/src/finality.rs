//! When an object says all that it will say.

use jiff::Timestamp;
use serde_json::Value;

use crate::kind::Kind;

/// Whether its spans can be made: what comes later changes none of them. It is sent once, so this
/// must not be true before spanhook makes spans of it.
#[must_use]
pub fn is_final(kind: Kind, object: &Value) -> bool {
    let status = &object["status"];
    match kind {
        Kind::LighthouseJob => {
            let ended = ["success", "failure", "aborted", "error"];
            time(&status["completionTime"]).is_some() && is_one_of(&status["state"], &ended)
        }
        // Not by completionTime: whose controller runs a CustomRun may leave it out.
        Kind::PipelineRun | Kind::TaskRun | Kind::CustomRun => end(status).is_some(),
        Kind::PipelineActivity => {
            let spec = &object["spec"];
            let ended =
                ["Succeeded", "Failed", "Error", "Aborted", "Cancelled", "NotExecuted", "TimedOut"];
            let times = ["startedTimestamp", "completedTimestamp"];
            is_one_of(&spec["status"], &ended) && times.iter().any(|it| time(&spec[it]).is_some())
        }
        // One that waits for an image may do so until it is deleted. One that was given up may have
        // containers that still run.
        Kind::Pod => {
            is_one_of(&status["phase"], &["Succeeded", "Failed"])
                && !containers(status).any(|it| it["state"]["running"].is_object())
        }
        Kind::Event => true,
    }
}

fn is_one_of(value: &Value, words: &[&str]) -> bool {
    value.as_str().is_some_and(|it| words.contains(&it))
}

/// The condition that tells how a run ended.
/// <https://tekton.dev/docs/pipelines/pipelineruns/#monitoring-execution-status>
fn end(status: &Value) -> Option<&Value> {
    let mut conditions = status["conditions"].as_array()?.iter();
    let found = conditions.find(|it| it["type"] == "Succeeded")?;
    matches!(found["status"].as_str(), Some("True" | "False")).then_some(found)
}

/// When it ended, as well as it says.
#[must_use]
pub fn finished_at(kind: Kind, object: &Value) -> Option<Timestamp> {
    let status = &object["status"];
    match kind {
        Kind::PipelineActivity => time(&object["spec"]["completedTimestamp"]),
        Kind::Pod => pod_finished_at(status),
        Kind::Event => event_at(object),
        _ => time(&status["completionTime"]).or_else(|| time(&end(status)?["lastTransitionTime"])),
    }
}

fn list<'v>(status: &'v Value, name: &str) -> &'v [Value] {
    status[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn containers(status: &Value) -> impl Iterator<Item = &Value> {
    list(status, "initContainerStatuses").iter().chain(list(status, "containerStatuses"))
}

fn pod_finished_at(status: &Value) -> Option<Timestamp> {
    let ends = containers(status).map(|it| time(&it["state"]["terminated"]["finishedAt"]));
    // An evicted Pod has no containers: its conditions say when it was given up.
    let changes = list(status, "conditions").iter().map(|it| time(&it["lastTransitionTime"]));
    ends.flatten().max().or_else(|| changes.flatten().max()).or_else(|| time(&status["startTime"]))
}

/// The newer of Kubernetes' two APIs of Events has only `eventTime`, the older only the others.
fn event_at(event: &Value) -> Option<Timestamp> {
    let repeated = time(&event["series"]["lastObservedTime"]);
    let once = ["eventTime", "lastTimestamp", "firstTimestamp"].map(|it| time(&event[it]));
    let of_object = time(&event["metadata"]["creationTimestamp"]);
    repeated.or_else(|| once.into_iter().flatten().next()).or(of_object)
}

/// Go writes a time that was never set as the year 1.
fn time(value: &Value) -> Option<Timestamp> {
    let time: Timestamp = value.as_str()?.parse().ok()?;
    (time > Timestamp::UNIX_EPOCH).then_some(time)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_final_once_it_can_not_change_its_spans() {
        let at = "2026-11-21T02:27:52Z";
        let run = |status: &str, at: Value| {
            let conditions = json!([
                {"type": "Other", "status": "True"},
                {"type": "Succeeded", "status": status},
            ]);
            json!({"status": {"completionTime": at, "conditions": conditions}})
        };
        let job = |state: &str, at: &str| json!({"status": {"state": state, "completionTime": at}});
        let activity = |status: &str| json!({"spec": {"status": status, "startedTimestamp": at}});
        let given_up = |state: Value| json!({"status": {"phase": "Failed", "containerStatuses": [{"state": state}, {}]}});
        for (kind, object, expected) in [
            (Kind::LighthouseJob, json!({"status": {"state": "pending"}}), false),
            (Kind::LighthouseJob, job("success", at), true),
            (Kind::LighthouseJob, job("aborted", at), true),
            (Kind::LighthouseJob, job("pending", at), false),
            (Kind::LighthouseJob, job("failure", "0001-01-01T00:00:00Z"), false),
            (Kind::LighthouseJob, json!({"status": {"state": "success"}}), false),
            (Kind::PipelineRun, json!({}), false),
            (Kind::PipelineRun, run("Unknown", at.into()), false),
            (Kind::PipelineRun, run("True", at.into()), true),
            (Kind::TaskRun, run("False", at.into()), true),
            (Kind::CustomRun, run("False", Value::Null), true),
            (Kind::CustomRun, run("True", at.into()), true),
            (Kind::PipelineActivity, json!({"spec": {}}), false),
            (Kind::PipelineActivity, activity("Pending"), false),
            (Kind::PipelineActivity, activity("WaitingForApproval"), false),
            (Kind::PipelineActivity, activity("Running"), false),
            (Kind::PipelineActivity, activity("of tomorrow"), false),
            (Kind::PipelineActivity, activity("TimedOut"), true),
            (Kind::PipelineActivity, json!({"spec": {"status": "TimedOut"}}), false),
            (Kind::Pod, given_up(json!({"running": {}})), false),
            (Kind::Pod, given_up(json!({"terminated": {}})), true),
            (Kind::Pod, json!({"status": {"phase": "Pending"}}), false),
            (Kind::Pod, json!({"status": {"phase": "Running"}}), false),
            (Kind::Pod, json!({"status": {"phase": "Unknown"}}), false),
            (Kind::Pod, json!({"status": {"phase": "Succeeded"}}), true),
            (Kind::Pod, json!({"status": {"phase": "Failed", "reason": "Evicted"}}), true),
            (Kind::Event, json!({"reason": "Pulled"}), true),
        ] {
            assert_eq!(is_final(kind, &object), expected, "{kind:?} {object}");
        }
    }

    #[test]
    fn the_end_of_an_object_is_the_latest_that_it_tells() {
        let (early, late) = ("2026-11-21T02:27:52Z", "2026-11-21T02:30:00.5Z");
        let ended = |at: &str| json!({"state": {"terminated": {"finishedAt": at}}});
        for (kind, object, expected) in [
            (Kind::TaskRun, json!({"status": {"completionTime": late}}), Some(late)),
            (Kind::PipelineActivity, json!({"spec": {"completedTimestamp": late}}), Some(late)),
            (
                Kind::Pod,
                json!({"status": {"containerStatuses": [ended(late), ended(early), {}]}}),
                Some(late),
            ),
            (
                Kind::Pod,
                json!({"status": {"conditions": [{"lastTransitionTime": early}], "startTime": late}}),
                Some(early),
            ),
            (Kind::Pod, json!({"status": {"startTime": early}}), Some(early)),
            (Kind::Pod, json!({}), None),
            (
                Kind::Event,
                json!({"eventTime": null, "lastTimestamp": late, "firstTimestamp": early}),
                Some(late),
            ),
            (
                Kind::Event,
                json!({"eventTime": early, "series": {"lastObservedTime": late}}),
                Some(late),
            ),
            (Kind::Event, json!({"metadata": {"creationTimestamp": early}}), Some(early)),
        ] {
            let expected = expected.map(|it| it.parse().unwrap());
            assert_eq!(finished_at(kind, &object), expected, "{kind:?} {object}");
        }
    }
}
