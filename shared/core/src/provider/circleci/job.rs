//! What a running job knows of itself.

use serde::Deserialize;

use super::ids;
use crate::{
    host::Host,
    job::{
        Claim, Key, Shape,
        claim::{Text, reference, repository, uuid},
    },
    settings::{Vars, var},
};

pub(super) const SHAPE: Shape = Shape {
    key: Key::uuid,
    run: "use $CIRCLE_WORKFLOW_ID",
    job: "use $CIRCLE_WORKFLOW_JOB_ID",
    attempt: "use the number of the attempt, from 1",
    ids: "workflow and job must be UUIDs; use $CIRCLE_WORKFLOW_ID and $CIRCLE_WORKFLOW_JOB_ID",
    path: "$CIRCLE_WORKFLOW_ID/$CIRCLE_WORKFLOW_JOB_ID",
    example: &["cedf175c-c537-49f8-9b5c-95892f0b2407", "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34"],
    segments: Claim::of_run_and_job,
    environment,
    run_variable: "CIRCLE_WORKFLOW_ID",
    place: ids::place,
    claims,
};

/// <https://circleci.com/docs/reference/variables/>
fn environment(vars: &Vars) -> Option<Claim> {
    var(vars, "CIRCLECI")?;
    let text = |name| var(vars, name).map(str::to_owned);
    // The cloud has many host names (app., www.) but is one instance.
    let cloud = |host: &str| host == "circleci.com" || host.ends_with(".circleci.com");
    let server = var(vars, "CIRCLE_BUILD_URL").and_then(Host::of_url);
    let server = server.filter(|host| !cloud(host.as_str()));
    Some(Claim {
        host: Some(server.map_or_else(|| "circleci.com".to_owned(), |it| it.to_string())),
        run_id: text("CIRCLE_WORKFLOW_ID"),
        job_id: text("CIRCLE_WORKFLOW_JOB_ID"),
        project: match (var(vars, "CIRCLE_PROJECT_USERNAME"), var(vars, "CIRCLE_PROJECT_REPONAME"))
        {
            (Some(owner), Some(name)) => Some(format!("{owner}/{name}")),
            (_, name) => name.map(str::to_owned),
        },
        ref_name: text("CIRCLE_BRANCH").or_else(|| text("CIRCLE_TAG")),
        revision: text("CIRCLE_SHA1"),
        ..Claim::default()
    })
}

/// <https://circleci.com/docs/guides/permissions-authentication/openid-connect-tokens/>
#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "oidc.circleci.com/workflow-id")]
    workflow: Option<Text>,
    #[serde(rename = "oidc.circleci.com/job-id")]
    job: Option<Text>,
    #[serde(rename = "oidc.circleci.com/project-id")]
    project: Option<Text>,
    #[serde(rename = "oidc.circleci.com/vcs-origin")]
    origin: Option<Text>,
    #[serde(rename = "oidc.circleci.com/vcs-ref")]
    r#ref: Option<Text>,
}

fn claims(payload: &[u8]) -> Option<(Claim, String)> {
    let claims: Claims = serde_json::from_slice(payload).ok()?;
    let id = uuid(claims.project.as_ref())?;
    // Absent where a custom webhook started the pipeline.
    let project = match &claims.origin {
        Some(Text(origin)) => repository(Some(&Text(origin.split_once('/')?.1.to_owned())))?,
        None => id.clone(),
    };
    let claim = Claim {
        project: Some(project),
        run_id: Some(uuid(claims.workflow.as_ref())?),
        job_id: Some(uuid(claims.job.as_ref())?),
        ref_name: reference(claims.r#ref.as_ref()),
        ..Claim::default()
    };
    Some((claim, id))
}
