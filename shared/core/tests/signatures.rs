//! Signature checks against published vectors, tables of what is refused, and properties.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::maybe_infinite_iter,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;
use spanhook_core::{
    secret::Secrets,
    signature::{
        Rejection, WebhookHeaders, sign_circleci, sign_standard, signing_key, verify_circleci,
        verify_standard, verify_token,
    },
};

/// <https://circleci.com/docs/guides/integration/outbound-webhooks/#validate-webhooks>
const CIRCLECI: [(&str, &str, &str); 4] = [
    ("hello world", "secret", "734cc62f32841568f45715aeb9f4d7891324e6d948e4c6c60c0621cdac48623a"),
    (
        "lalala",
        "another-secret",
        "daa220016c8f29a8b214fbfc3671aeec2145cfb1e6790184ffb38b6d0425fa00",
    ),
    (
        "an-important-request-payload",
        "hunter123",
        "9be2242094a9a8c00c64306f382a7f9d691de910b4a266f67bd314ef18ac49fa",
    ),
    ("foo", "secret", "773ba44693c7553d6ee20f61ea5d2757a9a4f4a44d2841ae4e95b52e4cd62db4"),
];

fn secrets(values: &[&str]) -> Secrets {
    Secrets::new(values.iter().copied())
}

#[test]
fn circlecis_own_vectors_hold() {
    for (body, secret, digest) in CIRCLECI {
        let header = format!("v1={digest}");
        assert_eq!(verify_circleci(Some(&header), body.as_bytes(), &secrets(&[secret])), Ok(()));
        assert_eq!(sign_circleci(body.as_bytes(), secret.as_bytes()), Some(header));
    }
}

#[test]
fn every_shape_of_circlecis_list_has_its_verdict() {
    let (body, secret, good) = CIRCLECI[0];
    let (upper, wrong) = (good.to_uppercase(), "0".repeat(64));
    for (header, expected) in [
        (None, Err(Rejection::Missing)),
        (Some(String::new()), Err(Rejection::Missing)),
        (Some("  ".to_owned()), Err(Rejection::Missing)),
        (Some(format!("v1={good}")), Ok(())),
        (Some(format!("v1={upper}")), Ok(())),
        (Some(format!("  v1={good}  ")), Ok(())),
        (Some(format!("v1={good},v2=abc")), Ok(())),
        (Some(format!("v2=abc, v1={good}")), Ok(())),
        (Some(format!("v1={wrong},v1={good}")), Ok(())),
        (Some(format!("v3=YWJj==,v1={good}")), Ok(())),
        (Some(format!("v1=zz,,=,v1,v1={good}")), Ok(())),
        (Some(format!("v2={good}")), Err(Rejection::Malformed)),
        (Some("v1=abc".to_owned()), Err(Rejection::Malformed)),
        (Some("v1=".to_owned()), Err(Rejection::Mismatch)),
        (Some(format!("v1={}", &good[..32])), Err(Rejection::Mismatch)),
        (Some(format!("v1={good}00")), Err(Rejection::Mismatch)),
        (Some(format!("v1={wrong}")), Err(Rejection::Mismatch)),
        (Some(good.to_owned()), Err(Rejection::Malformed)),
    ] {
        let verdict = verify_circleci(header.as_deref(), body.as_bytes(), &secrets(&[secret]));
        assert_eq!(verdict, expected, "{header:?}");
    }
}

#[test]
fn any_live_secret_verifies_and_an_empty_one_never_does() {
    let (body, secret, digest) = CIRCLECI[0];
    let header = format!("v1={digest}");
    let both = secrets(&["new", secret]);
    assert_eq!(verify_circleci(Some(&header), body.as_bytes(), &both), Ok(()));
    let unsigned = format!("v1={}", "0".repeat(64));
    assert!(secrets(&[""]).is_empty());
    assert_eq!(verify_circleci(Some(&unsigned), b"", &secrets(&[""])), Err(Rejection::Mismatch));
}

const NOW: u64 = 1_744_578_123;
const KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const BODY: &[u8] = b"{\"object_kind\":\"pipeline\"}";
const ID: &str = "f5e5f430-f57b-4e6e-9fac-d9128cd7232f";
const GOOD: &str = "v1,1Pit23dA8T7Cr9nKYs9bFoZeVhazMHKlmP3gJiyJWGQ=";

fn keys() -> Secrets {
    Secrets::new([signing_key(KEY).unwrap()])
}

#[test]
fn every_shape_of_a_standard_webhook_has_its_verdict() {
    let headers = |id, timestamp, signature| WebhookHeaders { id, timestamp, signature };
    let at = Some("1744578123");
    let wrong = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let several = format!("v1a,abc {wrong} {GOOD} v2,x");
    for (found, now, expected) in [
        (headers(Some(ID), at, Some(GOOD)), NOW, Ok(())),
        (headers(Some(ID), at, Some(&several)), NOW, Ok(())),
        (headers(Some(ID), at, Some(GOOD)), NOW + 300, Ok(())),
        (headers(Some(ID), at, Some(GOOD)), NOW - 300, Ok(())),
        (headers(Some(ID), at, Some(GOOD)), NOW + 301, Err(Rejection::Stale)),
        (headers(Some(ID), at, Some(GOOD)), NOW - 301, Err(Rejection::Stale)),
        (headers(Some(ID), at, None), NOW, Err(Rejection::Missing)),
        (headers(None, at, Some(GOOD)), NOW, Err(Rejection::Malformed)),
        (headers(Some("a.b"), at, Some(GOOD)), NOW, Err(Rejection::Malformed)),
        (headers(Some(ID), None, Some(GOOD)), NOW, Err(Rejection::Malformed)),
        (headers(Some(ID), Some("+1744578123"), Some(GOOD)), NOW, Err(Rejection::Malformed)),
        (headers(Some(ID), Some(" 1744578123"), Some(GOOD)), NOW, Err(Rejection::Malformed)),
        (headers(Some(ID), Some(""), Some(GOOD)), NOW, Err(Rejection::Malformed)),
        (
            headers(Some(ID), Some("99999999999999999999"), Some(GOOD)),
            NOW,
            Err(Rejection::Malformed),
        ),
        (headers(Some(ID), Some("01744578123"), Some(GOOD)), NOW, Err(Rejection::Mismatch)),
        (headers(Some("other"), at, Some(GOOD)), NOW, Err(Rejection::Mismatch)),
        (headers(Some(ID), at, Some(wrong)), NOW, Err(Rejection::Mismatch)),
        (headers(Some(ID), at, Some("v1,###")), NOW, Err(Rejection::Malformed)),
        (headers(Some(ID), at, Some("v1a,abc")), NOW, Err(Rejection::Malformed)),
        (headers(Some(ID), at, Some("")), NOW, Err(Rejection::Malformed)),
    ] {
        assert_eq!(verify_standard(found, BODY, &keys(), now), expected, "{found:?} at {now}");
    }
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn recorded_standard_webhooks_vectors_hold() {
    let fixtures = std::env::var("SPANHOOK_FIXTURES").expect("SPANHOOK_FIXTURES");
    let path = format!("{fixtures}/gitlab/STANDARD_WEBHOOKS_VECTORS.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for vector in json["vectors"].as_array().unwrap() {
        let text = |name: &str| vector[name].as_str().unwrap();
        let key = signing_key(text("secret")).unwrap();
        let timestamp = text("webhook-timestamp");
        let headers = WebhookHeaders {
            id: Some(text("webhook-id")),
            timestamp: Some(timestamp),
            signature: Some(text("webhook-signature")),
        };
        let now = timestamp.parse().unwrap();
        let body = text("body").as_bytes();
        assert_eq!(verify_standard(headers, body, &Secrets::new([key.clone()]), now), Ok(()));
        let signed = sign_standard(text("webhook-id"), now, body, &key);
        assert_eq!(signed.as_deref(), headers.signature, "{}", text("name"));
    }
}

#[test]
fn a_signing_token_is_base64_of_24_to_64_bytes_behind_its_prefix() {
    for bad in
        ["", "whsec_", "whsec_AAAA", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "whsec_###"]
    {
        assert!(signing_key(bad).is_none(), "{bad}");
    }
}

#[test]
fn tokens_are_compared_whole_against_every_live_value() {
    let live = secrets(&["one", "two"]);
    for (token, expected) in [
        (Some("one"), Ok(())),
        (Some("two"), Ok(())),
        (Some("On"), Err(Rejection::Mismatch)),
        (Some("one "), Err(Rejection::Mismatch)),
        (Some(""), Err(Rejection::Missing)),
        (None, Err(Rejection::Missing)),
    ] {
        assert_eq!(verify_token(token.map(str::as_bytes), &live), expected, "{token:?}");
    }
    assert_eq!(verify_token(Some(b"x"), &Secrets::default()), Err(Rejection::Mismatch));
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_any_change_does_not(
        body: Vec<u8>, key in prop::collection::vec(any::<u8>(), 1..80), flip: prop::sample::Index, id in "[a-z0-9-]{1,40}",
    ) {
        let keys = Secrets::new([key.clone()]);
        let circleci = sign_circleci(&body, &key).unwrap();
        let standard = sign_standard(&id, NOW, &body, &key).unwrap();
        let now = NOW.to_string();
        let headers = WebhookHeaders { id: Some(&id), timestamp: Some(&now), signature: Some(&standard) };
        prop_assert_eq!(verify_circleci(Some(&circleci), &body, &keys), Ok(()));
        prop_assert_eq!(verify_standard(headers, &body, &keys, NOW), Ok(()));
        let mut other = body.clone();
        if body.is_empty() { other.push(0) } else { let at = flip.index(body.len()); other[at] ^= 1; }
        prop_assert_eq!(verify_circleci(Some(&circleci), &other, &keys), Err(Rejection::Mismatch));
        prop_assert_eq!(verify_standard(headers, &other, &keys, NOW), Err(Rejection::Mismatch));
    }

    #[test]
    fn any_header_is_judged_without_a_panic(header in "\\PC{0,80}", body: Vec<u8>) {
        let _ = verify_circleci(Some(&header), &body, &keys());
        let headers = WebhookHeaders { id: Some(&header), timestamp: Some(&header), signature: Some(&header) };
        prop_assert!(verify_standard(headers, &body, &keys(), NOW).is_err());
    }
}
