//! Signatures and tokens of every provider: forged, signed, and signed and then damaged.

use http::HeaderMap;
use spanhook_core::{
    check::{Check, Scheme, bearer},
    provider::Provider,
    secret::Secrets,
};

use crate::{NOW, cut};

/// A key that nobody can guess, and the text of it that each scheme takes.
const TEXT: &str = "whsec_c3Bhbmhvb2stZnV6ei1rZXktb2YtdGhpcnR5LXR3bw==";

/// Every way to prove a delivery.
fn checks() -> impl Iterator<Item = &'static Check> {
    Provider::ALL.into_iter().flat_map(|it| it.room().checks)
}

/// The first byte chooses the check, the second what is done to a signed delivery, then come headers
/// and a body.
pub fn signature(data: &[u8]) -> bool {
    let Some((choice, rest)) = cut::choice(data) else { return false };
    let Some((damage, rest)) = cut::choice(rest) else { return false };
    let checks: Vec<_> = checks().collect();
    let check = checks[choice % checks.len()];
    let (headers, body) = cut::request(rest);
    let Some(key) = key(check) else { return false };
    let secrets = Secrets::new([key.clone()]);

    // Nobody without the key gets in.
    let forged = check.verify(&headers, body, &secrets, NOW);
    assert!(forged.is_err(), "{}: {headers:?}", check.variable.name);
    let screened = check.verify_headers(&headers, &secrets, NOW);

    let mut signed = headers.clone();
    check.sign(&mut signed, body, &key, "msg-1", NOW);
    assert_eq!(check.verify_headers(&signed, &secrets, NOW), Ok(()));
    assert_eq!(check.verify(&signed, body, &secrets, NOW), Ok(()));
    assert!(check.verify(&signed, body, &Secrets::default(), NOW).is_err(), "with no secret");
    damaged(check, &signed, body, &secrets, damage);
    bearer(&headers).is_ok_and(|it| it.is_some()) || screened.is_ok()
}

fn key(check: &Check) -> Option<Vec<u8>> {
    match check.scheme {
        Scheme::Oidc { .. } => None,
        Scheme::Path => check.key("spanhook-fuzz-path-of-24-letters"),
        _ => check.key(TEXT),
    }
}

/// One bit of the body or of the proof, or its time.
fn damaged(check: &Check, signed: &HeaderMap, body: &[u8], secrets: &Secrets, damage: usize) {
    if check.scheme.covers_body() {
        let mut other = body.to_vec();
        match other.len() {
            0 => other.push(0),
            length => other[damage % length] ^= 1,
        }
        assert!(check.verify(signed, &other, secrets, NOW).is_err(), "another body");
    }
    if check.scheme == Scheme::StandardWebhooks {
        for now in [NOW - 301, NOW + 301] {
            assert!(check.verify(signed, body, secrets, now).is_err(), "another time");
        }
    }
    for (name, value) in signed {
        let mut bytes = value.as_bytes().to_vec();
        let Some(last) = bytes.len().checked_sub(1) else { continue };
        bytes[damage.min(last)] ^= 1;
        let mut other = signed.clone();
        let Ok(value) = http::HeaderValue::from_bytes(&bytes) else { continue };
        other.insert(name, value);
        let verdict = check.verify(&other, body, secrets, NOW);
        // A header that is no part of the proof may change, and so may how its words are written.
        let proof = verdict.is_err() || !check_reads(check, name.as_str(), damage);
        assert!(proof, "{}: {name} {}", check.variable.name, bytes.escape_ascii());
    }
}

/// Whether a change of this byte of a header must be seen.
fn check_reads(check: &Check, name: &str, at: usize) -> bool {
    match check.scheme {
        // White space, other versions and signatures beside it may stand in a list.
        Scheme::Hmac { header, list, .. } => name == header && !list,
        Scheme::Token { header } => name == header,
        Scheme::Path => name == spanhook_core::check::PATH_SECRET,
        // The name of the scheme is written in any case, which is another bit.
        Scheme::Bearer => name == "authorization" && at > "bearer ".len(),
        Scheme::StandardWebhooks => matches!(name, "webhook-id" | "webhook-timestamp"),
        Scheme::Oidc { .. } => false,
    }
}
