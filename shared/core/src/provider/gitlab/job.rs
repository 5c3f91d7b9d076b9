//! What a running job knows of itself.

use serde::Deserialize;

use super::ids;
use crate::{
    id::parse_traceparent,
    job::{
        Claim, Key, Shape,
        claim::{Text, decimal, reference, repository, revision},
    },
    settings::{Vars, var},
};

pub(super) const SHAPE: Shape = Shape {
    key: Key::number,
    run: "use $CI_PIPELINE_ID",
    job: "use $CI_JOB_ID",
    attempt: "use the number of the attempt, from 1",
    ids: "pipeline, job and root must be positive numbers; use $CI_PIPELINE_ID and $CI_JOB_ID",
    path: "$CI_PIPELINE_ID/$CI_JOB_ID?instance=$CI_SERVER_HOST",
    example: &["2722508965", "15651125844"],
    segments: Claim::of_run_and_job,
    environment,
    run_variable: "CI_PIPELINE_ID",
    place: ids::place,
    claims,
};

/// <https://docs.gitlab.com/ci/variables/predefined_variables/>
fn environment(vars: &Vars) -> Option<Claim> {
    var(vars, "GITLAB_CI")?;
    let text = |name| var(vars, name).map(str::to_owned);
    let default_port = if var(vars, "CI_SERVER_PROTOCOL") == Some("http") { "80" } else { "443" };
    let port = var(vars, "CI_SERVER_PORT").filter(|port| *port != default_port);
    let host = var(vars, "CI_SERVER_HOST").map(str::to_ascii_lowercase);
    Some(Claim {
        host: host.map(|host| match port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }),
        run_id: text("CI_PIPELINE_ID"),
        job_id: text("CI_JOB_ID"),
        project: text("CI_PROJECT_PATH"),
        ref_name: text("CI_COMMIT_REF_NAME"),
        revision: text("CI_COMMIT_SHA"),
        root_id: var(vars, "CI_TRACEPARENT").and_then(root),
        ..Claim::default()
    })
}

/// GitLab's own trace id is the root pipeline's id as 32 hex digits: no other variable tells a
/// child its root.
fn root(traceparent: &str) -> Option<String> {
    let (trace, ..) = parse_traceparent(traceparent)?;
    let root = u64::try_from(u128::from_be_bytes(*trace.as_bytes())).ok()?;
    Some(root.to_string())
}

/// <https://docs.gitlab.com/ci/secrets/id_token_authentication/#token-payload>
#[derive(Deserialize)]
struct Claims {
    pipeline_id: Option<Text>,
    job_id: Option<Text>,
    project_path: Option<Text>,
    project_id: Option<Text>,
    job_project_path: Option<Text>,
    job_project_id: Option<Text>,
    r#ref: Option<Text>,
    sha: Option<Text>,
}

fn claims(payload: &[u8]) -> Option<(Claim, String)> {
    let claims: Claims = serde_json::from_slice(payload).ok()?;
    // In a pipeline of a fork's merge request `project_*` name the fork since GitLab 18.2.2, and
    // `job_project_*` (18.4) the project where it runs. The pipeline, its webhooks and so its trace
    // belong to the latter; older tokens have only the first.
    // <https://gitlab.com/gitlab-org/gitlab/-/issues/563038>
    let (path, id) = match &claims.job_project_path {
        Some(path) => (Some(path), claims.job_project_id.as_ref()),
        None => (claims.project_path.as_ref(), claims.project_id.as_ref()),
    };
    let claim = Claim {
        project: Some(repository(path)?),
        run_id: Some(decimal(claims.pipeline_id.as_ref())?),
        job_id: Some(decimal(claims.job_id.as_ref())?),
        ref_name: reference(claims.r#ref.as_ref()),
        revision: revision(claims.sha.as_ref()),
        ..Claim::default()
    };
    Some((claim, decimal(id)?))
}
