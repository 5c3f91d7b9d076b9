//! `spanhook redeliver`: has GitHub send again what did not arrive.
//!
//! GitHub never does so by itself. It keeps deliveries for a few days, lists how each attempt ended
//! and sends one again when asked, with the same body and the same GUID. So nothing is kept here:
//! what an earlier call asked for and what arrived by now is in the list.
//!
//! <https://docs.github.com/en/webhooks/using-webhooks/handling-failed-webhook-deliveries>

pub(crate) mod api;
pub(crate) mod credential;
mod hook;
mod limit;
mod plan;
mod report;

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args};
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use spanhook_service::{clock::Clock, settings::environment};

use super::progress::{progress, step};
use crate::terminal::{Failure, failure, print};
use api::{API, Api, ApiError};
use credential::Credential;
use hook::{Hook, Owner};
use plan::{Attempt, Deliveries, Plan};
use report::{Done, Report};

/// So many deliveries in a row at which GitHub fails are no fault of theirs.
const FAILURES: u32 = 3;

#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("owner").required(true),
    after_help = "GITHUB_TOKEN holds a token that may write webhooks; for --app, GITHUB_APP_PRIVATE_KEY the App's key.
A workflow's own GITHUB_TOKEN can't redeliver.
  spanhook redeliver --organization acme --url https://YOUR-HOST/github --since 6h --dry-run"
)]
pub(crate) struct Redeliver {
    /// The webhook is this repository's
    #[arg(long, value_name = "OWNER/NAME", group = "owner", value_parser = repository)]
    repository: Option<String>,
    /// The webhook is this organization's
    #[arg(long, value_name = "NAME", group = "owner", value_parser = name)]
    organization: Option<String>,
    /// The webhook is that of the GitHub App with this client ID or App ID
    #[arg(long, value_name = "ID", group = "owner")]
    app: Option<String>,
    /// Number of the webhook, the last part of its page's address
    #[arg(long, value_name = "NUMBER", conflicts_with = "app", required_unless_present_any = ["url", "app"])]
    hook: Option<u64>,
    /// Address that the webhook posts to, where its number is not known
    #[arg(long, value_name = "URL", conflicts_with_all = ["app", "hook"])]
    url: Option<String>,
    /// Only what was delivered since: `6h`, `3d` or `2026-11-20T09:00:00Z`; as long as GitHub keeps it if not given
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// GitHub's API; on Enterprise Server it is at `/api/v3` of the host
    #[arg(long, value_name = "URL", env = API.name, default_value = API.default)]
    api: String,
    /// File with the token, in place of `GITHUB_TOKEN`
    #[arg(long, value_name = "FILE", conflicts_with = "app")]
    token_file: Option<PathBuf>,
    /// File with the App's private key, in place of `GITHUB_APP_PRIVATE_KEY`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["repository", "organization"])]
    key_file: Option<PathBuf>,
    /// Pause after each delivery that is asked for; GitHub wants a second
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pause: Duration,
    /// Only say what would be sent again
    #[arg(long)]
    dry_run: bool,
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    At(Timestamp),
    Ago(SignedDuration),
}

impl Redeliver {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let vars = environment();
        let (owner, credential) = match (&self.repository, &self.organization, &self.app) {
            (_, _, Some(id)) => (Owner::App, Credential::app(id, &vars, self.key_file.as_deref())),
            (Some(name), ..) => {
                let token = Credential::token(&vars, self.token_file.as_deref());
                (Owner::Repository(name.clone()), token)
            }
            (_, name, _) => {
                let token = Credential::token(&vars, self.token_file.as_deref());
                (Owner::Organization(name.clone().unwrap_or_default()), token)
            }
        };
        let api = Api::open(&self.api, credential.map_err(failure)?).map_err(failure)?;
        let since = self.since(now()?)?;
        let explained = |error: ApiError| explained(&error, &owner);

        let hook = match &self.url {
            Some(url) => Some(find(&api, &owner, url).await?),
            None => self.hook,
        };
        let deliveries = owner.deliveries(hook);
        let plan = list(&api, &deliveries, since).await.map_err(explained)?.plan();
        let (done, stopped) = if self.dry_run {
            (None, None)
        } else {
            let (done, stopped) = self.ask(&api, &deliveries, &plan).await;
            (Some(done), stopped)
        };
        progress("");
        let missing = done.as_ref().map_or(0, |it| plan.again.len() - it.asked);
        let repository = self.repository.as_deref();
        print(Report { since, plan: &plan, repository, done }.render());
        match stopped {
            Some(error) => Err(explained(error)),
            None if missing > 0 => {
                let total = plan.again.len();
                Err(failure(format!("{missing} of {total} deliveries could not be asked for")))
            }
            None => Ok(()),
        }
    }

    /// When the list is to begin: by default with the oldest delivery that GitHub keeps.
    ///
    /// <https://docs.github.com/en/webhooks/testing-and-troubleshooting-webhooks/redelivering-webhooks>
    fn since(&self, now: Timestamp) -> Result<Timestamp, Failure> {
        let days = if self.api.trim_end_matches('/').ends_with("/api/v3") { 7 } else { 3 };
        match self.since.unwrap_or(Since::Ago(SignedDuration::from_hours(days * 24))) {
            Since::At(time) if time > now => Err(failure("--since is in the future")),
            Since::At(time) => Ok(time),
            Since::Ago(time) => now.checked_sub(time).map_err(failure),
        }
    }

    /// Asks for each delivery. One that GitHub refuses, or fails at, stops no other; what would be
    /// refused for all of them ends it.
    async fn ask<'a>(
        &self,
        api: &Api,
        deliveries: &str,
        plan: &'a Plan,
    ) -> (Done<'a>, Option<ApiError>) {
        let (mut done, mut failures) = (Done::default(), 0);
        for (nth, attempt) in plan.again.iter().enumerate() {
            if nth > 0 {
                tokio::time::sleep(self.pause).await;
            }
            match api.attempt(deliveries, attempt.id).await {
                Ok(()) => (done.asked, failures) = (done.asked + 1, 0),
                Err(error) => {
                    let status = error.status().unwrap_or_default();
                    failures = if status < 500 { 0 } else { failures + 1 };
                    if matches!(status, 0 | 401 | 403 | 429) || failures == FAILURES {
                        return (done, Some(error));
                    }
                    done.refused.push((attempt, error.to_string()));
                }
            }
            let text = format!("{} of {} deliveries asked for", nth + 1, plan.again.len());
            step(nth + 1, &text);
        }
        (done, None)
    }
}

/// The number of the webhook that posts to an address.
async fn find(api: &Api, owner: &Owner, url: &str) -> Result<u64, Failure> {
    let mut hooks: Vec<Hook> = Vec::new();
    let mut next = Some(api.list(&owner.hooks()));
    while let Some(page) = next {
        let page = api.page(page).await.map_err(|error| explained(&error, owner))?;
        hooks.extend(page.items);
        next = page.next;
    }
    hook::find(&hooks, url).map_err(failure)
}

/// The attempts since then. GitHub lists the newest first.
async fn list(api: &Api, deliveries: &str, since: Timestamp) -> Result<Deliveries, ApiError> {
    let mut found = Deliveries::default();
    let mut next = Some(api.list(deliveries));
    let mut pages = 0;
    while let Some(page) = next {
        let page = api.page::<Attempt>(page).await.inspect_err(|_| progress(""))?;
        let oldest = page.items.iter().map(|it| it.delivered_at).min();
        found.add(page.items.into_iter().filter(|it| it.delivered_at >= since));
        next = page.next.filter(|_| oldest.is_some_and(|it| it >= since));
        pages += 1;
        let back = oldest.map(|it| format!(", back to {it}")).unwrap_or_default();
        step(pages, &format!("{} deliveries of jobs and runs listed{back}", found.len()));
    }
    Ok(found)
}

/// A refusal with what to do about it.
fn explained(error: &ApiError, owner: &Owner) -> Failure {
    match error.status() {
        Some(status @ 400..=499) => failure(format!("{error}; {}", owner.advice(status))),
        _ => failure(error.to_string()),
    }
}

fn now() -> Result<Timestamp, Failure> {
    let now = SignedDuration::try_from(Clock::SYSTEM.since_epoch()).map_err(failure)?;
    Timestamp::from_duration(now).map_err(failure)
}

/// A name as GitHub has them, which can't lead to another path of its API.
fn name(text: &str) -> Result<String, String> {
    let named = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
    let dots = text.chars().all(|it| it == '.');
    if !dots && text.chars().all(named) {
        Ok(text.to_owned())
    } else {
        Err("a name such as acme".to_owned())
    }
}

fn repository(text: &str) -> Result<String, String> {
    let parts = text.split_once('/').map(|(owner, it)| (name(owner), name(it)));
    match parts {
        Some((Ok(_), Ok(_))) => Ok(text.to_owned()),
        _ => Err("the repository as OWNER/NAME".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "a time such as 90s, 6h or 3d".to_owned();
    let span: Span = text.parse().map_err(|_| expected())?;
    let time = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| expected())?;
    time.try_into().map_err(|_| expected())
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(time) = text.parse() {
        return Ok(Since::At(time));
    }
    let ago = duration(text).ok().and_then(|it| it.try_into().ok());
    ago.map(Since::Ago).ok_or_else(|| "a time such as 6h, 3d or 2026-11-20T09:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        redeliver: Redeliver,
    }

    fn parse(line: &str) -> Result<Redeliver, clap::Error> {
        let words = std::iter::once("redeliver").chain(line.split(' '));
        Line::try_parse_from(words).map(|it| it.redeliver)
    }

    #[test]
    fn whose_webhook_it_is_and_which_must_be_said_once() {
        for (line, good) in [
            ("--repository acme/shop --hook 7", true),
            ("--organization acme --url https://h/github", true),
            ("--app Iv23liABC", true),
            ("--app 12 --key-file key.pem", true),
            ("--hook 7", false),
            ("--organization acme", false),
            ("--organization acme --repository acme/shop --hook 7", false),
            ("--organization acme --hook 7 --url https://h", false),
            ("--app 12 --hook 7", false),
            ("--app 12 --token-file t", false),
            ("--organization acme --hook 7 --key-file key.pem", false),
            ("--organization acme/shop --hook 7", false),
            ("--organization .. --hook 7", false),
            ("--repository acme --hook 7", false),
            ("--repository acme/../orgs --hook 7", false),
            ("--repository acme/shop? --hook 7", false),
            ("--organization acme --hook 7 --since yesterday", false),
            ("--organization acme --hook 7 --since -6h", false),
        ] {
            assert_eq!(parse(line).is_ok(), good, "{line}");
        }
    }

    #[test]
    fn the_list_begins_with_what_github_keeps_or_as_it_is_said() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        for (more, expected) in [
            ("", Some("2026-11-17T12:00:00Z")),
            (" --api https://ghes.example.com/api/v3/", Some("2026-11-13T12:00:00Z")),
            (" --since 6h", Some("2026-11-20T06:00:00Z")),
            (" --since 2d", Some("2026-11-18T12:00:00Z")),
            (" --since 1d12h", Some("2026-11-19T00:00:00Z")),
            (" --since 2026-11-20T09:00:00+01:00", Some("2026-11-20T08:00:00Z")),
            (" --since 2026-11-20T13:00:00Z", None),
        ] {
            let command = parse(&format!("--organization acme --hook 7{more}")).unwrap();
            let since = command.since(now).ok().map(|it| it.to_string());
            assert_eq!(since.as_deref(), expected, "{more}");
        }
    }
}
