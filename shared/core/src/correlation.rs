//! The correlation id of runs: what joins a run, its jobs, the builds that they report and the app
//! that comes of them, in any store, by one value of one attribute.
//!
//! Build events bring theirs, and a job's tools take the run's id where nobody chose another. So the
//! run's id is the default here too; a template makes what a team's own builds call themselves.

use std::borrow::Cow;

use crate::{
    mapping::path,
    otlp::{
        Telemetry,
        span::{Attributes, Group, Trace, Value},
    },
    semconv as sc,
    settings::{SettingsError, Variable, Vars},
    template::Template,
};

/// The placeholder of the run's id.
const RUN_ID: &str = "run_id";
/// The placeholders that every provider knows, besides `{project}`, and the resource's attributes.
const COMMON: [(&str, &str); 4] = [
    (RUN_ID, sc::CICD_PIPELINE_RUN_ID),
    ("repository", sc::VCS_REPOSITORY_NAME),
    ("sha", sc::VCS_REF_HEAD_REVISION),
    ("pipeline", sc::CICD_PIPELINE_NAME),
];
const PROJECT: &str = "project";

/// Placeholders of one provider, and the attributes that all deliveries of a run carry.
pub(crate) type Placeholders = &'static [(&'static str, &'static str)];

/// How a provider's runs are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorrelationId {
    template: Template,
    own: Placeholders,
}

impl CorrelationId {
    /// Reads a provider's setting.
    pub(crate) fn parse(
        vars: &Vars,
        variable: &'static Variable,
        own: Placeholders,
    ) -> Result<Self, SettingsError> {
        let names = COMMON.iter().chain(own).map(|(name, _)| *name).chain([PROJECT]);
        let text = variable.get(vars).unwrap_or(variable.default);
        let template = Template::parse(text, &names.collect::<Vec<_>>());
        // Text alone would give all runs the same one.
        let varies = |it: &Template| {
            it.asks_for(RUN_ID)
                || it.asks_for("sha")
                || own.iter().any(|(name, _)| it.asks_for(name))
        };
        let template = template.filter(varies).ok_or_else(|| variable.invalid())?;
        Ok(Self { template, own })
    }

    /// The run's id itself.
    pub(crate) fn of_run(own: Placeholders) -> Self {
        Self { template: Template::placeholder(RUN_ID), own }
    }

    /// Whether the text asks for this placeholder.
    pub(crate) fn asks_for(&self, name: &str) -> bool {
        self.template.asks_for(name)
    }

    /// Sets the attribute on the resources of runs. Of a run that lacks what the template asks for it
    /// is the run's id.
    pub(crate) fn mark(&self, telemetry: &mut [Telemetry<'_>]) {
        for trace in telemetry.iter_mut().flat_map(|it| &mut it.traces) {
            let found: Vec<_> =
                trace.groups.iter().map(|it| self.of(&it.resource, trace)).collect();
            for (group, id) in trace.groups.iter_mut().zip(found) {
                group.resource.set(sc::CORRELATION_ID, id);
            }
        }
    }

    fn of(&self, resource: &Attributes<'_>, trace: &Trace<'_>) -> Option<String> {
        let run = resource.text(sc::CICD_PIPELINE_RUN_ID);
        if run.is_empty() {
            return None;
        }
        let own = |key: &str| {
            let same = |it: &&Group<'_>| it.resource.text(sc::CICD_PIPELINE_RUN_ID) == run;
            let spans = trace.groups.iter().filter(same).flat_map(|it| &it.spans);
            let mut all = [resource].into_iter().chain(spans.map(|it| &it.attributes));
            all.find_map(|it| match it.get(key)? {
                Value::Text(text) => Some(Cow::Owned(text.to_string())),
                Value::Int(number) => Some(number.to_string().into()),
                _ => None,
            })
        };
        let value = |name: &str| match COMMON.iter().find(|it| it.0 == name) {
            Some((_, key)) => Some(Cow::Borrowed(resource.text(key))),
            None if name == PROJECT => {
                let owner = resource.text(sc::VCS_OWNER_NAME);
                Some(path(owner, resource.text(sc::VCS_REPOSITORY_NAME)).into())
            }
            None => own(self.own.iter().find(|it| it.0 == name)?.1),
        };
        Some(self.template.render(value).unwrap_or_else(|| run.to_owned()))
    }
}
