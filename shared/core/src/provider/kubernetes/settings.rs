//! The variables of what comes out of a cluster.

use crate::{
    correlation::{CorrelationId, Placeholders},
    host::Host,
    mapping::ServiceName,
    settings::{SettingsError, Variable, Vars, service_name},
};

pub(super) static SIGNING_KEY: Variable = Variable::secret(
    "KUBERNETES_SIGNING_KEY",
    "set it to the key (whsec_...) that the relay signs with",
    "Standard Webhooks key (`whsec_…`) that the relay signs with; of the proofs that are set all must hold",
);

pub(super) static TOKEN: Variable = Variable::secret(
    "KUBERNETES_TOKEN",
    "set it to the bearer token that the relay sends",
    "bearer token of the relay",
);

pub(super) static OIDC_ISSUERS: Variable = Variable::new(
    "KUBERNETES_OIDC_ISSUERS",
    "",
    "use issuers as OIDC_ISSUERS takes them, each with the subjects whose tokens are taken",
    "clusters whose ServiceAccounts' tokens are taken at `/kubernetes`, each with its `subjects` ([identity.md](identity.md))",
);

pub(super) static OIDC_AUDIENCE: Variable = Variable::new(
    "KUBERNETES_OIDC_AUDIENCE",
    "",
    "set it to the audience that the tokens are made for",
    "what those tokens must be made for",
);

pub(super) static CLUSTER: Variable = Variable::new(
    "KUBERNETES_CLUSTER",
    "default",
    "use letters, digits, dots, hyphens and underscores, such as prod-eu",
    "name of the cluster, part of every id, where a delivery or request names none: only the relay's do; the same at the relay",
);

pub(super) static SERVICE_NAME: Variable = Variable::new(
    "KUBERNETES_SERVICE_NAME",
    "kubernetes",
    "use text with {project}, {repository} and {pipeline} as the only placeholders",
    "`service.name` of Pods and what is in them, as above",
);

pub(super) static SPAN_CONTEXT: Variable = Variable::new(
    "KUBERNETES_SPAN_CONTEXT",
    "link",
    "use link or parent",
    "`link`: a PipelineRun links the span that `tekton.dev/pipelinerunSpanContext` names; `parent`: it and all below it go into that trace",
);

/// What becomes of the context that a PipelineRun was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpanContext {
    /// A link to it.
    #[default]
    Link,
    /// The trace and the parent of the PipelineRun.
    Parent,
}

pub(super) static CORRELATION_ID: Variable = Variable::new(
    "KUBERNETES_CORRELATION_ID",
    "{run_id}",
    "use text with {run_id} or {sha} in it, and {project}, {repository} and {pipeline} where you like",
    "`correlation_id` of what Lighthouse and Tekton ran, as above; `{run_id}` is the LighthouseJob's name, else the PipelineRun's UID",
);

/// What besides may be in a correlation id.
const OWN: Placeholders = &[];

/// How what comes out of a cluster is mapped.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The cluster of a delivery that names none.
    pub cluster: Host,
    /// `service.name` of Pods.
    pub service_name: ServiceName,
    /// `correlation_id` of the runs.
    pub correlation_id: CorrelationId,
    /// What becomes of the context that a PipelineRun was given.
    pub span_context: SpanContext,
}

impl Settings {
    /// Reads the variables of all that comes out of a cluster.
    pub(crate) fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        let contexts = [("link", SpanContext::Link), ("parent", SpanContext::Parent)];
        Ok(Self {
            cluster: CLUSTER.host(vars)?,
            service_name: service_name(vars, &SERVICE_NAME, &[])?,
            correlation_id: CorrelationId::parse(vars, &CORRELATION_ID, OWN)?,
            span_context: SPAN_CONTEXT.one_of(vars, contexts)?,
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster: Host::known(CLUSTER.default),
            service_name: ServiceName::known(SERVICE_NAME.default),
            correlation_id: CorrelationId::of_run(OWN),
            span_context: SpanContext::default(),
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
        assert_eq!(parse("KUBERNETES_CLUSTER", "Prod_EU.1").unwrap().cluster.as_str(), "prod_eu.1");
        let context = parse("KUBERNETES_SPAN_CONTEXT", "parent").unwrap().span_context;
        assert_eq!(context, SpanContext::Parent);
        for (name, value) in [
            ("KUBERNETES_CLUSTER", "a b"),
            ("KUBERNETES_SERVICE_NAME", "{branch}"),
            ("KUBERNETES_SPAN_CONTEXT", "both"),
        ] {
            assert!(parse(name, value).is_err(), "{name}={value}");
        }
    }
}
