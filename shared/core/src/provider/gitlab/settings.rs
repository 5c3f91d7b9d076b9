//! GitLab's variables.

use super::GitlabJobKind;
use crate::{
    correlation::{CorrelationId, Placeholders},
    host::Host,
    mapping::ServiceName,
    settings::{SettingsError, Variable, Vars, service_name},
};

pub(super) static SIGNING_TOKEN: Variable = Variable::secret(
    "GITLAB_SIGNING_TOKEN",
    "use the token as GitLab shows it: whsec_ and 44 characters of base64",
    "signing token, `whsec_…` (GitLab 19.0)",
);

pub(super) static SECRET_TOKEN: Variable = Variable::secret(
    "GITLAB_SECRET_TOKEN",
    "set it to the secret token of the webhook",
    "secret token; with both set both must hold",
);

pub(super) static HOST: Variable = Variable::new(
    "GITLAB_HOST",
    "gitlab.com",
    "use a host name without a scheme, such as gitlab.example.com",
    "instance of a payload or request that names none",
);

pub(super) static SERVICE_NAME: Variable = Variable::new(
    "GITLAB_SERVICE_NAME",
    "gitlab",
    "use text with {project}, {repository} and {pipeline} as the only placeholders",
    "`service.name`, as above",
);

pub(super) static JOB_SPANS: Variable = Variable::new(
    "GITLAB_JOB_SPANS",
    "pipeline",
    "use pipeline or job",
    "`pipeline`: the last try of each job, from one delivery; `job`: every try, from Job events",
);

pub(super) static PEOPLE: Variable = Variable::new(
    "GITLAB_PEOPLE",
    "",
    "use actor, author, or both with a comma between them",
    "whose names become attributes: `actor`, who started a pipeline or a job; `author`, of the commit, with the mail address; `actor,author`, both",
);

pub(super) static NATIVE_JOB_ID: Variable = Variable::new(
    "GITLAB_NATIVE_JOB_ID",
    "default",
    "use default or export",
    "`default` or `export`, for native ids",
);

pub(super) static CORRELATION_ID: Variable = Variable::new(
    "GITLAB_CORRELATION_ID",
    "{run_id}",
    "use text with {run_id}, {iid} or {sha} in it, and {project}, {repository} and {pipeline} where you like",
    "`correlation_id`, as above, with `{iid}` besides, which repeats in each project",
);

/// The placeholder of the number of a pipeline within its project.
const IID: &str = "iid";

/// What besides may be in a correlation id.
const OWN: Placeholders = &[(IID, "gitlab.pipeline.iid")];

/// How GitLab's deliveries are mapped.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The instance of a body that does not name one.
    pub host: Host,
    /// `service.name` of the spans.
    pub service_name: ServiceName,
    /// `correlation_id` of the runs.
    pub correlation_id: CorrelationId,
    /// Which of GitLab's own ids a job span takes in native mode.
    pub job_kind: GitlabJobKind,
    /// Which event makes job spans.
    pub job_spans: JobSpans,
    /// Whose names become attributes.
    pub people: People,
}

/// Who is named in spans. Names are personal data: nobody is, unless an operator says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct People {
    /// Who started a pipeline or a job.
    pub actor: bool,
    /// The author of the commit.
    pub author: bool,
}

impl People {
    fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        let mut people = Self::default();
        for word in PEOPLE.get(vars).unwrap_or_default().split(',').map(str::trim) {
            match word.to_ascii_lowercase().as_str() {
                "" => {}
                "actor" => people.actor = true,
                "author" => people.author = true,
                _ => return Err(PEOPLE.invalid()),
            }
        }
        Ok(people)
    }
}

/// GitLab sends the same job in Pipeline and in Job events; one of them makes its spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JobSpans {
    /// The Pipeline event: the last try of each job, in one delivery.
    #[default]
    Pipeline,
    /// The Job events: every try, as it ends.
    Job,
}

impl Settings {
    /// Reads the variables that begin with `GITLAB_`.
    pub(crate) fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        let kinds = [("default", GitlabJobKind::Default), ("export", GitlabJobKind::Export)];
        let spans = [("pipeline", JobSpans::Pipeline), ("job", JobSpans::Job)];
        let job_spans = JOB_SPANS.one_of(vars, spans)?;
        let correlation_id = CorrelationId::parse(vars, &CORRELATION_ID, OWN)?;
        // Job events do not tell it.
        if correlation_id.asks_for(IID) && job_spans == JobSpans::Job {
            let expected =
                "use {iid} with GITLAB_JOB_SPANS=pipeline only: Job events do not tell it";
            return Err(CORRELATION_ID.invalid_with(expected));
        }
        Ok(Self {
            host: HOST.host(vars)?,
            service_name: service_name(vars, &SERVICE_NAME, &[])?,
            correlation_id,
            job_kind: NATIVE_JOB_ID.one_of(vars, kinds)?,
            job_spans,
            people: People::parse(vars)?,
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: Host::known(HOST.default),
            service_name: ServiceName::known(SERVICE_NAME.default),
            correlation_id: CorrelationId::of_run(OWN),
            job_kind: GitlabJobKind::default(),
            job_spans: JobSpans::default(),
            people: People::default(),
        }
    }
}
