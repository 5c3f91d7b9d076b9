//! Settings, parsed once and purely from a map of variables.
//!
//! `docs/settings.md` lists the variables; nothing but this module and [`crate::export`] knows
//! their names.

use std::{collections::BTreeMap, str::FromStr};

use spanhook_core::{
    circleci::CircleciSettings,
    gitlab::{GitlabSettings, JobSpans},
    id::{GitlabJobKind, TraceIds},
    mapping::ServiceName,
    traceparent::TraceparentSettings,
};
use thiserror::Error;

use crate::live::Source;

/// Environment variables by name.
pub type Vars = BTreeMap<String, String>;

/// A variable that is missing or wrong. The texts say what to type, and repeat no value: it may be
/// a secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// A variable without which the function can't work.
    #[error("{variable} is not set; {hint}")]
    Missing {
        /// Its name.
        variable: &'static str,
        /// What to set it to.
        hint: &'static str,
    },
    /// A value that can't be used.
    #[error("{variable} can't be used; {expected}")]
    Invalid {
        /// Its name.
        variable: String,
        /// What is accepted.
        expected: &'static str,
    },
}

/// The value of a variable; an empty one counts as not set.
#[must_use]
pub fn var<'v>(vars: &'v Vars, name: &str) -> Option<&'v str> {
    vars.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

/// The environment of this process. A value that is not UTF-8 is left out: no setting can be one.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn environment() -> Vars {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn parsed<T: FromStr>(
    vars: &Vars,
    name: &str,
    default: T,
    expected: &'static str,
) -> Result<T, SettingsError> {
    var(vars, name).map_or(Ok(default), |value| {
        value.parse().map_err(|_| SettingsError::Invalid { variable: name.to_owned(), expected })
    })
}

/// One of a few words, the first of which is the default.
fn one_of<T: Copy, const N: usize>(
    vars: &Vars,
    name: &str,
    words: [(&str, T); N],
    expected: &'static str,
) -> Result<T, SettingsError> {
    let Some(value) = var(vars, name) else { return Ok(words[0].1) };
    let found = words.iter().find(|(word, _)| value.eq_ignore_ascii_case(word));
    found
        .map(|(_, it)| *it)
        .ok_or_else(|| SettingsError::Invalid { variable: name.to_owned(), expected })
}

fn flag(vars: &Vars, name: &str) -> Result<bool, SettingsError> {
    one_of(
        vars,
        name,
        [("false", false), ("true", true), ("0", false), ("1", true)],
        "use true or false",
    )
}

fn trace_ids(vars: &Vars) -> Result<TraceIds, SettingsError> {
    let words = [("hashed", TraceIds::Hashed), ("native", TraceIds::Native)];
    one_of(vars, "TRACE_IDS", words, "use hashed or native")
}

fn job_kind(vars: &Vars) -> Result<GitlabJobKind, SettingsError> {
    let words = [("default", GitlabJobKind::Default), ("export", GitlabJobKind::Export)];
    one_of(vars, "GITLAB_NATIVE_JOB_ID", words, "use default or export")
}

fn host(vars: &Vars, name: &'static str, default: &str) -> Result<String, SettingsError> {
    let host = var(vars, name).unwrap_or(default).to_ascii_lowercase();
    let plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | ':');
    if host.chars().all(plain) {
        return Ok(host);
    }
    let expected = "use a host name without a scheme, such as gitlab.example.com";
    Err(SettingsError::Invalid { variable: name.to_owned(), expected })
}

fn service_name(vars: &Vars, names: &[&str], default: &str) -> Result<ServiceName, SettingsError> {
    let (name, value) = names
        .iter()
        .find_map(|name| Some((*name, var(vars, name)?)))
        .unwrap_or((names[0], default));
    value.parse().map_err(|_| SettingsError::Invalid {
        variable: name.to_owned(),
        expected: "use text with {repository} and {pipeline} as the only placeholders",
    })
}

/// The largest body that is read by default, in bytes: GitLab sends no more than 25 MB.
const MAX_BODY: usize = 25 * 1024 * 1024;

/// What every webhook function needs besides its secrets.
#[derive(Clone, Copy, Debug)]
pub struct WebhookSettings {
    /// Accept deliveries unsigned when no secret is set.
    pub allow_unsigned: bool,
    /// The largest body that is read, in bytes.
    pub max_body: usize,
}

impl WebhookSettings {
    /// Reads `ALLOW_UNSIGNED` and `MAX_BODY_BYTES`.
    pub fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        let expected = "use a number of bytes, such as 26214400";
        Ok(Self {
            allow_unsigned: flag(vars, "ALLOW_UNSIGNED")?,
            max_body: parsed(vars, "MAX_BODY_BYTES", MAX_BODY, expected)?,
        })
    }
}

/// The variable with CircleCI's secret, as circleci-hook named it.
pub const CIRCLECI_SECRET: &str = "CIRCLECI_HOOK_SECRET";
/// The variable with GitLab's signing token.
pub const GITLAB_SIGNING_TOKEN: &str = "GITLAB_SIGNING_TOKEN";
/// The variable with GitLab's secret token.
pub const GITLAB_SECRET_TOKEN: &str = "GITLAB_SECRET_TOKEN";
/// The variable with the bearer token of the traceparent endpoint.
pub const TRACEPARENT_TOKEN: &str = "TRACEPARENT_TOKEN";
/// The variable with the rules of projects.
pub const PROJECT_RULES: &str = "PROJECT_RULES";

/// How CircleCI's deliveries are verified and mapped.
#[derive(Clone, Debug)]
pub struct CircleciReceiverSettings {
    /// The keys of the HMAC.
    pub secret: Source,
    /// The mapping.
    pub mapping: CircleciSettings,
}

impl CircleciReceiverSettings {
    /// Reads the variables that begin with `CIRCLECI_`, and `TRACE_IDS`.
    pub fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        Ok(Self {
            secret: Source::parse(vars, CIRCLECI_SECRET),
            mapping: CircleciSettings {
                trace_ids: trace_ids(vars)?,
                host: host(vars, "CIRCLECI_HOST", "circleci.com")?,
                service_name: service_name(
                    vars,
                    &["CIRCLECI_SERVICE_NAME", "CIRCLECI_HOOK_SERVICE"],
                    "circleci",
                )?,
            },
        })
    }

    /// The error of a function that may not accept unsigned deliveries.
    #[must_use]
    pub fn missing_secret() -> SettingsError {
        SettingsError::Missing {
            variable: CIRCLECI_SECRET,
            hint: "set it to the secret token of the webhook (or ALLOW_UNSIGNED=true to accept anybody's deliveries)",
        }
    }
}

/// How GitLab's deliveries are verified and mapped.
#[derive(Clone, Debug)]
pub struct GitlabReceiverSettings {
    /// Standard Webhooks signing tokens, `whsec_…`.
    pub signing_token: Source,
    /// Secret tokens, sent in `X-Gitlab-Token`.
    pub secret_token: Source,
    /// The mapping.
    pub mapping: GitlabSettings,
}

impl GitlabReceiverSettings {
    /// Reads the variables that begin with `GITLAB_`, and `TRACE_IDS`.
    pub fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        let job_spans = [("pipeline", JobSpans::Pipeline), ("job", JobSpans::Job)];
        Ok(Self {
            signing_token: Source::parse(vars, GITLAB_SIGNING_TOKEN),
            secret_token: Source::parse(vars, GITLAB_SECRET_TOKEN),
            mapping: GitlabSettings {
                trace_ids: trace_ids(vars)?,
                job_kind: job_kind(vars)?,
                job_spans: one_of(vars, "GITLAB_JOB_SPANS", job_spans, "use pipeline or job")?,
                host: host(vars, "GITLAB_HOST", "gitlab.com")?,
                service_name: service_name(vars, &["GITLAB_SERVICE_NAME"], "gitlab")?,
            },
        })
    }

    /// The error of a function that may not accept unsigned deliveries.
    #[must_use]
    pub fn missing_secret() -> SettingsError {
        SettingsError::Missing {
            variable: GITLAB_SIGNING_TOKEN,
            hint: "set it to the webhook's signing token (whsec_...), or GITLAB_SECRET_TOKEN to its secret token (or ALLOW_UNSIGNED=true to accept anybody's deliveries)",
        }
    }
}

/// How the traceparent endpoint and build events derive ids: `TRACE_IDS` and the hosts. Who may
/// ask is [`crate::identity`]'s.
pub fn traceparent_settings(vars: &Vars) -> Result<TraceparentSettings, SettingsError> {
    Ok(TraceparentSettings {
        trace_ids: trace_ids(vars)?,
        circleci_host: host(vars, "CIRCLECI_HOST", "circleci.com")?,
        gitlab_host: host(vars, "GITLAB_HOST", "gitlab.com")?,
        gitlab_job_kind: job_kind(vars)?,
    })
}

/// The queues of the functions on AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// What webhook functions write and the forwarder reads.
    pub queue_url: String,
    /// Where quarantined deliveries and rejected messages go.
    pub dead_letter_queue_url: String,
}

impl QueueSettings {
    /// Reads `QUEUE_URL` and `DEAD_LETTER_QUEUE_URL`.
    pub fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        let url = |variable: &'static str| {
            let hint = "set it to the URL of the SQS queue, as `aws sqs get-queue-url` prints it";
            let url = var(vars, variable).ok_or(SettingsError::Missing { variable, hint })?;
            if url.starts_with("https://") || url.starts_with("http://") {
                return Ok(url.to_owned());
            }
            Err(SettingsError::Invalid { variable: variable.to_owned(), expected: hint })
        };
        Ok(Self {
            queue_url: url("QUEUE_URL")?,
            dead_letter_queue_url: url("DEAD_LETTER_QUEUE_URL")?,
        })
    }
}
