//! Signature checks against published vectors, tables of what is refused, and properties.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::maybe_infinite_iter,
    reason = "a test fails by panicking"
)]

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use spanhook_core::{
    check::{
        Check, PATH_SECRET, Rejection, Scheme, WebhookHeaders, sign_standard, signing_key,
        verify_standard, verify_token,
    },
    provider::Provider,
    secret::Secrets,
    settings::Variable,
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

fn circleci() -> &'static Check {
    &Provider::Circleci.room().checks[0]
}

/// A header that comes in so many lines.
fn lines(name: &'static str, lines: &[impl AsRef<[u8]>]) -> HeaderMap {
    let line = |it: &[u8]| (HeaderName::from_static(name), HeaderValue::from_bytes(it).unwrap());
    let mut headers = HeaderMap::new();
    for (name, value) in lines.iter().map(|it| line(it.as_ref())) {
        headers.append(name, value);
    }
    headers
}

#[test]
fn circlecis_own_vectors_hold() {
    for (body, secret, digest) in CIRCLECI {
        let headers = lines("circleci-signature", &[format!("v1={digest}")]);
        let body = body.as_bytes();
        assert_eq!(circleci().verify(&headers, body, &secrets(&[secret]), NOW), Ok(()));
        let mut signed = HeaderMap::new();
        circleci().sign(&mut signed, body, secret.as_bytes(), ID, NOW);
        assert_eq!(signed, headers);
    }
}

#[test]
fn every_shape_of_circlecis_list_has_its_verdict() {
    let (body, secret, good) = CIRCLECI[0];
    let (upper, wrong) = (good.to_uppercase(), "0".repeat(64));
    let one = |text: String| vec![text.into_bytes()];
    for (found, expected) in [
        (vec![], Err(Rejection::Missing)),
        (one(String::new()), Err(Rejection::Missing)),
        (one("  ".to_owned()), Err(Rejection::Missing)),
        (vec![b"".to_vec(), b" ".to_vec()], Err(Rejection::Missing)),
        (one(format!("v1={good}")), Ok(())),
        (one(format!("v1={upper}")), Ok(())),
        (one(format!("  v1={good}  ")), Ok(())),
        (one(format!("v1={good},v2=abc")), Ok(())),
        (one(format!("v2=abc, v1={good}")), Ok(())),
        (one(format!("v1={wrong},v1={good}")), Ok(())),
        (one(format!("v3=YWJj==,v1={good}")), Ok(())),
        (one(format!("v1=zz,,=,v1,v1={good}")), Ok(())),
        (one(format!("v2={good}")), Err(Rejection::Malformed)),
        (one("v1=abc".to_owned()), Err(Rejection::Malformed)),
        (one("v1=".to_owned()), Err(Rejection::Malformed)),
        (one(format!("v1={}", &good[..32])), Err(Rejection::Malformed)),
        (one(format!("v1={good}00")), Err(Rejection::Malformed)),
        (one(format!("v1={wrong}")), Err(Rejection::Mismatch)),
        (one(good.to_owned()), Err(Rejection::Malformed)),
        // A list may come in several lines.
        (vec![b"v2=abc".to_vec(), format!("v1={good}").into_bytes()], Ok(())),
        (vec![format!("v1={good}").into_bytes(), b"v2=abc".to_vec()], Ok(())),
        (vec![format!("v1={wrong}").into_bytes(), format!("v1={good}").into_bytes()], Ok(())),
        (vec![b"".to_vec(), format!("v1={good}").into_bytes()], Ok(())),
        (vec![b"v1=\xFF".to_vec(), format!("v1={good}").into_bytes()], Ok(())),
        (vec![b"v2=a".to_vec(), b"v3=b".to_vec()], Err(Rejection::Malformed)),
        (vec![format!("v1={wrong}").into_bytes(), b"v2=a".to_vec()], Err(Rejection::Mismatch)),
        (vec![b"v1=\xFF".to_vec()], Err(Rejection::Malformed)),
    ] {
        let headers = lines("circleci-signature", &found);
        let verdict = circleci().verify(&headers, body.as_bytes(), &secrets(&[secret]), NOW);
        assert_eq!(verdict, expected, "{headers:?}");
    }
}

#[test]
fn any_live_secret_verifies_and_an_empty_one_never_does() {
    let (body, secret, digest) = CIRCLECI[0];
    let verify = |digest: &str, body: &str, live: &[&str]| {
        let headers = lines("circleci-signature", &[format!("v1={digest}")]);
        circleci().verify(&headers, body.as_bytes(), &secrets(live), NOW)
    };
    assert_eq!(verify(digest, body, &["new", secret]), Ok(()));
    assert!(secrets(&[""]).is_empty());
    assert_eq!(verify(&"0".repeat(64), "", &[""]), Err(Rejection::Mismatch));
}

static SECRET: Variable = Variable::secret("SECRET", "set it", "a secret");

/// As GitHub signs.
/// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>
const SINGLE: Check = Check {
    variable: &SECRET,
    scheme: Scheme::Hmac { header: "x-hub-signature-256", prefix: "sha256=", list: false },
};

/// As jobs and relays without a signing key prove themselves.
const PATH: Check = Check { variable: &SECRET, scheme: Scheme::Path };
const BEARER: Check = Check { variable: &SECRET, scheme: Scheme::Bearer };

/// The vector of that page.
const GITHUB: (&str, &str, &str) = (
    "Hello, World!",
    "It's a Secret to Everybody",
    "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
);

#[test]
fn githubs_own_vector_holds() {
    let (body, secret, digest) = GITHUB;
    let headers = lines("x-hub-signature-256", &[format!("sha256={digest}")]);
    assert_eq!(SINGLE.verify(&headers, body.as_bytes(), &secrets(&[secret]), NOW), Ok(()));
    let mut signed = HeaderMap::new();
    SINGLE.sign(&mut signed, body.as_bytes(), secret.as_bytes(), ID, NOW);
    assert_eq!(signed, headers);
}

#[test]
fn every_shape_of_a_single_signature_has_its_verdict() {
    let (body, secret, good) = GITHUB;
    let (upper, wrong) = (good.to_uppercase(), "0".repeat(64));
    let one = |text: String| vec![text.into_bytes()];
    let sent = format!("sha256={good}").into_bytes();
    for (found, expected) in [
        (vec![], Err(Rejection::Missing)),
        (one(String::new()), Err(Rejection::Missing)),
        (one("  ".to_owned()), Err(Rejection::Missing)),
        (vec![sent.clone()], Ok(())),
        (one(format!("sha256={upper}")), Ok(())),
        (one(format!("  sha256={good}  ")), Ok(())),
        (one(format!("sha256={wrong}")), Err(Rejection::Mismatch)),
        (one(format!("SHA256={good}")), Err(Rejection::Malformed)),
        (one(format!("sha1={good}")), Err(Rejection::Malformed)),
        (one(format!("sha1={}", &good[..40])), Err(Rejection::Malformed)),
        (one(format!("v1={good}")), Err(Rejection::Malformed)),
        (one(good.to_owned()), Err(Rejection::Malformed)),
        (one("sha256=".to_owned()), Err(Rejection::Malformed)),
        (one(format!("sha256={}", &good[..62])), Err(Rejection::Malformed)),
        (one(format!("sha256={}", &good[..63])), Err(Rejection::Malformed)),
        (one(format!("sha256={good}00")), Err(Rejection::Malformed)),
        (one(format!("sha256={}zz", &good[..62])), Err(Rejection::Malformed)),
        (one(format!("sha256=sha256={good}")), Err(Rejection::Malformed)),
        // It is no list, neither with commas nor in lines.
        (one(format!("sha256={good},sha256={good}")), Err(Rejection::Malformed)),
        (one(format!("sha1=abc,sha256={good}")), Err(Rejection::Malformed)),
        (one(format!("sha256={good},")), Err(Rejection::Malformed)),
        (vec![sent.clone(), sent.clone()], Err(Rejection::Malformed)),
        (vec![sent.clone(), b"".to_vec()], Err(Rejection::Malformed)),
        (vec![b"sha1=abc".to_vec(), sent.clone()], Err(Rejection::Malformed)),
        (vec![b"\xFF".to_vec(), sent.clone()], Err(Rejection::Malformed)),
        (vec![b"sha256=\xFF".to_vec()], Err(Rejection::Malformed)),
    ] {
        let headers = lines("x-hub-signature-256", &found);
        let verdict = SINGLE.verify(&headers, body.as_bytes(), &secrets(&[secret]), NOW);
        assert_eq!(verdict, expected, "{headers:?}");
    }
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

#[test]
fn every_shape_of_a_bearer_token_has_its_verdict() {
    let verify = |values: &[&str]| {
        BEARER.verify(&lines("authorization", values), b"", &secrets(&["old-one", "t0ken-of"]), NOW)
    };
    for (values, expected) in [
        (&[][..], Err(Rejection::Missing)),
        (&["Bearer t0ken-of"], Ok(())),
        (&["bearer  t0ken-of "], Ok(())),
        (&["BEARER old-one"], Ok(())),
        (&["Bearer t0ken-o"], Err(Rejection::Mismatch)),
        (&["Bearer t0ken-of old-one"], Err(Rejection::Mismatch)),
        (&["Bearer "], Err(Rejection::Missing)),
        (&["t0ken-of"], Err(Rejection::Missing)),
        (&["Basic t0ken-of"], Err(Rejection::Missing)),
        (&["Bearer t0ken-of", "Bearer t0ken-of"], Err(Rejection::Repeated)),
        (&["Bearer t0ken-öf"], Err(Rejection::Repeated)),
    ] {
        assert_eq!(verify(values), expected, "{values:?}");
    }
}

#[test]
fn an_openid_token_is_neither_proved_nor_made_with_a_secret() {
    static AUDIENCE: Variable = Variable::new("AUDIENCE", "", "set it", "for whom");
    let check = Check { variable: &SECRET, scheme: Scheme::Oidc { audience: &AUDIENCE } };
    assert_eq!(check.key("any-secret"), None);
    let mut headers = HeaderMap::new();
    check.sign(&mut headers, b"", b"any-secret", ID, NOW);
    assert!(headers.is_empty());
    let headers = lines("authorization", &["Bearer any-secret"]);
    let secrets = secrets(&["any-secret"]);
    assert_eq!(check.verify(&headers, b"", &secrets, NOW), Err(Rejection::Mismatch));
    assert_eq!(check.verify_headers(&headers, &secrets, NOW), Err(Rejection::Mismatch));
}

/// Every way in which a delivery may be proved here; an issuer's token is proved elsewhere.
fn checks() -> impl Iterator<Item = &'static Check> {
    let all =
        Provider::ALL.into_iter().flat_map(|it| it.room().checks).chain([&SINGLE, &PATH, &BEARER]);
    all.filter(|it| !matches!(it.scheme, Scheme::Oidc { .. }))
}

/// The headers that the schemes look at.
const HEADERS: [&str; 8] = [
    "authorization",
    PATH_SECRET,
    "circleci-signature",
    "x-hub-signature-256",
    "x-gitlab-token",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];

/// A value of such a header: anything, or nearly the right thing.
fn noise() -> impl Strategy<Value = HeaderValue> {
    let text = prop_oneof![
        prop::collection::vec(prop_oneof![32..=126_u8, 128..=255_u8], 0..80),
        "(bearer|Bearer|Basic)[ ]{0,2}[!-~]{0,20}".prop_map(String::into_bytes),
        "(v1=|v1,|sha256=|v2=|sha1=)?[0-9a-fA-F]{0,66}[ ,]{0,2}".prop_map(String::into_bytes),
        (NOW - 400..NOW + 400).prop_map(|it| it.to_string().into_bytes()),
    ];
    text.prop_map(|it| HeaderValue::from_bytes(&it).unwrap())
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_any_change_does_not(
        body: Vec<u8>, key in prop::collection::vec(any::<u8>(), 1..80), flip: prop::sample::Index, id in "[a-z0-9-]{1,40}",
    ) {
        let keys = Secrets::new([key.clone()]);
        let mut other = body.clone();
        if body.is_empty() { other.push(0) } else { let at = flip.index(body.len()); other[at] ^= 1; }
        for check in checks().filter(|it| it.scheme.covers_body()) {
            let mut headers = HeaderMap::new();
            check.sign(&mut headers, &body, &key, &id, NOW);
            prop_assert_eq!(check.verify(&headers, &body, &keys, NOW), Ok(()));
            prop_assert_eq!(check.verify(&headers, &other, &keys, NOW), Err(Rejection::Mismatch));
        }
    }

    #[test]
    fn any_header_is_judged_without_a_panic(values in prop::collection::vec(noise(), HEADERS.len()), body: Vec<u8>) {
        let mut headers = HeaderMap::new();
        HEADERS.iter().zip(values).for_each(|(name, value)| drop(headers.insert(*name, value)));
        for check in checks() {
            prop_assert!(check.verify(&headers, &body, &keys(), NOW).is_err());
            let _ = check.verify_headers(&headers, &keys(), NOW);
        }
    }

    #[test]
    fn what_the_headers_alone_are_refused_for_the_body_would_not_excuse(
        body: Vec<u8>,
        before in prop::collection::vec((prop::sample::select(&HEADERS), noise()), 0..2),
        after in prop::collection::vec((prop::sample::select(&HEADERS), noise()), 0..3),
        id in "[a-z0-9.-]{1,40}",
        later in 0..400_u64,
        signs: bool,
    ) {
        let key = b"0123456789abcdef0123456789abcdef";
        let live = Secrets::new([key]);
        for check in checks() {
            let mut signed = HeaderMap::new();
            if signs {
                check.sign(&mut signed, &body, key, &id, NOW);
            }
            let mut headers = HeaderMap::new();
            let pairs = |it: &[(&'static str, HeaderValue)]| -> Vec<_> {
                it.iter().map(|(name, value)| (HeaderName::from_static(name), value.clone())).collect()
            };
            let own = signed.iter().map(|(name, value)| (name.clone(), value.clone()));
            for (name, value) in pairs(&before).into_iter().chain(own).chain(pairs(&after)) {
                headers.append(name, value);
            }
            let whole = check.verify(&headers, &body, &live, NOW + later);
            let early = check.verify_headers(&headers, &live, NOW + later);
            prop_assert!(whole.is_err() || early.is_ok(), "{:?}: {:?}, {:?}", headers, whole, early);
            let alone = check.verify(&signed, &body, &live, NOW + later).is_ok();
            let in_time = later <= 300 || !matches!(check.scheme, Scheme::StandardWebhooks);
            let dotted = id.contains('.') && matches!(check.scheme, Scheme::StandardWebhooks);
            prop_assert_eq!(alone, signs && in_time && !dotted, "{:?}", check);
            prop_assert!(!alone || check.verify_headers(&signed, &live, NOW + later).is_ok());
        }
    }
}
