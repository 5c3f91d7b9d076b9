//! Events that are refused, and what their sender is told.

use serde_json::{Value, json};
use spanhook_core::{
    build_event::{BadEvents, Sender, map},
    provider::Provider,
    settings::Settings,
};

use crate::events::{RECEIVED, WORKFLOW, event, mapped, with};

#[test]
fn a_mistake_is_told_by_its_place_and_what_to_type() {
    let text = "use text of at most 256 bytes";
    let bytes = "use a whole number of bytes, not negative";
    let count = "use a whole number, not negative";
    let seconds = "use a number of seconds, not negative";
    let milliseconds = "use a number of milliseconds, not negative";
    let time = "use RFC 3339 such as 2026-11-02T09:30:00Z, or seconds or milliseconds since 1970";
    let kind =
        "use ci_build_metadata, webpack_build_stats, artifact, measure, mark or a name of your own";
    let id = "use text that names the build, such as $CI_PIPELINE_ID";
    let breakdown =
        "use an object of names of at most 256 bytes, each with a whole number of bytes";
    let long = "s3cret".repeat(50);
    let many: serde_json::Map<_, _> = (0..65).map(|it| (it.to_string(), it.into())).collect();
    for (of, path, value, expected) in [
        ("mark", "type", Value::Null, kind),
        ("mark", "type", json!(" "), kind),
        ("mark", "type", json!(long), kind),
        ("mark", "correlation_id", Value::Null, id),
        ("mark", "correlation_id", json!(""), id),
        ("mark", "correlation_id", json!(["s3cret"]), text),
        ("mark", "correlation_id", json!(long), text),
        ("mark", "timestamp", json!("s3cret"), time),
        ("mark", "timestamp", json!(-1), time),
        ("mark", "timestamp", json!(0), time),
        ("mark", "timestamp", json!(1e300), time),
        ("mark", "timestamp", json!(u64::MAX), time),
        ("mark", "timestamp", json!({}), time),
        ("mark", "project", json!(long), text),
        ("mark", "git_ref", json!({ "s3cret": 1 }), text),
        ("mark", "commit_sha", json!(true), text),
        ("mark", "name", Value::Null, text),
        ("mark", "name", json!(long), text),
        ("mark", "attributes", json!("s3cret"), "use an object"),
        ("mark", "attributes", json!(many), "use at most 64 attributes"),
        ("mark", "attributes", json!({ "": 1 }), "use names of 1 to 256 bytes"),
        ("mark", "attributes", json!({ long.as_str(): 1 }), "use names of 1 to 256 bytes"),
        (
            "mark",
            "attributes",
            json!({ "a": ["s3cret"] }),
            "use text, a number, true or false as a value",
        ),
        ("ci_build_metadata", "metrics.duration_seconds", Value::Null, seconds),
        ("ci_build_metadata", "metrics.duration_seconds", json!(-1), seconds),
        ("ci_build_metadata", "metrics.duration_seconds", json!("s3cret"), seconds),
        ("ci_build_metadata", "metrics.duration_seconds", json!("NaN"), seconds),
        ("ci_build_metadata", "job_status", json!([]), text),
        ("webpack_build_stats", "metrics.compile_time_ms", Value::Null, milliseconds),
        ("webpack_build_stats", "metrics.compile_time_ms", json!(-0.5), milliseconds),
        ("webpack_build_stats", "metrics.total_asset_size_bytes", json!(1.5), bytes),
        ("webpack_build_stats", "metrics.asset_count", json!(-1), count),
        ("webpack_build_stats", "metrics.chunk_count", json!("many"), count),
        ("webpack_build_stats", "errors_count", json!([1]), count),
        ("webpack_build_stats", "bundler", json!({}), text),
        ("webpack_build_stats", "bundler_version", json!({}), text),
        ("artifact", "name", json!(""), text),
        ("artifact", "size_bytes", Value::Null, bytes),
        ("artifact", "size_bytes", json!(-1), bytes),
        ("artifact", "variant", json!(long), text),
        ("artifact", "version", json!(long), text),
        ("artifact", "digest", json!(long), text),
        ("artifact", "breakdown", json!([1]), breakdown),
        ("artifact", "breakdown", json!({ "s3cret": "s3cret" }), breakdown),
        ("artifact", "breakdown", json!({ long.as_str(): 1 }), breakdown),
        ("measure", "value", Value::Null, "use a number"),
        ("measure", "value", json!("s3cret"), "use a number"),
        ("measure", "unit", json!("é"), "use at most 63 ASCII characters, such as s or By"),
        ("mark", "context", json!("s3cret"), "use an object"),
        ("mark", "context.provider", json!("s3cret"), Provider::EXPECTED),
        ("mark", "context.host", json!({}), text),
    ] {
        let odd = with(event(of), path, value);
        let error = mapped(&json!([event("mark"), event("artifact"), odd]), None).unwrap_err();
        assert_eq!(error.to_string(), format!("events[2].{path}: {expected}"));
    }
}

#[test]
fn an_id_of_another_form_is_told_where_to_find_the_right_one() {
    for (provider, path, value, expected) in [
        ("circleci", "run_id", json!("s3cret"), "use $CIRCLE_WORKFLOW_ID"),
        ("circleci", "job_id", json!(7), "use $CIRCLE_WORKFLOW_JOB_ID"),
        ("gitlab", "run_id", json!(-7), "use $CI_PIPELINE_ID"),
        ("gitlab", "job_id", json!("07"), "use $CI_JOB_ID"),
        ("gitlab", "root_id", json!("s3cret"), "use the number of the root pipeline"),
        (
            "gitlab",
            "host",
            json!("https://gitlab.com"),
            "use a host name, with its port if it has one",
        ),
        ("github", "run_id", json!("s3cret"), "use $GITHUB_RUN_ID"),
        ("github", "job_id", json!("build"), "use ${{ job.check_run_id }}"),
        ("github", "attempt", json!(0), "use $GITHUB_RUN_ATTEMPT"),
    ] {
        let run = if provider == "circleci" { json!(WORKFLOW) } else { json!(9) };
        let context = json!({ "provider": provider, "run_id": run });
        let odd = with(event("mark"), "context", with(context, path, value));
        let error = mapped(&odd, None).unwrap_err().to_string();
        assert_eq!(error, format!("events[0].context.{path}: {expected}"));
    }
}

#[test]
fn a_body_of_another_shape_is_refused() {
    assert_eq!(mapped(&json!([1]), None), Err(BadEvents::NotObject(0)));
    assert_eq!(mapped(&json!(vec![0; 1001]), None), Err(BadEvents::TooMany));
    let body = map(b"{", RECEIVED, &Settings::default(), Sender::Trusted);
    assert_eq!(body, Err(BadEvents::NotJson));
}
