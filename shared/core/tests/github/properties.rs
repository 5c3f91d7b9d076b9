//! Any payload is mapped by the conventions, ignored or refused.

use proptest::prelude::*;
use serde_json::{Value, json};
use spanhook_core::{
    delivery::{Outcome, Unmappable},
    id::TraceIds,
    provider::github::NativeJobId,
};

use crate::support::{process, requests, with};

/// JSON with GitHub's keys and values of every type.
fn payload() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "completed",
        "queued",
        "in_progress",
        "success",
        "failure",
        "cancelled",
        "skipped",
        "neutral",
        "timed_out",
        "action_required",
        "2026-11-02T09:30:00Z",
        "2026-11-02T09:31:00.000Z",
        "0001-01-01T00:00:00Z",
        "https://github.com/acme/shop",
        "acme/shop",
        "main",
        "push",
        "dynamic",
        "gh-readonly-queue/main/pr-1-0",
        "GitHub Actions",
        "self-hosted",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..4_u64).prop_map(Value::from),
        any::<f64>().prop_map(|it| json!(it)),
        "\\PC{0,12}".prop_map(Value::from),
        word.clone().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "id",
        "run_id",
        "run_attempt",
        "run_number",
        "name",
        "workflow_name",
        "head_branch",
        "head_sha",
        "status",
        "conclusion",
        "created_at",
        "started_at",
        "completed_at",
        "updated_at",
        "run_started_at",
        "html_url",
        "steps",
        "number",
        "labels",
        "runner_id",
        "runner_name",
        "runner_group_name",
        "path",
        "event",
        "display_title",
        "pull_requests",
        "base",
        "ref",
        "sha",
        "referenced_workflows",
        "head_repository",
        "full_name",
        "owner",
        "login",
        "default_branch",
        "custom_properties",
        "environment",
        "workflow",
        "workflow_run",
        "workflow_job",
        "repository",
        "deployment",
        "zen",
        "hook",
        "hook_id",
        "action",
    ]);
    leaf.prop_recursive(4, 120, 10, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..16).prop_map(|it| json!(it)),
        ]
    })
}

/// Events that are likely to be finished, with anything in them.
fn event() -> impl Strategy<Value = Value> {
    let about = prop::sample::select(vec!["workflow_job", "workflow_run", "hook"]);
    (
        about,
        payload(),
        payload(),
        prop::sample::select(vec!["success", "failure", "cancelled", "pink"]),
    )
        .prop_map(|(about, mut this, other, conclusion)| {
            if let Value::Object(fields) = &mut this {
                fields.insert("status".to_owned(), json!("completed"));
                fields.insert("conclusion".to_owned(), json!(conclusion));
                for key in ["id", "run_id"] {
                    fields.entry(key).or_insert(json!(5));
                }
                for key in ["started_at", "completed_at", "updated_at"] {
                    fields.entry(key).or_insert(json!("2026-11-02T09:30:00Z"));
                }
            }
            let mut event = if other.is_object() { other } else { json!({}) };
            event[about] = this;
            event["workflow"] = event.get("workflow").cloned().unwrap_or_default();
            event
        })
}

fn check(body: &str, native: bool, names: bool) {
    let ids = if native { TraceIds::Native } else { TraceIds::Hashed };
    let mut settings = with(ids);
    settings.github.native_job_id = if names { NativeJobId::Name } else { NativeJobId::CheckRun };
    settings.github.custom_properties = vec!["name".to_owned(), "labels".to_owned()];
    if let Outcome::Quarantined { reason, .. } = process(body.as_bytes(), &settings) {
        assert_ne!(reason, Unmappable::Bug, "{body}");
    }
    let mut spans = std::collections::HashSet::new();
    for request in requests(body.as_bytes(), &settings) {
        for span in
            request.resource_spans.into_iter().flat_map(|it| it.scope_spans).flat_map(|it| it.spans)
        {
            assert!(spans.insert(span.span_id), "an id twice in {body}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn any_payload_is_mapped_by_the_conventions_or_refused(payload in payload(), native: bool, names: bool) {
        check(&payload.to_string(), native, names);
    }

    #[test]
    fn any_finished_event_is_mapped_by_the_conventions_or_refused(event in event(), native: bool, names: bool) {
        check(&event.to_string(), native, names);
    }

    #[test]
    fn any_bytes_are_mapped_or_refused(body: Vec<u8>, form: bool) {
        let body = if form { [b"payload=".as_slice(), &body].concat() } else { body };
        let outcome = process(&body, &with(TraceIds::Hashed));
        let bug = matches!(outcome, Outcome::Quarantined { reason: Unmappable::Bug, .. });
        prop_assert!(!bug);
    }
}
