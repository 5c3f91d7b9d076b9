//! What the mappings of all providers share.

use std::borrow::Cow;

use thiserror::Error;

use crate::{
    delivery::Unmappable,
    host::Host,
    lenient::Object,
    otlp::span::{Span, Status},
    semconv::{ERROR_TYPE, RunResult},
    template::Template,
    time::Interval,
};

/// Reads a body leniently, telling a broken one from one of another shape.
pub(crate) fn read<'de, T: serde::Deserialize<'de>>(body: &'de [u8]) -> Result<T, Unmappable> {
    // As an object: a list would be read as the fields in their order.
    let json: Object<T> = serde_json::from_slice(body).map_err(|_| Unmappable::NotJson)?;
    json.0.ok_or(Unmappable::NotJson)
}

/// What names a run's repository and pipeline.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'n> {
    /// The repository's whole path, such as `acme/web/shop`.
    pub project: &'n str,
    /// Its last segment.
    pub repository: &'n str,
    /// The pipeline.
    pub pipeline: &'n str,
}

/// The text of `service.name`, in which `{project}`, `{repository}` and `{pipeline}` are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    template: Template,
    /// The provider's own name, for a run that has nothing to replace a placeholder by.
    unnamed: &'static str,
}

/// A service name that can't be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("use text with {{project}}, {{repository}} and {{pipeline}} as the only placeholders")]
pub struct BadServiceName;

impl ServiceName {
    /// Reads a setting.
    pub fn parse(text: &str, unnamed: &'static str) -> Result<Self, BadServiceName> {
        let template = Template::parse(text, &["project", "repository", "pipeline"]);
        Ok(Self { template: template.ok_or(BadServiceName)?, unnamed })
    }

    /// A provider's own name, which needs no check.
    pub(crate) fn known(name: &'static str) -> Self {
        Self { template: Template::text(name), unnamed: name }
    }

    /// The name for one run, never empty and never half of one.
    #[must_use]
    pub fn render(&self, names: Names<'_>) -> String {
        let value = |placeholder: &str| {
            Some(match placeholder {
                "project" => names.project.into(),
                "repository" => names.repository.into(),
                _ => names.pipeline.into(),
            })
        };
        self.template.render(value).unwrap_or_else(|| self.unnamed.to_owned())
    }
}

/// `owner/name`, or what is known of it.
pub(crate) fn path(owner: &str, name: &str) -> String {
    match (owner, name) {
        ("", it) | (it, "") => it.to_owned(),
        (owner, name) => format!("{owner}/{name}"),
    }
}

/// A repository, as far as its URL tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repository {
    /// Canonical HTTP(S) URL: no credentials, query, fragment or `.git`.
    pub(crate) url: String,
    /// Its instance.
    pub(crate) host: Option<Host>,
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
        let host = Host::of_url(&format!("{scheme}://{host}")).filter(|_| !path.is_empty())?;
        let (owner, name) = path.rsplit_once('/').unwrap_or(("", path));
        Some(Self {
            url: format!("{scheme}://{host}/{path}"),
            host: Some(host),
            owner: owner.to_owned(),
            name: name.to_owned(),
        })
    }
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
    fn a_service_name_is_never_half_of_one() {
        let names = |repository, pipeline| Names { project: "acme/shop", repository, pipeline };
        let name = ServiceName::parse("{project} ci/{repository}:{pipeline}!", "gitlab").unwrap();
        assert_eq!(name.render(names("{pipeline}", "build")), "acme/shop ci/{pipeline}:build!");
        for (repository, pipeline) in [("", "build"), ("shop", ""), ("", "")] {
            assert_eq!(name.render(names(repository, pipeline)), "gitlab");
        }
        assert!(ServiceName::parse("{branch}", "gitlab").is_err());
    }

    #[test]
    fn a_word_is_mentioned_only_as_a_whole() {
        assert!(mentions("Deploy main now", "main"));
        assert!(mentions("Pipeline (feature/a-1)", "feature/a-1"));
        assert!(!mentions("Maintenance mainline", "main"));
        assert!(!mentions("anything", ""));
    }
}
