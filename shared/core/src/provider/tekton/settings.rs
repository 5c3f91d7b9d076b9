//! Tekton's variables.

use crate::{
    host::Host,
    mapping::{ServiceName, public_url},
    settings::{SettingsError, Variable, Vars, service_name},
};

pub(super) static SIGNING_KEY: Variable = Variable::secret(
    "TEKTON_SIGNING_KEY",
    "set it to the key (whsec_...) that what forwards Tekton's events signs with",
    "Standard Webhooks key (`whsec_…`) of what forwards Tekton's events, which signs them; the relay's is its `KUBERNETES_SIGNING_KEY`",
);

pub(super) static TOKEN: Variable = Variable::secret(
    "TEKTON_TOKEN",
    "set it to the bearer token that comes with Tekton's events",
    "bearer token of what forwards Tekton's events",
);

pub(super) static PATH_SECRET: Variable = Variable::secret(
    "TEKTON_PATH_SECRET",
    "set it to 24 or more letters, digits, hyphens and underscores, as `openssl rand -hex 24` gives, and end the address of the sink with it",
    "what the address of Tekton's `sink` ends with after `/tekton/`, at least 24 letters and digits that nobody can guess: Tekton itself can prove nothing else",
);

pub(super) static OIDC_ISSUERS: Variable = Variable::new(
    "TEKTON_OIDC_ISSUERS",
    "",
    "use issuers as OIDC_ISSUERS takes them, each with the subjects whose tokens are taken",
    "issuers whose tokens are taken at `/tekton`, such as those of a Knative broker, each with its `subjects` ([identity.md](identity.md))",
);

pub(super) static OIDC_AUDIENCE: Variable = Variable::new(
    "TEKTON_OIDC_AUDIENCE",
    "",
    "set it to the audience that the tokens are made for",
    "what those tokens must be made for",
);

pub(super) static SERVICE_NAME: Variable = Variable::new(
    "TEKTON_SERVICE_NAME",
    "tekton",
    "use text with {project}, {repository} and {pipeline} as the only placeholders",
    "`service.name` of PipelineRuns and TaskRuns, as above",
);

pub(super) static DASHBOARD: Variable = Variable::new(
    "TEKTON_DASHBOARD_URL",
    "",
    "use the address of the Tekton Dashboard, such as https://tekton.example.com",
    "address of the Tekton Dashboard, for the addresses of runs and tasks",
);

/// How Tekton's objects are mapped.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `service.name` of the spans.
    pub service_name: ServiceName,
    /// The Tekton Dashboard, without a slash at the end.
    pub dashboard: Option<String>,
}

impl Settings {
    /// Reads the variables that begin with `TEKTON_`.
    pub(crate) fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        Ok(Self {
            service_name: service_name(vars, &SERVICE_NAME, &[])?,
            dashboard: DASHBOARD.get(vars).map(dashboard).transpose()?,
        })
    }
}

fn dashboard(url: &str) -> Result<String, SettingsError> {
    let plain = |it: &str| public_url(it).is_some_and(|plain| plain == it);
    let url = url.trim_end_matches('/');
    let named = plain(url) && Host::of_url(url).is_some();
    if named { Ok(url.to_owned()) } else { Err(DASHBOARD.invalid()) }
}

impl Default for Settings {
    fn default() -> Self {
        Self { service_name: ServiceName::known(SERVICE_NAME.default), dashboard: None }
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
        let set = parse("TEKTON_DASHBOARD_URL", "https://t.example.com/x/").unwrap();
        assert_eq!(set.dashboard.as_deref(), Some("https://t.example.com/x"));
        for (name, value) in [
            ("TEKTON_SERVICE_NAME", "{branch}"),
            ("TEKTON_DASHBOARD_URL", "tekton.example.com"),
            ("TEKTON_DASHBOARD_URL", "https://user:secret@t.example.com"),
        ] {
            assert!(parse(name, value).is_err(), "{name}={value}");
        }
    }
}
