//! A webhook proved in each way that a provider's room can declare, whatever its deliveries are.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::{Arc, LazyLock};

use aws_lc_rs::signature::RsaKeyPair;
use axum::{Router, http::HeaderMap};
use serde_json::{Value, json};
use spanhook_core::{
    check::{Check, PATH_SECRET, Rejection, Scheme},
    delivery::RECEIVED,
    provider::Provider,
    settings::{Variable, WebhookSettings},
};
use spanhook_service::gate::{Denied, GateError, Proof, Receiver};
use support::{
    MemoryOutbox, NOW, PING, SECRET, TOKEN, ask, broken_off, post, quiet, router, signed_by, spans,
    telling,
    tokens::{generate, jwk, sign},
    vars,
};

static SIGNATURE: Variable = Variable::secret("SIGNATURE", "set it", "a secret");
static SIGNING_KEY: Variable = Variable::secret("SIGNING_KEY", "set it", "a secret");
static HEADER_TOKEN: Variable = Variable::secret("HEADER_TOKEN", "set it", "a secret");
static PATH: Variable = Variable::secret("PATH_TOKEN", "set it", "a secret");
static BEARER: Variable = Variable::secret("BEARER", "set it", "a secret");
static ISSUERS: Variable = Variable::new("ISSUERS", "", "set it", "issuers");
static AUDIENCE: Variable = Variable::new("AUDIENCE", "", "set it to ours", "for whom");

/// All that a room may declare.
const CHECKS: [Check; 6] = [
    Check {
        variable: &SIGNATURE,
        scheme: Scheme::Hmac { header: "x-signature", prefix: "sha256=", list: false },
    },
    Check { variable: &SIGNING_KEY, scheme: Scheme::StandardWebhooks },
    Check { variable: &HEADER_TOKEN, scheme: Scheme::Token { header: "x-token" } },
    Check { variable: &PATH, scheme: Scheme::Path },
    Check { variable: &BEARER, scheme: Scheme::Bearer },
    Check { variable: &ISSUERS, scheme: Scheme::Oidc { audience: &AUDIENCE } },
];

const CLUSTER: &str = "https://cluster.example.com";
const RELAY: &str = "system:serviceaccount:ci:relay";

static KEY: LazyLock<RsaKeyPair> = LazyLock::new(generate);
static FORGED: LazyLock<RsaKeyPair> = LazyLock::new(generate);

/// An issuer whose keys are in the settings.
fn issuer() -> Value {
    json!({"issuer": CLUSTER, "subjects": [RELAY], "jwks": {"keys": [jwk("one", &KEY)]}})
}

/// The token of an account of the cluster.
fn token(key: &RsaKeyPair, subject: &str, ends: u64) -> String {
    let claims = json!({
        "iss": CLUSTER, "sub": subject, "aud": ["ours"], "iat": NOW - 100, "exp": ends,
    });
    format!("Bearer {}", sign(key, r#"{"alg":"RS256","kid":"one"}"#, &claims.to_string()))
}

async fn receiver(pairs: &[(&str, &str)]) -> Result<Receiver, GateError> {
    let vars = vars(pairs);
    let common = WebhookSettings::parse(&vars).unwrap();
    Receiver::proved_by(&CHECKS, Provider::Circleci, &vars, common).await
}

async fn webhook(pairs: &[(&str, &str)], queue: &Arc<MemoryOutbox>) -> Router {
    telling(receiver(pairs).await.unwrap(), queue, 100_000, quiet(), &vars(&[])).await
}

/// The headers that prove this body by the secret of a check.
fn proved(check: &Check, secret: &str, body: &str) -> Vec<(String, String)> {
    let mut headers = HeaderMap::new();
    check.sign(&mut headers, body.as_bytes(), &check.key(secret).unwrap(), "id", NOW);
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn request(headers: &[(String, String)]) -> axum::http::Request<axum::body::Body> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    post("/", &headers, PING)
}

fn authorized(value: &str) -> Vec<(String, String)> {
    vec![("authorization".to_owned(), value.to_owned())]
}

#[tokio::test]
async fn each_proof_admits_a_delivery_and_nothing_else_does() {
    const OTHER: &str = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";
    for check in &CHECKS[..5] {
        let name = check.variable.name;
        let standard = check.scheme == Scheme::StandardWebhooks;
        let (secret, other) =
            if standard { (TOKEN, OTHER) } else { (SECRET, "another-secret-that-is-long") };
        let queue = Arc::new(MemoryOutbox::default());
        let service = webhook(&[(name, secret)], &queue).await;
        let good = proved(check, secret, PING);
        assert_eq!(ask(service.clone(), request(&good)).await.0, 202, "{name}");
        let mut answers = Vec::new();
        for headers in [vec![], proved(check, other, PING), [good.clone(), good].concat()] {
            answers.push(ask(service.clone(), request(&headers)).await);
        }
        answers.dedup();
        let [(401, refusal)] = &answers[..] else { panic!("{name}: {answers:?}") };
        assert!(refusal.contains("the signature or token is missing or wrong"), "{refusal}");
        assert_eq!(queue.sent.lock().unwrap().len(), 1, "{name}");
    }
}

/// Tekton sends no header that could prove it; a relay, where there is one, still signs.
#[tokio::test]
async fn an_address_that_nobody_can_guess_is_a_proof_like_any_other() {
    let queue = Arc::new(MemoryOutbox::default());
    let body = include_str!("../../../events/tekton/pipelinerun-failed.json");
    let service = |pairs: &'static [(&'static str, &'static str)]| {
        let queue = Arc::clone(&queue);
        async move {
            let vars = vars(pairs);
            let common = WebhookSettings::parse(&vars).unwrap();
            let receiver = Receiver::open(Provider::Tekton, &vars, common).await.unwrap();
            telling(receiver, &queue, 100_000, quiet(), &vars).await
        }
    };
    let secret = &[("TEKTON_PATH_SECRET", SECRET)];
    let with_token =
        &[("TEKTON_PATH_SECRET", SECRET), ("TEKTON_TOKEN", "another-secret-that-is-long")];
    let whole = format!("/tekton/{SECRET}");
    for (pairs, path, expected) in [
        (&secret[..], whole.clone(), 202),
        (secret, format!("{whole}?x=1"), 202),
        (secret, "/tekton".to_owned(), 401),
        (secret, "/tekton/".to_owned(), 401),
        (secret, "/".to_owned(), 401),
        (secret, format!("/tekton/{}", &SECRET[1..]), 401),
        (secret, format!("{whole}x"), 401),
        (secret, format!("/tekton/{}%FF", &SECRET[1..]), 400),
        (secret, format!("/{SECRET}"), 404),
        (secret, format!("{whole}/more"), 404),
        (with_token, whole, 401),
    ] {
        let (status, answer) = ask(service(pairs).await, post(&path, &[], body)).await;
        assert_eq!(status, expected, "{path}: {answer}");
        assert!(!answer.contains(SECRET), "{answer}");
    }
    assert_eq!(queue.sent.lock().unwrap().len(), 2);
    // A header of that name is worth what it holds, and never makes a wrong path right.
    for (path, header, expected) in [
        ("/tekton", SECRET, 202),
        ("/tekton", "another-secret-that-is-long", 401),
        ("/tekton/another-secret-that-is-long", SECRET, 401),
    ] {
        let request = post(path, &[(PATH_SECRET, header)], body);
        assert_eq!(ask(service(secret).await, request).await.0, expected, "{path}");
    }
    // Of other providers a longer path is none.
    let other = webhook(&[("BEARER", SECRET)], &queue).await;
    let (status, _) = ask(other, post(&format!("/circleci/{SECRET}"), &[], PING)).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_secret_that_can_be_guessed_or_can_be_in_no_path_does_not_start() {
    for secret in ["too-short-hunter2", "hunter2-hunter2-hunter2-a/b", "hunter2-hunter2-hunter2-ä"]
    {
        let vars = vars(&[("TEKTON_PATH_SECRET", secret)]);
        let common = WebhookSettings::parse(&vars).unwrap();
        let error = Receiver::open(Provider::Tekton, &vars, common).await.unwrap_err().to_string();
        assert!(error.contains("set it to 24 or more letters"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn the_token_of_a_listed_subject_admits_a_delivery_and_nothing_else_does() {
    let queue = Arc::new(MemoryOutbox::default());
    let issuers = json!([issuer()]).to_string();
    let service = webhook(&[("ISSUERS", &issuers), ("AUDIENCE", "ours")], &queue).await;
    let other = "system:serviceaccount:ci:default";
    for (what, headers, expected) in [
        ("the relay's", authorized(&token(&KEY, RELAY, NOW + 500)), 202),
        ("of another account", authorized(&token(&KEY, other, NOW + 500)), 401),
        ("with another key", authorized(&token(&FORGED, RELAY, NOW + 500)), 401),
        ("an old one", authorized(&token(&KEY, RELAY, NOW - 60)), 401),
        ("no token of an issuer", authorized("Bearer hunter2-the-secret"), 401),
        ("another scheme", authorized("Basic aHVudGVyMg=="), 401),
        ("nothing", vec![], 401),
    ] {
        assert_eq!(ask(service.clone(), request(&headers)).await.0, expected, "{what}");
    }
    assert_eq!(queue.sent.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn of_several_that_are_configured_every_one_must_hold() {
    let issuers = json!([issuer()]).to_string();
    let configured = [
        ("SIGNATURE", SECRET),
        ("SIGNING_KEY", TOKEN),
        ("HEADER_TOKEN", SECRET),
        ("PATH_TOKEN", SECRET),
        ("BEARER", SECRET),
        ("ISSUERS", &*issuers),
        ("AUDIENCE", "ours"),
    ];
    let queue = Arc::new(MemoryOutbox::default());
    let service = webhook(&configured, &queue).await;
    let by = |check: &Check| {
        proved(check, if check.variable == &SIGNING_KEY { TOKEN } else { SECRET }, PING)
    };
    let own: Vec<_> = CHECKS[..4].iter().map(by).collect();
    let jwt = token(&KEY, RELAY, NOW + 500);
    let bearer = format!("Bearer {SECRET}");
    // One header can't carry both: either is what it must carry.
    for authorization in [&jwt, &bearer] {
        let all = [own.concat(), authorized(authorization)].concat();
        assert_eq!(ask(service.clone(), request(&all)).await.0, 202);
    }
    for left_out in 0..5 {
        let mut parts = [own.clone(), vec![authorized(&jwt)]].concat();
        parts.remove(left_out);
        assert_eq!(ask(service.clone(), request(&parts.concat())).await.0, 401, "{left_out}");
    }
    let wrong = [own.concat(), authorized("Bearer another-secret")].concat();
    assert_eq!(ask(service, request(&wrong)).await.0, 401);
    assert_eq!(queue.sent.lock().unwrap().len(), 2);
    let said = receiver(&configured).await.unwrap().proofs();
    assert_eq!(
        said,
        "proved by SIGNATURE and SIGNING_KEY and HEADER_TOKEN and PATH_TOKEN and BEARER or ISSUERS"
    );
}

#[tokio::test]
async fn what_no_body_could_mend_is_refused_before_one_is_read() {
    let issuers = json!([issuer()]).to_string();
    let queue = Arc::new(MemoryOutbox::default());
    for (pairs, headers, expected) in [
        (vec![("BEARER", SECRET)], authorized("Bearer wrong-secret"), 401),
        (vec![("BEARER", SECRET)], authorized(&format!("Bearer {SECRET}")), 400),
        (
            vec![("ISSUERS", &*issuers), ("AUDIENCE", "ours")],
            authorized(&token(&FORGED, RELAY, NOW + 9)),
            401,
        ),
        (
            vec![("ISSUERS", &*issuers), ("AUDIENCE", "ours")],
            authorized(&token(&KEY, RELAY, NOW + 9)),
            400,
        ),
    ] {
        let service = webhook(&pairs, &queue).await;
        let (status, _) = ask(service, broken_off(request(&headers))).await;
        assert_eq!(status, expected, "{pairs:?}: 400 says that the body was read");
    }
}

/// A body may take longer than its token lives; a signature's own time still counts.
#[tokio::test]
async fn a_token_is_checked_once_and_a_signature_when_the_body_is_there() {
    let issuers = json!([issuer()]).to_string();
    let headers = |pairs: &[(String, String)]| request(pairs).headers().clone();
    let oidc = receiver(&[("ISSUERS", &issuers), ("AUDIENCE", "ours")]).await.unwrap();
    let shown = headers(&authorized(&token(&KEY, RELAY, NOW + 5)));
    let screened = oidc.screen(&shown, NOW).await.ok().unwrap();
    assert_eq!(oidc.screen(&shown, NOW + 500).await.err(), Some(Denied::TokenExpired));
    assert_eq!(screened.prove(b"", NOW + 500).await, Ok(Proof::Oidc));

    let signed = receiver(&[("SIGNING_KEY", TOKEN)]).await.unwrap();
    let shown = headers(&proved(&CHECKS[1], TOKEN, PING));
    let stale = Denied::Signature(Rejection::Stale);
    let screened = signed.screen(&shown, NOW).await.ok().unwrap();
    assert_eq!(screened.prove(PING.as_bytes(), NOW + 301).await, Err(stale));
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_no_fault_of_the_delivery() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", { listener }.local_addr().unwrap());
    let issuers = json!([{"issuer": url, "subjects": [RELAY]}]).to_string();
    let claims = json!({"iss": url, "sub": RELAY, "aud": "ours", "iat": NOW, "exp": NOW + 9});
    let token = sign(&KEY, r#"{"alg":"RS256","kid":"one"}"#, &claims.to_string());
    let queue = Arc::new(MemoryOutbox::default());
    let service = webhook(&[("ISSUERS", &issuers), ("AUDIENCE", "ours")], &queue).await;
    let (status, answer) = ask(service, request(&authorized(&format!("Bearer {token}")))).await;
    assert!(status == 503 && answer.contains("can't be checked at the moment"), "{answer}");
}

#[tokio::test]
async fn a_webhook_that_nothing_or_anybody_could_prove_does_not_start() {
    let anybodys = json!([{"issuer": "https://gitlab.com"}]).to_string();
    let nobodys = json!([{"issuer": CLUSTER, "subjects": []}]).to_string();
    for (pairs, expected) in [
        (vec![], "SIGNATURE is not set; set it to the secret token of the webhook"),
        (vec![("AUDIENCE", "ours")], "SIGNATURE is not set"),
        (vec![("ISSUERS", CLUSTER)], "AUDIENCE is not set; set it to ours"),
        (
            vec![("ISSUERS", "https://gitlab.com"), ("AUDIENCE", "ours")],
            "ISSUERS can't be used; name",
        ),
        (vec![("ISSUERS", &anybodys), ("AUDIENCE", "ours")], "ISSUERS can't be used; name"),
        (vec![("ISSUERS", &nobodys), ("AUDIENCE", "ours")], "ISSUERS can't be used; name"),
        (vec![("BEARER", "short")], "BEARER can't be used"),
    ] {
        let error = receiver(&pairs).await.unwrap_err();
        assert!(error.to_string().starts_with(expected), "{pairs:?}: {error}");
        let unproved = matches!(error, GateError::Unproved(_));
        assert_eq!(unproved, expected.starts_with("SIGNATURE"), "{pairs:?}: {error:?}");
    }
    let unsigned = receiver(&[("ALLOW_UNSIGNED", "true")]).await.unwrap();
    assert_eq!(unsigned.proofs(), "unsigned deliveries are accepted");
    assert!(unsigned.screen(&HeaderMap::new(), NOW).await.is_ok());
}

/// Some events have no date, and then have that of their arrival, which is handed on in a header.
#[tokio::test]
async fn no_header_of_a_sender_says_when_a_delivery_arrived() {
    let vars = vars(&[("LIGHTHOUSE_HMAC_KEY", SECRET)]);
    let queue = Arc::new(MemoryOutbox::default());
    let service =
        router(support::receiver(Provider::Lighthouse, &vars).await, &queue, 100_000).await;
    let body = include_str!("../../../events/lighthouse/push.json");
    let mut request = signed_by(Provider::Lighthouse, body);
    for text in ["1", "9999999999999999999"] {
        request.headers_mut().append(RECEIVED, text.parse().unwrap());
    }
    assert_eq!(ask(service, request).await.0, 202);
    let starts: Vec<_> = spans(&queue).iter().map(|it| it.start_time_unix_nano).collect();
    assert_eq!(starts, [NOW * 1_000_000_000]);
}
