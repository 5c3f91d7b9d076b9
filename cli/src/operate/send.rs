//! `spanhook send`: signs and posts deliveries as a provider would.

use std::path::PathBuf;

use axum::http::HeaderMap;
use clap::Args;
use reqwest::Client;
use serde_json::Value;
use spanhook_core::{
    check::Check,
    provider::Provider,
    settings::{Variable, Vars},
};
use spanhook_service::{
    clock::Clock,
    export::{self, innermost, shown},
    live::{self, LiveError, Source},
    settings::environment,
};
use thiserror::Error;
use uuid::Uuid;

use crate::terminal::{Failure, failure, print, printable, provider};

#[derive(Args, Debug)]
#[command(
    after_help = "The secrets are the receiver's own variables (docs/settings.md), such as CIRCLECI_HOOK_SECRET.
Of several live values the first one signs; without any the delivery goes out unsigned."
)]
pub(crate) struct Send {
    /// Payloads, or recordings of the form {"headers": …, "body": …}
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to: a base URL, to which the provider's path is added, or the whole address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3000")]
    to: String,
    /// Whose deliveries they are, when the payload does not tell
    #[arg(long, value_parser = provider)]
    provider: Option<Provider>,
}

/// A delivery that could not be sent.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    #[error("{file} can't be read: {error}")]
    Unreadable { file: String, error: std::io::Error },
    #[error("it is not clear whose delivery this is; say it with --provider")]
    UnknownProvider,
    #[error("{variable} holds no usable secret; {hint}")]
    Secret { variable: &'static str, hint: &'static str },
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error("no answer from {url}: {reason}; check --to, and that spanhook runs there")]
    NoAnswer { url: String, reason: String },
}

impl Send {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let sender = Sender::new(&environment()).map_err(failure)?;
        let mut refused = 0;
        for file in &self.files {
            let name = file.display().to_string();
            let body = std::fs::read(file)
                .map_err(|error| failure(SendError::Unreadable { file: name.clone(), error }))?;
            let answer = sender.send(&self.to, &body, self.provider).await.map_err(failure)?;
            let line = format!("{name}: {} {}", answer.status, answer.body.trim());
            print(format!("{}\n", printable(&line)));
            refused += usize::from(!(200..300).contains(&answer.status));
        }
        if refused == 0 {
            return Ok(());
        }
        let total = self.files.len();
        Err(failure(format!("{refused} of {total} deliveries were not accepted")))
    }
}

/// What a receiver answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends with one client and one set of secrets.
pub(crate) struct Sender {
    client: Client,
    /// Of every provider the checks that have a secret, with the key that signs.
    keys: Vec<(Provider, &'static Check, Vec<u8>)>,
}

impl Sender {
    pub(crate) fn new(vars: &Vars) -> Result<Self, SendError> {
        let mut keys = Vec::new();
        for provider in Provider::with_webhooks() {
            // What an issuer signs can't be made here.
            for check in provider.room().checks.iter().filter(|it| it.variable.secret) {
                if let Some(key) = key(vars, check)? {
                    keys.push((provider, check, key));
                }
            }
        }
        let client = export::client().timeout(std::time::Duration::from_secs(30)).build();
        let no_client = |error: reqwest::Error| SendError::NoAnswer {
            url: String::new(),
            reason: error.to_string(),
        };
        Ok(Self { client: client.map_err(no_client)?, keys })
    }

    pub(crate) async fn send(
        &self,
        to: &str,
        payload: &[u8],
        provider: Option<Provider>,
    ) -> Result<Answer, SendError> {
        let (provider, json, body) = read(payload, provider)?;
        let url = address(to, provider);
        let (id, now) = (Uuid::new_v4().to_string(), Clock::SYSTEM.since_epoch().as_secs());
        let mut post = self.client.post(&url).header("content-type", "application/json");
        for (name, value) in (provider.room().sends)(&json, &id) {
            post = post.header(name, value);
        }
        let mut proof = HeaderMap::new();
        for (_, check, key) in self.keys.iter().filter(|(of, ..)| *of == provider) {
            check.sign(&mut proof, &body, key, &id, now);
        }
        let post = post.headers(proof);
        let no_answer = |error: reqwest::Error| SendError::NoAnswer {
            url: shown(&url),
            reason: innermost(&error),
        };
        let answer = post.body(body).send().await.map_err(no_answer)?;
        Ok(Answer {
            status: answer.status().as_u16(),
            body: answer.text().await.map_err(no_answer)?,
        })
    }
}

/// The key that signs for a check; none where its variable is not set.
pub(crate) fn key(vars: &Vars, check: &Check) -> Result<Option<Vec<u8>>, SendError> {
    let variable = check.variable;
    let Some(secret) = first(vars, variable)? else { return Ok(None) };
    let key = check.key(&String::from_utf8_lossy(&secret));
    let unusable = SendError::Secret { variable: variable.name, hint: variable.expected };
    key.map(Some).ok_or(unusable)
}

/// The first live value of a secret that the variable itself holds.
pub(crate) fn first(
    vars: &Vars,
    variable: &'static Variable,
) -> Result<Option<Vec<u8>>, SendError> {
    let elsewhere = || SendError::Secret {
        variable: variable.name,
        hint: "give the secret itself, not where it is kept",
    };
    match Source::parse(vars, variable.name) {
        Source::Unset => Ok(None),
        Source::Inline(text) => {
            let secrets = live::secrets(variable, &text)?;
            Ok(secrets.expose().next().map(<[u8]>::to_vec))
        }
        _ => Err(elsewhere()),
    }
}

/// Whose delivery it is, and the bytes to post: those of the file, or of a recording's body.
fn read(
    payload: &[u8],
    provider: Option<Provider>,
) -> Result<(Provider, Value, Vec<u8>), SendError> {
    let json: Value = serde_json::from_slice(payload).unwrap_or_default();
    let recorded =
        json.get("body").filter(|body| json.get("headers").is_some() && body.is_object());
    let (json, body) = match recorded {
        Some(body) => (body.clone(), body.to_string().into_bytes()),
        None => (json, payload.to_vec()),
    };
    let told = || Provider::of_payload(&json);
    let provider = provider.or_else(told).ok_or(SendError::UnknownProvider)?;
    Ok((provider, json, body))
}

fn address(to: &str, provider: Provider) -> String {
    let path =
        to.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |it| it.1);
    if path.is_empty() { format!("{}/{provider}", to.trim_end_matches('/')) } else { to.to_owned() }
}

#[cfg(test)]
mod tests {
    use axum::{Router, response::Redirect, routing::post};
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_base_url_gets_the_providers_path_and_a_whole_address_stays() {
        assert_eq!(address("http://h:1", Provider::Gitlab), "http://h:1/gitlab");
        assert_eq!(address("http://h:1/", Provider::Circleci), "http://h:1/circleci");
        assert_eq!(address("http://h/lambda-url/x/", Provider::Gitlab), "http://h/lambda-url/x/");
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_is_named_without_its_password() {
        let sender = Sender::new(&Vars::new()).unwrap();
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("http://user:s3cret@{}/x?key=s3cret", { closed }.local_addr().unwrap());
        let error = sender.send(&to, b"{}", Some(Provider::Gitlab)).await.unwrap_err().to_string();
        assert!(error.contains("no answer from http://127.0.0.1:"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[tokio::test]
    async fn a_signed_delivery_is_posted_to_no_other_address_than_was_named() {
        let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = format!("http://{}/github", elsewhere.local_addr().unwrap());
        let redirect = post(move || async move { Redirect::temporary(&other) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/github", redirect);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let vars = Vars::from([("GITHUB_WEBHOOK_SECRET".to_owned(), "a-secret".to_owned())]);
        let sent = Sender::new(&vars).unwrap().send(&to, b"{}", Some(Provider::Github)).await;
        assert_eq!(sent.unwrap().status, 307);
        assert!(elsewhere.accept().now_or_never().is_none(), "nobody came there");
    }

    #[test]
    fn a_mistyped_secret_signs_nothing() {
        let secret = Provider::Circleci.room().checks[0].variable;
        let vars = |text: &str| Vars::from([(secret.name.to_owned(), text.to_owned())]);
        assert_eq!(first(&vars("[\"new-secret\"]"), secret).unwrap().unwrap(), b"new-secret");
        let error = first(&vars("[\n \"old-secret\",\n]"), secret).unwrap_err().to_string();
        assert!(error.starts_with("CIRCLECI_HOOK_SECRET can't be used; "), "{error}");
    }

    #[test]
    fn every_sample_tells_whose_it_is() {
        let samples = |of: Provider| of.samples().deliveries.iter().map(move |it| (of, it));
        for (of, (name, body)) in Provider::ALL.into_iter().flat_map(samples) {
            let (provider, _, bytes) = read(body.as_bytes(), None).unwrap();
            assert_eq!(provider, of, "{name}");
            assert_eq!(bytes, body.as_bytes(), "{name} goes out as it is");
        }
    }
}
