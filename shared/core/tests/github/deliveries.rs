//! What is a delivery, what proves it, and what is acknowledged without a span.

use http::HeaderMap;
use serde_json::{Value, json};
use spanhook_core::{
    check::Rejection,
    delivery::{Outcome, Unmappable},
    provider::{Provider, github::is_worth_sending_again},
    secret::Secrets,
    settings::Settings,
};

use crate::support::{ignored, process, requests, sample, samples, spans};

const SECRET: &str = "It's a Secret to Everybody";
const JSON: &str = r#"{"zen":"Keep it logically awesome.","hook_id":1}"#;
const FORM: &str = "payload=%7B%22zen%22%3A%22Keep+it+logically+awesome.%22%2C%22hook_id%22%3A1%7D";
const OF_JSON: &str = "ae8951f50ab87ba47d298c0511bb1d0d80b1ee963458ccef865aa62f53c0be7f";
const OF_FORM: &str = "fddacfb7d7106fd32f5d94dc8846df6694e2ed5e2aed3806b11ab82cccff8d01";

fn verify(
    headers: &[(&'static str, String)],
    body: &str,
    secrets: &[&str],
) -> Result<(), Rejection> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let keys = secrets.iter().map(|it| it.as_bytes().to_vec());
    let check = Provider::Github.room().checks[0];
    check.verify(&map, body.as_bytes(), &Secrets::new(keys), 0)
}

/// Only the SHA-256 of the bytes as they came.
#[test]
fn issues_9_and_10_a_delivery_is_proved_by_its_sha_256_and_by_nothing_else() {
    let header = "x-hub-signature-256";
    let sha256 = |digits: &str| (header, format!("sha256={digits}"));
    let sha1 = "sha1=06d13310bc4045bdad89d951bd174edacd48f9a9".to_owned();
    let documented = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    for (headers, body, expected) in [
        (vec![sha256(documented)], "Hello, World!", Ok(())),
        (vec![sha256(OF_JSON)], JSON, Ok(())),
        (vec![sha256(&OF_JSON.to_uppercase())], JSON, Ok(())),
        (vec![sha256(OF_FORM)], FORM, Ok(())),
        (vec![sha256(OF_JSON)], FORM, Err(Rejection::Mismatch)),
        (vec![sha256(documented)], JSON, Err(Rejection::Mismatch)),
        (vec![], JSON, Err(Rejection::Missing)),
        (vec![("x-hub-signature", sha1.clone())], JSON, Err(Rejection::Missing)),
        (vec![(header, sha1)], JSON, Err(Rejection::Malformed)),
        (vec![(header, format!("sha512={OF_JSON}{OF_JSON}"))], JSON, Err(Rejection::Malformed)),
        (vec![(header, OF_JSON.to_owned())], JSON, Err(Rejection::Malformed)),
        (vec![sha256(&OF_JSON[..32])], JSON, Err(Rejection::Malformed)),
        (vec![sha256(OF_JSON), sha256(OF_JSON)], JSON, Err(Rejection::Malformed)),
    ] {
        assert_eq!(verify(&headers, body, &[SECRET]), expected, "{headers:?} {body}");
    }
    let headers = [sha256(OF_JSON)];
    assert_eq!(verify(&headers, JSON, &["new", SECRET]), Ok(()), "while a secret is changed");
    assert_eq!(verify(&headers, JSON, &["new"]), Err(Rejection::Mismatch));
}

#[test]
fn a_form_gives_what_its_json_gives() {
    for (name, payload) in samples() {
        let json = payload.to_string();
        let form: String = form_urlencoded(&json);
        let of = |body: &str| process(body.as_bytes(), &Settings::default());
        assert_eq!(of(&form), of(&json), "{name}");
    }
}

/// As GitHub writes it, a space as `+`.
fn form_urlencoded(json: &str) -> String {
    let byte = |it: u8| match it {
        b' ' => "+".to_owned(),
        it if it.is_ascii_alphanumeric() => char::from(it).to_string(),
        it => format!("%{it:02X}"),
    };
    json.bytes().fold("payload=".to_owned(), |form, it| form + &byte(it))
}

/// Whatever GitHub sends is acknowledged.
#[test]
fn issues_9_17_20_21_and_29_what_gives_no_span_says_why() {
    for (name, reason) in [
        ("workflow-job-queued", "the job is not finished"),
        ("workflow-job-waiting", "the job is not finished"),
        ("workflow-job-in-progress", "the job is not finished"),
        ("workflow-job-null", "the job is null"),
        ("workflow-job-of-another-app", "the check is another app's and no job"),
        ("workflow-run-requested", "the run is not finished"),
        ("workflow-run-in-progress", "the run is not finished"),
        ("check-run", "this kind of event gives no span"),
        ("push", "this kind of event gives no span"),
        ("deployment-status", "this kind of event gives no span"),
        ("deployment-review", "this kind of event gives no span"),
        ("action-of-tomorrow", "this kind of event gives no span"),
    ] {
        assert_eq!(ignored(&sample(name)), reason, "{name}");
    }
    assert_eq!(ignored(&json!({ "action": "queued" })), "this kind of event gives no span");
    assert_eq!(ignored(&json!({ "workflow_run": {} })), "this kind of event gives no span");
    assert_eq!(ignored(&json!({ "workflow_run": null, "workflow": {} })), "the run is null");
    let ping = serde_json::from_str(JSON).unwrap();
    assert_eq!(ignored(&ping), "the ping names no webhook", "the example that people sign");
}

/// What is not sent again once it failed to arrive gives no span, whatever else is in it.
#[test]
fn what_is_not_worth_sending_again_gives_no_span() {
    let mut spared = 0;
    for (name, payload) in samples() {
        let event = Provider::Github.room().sends;
        let event = event(&payload, "id").into_iter().find(|(name, _)| *name == "x-github-event");
        let (event, action) = (event.unwrap().1, payload["action"].as_str());
        if event != "ping" && !is_worth_sending_again(&event, action) {
            assert!(spans(&payload).is_empty(), "{name}");
            spared += usize::from(event.starts_with("workflow_"));
        }
    }
    assert!(spared >= 3, "{spared} samples of jobs and runs are on their way");
}

/// A null among them costs nobody else anything.
#[test]
fn issue_20_an_empty_job_leaves_its_neighbours_alone() {
    let body = |name| sample(name).to_string();
    let alone = requests(body("workflow-job-build").as_bytes(), &Settings::default());
    assert!(requests(body("workflow-job-null").as_bytes(), &Settings::default()).is_empty());
    let beside = requests(body("workflow-job-build").as_bytes(), &Settings::default());
    assert_eq!((alone.len(), alone), (1, beside));
}

#[test]
fn what_is_no_event_is_kept_with_what_is_private_in_it_blanked() {
    for (body, expected) in [
        ("", Unmappable::NotJson),
        ("payload=x", Unmappable::NotJson),
        ("hello=world", Unmappable::NotJson),
        ("{}", Unmappable::UnknownShape),
        (r#"{"zen":""}"#, Unmappable::UnknownShape),
        (r#"{"workflow_job":{"labels":["x"],"conclusion":"success"}}"#, Unmappable::NoRun),
        (
            r#"{"workflow_job":{"labels":["x"],"conclusion":"success","run_id":1,"id":2}}"#,
            Unmappable::NoTime,
        ),
        (r#"{"workflow":{},"workflow_run":{"conclusion":"success"}}"#, Unmappable::NoRun),
        (r#"{"workflow":{},"workflow_run":{"conclusion":"success","id":1}}"#, Unmappable::NoTime),
    ] {
        match process(body.as_bytes(), &Settings::default()) {
            Outcome::Quarantined { reason, .. } => assert_eq!(reason, expected, "{body}"),
            other => panic!("{other:?} of {body}"),
        }
    }
    let form = form_urlencoded(r#"{"inputs":{"token":"s3cret"}}"#);
    let Outcome::Quarantined { messages, .. } = process(form.as_bytes(), &Settings::default())
    else {
        panic!("mapped")
    };
    let kept = spanhook_core::message::unpack(
        &messages[0].body,
        messages[0].attributes.get("encoding").map(String::as_str),
        None,
    );
    let expected = spanhook_core::message::Content::Quarantined(
        br#"{"inputs":{"token":"[blanked]"}}"#.to_vec(),
    );
    assert_eq!(kept, Ok(expected));
}

#[test]
fn a_sample_is_known_as_githubs_and_sent_as_github_sends_it() {
    for (name, payload) in samples() {
        if name != "action-of-tomorrow" {
            assert_eq!(Provider::of_payload(&payload), Some(Provider::Github), "{name}");
        }
        let sent = (Provider::Github.room().sends)(&payload, "an-id");
        let header = |name| sent.iter().find(|it| it.0 == name).map(|it| it.1.as_str());
        assert_eq!(header("x-github-delivery"), Some("an-id"));
        assert!(header("user-agent").unwrap().starts_with("GitHub-Hookshot/"));
        let expected = match name.as_str() {
            "ping" => "ping",
            "push" | "action-of-tomorrow" => "push",
            "check-run" => "check_run",
            "deployment-status" => "deployment_status",
            _ if name.starts_with("workflow-job") => "workflow_job",
            _ => "workflow_run",
        };
        assert_eq!(header("x-github-event"), Some(expected), "{name}");
    }
}

#[test]
fn nothing_that_proves_a_delivery_is_kept_of_it() {
    let room = Provider::Github.room();
    assert!(room.headers.contains(&room.event) && room.headers.contains(&"x-github-delivery"));
    assert!(!room.headers.iter().any(|it| it.contains("signature") || *it == "authorization"));
}

#[test]
fn a_ping_is_a_small_trace() {
    let found = spans(&sample("ping"));
    assert_eq!((found.len(), found[0].name.as_str()), (1, "ping"));
    let mut timeless = sample("ping");
    timeless["hook"] = json!({});
    assert_eq!(ignored(&timeless), "the ping names no webhook");
    let organization: Value = json!({
        "zen": "x", "hook_id": 5, "hook": { "created_at": "2026-11-02T09:00:00Z" }, "organization": {},
    });
    assert_eq!(spans(&organization).len(), 1);
}
