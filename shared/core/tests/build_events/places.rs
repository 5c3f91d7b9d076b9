//! The traces and spans that events hang under, by whoever sends them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use spanhook_core::{
    build_event::{Sender, map},
    id::{Hashed, TraceIds},
    job::{BadJob, Claim, Job},
    otlp::span::{self},
    provider::Provider,
    settings::Settings,
};

use crate::{
    events::{CORRELATION, JOB, RECEIVED, WORKFLOW, at, event, mapped, of, parents, traces, with},
    support::{claim, place, with_ids},
};

#[test]
fn the_trace_is_the_runs_else_the_traceparents_else_the_correlation_ids() {
    let placed = |context: Value| {
        let found = parents(&of(&with(event("mark"), "context", context)));
        (found[0].0, found[0].1.unwrap())
    };
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let settings = Settings::default();

    let there = place(Provider::Circleci, &claim(WORKFLOW, JOB), &settings);
    let run =
        json!({ "provider": "circleci", "run_id": WORKFLOW.to_uppercase(), "host": "x.test" });
    assert_eq!(placed(run.clone()), (there.trace, there.run));
    let job = with(run, "job_id", json!(JOB));
    assert_eq!(placed(job), (there.trace, there.job.unwrap()));
    // The vector of the contract.
    assert_eq!(there.trace.to_string(), "e8a005b2bbea3d6ab25bbccc6d8a0d9a");

    let there = |host: &str| {
        let claim = Claim { host: Some(host.to_owned()), ..claim("9", "7") };
        place(Provider::Gitlab, &claim, &settings)
    };
    let run = json!({ "provider": "gitlab", "run_id": 9, "traceparent": traceparent });
    assert_eq!(placed(run.clone()), (there("gitlab.com").trace, there("gitlab.com").run));
    let job = with(with(run, "job_id", json!("7")), "host", json!("GitLab.example.com:443"));
    let there = there("gitlab.example.com");
    assert_eq!(placed(job), (there.trace, there.job.unwrap()));

    let ids = Hashed::new("github", "github.com");
    let run = json!({ "provider": "github", "run_id": 9 });
    assert_eq!(placed(run.clone()), (ids.trace("9/1"), ids.span("run", &["9/1"])));
    let job = with(with(run, "attempt", json!(2)), "job_id", json!(7));
    assert_eq!(placed(job), (ids.trace("9/2"), ids.span("job", &["7"])));

    let (trace, span) = placed(json!({ "provider": "gitlab", "traceparent": traceparent }));
    assert_eq!(format!("00-{trace}-{span}-01"), traceparent);

    let ids = Hashed::new("build", "");
    let own = (ids.trace(CORRELATION), ids.span("run", &[CORRELATION]));
    assert_eq!(placed(json!({})), own);
    assert_eq!(placed(json!({ "traceparent": "00-0-0-00", "run_id": "x" })), own);
}

#[test]
fn native_ids_put_a_child_pipeline_into_its_roots_trace() {
    let settings = with_ids(TraceIds::Native);
    let context = json!({ "provider": "gitlab", "run_id": 9, "root_id": 5, "job_id": 7 });
    let body = with(event("mark"), "context", context).to_string();
    let batch = map(body.as_bytes(), RECEIVED, &settings, Sender::Trusted).unwrap();
    let child = Claim { root_id: Some("5".to_owned()), ..claim("9", "7") };
    let there = place(Provider::Gitlab, &child, &settings);
    assert_eq!(parents(&batch), [(there.trace, there.job)]);
    assert_eq!(*there.trace.as_bytes(), 5u128.to_be_bytes());
}

#[test]
fn in_a_trace_of_its_own_the_build_is_the_root() {
    let events = ["mark", "artifact", "webpack_build_stats", "ci_build_metadata"].map(event);
    let batch = of(&json!(events));
    let spans = &traces(&batch)[0].groups[0].spans;
    let root = spans.iter().find(|it| it.parent.is_none()).unwrap();
    assert_eq!(root.name, "build");
    assert!(spans.iter().all(|it| it.id == root.id || it.parent == Some(root.id)));
    // In the trace of a run it is one span among others.
    let context = json!({ "provider": "gitlab", "run_id": 9 });
    let batch = of(&with(event("ci_build_metadata"), "context", context));
    assert!(parents(&batch)[0].1.is_some());
}

#[test]
fn the_events_of_one_build_meet_whether_or_not_they_name_the_project() {
    let build = with(event("ci_build_metadata"), "project", "acme/shop".into());
    let batch = of(&json!([build, event("webpack_build_stats")]));
    assert_eq!(batch.telemetry.len(), 2, "each project is judged by itself");
    let found: BTreeSet<_> = traces(&batch).iter().map(|it| it.id).collect();
    assert_eq!((found.len(), &found), (1, &batch.trace_ids));
}

#[test]
fn proved_projects_may_count_their_builds_alike() {
    let trace = |project: &str, run: &str| {
        let claim = Claim { project: Some(project.into()), ..claim(run, "") };
        let job = Job::new(Provider::Gitlab, &claim).unwrap();
        parents(&mapped(&event("mark"), Some(&job)).unwrap())[0].0
    };
    assert_ne!(trace("acme/shop", "8"), trace("acme/site", "9"));
}

#[test]
fn what_differs_has_a_span_of_its_own_and_what_is_sent_again_does_not() {
    let id = |event: &Value, received| {
        let body = event.to_string();
        let batch = map(body.as_bytes(), received, &Settings::default(), Sender::Trusted).unwrap();
        traces(&batch)[0].groups[0].spans[0].id
    };
    let first = at(event("artifact"), "2026-11-02T09:30:00Z");
    for other in [
        at(event("artifact"), "2026-11-02T09:30:01Z"),
        at(event("mark"), "2026-11-02T09:30:00Z"),
        event("artifact"),
        with(first.clone(), "name", "other".into()),
        with(first.clone(), "variant", "debug".into()),
        with(first.clone(), "correlation_id", "2".into()),
        with(first.clone(), "context", json!({ "provider": "gitlab", "run_id": 9 })),
    ] {
        assert_ne!(id(&first, RECEIVED), id(&other, RECEIVED), "{other}");
        assert_eq!(id(&other, RECEIVED), id(&other, RECEIVED + 1), "{other}");
    }
    assert_eq!(
        id(&first, RECEIVED),
        id(&with(first.clone(), "timestamp", json!(1_793_611_800)), RECEIVED),
        "one moment, written in another way"
    );
}

#[test]
fn an_identity_wins_over_what_the_event_says() {
    let identity = Claim {
        project: Some("acme/shop".into()),
        ref_name: Some("refs/heads/main".into()),
        revision: Some("abc".into()),
        host: Some("gitlab.example.com".into()),
        ..claim("9", "7")
    };
    let identity = Job::new(Provider::Gitlab, &identity).unwrap();
    let claims = json!({
        "type": "mark", "name": "here", "project": "evil/shop", "git_ref": "evil", "commit_sha": "evil",
        "context": { "provider": "evil", "run_id": [], "traceparent": "evil" },
    });
    let batch = mapped(&claims, Some(&identity)).unwrap();
    let there = identity.place(&Settings::default());
    assert_eq!(parents(&batch), [(there.trace, there.job)]);
    assert!(!format!("{batch:?}").contains("evil"));
    let resource = &traces(&batch)[0].groups[0].resource;
    let text = |key| match resource.get(key) {
        Some(span::Value::Text(text)) => text.to_string(),
        _ => String::new(),
    };
    assert_eq!(text("service.name"), "shop");
    assert_eq!(text("correlation_id"), "9", "a run needs no other name");
    assert_eq!(text("cicd.pipeline.run.id"), "9");
    assert_eq!(text("vcs.ref.head.name"), "main");
    assert_eq!(text("vcs.ref.head.revision"), "abc");
}

#[test]
fn nobody_proves_a_job_without_its_run_and_an_event_proves_no_project() {
    for run_id in [None, Some("not a UUID".to_owned())] {
        let claim = Claim { project: Some("acme/shop".into()), run_id, ..Claim::default() };
        let no_run = BadJob { field: "run_id", expected: "use $CIRCLE_WORKFLOW_ID" };
        assert_eq!(Job::new(Provider::Circleci, &claim), Err(no_run));
    }
    let batch = of(&with(event("mark"), "project", "acme/shop".into()));
    assert_ne!(parents(&batch)[0].0, Hashed::new("build", "acme/shop").trace(CORRELATION));
    assert_eq!(parents(&batch)[0].0, Hashed::new("build", "").trace(CORRELATION));
}

/// Whose run an id is can't be told: who may not speak for every project enters none.
#[test]
fn a_confined_sender_enters_no_run_and_no_others_trace() {
    const JOINED: &str = "00-11111111111111111111111111111111-2222222222222222-01";
    let with = |context: Value| {
        json!({ "type": "mark", "name": "x", "project": "acme/site", "correlation_id": "7",
            "context": context })
    };
    let gitlab = json!({ "provider": "gitlab", "run_id": "2722508965", "job_id": "15651125844" });
    let place = |event: &Value, sender| {
        let body = event.to_string();
        let batch = map(body.as_bytes(), RECEIVED, &Settings::default(), sender).unwrap();
        (traces(&batch)[0].id.to_string(), batch.confined)
    };
    let proofs = [Sender::Trusted, Sender::Confined("signature"), Sender::Confined("bearer")];
    let own = proofs.map(|sender| place(&with(Value::Null), sender));
    assert!(own.iter().all(|(_, confined)| !confined));
    assert!(own[0] != own[1] && own[1] != own[2] && own[0] != own[2]);
    for context in [gitlab, json!({ "traceparent": JOINED })] {
        let event = with(context);
        assert_ne!(place(&event, Sender::Trusted), own[0]);
        assert_eq!(place(&event, proofs[1]), (own[1].0.clone(), true));
    }
}
