//! What the CI environment says of the running job: the same as `packages/bundler` reads.
//!
//! <https://circleci.com/docs/reference/variables/>,
//! <https://docs.gitlab.com/ci/variables/predefined_variables/>,
//! <https://docs.github.com/actions/reference/workflows-and-actions/variables>

use serde::Serialize;
use spanhook_core::{
    id::parse_traceparent,
    job::Claim,
    provider::Provider,
    rules::ProjectRules,
    settings::{PROJECT_RULES, SettingsError, Variable, Vars, var},
};

/// The `context` of an event. No field names a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Context {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<&'static str>,
    #[serde(flatten)]
    pub(crate) claim: Claim,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) traceparent: Option<String>,
}

impl Context {
    /// Reads the variables that CI systems set by themselves.
    pub(crate) fn read(vars: &Vars) -> Self {
        let told = |it: Provider| Some((it.as_str(), (it.room().job.environment)(vars)?));
        let (provider, claim) = Provider::ALL.into_iter().find_map(told).unzip();
        let traceparent = first(vars, &["TRACEPARENT"]);
        Self { provider, claim: claim.unwrap_or_default(), traceparent }
    }

    /// Whether an event with this context finds a trace without a correlation id.
    pub(crate) fn is_placed(&self) -> bool {
        self.claim.run_id.is_some()
            || self.traceparent.as_deref().and_then(parse_traceparent).is_some()
    }
}

/// `CORRELATION_ID`
pub(crate) static CORRELATION_ID: Variable = Variable::new(
    "CORRELATION_ID",
    "",
    "set CORRELATION_ID to what names the build",
    "joins what a job reports to a run; the CI system's run id where it is not set",
);

/// `BUILD_CORRELATION_ID`
pub(crate) static BUILD_CORRELATION_ID: Variable = Variable::new(
    "BUILD_CORRELATION_ID",
    "",
    "set BUILD_CORRELATION_ID to what names the build",
    "the same, where `CORRELATION_ID` is not set: the name that builds of mobile apps have for it",
);

/// `SPANHOOK_PROJECT`
pub(crate) static PROJECT: Variable = Variable::new(
    "SPANHOOK_PROJECT",
    "",
    "set it to the name of what is built, such as group/name",
    "name of what is built; the CI system's project where it is not set",
);

/// The id that joins build events and webhook spans; none outside CI.
pub(crate) fn correlation_id(vars: &Vars) -> Option<String> {
    let runs = Provider::ALL.into_iter().map(|it| it.room().job.run_variable);
    let names = [CORRELATION_ID.name, BUILD_CORRELATION_ID.name].into_iter().chain(runs);
    names.into_iter().find_map(|name| var(vars, name)).map(ToOwned::to_owned)
}

/// What is built: `SPANHOOK_PROJECT`, else the CI system's project.
pub(crate) fn project(vars: &Vars, context: &Context) -> Option<String> {
    first(vars, &[PROJECT.name]).or_else(|| context.claim.project.clone())
}

/// The project rules that `PROJECT_RULES` itself holds: a job has no way to where a function's may
/// be kept.
pub(crate) fn rules(vars: &Vars) -> Result<ProjectRules, SettingsError> {
    let Some(text) = PROJECT_RULES.get(vars) else { return Ok(ProjectRules::default()) };
    ProjectRules::parse(text).map_err(|error| SettingsError::Invalid {
        variable: PROJECT_RULES.name.to_owned(),
        expected: error.expected(),
    })
}

fn first(vars: &Vars, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| var(vars, name)).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn vars(vars: &[(&str, &str)]) -> Vars {
        vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn context(given: &[(&str, &str)]) -> serde_json::Value {
        serde_json::to_value(Context::read(&vars(given))).unwrap()
    }

    #[test]
    fn a_circleci_job_is_told_by_its_variables() {
        let job = [
            ("CIRCLECI", "true"),
            ("CIRCLE_BUILD_URL", "https://app.circleci.com/jobs/1"),
            ("CIRCLE_WORKFLOW_ID", "cedf175c-c537-49f8-9b5c-95892f0b2407"),
            ("CIRCLE_WORKFLOW_JOB_ID", "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34"),
            ("CIRCLE_PROJECT_USERNAME", "acme"),
            ("CIRCLE_PROJECT_REPONAME", "shop"),
            ("CIRCLE_BRANCH", ""),
            ("CIRCLE_TAG", "v1"),
            ("CIRCLE_SHA1", "abc"),
            ("CIRCLE_USERNAME", "ada"),
        ];
        assert_eq!(
            context(&job),
            json!({
                "provider": "circleci", "host": "circleci.com",
                "run_id": "cedf175c-c537-49f8-9b5c-95892f0b2407",
                "job_id": "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34",
                "project": "acme/shop", "ref": "v1", "revision": "abc",
            })
        );
        let server = [("CIRCLECI", "true"), ("CIRCLE_BUILD_URL", "https://CI.example.com:8443/x")];
        assert_eq!(context(&server)["host"], "ci.example.com:8443");
    }

    #[test]
    fn a_gitlab_job_is_told_by_its_variables_with_its_root_pipeline() {
        let job = [
            ("GITLAB_CI", "true"),
            ("CI_SERVER_HOST", "GitLab.example.com"),
            ("CI_SERVER_PORT", "8443"),
            ("CI_PIPELINE_ID", "2722508965"),
            ("CI_JOB_ID", "15651125844"),
            ("CI_PROJECT_PATH", "acme/web/shop"),
            ("CI_COMMIT_REF_NAME", "main"),
            ("CI_COMMIT_SHA", "abc"),
            ("CI_TRACEPARENT", "00-000000000000000000000000a2464ba5-00f067aa0ba902b7-01"),
            ("GITLAB_USER_EMAIL", "ada@example.com"),
        ];
        assert_eq!(
            context(&job),
            json!({
                "provider": "gitlab", "host": "gitlab.example.com:8443", "run_id": "2722508965",
                "job_id": "15651125844", "project": "acme/web/shop", "ref": "main",
                "revision": "abc", "root_id": "2722515877",
            })
        );
        for (port, protocol, host) in
            [("443", "https", "h"), ("80", "http", "h"), ("80", "https", "h:80"), ("", "", "h")]
        {
            let context = context(&[
                ("GITLAB_CI", "true"),
                ("CI_SERVER_HOST", "h"),
                ("CI_SERVER_PORT", port),
                ("CI_SERVER_PROTOCOL", protocol),
                ("CI_TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ]);
            assert_eq!(context, json!({ "provider": "gitlab", "host": host }), "no root of a hash");
        }
    }

    #[test]
    fn a_github_job_is_told_by_its_variables_and_names_no_job_id() {
        let job = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_RUN_ID", "7"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("GITHUB_JOB", "build"),
            ("GITHUB_REPOSITORY", "acme/shop"),
            ("GITHUB_REF_NAME", "12/merge"),
            ("GITHUB_HEAD_REF", "feature"),
            ("GITHUB_SHA", "abc"),
            ("GITHUB_ACTOR", "ada"),
        ];
        assert_eq!(
            context(&job),
            json!({
                "provider": "github", "host": "github.com", "run_id": "7", "attempt": "2",
                "project": "acme/shop", "ref": "feature", "revision": "abc",
            })
        );
    }

    #[test]
    fn outside_ci_there_is_only_the_trace_context() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(context(&[]), json!({}));
        assert_eq!(context(&[("TRACEPARENT", parent)]), json!({ "traceparent": parent }));
        assert!(Context::read(&vars(&[("TRACEPARENT", parent)])).is_placed());
        assert!(!Context::read(&vars(&[("TRACEPARENT", "rubbish")])).is_placed());
    }

    #[test]
    fn the_correlation_id_is_the_users_or_the_runs() {
        assert_eq!(
            correlation_id(&vars(&[("CORRELATION_ID", " "), ("CI_PIPELINE_ID", "7")])),
            Some("7".into())
        );
        assert_eq!(
            correlation_id(&vars(&[("CORRELATION_ID", "rc-1"), ("CI_PIPELINE_ID", "7")])),
            Some("rc-1".into())
        );
        let mobile = [("BUILD_CORRELATION_ID", "mobile-build-77"), ("CI_PIPELINE_ID", "7")];
        assert_eq!(correlation_id(&vars(&mobile)), Some("mobile-build-77".into()));
        let both = [mobile[0], ("CORRELATION_ID", "rc-1")];
        assert_eq!(correlation_id(&vars(&both)), Some("rc-1".into()));
        assert_eq!(correlation_id(&vars(&[("GITHUB_RUN_ID", "8")])), Some("8".into()));
        assert_eq!(correlation_id(&Vars::new()), None);
    }
}
