//! Why nobody is let in.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header::WWW_AUTHENTICATE};
use spanhook_core::{check::Rejection, settings::SettingsError};
use thiserror::Error;

use crate::{answer::Problem, live::LiveError};

/// What proves a sender can't be set up.
#[derive(Debug, Error)]
pub enum GateError {
    /// Nothing is configured that could prove anything.
    #[error(transparent)]
    Unproved(SettingsError),
    /// A variable is missing or wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A secret or the rules can't be read.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The client that fetches keys can't be set up.
    #[error("no HTTPS client for OIDC_ISSUERS can be set up; check the system's root certificates")]
    Client(#[from] reqwest::Error),
}

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
    /// Larger than [`MAX_TOKEN`](super::MAX_TOKEN).
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
    /// Of somebody whom the issuer's entry does not name.
    #[error("the OIDC token's subject is not one of its issuer's subjects; add it if it may send")]
    TokenSubject,
    /// Made for somebody else.
    #[error("the OIDC token's audience is not one of OIDC_AUDIENCE; make them the same")]
    TokenAudience,
    /// Used too late.
    #[error("the OIDC token has expired")]
    TokenExpired,
    /// Used too early.
    #[error("the OIDC token is not valid yet; check the clock")]
    TokenEarly,
    /// Valid for longer than [`MAX_LIFETIME`](super::MAX_LIFETIME).
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

impl From<Rejection> for Denied {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Repeated => Self::Header,
            rejection => Self::Signature(rejection),
        }
    }
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
            Self::TokenSubject => "token_subject",
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
