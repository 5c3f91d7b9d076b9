//! A pull request from its opening to its end, once it ended.
//!
//! Where its text links another one, as the pull requests of environments link that of the
//! application, it lies in the trace of that: one trace from an application's change to the places
//! where it is rolled out. Deeper chains make linked traces.

use super::{origin::Origin, payload::Delivered};
use crate::{
    mapping::{first_line, mark_repaired},
    otlp::span::{Group, Kind, Link, Span, Trace},
    provider::kubernetes::{
        address,
        ids::Key,
        object::{at, origin::refer},
    },
    semconv as sc,
    time::{Interval, Nanos},
};

/// The pull request of an event that ends it.
pub(super) fn map(event: &Delivered, origin: &Origin<'_>, time: Nanos) -> Option<Trace<'static>> {
    let ended = matches!(event.action.as_str(), "closed" | "close" | "merged" | "merge");
    let request = event.pullrequest.get().filter(|_| ended)?;
    let number = request.number.0?;
    let merged = request.merged.0 == Some(true) || event.action.as_str().starts_with("merge");
    let own = named(request.link.as_str()).unwrap_or_else(|| origin.pull_request(number));
    let above = links(request.body.as_str()).find(|it| *it != own);
    let ids = origin.ids();
    let (start, end) = (at(&request.created), at(&request.updated).or(Some(time)));
    let interval = Interval::repair(start, end, None, Some(time))?;

    let times = (interval.start, interval.end);
    let id = ids.pull_request(&own);
    let parent = above.as_deref().map(|it| ids.pull_request(it));
    let mut span = Span::new(id, parent, "pull_request", Kind::Internal, times);
    // The trace that pull requests which link this one are in.
    let below =
        above.is_some().then(|| Link { trace: ids.trace(Key::PullRequest(&own)), span: id });
    span.links.extend(below);
    span.attributes.set(sc::KIND, "pull_request");
    span.attributes.set("lighthouse.pull_request.path", own.clone());
    span.attributes.set("lighthouse.pull_request.above", above.clone());
    let url = address(request.link.as_str()).map(std::borrow::Cow::into_owned);
    span.attributes.set("lighthouse.pull_request.url", url);
    mark_repaired(&mut span, &interval);

    let mut resource = origin.resource(&crate::lenient::Text::default());
    let change = Some(number.to_string().into());
    let base = request.base.get().map(|it| it.sha.cow()).filter(|it| !it.is_empty());
    let sha = Some(request.sha.cow()).filter(|it| !it.is_empty());
    refer(&mut resource, request.source.cow(), sha, change, base);
    let target = Some(request.target.cow()).filter(|it| !it.is_empty());
    resource.set(sc::VCS_REF_BASE_TYPE, target.as_ref().map(|_| "branch"));
    resource.set(sc::VCS_REF_BASE_NAME, target);
    resource.set(sc::VCS_CHANGE_TITLE, first_line(request.title.cow()));
    resource.set(sc::VCS_CHANGE_STATE, if merged { "merged" } else { "closed" });
    let trace = ids.trace(Key::PullRequest(above.as_deref().unwrap_or(&own)));
    Some(Trace { id: trace, groups: vec![Group { resource, spans: vec![span] }] })
}

/// The pull requests that a text links, in its order.
fn links(text: &str) -> impl Iterator<Item = String> + '_ {
    let apart = |it: char| it.is_whitespace() || "()[]<>{}\"'`|,".contains(it);
    text.split(apart).filter_map(named)
}

/// The path of the pull request at an address of GitHub, GitLab, Bitbucket or Gitea.
fn named(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let parts: Vec<_> = rest.split('/').collect();
    let at = parts.iter().position(|it| {
        matches!(*it, "pull" | "pulls" | "merge_requests" | "pull-requests" | "pullrequests")
    })?;
    let digits =
        |it: &&str| !it.is_empty() && it.len() < 20 && it.bytes().all(|it| it.is_ascii_digit());
    // A full stop may end the sentence that the address is in.
    let number = parts.get(at + 1).map(|it| it.trim_end_matches(['.', ':', ';'])).filter(digits)?;
    let (host, path) = parts.get(..at)?.split_first()?;
    let path: Vec<_> =
        path.iter().filter(|it| !matches!(**it, "-" | "projects" | "repos")).collect();
    let plain = path.len() >= 2 && path.iter().all(|it| !it.is_empty()) && !host.is_empty();
    let path = path.into_iter().copied().collect::<Vec<_>>().join("/");
    plain.then(|| format!("{host}/{path}/{number}").to_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pull_requests_are_named_alike_at_every_code_host() {
        for (url, path) in [
            ("https://github.com/Acme/shop/pull/42", "github.com/acme/shop/42"),
            ("https://github.com/acme/shop/pull/42/files#x", "github.com/acme/shop/42"),
            (
                "https://gitlab.example.com:8443/acme/web/shop/-/merge_requests/7",
                "gitlab.example.com:8443/acme/web/shop/7",
            ),
            ("https://bitbucket.org/acme/shop/pull-requests/7.", "bitbucket.org/acme/shop/7"),
            (
                "https://bitbucket.example.com/projects/ACME/repos/shop/pull-requests/7/overview",
                "bitbucket.example.com/acme/shop/7",
            ),
            ("http://gitea.example.com/acme/shop/pulls/7", "gitea.example.com/acme/shop/7"),
        ] {
            assert_eq!(named(url).as_deref(), Some(path), "{url}");
        }
        for url in [
            "",
            "https://github.com/acme/shop/issues/42",
            "https://github.com/acme/shop/pull/x",
            "https://github.com/pull/1",
            "pull/1",
        ] {
            assert_eq!(named(url), None, "{url}");
        }
        let text = "Promote shop to 1.2.3\n\nfrom [this](https://github.com/acme/shop/pull/42), see https://github.com/acme/env/pull/1";
        assert_eq!(
            links(text).collect::<Vec<_>>(),
            ["github.com/acme/shop/42", "github.com/acme/env/1"]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: String, path in "(/[a-z-]{0,6}|/pull|/1){0,8}") {
            let _ = links(&text).count();
            let _ = named(&format!("https://{path}"));
        }
    }
}
