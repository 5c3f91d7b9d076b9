//! GitHub's variables.

use crate::{
    host::Host,
    settings::{SettingsError, Variable, Vars},
};

/// `GITHUB_HOST`
pub(super) static HOST: Variable = Variable::new(
    "GITHUB_HOST",
    "github.com",
    "use a host name without a scheme, such as github.example.com",
    "instance of a request that names none",
);

/// How GitHub's ids are derived.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The instance of a request that names none.
    pub host: Host,
}

impl Settings {
    /// Reads the variables that begin with `GITHUB_`.
    pub(crate) fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        Ok(Self { host: HOST.host(vars)? })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { host: Host::known(HOST.default) }
    }
}
