//! `spanhook send`: signs and posts deliveries as a provider would.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use spanhook_core::{
    mapping::Provider,
    signature::{sign_circleci, sign_standard, signing_key},
};
use spanhook_service::{
    clock::Clock,
    export::{innermost, shown},
    live::{self, LiveError, Source},
    settings::{CIRCLECI_SECRET, GITLAB_SECRET_TOKEN, GITLAB_SIGNING_TOKEN, Vars, environment},
};
use thiserror::Error;
use uuid::Uuid;

use crate::terminal::{Failure, failure, print, printable};

#[derive(Args, Debug)]
#[command(
    after_help = "The secrets are the receiver's own variables: CIRCLECI_HOOK_SECRET, GITLAB_SIGNING_TOKEN and
GITLAB_SECRET_TOKEN. Of several live values the first one signs; without any the delivery goes out unsigned."
)]
pub(crate) struct Send {
    /// Payloads, or recordings of the form {\"headers\": …, \"body\": …}
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to: a base URL, to which /circleci or /gitlab is added, or the whole address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3000")]
    to: String,
    /// Whose deliveries they are, when the payload does not tell
    #[arg(long)]
    provider: Option<ProviderName>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProviderName {
    Circleci,
    Gitlab,
}

impl From<ProviderName> for Provider {
    fn from(name: ProviderName) -> Self {
        match name {
            ProviderName::Circleci => Self::Circleci,
            ProviderName::Gitlab => Self::Gitlab,
        }
    }
}

/// A delivery that could not be sent.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    #[error("{file} can't be read: {error}")]
    Unreadable { file: String, error: std::io::Error },
    #[error("it is not clear whose delivery this is; say --provider circleci or --provider gitlab")]
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
            let provider = self.provider.map(Into::into);
            let answer = sender.send(&self.to, &body, provider).await.map_err(failure)?;
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
    circleci: Option<Vec<u8>>,
    gitlab_key: Option<Vec<u8>>,
    gitlab_token: Option<String>,
}

impl Sender {
    pub(crate) fn new(vars: &Vars) -> Result<Self, SendError> {
        let token = first(vars, GITLAB_SIGNING_TOKEN)?;
        let hint = "GitLab shows it as whsec_ and 44 characters of base64";
        let key = token.map(|token| {
            let text = String::from_utf8_lossy(&token);
            signing_key(&text).ok_or(SendError::Secret { variable: GITLAB_SIGNING_TOKEN, hint })
        });
        let client = Client::builder().timeout(std::time::Duration::from_secs(30)).build();
        let no_client = |error: reqwest::Error| SendError::NoAnswer {
            url: String::new(),
            reason: error.to_string(),
        };
        Ok(Self {
            client: client.map_err(no_client)?,
            circleci: first(vars, CIRCLECI_SECRET)?,
            gitlab_key: key.transpose()?,
            gitlab_token: first(vars, GITLAB_SECRET_TOKEN)?
                .map(|it| String::from_utf8_lossy(&it).into_owned()),
        })
    }

    pub(crate) async fn send(
        &self,
        to: &str,
        payload: &[u8],
        provider: Option<Provider>,
    ) -> Result<Answer, SendError> {
        let (provider, json, body) = read(payload, provider)?;
        let url = address(to, provider);
        let post = self.client.post(&url).header("content-type", "application/json");
        let post = match provider {
            Provider::Circleci => self.as_circleci(post, &json, &body),
            Provider::Gitlab => self.as_gitlab(post, &json, &body),
        };
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

    fn as_circleci(&self, post: RequestBuilder, json: &Value, body: &[u8]) -> RequestBuilder {
        let event = json["type"].as_str().unwrap_or_default().to_owned();
        let post =
            post.header("user-agent", "CircleCI-Webhook/1.0").header("circleci-event-type", event);
        match self.circleci.as_ref().and_then(|secret| sign_circleci(body, secret)) {
            Some(signature) => post.header("circleci-signature", signature),
            None => post,
        }
    }

    fn as_gitlab(&self, mut post: RequestBuilder, json: &Value, body: &[u8]) -> RequestBuilder {
        let event = match json["object_kind"].as_str().unwrap_or("pipeline") {
            "build" => "Job Hook".to_owned(),
            kind => {
                let (head, tail) = kind.split_at_checked(1).unwrap_or_default();
                format!("{}{} Hook", head.to_uppercase(), tail.replace('_', " "))
            }
        };
        let instance = json["project"]["web_url"].as_str().and_then(|url| {
            let (scheme, rest) = url.split_once("://")?;
            Some(format!("{scheme}://{}", rest.split('/').next()?))
        });
        let id = Uuid::new_v4().to_string();
        let now = Clock::SYSTEM.since_epoch().as_secs();
        if let Some(signature) =
            self.gitlab_key.as_ref().and_then(|key| sign_standard(&id, now, body, key))
        {
            post = post.header("webhook-signature", signature);
        }
        if let Some(token) = &self.gitlab_token {
            post = post.header("x-gitlab-token", token);
        }
        post.header("user-agent", "GitLab/19.2.0")
            .header("x-gitlab-event", event)
            .header(
                "x-gitlab-instance",
                instance.unwrap_or_else(|| "https://gitlab.com".to_owned()),
            )
            .header("x-gitlab-event-uuid", Uuid::new_v4().to_string())
            .header("x-gitlab-webhook-uuid", Uuid::new_v4().to_string())
            .header("idempotency-key", &id)
            .header("webhook-id", &id)
            .header("webhook-timestamp", now)
    }
}

/// The first live value of a secret that the variable itself holds.
pub(crate) fn first(vars: &Vars, variable: &'static str) -> Result<Option<Vec<u8>>, SendError> {
    let elsewhere =
        || SendError::Secret { variable, hint: "give the secret itself, not where it is kept" };
    match Source::parse(vars, variable) {
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
    let told = || {
        if json.get("object_kind").or_else(|| json.get("object_attributes")).is_some() {
            Some(Provider::Gitlab)
        } else {
            json.get("type").and(json.get("webhook")).map(|_| Provider::Circleci)
        }
    };
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

    #[test]
    fn a_mistyped_secret_signs_nothing() {
        let vars = |text: &str| Vars::from([(CIRCLECI_SECRET.to_owned(), text.to_owned())]);
        assert_eq!(
            first(&vars("[\"new-secret\"]"), CIRCLECI_SECRET).unwrap().unwrap(),
            b"new-secret"
        );
        let error =
            first(&vars("[\n \"old-secret\",\n]"), CIRCLECI_SECRET).unwrap_err().to_string();
        assert!(error.starts_with("CIRCLECI_HOOK_SECRET can't be used; "), "{error}");
    }

    #[test]
    fn every_sample_tells_whose_it_is() {
        for (name, body) in crate::samples::ALL {
            let (provider, _, bytes) = read(body.as_bytes(), None).unwrap();
            assert!(name.starts_with(provider.as_str()), "{name}");
            assert_eq!(bytes, body.as_bytes(), "{name} goes out as it is");
        }
    }
}
