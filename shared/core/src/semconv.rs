//! Attribute names and enum values of the OpenTelemetry semantic conventions 1.44.
//!
//! The names come from the conventions' own crate, which trails the repository by two versions:
//! CI/CD and VCS names did not change between 1.42 and 1.44, where they became release candidates.
//!
//! <https://opentelemetry.io/docs/specs/semconv/cicd/cicd-spans/>

pub use opentelemetry_semantic_conventions::attribute::{
    APP_BUILD_ID, ARTIFACT_FILENAME, ARTIFACT_HASH, ARTIFACT_VERSION, CICD_PIPELINE_ACTION_NAME,
    CICD_PIPELINE_NAME, CICD_PIPELINE_RESULT, CICD_PIPELINE_RUN_ID, CICD_PIPELINE_RUN_STATE,
    CICD_PIPELINE_RUN_URL_FULL, CICD_PIPELINE_TASK_NAME, CICD_PIPELINE_TASK_RUN_ID,
    CICD_PIPELINE_TASK_RUN_RESULT, CICD_PIPELINE_TASK_RUN_URL_FULL, CICD_PIPELINE_TASK_TYPE,
    CICD_WORKER_ID, CICD_WORKER_NAME, CONTAINER_IMAGE_ID, CONTAINER_IMAGE_NAME,
    DEPLOYMENT_ENVIRONMENT_NAME, ERROR_TYPE, K8S_CLUSTER_NAME, K8S_CONTAINER_NAME,
    K8S_CONTAINER_RESTART_COUNT, K8S_CONTAINER_STATUS_LAST_TERMINATED_REASON, K8S_NAMESPACE_NAME,
    K8S_NODE_NAME, K8S_POD_NAME, K8S_POD_UID, SERVICE_NAME, USER_FULL_NAME, USER_ID, USER_NAME,
    VCS_CHANGE_ID, VCS_CHANGE_STATE, VCS_CHANGE_TITLE, VCS_OWNER_NAME, VCS_PROVIDER_NAME,
    VCS_REF_BASE_NAME, VCS_REF_BASE_REVISION, VCS_REF_BASE_TYPE, VCS_REF_HEAD_NAME,
    VCS_REF_HEAD_REVISION, VCS_REF_HEAD_TYPE, VCS_REF_TYPE, VCS_REPOSITORY_NAME,
    VCS_REPOSITORY_URL_FULL,
};

pub use opentelemetry_semantic_conventions::metric::CICD_PIPELINE_RUN_DURATION;

/// The conventions that the spans follow.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// The instrumentation scope of every span that is made from a delivery.
pub const SCOPE_NAME: &str = "spanhook";

/// The version of that scope.
pub const SCOPE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// `cicd.pipeline.action.name` of a run that is neither a pure build nor a sync.
pub const ACTION_RUN: &str = "RUN";

/// Set on a span whose times were missing or reversed in the payload.
pub const TIME_REPAIRED: &str = "spanhook.time_repaired";

/// On the resource: whose delivery the span comes from, as [`crate::provider::Provider::as_str`]
/// names it, so that no query has to guess a provider from an address. No convention says it.
pub const PROVIDER: &str = "spanhook.provider";

/// On the resource of a run and of a build that a job reported: what joins them to each other and to
/// the app that came of them. No convention says it.
pub const CORRELATION_ID: &str = "correlation_id";

/// What a span stands for, such as `run` or `job`, so that no query has to guess that from a name.
/// No convention says it; `docs/adding-a-provider.md` lists the words.
pub const KIND: &str = "spanhook.kind";

/// The stage of a job, of its queue time, and of a stage itself.
pub const STAGE: &str = "spanhook.stage";

/// The job that queue time, a step or a marker belongs to, by its name: what `cicd.pipeline.task.name`
/// is on the job itself. So steps can be grouped by their job without a join.
pub const JOB: &str = "spanhook.job";

/// Which try of the run or the job it is, from 1, where the provider counts them.
pub const ATTEMPT: &str = "spanhook.attempt";

/// The event of a job that never ran. It is on the job's own span where it has one, which is then of
/// no length, else on the span above: so every provider's can be found by it.
pub const JOB_NOT_RUN: &str = "job not run";

/// On that event: why, in the provider's word, such as `skipped`.
pub const REASON: &str = "spanhook.reason";

/// Why the run began, in the provider's word, such as `push`.
pub const TRIGGER: &str = "spanhook.trigger";

/// `cicd.pipeline.run.state` until the run's first job begins.
pub const PENDING: &str = "pending";

/// `cicd.pipeline.run.state` from there on.
pub const EXECUTING: &str = "executing";

/// How long a job waited before it began, in seconds. The conventions have no metric of tasks.
pub const JOB_QUEUE_DURATION: &str = "spanhook.job.queue.duration";

/// `cicd.pipeline.result` and `cicd.pipeline.task.run.result`.
///
/// <https://opentelemetry.io/docs/specs/semconv/registry/attributes/cicd/>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunResult {
    /// It did what it was to do.
    Success,
    /// The work failed: a command returned non-zero.
    Failure,
    /// The CI system failed.
    Error,
    /// It took longer than it was allowed to.
    Timeout,
    /// Somebody or something stopped it.
    Cancellation,
    /// It did not run.
    Skip,
}

impl RunResult {
    /// The enum value of the conventions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Cancellation => "cancellation",
            Self::Skip => "skip",
        }
    }

    /// Whether the span gets status ERROR, and with it `error.type`.
    #[must_use]
    pub fn is_error(self) -> bool {
        matches!(self, Self::Failure | Self::Error | Self::Timeout)
    }
}
