//! Whose webhook it is, and which.

use serde::Deserialize;
use spanhook_service::export::shown;
use thiserror::Error;

/// Whose webhook it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// `owner/name`.
    Repository(String),
    Organization(String),
    App,
}

impl Owner {
    /// The path of its webhooks below the API.
    pub(super) fn hooks(&self) -> String {
        match self {
            Self::Repository(name) => format!("/repos/{name}/hooks"),
            Self::Organization(name) => format!("/orgs/{name}/hooks"),
            Self::App => "/app/hook".to_owned(),
        }
    }

    /// The path of a webhook's deliveries. An App has one webhook.
    pub(super) fn deliveries(&self, hook: Option<u64>) -> String {
        let hook = hook.map(|it| format!("/{it}")).unwrap_or_default();
        format!("{}{hook}/deliveries", self.hooks())
    }

    /// What GitHub's refusal means here, and what to do about it.
    pub(super) fn advice(&self, status: u16) -> &'static str {
        match (status, self) {
            (401, Self::App) => {
                "check that --app is the App of the private key, and this machine's clock"
            }
            (401, _) => "the token has ended or is mistyped",
            (403, Self::Repository(_)) => {
                "the token needs the repository permission Webhooks: write (a classic one the scope admin:repo_hook); a workflow's own GITHUB_TOKEN can't have it, take one of a GitHub App or a personal one"
            }
            (403, Self::Organization(_)) => {
                "the token needs the organization permission Webhooks: write (a classic one the scope admin:org_hook); a workflow's own GITHUB_TOKEN can't have it, take one of a GitHub App or a personal one"
            }
            (404, Self::App) => "the App has no webhook, or --api is not its GitHub",
            (404, _) => {
                "there is no such webhook, or the token may not see it (a workflow's own GITHUB_TOKEN sees none); on Enterprise Server --api is https://HOST/api/v3"
            }
            _ => "see GitHub's words",
        }
    }
}

/// A webhook, as GitHub lists it.
#[derive(Debug, Deserialize)]
pub(super) struct Hook {
    id: u64,
    #[serde(default)]
    config: Config,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    url: String,
}

/// A webhook that can't be told. What is shown of the others is without keys that an address may hold.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum HookError {
    #[error("no webhook posts to {url}; {known}")]
    None { url: String, known: String },
    #[error("several webhooks post to {url}; choose one with --hook: {ids}")]
    Several { url: String, ids: String },
}

/// The webhook that posts to an address. A slash at its end makes no difference.
pub(super) fn find(hooks: &[Hook], url: &str) -> Result<u64, HookError> {
    let plain = |url: &str| url.trim_end_matches('/').to_owned();
    let found: Vec<_> =
        hooks.iter().filter(|it| plain(&it.config.url) == plain(url)).map(|it| it.id).collect();
    let url = shown(url);
    match found.as_slice() {
        [id] => Ok(*id),
        [] if hooks.is_empty() => {
            Err(HookError::None { url, known: "there is none that the token may see".to_owned() })
        }
        [] => {
            let known = hooks.iter().filter(|it| !it.config.url.is_empty());
            let known = known.map(|it| format!("{} ({})", it.id, shown(&it.config.url)));
            let known = format!("there are {}", known.collect::<Vec<_>>().join(", "));
            Err(HookError::None { url, known })
        }
        ids => {
            let ids = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(HookError::Several { url, ids })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_found_by_its_address_or_the_others_are_named_without_their_keys() {
        let listed = r#"[
            {"id": 1, "name": "web", "config": {"url": "https://spanhook.example.com/github", "secret": "********"}},
            {"id": 2, "config": {"url": "https://ci.example.com/hook?key=s3cret"}},
            {"id": 3, "config": {"url": "https://ci.example.com/hook/?key=s3cret"}},
            {"id": 4, "config": {"url": "https://twice.example.com/"}},
            {"id": 5, "config": {"url": "https://twice.example.com"}},
            {"id": 6}]"#;
        let hooks: Vec<Hook> = serde_json::from_str(listed).unwrap();
        let mut text = String::new();
        for url in [
            "https://spanhook.example.com/github",
            "https://spanhook.example.com/github/",
            "https://spanhook.example.com",
            "https://twice.example.com",
        ] {
            text += &match find(&hooks, url) {
                Ok(id) => format!("{url}: {id}\n"),
                Err(error) => format!("{url}: {error}\n"),
            };
        }
        text += &find(&[], "https://spanhook.example.com").unwrap_err().to_string();
        insta::assert_snapshot!(text);
    }
}
