//! `CircleCI`'s variables.

use crate::{
    host::Host,
    mapping::ServiceName,
    settings::{SettingsError, Variable, Vars, service_name},
};

/// `CIRCLECI_HOOK_SECRET`, as circleci-hook named it.
pub(super) static SECRET: Variable = Variable::secret(
    "CIRCLECI_HOOK_SECRET",
    "set it to the secret token of the webhook",
    "secret token of the webhook",
);

pub(super) static HOST: Variable = Variable::new(
    "CIRCLECI_HOST",
    "circleci.com",
    "use a host name without a scheme, such as circleci.example.com",
    "instance, part of every id",
);

pub(super) static SERVICE_NAME: Variable = Variable::new(
    "CIRCLECI_SERVICE_NAME",
    "circleci",
    "use text with {repository} and {pipeline} as the only placeholders",
    "`service.name`; `{repository}` and `{pipeline}` are replaced",
);

/// circleci-hook's name of it.
pub(super) static HOOK_SERVICE: Variable = Variable::new(
    "CIRCLECI_HOOK_SERVICE",
    "",
    SERVICE_NAME.expected,
    "circleci-hook's name of `CIRCLECI_SERVICE_NAME`",
);

/// How `CircleCI`'s deliveries are mapped.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The instance, `circleci.com` unless it is self-hosted.
    pub host: Host,
    /// `service.name` of the spans.
    pub service_name: ServiceName,
}

impl Settings {
    /// Reads the variables that begin with `CIRCLECI_`.
    pub(crate) fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        Ok(Self {
            host: HOST.host(vars)?,
            service_name: service_name(vars, &SERVICE_NAME, &[&HOOK_SERVICE])?,
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: Host::known(HOST.default),
            service_name: ServiceName::known(SERVICE_NAME.default),
        }
    }
}
