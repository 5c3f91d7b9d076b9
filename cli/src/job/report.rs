//! Posts build events and spans from a job, and never fails the build because of it.

use std::{
    io::{Write, stderr},
    time::Duration,
};

use clap::Args;
use reqwest::{Client, RequestBuilder, Response, Url, header::HeaderValue};
use serde_json::Value;
use spanhook_core::{
    build_event::{self, BadEvents, Sender},
    check::{sign_standard, signing_key},
    provider::{Grant, Provider},
    settings::{Settings, Variable, Vars, var},
};
use spanhook_export::{client, clock::Clock, innermost};
use thiserror::Error;
use tokio::{
    runtime,
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};
use uuid::Uuid;

use crate::terminal::{Failure, failure, print, printable};

/// How long everything on the network may take: a build waits for it.
pub(crate) const LIMIT: Duration = Duration::from_secs(3);

/// A first try that failed within this time leaves enough for a second one.
const QUICK: Duration = Duration::from_secs(1);

/// Pause before the second try, and how long the body of an answer is waited for.
const PAUSE: Duration = Duration::from_millis(300);

/// The longest answer that is read, in bytes: a thousand events may have a trace each.
const MAX_ANSWER: usize = 64 * 1024;

/// The longest note that is repeated, in bytes: it is to be one line.
const MAX_NOTE: usize = 300;

/// The path of build events, which the address may end in.
const PATH: &str = "build-events";

/// What is posted, and where.
struct Content {
    path: &'static str,
    kind: &'static str,
    body: Vec<u8>,
}

/// The settings of every command that posts, for its help.
pub(crate) const HELP: &str = "Settings, from the environment:
  SPANHOOK_ENDPOINT     address of spanhook; /build-events is added
  SPANHOOK_TOKEN        bearer or OIDC token, or
  SPANHOOK_SIGNING_KEY  whsec_... key that signs the request; CircleCI's own token needs no setting
  SPANHOOK_AUDIENCE     audience of the OIDC token, where the job asks for one
  SPANHOOK_PROJECT      what is built, else the CI system's project
  CORRELATION_ID        joins events to a run, else BUILD_CORRELATION_ID or the CI system's run id
A problem is one line on standard error, and no failure unless --strict is given.";

/// `SPANHOOK_ENDPOINT`
pub(crate) static ENDPOINT: Variable = Variable::new(
    "SPANHOOK_ENDPOINT",
    "",
    "set SPANHOOK_ENDPOINT to the address of spanhook, such as https://spanhook.example.com",
    "address of spanhook; `/build-events` is added, for spans `/v1/traces`",
);

/// `SPANHOOK_TOKEN`
pub(crate) static TOKEN: Variable =
    Variable::secret("SPANHOOK_TOKEN", "check SPANHOOK_TOKEN", "bearer or OIDC token of the job");

/// `SPANHOOK_SIGNING_KEY`
pub(crate) static SIGNING_KEY: Variable = Variable::secret(
    "SPANHOOK_SIGNING_KEY",
    "SPANHOOK_SIGNING_KEY is not whsec_ and base64; copy it again",
    "`whsec_…` key that signs what is sent, where there is no token",
);

/// `SPANHOOK_AUDIENCE`
pub(crate) static AUDIENCE: Variable = Variable::new(
    "SPANHOOK_AUDIENCE",
    "",
    "check SPANHOOK_AUDIENCE",
    "audience of the OIDC token, where a job has to ask for one",
);

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Posting {
    /// Fail when the event could not be sent, in place of a warning
    #[arg(long)]
    strict: bool,
    /// Print what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
}

/// An event that could not be sent. The texts quote no value of a variable and nothing that the
/// network said, but host, status and the system's own error.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum ReportError {
    #[error("{}", ENDPOINT.expected)]
    NoEndpoint,
    #[error("SPANHOOK_ENDPOINT is not a URL; it looks like https://spanhook.example.com")]
    Url,
    #[error("SPANHOOK_ENDPOINT must start with https:// or http://")]
    Scheme,
    #[error("SPANHOOK_ENDPOINT holds a password; use SPANHOOK_TOKEN instead")]
    Password,
    #[error("the token has characters that no header may have; {}", TOKEN.expected)]
    Token,
    #[error("{}", SIGNING_KEY.expected)]
    Key,
    #[error("{0}")]
    NoToken(&'static str),
    #[error("no answer from {host} within 3 s; can this job reach it?")]
    TimedOut { host: String },
    #[error(
        "no connection to {host} ({reason}); check SPANHOOK_ENDPOINT, and that this job can reach it"
    )]
    NoConnection { host: String, reason: String },
    #[error("{host} answered {status}; {advice}")]
    Refused { host: String, status: u16, advice: &'static str },
    #[error("{0}")]
    Bad(#[from] BadEvents),
}

impl Posting {
    /// Posts a body, one event or an array of them. What went wrong before is a problem like any
    /// other: a warning.
    pub(crate) async fn post(
        self,
        vars: &Vars,
        body: Result<String, Failure>,
    ) -> Result<(), Failure> {
        let sent = match body {
            Ok(body) if self.dry_run => {
                print(format!("{body}\n"));
                check(body.as_bytes()).map(|()| None).map_err(failure)
            }
            Ok(body) => send(vars.clone(), body).await.map_err(failure),
            Err(error) => Err(error),
        };
        match sent.map_err(|error| format!("build event not sent: {error}")) {
            Err(problem) if self.strict => Err(failure(problem)),
            Err(problem) => {
                warn(&problem);
                Ok(())
            }
            Ok(note) => {
                if let Some(note) = note {
                    warn(&format!("build event accepted, but {note}"));
                }
                Ok(())
            }
        }
    }
}

/// One line to the person who reads the job's log.
pub(crate) fn warn(problem: &str) {
    let _ = writeln!(stderr(), "spanhook: {}", printable(problem));
}

/// Waits for work on the network, but no longer than the limit.
///
/// The system's name look-up can't be stopped, and a runtime waits for its end when it is dropped.
/// So the work has a thread and a runtime of its own, which end with the process.
pub(crate) async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (done, result) = oneshot::channel();
    std::thread::spawn(move || {
        if let Ok(runtime) = runtime::Builder::new_current_thread().enable_all().build() {
            let _ = done.send(runtime.block_on(work)); // Nobody waits any more: too late.
        }
    });
    timeout(limit, result).await.ok()?.ok()
}

/// What the endpoint would find wrong with the events.
fn check(body: &[u8]) -> Result<(), ReportError> {
    let settings = Settings::default();
    build_event::map(body, Clock::SYSTEM.nanos(), &settings, Sender::Trusted)?;
    Ok(())
}

/// Posts events as a job does; what the endpoint notes of what it accepted.
pub(crate) async fn send(vars: Vars, body: String) -> Result<Option<String>, ReportError> {
    let body = body.into_bytes();
    send_content(vars, Content { path: PATH, kind: "application/json", body }).await
}

/// Posts spans with the same proof to the same address.
pub(crate) async fn send_spans(vars: Vars, request: Vec<u8>) -> Result<(), ReportError> {
    let kind = "application/x-protobuf";
    send_content(vars, Content { path: "v1/traces", kind, body: request }).await.map(drop)
}

async fn send_content(vars: Vars, content: Content) -> Result<Option<String>, ReportError> {
    let url = address(&vars, content.path)?;
    let host = authority(&url);
    // Later the time is up, and what was accepted would count as not sent.
    let last = Instant::now() + LIMIT - PAUSE;
    let in_time = within(LIMIT, async move {
        let client = client().build().map_err(|error| no_connection(&url, &error))?;
        let proof = Proof::find(&vars, &client).await?;
        let begun = Instant::now();
        let first = post(&client, &url, &proof, &content).await;
        let answer = match first {
            Err((_, true)) if begun.elapsed() < QUICK => {
                sleep(PAUSE).await;
                post(&client, &url, &proof, &content).await
            }
            first => first,
        };
        let answer = answer.map_err(|(error, _)| error)?;
        let until = last.min(Instant::now() + PAUSE);
        Ok(timeout_at(until, note(answer, &proof)).await.ok().flatten())
    });
    in_time.await.ok_or(ReportError::TimedOut { host })?
}

/// Posts once; an error comes with whether it may pass by itself.
async fn post(
    client: &Client,
    url: &Url,
    proof: &Proof,
    content: &Content,
) -> Result<Response, (ReportError, bool)> {
    let request = client.post(url.clone()).header("content-type", content.kind);
    let request = proof.apply(request, &content.body).body(content.body.clone());
    let answer = request.send().await.map_err(|error| (no_connection(url, &error), true))?;
    let status = answer.status().as_u16();
    let advice = match status {
        200..300 => return Ok(answer),
        403 if content.path != PATH => {
            "is TRACEPARENT of this run, and does ACCESS take what this job shows?"
        }
        401 | 403 => proof.hint(),
        404 | 405 => "check the path of SPANHOOK_ENDPOINT",
        413 => "send fewer or smaller events",
        300..=399 => "set SPANHOOK_ENDPOINT to the address it redirects to",
        429 | 500.. => "the build is fine; see the logs of the endpoint",
        // What is wrong is told in our own words: those of the endpoint may quote a header.
        _ => match check(&content.body) {
            Err(error) if content.path == PATH => return Err((error, false)),
            _ => "do the versions of the endpoint and of this tool fit?",
        },
    };
    let passing = status == 429 || status >= 500;
    Err((ReportError::Refused { host: authority(url), status, advice }, passing))
}

/// What the endpoint says of events that it accepted, such as that they were kept out of a run. They
/// are safe: what it says at length is left unread, and so is what repeats the proof.
async fn note(mut answer: Response, proof: &Proof) -> Option<String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.ok()? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return None;
        }
    }
    let json: Value = serde_json::from_slice(&body).ok()?;
    let note = json["note"].as_str().filter(|it| it.len() <= MAX_NOTE && !proof.is_in(it))?;
    Some(note.to_owned())
}

fn no_connection(url: &Url, error: &reqwest::Error) -> ReportError {
    ReportError::NoConnection { host: authority(url), reason: innermost(error) }
}

/// The address to post to: `SPANHOOK_ENDPOINT`, which may be that of build events, with the path.
fn address(vars: &Vars, path: &str) -> Result<Url, ReportError> {
    let endpoint = ENDPOINT.get(vars).ok_or(ReportError::NoEndpoint)?;
    let mut url = Url::parse(endpoint).map_err(|_| ReportError::Url)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ReportError::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ReportError::Password);
    }
    let whole = url.path().trim_end_matches('/');
    let base = match whole.rsplit_once('/') {
        Some((base, PATH)) => base,
        _ => whole,
    };
    url.set_path(&format!("{base}/{path}"));
    Ok(url)
}

/// Host and port, all of an address that is printed.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// How a request shows that it comes from a CI job.
enum Proof {
    Bearer {
        header: HeaderValue,
        hint: &'static str,
    },
    /// The id is the same at every try: it is the same event.
    Signature {
        key: Vec<u8>,
        id: String,
    },
    None,
}

impl Proof {
    /// The token, else the signing key, else what the CI system offers.
    async fn find(vars: &Vars, client: &Client) -> Result<Self, ReportError> {
        if let Some(token) = TOKEN.get(vars) {
            return Self::bearer(token, TOKEN.expected);
        }
        if let Some(key) = SIGNING_KEY.get(vars) {
            let key = signing_key(key).ok_or(ReportError::Key)?;
            return Ok(Self::Signature { key, id: format!("msg_{}", Uuid::new_v4().simple()) });
        }
        for grant in Provider::ALL.map(|it| it.room().issuer.grant) {
            match grant {
                Grant::Given { variable, hint } => {
                    if let Some(token) = var(vars, variable) {
                        return Self::bearer(token, hint);
                    }
                }
                Grant::Asked { address, token, refused } => {
                    if let Some(audience) = AUDIENCE.get(vars) {
                        let own = var(vars, address).zip(var(vars, token));
                        let token = asked(own, audience, client).await;
                        let token = token.ok_or(ReportError::NoToken(refused))?;
                        return Self::bearer(&token, AUDIENCE.expected);
                    }
                }
                Grant::Owner => {}
            }
        }
        Ok(Self::None)
    }

    fn bearer(token: &str, hint: &'static str) -> Result<Self, ReportError> {
        let printable = token.bytes().all(|it| it.is_ascii_graphic());
        let header = HeaderValue::try_from(format!("Bearer {token}"));
        let mut header = header.ok().filter(|_| printable).ok_or(ReportError::Token)?;
        header.set_sensitive(true);
        Ok(Self::Bearer { header, hint })
    }

    fn apply(&self, request: RequestBuilder, body: &[u8]) -> RequestBuilder {
        match self {
            Self::Bearer { header, .. } => request.header("authorization", header),
            Self::Signature { key, id } => {
                let now = Clock::SYSTEM.since_epoch().as_secs();
                let signature = sign_standard(id, now, body, key).unwrap_or_default();
                request
                    .header("webhook-id", id)
                    .header("webhook-timestamp", now)
                    .header("webhook-signature", signature)
            }
            Self::None => request,
        }
    }

    /// Whether a text holds the secret.
    fn is_in(&self, text: &str) -> bool {
        match self {
            Self::Bearer { header, .. } => {
                let token = header.to_str().unwrap_or_default();
                text.contains(token.trim_start_matches("Bearer "))
            }
            // It is sent to nobody.
            Self::Signature { .. } | Self::None => false,
        }
    }

    /// What to check when it is refused.
    fn hint(&self) -> &'static str {
        match self {
            Self::Bearer { hint, .. } => hint,
            Self::Signature { .. } => "check SPANHOOK_SIGNING_KEY and this machine's clock",
            Self::None => {
                "set SPANHOOK_TOKEN, SPANHOOK_SIGNING_KEY or, where a job asks for its OIDC token, SPANHOOK_AUDIENCE"
            }
        }
    }
}

/// The token that a job gets for an audience, at its own address and with its own proof.
async fn asked(own: Option<(&str, &str)>, audience: &str, client: &Client) -> Option<String> {
    let (address, proof) = own?;
    let mut url = Url::parse(address).ok()?;
    url.query_pairs_mut().append_pair("audience", audience);
    let answer = client.get(url).bearer_auth(proof).send().await;
    let body = answer.ok()?.error_for_status().ok()?.bytes().await.ok()?;
    let json: Value = serde_json::from_slice(&body).ok()?;
    json["value"].as_str().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(endpoint: &str) -> Result<String, ReportError> {
        let vars = [("SPANHOOK_ENDPOINT".to_owned(), endpoint.to_owned())].into();
        address(&vars, PATH).map(String::from)
    }

    #[test]
    fn the_path_is_added_unless_it_is_there() {
        for (endpoint, expected) in [
            ("https://s.example.com", "https://s.example.com/build-events"),
            ("https://s.example.com/", "https://s.example.com/build-events"),
            ("http://h:3000/ci/", "http://h:3000/ci/build-events"),
            ("http://h:3000/build-events/", "http://h:3000/build-events"),
            ("http://h/my-build-events?k=1", "http://h/my-build-events/build-events?k=1"),
        ] {
            assert_eq!(url(endpoint).unwrap(), expected, "{endpoint}");
            // Spans go to the same address.
            let vars = [("SPANHOOK_ENDPOINT".to_owned(), endpoint.to_owned())].into();
            let spans = address(&vars, "v1/traces").unwrap();
            assert_eq!(spans.as_str().replace("v1/traces", PATH), expected, "{endpoint}");
        }
    }

    #[test]
    fn an_endpoint_that_can_not_be_used_is_told_what_to_type_and_not_repeated() {
        for (endpoint, error) in [
            ("", ReportError::NoEndpoint),
            ("s3cret.example.com", ReportError::Url),
            ("ftp://s3cret", ReportError::Scheme),
            ("https://s3cret@h", ReportError::Password),
            ("https://user:s3cret@h", ReportError::Password),
        ] {
            let refused = url(endpoint).unwrap_err();
            assert_eq!(refused, error, "{endpoint}");
            assert!(!refused.to_string().contains("s3cret"));
        }
    }

    const NO_TOKEN: &str = "GitHub gave no OIDC token; the job needs `permissions: id-token: write`, and pull requests from forks get none";

    #[tokio::test]
    async fn the_proof_is_the_first_that_is_there_and_a_mistyped_one_is_never_quoted() {
        let client = client().build().unwrap();
        let found = async |vars: &[(&str, &str)]| {
            let vars = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Proof::find(&vars, &client).await.map(|it| it.hint())
        };
        let token = ("SPANHOOK_TOKEN", "t0ken");
        let key = ("SPANHOOK_SIGNING_KEY", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz");
        let circleci = ("CIRCLE_OIDC_TOKEN_V2", "oidc");
        assert_eq!(found(&[circleci, key, token]).await, Ok("check SPANHOOK_TOKEN"));
        let hint = "check SPANHOOK_SIGNING_KEY and this machine's clock";
        assert_eq!(found(&[circleci, key]).await, Ok(hint));
        assert!(found(&[circleci]).await.unwrap().contains("CircleCI organisation"));
        assert_eq!(
            found(&[]).await,
            Ok(
                "set SPANHOOK_TOKEN, SPANHOOK_SIGNING_KEY or, where a job asks for its OIDC token, SPANHOOK_AUDIENCE"
            )
        );
        assert_eq!(found(&[("SPANHOOK_TOKEN", "to\nken")]).await, Err(ReportError::Token));
        assert_eq!(found(&[("SPANHOOK_SIGNING_KEY", "whsec_!")]).await, Err(ReportError::Key));
        assert_eq!(found(&[("SPANHOOK_AUDIENCE", "a")]).await, Err(ReportError::NoToken(NO_TOKEN)));
    }

    #[tokio::test]
    async fn work_that_blocks_its_thread_is_not_waited_for() {
        let begun = Instant::now();
        let blocks = async {
            let look_up = || std::thread::sleep(Duration::from_secs(60));
            tokio::task::spawn_blocking(look_up).await
        };
        assert!(within(Duration::from_millis(50), blocks).await.is_none());
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
