//! The trace of an event, and its place there.

use super::read::Origin;
use crate::{
    id::{CircleciIds, GitlabIds, Hashed, SpanId, TraceId},
    identity::CiProvider,
    traceparent::{TraceparentSettings, host, number, uuid},
};

/// Where the span of an event hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) trace: TraceId,
    /// The span of the job or the run; in a correlation id's own trace, its root.
    pub(super) parent: SpanId,
    /// Whether the trace is a correlation id's own.
    pub(super) own: bool,
}

/// A field of the context that is no id: its path, and what to type.
pub(super) type BadId = (&'static str, &'static str);

const CIRCLECI_RUN: BadId = ("context.run_id", "use $CIRCLE_WORKFLOW_ID");
const CIRCLECI_JOB: BadId = ("context.job_id", "use $CIRCLE_WORKFLOW_JOB_ID");
const GITLAB_RUN: BadId = ("context.run_id", "use $CI_PIPELINE_ID");
const GITLAB_JOB: BadId = ("context.job_id", "use $CI_JOB_ID");
const GITLAB_ROOT: BadId = ("context.root_id", "use the number of the root pipeline");
const GITHUB_RUN: BadId = ("context.run_id", "use $GITHUB_RUN_ID");
const GITHUB_JOB: BadId = ("context.job_id", "use the number of the job's check run");
const ATTEMPT: BadId = ("context.attempt", "use $GITHUB_RUN_ATTEMPT");
const HOST: BadId = ("context.host", "use a host name, with its port if it has one");

impl Place {
    /// The place in the run that the job is part of; none when the run is not known.
    pub(super) fn in_run(
        origin: &Origin,
        settings: &TraceparentSettings,
    ) -> Result<Option<Self>, BadId> {
        let (Some(provider), Some(run)) = (origin.provider, &origin.run_id) else {
            return Ok(None);
        };
        let decimal = |text: &String, bad| number(text).map_err(|_| bad);
        let canonical = |text: &String, bad| uuid(text).map(|it| it.to_string()).map_err(|_| bad);
        let instance = origin.host.as_deref().map(host).transpose().map_err(|_| HOST)?;
        let job = origin.job_id.as_ref();
        let (trace, parent) = match provider {
            CiProvider::Circleci => {
                // The instance is a setting, as for webhooks, which do not name it.
                let ids = CircleciIds::new(settings.trace_ids, &settings.circleci_host);
                let run = canonical(run, CIRCLECI_RUN)?;
                let job = job.map(|it| canonical(it, CIRCLECI_JOB)).transpose()?;
                (ids.trace(&run), job.map_or_else(|| ids.run(&run), |it| ids.job(&it)))
            }
            CiProvider::Gitlab => {
                let pipeline = decimal(run, GITLAB_RUN)?;
                let root =
                    origin.root_id.as_ref().map(|it| decimal(it, GITLAB_ROOT)).transpose()?;
                let ids = GitlabIds::new(
                    settings.trace_ids,
                    settings.gitlab_job_kind,
                    instance.as_deref().unwrap_or(&settings.gitlab_host),
                    root.unwrap_or(pipeline),
                    pipeline,
                );
                let job = job.map(|it| decimal(it, GITLAB_JOB)).transpose()?;
                (ids.trace(), job.map_or_else(|| ids.run(), |it| ids.job(it)))
            }
            CiProvider::Github => {
                let ids = Hashed::new("github", instance.as_deref().unwrap_or("github.com"));
                let attempt = origin.attempt.as_ref().map(|it| decimal(it, ATTEMPT)).transpose()?;
                // Each attempt is a run of its own, with jobs of its own.
                let run = format!("{}/{}", decimal(run, GITHUB_RUN)?, attempt.unwrap_or(1));
                let job = job.map(|it| decimal(it, GITHUB_JOB)).transpose()?;
                let parent = match job {
                    Some(job) => ids.span("job", &[&job.to_string()]),
                    None => ids.span("run", &[&run]),
                };
                (ids.trace(&run), parent)
            }
        };
        Ok(Some(Self { trace, parent, own: false }))
    }

    /// The root of a correlation id's own trace. Its owner keeps others out of it: a proved project,
    /// or a kind of proof that is not enough for every project; empty where neither is known.
    pub(super) fn own(owner: &str, correlation: &str) -> Self {
        let ids = Hashed::new("build", owner);
        Self { trace: ids.trace(correlation), parent: ids.span("run", &[correlation]), own: true }
    }
}
