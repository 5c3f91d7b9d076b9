//! `CircleCI`'s variables.

use crate::{
    correlation::{CorrelationId, Placeholders},
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
    "use text with {project}, {repository} and {pipeline} as the only placeholders",
    "`service.name`; `{project}` (`acme/web/shop`), `{repository}` (its last part) and `{pipeline}` are replaced",
);

/// circleci-hook's name of it.
pub(super) static HOOK_SERVICE: Variable = Variable::new(
    "CIRCLECI_HOOK_SERVICE",
    "",
    SERVICE_NAME.expected,
    "circleci-hook's name of `CIRCLECI_SERVICE_NAME`",
);

pub(super) static CORRELATION_ID: Variable = Variable::new(
    "CIRCLECI_CORRELATION_ID",
    "{run_id}",
    "use text with {run_id}, {number}, {pipeline_id} or {sha} in it, and {project}, {repository} and {pipeline} where you like",
    "`correlation_id` of a run and its jobs; `{run_id}`, `{sha}`, `{project}`, `{repository}` and `{pipeline}` are replaced, and here `{number}` and `{pipeline_id}`, the pipeline's",
);

/// What besides may be in a correlation id.
const OWN: Placeholders =
    &[("number", "circleci.pipeline.number"), ("pipeline_id", "circleci.pipeline.id")];

/// How `CircleCI`'s deliveries are mapped.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The instance, `circleci.com` unless it is self-hosted.
    pub host: Host,
    /// `service.name` of the spans.
    pub service_name: ServiceName,
    /// `correlation_id` of the runs.
    pub correlation_id: CorrelationId,
}

impl Settings {
    /// Reads the variables that begin with `CIRCLECI_`.
    pub(crate) fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        Ok(Self {
            host: HOST.host(vars)?,
            service_name: service_name(vars, &SERVICE_NAME, &[&HOOK_SERVICE])?,
            correlation_id: CorrelationId::parse(vars, &CORRELATION_ID, OWN)?,
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: Host::known(HOST.default),
            service_name: ServiceName::known(SERVICE_NAME.default),
            correlation_id: CorrelationId::of_run(OWN),
        }
    }
}
