//! The schemes that prove a sender: checks over the raw bytes of a delivery, before anything
//! parses them.
//!
//! Every comparison of secret-dependent bytes is constant in time. What failed is told to the
//! log, never to the caller.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

use crate::{secret::Secrets, settings::Variable};

/// One way in which a sender proves itself. Of several that are configured all must hold, or of a
/// job's all that it shows: a wrong signature is never excused by a right token. Only
/// [`Scheme::Bearer`] and [`Scheme::Oidc`] share a header, which can hold one of them.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// The variable with its secrets, or with the issuers of [`Scheme::Oidc`].
    pub variable: &'static Variable,
    /// What is checked.
    pub scheme: Scheme,
}

/// What is checked of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// The HMAC-SHA256 of the body in hex behind a prefix.
    Hmac {
        /// The header that carries it.
        header: &'static str,
        /// What stands before the digits.
        prefix: &'static str,
        /// Whether the header is a comma list, of which any entry may match and other versions are
        /// skipped. Otherwise it must come once, with exactly 64 digits.
        list: bool,
    },
    /// Standard Webhooks.
    StandardWebhooks,
    /// The secret itself.
    Token {
        /// The header that carries it.
        header: &'static str,
    },
    /// The secret itself, as the last part of the path: for a sender that can send nothing else.
    /// Whoever routes the request puts it into the header [`PATH_SECRET`].
    Path,
    /// The secret itself, as `Authorization: Bearer`.
    Bearer,
    /// A token of an `OpenID` Connect issuer, as `Authorization: Bearer`. Who checks it asks the
    /// issuer for its keys: here it proves nothing.
    Oidc {
        /// The variable with what tokens must be made for.
        audience: &'static Variable,
    },
}

/// The header that holds the last part of the path where that is a secret.
pub const PATH_SECRET: &str = "spanhook-path-secret";

/// How long a secret in a path must be: shorter ones can be guessed.
const LEAST_PATH: usize = 24;

/// Whether a text may be the secret in a path: it needs no escape there.
/// <https://www.rfc-editor.org/rfc/rfc3986#section-2.3>
#[must_use]
pub fn is_path_secret(text: &[u8]) -> bool {
    let plain = |it: &u8| it.is_ascii_alphanumeric() || b"-._~".contains(it);
    text.len() >= LEAST_PATH && text.iter().all(plain)
}

impl Scheme {
    /// Whether the body is signed too, so that the headers alone prove nothing yet.
    #[must_use]
    pub fn covers_body(self) -> bool {
        matches!(self, Self::Hmac { .. } | Self::StandardWebhooks)
    }
}

impl Check {
    /// The key in the text of a secret; none where it is no secret of this scheme.
    #[must_use]
    pub fn key(&self, text: &str) -> Option<Vec<u8>> {
        match self.scheme {
            Scheme::StandardWebhooks => signing_key(text),
            Scheme::Hmac { .. } | Scheme::Token { .. } | Scheme::Bearer => {
                Some(text.as_bytes().to_vec())
            }
            Scheme::Path => is_path_secret(text.as_bytes()).then(|| text.as_bytes().to_vec()),
            Scheme::Oidc { .. } => None,
        }
    }

    /// Checks the raw bytes of a delivery, `now` in seconds since the Unix epoch.
    pub fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        secrets: &Secrets,
        now: u64,
    ) -> Result<(), Rejection> {
        match self.scheme {
            Scheme::Hmac { header, prefix, list } => {
                let signatures = hex_signatures(headers, header, prefix, list)?;
                judge(any_matches(secrets, &[body], &signatures))
            }
            Scheme::StandardWebhooks => {
                verify_standard(WebhookHeaders::of(headers)?, body, secrets, now)
            }
            Scheme::Token { header } => {
                verify_token(one(headers, header)?.map(HeaderValue::as_bytes), secrets)
            }
            Scheme::Path => {
                verify_token(one(headers, PATH_SECRET)?.map(HeaderValue::as_bytes), secrets)
            }
            Scheme::Bearer => verify_token(bearer(headers)?.map(str::as_bytes), secrets),
            Scheme::Oidc { .. } => Err(Rejection::Mismatch),
        }
    }

    /// What can be told without the body: who has no proof need not send 25 MB to hear that.
    pub fn verify_headers(
        &self,
        headers: &HeaderMap,
        secrets: &Secrets,
        now: u64,
    ) -> Result<(), Rejection> {
        match self.scheme {
            Scheme::Hmac { header, prefix, list } => {
                hex_signatures(headers, header, prefix, list).map(drop)
            }
            Scheme::StandardWebhooks => screen_standard(WebhookHeaders::of(headers)?, now),
            Scheme::Token { .. } | Scheme::Path | Scheme::Bearer | Scheme::Oidc { .. } => {
                self.verify(headers, b"", secrets, now)
            }
        }
    }

    /// Proves a body as the provider does. `id` and `now` are the delivery's.
    pub fn sign(&self, headers: &mut HeaderMap, body: &[u8], key: &[u8], id: &str, now: u64) {
        let (name, value) = match self.scheme {
            Scheme::Hmac { header, prefix, .. } => {
                (header, sign_hex(body, key).map(|it| format!("{prefix}{it}").into_bytes()))
            }
            Scheme::StandardWebhooks => {
                headers.insert("webhook-timestamp", HeaderValue::from(now));
                if let Ok(id) = HeaderValue::from_str(id) {
                    headers.insert("webhook-id", id);
                }
                ("webhook-signature", sign_standard(id, now, body, key).map(String::into_bytes))
            }
            Scheme::Token { header } => (header, Some(key.to_vec())),
            Scheme::Path => (PATH_SECRET, Some(key.to_vec())),
            Scheme::Bearer => ("authorization", Some([b"Bearer ", key].concat())),
            Scheme::Oidc { .. } => return,
        };
        let value = value.and_then(|it| HeaderValue::from_bytes(&it).ok());
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// A header that must not come twice: a proxy in front may have looked at the other one.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h HeaderValue>, Rejection> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Rejection::Repeated),
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Rejection> {
    let value = one(headers, name)?;
    value.map(|it| it.to_str().map_err(|_| Rejection::Repeated)).transpose()
}

/// The token of `Authorization: Bearer …`; other schemes are none of ours.
/// <https://www.rfc-editor.org/rfc/rfc6750#section-2.1>
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Rejection> {
    let Some(value) = text(headers, "authorization")? else { return Ok(None) };
    let token = value.split_once(' ').and_then(|(scheme, token)| {
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
    });
    Ok(token)
}

/// The signatures in a header of hex digits; those that are none are left out of a list, and refuse
/// a header that must hold one.
fn hex_signatures(
    headers: &HeaderMap,
    name: &str,
    prefix: &str,
    list: bool,
) -> Result<Vec<Vec<u8>>, Rejection> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    let texts: Vec<_> = lines.iter().filter_map(|it| it.to_str().ok()).collect();
    if texts.iter().all(|it| it.trim().is_empty()) {
        return Err(if texts.len() < lines.len() {
            Rejection::Malformed
        } else {
            Rejection::Missing
        });
    }
    if !list && lines.len() != 1 {
        return Err(Rejection::Malformed);
    }
    let entry = |it: &str| hex::decode(it.trim().strip_prefix(prefix)?.trim()).ok();
    if list {
        // A list may also come as several headers.
        return digests(texts.iter().flat_map(|it| it.split(',')).filter_map(entry));
    }
    digests(texts.first().and_then(|it| entry(it)).into_iter())
}

/// Those that are as long as an HMAC-SHA256.
fn digests(candidates: impl Iterator<Item = Vec<u8>>) -> Result<Vec<Vec<u8>>, Rejection> {
    let digests: Vec<_> = candidates.filter(|it| it.len() == 32).collect();
    if digests.is_empty() { Err(Rejection::Malformed) } else { Ok(digests) }
}

/// Why a delivery is not believed. For the log only.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Rejection {
    /// The header that carries the proof is absent.
    #[error("the signature or token header is missing")]
    Missing,
    /// A header that can't be read in one way only.
    #[error("a header of the proof is repeated or is no text")]
    Repeated,
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
            Self::Repeated => "header",
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

fn judge(matches: bool) -> Result<(), Rejection> {
    if matches { Ok(()) } else { Err(Rejection::Mismatch) }
}

/// The HMAC-SHA256 of a body in hex.
#[must_use]
pub fn sign_hex(body: &[u8], key: &[u8]) -> Option<String> {
    mac(key, &[body]).map(|mac| hex::encode(mac.finalize().into_bytes()))
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

impl<'a> WebhookHeaders<'a> {
    /// Of a request.
    fn of(headers: &'a HeaderMap) -> Result<Self, Rejection> {
        // Without a signature the other two are nobody's business.
        let Some(signature) = text(headers, "webhook-signature")? else {
            return Ok(Self::default());
        };
        Ok(Self {
            id: text(headers, "webhook-id")?,
            timestamp: text(headers, "webhook-timestamp")?,
            signature: Some(signature),
        })
    }
}

/// These headers, read.
struct Signed<'a> {
    id: &'a str,
    seconds: &'a str,
    at: u64,
    candidates: Vec<Vec<u8>>,
}

impl<'a> Signed<'a> {
    fn read(headers: WebhookHeaders<'a>) -> Result<Self, Rejection> {
        let signature = headers.signature.ok_or(Rejection::Missing)?;
        // A dot in the id would let the same text be cut in two ways.
        let id = headers.id.filter(|id| !id.is_empty() && !id.contains('.'));
        let seconds = headers.timestamp.filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
        let (Some(id), Some(seconds)) = (id, seconds) else { return Err(Rejection::Malformed) };
        let at = seconds.parse().map_err(|_| Rejection::Malformed)?;
        let entries = signature.split_ascii_whitespace();
        let texts = entries.filter_map(|entry| entry.strip_prefix("v1,"));
        let candidates = digests(texts.filter_map(|text| STANDARD.decode(text).ok()))?;
        Ok(Self { id, seconds, at, candidates })
    }

    fn fresh(&self, now: u64) -> Result<(), Rejection> {
        if self.at.abs_diff(now) > TOLERANCE { Err(Rejection::Stale) } else { Ok(()) }
    }
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
    let text: [&[u8]; 5] = [signed.id.as_bytes(), b".", signed.seconds.as_bytes(), b".", body];
    judge(any_matches(keys, &text, &signed.candidates))?;
    signed.fresh(now)
}

/// Whether [`verify_standard`] could succeed with some body.
fn screen_standard(headers: WebhookHeaders<'_>, now: u64) -> Result<(), Rejection> {
    Signed::read(headers)?.fresh(now)
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
