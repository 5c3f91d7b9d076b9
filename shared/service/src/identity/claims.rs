//! What the claims of the three providers say of a job.
//!
//! - GitLab: <https://docs.gitlab.com/ci/secrets/id_token_authentication/#token-payload>
//! - CircleCI: <https://circleci.com/docs/guides/permissions-authentication/openid-connect-tokens/>
//! - GitHub: <https://docs.github.com/en/actions/reference/security/oidc>

use serde::{Deserialize, Deserializer, de::Error as _};
use spanhook_core::identity::CiProvider;
use uuid::Uuid;

use super::Identity;

/// The longest name of a project and of a reference that is kept, in bytes.
const MAX_NAME: usize = 1024;

/// The claims that are read, of every provider. What is named here must not come twice: serde
/// refuses that, where a map would take the last one and another parser the first.
#[derive(Deserialize)]
pub(super) struct Claims {
    /// Who made the token.
    pub(super) iss: String,
    /// For whom.
    pub(super) aud: Audience,
    /// Seconds since the Unix epoch, like the others. A fraction is no date of any provider.
    pub(super) exp: u64,
    pub(super) iat: u64,
    pub(super) nbf: Option<u64>,

    // GitLab
    pipeline_id: Option<Text>,
    job_id: Option<Text>,
    project_path: Option<Text>,
    project_id: Option<Text>,
    job_project_path: Option<Text>,
    job_project_id: Option<Text>,

    // GitHub
    repository: Option<Text>,
    repository_id: Option<Text>,
    run_id: Option<Text>,
    run_attempt: Option<Text>,
    check_run_id: Option<Text>,

    // GitLab and GitHub
    r#ref: Option<Text>,
    sha: Option<Text>,

    // CircleCI
    #[serde(rename = "oidc.circleci.com/workflow-id")]
    circleci_workflow: Option<Text>,
    #[serde(rename = "oidc.circleci.com/job-id")]
    circleci_job: Option<Text>,
    #[serde(rename = "oidc.circleci.com/project-id")]
    circleci_project: Option<Text>,
    #[serde(rename = "oidc.circleci.com/vcs-origin")]
    circleci_origin: Option<Text>,
    #[serde(rename = "oidc.circleci.com/vcs-ref")]
    circleci_ref: Option<Text>,
}

/// One or several. <https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3>
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    /// Whether one of these is meant.
    pub(super) fn is_one_of(&self, allowed: &[String]) -> bool {
        match self {
            Self::One(it) => allowed.contains(it),
            Self::Several(list) => list.iter().any(|it| allowed.contains(it)),
        }
    }
}

/// Text. Ids come as text, and from some versions as numbers.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) => Ok(Self(number.to_string())),
            _ => Err(D::Error::custom("neither text nor a number")),
        }
    }
}

impl Claims {
    /// The job that the token speaks for; none where a claim is missing or not what it should be.
    pub(super) fn identity(&self, provider: CiProvider, host: &str) -> Option<Identity> {
        let mut identity = Identity {
            provider,
            host: host.to_owned(),
            project: String::new(),
            project_id: None,
            run_id: String::new(),
            job_id: None,
            attempt: None,
            root_id: None,
            git_ref: text(self.r#ref.as_ref()).and_then(reference),
            revision: text(self.sha.as_ref()).and_then(revision),
        };
        match provider {
            CiProvider::Gitlab => {
                // In a pipeline of a fork's merge request `project_*` name the fork since GitLab
                // 18.2.2, and `job_project_*` (18.4) the project where it runs. The pipeline, its
                // webhooks and so its trace belong to the latter; older tokens have only the first.
                // <https://gitlab.com/gitlab-org/gitlab/-/issues/563038>
                let (path, id) = match &self.job_project_path {
                    Some(path) => (Some(path), self.job_project_id.as_ref()),
                    None => (self.project_path.as_ref(), self.project_id.as_ref()),
                };
                identity.project = repository(text(path)?)?;
                identity.project_id = Some(decimal(text(id)?)?);
                identity.run_id = decimal(text(self.pipeline_id.as_ref())?)?;
                identity.job_id = Some(decimal(text(self.job_id.as_ref())?)?);
            }
            CiProvider::Github => {
                identity.project = repository(text(self.repository.as_ref())?)?;
                identity.project_id = Some(decimal(text(self.repository_id.as_ref())?)?);
                identity.run_id = decimal(text(self.run_id.as_ref())?)?;
                identity.attempt = Some(decimal(text(self.run_attempt.as_ref())?)?.parse().ok()?);
                // A wrong id is refused, none is an older server's.
                identity.job_id = match text(self.check_run_id.as_ref()) {
                    Some(id) => Some(decimal(id)?),
                    None => None,
                };
            }
            CiProvider::Circleci => {
                let id = uuid(text(self.circleci_project.as_ref())?)?;
                // Absent where a custom webhook started the pipeline.
                identity.project = match text(self.circleci_origin.as_ref()) {
                    Some(origin) => repository(origin.split_once('/')?.1)?,
                    None => id.clone(),
                };
                identity.project_id = Some(id);
                identity.run_id = uuid(text(self.circleci_workflow.as_ref())?)?;
                identity.job_id = Some(uuid(text(self.circleci_job.as_ref())?)?);
                identity.git_ref = text(self.circleci_ref.as_ref()).and_then(reference);
            }
        }
        Some(identity)
    }
}

fn text(claim: Option<&Text>) -> Option<&str> {
    claim.map(|it| &*it.0)
}

/// Whether this may be a project's name: in any other spelling a name could pass by the rule that
/// is meant for it. All providers use these characters only.
pub(super) fn is_name(path: &str) -> bool {
    let plain = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.');
    let segment = |it: &str| !matches!(it, "" | "." | "..") && it.bytes().all(plain);
    path.len() <= MAX_NAME && path.split('/').all(segment)
}

/// `owner/name`, at GitLab with groups between them.
fn repository(path: &str) -> Option<String> {
    (path.contains('/') && is_name(path)).then(|| path.to_owned())
}

fn reference(text: &str) -> Option<String> {
    let plain = !text.is_empty() && text.len() <= MAX_NAME && !text.contains(char::is_control);
    plain.then(|| text.to_owned())
}

/// A SHA-1 or SHA-256 in hex.
fn revision(text: &str) -> Option<String> {
    let hex = text.bytes().all(|it| it.is_ascii_hexdigit());
    (hex && matches!(text.len(), 40 | 64)).then(|| text.to_ascii_lowercase())
}

fn decimal(text: &str) -> Option<String> {
    let digits = text.bytes().all(|it| it.is_ascii_digit()) && !text.starts_with('0');
    (digits && text.parse::<u64>().is_ok()).then(|| text.to_owned())
}

/// With hyphens: the other forms that a UUID may have are none of CircleCI's.
fn uuid(text: &str) -> Option<String> {
    let uuid = Uuid::try_parse(text).ok().filter(|it| text.len() == 36 && !it.is_nil())?;
    Some(uuid.hyphenated().to_string())
}
