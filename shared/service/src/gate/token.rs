//! One JSON Web Token of an issuer, checked.
//!
//! CI systems and clusters sign with RS256, so this is all that there is: no other algorithm, no key
//! from the token, no address in it that would be asked. `docs/decisions.md` says why no library
//! reads it; the signature itself is checked by aws-lc, which rustls brings.
//! <https://www.rfc-editor.org/rfc/rfc8725>

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};

use spanhook_core::job::Job;

use super::{Denied, keys::Issuer};

/// The largest token, in bytes. GitLab's are about 2 KiB, and one lists its user's groups.
pub const MAX_TOKEN: usize = 16 * 1024;

/// How far an issuer's clock may be off, in seconds.
pub const SKEW: u64 = 60;

/// The longest time from a token's making to its end, in seconds: CircleCI's live for an hour,
/// GitHub's for minutes, GitLab's for the job's timeout.
pub const MAX_LIFETIME: u64 = 24 * 60 * 60;

/// What is read of the header. Keys and addresses of keys (`jwk`, `jku`, `x5u`, `x5c`) are not.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    /// Extensions that must be understood; none is.
    /// <https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11>
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// The claims of every token; the job's own are read in its provider's room. What is named here must
/// not come twice: serde refuses that, where a map would take the last one and another parser the
/// first.
#[derive(Deserialize)]
struct Claims {
    /// Who made the token.
    iss: String,
    /// About whom.
    sub: Option<String>,
    /// For whom.
    aud: Audience,
    /// Seconds since the Unix epoch, like the others. A fraction is no date of any provider.
    exp: u64,
    iat: u64,
    nbf: Option<u64>,
}

/// One or several. <https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3>
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    /// Whether one of these is meant.
    fn is_one_of(&self, allowed: &[String]) -> bool {
        match self {
            Self::One(it) => allowed.contains(it),
            Self::Several(list) => list.iter().any(|it| allowed.contains(it)),
        }
    }
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// A token that holds.
pub(super) struct Token {
    issuer: Arc<Issuer>,
    /// Its claims.
    payload: Vec<u8>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token of {}", self.issuer.url())
    }
}

impl Token {
    /// The job that it speaks for.
    pub(super) fn job(&self) -> Result<Job, Denied> {
        self.issuer.job(&self.payload).ok_or(Denied::TokenClaims)
    }
}

/// Checks a token, `now` in seconds since the Unix epoch.
pub(super) async fn verify(
    token: &str,
    issuers: &[Arc<Issuer>],
    audience: &[String],
    now: u64,
) -> Result<Token, Denied> {
    if token.len() > MAX_TOKEN {
        return Err(Denied::TokenSize);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Denied::TokenShape)?;
    let (header, claims) = signed.split_once('.').ok_or(Denied::TokenShape)?;
    // A third dot is none of base64's characters.
    let header: Header = object(&decode(header)?)?;
    if header.alg != "RS256" || header.crit {
        return Err(Denied::TokenAlgorithm);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Denied::TokenShape)?;
    let payload = decode(claims)?;
    let claims: Claims = object(&payload)?;

    // The claims are not believed yet: this one only chooses whose key must have signed them.
    let issuer = issuers.iter().find(|it| it.url() == claims.iss).ok_or(Denied::TokenIssuer)?;
    let key = issuer.key(&header.kid, now).await?;
    if !key.verifies(signed.as_bytes(), &signature) {
        return Err(Denied::TokenSignature);
    }

    if now >= claims.exp.saturating_add(SKEW) {
        return Err(Denied::TokenExpired);
    }
    if claims.iat.max(claims.nbf.unwrap_or_default()) > now.saturating_add(SKEW) {
        return Err(Denied::TokenEarly);
    }
    if claims.exp.saturating_sub(claims.iat) > MAX_LIFETIME + SKEW {
        return Err(Denied::TokenLifetime);
    }
    if !claims.aud.is_one_of(audience) {
        return Err(Denied::TokenAudience);
    }
    if !issuer.vouches_for(claims.sub.as_deref()) {
        return Err(Denied::TokenSubject);
    }
    Ok(Token { issuer: Arc::clone(issuer), payload })
}

fn decode(part: &str) -> Result<Vec<u8>, Denied> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Denied::TokenShape)
}

/// A part of a token that is an object: serde would read a list as the fields in their order.
fn object<T: DeserializeOwned>(json: &[u8]) -> Result<T, Denied> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(Denied::TokenShape);
    }
    serde_json::from_slice(json).map_err(|_| Denied::TokenShape)
}
