//! Who may call the endpoints that CI jobs use, and what a verified caller is.
//!
//! A caller proves itself with the OIDC token of its job, with a Standard Webhooks signature or
//! with a bearer token. A job's token is worth most: its claims name the run, so nothing in the
//! body has to be believed. [`Gate::admit`] checks the proof; [`Caller::require`] asks the rules of
//! `ACCESS` whether that proof is enough for a project.
//!
//! What can be checked is checked, and everything that was checked must hold: a right signature
//! never excuses a wrong token beside it.

mod access;
mod keys;
mod settings;
mod token;

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use spanhook_core::{
    build_event::Sender,
    check::{Rejection, WebhookHeaders, screen_standard, verify_standard, verify_token},
    host::Host,
    job::Job,
    project::Project,
    secret::Secrets,
};
use thiserror::Error;

pub use self::{
    access::{Access, BadAccess, Proof},
    keys::{FLOOR, FRESH, KeysError, STALE},
    settings::{GateError, GateSettings},
    token::{MAX_LIFETIME, MAX_TOKEN, SKEW},
};
use self::{keys::Issuer, token::verify};
use crate::{answer::Problem, live::Live};

/// Why a call is refused. For the log and metrics only: callers get one answer for all that is
/// wrong with a proof. No text repeats anything of the request.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Denied {
    /// No proof came, and `ACCESS` does not take callers without one.
    #[error("no token or signature came; send Authorization: Bearer with the job's OIDC token")]
    Missing,
    /// A header that can't be read in one way only.
    #[error("a header of the proof is repeated or is no text")]
    Header,
    /// The bearer token is none of the configured ones.
    #[error("the bearer token matches none that is configured")]
    Bearer,
    /// The signature does not hold.
    #[error(transparent)]
    Signature(Rejection),
    /// Larger than [`MAX_TOKEN`].
    #[error("the OIDC token is larger than 16 KiB")]
    TokenSize,
    /// Not three parts of base64url, the first two of which are JSON objects of the right shape
    /// without a repeated name.
    #[error("the OIDC token is malformed")]
    TokenShape,
    /// An algorithm other than RS256, or an extension that must be understood (`crit`).
    #[error("the OIDC token is not signed with plain RS256")]
    TokenAlgorithm,
    /// An issuer that is not on the list.
    #[error("the OIDC token's issuer is not one of OIDC_ISSUERS; add it if its jobs may call")]
    TokenIssuer,
    /// A key that the issuer does not publish.
    #[error("the OIDC token's key is none of its issuer's RSA keys for RS256 of 2048 bits or more")]
    TokenKey,
    /// The signature does not hold.
    #[error("the OIDC token's signature is wrong")]
    TokenSignature,
    /// Made for somebody else.
    #[error("the OIDC token's audience is not one of OIDC_AUDIENCE; make them the same")]
    TokenAudience,
    /// Used too late.
    #[error("the OIDC token has expired")]
    TokenExpired,
    /// Used too early.
    #[error("the OIDC token is not valid yet; check the clock")]
    TokenEarly,
    /// Valid for longer than [`MAX_LIFETIME`].
    #[error("the OIDC token is valid for longer than 24 hours; shorten the job's timeout")]
    TokenLifetime,
    /// A claim that names the job is missing or not what it should be.
    #[error("the OIDC token's claims do not name a project and a run; is its provider right?")]
    TokenClaims,
    /// The issuer's keys could not be fetched, so nothing can be said of the token.
    #[error("the issuer's keys can't be fetched; allow egress to it, or set its jwks")]
    Unavailable,
    /// The proof holds, but the rules ask for another one for this project.
    #[error("ACCESS does not take this proof for this project")]
    Forbidden,
}

impl Denied {
    /// A short name, for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Header => "header",
            Self::Bearer => "bearer",
            Self::Signature(rejection) => rejection.as_str(),
            Self::TokenSize => "token_size",
            Self::TokenShape => "token_shape",
            Self::TokenAlgorithm => "token_algorithm",
            Self::TokenIssuer => "token_issuer",
            Self::TokenKey => "token_key",
            Self::TokenSignature => "token_signature",
            Self::TokenAudience => "token_audience",
            Self::TokenExpired => "token_expired",
            Self::TokenEarly => "token_early",
            Self::TokenLifetime => "token_lifetime",
            Self::TokenClaims => "token_claims",
            Self::Unavailable => "issuer_unavailable",
            Self::Forbidden => "forbidden",
        }
    }

    /// What the caller is told: the same for everything that is wrong with a proof.
    #[must_use]
    pub fn problem(self) -> Problem {
        match self {
            Self::Forbidden => Problem {
                status: StatusCode::FORBIDDEN,
                detail: "this proof is not accepted for this project",
            },
            Self::Unavailable => Problem {
                status: StatusCode::SERVICE_UNAVAILABLE,
                detail: "the token can't be checked at the moment; try again",
            },
            _ => Problem {
                status: StatusCode::UNAUTHORIZED,
                detail: "the token or signature is missing or wrong",
            },
        }
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let mut response = self.problem().into_response();
        if response.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Somebody whose proof holds.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The job, when its token was the proof.
    pub identity: Option<Job>,
    /// The proof; of two, the one that says more.
    pub by: Proof,
    access: Arc<Access>,
}

impl Caller {
    /// Whether the rules accept this proof for the project that an event names, as `owner/name`.
    /// A job's token speaks for its own project, whatever the event says.
    #[must_use]
    pub fn may(&self, project: Option<&str>) -> bool {
        match &self.identity {
            Some(job) => {
                let path = job.project.as_deref().unwrap_or_default();
                let id = job.project_id.as_deref().unwrap_or(path);
                let host = job.host.as_ref().map_or("", Host::as_str);
                self.access.accepts(&[path, id], Proof::Oidc, host)
            }
            None if !project.is_none_or(Project::is_name) => false,
            None => self.access.accepts(&[project.unwrap_or_default()], self.by, ""),
        }
    }

    /// What is believed of the run that the caller's events name. A job speaks for its own; without
    /// a token a run is believed only where the rules accept the proof for every project, since
    /// nothing tells whose run an id is.
    #[must_use]
    pub fn sender(&self) -> Sender<'_> {
        match &self.identity {
            Some(job) => Sender::Job(job),
            None if self.access.accepts_everywhere(self.by) => Sender::Trusted,
            None => Sender::Confined(self.by.as_str()),
        }
    }

    /// [`Self::may`], with the answer for the one who may not: who has shown no proof is asked for
    /// one.
    pub fn require(&self, project: Option<&str>) -> Result<(), Denied> {
        match self.by {
            _ if self.may(project) => Ok(()),
            Proof::None => Err(Denied::Missing),
            _ => Err(Denied::Forbidden),
        }
    }
}

/// Checks callers.
#[derive(Debug)]
pub struct Gate {
    issuers: Vec<Arc<Issuer>>,
    audience: Vec<String>,
    signing_keys: Live<Secrets>,
    tokens: Live<Secrets>,
    access: Live<Access>,
}

impl Gate {
    /// Checks what a request proves, `now` in seconds since the Unix epoch. `body` is what a
    /// signature covers, byte for byte.
    ///
    /// Who is admitted may still not speak for every project: ask [`Caller::require`].
    pub async fn admit(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: u64,
    ) -> Result<Caller, Denied> {
        // What is too old is read again at the same time: one wait, not three.
        tokio::join!(self.signing_keys.get(), self.tokens.get(), self.access.get());
        let signed = self.check_signature(headers, body, now).await?;
        let (identity, bearer) = self.check_authorization(headers, now).await?;
        let by = match (&identity, signed, bearer) {
            (Some(_), _, _) => Proof::Oidc,
            (None, true, _) => Proof::Signature,
            (None, false, true) => Proof::Bearer,
            (None, false, false) => Proof::None,
        };
        let caller = Caller { identity, by, access: self.access.get().await };
        match by {
            // Its project is known already.
            Proof::Oidc => caller.require(None)?,
            // No rule will take it: it need not send its whole body to hear that.
            Proof::None if !caller.access.mentions(by) => return Err(Denied::Missing),
            _ => {}
        }
        Ok(caller)
    }

    /// What [`Self::admit`] checks without a body: who fails here need not send one.
    pub async fn screen(&self, headers: &HeaderMap, now: u64) -> Result<(), Denied> {
        let signed = self.signature(headers).await?;
        if let Some(signed) = signed {
            screen_standard(signed, now).map_err(Denied::Signature)?;
        }
        let (identity, bearer) = self.check_authorization(headers, now).await?;
        let proved = signed.is_some() || identity.is_some() || bearer;
        if !proved && !self.access.get().await.mentions(Proof::None) {
            return Err(Denied::Missing);
        }
        Ok(())
    }

    /// Whether the request carries a signature that holds. Without a key nothing can be checked.
    async fn check_signature(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: u64,
    ) -> Result<bool, Denied> {
        let Some(signed) = self.signature(headers).await? else { return Ok(false) };
        let check = |keys: &Secrets| verify_standard(signed, body, keys, now);
        self.signing_keys.verify(check).await.map_err(Denied::Signature)?;
        Ok(true)
    }

    /// The headers of a signature that can be checked.
    async fn signature<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> Result<Option<WebhookHeaders<'h>>, Denied> {
        let signature = one(headers, "webhook-signature")?;
        if signature.is_none() || self.signing_keys.get().await.is_empty() {
            return Ok(None);
        }
        let (id, timestamp) = (one(headers, "webhook-id")?, one(headers, "webhook-timestamp")?);
        Ok(Some(WebhookHeaders { id, timestamp, signature }))
    }

    /// The job whose token the request carries, or whether it carries a bearer token that is right.
    async fn check_authorization(
        &self,
        headers: &HeaderMap,
        now: u64,
    ) -> Result<(Option<Job>, bool), Denied> {
        let Some(token) = one(headers, AUTHORIZATION.as_str())?.and_then(bearer) else {
            return Ok((None, false));
        };
        // Every JWT begins with `{` in base64 and has a dot; a random secret does not.
        if !self.issuers.is_empty() && token.starts_with("ey") && token.contains('.') {
            let identity = verify(token, &self.issuers, &self.audience, now).await?;
            return Ok((Some(identity), false));
        }
        if self.tokens.get().await.is_empty() {
            // Where jobs' tokens are taken, something else in their place is wrong.
            return if self.issuers.is_empty() { Ok((None, false)) } else { Err(Denied::Bearer) };
        }
        let check = |tokens: &Secrets| verify_token(Some(token.as_bytes()), tokens);
        self.tokens.verify(check).await.map_err(|_| Denied::Bearer)?;
        Ok((None, true))
    }
}

/// A header that must not come twice: a proxy in front may have looked at the other one.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Denied> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Denied::Header),
        (Some(_), Some(_)) => Err(Denied::Header),
    }
}

/// The token of `Authorization: Bearer …`; other schemes are none of ours.
/// <https://www.rfc-editor.org/rfc/rfc6750#section-2.1>
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
