//! `spanhook traceparent`: the endpoint's answer, computed here.

use clap::{Args, builder::PossibleValuesParser};
use spanhook_core::{
    job::Claim,
    provider::Provider,
    settings::Settings,
    traceparent::{self, BadRequest, Context, Format},
};
use spanhook_export::environment;

use super::ci;
use crate::terminal::{Failure, failure, print, provider};

#[derive(Args, Debug)]
#[command(after_help = "In a job:
  CircleCI  spanhook traceparent circleci $CIRCLE_WORKFLOW_ID $CIRCLE_WORKFLOW_JOB_ID >> \"$BASH_ENV\"
  GitLab    eval \"$(spanhook traceparent gitlab $CI_PIPELINE_ID $CI_JOB_ID --instance $CI_SERVER_HOST)\"
  GitHub    spanhook traceparent github $GITHUB_RUN_ID $GITHUB_RUN_ATTEMPT $SPANHOOK_JOB_ID --format github >> \"$GITHUB_ENV\"
  Tekton    eval \"$(spanhook traceparent tekton $(context.pipelineRun.uid) $(context.taskRun.uid) STEP)\"
TRACE_IDS and the instance (CIRCLECI_HOST, GITLAB_HOST, GITHUB_HOST, KUBERNETES_CLUSTER) must be set as for the webhook.")]
pub(crate) struct Traceparent {
    /// Whose job it is
    #[arg(value_parser = provider)]
    provider: Provider,
    /// Workflow and job (`CircleCI`), pipeline and job (GitLab), run, attempt and check run (GitHub),
    /// `PipelineRun`, `TaskRun`, step and attempt (Tekton)
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Form of the answer
    #[arg(long, default_value = "sh", value_parser = PossibleValuesParser::new(Format::ALL.map(|it| it.0)))]
    format: String,
    /// Host of the instance, as jobs know it
    #[arg(long, value_name = "HOST")]
    instance: Option<String>,
    /// Root pipeline of a child pipeline, for native ids
    #[arg(long, value_name = "ID")]
    root: Option<String>,
    /// Project, as owner/name: the project rules may leave it out or sample it
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
}

impl Traceparent {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let vars = environment();
        let settings = Settings::parse(&vars).map_err(failure)?;
        let rules = ci::rules(&vars).map_err(failure)?;
        let ids: Vec<_> = self.ids.iter().map(String::as_str).collect();
        let told = (self.provider.room().job.segments)(&ids);
        let told = told.ok_or(BadRequest::Path).map_err(failure)?;
        let claim = Claim { host: self.instance, root_id: self.root, ..told };
        let format = Format::named(&self.format).unwrap_or_default();
        let job = traceparent::job(self.provider, &claim).map_err(failure)?;
        print(format.render(Context::of(&job, &settings, &rules, self.project.as_deref())));
        Ok(())
    }
}
