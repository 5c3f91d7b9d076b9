//! Signature checks over the raw bytes of a delivery, before anything parses them.
//!
//! Every comparison of secret-dependent bytes is constant in time. What failed is told to the
//! log, never to the caller.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

use crate::secret::Secrets;

/// Why a delivery is not believed. For the log only.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Rejection {
    /// The header that carries the proof is absent.
    #[error("the signature or token header is missing")]
    Missing,
    /// The header holds nothing that could be checked.
    #[error("the signature header is malformed")]
    Malformed,
    /// A checked value matches none of the live secrets.
    #[error("the signature or token matches no configured secret")]
    Mismatch,
    /// The delivery was signed too long ago, or in the future.
    #[error("the signature's timestamp is outside the tolerance of 5 minutes")]
    Stale,
}

impl Rejection {
    /// A short name, for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Mismatch => "mismatch",
            Self::Stale => "stale",
        }
    }
}

/// How far a signed timestamp may be off, in seconds, both ways.
///
/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>
pub const TOLERANCE: u64 = 300;

fn mac(key: &[u8], parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::new_from_slice(key).ok()?;
    parts.iter().for_each(|part| mac.update(part));
    Some(mac)
}

fn any_matches(secrets: &Secrets, parts: &[&[u8]], signatures: &[Vec<u8>]) -> bool {
    secrets
        .expose()
        .filter_map(|key| mac(key, parts))
        .any(|mac| signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok()))
}

/// CircleCI: a comma list of `version=hex`, of which any `v1`, the HMAC-SHA256 of the body, may
/// match any of the secrets. Unknown and malformed entries are skipped.
///
/// <https://circleci.com/docs/guides/integration/outbound-webhooks/#validate-webhooks>
pub fn verify_circleci(
    header: Option<&str>,
    body: &[u8],
    secrets: &Secrets,
) -> Result<(), Rejection> {
    let candidates = read_circleci(header)?;
    if any_matches(secrets, &[body], &candidates) { Ok(()) } else { Err(Rejection::Mismatch) }
}

/// Whether [`verify_circleci`] could find a match with some body: what its header lacks, no body
/// brings.
pub fn screen_circleci(header: Option<&str>) -> Result<(), Rejection> {
    read_circleci(header).map(|_| ())
}

fn read_circleci(header: Option<&str>) -> Result<Vec<Vec<u8>>, Rejection> {
    let header = header.filter(|it| !it.trim().is_empty()).ok_or(Rejection::Missing)?;
    let entries = header.split(',').filter_map(|entry| entry.trim().strip_prefix("v1="));
    digests(entries.filter_map(|digits| hex::decode(digits.trim()).ok()))
}

/// Those that are as long as an HMAC-SHA256.
fn digests(candidates: impl Iterator<Item = Vec<u8>>) -> Result<Vec<Vec<u8>>, Rejection> {
    let digests: Vec<_> = candidates.filter(|it| it.len() == 32).collect();
    if digests.is_empty() { Err(Rejection::Malformed) } else { Ok(digests) }
}

/// The `circleci-signature` of a body.
#[must_use]
pub fn sign_circleci(body: &[u8], secret: &[u8]) -> Option<String> {
    mac(secret, &[body]).map(|mac| format!("v1={}", hex::encode(mac.finalize().into_bytes())))
}

/// The headers that Standard Webhooks signs, as they arrived.
#[derive(Clone, Copy, Debug, Default)]
pub struct WebhookHeaders<'a> {
    /// `webhook-id`
    pub id: Option<&'a str>,
    /// `webhook-timestamp`, in seconds since the Unix epoch
    pub timestamp: Option<&'a str>,
    /// `webhook-signature`
    pub signature: Option<&'a str>,
}

/// Standard Webhooks, as GitLab signs since 19.0: a space list of `v1,<base64>`, each the
/// HMAC-SHA256 of `{id}.{timestamp}.{body}`. The text that was signed is rebuilt byte for byte.
///
/// <https://docs.gitlab.com/user/project/integrations/webhooks/>
pub fn verify_standard(
    headers: WebhookHeaders<'_>,
    body: &[u8],
    keys: &Secrets,
    now: u64,
) -> Result<(), Rejection> {
    let signed = Signed::read(headers)?;
    let text: [&[u8]; 5] = [signed.id.as_bytes(), b".", signed.timestamp.as_bytes(), b".", body];
    if !any_matches(keys, &text, &signed.candidates) {
        return Err(Rejection::Mismatch);
    }
    signed.fresh(now)
}

/// Whether [`verify_standard`] could succeed with some body.
pub fn screen_standard(headers: WebhookHeaders<'_>, now: u64) -> Result<(), Rejection> {
    Signed::read(headers)?.fresh(now)
}

/// The headers of Standard Webhooks, read.
struct Signed<'h> {
    id: &'h str,
    timestamp: &'h str,
    at: u64,
    candidates: Vec<Vec<u8>>,
}

impl<'h> Signed<'h> {
    fn read(headers: WebhookHeaders<'h>) -> Result<Self, Rejection> {
        let signature = headers.signature.ok_or(Rejection::Missing)?;
        // A dot in the id would let the same text be cut in two ways.
        let id = headers.id.filter(|id| !id.is_empty() && !id.contains('.'));
        let digits = |it: &&str| it.bytes().all(|byte| byte.is_ascii_digit());
        let timestamp = headers.timestamp.filter(digits);
        let (Some(id), Some(timestamp)) = (id, timestamp) else {
            return Err(Rejection::Malformed);
        };
        let at = timestamp.parse().map_err(|_| Rejection::Malformed)?;
        let entries = signature.split_ascii_whitespace();
        let texts = entries.filter_map(|entry| entry.strip_prefix("v1,"));
        let candidates = digests(texts.filter_map(|text| STANDARD.decode(text).ok()))?;
        Ok(Self { id, timestamp, at, candidates })
    }

    fn fresh(&self, now: u64) -> Result<(), Rejection> {
        if self.at.abs_diff(now) > TOLERANCE { Err(Rejection::Stale) } else { Ok(()) }
    }
}

/// The `webhook-signature` of a body.
#[must_use]
pub fn sign_standard(id: &str, timestamp: u64, body: &[u8], key: &[u8]) -> Option<String> {
    let timestamp = timestamp.to_string();
    mac(key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body])
        .map(|mac| format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// The key in a signing token: base64 behind `whsec_`, 24 to 64 bytes.
#[must_use]
pub fn signing_key(token: &str) -> Option<Vec<u8>> {
    let key = STANDARD.decode(token.trim().strip_prefix("whsec_")?).ok()?;
    (24..=64).contains(&key.len()).then_some(key)
}

/// A secret that is sent as it is (`X-Gitlab-Token`, a bearer token), against all live values.
pub fn verify_token(token: Option<&[u8]>, secrets: &Secrets) -> Result<(), Rejection> {
    let token = token.filter(|it| !it.is_empty()).ok_or(Rejection::Missing)?;
    // Hashing both sides hides the length of the secret, and no early exit hides which one matched.
    let given = Sha256::digest(token);
    let matched = secrets
        .expose()
        .fold(Choice::from(0), |found, secret| found | given.ct_eq(&Sha256::digest(secret)));
    if bool::from(matched) { Ok(()) } else { Err(Rejection::Mismatch) }
}
