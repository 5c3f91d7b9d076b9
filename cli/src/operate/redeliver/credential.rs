//! What proves to GitHub who asks: a token, or a GitHub App's private key.

use std::{fmt, path::Path};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use reqwest::header::HeaderValue;
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::json;
use spanhook_core::settings::{Variable, Vars};
use thiserror::Error;

/// `GITHUB_TOKEN`
pub(crate) static TOKEN: Variable = Variable::secret(
    "GITHUB_TOKEN",
    "set it to a token that may write webhooks",
    "token that may write webhooks ([operations.md](operations.md#github-never-sends-again-by-itself)), or `--token-file`",
);

/// `GITHUB_APP_PRIVATE_KEY`
pub(crate) static KEY: Variable = Variable::secret(
    "GITHUB_APP_PRIVATE_KEY",
    "set it to the PEM file that GitHub made for the App",
    "for the webhook of a GitHub App: its private key (PEM), or `--key-file`",
);

/// A credential that is missing or can't be used. The texts repeat nothing of it.
#[derive(Debug, Error)]
pub(super) enum CredentialError {
    #[error("no {what}; set {variable}, or name a file that holds it with {option}")]
    Missing { what: &'static str, variable: &'static str, option: &'static str },
    #[error("{file} can't be read: {error}")]
    Unreadable { file: String, error: std::io::Error },
    #[error("the token can't be used; it is one line of visible ASCII, such as ghp_…")]
    BadToken,
    #[error(
        "the private key can't be used; give the PEM file that GitHub made for the App, which begins with -----BEGIN RSA PRIVATE KEY-----"
    )]
    BadKey,
    #[error("the private key can't sign")]
    Unsigned,
}

/// Shows nothing of itself.
pub(super) enum Credential {
    Token(String),
    App { id: String, key: Box<RsaKeyPair> },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(…)",
            Self::App { .. } => "App(…)",
        })
    }
}

impl Credential {
    /// A token of a file, else of the variable.
    pub(super) fn token(vars: &Vars, file: Option<&Path>) -> Result<Self, CredentialError> {
        let missing = CredentialError::Missing {
            what: "token",
            variable: TOKEN.name,
            option: "--token-file",
        };
        let token = text(vars, &TOKEN, file)?.ok_or(missing)?;
        let visible = !token.is_empty() && token.bytes().all(|it| it.is_ascii_graphic());
        if visible { Ok(Self::Token(token)) } else { Err(CredentialError::BadToken) }
    }

    /// The App of an id, with the key of a file, else of the variable.
    pub(super) fn app(id: &str, vars: &Vars, file: Option<&Path>) -> Result<Self, CredentialError> {
        let missing = CredentialError::Missing {
            what: "private key",
            variable: KEY.name,
            option: "--key-file",
        };
        let pem = text(vars, &KEY, file)?.ok_or(missing)?;
        let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
            Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(CredentialError::BadKey),
        };
        let key = Box::new(key.map_err(|_| CredentialError::BadKey)?);
        Ok(Self::App { id: id.to_owned(), key })
    }

    /// The value of `Authorization`, which no log shows.
    pub(super) fn header(&self, now: u64) -> Result<HeaderValue, CredentialError> {
        let token = match self {
            Self::Token(token) => token.clone(),
            Self::App { id, key } => jwt(id, key, now)?,
        };
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| CredentialError::BadToken)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn text(
    vars: &Vars,
    variable: &Variable,
    file: Option<&Path>,
) -> Result<Option<String>, CredentialError> {
    let Some(file) = file else { return Ok(variable.get(vars).map(ToOwned::to_owned)) };
    let read = std::fs::read_to_string(file).map(|it| it.trim().to_owned());
    let unreadable =
        |error| CredentialError::Unreadable { file: file.display().to_string(), error };
    read.map(Some).map_err(unreadable)
}

/// A token of the App itself: from a minute ago, as clocks differ, and for less than the ten minutes
/// that GitHub takes.
///
/// <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app>
fn jwt(id: &str, key: &RsaKeyPair, now: u64) -> Result<String, CredentialError> {
    let part = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = json!({ "iat": now.saturating_sub(60), "exp": now + 540, "iss": id });
    let signed = format!("{}.{}", part(json!({ "alg": "RS256", "typ": "JWT" })), part(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| CredentialError::Unsigned)?;
    Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}
