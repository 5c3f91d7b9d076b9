//! Settings, parsed once and purely from a map of variables.

use std::collections::BTreeMap;

use thiserror::Error;

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
