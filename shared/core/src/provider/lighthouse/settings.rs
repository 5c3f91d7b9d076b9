//! Lighthouse's variables.

use crate::{
    mapping::ServiceName,
    provider::kubernetes,
    settings::{SettingsError, Variable, Vars, service_name},
};

pub(super) static HMAC_KEY: Variable = Variable::secret(
    "LIGHTHOUSE_HMAC_KEY",
    "set it to the key of the Secret lighthouse-hmac-token",
    "key of Lighthouse (`lighthouse-hmac-token`), which signs what its external plugins get",
);

pub(super) static SERVICE_NAME: Variable = Variable::new(
    "LIGHTHOUSE_SERVICE_NAME",
    "lighthouse",
    "use text with {project}, {repository} and {pipeline} as the only placeholders",
    "`service.name` of what Lighthouse does, as above",
);

pub(super) static SOURCES: Variable = Variable::new(
    "LIGHTHOUSE_SOURCES",
    "",
    "use hooks, objects or both",
    "who tells of Lighthouse's jobs ([kubernetes.md](kubernetes.md#which-source)): `hooks`, its own deliveries; `objects`, the relay or Tekton; `both`, its webhooks the event and objects the rest. Without it: `objects` where what proves the relay is set, `both` where `LIGHTHOUSE_HMAC_KEY` is set too, else `hooks`; functions that see their own settings alone need it",
);

/// Who tells of Lighthouse's jobs. Every span has exactly one emitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sources {
    /// Lighthouse's own deliveries, webhooks and activities; traces are by commit.
    #[default]
    Hooks,
    /// Objects of the cluster alone.
    Objects,
    /// Webhooks the event at the top, objects all below it.
    Both,
}

/// How Lighthouse's deliveries and objects are mapped.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `service.name` of the spans.
    pub service_name: ServiceName,
    /// Who tells of Lighthouse's jobs.
    pub sources: Sources,
}

impl Settings {
    /// Reads the variables that begin with `LIGHTHOUSE_`.
    pub(crate) fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        let sources =
            [("hooks", Sources::Hooks), ("objects", Sources::Objects), ("both", Sources::Both)];
        let service_name = service_name(vars, &SERVICE_NAME, &[])?;
        if SOURCES.get(vars).is_some() {
            return Ok(Self { service_name, sources: SOURCES.one_of(vars, sources)? });
        }
        // Two that tell of the same job would tell it twice, in two traces.
        let relay = kubernetes::is_proved(vars);
        let sources = match (relay, HMAC_KEY.get(vars).is_some()) {
            (true, true) => Sources::Both,
            (true, false) => Sources::Objects,
            (false, _) => Sources::Hooks,
        };
        Ok(Self { service_name, sources })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { service_name: ServiceName::known(SERVICE_NAME.default), sources: Sources::default() }
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
        assert_eq!(parse("LIGHTHOUSE_SOURCES", "both").unwrap().sources, Sources::Both);
        for (names, expected) in [
            (&["LIGHTHOUSE_HMAC_KEY"][..], Sources::Hooks),
            (&["KUBERNETES_SIGNING_KEY"], Sources::Objects),
            (&["KUBERNETES_OIDC_ISSUERS", "LIGHTHOUSE_HMAC_KEY"], Sources::Both),
            (&["TEKTON_TOKEN", "LIGHTHOUSE_HMAC_KEY"], Sources::Hooks),
        ] {
            let vars = names.iter().map(|it| ((*it).to_owned(), "set".to_owned())).collect();
            assert_eq!(Settings::parse(&vars).unwrap().sources, expected, "{names:?}");
        }
        for (name, value) in
            [("LIGHTHOUSE_SERVICE_NAME", "{branch}"), ("LIGHTHOUSE_SOURCES", "none")]
        {
            assert!(parse(name, value).is_err(), "{name}={value}");
        }
    }
}
