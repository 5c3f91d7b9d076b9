//! GitHub's variables.

use super::NativeJobId;
use crate::{
    correlation::{CorrelationId, Placeholders},
    host::Host,
    mapping::ServiceName,
    settings::{SettingsError, Variable, Vars, service_name},
};

pub(super) static SECRET: Variable = Variable::secret(
    "GITHUB_WEBHOOK_SECRET",
    "set it to the secret of the webhook",
    "secret of the webhook",
);

pub(super) static HOST: Variable = Variable::new(
    "GITHUB_HOST",
    "github.com",
    "use a host name without a scheme, such as github.example.com",
    "instance of a payload or request that names none",
);

pub(super) static SERVICE_NAME: Variable = Variable::new(
    "GITHUB_SERVICE_NAME",
    "github",
    "use text with {project}, {repository} and {pipeline} as the only placeholders",
    "`service.name`, as above",
);

pub(super) static STEP_SPANS: Variable = Variable::new(
    "GITHUB_STEP_SPANS",
    "true",
    "use true or false",
    "`false` leaves the steps of jobs out",
);

pub(super) static NATIVE_JOB_ID: Variable = Variable::new(
    "GITHUB_NATIVE_JOB_ID",
    "check_run",
    "use check_run or name",
    "`check_run` or `name` (githubreceiver before 0.151.0), for native ids",
);

/// In a job: no variable of GitHub's names it.
pub static JOB_ID: Variable = Variable::new(
    "SPANHOOK_JOB_ID",
    "",
    "set it to ${{ job.check_run_id }}",
    "check run of a GitHub job, as its action sets it; without it what a job reports hangs under the run",
);

pub(super) static CUSTOM_PROPERTIES: Variable = Variable::new(
    "GITHUB_CUSTOM_PROPERTIES",
    "",
    "use the names of custom properties with commas between them, such as team,tier",
    "custom properties of repositories that become attributes of the resource, by name: `team,tier`",
);

pub(super) static CORRELATION_ID: Variable = Variable::new(
    "GITHUB_CORRELATION_ID",
    "{run_id}",
    "use text with {run_id}, {attempt} or {sha} in it, and {project}, {repository} and {pipeline} where you like",
    "`correlation_id`, as above, with `{attempt}` besides",
);

/// What besides may be in a correlation id.
const OWN: Placeholders = &[("attempt", "github.run.attempt")];

/// How GitHub's deliveries are mapped.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The instance of a body or a request that names none.
    pub host: Host,
    /// `service.name` of the spans.
    pub service_name: ServiceName,
    /// `correlation_id` of the runs.
    pub correlation_id: CorrelationId,
    /// Whether steps become spans.
    pub step_spans: bool,
    /// Which of the githubreceiver's ids a job span takes in native mode.
    pub native_job_id: NativeJobId,
    /// The custom properties of a repository that are emitted.
    pub custom_properties: Vec<String>,
}

impl Settings {
    /// Reads the variables that begin with `GITHUB_`.
    pub(crate) fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        let kinds = [("check_run", NativeJobId::CheckRun), ("name", NativeJobId::Name)];
        Ok(Self {
            host: HOST.host(vars)?,
            service_name: service_name(vars, &SERVICE_NAME, &[])?,
            correlation_id: CorrelationId::parse(vars, &CORRELATION_ID, OWN)?,
            step_spans: STEP_SPANS.flag(vars)?,
            native_job_id: NATIVE_JOB_ID.one_of(vars, kinds)?,
            custom_properties: properties(vars)?,
        })
    }
}

/// <https://docs.github.com/en/rest/orgs/custom-properties> says what a name may hold.
fn properties(vars: &Vars) -> Result<Vec<String>, SettingsError> {
    let list = CUSTOM_PROPERTIES.get(vars).unwrap_or_default().split(',').map(str::trim);
    let plain = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'-' | b'$' | b'#');
    let mut names: Vec<String> = Vec::new();
    for name in list.filter(|it| !it.is_empty()) {
        if name.len() > 75 || !name.bytes().all(plain) {
            return Err(CUSTOM_PROPERTIES.invalid());
        }
        // An attribute is set once.
        if names.iter().all(|it| it != name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: Host::known(HOST.default),
            service_name: ServiceName::known(SERVICE_NAME.default),
            correlation_id: CorrelationId::of_run(OWN),
            step_spans: true,
            native_job_id: NativeJobId::default(),
            custom_properties: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_or_say_what_to_type() {
        let parse = |name: &str, value: &str| {
            Settings::parse(&[(name.to_owned(), value.to_owned())].into())
        };
        assert_eq!(Settings::parse(&Vars::new()), Ok(Settings::default()));
        assert!(!parse("GITHUB_STEP_SPANS", "false").unwrap().step_spans);
        assert_eq!(parse("GITHUB_NATIVE_JOB_ID", "name").unwrap().native_job_id, NativeJobId::Name);
        let properties = parse("GITHUB_CUSTOM_PROPERTIES", "team, tier,,team").unwrap();
        assert_eq!(properties.custom_properties, ["team", "tier"]);
        for (name, value) in [
            ("GITHUB_HOST", "https://github.com"),
            ("GITHUB_SERVICE_NAME", "{branch}"),
            ("GITHUB_STEP_SPANS", "maybe"),
            ("GITHUB_NATIVE_JOB_ID", "export"),
            ("GITHUB_CUSTOM_PROPERTIES", "a name with spaces"),
        ] {
            assert!(parse(name, value).is_err(), "{name}={value}");
        }
    }
}
