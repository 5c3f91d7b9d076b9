//! Settings, parsed once and purely from a map of variables.
//!
//! Every variable is defined once, as a [`Variable`], where it is used: a provider's in its room,
//! the others below. `docs/settings.md`, `spanhook check` and the templates are tested against
//! these definitions.

use std::{collections::BTreeMap, num::NonZeroUsize, str::FromStr};

use thiserror::Error;

use crate::{host::Host, mapping::ServiceName, provider::Provider};

pub use crate::provider::Settings;

/// Environment variables by name.
pub type Vars = BTreeMap<String, String>;

/// A variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What holds when it is not set; empty when nothing does.
    pub default: &'static str,
    /// What is accepted, as a sentence that tells an operator what to type.
    pub expected: &'static str,
    /// What it is for.
    pub meaning: &'static str,
    /// Whether its value must not be seen.
    pub secret: bool,
    /// Whether it is read again while a process runs, where it is kept elsewhere.
    pub live: bool,
}

impl Variable {
    /// A setting.
    #[must_use]
    pub const fn new(
        name: &'static str,
        default: &'static str,
        expected: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self { name, default, expected, meaning, secret: false, live: false }
    }

    /// A secret, which is live.
    #[must_use]
    pub const fn secret(name: &'static str, expected: &'static str, meaning: &'static str) -> Self {
        Self { name, default: "", expected, meaning, secret: true, live: true }
    }

    /// The same, read again while a process runs.
    #[must_use]
    pub const fn live(self) -> Self {
        Self { live: true, ..self }
    }

    /// Its value; an empty one counts as not set.
    #[must_use]
    pub fn get<'v>(&self, vars: &'v Vars) -> Option<&'v str> {
        var(vars, self.name)
    }

    /// Its value, read by `FromStr`, else its default.
    pub fn parse<T: FromStr>(&self, vars: &Vars) -> Result<T, SettingsError> {
        self.get(vars).unwrap_or(self.default).parse().map_err(|_| self.invalid())
    }

    /// One of a few words; the default is one of them.
    pub fn one_of<T: Copy, const N: usize>(
        &self,
        vars: &Vars,
        words: [(&str, T); N],
    ) -> Result<T, SettingsError> {
        let value = self.get(vars).unwrap_or(self.default);
        let found = words.iter().find(|(word, _)| value.eq_ignore_ascii_case(word));
        found.map(|(_, it)| *it).ok_or_else(|| self.invalid())
    }

    /// Yes or no.
    pub fn flag(&self, vars: &Vars) -> Result<bool, SettingsError> {
        self.one_of(vars, [("false", false), ("true", true), ("0", false), ("1", true)])
    }

    /// A host.
    pub fn host(&self, vars: &Vars) -> Result<Host, SettingsError> {
        Host::parse(self.get(vars).unwrap_or(self.default)).map_err(|_| self.invalid())
    }

    /// The error of a value that can't be used.
    #[must_use]
    pub fn invalid(&self) -> SettingsError {
        self.invalid_with(self.expected)
    }

    /// The same, with what to type for what is wrong with it.
    #[must_use]
    pub fn invalid_with(&self, expected: &'static str) -> SettingsError {
        SettingsError::Invalid { variable: self.name.to_owned(), expected }
    }

    /// The error of a variable that is needed.
    #[must_use]
    pub fn missing(&self) -> SettingsError {
        self.missing_with(self.expected)
    }

    /// The same, with what to type where it is needed.
    #[must_use]
    pub fn missing_with(&self, hint: &'static str) -> SettingsError {
        SettingsError::Missing { variable: self.name, hint }
    }
}

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

/// `TRACE_IDS`
pub const TRACE_IDS: Variable = Variable::new(
    "TRACE_IDS",
    "hashed",
    "use hashed or native",
    "`hashed` or `native` ([ids.md](ids.md)); the same everywhere",
);

/// `ALLOW_UNSIGNED`
pub const ALLOW_UNSIGNED: Variable = Variable::new(
    "ALLOW_UNSIGNED",
    "false",
    "use true or false",
    "`true` accepts unsigned deliveries when no secret is set, and warns at every start",
);

/// `MAX_BODY_BYTES`
pub const MAX_BODY_BYTES: Variable = Variable::new(
    "MAX_BODY_BYTES",
    "26214400", // GitLab sends no more than 25 MB.
    "use a number of bytes, such as 26214400",
    "largest delivery, as it comes and decompressed; Lambda itself takes 6 MB",
);

/// `PROJECT_RULES`
pub const PROJECT_RULES: Variable = Variable::new(
    "PROJECT_RULES",
    "",
    r#"use JSON such as {"deny": ["acme/sandbox-*"], "share": {"*": 0.1, "acme/shop": 1}}"#,
    "which projects are traced, and which share of their runs, [see below](#project-rules)",
)
.live();

/// `WEBHOOK_METRICS`
pub const WEBHOOK_METRICS: Variable = Variable::new(
    "WEBHOOK_METRICS",
    "false",
    "use true or false",
    "makes metrics of runs and queue times beside their spans ([metrics.md](metrics.md))",
);

/// What every webhook has in common besides its secrets.
#[derive(Clone, Copy, Debug)]
pub struct WebhookSettings {
    /// Accept deliveries unsigned where no secret is set.
    pub allow_unsigned: bool,
    /// The largest body that is read, in bytes.
    pub max_body: usize,
}

impl WebhookSettings {
    /// Reads `ALLOW_UNSIGNED` and `MAX_BODY_BYTES`.
    pub fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        Ok(Self {
            allow_unsigned: ALLOW_UNSIGNED.flag(vars)?,
            // A bound of nothing would refuse everything.
            max_body: MAX_BODY_BYTES.parse::<NonZeroUsize>(vars)?.get(),
        })
    }
}

/// The `service.name` of a provider. The older names of its variable count where it is not set.
pub(crate) fn service_name(
    vars: &Vars,
    variable: &Variable,
    older: &[&Variable],
) -> Result<ServiceName, SettingsError> {
    let set = || older.iter().copied().find(|it| it.get(vars).is_some());
    let found = Some(variable).filter(|it| it.get(vars).is_some()).or_else(set).unwrap_or(variable);
    let text = found.get(vars).unwrap_or(found.default);
    ServiceName::parse(text, variable.default).map_err(|_| found.invalid())
}

/// The variables that all providers share.
pub const COMMON: [&Variable; 5] =
    [&TRACE_IDS, &ALLOW_UNSIGNED, &MAX_BODY_BYTES, &PROJECT_RULES, &WEBHOOK_METRICS];

/// Every variable of the pure half.
pub fn variables() -> impl Iterator<Item = &'static Variable> {
    let own = Provider::ALL.into_iter().flat_map(|it| it.room().variables);
    COMMON.into_iter().chain(own.copied())
}
