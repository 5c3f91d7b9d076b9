//! GitHub's REST API, as far as webhooks need it.
//!
//! <https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api>

use std::time::Duration;

use jiff::SignedDuration;
use reqwest::{
    Client, Method, Response, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderMap, LINK},
    redirect::Policy,
};
use serde::{Deserialize, de::DeserializeOwned};
use spanhook_core::settings::Variable;
use spanhook_service::{
    clock::Clock,
    export::{self, innermost, shown},
};
use thiserror::Error;

use super::{
    credential::{Credential, CredentialError},
    limit,
};
use crate::operate::progress::note;

/// `GITHUB_API_URL`
pub(crate) static API: Variable = Variable::new(
    "GITHUB_API_URL",
    "https://api.github.com",
    "use the whole URL; on Enterprise Server it is https://HOST/api/v3",
    "GitHub's API, as `--api`; a workflow has it",
);

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A request that gave nothing.
#[derive(Debug, Error)]
pub(super) enum ApiError {
    #[error("{0} can't be asked; --api is such as https://ghes.example.com/api/v3")]
    Address(String),
    #[error("no answer from {host}: {reason}; check --api and the network")]
    NoAnswer { host: String, reason: String },
    #[error("GitHub answered {status}{message}")]
    Refused { status: u16, message: String },
    #[error(
        "what {host} answered is not GitHub's API ({reason}); on Enterprise Server --api is https://HOST/api/v3"
    )]
    NotTheApi { host: String, reason: String },
    #[error("the next page is on another host, {0}, which does not get the token")]
    Elsewhere(String),
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

impl ApiError {
    /// The status of a refusal.
    pub(super) fn status(&self) -> Option<u16> {
        if let Self::Refused { status, .. } = self { Some(*status) } else { None }
    }
}

/// A part of a list.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// Where the list goes on.
    pub(super) next: Option<Url>,
}

/// The API of one instance.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    base: Url,
    credential: Credential,
    clock: Clock,
}

impl Api {
    /// The API at an address. A token goes over TLS, or stays on this machine.
    pub(super) fn open(base: &str, credential: Credential) -> Result<Self, ApiError> {
        let unusable = || ApiError::Address(shown(base));
        let base = Url::parse(base).map_err(|_| unusable())?;
        let host = base.host_str().ok_or_else(unusable)?;
        let here = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
        if base.scheme() != "https" && !here || base.cannot_be_a_base() {
            return Err(unusable());
        }
        // A repository that was renamed is a redirect, which takes no token to another host.
        let client = export::client().redirect(Policy::default());
        let client = client.timeout(TIMEOUT).https_only(!here).build();
        let client = client.map_err(|error| ApiError::NoAnswer {
            host: host.to_owned(),
            reason: innermost(&error),
        })?;
        Ok(Self { client, base, credential, clock: Clock::SYSTEM })
    }

    /// The address of a path, with a hundred entries a page.
    pub(super) fn list(&self, path: &str) -> Url {
        let mut url = self.url(path);
        url.query_pairs_mut().append_pair("per_page", "100");
        url
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    /// One page of a list.
    pub(super) async fn page<T: DeserializeOwned>(&self, url: Url) -> Result<Page<T>, ApiError> {
        let answer = self.send(Method::GET, &url).await?;
        let next = self.next(answer.headers())?;
        let strange = |reason: String| ApiError::NotTheApi { host: self.host(), reason };
        let body = answer.bytes().await.map_err(|error| self.no_answer(&error))?;
        let items = serde_json::from_slice(&body).map_err(|error| strange(error.to_string()))?;
        Ok(Page { items, next })
    }

    /// Asks for another attempt.
    pub(super) async fn attempt(&self, deliveries: &str, id: u64) -> Result<(), ApiError> {
        let url = self.url(&format!("{deliveries}/{id}/attempts"));
        self.send(Method::POST, &url).await.map(drop)
    }

    /// Where a list goes on; never another host, which would get the token.
    fn next(&self, headers: &HeaderMap) -> Result<Option<Url>, ApiError> {
        let link = headers.get(LINK).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let Some(next) = next(link) else { return Ok(None) };
        let url = self.base.join(next).map_err(|_| ApiError::Elsewhere(next.to_owned()))?;
        if url.origin() == self.base.origin() {
            return Ok(Some(url));
        }
        Err(ApiError::Elsewhere(url.host_str().unwrap_or_default().to_owned()))
    }

    /// Sends until the answer is one, waiting as GitHub asks for.
    async fn send(&self, method: Method, url: &Url) -> Result<Response, ApiError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let now = self.clock.since_epoch().as_secs();
            let request = self
                .client
                .request(method.clone(), url.clone())
                .header(ACCEPT, "application/vnd.github+json")
                .header("x-github-api-version", "2022-11-28")
                .header(AUTHORIZATION, self.credential.header(now)?);
            let (error, wait) = match request.send().await {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => {
                    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
                    let message = message(&answer.bytes().await.unwrap_or_default());
                    let wait = limit::wait(status, &headers, &message, now, tried);
                    (ApiError::Refused { status, message }, wait)
                }
                Err(error) => (self.no_answer(&error), limit::trouble(tried)),
            };
            let Some((reason, pause)) = wait else { return Err(error) };
            let time = SignedDuration::try_from(pause).unwrap_or_default();
            note(&format!("{}; going on in {time:#}", reason.as_str()));
            tokio::time::sleep(pause).await;
        }
    }

    fn host(&self) -> String {
        self.base.host_str().unwrap_or_default().to_owned()
    }

    fn no_answer(&self, error: &reqwest::Error) -> ApiError {
        ApiError::NoAnswer { host: self.host(), reason: innermost(error) }
    }
}

/// GitHub's own words about a refusal, cut to what fits a line; nothing if they are not its own.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Words {
        message: String,
    }
    let words = serde_json::from_slice::<Words>(body).map(|it| it.message).unwrap_or_default();
    let words: String = words.chars().take(200).collect();
    if words.is_empty() { words } else { format!(": {words}") }
}

/// The address of the next page of a `Link` header.
///
/// <https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api#using-link-headers>
fn next(mut link: &str) -> Option<&str> {
    while let Some((_, rest)) = link.split_once('<') {
        let (url, rest) = rest.split_once('>')?;
        let end = rest.find('<').unwrap_or(rest.len());
        if rest[..end].contains("rel=\"next\"") {
            return Some(url);
        }
        link = &rest[end..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_what_the_link_header_says() {
        let url = "https://api.github.com/app/hook/deliveries?per_page=100&cursor=v1_12077215967";
        for (link, expected) in [
            (format!("<{url}>; rel=\"next\""), Some(url)),
            (format!("<https://h/?cursor=a,b>; rel=\"prev\", <{url}>; rel=\"next\""), Some(url)),
            (format!("<{url}>; rel=\"next\", <https://h/?page=9>; rel=\"last\""), Some(url)),
            (format!("<{url}>; rel=\"prev\""), None),
            (format!("<{url}; rel=\"next\""), None),
            (String::new(), None),
        ] {
            assert_eq!(next(&link), expected, "{link}");
        }
    }

    fn api(base: &str) -> Result<Api, ApiError> {
        Api::open(base, Credential::Token("ghp_s3cret".to_owned()))
    }

    #[test]
    fn a_token_goes_over_tls_or_stays_on_this_machine() {
        for (base, usable) in [
            (API.default, true),
            ("https://ghes.example.com:8443/api/v3/", true),
            ("http://127.0.0.1:1/api/v3", true),
            ("http://ghes.example.com/api/v3", false),
            ("ghes.example.com", false),
            ("data:text/plain,x", false),
            ("", false),
        ] {
            assert_eq!(api(base).is_ok(), usable, "{base}");
        }
        let error = api("http://user:s3cret@ghes.example.com/api/v3").unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn paths_are_below_the_api_and_the_list_goes_on_at_the_same_host_only() {
        let api = api("https://ghes.example.com/api/v3/").unwrap();
        let url = api.list("/orgs/acme/hooks/7/deliveries");
        let expected = "https://ghes.example.com/api/v3/orgs/acme/hooks/7/deliveries?per_page=100";
        assert_eq!(url.as_str(), expected);
        let next = |to: &str| {
            let link = format!("<{to}>; rel=\"next\"").parse().unwrap();
            api.next(&HeaderMap::from_iter([(LINK, link)]))
        };
        assert!(next("https://ghes.example.com/api/v3/x?cursor=y").unwrap().is_some());
        for elsewhere in ["https://evil.example/x", "http://ghes.example.com/x"] {
            assert!(next(elsewhere).is_err(), "{elsewhere}");
        }
    }

    #[test]
    fn nothing_of_the_token_is_in_what_is_printed_for_debugging() {
        let text = format!("{:?}", api(API.default).unwrap());
        assert!(text.contains("Token(…)") && !text.contains("s3cret"), "{text}");
    }
}
