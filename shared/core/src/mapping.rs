//! What a mapping gives, and what the mappings of all providers share.

use std::{borrow::Cow, fmt, str::FromStr};

use thiserror::Error;

use crate::{
    semconv::{ERROR_TYPE, RunResult},
    span::{Span, Status, Trace},
    time::Interval,
};

/// What became of a verified delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Mapped<'a> {
    /// Spans to forward.
    Trace {
        /// The spans.
        trace: Trace<'a>,
        /// What names the project, for fair queueing.
        project: Cow<'a, str>,
    },
    /// Nothing to emit, and why: acknowledged, because providers punish every other answer.
    Ignored(&'static str),
}

/// Why a verified payload can't be mapped. It goes to the dead-letter queue as it came.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unmappable {
    /// The body is no JSON object, or one that breaks off.
    #[error("the body is not a JSON object")]
    NotJson,
    /// Nothing says what kind of event it is, as with a custom webhook template.
    #[error("the body is no event of this provider")]
    UnknownShape,
    /// There is no run to hang spans on.
    #[error("the event names no run")]
    NoRun,
    /// Not one date can be read, and a span needs a time.
    #[error("the event holds no readable date")]
    NoTime,
    /// More jobs than a pipeline of GitLab's can have: their spans would take the memory of all
    /// other deliveries.
    #[error("the pipeline has more than {} jobs", crate::gitlab::MAX_JOBS)]
    TooManyJobs,
    /// The mapping panicked: our mistake, and no reason to lose the delivery.
    #[error("spanhook could not map the event; please report it")]
    Bug,
}

/// Reads a body leniently, telling a broken one from one of another shape.
pub(crate) fn read<'de, T: serde::Deserialize<'de>>(body: &'de [u8]) -> Result<T, Unmappable> {
    serde_json::from_slice(body).map_err(|_| Unmappable::NotJson)
}

/// The text of `service.name`, in which `{repository}` and `{pipeline}` are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName(String);

/// A service name that can't be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("use text with {{repository}} and {{pipeline}} as the only placeholders")]
pub struct BadServiceName;

impl FromStr for ServiceName {
    type Err = BadServiceName;

    fn from_str(text: &str) -> Result<Self, BadServiceName> {
        let rest = text.replace("{repository}", "").replace("{pipeline}", "");
        if text.trim().is_empty() || rest.contains(['{', '}']) {
            return Err(BadServiceName);
        }
        Ok(Self(text.trim().to_owned()))
    }
}

impl ServiceName {
    /// The name for one run.
    #[must_use]
    pub fn render(&self, repository: &str, pipeline: &str) -> String {
        if !self.0.contains('{') {
            return self.0.clone();
        }
        // One pass, so that a repository called `{pipeline}` stays what it is.
        let mut name = String::with_capacity(self.0.len() + repository.len() + pipeline.len());
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find('{') {
            name.push_str(&rest[..at]);
            rest = &rest[at..];
            let (value, placeholder) = match rest.strip_prefix("{repository}") {
                Some(_) => (repository, "{repository}"),
                None => (pipeline, "{pipeline}"),
            };
            name.push_str(value);
            rest = &rest[placeholder.len()..];
        }
        name.push_str(rest);
        name
    }
}

/// A repository, as far as its URL tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repository {
    /// Canonical HTTP(S) URL: no credentials, query, fragment or `.git`.
    pub(crate) url: String,
    /// Host, with its port.
    pub(crate) host: String,
    /// The group or organisation.
    pub(crate) owner: String,
    /// The last segment of the path.
    pub(crate) name: String,
}

impl Repository {
    /// Reads `https://…`, `ssh://git@…` and `git@host:path`. None when it is none of them.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let url = url.trim();
        let (scheme, rest) = match url.split_once("://") {
            Some(("http", rest)) => ("http", rest),
            Some(("https" | "ssh" | "git", rest)) => ("https", rest),
            Some(_) => return None,
            // scp-like syntax: the path begins behind the colon.
            None => ("https", url.split_once('@').filter(|(_, rest)| rest.contains(':'))?.1),
        };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let scp = !url.contains("://");
        let (authority, path) = rest.split_once(if scp { ':' } else { '/' })?;
        let host = authority.rsplit('@').next().unwrap_or_default();
        // A port of SSH says nothing about the web address.
        let host = if url.starts_with("ssh") { host.split(':').next()? } else { host };
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let host = web_host(scheme, host);
        if host.is_empty() || path.is_empty() {
            return None;
        }
        let (owner, name) = path.rsplit_once('/').unwrap_or(("", path));
        Some(Self {
            url: format!("{scheme}://{host}/{path}"),
            host,
            owner: owner.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// A host as ids take it: lower case, its port only when it is not the scheme's own.
fn web_host(scheme: &str, host: &str) -> String {
    let default = if scheme == "http" { ":80" } else { ":443" };
    host.strip_suffix(default).unwrap_or(host).to_ascii_lowercase()
}

/// A web address without what may be private in it: credentials, query and fragment.
pub(crate) fn public_url(url: &str) -> Option<Cow<'_, str>> {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://")?;
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let authority = rest.split('/').next().unwrap_or_default();
    Some(match authority.rsplit_once('@') {
        Some((credentials, _)) => format!("{scheme}://{}", &rest[credentials.len() + 1..]).into(),
        None => Cow::Borrowed(url),
    })
}

/// The first line of a commit message: the rest may hold anything.
pub(crate) fn first_line<'a>(text: Cow<'a, str>) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(text) => text.lines().next().unwrap_or_default().trim().into(),
        Cow::Owned(text) => text.lines().next().unwrap_or_default().trim().to_owned().into(),
    }
}

/// Whether `text` holds `word` with nothing alphanumeric beside it.
pub(crate) fn mentions(text: &str, word: &str) -> bool {
    let is_part = |at: Option<char>| at.is_some_and(char::is_alphanumeric);
    !word.is_empty()
        && text.match_indices(word).any(|(at, _)| {
            !is_part(text[..at].chars().next_back())
                && !is_part(text[at + word.len()..].chars().next())
        })
}

/// How something ended: the value of the result attribute, and the error if there was one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome<'a> {
    /// A value of the conventions' enum, or the provider's own word where none fits.
    pub(crate) result: Cow<'a, str>,
    /// `error.type`, with every status ERROR.
    pub(crate) error: Option<Cow<'a, str>>,
}

impl<'a> Outcome<'a> {
    pub(crate) fn known(result: RunResult, error: impl Into<Cow<'a, str>>) -> Self {
        let error = result.is_error().then(|| error.into());
        Self { result: result.as_str().into(), error }
    }

    pub(crate) fn unknown(status: Cow<'a, str>) -> Self {
        Self { result: status, error: None }
    }

    /// Sets the result attribute, and where it is an error also `error.type` and the status.
    pub(crate) fn apply(self, key: &'static str, span: &mut Span<'a>) {
        span.attributes.set(key, self.result);
        if let Some(error) = self.error {
            span.status = Status::Error(error.clone());
            span.attributes.set(ERROR_TYPE, error);
        }
    }
}

/// Marks a span whose times were made up.
pub(crate) fn mark_repaired(span: &mut Span<'_>, interval: &Interval) {
    if interval.repaired {
        span.attributes.set(crate::semconv::TIME_REPAIRED, true);
    }
}

/// The providers whose deliveries can be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// CircleCI, cloud and server.
    Circleci,
    /// GitLab, gitlab.com and self-managed.
    Gitlab,
}

impl Provider {
    /// The provider's name in ids, messages and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Circleci => "circleci",
            Self::Gitlab => "gitlab",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_read_from_every_form_of_url() {
        let read = |url: &str| Repository::parse(url).map(|it| (it.url, it.owner, it.name));
        let expected =
            |url: &str, owner: &str, name: &str| Some((url.into(), owner.into(), name.into()));
        let shop = expected("https://gitlab.example.com/acme/web/shop", "acme/web", "shop");
        for url in [
            "https://gitlab.example.com/acme/web/shop",
            "https://GITLAB.example.com:443/acme/web/shop.git",
            "https://user:secret@gitlab.example.com/acme/web/shop/?token=x#readme",
            "git@gitlab.example.com:acme/web/shop.git",
            "ssh://git@gitlab.example.com:2222/acme/web/shop.git",
        ] {
            assert_eq!(read(url), shop, "{url}");
        }
        assert_eq!(
            read("http://192.168.64.1:3005/gitlab-org/gitlab-test"),
            expected(
                "http://192.168.64.1:3005/gitlab-org/gitlab-test",
                "gitlab-org",
                "gitlab-test"
            )
        );
        for url in [
            "",
            "shop",
            "https://",
            "https://host",
            "ftp://host/a/b",
            "javascript:alert(1)",
            "@",
            "@:",
            "a@b:",
        ] {
            assert_eq!(read(url), None, "{url}");
        }
    }

    #[test]
    fn urls_lose_credentials_query_and_fragment() {
        assert_eq!(public_url("https://a:b@h/p?q=1#f").as_deref(), Some("https://h/p"));
        assert_eq!(public_url("https://h/p@v1").as_deref(), Some("https://h/p@v1"));
        assert_eq!(public_url("javascript:alert(1)"), None);
    }

    #[test]
    fn service_names_are_rendered_in_one_pass() {
        let name: ServiceName = "ci/{repository}:{pipeline}!".parse().unwrap();
        assert_eq!(name.render("{pipeline}", "build"), "ci/{pipeline}:build!");
        for bad in ["", " ", "{branch}", "{", "}", "{repository"] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_word_is_mentioned_only_as_a_whole() {
        assert!(mentions("Deploy main now", "main"));
        assert!(mentions("Pipeline (feature/a-1)", "feature/a-1"));
        assert!(!mentions("Maintenance mainline", "main"));
        assert!(!mentions("anything", ""));
    }
}
