//! `spanhook redeliver` against GitHub's API of webhook deliveries.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod github;

use std::{
    collections::HashMap,
    process::Output,
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::KeySize,
    signature::{KeyPair, RsaKeyPair},
};
use axum::response::IntoResponse;
use base64::{Engine, prelude::BASE64_STANDARD};
use github::{GitHub, READER, Shared, TOKEN, limited};
use serde_json::{Value, json};
use tokio::process::Command;

const HOOKS: &str = "/orgs/acme/hooks";
const ORGANIZATION: [&str; 4] = ["--organization", "acme", "--hook", "7"];
const SINCE: [&str; 2] = ["--since", "2025-11-20T00:00:00Z"];

#[expect(clippy::disallowed_methods, reason = "a test has no clock to choose")]
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// An attempt as GitHub lists it, so many minutes after midnight.
fn attempt(id: u64, minute: u64, guid: &str, code: u64, event: &str, action: &str) -> Value {
    let status = match code {
        0 => "timed out",
        200..300 => "OK",
        _ => "invalid HTTP response",
    };
    json!({
        "id": id, "guid": guid, "redelivery": false, "duration": 0.27, "throttled_at": null,
        "delivered_at": format!("2025-11-20T{:02}:{:02}:00Z", minute / 60, minute % 60),
        "status": status, "status_code": code, "event": event, "action": action,
        "installation_id": null, "repository_id": 4711,
    })
}

/// Ten hours with an outage at their end: more than two pages, and what was before.
fn outage() -> GitHub {
    let mut attempts = vec![
        attempt(12_000_000_003, 603, "2f0c1b1e-0003", 503, "workflow_job", "completed"),
        attempt(12_000_000_002, 602, "2f0c1b1e-0001", 503, "workflow_job", "completed"),
        attempt(12_000_000_001, 601, "2f0c1b1e-0002", 0, "workflow_run", "completed"),
        attempt(12_000_000_000, 600, "2f0c1b1e-0001", 504, "workflow_job", "completed"),
        attempt(11_999_999_999, 600, "2f0c1b1e-0009", 503, "workflow_job", "queued"),
        attempt(11_999_999_998, 600, "2f0c1b1e-0010", 503, "workflow_run", "in_progress"),
        attempt(11_999_999_997, 600, "2f0c1b1e-0011", 503, "ping", ""),
        attempt(11_999_999_996, 599, "2f0c1b1e-0012", 202, "workflow_job", "completed"),
        attempt(11_999_999_995, 598, "2f0c1b1e-0012", 503, "workflow_job", "completed"),
    ];
    attempts.extend((1..=230).map(|it| {
        attempt(
            11_000_000_000 - it,
            590 - it,
            &format!("good-{it}"),
            202,
            "workflow_job",
            "completed",
        )
    }));
    let yesterday = (1..=150).map(|it| {
        let mut old =
            attempt(10_000_000_000 - it, 0, &format!("old-{it}"), 503, "workflow_job", "completed");
        old["delivered_at"] = json!("2025-11-19T10:00:00Z");
        old
    });
    attempts.extend(yesterday);
    GitHub {
        hooks: HOOKS,
        listed: vec![(7, "https://spanhook.example.com/github"), (8, "https://ci.example.com/")],
        attempts,
        receiver: 202,
        ..GitHub::default()
    }
}

async fn redeliver(api: &str, arguments: &[&str], vars: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spanhook"))
        .arg("redeliver")
        .args(arguments)
        .args(["--api", api, "--pause", "0s"])
        .env_clear()
        .envs(vars.iter().copied())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

/// The run of an organization's webhook.
async fn of_acme(api: &str, more: &[&str], token: &str) -> Output {
    let arguments = [&ORGANIZATION[..], &SINCE, more].concat();
    redeliver(api, &arguments, &[("GITHUB_TOKEN", token)]).await
}

/// What it said, for a snapshot: nothing of it is a secret.
fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    for secret in [TOKEN, READER, "-----END", "Bearer"] {
        assert!(!out.contains(secret) && !err.contains(secret), "{out}{err}");
    }
    format!("exit code {}\n\n{out}\nstandard error:\n{err}", output.status.code().unwrap())
}

fn asked(github: &Shared) -> Vec<u64> {
    github.lock().unwrap().asked()
}

#[tokio::test]
async fn a_dry_run_lists_what_would_be_sent_again_and_asks_for_nothing() {
    let (api, github) = outage().serve("").await;
    let output = of_acme(&api, &["--dry-run"], TOKEN).await;
    insta::assert_snapshot!(said(&output));
    let requests = github.lock().unwrap().requests.clone();
    assert!(requests.iter().all(|it| it.starts_with("GET ")), "{requests:?}");
    // The third page is the first with what is older.
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(requests[1].contains("cursor=v1_"), "{requests:?}");
}

#[tokio::test]
async fn what_did_not_arrive_is_sent_again_once_and_then_nothing_is_left() {
    let (api, github) = outage().serve("").await;
    let first = of_acme(&api, &[], TOKEN).await;
    // The newest attempt of each, the oldest delivery first.
    assert_eq!(asked(&github), [12_000_000_001, 12_000_000_002, 12_000_000_003]);
    let second = of_acme(&api, &[], TOKEN).await;
    assert_eq!(asked(&github).len(), 3, "all of it has arrived");
    insta::assert_snapshot!(format!("{}\nAgain: {}", said(&first), said(&second)));
}

#[tokio::test]
async fn what_is_sent_again_in_vain_is_asked_for_again_by_its_newest_attempt() {
    let (api, github) = GitHub { receiver: 503, ..outage() }.serve("").await;
    assert!(of_acme(&api, &[], TOKEN).await.status.success());
    assert!(of_acme(&api, &[], TOKEN).await.status.success());
    let newest = [12_000_000_004, 12_000_000_005, 12_000_000_006];
    assert_eq!(asked(&github)[3..], newest);
}

#[tokio::test]
async fn a_delivery_that_github_refuses_stops_no_other_and_the_command_fails() {
    let refused = HashMap::from([
        (12_000_000_001, (422, "The delivery can't be redelivered")),
        (12_000_000_002, (404, "Not Found")),
    ]);
    let (api, github) = GitHub { refused, ..outage() }.serve("").await;
    let output = of_acme(&api, &[], TOKEN).await;
    insta::assert_snapshot!(said(&output));
    assert_eq!(asked(&github).len(), 3);
}

#[tokio::test]
async fn rate_limits_and_troubles_are_waited_for_as_github_asks() {
    let troubles: Vec<(&str, fn() -> _)> = vec![
        ("GET ", || (axum::http::StatusCode::BAD_GATEWAY, "<html>").into_response()),
        ("GET ", || {
            let reset = now().to_string();
            let spent = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset.as_str())];
            limited(403, "API rate limit exceeded for user ID 1.", &spent)
        }),
        ("POST ", || {
            let message = "You have exceeded a secondary rate limit.";
            limited(403, message, &[("retry-after", "1")])
        }),
        ("POST ", || limited(429, "Too many requests", &[("retry-after", "0")])),
    ];
    let (api, github) = GitHub { troubles, ..outage() }.serve("").await;
    let started = tokio::time::Instant::now();
    let output = of_acme(&api, &[], TOKEN).await;
    assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
    insta::assert_snapshot!(said(&output));
    assert!(github.lock().unwrap().troubles.is_empty());
    assert_eq!(asked(&github).len(), 3 + 2, "two of them were asked for again after a wait");
}

#[tokio::test]
async fn a_token_that_may_not_do_it_is_told_apart_and_ends_it_at_once() {
    let (api, github) = outage().serve("").await;
    let mut text = String::new();
    for (what, token) in [("reads only", READER), ("unknown", "ghp_somebodyElse")] {
        let output = of_acme(&api, &[], token).await;
        text += &format!("{what}: {}\n", said(&output));
    }
    assert_eq!(asked(&github).len(), 1, "the first refusal tells");
    let nobody = redeliver(&api, &[&ORGANIZATION[..], &SINCE].concat(), &[]).await;
    text += &format!("none: {}\n", said(&nobody));
    let broken = of_acme(&api, &[], "ghp_two\nlines").await;
    text += &format!("two lines: {}\n", said(&broken));
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn the_webhook_of_a_repository_on_enterprise_server_is_found_by_its_address() {
    let hooks = "/repos/acme/shop/hooks";
    let listed = vec![
        (7, "https://spanhook.example.com/github"),
        (8, "https://twice.example.com/?key=s3cret"),
        (9, "https://twice.example.com/?key=s3cret"),
    ];
    let (api, github) = GitHub { hooks, listed, ..outage() }.serve("/api/v3").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let of_url = async |url: &str, more: &[&str]| {
        let file = ["--token-file", file.to_str().unwrap()];
        let fixed = ["--repository", "acme/shop", "--url", url];
        redeliver(&api, &[&fixed[..], &file, &SINCE, more].concat(), &[]).await
    };
    let mut text = String::new();
    for (url, more) in [
        ("https://spanhook.example.com/github/", &["--dry-run"][..]),
        ("https://spanhook.example.com/github", &[]),
        ("https://twice.example.com/?key=s3cret", &[]),
        ("https://elsewhere.example.com/github", &[]),
    ] {
        let output = said(&of_url(url, more).await);
        assert!(!output.contains("s3cret"), "{output}");
        text += &format!("{}: {output}\n", url.split('?').next().unwrap());
    }
    insta::assert_snapshot!(text);
    assert_eq!(asked(&github).len(), 3);
}

/// The PEM files of a new key: as GitHub makes them (PKCS#1), and as others keep them (PKCS#8).
fn key() -> (RsaKeyPair, [String; 2]) {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let der = der.as_ref();
    let pem = |label: &str, der: &[u8]| {
        let text = BASE64_STANDARD.encode(der);
        let lines: Vec<_> =
            text.as_bytes().chunks(64).map(|it| std::str::from_utf8(it).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    };
    // In a key of this size the inner one is behind 26 bytes that say what it is.
    let files = [pem("RSA PRIVATE KEY", &der[26..]), pem("PRIVATE KEY", der)];
    (key, files)
}

#[tokio::test]
async fn an_app_signs_with_its_key_whichever_way_that_is_kept() {
    let (key, [pkcs1, pkcs8]) = key();
    let public = key.public_key().as_ref().to_vec();
    let app =
        || GitHub { hooks: "/app/hook", app: Some(("Iv23liABC", public.clone())), ..outage() };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let of_app = async |id: &str, more: &[&str], vars: &[(&str, &str)]| {
        let (api, github) = app().serve("").await;
        let output = redeliver(&api, &[&["--app", id], &SINCE[..], more].concat(), vars).await;
        (said(&output), asked(&github).len())
    };
    for (what, text) in [("PKCS#1", &pkcs1), ("PKCS#8", &pkcs8)] {
        let file = file("key.pem", text);
        let (output, asked) = of_app("Iv23liABC", &["--key-file", &file], &[]).await;
        assert_eq!(asked, 3, "{what}: {output}");
    }
    let (output, asked) = of_app("Iv23liABC", &[], &[("GITHUB_APP_PRIVATE_KEY", &pkcs1)]).await;
    assert_eq!(asked, 3, "{output}");
    let nothing = folder.path().join("nothing").to_str().unwrap().to_owned();
    let mut text = String::new();
    for (what, id, more, vars) in [
        ("of another App", "Iv23liXYZ", vec![], vec![("GITHUB_APP_PRIVATE_KEY", pkcs1.as_str())]),
        ("no key", "Iv23liABC", vec![], vec![]),
        ("no PEM", "Iv23liABC", vec![], vec![("GITHUB_APP_PRIVATE_KEY", "s3cret")]),
        ("no file", "Iv23liABC", vec!["--key-file", &nothing], vec![]),
    ] {
        let output = of_app(id, &more, &vars).await.0.replace(&nothing, "FILE");
        assert!(!output.contains("s3cret"), "{output}");
        text += &format!("{what}: {output}\n");
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn what_is_not_the_api_or_not_there_is_said_with_what_to_type() {
    let (api, _github) = outage().serve("/api/v3").await;
    let web = api.trim_end_matches("/api/v3").to_owned();
    let html: Vec<(&str, fn() -> _)> = vec![("GET ", || "<html>Sign in</html>".into_response())];
    let (login, _login) = GitHub { troubles: html, ..outage() }.serve("").await;
    let elsewhere: Vec<(&str, fn() -> _)> = vec![("GET ", || {
        let link = [("link", "<https://evil.example/x>; rel=\"next\"")];
        (link, axum::Json(json!([attempt(9, 700, "g", 503, "workflow_job", "completed")])))
            .into_response()
    })];
    let (evil, _evil) = GitHub { troubles: elsewhere, ..outage() }.serve("").await;
    let mut text = String::new();
    for (what, api, hook) in [
        ("no such webhook", &api, "70"),
        ("without /api/v3", &web, "7"),
        ("a page to log in", &login, "7"),
        ("another host", &evil, "7"),
    ] {
        let arguments = [&["--organization", "acme", "--hook", hook], &SINCE[..]].concat();
        let output = redeliver(api, &arguments, &[("GITHUB_TOKEN", TOKEN)]).await;
        text += &format!("{what}: {}\n", said(&output));
    }
    for api in ["http://ghes.example.com/api/v3", "https://"] {
        text += &format!("{api}: {}\n", said(&of_acme(api, &[], TOKEN).await));
    }
    insta::assert_snapshot!(text);
}
