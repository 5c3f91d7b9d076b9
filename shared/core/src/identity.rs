//! Who a job proved to be.

use crate::mapping::Provider;

/// The CI system that a job runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CiProvider {
    /// CircleCI, cloud and server.
    Circleci,
    /// GitLab, gitlab.com and self-managed.
    Gitlab,
    /// GitHub Actions.
    Github,
}

impl CiProvider {
    /// The system's name in ids and in what senders write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Circleci => "circleci",
            Self::Gitlab => "gitlab",
            Self::Github => "github",
        }
    }

    /// The provider of its webhooks; those of GitHub are none that are mapped.
    #[must_use]
    pub fn webhooks(self) -> Option<Provider> {
        match self {
            Self::Circleci => Some(Provider::Circleci),
            Self::Gitlab => Some(Provider::Gitlab),
            Self::Github => None,
        }
    }

    /// The system of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Circleci, Self::Gitlab, Self::Github].into_iter().find(|it| it.as_str() == name)
    }
}

/// What the claims of a verified `OpenID` Connect token say of a job. Whoever fills it has checked
/// the token: nothing here is doubted any more.
///
/// | field | CircleCI | GitLab | GitHub |
/// | --- | --- | --- | --- |
/// | `run_id` | the workflow's UUID | `pipeline_id` | `run_id` |
/// | `job_id` | the job's UUID | `job_id` | `check_run_id` |
/// | `attempt` | – | – | `run_attempt` |
///
/// <https://docs.gitlab.com/ci/secrets/id_token_authentication/>,
/// <https://docs.github.com/actions/reference/security/oidc>,
/// <https://circleci.com/docs/guides/permissions-authentication/openid-connect-tokens/>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The system that vouches for the job.
    pub provider: CiProvider,
    /// Its instance, such as `gitlab.example.com:8443`. CircleCI's is a setting instead.
    pub host: Option<String>,
    /// The project's path, such as `acme/web/shop`.
    pub project: Option<String>,
    /// The workflow, pipeline or run.
    pub run_id: Option<String>,
    /// The job.
    pub job_id: Option<String>,
    /// Which try of the run it is, from 1.
    pub attempt: Option<String>,
    /// GitLab's root pipeline of a child pipeline, for native ids.
    pub root_id: Option<String>,
    /// The branch or tag, also as `refs/heads/main`.
    pub ref_name: Option<String>,
    /// The commit.
    pub revision: Option<String>,
}

impl Identity {
    /// An identity of which no more is known than its provider.
    #[must_use]
    pub fn new(provider: CiProvider) -> Self {
        Self {
            provider,
            host: None,
            project: None,
            run_id: None,
            job_id: None,
            attempt: None,
            root_id: None,
            ref_name: None,
            revision: None,
        }
    }
}
