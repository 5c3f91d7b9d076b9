//! Who may call: every proof, and every way to forge one, against real issuers on loopback.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA512, RsaKeyPair},
};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use futures_util::FutureExt;
use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};
use spanhook_core::{
    check::{Rejection, sign_standard, signing_key},
    host::Host,
    job::{Claim, Job, Key},
    message::{Content, unpack},
    provider::Provider,
    settings::{Settings, Vars},
};
use spanhook_service::{
    build_events::BuildEvents,
    clock::Clock,
    gate::{
        Caller, Denied, FLOOR, FRESH, Gate, GateError, GateSettings, MAX_LIFETIME, MAX_TOKEN,
        Proof, SKEW, STALE,
    },
    intake::Intake,
    startup::project_rules,
    telemetry::{Telemetry, TelemetrySettings},
    traceparent::Traceparent,
};
use support::{
    Captured, MemoryOutbox, ask, at,
    tokens::{der, generate, jwk, part, sign},
};
use tokio::net::TcpListener;

const NOW: u64 = 1_793_611_800;
const AUDIENCE: &str = "https://ci.acme.test";
const SIGNING_KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const TOKEN: &str = "hunter2-the-token";

/// The issuer's key, the one that follows it, and a forger's.
static KEY: LazyLock<RsaKeyPair> = LazyLock::new(generate);
static NEXT: LazyLock<RsaKeyPair> = LazyLock::new(generate);
static FORGED: LazyLock<RsaKeyPair> = LazyLock::new(generate);

/// What an issuer answers.
#[derive(Clone)]
enum Answer {
    Keys(Value),
    Configuration(Value),
    Status(u16),
    Redirect(String),
    Body(String),
    Silence,
}

/// An issuer on loopback, and how often its configuration and its keys were asked for.
struct Issuer {
    url: String,
    server: Arc<Server>,
}

struct Server {
    url: String,
    answer: Mutex<Answer>,
    configurations: AtomicUsize,
    keys: AtomicUsize,
}

impl Issuer {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::new(Server {
            url: url.clone(),
            answer: Mutex::new(answer),
            configurations: AtomicUsize::new(0),
            keys: AtomicUsize::new(0),
        });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, server }
    }

    /// With one good key, `one`.
    async fn good() -> Self {
        Self::start(Answer::Keys(json!({"keys": [jwk("one", &KEY)]}))).await
    }

    fn set(&self, answer: Answer) {
        *self.server.answer.lock().unwrap() = answer;
    }

    fn fetches(&self) -> usize {
        self.server.keys.load(Ordering::Relaxed)
    }
}

async fn serve(State(server): State<Arc<Server>>, uri: Uri) -> Response {
    let answer = server.answer.lock().unwrap().clone();
    let configuration = uri.path() == "/.well-known/openid-configuration";
    let count = if configuration { &server.configurations } else { &server.keys };
    count.fetch_add(1, Ordering::Relaxed);
    let text = |text: String| text.into_response();
    match answer {
        Answer::Keys(_) | Answer::Redirect(_) | Answer::Body(_) if configuration => {
            let keys = format!("{}/keys", server.url);
            text(json!({"issuer": server.url, "jwks_uri": keys, "other": [1]}).to_string())
        }
        Answer::Configuration(json) | Answer::Keys(json) => text(json.to_string()),
        Answer::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Answer::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Answer::Body(body) => text(body),
        Answer::Silence => std::future::pending().await,
    }
}

const HEADER: &str = r#"{"alg":"RS256","kid":"one","typ":"JWT","x5t":"x"}"#;

/// What the issuer itself would sign.
fn good(claims: &Value) -> String {
    sign(&KEY, HEADER, &claims.to_string())
}

fn gitlab(issuer: &str) -> Value {
    json!({
        "iss": issuer, "aud": AUDIENCE, "iat": NOW - 100, "nbf": NOW - 105, "exp": NOW + 3500,
        "sub": "project_path:acme/web/shop:ref_type:branch:ref:main", "jti": "x",
        "project_path": "acme/web/shop", "project_id": "278964", "namespace_id": "72",
        "pipeline_id": "2722508965", "job_id": "15651125844", "runner_id": 1,
        "ref": "main", "ref_type": "branch", "ref_protected": "true",
        "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
    })
}

fn circleci(issuer: &str) -> Value {
    json!({
        "iss": issuer, "aud": [AUDIENCE, "other"], "iat": NOW - 100, "exp": NOW + 3500,
        "sub": "org/5c2a6a07-9c5e-4f0f-a3a6-3b1f3ea2d3a1/project/x/user/y",
        "oidc.circleci.com/org-id": "5c2a6a07-9c5e-4f0f-a3a6-3b1f3ea2d3a1",
        "oidc.circleci.com/project-id": "9d1c3b2a-14d5-4a0e-8b0a-0f5f3f8c2b11",
        "oidc.circleci.com/pipeline-id": "0e8f3a52-5a3c-4a37-9a44-7d3a6b2a9c01",
        "oidc.circleci.com/workflow-id": "CEDF175C-c537-49f8-9b5c-95892f0b2407",
        "oidc.circleci.com/job-id": "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34",
        "oidc.circleci.com/context-ids": [], "oidc.circleci.com/ssh-rerun": false,
        "oidc.circleci.com/vcs-origin": "github.com/acme/shop",
        "oidc.circleci.com/vcs-ref": "refs/heads/main",
    })
}

fn github(issuer: &str) -> Value {
    json!({
        "iss": issuer, "aud": AUDIENCE, "iat": NOW - 100, "nbf": NOW - 400, "exp": NOW + 200,
        "sub": "repo:acme/shop:ref:refs/heads/main", "repository": "acme/shop",
        "repository_id": "1296269", "repository_owner_id": "65", "run_id": "19284651123",
        "run_attempt": "2", "run_number": "10", "check_run_id": "55120394",
        "ref": "refs/heads/main", "sha": "714A629C0B401FDCE83E847FC9589983FC6F46BC",
    })
}

fn with(mut claims: Value, changes: &[(&str, Value)]) -> Value {
    let object = claims.as_object_mut().unwrap();
    for (name, value) in changes {
        if value.is_null() {
            object.remove(*name);
        } else {
            object.insert((*name).to_owned(), value.clone());
        }
    }
    claims
}

fn vars(pairs: &[(&str, &str)]) -> Vars {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn open(pairs: &[(&str, &str)]) -> Result<Gate, GateError> {
    Gate::open(GateSettings::build_events(&vars(pairs))?).await
}

/// A gate for these issuers' tokens.
async fn gate(issuers: &[&str]) -> Gate {
    open(&[("OIDC_ISSUERS", &issuers.join(",")), ("OIDC_AUDIENCE", AUDIENCE)]).await.unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let header = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(header).collect()
}

fn bearer(token: &str) -> HeaderMap {
    headers(&[("authorization", &format!("Bearer {token}"))])
}

async fn admit(gate: &Gate, token: &str) -> Result<Caller, Denied> {
    gate.admit(&bearer(token), b"", NOW).await
}

async fn outcome(gate: &Gate, token: &str, now: u64) -> Result<Proof, Denied> {
    gate.admit(&bearer(token), b"", now).await.map(|caller| caller.by)
}

async fn identity(gate: &Gate, claims: &Value) -> Job {
    let caller = admit(gate, &good(claims)).await.unwrap();
    assert_eq!(caller.by, Proof::Oidc);
    caller.identity.unwrap()
}

/// An issuer of the world, whose keys are in the settings.
fn listed(issuer: &str) -> Value {
    json!({"issuer": issuer, "jwks": {"keys": [jwk("one", &KEY)]}})
}

#[tokio::test]
async fn claims_of_every_provider_name_the_job() {
    let org = "https://oidc.circleci.com/org/5c2a6a07-9c5e-4f0f-a3a6-3b1f3ea2d3a1";
    let issuers = json!([
        listed("https://gitlab.example.com:8443"),
        listed(org),
        listed("https://token.actions.githubusercontent.com"),
        listed("https://ghes.example.com/_services/token"),
    ]);
    let access = r#"[{"projects": "acme/*", "by": ["oidc"]}]"#;
    let gate = open(&[
        ("OIDC_ISSUERS", &issuers.to_string()),
        ("OIDC_AUDIENCE", r#"["someone", "https://ci.acme.test"]"#),
        ("ACCESS", access),
    ])
    .await
    .unwrap();
    let some = |text: &str| Some(text.to_owned());
    let host = |text: &str| Some(Host::parse(text).unwrap());
    let sha = some("714a629c0b401fdce83e847fc9589983fc6f46bc");

    let expected = Job {
        provider: Provider::Gitlab,
        host: host("gitlab.example.com:8443"),
        project: some("acme/web/shop"),
        project_id: some("278964"),
        run: Key::Number(2_722_508_965),
        job: Some(Key::Number(15_651_125_844)),
        attempt: None,
        root: None,
        ref_name: some("main"),
        revision: sha.clone(),
        event: None,
        above: None,
        step: None,
    };
    let claims = gitlab("https://gitlab.example.com:8443");
    assert_eq!(identity(&gate, &claims).await, expected);
    // A number is as good, and a fork's pipeline belongs to the project where it runs.
    let fork = [
        ("pipeline_id", json!(2_722_508_965_u64)),
        ("project_path", json!("mallory/shop")),
        ("project_id", json!("666")),
        ("job_project_path", json!("acme/web/shop")),
        ("job_project_id", json!("278964")),
    ];
    assert_eq!(identity(&gate, &with(claims, &fork)).await, expected);

    let expected = Job {
        provider: Provider::Circleci,
        host: host("circleci.com"),
        project: some("acme/shop"),
        project_id: some("9d1c3b2a-14d5-4a0e-8b0a-0f5f3f8c2b11"),
        run: Key::uuid("cedf175c-c537-49f8-9b5c-95892f0b2407").unwrap(),
        job: Key::uuid("3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34"),
        ref_name: some("refs/heads/main"),
        revision: None,
        ..expected
    };
    assert_eq!(identity(&gate, &circleci(org)).await, expected);

    let expected = Job {
        provider: Provider::Github,
        host: host("github.com"),
        project_id: some("1296269"),
        run: Key::Number(19_284_651_123),
        job: Some(Key::Number(55_120_394)),
        attempt: Some(2),
        revision: sha,
        ..expected
    };
    let issuer = "https://token.actions.githubusercontent.com";
    assert_eq!(identity(&gate, &github(issuer)).await, expected);
    let server = github("https://ghes.example.com/_services/token");
    let older = Job { host: host("ghes.example.com"), job: None, ..expected };
    assert_eq!(identity(&gate, &with(server, &[("check_run_id", Value::Null)])).await, older);
}

#[tokio::test]
async fn a_circleci_project_without_a_repository_goes_by_its_id() {
    let issuer = Issuer::good().await;
    let list = json!([{"issuer": issuer.url, "provider": "circleci"}]).to_string();
    let gate = open(&[("OIDC_ISSUERS", &list), ("OIDC_AUDIENCE", AUDIENCE)]).await.unwrap();
    let claims = with(circleci(&issuer.url), &[("oidc.circleci.com/vcs-origin", Value::Null)]);
    let job = identity(&gate, &claims).await;
    assert_eq!(job.project.as_deref(), Some("9d1c3b2a-14d5-4a0e-8b0a-0f5f3f8c2b11"));
    // CircleCI has its keys at an address of its own, without a configuration.
    assert_eq!(issuer.server.configurations.load(Ordering::Relaxed), 0);
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn what_openssl_signed_holds_and_a_key_of_1024_bits_is_none() {
    let n_2048 = "16duc4yCZnJbTFQepiwj6XN4fBpytxHQyfE3FG4-gq2M4RerQs9WBvl9Mg8hyeWhFo0FyPT2ExRizXoFE5svPVJwlI4xPkUS2osMOSMPALc2pLaIJP5sF5bRr4GLg4i1P4hMMxyWQ0s8wIIVNffHpdMZRhKUMMrsUipVGL7O08rGU0l7Hc3SdHrBJo8ByjOS-jXpG98_mfxsGUJudmV5NpaXY4U-BfhlyJwIKn14T2qXtdlIlvGNp-FNZUNmBpU6Z0M993EgxNRjSfH4TGqs5IBITH6iFOJAX3zgPv9zvVJWILgXjp8cMqCCWFvBUfbFV2HDsdeDEzjw0sIyFlpqVw";
    let n_1024 = "uyq8gVy9c8835a6mJsWs6RNYVo8_2cbKIyd6LdDAi9_PxEHhHaA4gB53VvvepCD-b2QTGSlksX8lyia_E5cuOMs0DaMe6d9bkEZaRHZ0GrjuOY5-HQc8eu5p_lFzhEhidLazUosEFnLAVV8kSgoKKI3hZh9jngaV1BTmwtdfYzM";
    let signed = "eyJhbGciOiJSUzI1NiIsImtpZCI6Im9wZW5zc2wiLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJodHRwczovL2dpdGxhYi5leGFtcGxlLmNvbSIsImF1ZCI6Imh0dHBzOi8vY2kuYWNtZS50ZXN0IiwiaWF0IjoxNzkzNjExNzAwLCJuYmYiOjE3OTM2MTE2OTUsImV4cCI6MTc5MzYxNTMwMCwic3ViIjoicHJvamVjdF9wYXRoOmFjbWUvd2ViL3Nob3A6cmVmX3R5cGU6YnJhbmNoOnJlZjptYWluIiwicHJvamVjdF9wYXRoIjoiYWNtZS93ZWIvc2hvcCIsInByb2plY3RfaWQiOiIyNzg5NjQiLCJwaXBlbGluZV9pZCI6IjI3MjI1MDg5NjUiLCJqb2JfaWQiOiIxNTY1MTEyNTg0NCIsInJlZiI6Im1haW4iLCJzaGEiOiI3MTRhNjI5YzBiNDAxZmRjZTgzZTg0N2ZjOTU4OTk4M2ZjNmY0NmJjIn0";
    let by_2048 = "IDCaUQa5g2PJqKiKZm0dWXivbh_u5oxx4vVzo2oeqHaNBpM5ivvw5vm3W-PGG7n0DbeQ8FPXviWwzxJPlmGfb0_CiC_4AvNGsfasllxzjnKi-YfpkcF4E90wCVp47GqBQ2BAeOxL1G_AN3MKKNuk0q51HQSf1iVhc-6au3Y8aU0FDMme2PtbTmNEHYo8tJiFkkswYLqb2OyU0s-kuNn3tJsxVUu0sFM0NmkR7K-JG2Jg_P_eRu66io8Wol2k6PCTbg0TBTZjjhkjLVB7sJsT0RWZafmHgpubgQ26Q55CGCGEPjAzuYU58XdXHnJ1be528V_Dha8GhWx23bKWwbefvg";
    let by_1024 = "CzXIQVUIUzfVbOfAZC5sCVV8ZSwd2nKoo6fYRWX2Qf0rAjj2nIR7YuULA6OJ0DBLOtEU6VxZMpzIglzqGGHRWZz0l7NyTUeQh5UzDSXw0JUidjwV866XvaUPpTOVwChZ1XFO2Ecr9inrsy7XA6QC4e5Xzo9k0_hPV_6B6va25N8";
    for (n, signature, expected) in
        [(n_2048, by_2048, Ok(Proof::Oidc)), (n_1024, by_1024, Err(Denied::TokenKey))]
    {
        let key = json!({"kty": "RSA", "kid": "openssl", "n": n, "e": "AQAB"});
        let keys = json!({"keys": [key, jwk("one", &KEY)]});
        let list = json!([{"issuer": "https://gitlab.example.com", "jwks": keys}]).to_string();
        let gate = open(&[("OIDC_ISSUERS", &list), ("OIDC_AUDIENCE", AUDIENCE)]).await.unwrap();
        assert_eq!(outcome(&gate, &format!("{signed}.{signature}"), NOW).await, expected);
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn every_forged_token_is_refused() {
    let issuer = Issuer::good().await;
    let elsewhere = Issuer::start(Answer::Keys(json!({"keys": [jwk("one", &FORGED)]}))).await;
    let gate = gate(&[&issuer.url]).await;
    let claims = gitlab(&issuer.url);
    let text = claims.to_string();
    let token = good(&claims);
    assert_eq!(outcome(&gate, &token, NOW).await, Ok(Proof::Oidc));
    let signed = token.rsplit_once('.').unwrap().0;

    let signature = URL_SAFE_NO_PAD.decode(token.rsplit_once('.').unwrap().1).unwrap();
    let cut = format!("{signed}.{}", part(&signature[..255]));

    let hs256 = |key: &[u8]| {
        let signed = format!("{}.{}", part(r#"{"alg":"HS256","kid":"one"}"#), part(&text));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
        format!("{signed}.{}", part(tag))
    };
    let pem = format!(
        "-----BEGIN RSA PUBLIC KEY-----\n{}\n-----END RSA PUBLIC KEY-----\n",
        STANDARD.encode(der(&KEY))
    );
    let unsigned = |alg: &str| {
        format!("{}.{}.", part(json!({"alg": alg, "kid": "one"}).to_string()), part(&text))
    };
    let headed = |key, header: Value| sign(key, &header.to_string(), &text);
    let mut sha512 = vec![0; 256];
    KEY.sign(&RSA_PKCS1_SHA512, &SystemRandom::new(), signed.as_bytes(), &mut sha512).unwrap();
    let padded = |to: usize| with(claims.clone(), &[("x", json!("x".repeat(to)))]);
    let raw = |claims: &str| sign(&KEY, HEADER, claims);
    let twice = |more: &str| raw(&format!("{},{more}}}", text.strip_suffix('}').unwrap()));
    let keys_of = |issuer: &Issuer| format!("{}/keys", issuer.url);
    let deep = |open: &str, close: &str| {
        raw(&format!(r#"{{"x":{}1{}}}"#, open.repeat(4000 / open.len()), close.repeat(4000)))
    };
    let cases = [
        ("alg none", unsigned("none"), Denied::TokenAlgorithm),
        ("alg None", unsigned("None"), Denied::TokenAlgorithm),
        ("alg NONE", unsigned("NONE"), Denied::TokenAlgorithm),
        ("alg nOnE", unsigned("nOnE"), Denied::TokenAlgorithm),
        ("no alg", headed(&KEY, json!({"kid": "one"})), Denied::TokenShape),
        (
            "RS256 in small letters",
            headed(&KEY, json!({"alg": "rs256", "kid": "one"})),
            Denied::TokenAlgorithm,
        ),
        (
            "alg none, and yet signed",
            headed(&KEY, json!({"alg": "none", "kid": "one"})),
            Denied::TokenAlgorithm,
        ),
        ("RS256 without a signature", format!("{signed}."), Denied::TokenSignature),
        ("HS256 with the public key as DER", hs256(der(&KEY)), Denied::TokenAlgorithm),
        ("HS256 with the public key as PEM", hs256(pem.as_bytes()), Denied::TokenAlgorithm),
        ("ES256", headed(&KEY, json!({"alg": "ES256", "kid": "one"})), Denied::TokenAlgorithm),
        ("PS256", headed(&KEY, json!({"alg": "PS256", "kid": "one"})), Denied::TokenAlgorithm),
        ("RS512", headed(&KEY, json!({"alg": "RS512", "kid": "one"})), Denied::TokenAlgorithm),
        ("SHA-512 under RS256", format!("{signed}.{}", part(sha512)), Denied::TokenSignature),
        (
            "two algs",
            sign(&KEY, r#"{"alg":"none","alg":"RS256","kid":"one"}"#, &text),
            Denied::TokenShape,
        ),
        (
            "two kids",
            sign(&KEY, r#"{"alg":"RS256","kid":"two","kid":"one"}"#, &text),
            Denied::TokenShape,
        ),
        ("header as a list", sign(&KEY, r#"["RS256","one",false]"#, &text), Denied::Bearer),
        (
            "crit",
            headed(&KEY, json!({"alg": "RS256", "kid": "one", "crit": ["exp"]})),
            Denied::TokenAlgorithm,
        ),
        (
            "crit null",
            headed(&KEY, json!({"alg": "RS256", "kid": "one", "crit": null})),
            Denied::TokenAlgorithm,
        ),
        ("another key, same kid", sign(&FORGED, HEADER, &text), Denied::TokenSignature),
        ("no kid", headed(&KEY, json!({"alg": "RS256"})), Denied::TokenShape),
        ("unknown kid", headed(&KEY, json!({"alg": "RS256", "kid": "two"})), Denied::TokenKey),
        ("empty kid", headed(&KEY, json!({"alg": "RS256", "kid": ""})), Denied::TokenKey),
        (
            "kid of a file",
            headed(&FORGED, json!({"alg": "RS256", "kid": "../../../../dev/null"})),
            Denied::TokenKey,
        ),
        (
            "kid of SQL",
            headed(&FORGED, json!({"alg": "RS256", "kid": "x' UNION SELECT 'one"})),
            Denied::TokenKey,
        ),
        (
            "kid of an address",
            headed(&FORGED, json!({"alg": "RS256", "kid": keys_of(&elsewhere)})),
            Denied::TokenKey,
        ),
        (
            "embedded jwk",
            headed(&FORGED, json!({"alg": "RS256", "kid": "one", "jwk": jwk("one", &FORGED)})),
            Denied::TokenSignature,
        ),
        (
            "jku",
            headed(&FORGED, json!({"alg": "RS256", "kid": "one", "jku": keys_of(&elsewhere)})),
            Denied::TokenSignature,
        ),
        (
            "x5u",
            headed(&FORGED, json!({"alg": "RS256", "kid": "one", "x5u": keys_of(&elsewhere)})),
            Denied::TokenSignature,
        ),
        ("truncated signature", cut, Denied::TokenSignature),
        ("longer signature", format!("{token}AAAA"), Denied::TokenSignature),
        (
            "changed claims",
            format!(
                "{}.{}.{}",
                part(HEADER),
                part(text.replace("acme", "evil")),
                token.rsplit_once('.').unwrap().1
            ),
            Denied::TokenSignature,
        ),
        (
            "changed header",
            format!(
                "{}.{}",
                part(HEADER.replace("\"x\"", "\"y\"")),
                token.split_once('.').unwrap().1
            ),
            Denied::TokenSignature,
        ),
        ("a fourth part", format!("{token}.{}", part("x")), Denied::TokenShape),
        ("five parts, as an encrypted token", format!("{token}.a.b"), Denied::TokenShape),
        ("two parts", signed.to_owned(), Denied::TokenShape),
        ("one part and a dot", "ey.".to_owned(), Denied::TokenShape),
        ("dots", "ey..".to_owned(), Denied::TokenShape),
        ("no base64", format!("{}.!!!.{}", part(HEADER), part("x")), Denied::TokenShape),
        ("padded base64", format!("{token}="), Denied::TokenShape),
        ("plain base64", format!("{signed}.+/+/"), Denied::TokenShape),
        ("claims that are no JSON", raw("{"), Denied::TokenShape),
        (
            "claims that are no UTF-8",
            sign(&KEY, HEADER, "{}").replace(".e30.", &format!(".{}.", part(b"{\xff}"))),
            Denied::TokenShape,
        ),
        ("claims as a list", raw("[1]"), Denied::TokenShape),
        ("claims and more", raw(&format!("{text}{text}")), Denied::TokenShape),
        ("deep lists", deep("[", "]"), Denied::TokenShape),
        ("deep objects", deep("{\"x\":", "}"), Denied::TokenShape),
        ("huge", good(&padded(MAX_TOKEN)), Denied::TokenSize),
        ("two issuers", twice(&format!(r#""iss":"{}""#, issuer.url)), Denied::TokenShape),
        ("two audiences", twice(&format!(r#""aud":"{AUDIENCE}""#)), Denied::TokenShape),
        ("two ends", twice(r#""exp":99999999999"#), Denied::TokenShape),
        ("two projects", twice(r#""project_path":"acme/other""#), Denied::TokenClaims),
    ];
    for (what, token, expected) in cases {
        assert_eq!(outcome(&gate, &token, NOW).await, Err(expected), "{what}");
    }
    assert_eq!(elsewhere.fetches(), 0, "no address of a token is asked");
    assert_eq!(issuer.fetches(), 1, "unknown keys are not looked for again within a minute");
    assert_eq!(outcome(&gate, &good(&padded(8000)), NOW).await, Ok(Proof::Oidc));
}

proptest! {
    #[test]
    fn a_token_that_is_changed_anywhere_is_refused(at: Index, to in "[A-Za-z0-9_.=-]") {
        static GATE: LazyLock<Gate> = LazyLock::new(|| {
            let list = json!([listed("https://gitlab.example.com")]).to_string();
            let pairs = [("OIDC_ISSUERS", &*list), ("OIDC_AUDIENCE", AUDIENCE)];
            open(&pairs).now_or_never().unwrap().unwrap()
        });
        static TOKEN: LazyLock<String> =
            LazyLock::new(|| good(&gitlab("https://gitlab.example.com")));
        let at = at.index(TOKEN.len());
        let changed = format!("{}{to}{}", &TOKEN[..at], &TOKEN[at + 1..]);
        let admitted = admit(&GATE, &changed).now_or_never().unwrap().is_ok();
        prop_assert_eq!(admitted, changed == *TOKEN);
    }
}

#[tokio::test]
async fn claims_that_do_not_fit_are_refused() {
    let issuer = Issuer::good().await;
    let gate = gate(&[&issuer.url]).await;
    let url = &issuer.url;
    let upper = url.replace("http", "HTTP");
    let number = json!(1);
    for (name, value, expected) in [
        ("iss", Value::Null, Err(Denied::TokenShape)),
        ("iss", number.clone(), Err(Denied::TokenShape)),
        ("iss", json!("https://gitlab.com"), Err(Denied::TokenIssuer)),
        ("iss", json!(format!("{url}/")), Err(Denied::TokenIssuer)),
        ("iss", json!(format!("{url}.evil.test")), Err(Denied::TokenIssuer)),
        ("iss", json!(format!("{url}@evil.test")), Err(Denied::TokenIssuer)),
        ("iss", json!(upper), Err(Denied::TokenIssuer)),
        ("iss", json!(url[..url.len() - 1]), Err(Denied::TokenIssuer)),
        ("iss", json!(format!(" {url}")), Err(Denied::TokenIssuer)),
        ("iss", json!(""), Err(Denied::TokenIssuer)),
        ("aud", Value::Null, Err(Denied::TokenShape)),
        ("aud", number.clone(), Err(Denied::TokenShape)),
        ("aud", json!({"0": AUDIENCE}), Err(Denied::TokenShape)),
        ("aud", json!("https://ci.acme.test/"), Err(Denied::TokenAudience)),
        ("aud", json!("https://ci.acme.test.evil.test"), Err(Denied::TokenAudience)),
        ("aud", json!("HTTPS://CI.ACME.TEST"), Err(Denied::TokenAudience)),
        ("aud", json!(""), Err(Denied::TokenAudience)),
        ("aud", json!([]), Err(Denied::TokenAudience)),
        ("aud", json!(["other"]), Err(Denied::TokenAudience)),
        ("aud", json!(["other", AUDIENCE]), Ok(Proof::Oidc)),
        ("exp", Value::Null, Err(Denied::TokenShape)),
        ("exp", json!("1893456000"), Err(Denied::TokenShape)),
        ("exp", json!(-1), Err(Denied::TokenShape)),
        ("exp", json!(1.9e9), Err(Denied::TokenShape)),
        ("exp", json!(NOW - SKEW), Err(Denied::TokenExpired)),
        ("exp", json!(NOW - SKEW + 1), Ok(Proof::Oidc)),
        ("exp", json!(0), Err(Denied::TokenExpired)),
        ("exp", json!(NOW - 100 + MAX_LIFETIME + SKEW), Ok(Proof::Oidc)),
        ("exp", json!(NOW - 100 + MAX_LIFETIME + SKEW + 1), Err(Denied::TokenLifetime)),
        ("exp", json!(u64::MAX), Err(Denied::TokenLifetime)),
        ("nbf", Value::Null, Ok(Proof::Oidc)),
        ("nbf", json!(NOW + SKEW), Ok(Proof::Oidc)),
        ("nbf", json!(NOW + SKEW + 1), Err(Denied::TokenEarly)),
        ("nbf", json!(u64::MAX), Err(Denied::TokenEarly)),
        ("iat", Value::Null, Err(Denied::TokenShape)),
        ("iat", json!(NOW + SKEW + 1), Err(Denied::TokenEarly)),
        ("iat", json!(NOW - MAX_LIFETIME), Err(Denied::TokenLifetime)),
        ("project_path", Value::Null, Err(Denied::TokenClaims)),
        ("project_path", json!("acme"), Err(Denied::TokenClaims)),
        ("project_path", json!("acme//shop"), Err(Denied::TokenClaims)),
        ("project_path", json!("acme/../shop"), Err(Denied::TokenClaims)),
        ("project_path", json!("/acme/shop"), Err(Denied::TokenClaims)),
        ("project_path", json!("acme/sh op"), Err(Denied::TokenClaims)),
        ("job_project_path", json!("acme/shop"), Err(Denied::TokenClaims)),
        ("project_id", json!("x"), Err(Denied::TokenClaims)),
        ("pipeline_id", Value::Null, Err(Denied::TokenClaims)),
        ("pipeline_id", json!(""), Err(Denied::TokenClaims)),
        ("pipeline_id", json!("0"), Err(Denied::TokenClaims)),
        ("pipeline_id", json!("01"), Err(Denied::TokenClaims)),
        ("pipeline_id", json!("+1"), Err(Denied::TokenClaims)),
        ("pipeline_id", json!(-1), Err(Denied::TokenClaims)),
        ("pipeline_id", json!(1.5), Err(Denied::TokenClaims)),
        ("pipeline_id", json!("18446744073709551616"), Err(Denied::TokenClaims)),
        ("pipeline_id", json!("cedf175c-c537-49f8-9b5c-95892f0b2407"), Err(Denied::TokenClaims)),
        ("pipeline_id", json!({}), Err(Denied::TokenClaims)),
        ("job_id", Value::Null, Err(Denied::TokenClaims)),
        ("ref", json!("a\nb"), Ok(Proof::Oidc)),
        ("sha", json!("x"), Ok(Proof::Oidc)),
    ] {
        let token = good(&with(gitlab(url), &[(name, value.clone())]));
        assert_eq!(outcome(&gate, &token, NOW).await, expected, "{name}: {value}");
    }
}

#[tokio::test]
async fn ids_of_circleci_and_github_are_validated_too() {
    let (one, two) = (Issuer::good().await, Issuer::good().await);
    let list = json!([
        {"issuer": one.url, "provider": "circleci"},
        {"issuer": two.url, "provider": "github"},
    ])
    .to_string();
    let gate = open(&[("OIDC_ISSUERS", &list), ("OIDC_AUDIENCE", AUDIENCE)]).await.unwrap();
    let (circleci, github) = (circleci(&one.url), github(&two.url));
    for (claims, name, value) in [
        (&circleci, "oidc.circleci.com/workflow-id", Value::Null),
        (&circleci, "oidc.circleci.com/workflow-id", json!("12")),
        (&circleci, "oidc.circleci.com/workflow-id", json!("00000000-0000-0000-0000-000000000000")),
        (&circleci, "oidc.circleci.com/job-id", json!("3f6a7c4a0bb6463abd0c3d5e0b1b1d34")),
        (&circleci, "oidc.circleci.com/job-id", json!("{3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34}")),
        (&circleci, "oidc.circleci.com/project-id", Value::Null),
        (&circleci, "oidc.circleci.com/vcs-origin", json!("github.com/acme")),
        (&circleci, "oidc.circleci.com/vcs-origin", json!("github.com//shop")),
        (&github, "repository", Value::Null),
        (&github, "repository", json!("acme")),
        (&github, "run_id", json!("1/2")),
        (&github, "run_attempt", Value::Null),
        (&github, "run_attempt", json!("0")),
        (&github, "check_run_id", json!("x")),
    ] {
        let token = good(&with(claims.clone(), &[(name, value.clone())]));
        let denied = admit(&gate, &token).await.unwrap_err();
        assert_eq!(denied, Denied::TokenClaims, "{name}: {value}");
    }
    // A token of one provider is none of another's.
    let crossed = with(circleci, &[("iss", json!(two.url))]);
    assert_eq!(admit(&gate, &good(&crossed)).await.unwrap_err(), Denied::TokenClaims);
}

#[tokio::test]
async fn keys_of_other_kinds_and_uses_are_none() {
    for (what, change) in [
        ("use enc", ("use", json!("enc"))),
        ("alg RS512", ("alg", json!("RS512"))),
        ("alg RSA-OAEP", ("alg", json!("RSA-OAEP"))),
        ("key_ops encrypt", ("key_ops", json!(["encrypt"]))),
        ("kty oct", ("kty", json!("oct"))),
        ("kty EC", ("kty", json!("EC"))),
        ("no kid", ("kid", Value::Null)),
        ("no n", ("n", Value::Null)),
        ("n that is no base64", ("n", json!("!"))),
        ("n of nothing", ("n", json!(""))),
        ("n of 2048 bits, most of them zero", ("n", json!(format!("{}AQ", "A".repeat(340))))),
    ] {
        let keys = json!({"keys": [with(jwk("one", &KEY), &[change]), jwk("two", &NEXT), 1, null]});
        let issuer = Issuer::start(Answer::Keys(keys)).await;
        let gate = gate(&[&issuer.url]).await;
        let denied = admit(&gate, &good(&gitlab(&issuer.url))).await.unwrap_err();
        assert_eq!(denied, Denied::TokenKey, "{what}");
    }
}

#[tokio::test]
async fn a_new_key_is_fetched_once_and_found() {
    let issuer = Issuer::good().await;
    let gate = gate(&[&issuer.url]).await;
    let old = good(&gitlab(&issuer.url));
    let header = r#"{"alg":"RS256","kid":"two"}"#;
    let new = sign(&NEXT, header, &gitlab(&issuer.url).to_string());
    let old_gone = json!({"keys": [jwk("two", &NEXT)]});
    for (what, now, token, expected, fetches) in [
        ("the first token", NOW, &old, Ok(Proof::Oidc), 1),
        ("a key before it is published", NOW + 1, &new, Err(Denied::TokenKey), 1),
        ("again", NOW + FLOOR - 1, &new, Err(Denied::TokenKey), 1),
        ("after a minute", NOW + FLOOR, &new, Ok(Proof::Oidc), 2),
        ("again", NOW + FLOOR + 1, &new, Ok(Proof::Oidc), 2),
        ("the old key is gone", NOW + 2 * FLOOR, &old, Err(Denied::TokenKey), 3),
    ] {
        if what == "a key before it is published" {
            issuer.set(Answer::Keys(old_gone.clone()));
        }
        assert_eq!(outcome(&gate, token, now).await, expected, "{what}");
        assert_eq!(issuer.fetches(), fetches, "{what}");
    }
}

#[tokio::test]
async fn keys_are_fetched_every_hour_and_stay_good_for_a_day_without_the_issuer() {
    let issuer = Issuer::good().await;
    let gate = gate(&[&issuer.url]).await;
    let at = |now: u64| {
        let times = [("iat", json!(now)), ("nbf", json!(now)), ("exp", json!(now + 600))];
        good(&with(gitlab(&issuer.url), &times))
    };
    let unknown = |now: u64| {
        let claims = with(gitlab(&issuer.url), &[("iat", json!(now)), ("exp", json!(now + 600))]);
        sign(&KEY, r#"{"alg":"RS256","kid":"two"}"#, &claims.to_string())
    };
    assert_eq!(outcome(&gate, &at(NOW), NOW).await, Ok(Proof::Oidc));
    assert_eq!(outcome(&gate, &at(NOW + FRESH - 1), NOW + FRESH - 1).await, Ok(Proof::Oidc));
    assert_eq!(issuer.fetches(), 1);
    let renewed = NOW + FRESH;
    assert_eq!(outcome(&gate, &at(renewed), renewed).await, Ok(Proof::Oidc));
    assert_eq!(issuer.fetches(), 2);

    issuer.set(Answer::Status(503));
    let configurations = || issuer.server.configurations.load(Ordering::Relaxed);
    assert_eq!(configurations(), 2);
    for (what, now, expected, asked) in [
        ("an hour later", renewed + FRESH, Ok(Proof::Oidc), 3),
        ("within the minute", renewed + FRESH + FLOOR - 1, Ok(Proof::Oidc), 3),
        ("a minute later", renewed + FRESH + FLOOR, Ok(Proof::Oidc), 4),
        ("just before a day", renewed + STALE - 1, Ok(Proof::Oidc), 5),
        ("a day later", renewed + STALE, Err(Denied::Unavailable), 5),
    ] {
        assert_eq!(outcome(&gate, &at(now), now).await, expected, "{what}");
        assert_eq!(configurations(), asked, "{what}");
    }
    // A key that may be a new one can't be judged while the issuer is away.
    let later = renewed + STALE;
    assert_eq!(outcome(&gate, &unknown(later), later).await, Err(Denied::Unavailable));
    issuer.set(Answer::Keys(json!({"keys": [jwk("one", &KEY)]})));
    let back = later + FLOOR;
    assert_eq!(outcome(&gate, &at(back), back).await, Ok(Proof::Oidc));
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_keep_keys() {
    let issuer = Issuer::good().await;
    let gate = gate(&[&issuer.url]).await;
    let token = |now: u64| {
        let times = [("iat", json!(now)), ("nbf", json!(now)), ("exp", json!(now + 600))];
        good(&with(gitlab(&issuer.url), &times))
    };
    assert_eq!(outcome(&gate, &token(NOW), NOW).await, Ok(Proof::Oidc));
    issuer.set(Answer::Keys(json!({"keys": [jwk("two", &NEXT)]})));
    let earlier = NOW - FRESH;
    assert_eq!(outcome(&gate, &token(earlier), earlier).await, Err(Denied::TokenKey));
}

#[tokio::test]
async fn an_issuer_that_can_not_be_used_is_no_fault_of_the_token() {
    let elsewhere = Issuer::good().await;
    let other = format!("{}/keys", elsewhere.url);
    let large = format!(r#"{{"keys": [{}], "x": "{}"}}"#, jwk("one", &KEY), "x".repeat(256 * 1024));
    let issuer = Issuer::good().await;
    let configuration = |issuer: &str, keys: &str| {
        Answer::Configuration(json!({"issuer": issuer, "jwks_uri": keys}))
    };
    for (what, answer) in [
        ("an error", Answer::Status(500)),
        ("nothing there", Answer::Status(404)),
        ("an empty success", Answer::Status(204)),
        ("a redirect to another server", Answer::Redirect(other.clone())),
        ("a redirect to itself", Answer::Redirect(format!("{}/keys2", issuer.url))),
        ("a page", Answer::Body("<html>".to_owned())),
        ("a large key set", Answer::Body(large)),
        ("no keys", Answer::Body(r#"{"keys": []}"#.to_owned())),
        ("keys elsewhere", configuration(&issuer.url, &other)),
        ("keys in a file", configuration(&issuer.url, "file:///etc/passwd")),
        ("keys nowhere", configuration(&issuer.url, "keys")),
        ("another issuer", configuration(&elsewhere.url, &format!("{}/keys", issuer.url))),
    ] {
        issuer.set(answer);
        let gate = gate(&[&issuer.url]).await;
        let denied = admit(&gate, &good(&gitlab(&issuer.url))).await.unwrap_err();
        assert_eq!(denied, Denied::Unavailable, "{what}");
        assert_eq!(denied.problem().status, 503);
    }
    assert_eq!(elsewhere.fetches(), 0);

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = format!("http://{}", { gone }.local_addr().unwrap());
    let gate = gate(&[&gone]).await;
    assert_eq!(admit(&gate, &good(&gitlab(&gone))).await.unwrap_err(), Denied::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_silent_issuer_is_waited_for_three_seconds() {
    let issuer = Issuer::start(Answer::Silence).await;
    let gate = gate(&[&issuer.url]).await;
    let started = tokio::time::Instant::now();
    let denied = admit(&gate, &good(&gitlab(&issuer.url))).await.unwrap_err();
    assert_eq!(denied, Denied::Unavailable);
    assert!(started.elapsed() < Duration::from_millis(3100), "{:?}", started.elapsed());
}

/// A service's threads share their work: its futures must be able to move.
fn on_any_thread<T>(future: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
    future
}

#[tokio::test]
async fn a_hundred_bad_tokens_at_once_are_one_fetch() {
    let issuer = Issuer::good().await;
    let gate = gate(&[&issuer.url]).await;
    let bad: Vec<_> = (0..100)
        .map(|it| format!("{{\"alg\":\"RS256\",\"kid\":\"{it}\"}}"))
        .map(|header| sign(&FORGED, &header, &gitlab(&issuer.url).to_string()))
        .collect();
    let calls = futures_util::future::join_all(bad.iter().map(|it| admit(&gate, it)));
    let denied = on_any_thread(calls).await;
    assert!(denied.into_iter().all(|it| it.unwrap_err() == Denied::TokenKey));
    assert_eq!(issuer.fetches(), 1);
    // The good one is not kept out by them.
    assert!(admit(&gate, &good(&gitlab(&issuer.url))).await.is_ok());
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_take_the_keys_along() {
    let issuer = Issuer::good().await;
    let gate = gate(&[&issuer.url]).await;
    let token = good(&gitlab(&issuer.url));
    assert!(admit(&gate, &token).now_or_never().is_none(), "it waits for the issuer");
    assert!(admit(&gate, &token).await.is_ok());
    assert_eq!(issuer.fetches(), 1);
}

fn signed(body: &[u8], at: u64) -> Vec<(&'static str, String)> {
    let signature = sign_standard("msg_1", at, body, &signing_key(SIGNING_KEY).unwrap()).unwrap();
    vec![
        ("webhook-id", "msg_1".to_owned()),
        ("webhook-timestamp", at.to_string()),
        ("webhook-signature", signature),
    ]
}

fn all(pairs: &[(&'static str, String)]) -> HeaderMap {
    headers(&pairs.iter().map(|(name, value)| (*name, &**value)).collect::<Vec<_>>())
}

#[tokio::test]
async fn everything_that_was_shown_must_hold_and_the_identity_wins() {
    let issuer = Issuer::good().await;
    let keys = format!(r#"["whsec_{}", "{SIGNING_KEY}"]"#, STANDARD.encode([7; 32]));
    let tokens = format!("another-token\n{TOKEN}");
    let gate = open(&[
        ("OIDC_ISSUERS", &issuer.url),
        ("OIDC_AUDIENCE", AUDIENCE),
        ("BUILD_EVENTS_SIGNING_KEY", &keys),
        ("BUILD_EVENTS_TOKEN", &tokens),
    ])
    .await
    .unwrap();
    let body = b"{}";
    let job = format!("Bearer {}", good(&gitlab(&issuer.url)));
    let forged = format!("Bearer {}", sign(&FORGED, HEADER, &gitlab(&issuer.url).to_string()));
    let authorized = |value: &str| vec![("authorization", value.to_owned())];
    let and = |one: &[(&'static str, String)], two: &[(&'static str, String)]| [one, two].concat();
    let (right, stale) = (signed(body, NOW), signed(body, NOW - 301));
    let wrong = signed(b"{\"x\":1}", NOW);
    let mismatch = Err(Denied::Signature(Rejection::Mismatch));
    for (what, headers, expected) in [
        ("nothing", vec![], Err(Denied::Missing)),
        ("a signature", right.clone(), Ok(Proof::Signature)),
        ("an old signature", stale, Err(Denied::Signature(Rejection::Stale))),
        ("a signature of something else", wrong.clone(), mismatch),
        (
            "a signature without its time",
            right[2..].to_vec(),
            Err(Denied::Signature(Rejection::Malformed)),
        ),
        ("a token", authorized("Bearer hunter2-the-token"), Ok(Proof::Bearer)),
        ("a token in small letters", authorized("bearer  hunter2-the-token "), Ok(Proof::Bearer)),
        ("the other token", authorized("Bearer another-token"), Ok(Proof::Bearer)),
        ("a wrong token", authorized("Bearer hunter2-the-toke"), Err(Denied::Bearer)),
        ("no token", authorized("Bearer "), Err(Denied::Missing)),
        ("another scheme", authorized("Basic aHVudGVyMg=="), Err(Denied::Missing)),
        (
            "another scheme beside a signature",
            and(&right, &authorized("Basic x")),
            Ok(Proof::Signature),
        ),
        ("a job", authorized(&job), Ok(Proof::Oidc)),
        ("a job and a signature", and(&right, &authorized(&job)), Ok(Proof::Oidc)),
        ("a job and a wrong signature", and(&wrong, &authorized(&job)), mismatch),
        (
            "a forged job and a signature",
            and(&right, &authorized(&forged)),
            Err(Denied::TokenSignature),
        ),
        (
            "a wrong token and a signature",
            and(&right, &authorized("Bearer x")),
            Err(Denied::Bearer),
        ),
        (
            "a token and a signature",
            and(&right, &authorized("Bearer another-token")),
            Ok(Proof::Signature),
        ),
        (
            "two tokens",
            and(&authorized(&job), &authorized("Bearer another-token")),
            Err(Denied::Header),
        ),
        ("two signatures", and(&right, &right), Err(Denied::Header)),
    ] {
        let caller = gate.admit(&all(&headers), body, NOW).await;
        assert_eq!(caller.as_ref().map(|it| it.by).map_err(|it| *it), expected, "{what}");
        let by = caller.ok().map(|it| (it.by, it.identity.is_some()));
        assert!(by.is_none_or(|(by, identity)| identity == (by == Proof::Oidc)), "{what}");
    }
}

#[tokio::test]
async fn the_first_rule_that_fits_a_project_decides() {
    let (here, there) = (Issuer::good().await, Issuer::good().await);
    let host = here.url.strip_prefix("http://").unwrap();
    let access = json!([
        {"projects": "Acme/Secret-*", "by": []},
        {"projects": "acme/web/*", "by": [format!("oidc:{host}")]},
        {"projects": "acme/*", "by": ["oidc", "signature"]},
        {"projects": "278965", "by": ["oidc"]},
        {"projects": "open/*", "by": ["none", "bearer"]},
        {"projects": "?*", "by": ["bearer"]},
        {"projects": "*", "by": ["signature"]},
    ])
    .to_string();
    let gate = open(&[
        ("OIDC_ISSUERS", &format!("{}, {}", here.url, there.url)),
        ("OIDC_AUDIENCE", AUDIENCE),
        ("BUILD_EVENTS_SIGNING_KEY", SIGNING_KEY),
        ("BUILD_EVENTS_TOKEN", TOKEN),
        ("ACCESS", &access),
    ])
    .await
    .unwrap();

    let job = async |issuer: &Issuer, project: &str, id: &str| {
        let project = [("project_path", json!(project)), ("project_id", json!(id))];
        outcome(&gate, &good(&with(gitlab(&issuer.url), &project)), NOW).await
    };
    let forbidden = Err(Denied::Forbidden);
    assert_eq!(job(&here, "acme/web/shop", "1").await, Ok(Proof::Oidc));
    assert_eq!(job(&there, "acme/web/shop", "1").await, forbidden, "another instance's");
    assert_eq!(job(&there, "ACME/site", "1").await, Ok(Proof::Oidc));
    assert_eq!(job(&here, "acme/secret-plans", "1").await, forbidden);
    assert_eq!(job(&here, "widgets/site", "278965").await, Ok(Proof::Oidc), "by its id");
    assert_eq!(job(&here, "widgets/site", "278966").await, forbidden);

    // A job speaks for its own project, whatever an event says.
    let caller = admit(&gate, &good(&gitlab(&here.url))).await.unwrap();
    assert!(caller.may(None) && caller.may(Some("widgets/site")));

    let signed = gate.admit(&all(&signed(b"", NOW)), b"", NOW).await.unwrap();
    let bearer = admit(&gate, TOKEN).await.unwrap();
    let nobody = gate.admit(&HeaderMap::new(), b"", NOW).await.unwrap();
    for (project, expected) in [
        (Some("acme/shop"), [true, false, false]),
        (Some("acme/secret-x"), [false, false, false]),
        (Some("acme/web/shop"), [false, false, false]),
        (Some("open/site"), [false, true, true]),
        (Some("widgets/site"), [false, true, false]),
        (None, [true, false, false]),
        // Other spellings could pass by the rule that is meant for a name.
        (Some(""), [false, false, false]),
        (Some("open//site"), [false, false, false]),
        (Some(" open/site"), [false, false, false]),
        (Some("open/../acme"), [false, false, false]),
        (Some("open/site\n"), [false, false, false]),
    ] {
        let found = [&signed, &bearer, &nobody].map(|caller| caller.may(project));
        assert_eq!(found, expected, "{project:?}");
    }
    assert_eq!(bearer.require(Some("acme/shop")), Err(Denied::Forbidden));
    assert_eq!(nobody.require(Some("acme/shop")), Err(Denied::Missing));
    assert_eq!(nobody.require(Some("open/site")), Ok(()));
}

#[tokio::test]
async fn whoever_asks_for_a_traceparent_needs_a_proof_only_where_one_is_configured() {
    let issuer = Issuer::good().await;
    let open = async |pairs: &[(&str, &str)]| {
        Gate::open(GateSettings::traceparent(&vars(pairs)).unwrap()).await.unwrap()
    };
    let ask = async |gate: &Gate, headers: &HeaderMap| {
        gate.admit(headers, b"", NOW).await.map(|caller| (caller.by, caller.may(None)))
    };
    let (nothing, any) = (HeaderMap::new(), bearer("any"));
    let job = bearer(&good(&gitlab(&issuer.url)));

    let public = open(&[]).await;
    for headers in [&nothing, &any, &job] {
        assert_eq!(ask(&public, headers).await, Ok((Proof::None, true)));
    }
    let token = open(&[("TRACEPARENT_TOKEN", TOKEN)]).await;
    assert_eq!(ask(&token, &nothing).await, Err(Denied::Missing));
    assert_eq!(ask(&token, &any).await, Err(Denied::Bearer));
    assert_eq!(ask(&token, &bearer(TOKEN)).await, Ok((Proof::Bearer, true)));

    let oidc = [("OIDC_ISSUERS", &*issuer.url), ("OIDC_AUDIENCE", AUDIENCE)];
    let jobs = open(&oidc).await;
    assert_eq!(ask(&jobs, &nothing).await, Ok((Proof::None, true)));
    assert_eq!(ask(&jobs, &job).await, Ok((Proof::Oidc, true)));
    assert_eq!(ask(&jobs, &any).await, Err(Denied::Bearer), "what is wrong is not ignored");
    let rule = r#"[{"projects": "acme/*", "by": ["oidc"]}]"#;
    let only = open(&[oidc[0], oidc[1], ("ACCESS", rule)]).await;
    assert_eq!(ask(&only, &nothing).await, Err(Denied::Missing));
    assert_eq!(ask(&only, &job).await, Ok((Proof::Oidc, true)));
}

#[tokio::test]
async fn settings_that_can_not_be_meant_say_what_to_type() {
    let audience = ("OIDC_AUDIENCE", AUDIENCE);
    let keys = json!({"keys": [jwk("one", &KEY)]});
    let list = |it: Value| json!([it]).to_string();
    let weak = with(jwk("one", &KEY), &[("n", json!("AQAB"))]);
    let described = |it: Value| (list(it), "OIDC_ISSUERS can't be used; use ");
    let gitlab = "https://gitlab.example.com";
    for (text, expected) in [
        ("gitlab.example.com".to_owned(), "OIDC_ISSUERS can't be used; use issuers exactly"),
        ("http://gitlab.example.com".to_owned(), "OIDC_ISSUERS can't be used; use issuers exactly"),
        ("https://u:p@gitlab.example.com".to_owned(), "OIDC_ISSUERS can't be used; use issuers"),
        ("https://gitlab.example.com?x".to_owned(), "OIDC_ISSUERS can't be used; use issuers"),
        ("http://127.0.0.1.evil.test".to_owned(), "OIDC_ISSUERS can't be used; use issuers"),
        (
            "https://oidc.circleci.com".to_owned(),
            "OIDC_ISSUERS can't be used; use https://oidc.circleci.com/org/",
        ),
        ("[1]".to_owned(), "OIDC_ISSUERS can't be used; use addresses"),
        described(json!({"issuer": gitlab, "provider": "jenkins"})),
        described(json!({"issuer": gitlab, "jwks_url": "http://keys.example.com"})),
        described(json!({"issuer": gitlab, "jwks_url": "https://keys.example.com", "jwks": keys})),
        described(json!({"issuer": gitlab, "jwks": {"keys": [weak]}})),
        described(json!({"issuer": gitlab, "keys": []})),
    ] {
        let error = open(&[("OIDC_ISSUERS", &text), audience]).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    for (pairs, expected) in [
        (vec![], "OIDC_ISSUERS is not set; set it to the issuers"),
        (vec![("OIDC_ISSUERS", gitlab)], "OIDC_AUDIENCE is not set; set it to what jobs ask for"),
        (
            vec![("OIDC_ISSUERS", gitlab), ("OIDC_AUDIENCE", "[\"\"]")],
            "OIDC_AUDIENCE can't be used",
        ),
        (vec![("OIDC_ISSUERS", "https://gitlab.com"), audience], "ACCESS is not set; everybody"),
        (
            vec![("OIDC_ISSUERS", gitlab), ("OIDC_AUDIENCE", "[\n \"hunter2\",\n]")],
            "OIDC_AUDIENCE can't be used",
        ),
        (
            vec![("OIDC_ISSUERS", gitlab), ("OIDC_AUDIENCE", "{\"aud\": \"hunter2\"}")],
            "OIDC_AUDIENCE can't be used",
        ),
        (
            vec![("OIDC_ISSUERS", gitlab), ("OIDC_AUDIENCE", "\"hunter2\"")],
            "OIDC_AUDIENCE can't be used",
        ),
        (vec![("BUILD_EVENTS_SIGNING_KEY", "hunter2")], "BUILD_EVENTS_SIGNING_KEY can't be used"),
        (
            vec![("BUILD_EVENTS_SIGNING_KEY", "[\n \"hunter2\",\n]")],
            "BUILD_EVENTS_SIGNING_KEY can't be used",
        ),
        (
            vec![("BUILD_EVENTS_TOKEN", "[\n \"hunter2-the-token\",\n]")],
            "BUILD_EVENTS_TOKEN can't be used",
        ),
        (
            vec![("BUILD_EVENTS_TOKEN", TOKEN), ("ACCESS", "acme/*")],
            "ACCESS can't be used; use JSON",
        ),
        (
            vec![
                ("BUILD_EVENTS_TOKEN", TOKEN),
                ("ACCESS", r#"[{"projects": "*", "by": ["password"]}]"#),
            ],
            "ACCESS can't be used; use the proofs",
        ),
        (
            vec![
                ("BUILD_EVENTS_TOKEN", TOKEN),
                ("ACCESS", r#"[{"projects": "*", "by": ["bearer:x"]}]"#),
            ],
            "ACCESS can't be used; use the proofs",
        ),
        (
            vec![
                ("BUILD_EVENTS_TOKEN", TOKEN),
                ("ACCESS", r#"[{"projects": "*", "by": [], "x": 1}]"#),
            ],
            "ACCESS can't be used; use JSON",
        ),
    ] {
        let error = open(&pairs).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{pairs:?}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    // Of a public issuer, only named projects, or knowingly all; unless anybody may ask anyway.
    let public = [("OIDC_ISSUERS", "https://gitlab.com"), audience];
    for rule in
        [r#"[{"projects": "acme/*", "by": ["oidc"]}]"#, r#"[{"projects": "*/*", "by": ["oidc"]}]"#]
    {
        assert!(open(&[public[0], public[1], ("ACCESS", rule)]).await.is_ok(), "{rule}");
    }
    let token = ("TRACEPARENT_TOKEN", TOKEN);
    for (pairs, expected) in [(public.to_vec(), true), ([&public[..], &[token]].concat(), false)] {
        let settings = GateSettings::traceparent(&vars(&pairs)).unwrap();
        assert_eq!(Gate::open(settings).await.is_ok(), expected, "{pairs:?}");
    }
    let anybody = r#"[{"projects": "*", "by": ["none"]}]"#;
    let anybody = open(&[("ACCESS", anybody)]).await.unwrap();
    let caller = anybody.admit(&HeaderMap::new(), b"", NOW).await.unwrap();
    assert_eq!((caller.by, caller.may(Some("acme/shop"))), (Proof::None, true));
}

#[tokio::test]
async fn callers_are_told_only_whether_to_prove_themselves_to_give_up_or_to_try_again() {
    let answer = async |denied: Denied| {
        let response = denied.into_response();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (
            status,
            headers.contains_key("www-authenticate"),
            String::from_utf8(body.to_vec()).unwrap(),
        )
    };
    let unauthorized = answer(Denied::Missing).await;
    assert_eq!((unauthorized.0, unauthorized.1), (401, true));
    for denied in [
        Denied::Header,
        Denied::Bearer,
        Denied::Signature(Rejection::Stale),
        Denied::TokenSize,
        Denied::TokenShape,
        Denied::TokenAlgorithm,
        Denied::TokenIssuer,
        Denied::TokenKey,
        Denied::TokenSignature,
        Denied::TokenSubject,
        Denied::TokenAudience,
        Denied::TokenExpired,
        Denied::TokenEarly,
        Denied::TokenLifetime,
        Denied::TokenClaims,
    ] {
        assert_eq!(answer(denied).await, unauthorized, "{denied:?}");
    }
    assert_eq!(answer(Denied::Forbidden).await.0, 403);
    assert_eq!(answer(Denied::Unavailable).await.0, 503);
}

#[tokio::test]
async fn no_token_or_secret_reaches_a_log_an_error_or_debug_output() {
    let captured = Captured::default();
    let writer = captured.clone();
    // Of the whole binary, so that no other test's thread switches it off.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let issuer = Issuer::good().await;
    let down = Issuer::start(Answer::Status(500)).await;
    let settings = GateSettings::build_events(&vars(&[
        ("OIDC_ISSUERS", &format!("{},{}", issuer.url, down.url)),
        ("OIDC_AUDIENCE", AUDIENCE),
        ("BUILD_EVENTS_SIGNING_KEY", SIGNING_KEY),
        ("BUILD_EVENTS_TOKEN", TOKEN),
    ]))
    .unwrap();
    let mut said = format!("{settings:?}");
    let gate = Gate::open(settings).await.unwrap();
    let tokens = [
        good(&gitlab(&issuer.url)),
        good(&gitlab(&down.url)),
        sign(&FORGED, r#"{"alg":"RS256","kid":"private-kid"}"#, &gitlab(&issuer.url).to_string()),
        "ey.private-claims.private-signature".to_owned(),
        "private-bearer".to_owned(),
        TOKEN.to_owned(),
    ];
    for token in &tokens {
        match admit(&gate, token).await {
            Ok(caller) => said += &format!("{caller:?}"),
            Err(denied) => said += &format!("{denied:?} {denied} {}", denied.as_str()),
        }
    }
    said += &format!("{gate:?}");
    said += &String::from_utf8_lossy(&captured.0.lock().unwrap());
    for token in &tokens {
        for part in token.split('.').filter(|it| it.len() > 2) {
            assert!(!said.contains(part), "{part}");
        }
    }
    for secret in ["hunter2", "AAECAwQ", "private-"] {
        assert!(!said.contains(secret), "{secret}");
    }
    assert!(said.contains("no keys from the issuer") && said.contains(&down.url), "{said}");
}

/// The endpoint as its function has it, at the time of the tokens.
async fn traceparent(vars: &Vars) -> Router {
    let service = Traceparent {
        gate: Gate::open(GateSettings::traceparent(vars).unwrap()).await.unwrap(),
        clock: Clock::new(|| at(NOW)),
        rules: project_rules(&Vars::new()).await.unwrap(),
        settings: Arc::new(Settings::default()),
        telemetry: Telemetry::queued("test", &TelemetrySettings::default()),
    };
    service.into_router()
}

fn asking(path: &str, authorization: &str) -> axum::http::Request<axum::body::Body> {
    let request = axum::http::Request::get(path).header("authorization", authorization);
    request.body(axum::body::Body::empty()).unwrap()
}

/// Whatever a job says of itself, in the path or in the body: its token says which job it is.
#[tokio::test]
async fn a_job_reaches_no_run_but_its_own() {
    const TRACE: &str = "ca54d68b6460aedebe19e565dcbb8d6c";
    const JOB: &str = "7b1a45c63d0a837b";
    let issuers = json!([listed("https://gitlab.com")]).to_string();
    let access = r#"[{"projects": "acme/*", "by": ["oidc"]}]"#;
    let vars = vars(&[("OIDC_ISSUERS", &issuers), ("OIDC_AUDIENCE", AUDIENCE), ("ACCESS", access)]);
    let telemetry = || Telemetry::queued("test", &TelemetrySettings::default());
    let clock = Clock::new(|| at(NOW));
    let bearer = format!("Bearer {}", good(&gitlab("https://gitlab.com")));

    let traceparent = traceparent(&vars).await;
    for own in ["/traceparent", "/traceparent/gitlab", "/traceparent/gitlab/2722508965/15651125844"]
    {
        let own = format!("{own}?format=value&project=widgets/site");
        let (status, context) = ask(traceparent.clone(), asking(&own, &bearer)).await;
        assert_eq!((status, context.trim_end()), (200, &*format!("00-{TRACE}-{JOB}-01")), "{own}");
    }
    for other in ["/1/2", "/2722508965/2", "/1/15651125844"] {
        let other = format!("/traceparent/gitlab{other}?format=value&project=widgets/site");
        assert_eq!(ask(traceparent.clone(), asking(&other, &bearer)).await.0, 403, "{other}");
        assert_eq!(ask(traceparent.clone(), asking(&other, "Bearer guess")).await.0, 401);
    }

    let queue = Arc::new(MemoryOutbox::default());
    let build_events = BuildEvents {
        gate: Arc::new(Gate::open(GateSettings::build_events(&vars).unwrap()).await.unwrap()),
        settings: Arc::new(Settings::default()),
        rules: project_rules(&Vars::new()).await.unwrap(),
        queue: Arc::clone(&queue),
        intake: Intake::new(),
        telemetry: telemetry(),
        clock,
    };
    let event = json!({
        "type": "ci_build_metadata", "timestamp": "2026-11-02T10:00:00Z", "correlation_id": "theirs",
        "project": "widgets/site", "job_status": "success", "metrics": { "duration_seconds": 5 },
        "context": { "provider": "gitlab", "host": "gitlab.com", "run_id": "1", "job_id": "2",
            "project": "widgets/site",
            "traceparent": "00-11111111111111111111111111111111-2222222222222222-01" },
    });
    let request = axum::http::Request::post("/build-events").header("authorization", &bearer);
    let request = request.body(axum::body::Body::from(event.to_string())).unwrap();
    let (status, answer) = ask(build_events.into_router(), request).await;
    assert_eq!(status, 202, "{answer}");
    assert!(answer.contains(&format!(r#""trace_ids":["{TRACE}"]"#)), "{answer}");
    let sent = queue.sent.lock().unwrap();
    for message in sent.iter() {
        let signal = message.attributes.get("signal").map(String::as_str);
        let held = unpack(&message.body, Some("otlp-proto+zstd"), signal).unwrap();
        let Content::Otlp(_, raw) = held else { panic!("no OTLP") };
        let holds = |text: &[u8]| raw.windows(text.len()).any(|it| it == text);
        assert!(holds(b"acme/web") && !holds(b"widgets"), "{signal:?}");
        assert!(!holds(&[0x11; 16]), "{signal:?}");
    }
}

/// A token of an older server does not know its job, and then the job's span can't be told.
#[tokio::test]
async fn a_github_job_is_told_its_own_run_attempt_and_job() {
    let issuer = "https://token.actions.githubusercontent.com";
    let issuers = json!([listed(issuer)]).to_string();
    let access = r#"[{"projects": "acme/*", "by": ["oidc:github.com"]}]"#;
    let vars = vars(&[("OIDC_ISSUERS", &issuers), ("OIDC_AUDIENCE", AUDIENCE), ("ACCESS", access)]);
    let traceparent = traceparent(&vars).await;
    let settings = Settings::default();
    let expected = |job: Option<u64>| {
        let claim = Claim {
            run_id: Some("19284651123".to_owned()),
            attempt: Some("2".to_owned()),
            job_id: job.map(|it| it.to_string()),
            ..Claim::default()
        };
        let place = Job::new(Provider::Github, &claim).unwrap().place(&settings);
        format!("00-{}-{}-01\n", place.trace, place.span())
    };
    let of_job = format!("Bearer {}", good(&github(issuer)));
    let older = with(github(issuer), &[("check_run_id", Value::Null)]);
    let of_run = format!("Bearer {}", good(&older));
    let told = async |path: &str, token: &str| {
        let path = format!("/traceparent{path}?format=value");
        ask(traceparent.clone(), asking(&path, token)).await
    };
    let run = "/github/19284651123/2";
    for path in ["", "/github", "/github/", run, &format!("{run}/"), &format!("{run}/55120394")] {
        assert_eq!(told(path, &of_job).await, (200, expected(Some(55_120_394))), "{path}");
        assert_eq!(told(path, &of_run).await, (200, expected(None)), "{path}");
    }
    for (path, status) in [
        ("/github/19284651123/2/55120395", 403),
        ("/github/19284651123/1/55120394", 403),
        ("/github/19284651123/1", 403),
        ("/github/9/2", 403),
        ("/gitlab/19284651123/55120394", 403),
        ("/github/19284651123", 404),
        ("/github/19284651123/2/x", 400),
    ] {
        assert_eq!(told(path, &of_job).await.0, status, "{path}");
    }
    let foreign = good(&with(github(issuer), &[("repository", json!("evil/shop"))]));
    assert_eq!(told(run, &format!("Bearer {foreign}")).await.0, 403, "not in ACCESS");
}
