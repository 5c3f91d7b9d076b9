//! What a running job knows of itself.

use serde::Deserialize;

use super::{ids, settings::JOB_ID};
use crate::{
    host::Host,
    job::{
        Claim, Key, Shape,
        claim::{Text, decimal, reference, repository, revision},
    },
    settings::{Vars, var},
};

pub(super) const SHAPE: Shape = Shape {
    key: Key::number,
    run: "use $GITHUB_RUN_ID",
    job: "use ${{ job.check_run_id }}",
    attempt: "use $GITHUB_RUN_ATTEMPT",
    ids: "run, attempt and job must be positive numbers; use $GITHUB_RUN_ID, $GITHUB_RUN_ATTEMPT and ${{ job.check_run_id }}",
    path: "$GITHUB_RUN_ID/$GITHUB_RUN_ATTEMPT/${{ job.check_run_id }}",
    example: &["9283746501", "1", "26012345678"],
    // The job's id is empty on servers and runners that do not know it, and an empty last segment is
    // none here: that gives the run.
    segments: |segments| match segments {
        [run, attempt, job @ ..] if job.len() <= 1 => Some(Claim {
            run_id: Some((*run).to_owned()),
            attempt: Some((*attempt).to_owned()),
            job_id: job.first().map(|it| (*it).to_owned()),
            ..Claim::default()
        }),
        _ => None,
    },
    environment,
    run_variable: "GITHUB_RUN_ID",
    place: ids::place,
    claims,
};

/// <https://docs.github.com/actions/reference/workflows-and-actions/variables>
fn environment(vars: &Vars) -> Option<Claim> {
    var(vars, "GITHUB_ACTIONS")?;
    let text = |name| var(vars, name).map(str::to_owned);
    let host = var(vars, "GITHUB_SERVER_URL").and_then(Host::of_url);
    Some(Claim {
        host: Some(host.map_or_else(|| "github.com".to_owned(), |it| it.to_string())),
        run_id: text("GITHUB_RUN_ID"),
        // GITHUB_JOB is a name of the workflow file. The number of the job is only in the context
        // `job`, so a step has to pass it on; runners may come to do so under the second name.
        job_id: text(JOB_ID.name).or_else(|| text("JOB_CHECK_RUN_ID")),
        attempt: text("GITHUB_RUN_ATTEMPT"),
        project: text("GITHUB_REPOSITORY"),
        // On a pull request GITHUB_REF_NAME is "12/merge"; the branch has its own variable.
        ref_name: text("GITHUB_HEAD_REF").or_else(|| text("GITHUB_REF_NAME")),
        revision: text("GITHUB_SHA"),
        ..Claim::default()
    })
}

/// <https://docs.github.com/en/actions/reference/security/oidc>
#[derive(Deserialize)]
struct Claims {
    repository: Option<Text>,
    repository_id: Option<Text>,
    run_id: Option<Text>,
    run_attempt: Option<Text>,
    check_run_id: Option<Text>,
    r#ref: Option<Text>,
    sha: Option<Text>,
}

fn claims(payload: &[u8]) -> Option<(Claim, String)> {
    let claims: Claims = serde_json::from_slice(payload).ok()?;
    let claim = Claim {
        project: Some(repository(claims.repository.as_ref())?),
        run_id: Some(decimal(claims.run_id.as_ref())?),
        attempt: Some(decimal(claims.run_attempt.as_ref())?),
        // A wrong id is refused, none is an older server's.
        job_id: match &claims.check_run_id {
            Some(id) => Some(decimal(Some(id))?),
            None => None,
        },
        ref_name: reference(claims.r#ref.as_ref()),
        revision: revision(claims.sha.as_ref()),
        ..Claim::default()
    };
    Some((claim, decimal(claims.repository_id.as_ref())?))
}
