//! `spanhook traceparent`: the endpoint's answer, computed here.

use clap::{Args, builder::PossibleValuesParser};
use spanhook_core::traceparent::{Format, Job};
use spanhook_service::{
    settings::{environment, traceparent_settings},
    startup::project_rules,
};

use crate::{
    send::ProviderName,
    terminal::{Failure, failure, print},
};

#[derive(Args, Debug)]
#[command(after_help = "In a job:
  CircleCI  spanhook traceparent circleci $CIRCLE_WORKFLOW_ID $CIRCLE_WORKFLOW_JOB_ID >> \"$BASH_ENV\"
  GitLab    eval \"$(spanhook traceparent gitlab $CI_PIPELINE_ID $CI_JOB_ID --instance $CI_SERVER_HOST)\"
TRACE_IDS, CIRCLECI_HOST and GITLAB_HOST must be set as for the webhook.")]
pub(crate) struct Traceparent {
    /// Whose job it is
    provider: ProviderName,
    /// Workflow id (CircleCI) or pipeline id (GitLab)
    run: String,
    /// Job id
    job: String,
    /// Form of the answer
    #[arg(long, default_value = "sh", value_parser = PossibleValuesParser::new(Format::ALL.map(|it| it.0)))]
    format: String,
    /// Host of the GitLab instance, as jobs know it
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
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let vars = environment();
        let settings = traceparent_settings(&vars).map_err(failure)?;
        let rules = project_rules(&vars).await.map_err(failure)?.get().await;
        let (instance, root) = (self.instance.as_deref(), self.root.as_deref());
        let job = Job::new(self.provider.into(), &self.run, &self.job, instance, root);
        let format = Format::named(&self.format).unwrap_or_default();
        let job = job.map_err(failure)?;
        print(format.render(job.context(&settings, &rules, self.project.as_deref())));
        Ok(())
    }
}
