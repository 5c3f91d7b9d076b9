//! The trace context of a running job, as a pure function of the ids that the job knows.
//!
//! People append the answer to a file that a shell sources. So an answer ends with a newline, an
//! error of a shell format is made of comment lines, and nothing of the request is echoed: the
//! values that appear were parsed into ids first.

use std::{borrow::Cow, fmt::Write as _};

use thiserror::Error;
use uuid::Uuid;

use crate::{
    id::{CircleciIds, GitlabIds, GitlabJobKind, SpanId, TraceId, TraceIds, traceparent},
    mapping::Provider,
    rules::{Decision, ProjectRules},
};

/// What the endpoint and the command have in common.
#[derive(Clone, Debug)]
pub struct TraceparentSettings {
    /// How ids are derived.
    pub trace_ids: TraceIds,
    /// The CircleCI instance, `circleci.com` unless it is self-hosted.
    pub circleci_host: String,
    /// The GitLab instance of a request that names none.
    pub gitlab_host: String,
    /// GitLab's native kind of job id.
    pub gitlab_job_kind: GitlabJobKind,
}

impl Default for TraceparentSettings {
    fn default() -> Self {
        Self {
            trace_ids: TraceIds::default(),
            circleci_host: "circleci.com".to_owned(),
            gitlab_host: "gitlab.com".to_owned(),
            gitlab_job_kind: GitlabJobKind::default(),
        }
    }
}

/// A trace context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The run's trace.
    pub trace: TraceId,
    /// The job's span.
    pub span: SpanId,
    /// Whether the run's spans are emitted: a job that is told so records its own too.
    pub sampled: bool,
}

/// How the context is written (`?format=`, or by `Accept`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `export TRACEPARENT=…`, for `>> "$BASH_ENV"`.
    #[default]
    Sh,
    /// `TRACEPARENT=…`, for GitLab's `artifacts:reports:dotenv`, which refuses `export`.
    Dotenv,
    /// An object with `traceparent`, `trace_id` and `span_id`.
    Json,
    /// `$env:TRACEPARENT = '…'`.
    Powershell,
    /// `TRACEPARENT=…`, for `>> "$GITHUB_ENV"`.
    Github,
    /// The bare value.
    Value,
}

impl Format {
    /// Every format by its name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("sh", Self::Sh),
        ("dotenv", Self::Dotenv),
        ("json", Self::Json),
        ("powershell", Self::Powershell),
        ("github", Self::Github),
        ("value", Self::Value),
    ];

    /// The format of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(it, _)| *it == name).map(|(_, format)| format)
    }

    /// The format that an `Accept` header asks for: JSON when it names JSON, else a shell's.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let json = |it: &str| {
            let media = it.split(';').next().unwrap_or_default().trim();
            media.eq_ignore_ascii_case("application/json")
                || media.eq_ignore_ascii_case("application/problem+json")
        };
        if accept.split(',').any(json) { Self::Json } else { Self::Sh }
    }

    /// The media type of an answer.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        if self == Self::Json { "application/json" } else { "text/plain; charset=utf-8" }
    }

    /// The context in this format, with a newline at its end.
    #[must_use]
    pub fn render(self, context: Context) -> String {
        let Context { trace, span, sampled } = context;
        let value = traceparent(trace, span, sampled);
        match self {
            Self::Sh => format!("export TRACEPARENT={value}\n"),
            Self::Dotenv | Self::Github => format!("TRACEPARENT={value}\n"),
            Self::Powershell => format!("$env:TRACEPARENT = '{value}'\n"),
            Self::Value => format!("{value}\n"),
            Self::Json => format!(
                "{{\"traceparent\":\"{value}\",\"trace_id\":\"{trace}\",\"span_id\":\"{span}\"}}\n"
            ),
        }
    }

    /// An error in this format: comments, which do no harm in a file that a shell sources.
    #[must_use]
    pub fn render_error(self, status: u16, message: &str) -> String {
        if self == Self::Json {
            // The texts are our own, of plain words; only a line break needs escaping.
            let title = message.replace('\n', " ");
            return format!(
                "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status}}}\n"
            );
        }
        message.lines().fold(String::new(), |mut body, line| {
            // Writing to a string does not fail.
            let _ = writeln!(body, "# spanhook: {line}");
            body
        })
    }
}

/// What is wrong with a request. The texts tell what to type and repeat nothing of it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadRequest {
    /// No such path.
    #[error(
        "no such path; use /traceparent/circleci/$CIRCLE_WORKFLOW_ID/$CIRCLE_WORKFLOW_JOB_ID\nor /traceparent/gitlab/$CI_PIPELINE_ID/$CI_JOB_ID?instance=$CI_SERVER_HOST"
    )]
    Path,
    /// A CircleCI id is no UUID, or the nil one.
    #[error("workflow and job must be UUIDs; use $CIRCLE_WORKFLOW_ID and $CIRCLE_WORKFLOW_JOB_ID")]
    Uuid,
    /// A GitLab id is no positive decimal number.
    #[error("pipeline, job and root must be positive numbers; use $CI_PIPELINE_ID and $CI_JOB_ID")]
    Number,
    /// The instance is no host name.
    #[error("instance must be a host name, with its port if it has one; use $CI_SERVER_HOST")]
    Instance,
    /// No such format.
    #[error("format must be sh, dotenv, json, powershell, github or value")]
    Format,
}

impl BadRequest {
    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        if self == Self::Path { 404 } else { 400 }
    }
}

/// A job whose context is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// A CircleCI job.
    Circleci {
        /// `CIRCLE_WORKFLOW_ID`
        workflow: Uuid,
        /// `CIRCLE_WORKFLOW_JOB_ID`
        job: Uuid,
    },
    /// A GitLab job.
    Gitlab {
        /// `CI_PIPELINE_ID`
        pipeline: u64,
        /// `CI_JOB_ID`
        job: u64,
        /// The host, when it is not the configured one.
        instance: Option<String>,
        /// The root pipeline of a child pipeline, for native ids.
        root: Option<u64>,
    },
}

impl Job {
    /// Checks the ids of a job strictly.
    pub fn new(
        provider: Provider,
        run: &str,
        job: &str,
        instance: Option<&str>,
        root: Option<&str>,
    ) -> Result<Self, BadRequest> {
        match provider {
            Provider::Circleci => Ok(Self::Circleci { workflow: uuid(run)?, job: uuid(job)? }),
            Provider::Gitlab => Ok(Self::Gitlab {
                pipeline: number(run)?,
                job: number(job)?,
                instance: instance.map(host).transpose()?,
                root: root.map(number).transpose()?,
            }),
        }
    }

    /// The context of the job, whose spans need not exist yet.
    ///
    /// `project` is its project's name, if the caller gave it: the rules may go by it.
    #[must_use]
    pub fn context(
        &self,
        settings: &TraceparentSettings,
        rules: &ProjectRules,
        project: Option<&str>,
    ) -> Context {
        let (trace, span) = self.ids(settings);
        let decision = rules.decide(project.as_slice(), trace, settings.trace_ids);
        Context { trace, span, sampled: decision == Decision::Keep }
    }

    fn ids(&self, settings: &TraceparentSettings) -> (TraceId, SpanId) {
        match self {
            Self::Circleci { workflow, job } => {
                let ids = CircleciIds::new(settings.trace_ids, &settings.circleci_host);
                (ids.trace(&workflow.to_string()), ids.job(&job.to_string()))
            }
            Self::Gitlab { pipeline, job, instance, root } => {
                let ids = GitlabIds::new(
                    settings.trace_ids,
                    settings.gitlab_job_kind,
                    instance.as_deref().unwrap_or(&settings.gitlab_host),
                    root.unwrap_or(*pipeline),
                    *pipeline,
                );
                (ids.trace(), ids.job(*job))
            }
        }
    }
}

/// Canonical or bare hexadecimal, in either case; never nil.
pub(crate) fn uuid(text: &str) -> Result<Uuid, BadRequest> {
    let shape = matches!(text.len(), 32 | 36);
    Uuid::try_parse(text).ok().filter(|it| shape && !it.is_nil()).ok_or(BadRequest::Uuid)
}

/// A positive decimal number as GitLab writes it: no sign, no leading zero.
pub(crate) fn number(text: &str) -> Result<u64, BadRequest> {
    let canonical = text.bytes().all(|it| it.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| canonical).ok_or(BadRequest::Number)
}

/// A host name as it enters an id: lower case, without the default port.
pub(crate) fn host(text: &str) -> Result<String, BadRequest> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix(":443").unwrap_or(&text);
    let (name, port) = text.split_once(':').unwrap_or((text, "1"));
    let label = |it: &str| {
        !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let valid = text.len() <= 253
        && name.split('.').all(label)
        && port.parse::<u16>().is_ok_and(|port| port > 0)
        && port.bytes().all(|it| it.is_ascii_digit());
    valid.then(|| text.to_owned()).ok_or(BadRequest::Instance)
}

/// What was asked. The format comes apart from the job, because an error has to be written in it
/// too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// How the answer is written.
    pub format: Format,
    /// Whose context it is to be.
    pub job: Result<Job, BadRequest>,
    /// The project's name (`?project=acme/shop`), for the rules.
    pub project: Option<String>,
}

/// Reads a request: `path` as it is in the URL, `query` without its question mark.
#[must_use]
pub fn parse(path: &str, query: Option<&str>, accept: Option<&str>) -> Request {
    let query: Vec<(Cow<'_, str>, Cow<'_, str>)> =
        form_urlencoded::parse(query.unwrap_or_default().as_bytes()).collect();
    let parameter = |name: &str| {
        query.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, it)| &**it)
    };
    let format = match parameter("format") {
        Some(name) => Format::named(name).ok_or(BadRequest::Format),
        None => Ok(accept.map(Format::accepted).unwrap_or_default()),
    };
    let mut segments = path.trim_end_matches('/').split('/').skip(1);
    let segments = std::array::from_fn(|_| segments.next()).map(Option::unwrap_or_default);
    let job = match segments {
        ["traceparent", "circleci", run, job, ""] => {
            Job::new(Provider::Circleci, run, job, None, None)
        }
        ["traceparent", "gitlab", run, job, ""] => {
            Job::new(Provider::Gitlab, run, job, parameter("instance"), parameter("root"))
        }
        // circleci-hook's own path
        ["traceparent", run, job, "", ""] if !run.is_empty() => {
            Job::new(Provider::Circleci, run, job, None, None)
        }
        _ => Err(BadRequest::Path),
    };
    let project = parameter("project").map(ToOwned::to_owned);
    match format {
        Ok(format) => Request { format, job, project },
        Err(error) => Request { format: Format::Sh, job: Err(error), project },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CIRCLECI: &str = "/traceparent/circleci/cedf175c-c537-49f8-9b5c-95892f0b2407/3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34";
    const GITLAB: &str = "/traceparent/gitlab/2722508965/15651125844";

    fn ask(path: &str, query: &str, trace_ids: TraceIds) -> String {
        let settings = TraceparentSettings { trace_ids, ..TraceparentSettings::default() };
        let Request { format, job, project } = parse(path, Some(query), None);
        let rules = ProjectRules::parse(r#"{"deny": ["acme/secret"]}"#).unwrap();
        match job {
            Ok(job) => format.render(job.context(&settings, &rules, project.as_deref())),
            Err(error) => format.render_error(error.status(), &error.to_string()),
        }
    }

    #[test]
    fn the_vectors_of_the_design_hold() {
        let hashed = |path| ask(path, "format=value", TraceIds::Hashed);
        assert_eq!(hashed(CIRCLECI), "00-e8a005b2bbea3d6ab25bbccc6d8a0d9a-927ed609846a1ef5-01\n");
        assert_eq!(hashed(GITLAB), "00-ca54d68b6460aedebe19e565dcbb8d6c-7b1a45c63d0a837b-01\n");
        let native = |path| ask(path, "format=value", TraceIds::Native);
        assert_eq!(native(CIRCLECI), "00-cedf175cc53749f89b5c95892f0b2407-3f6a7c4a0bb6463a-01\n");
        assert_eq!(native(GITLAB), "00-000000000000000000000000a24630a5-d57d4350c5866fa0-01\n");
    }

    #[test]
    fn circleci_hooks_path_gives_the_same_context() {
        let short = CIRCLECI.replace("/circleci", "");
        assert_eq!(ask(&short, "", TraceIds::Native), ask(CIRCLECI, "", TraceIds::Native));
        let bare = short.to_uppercase().replace('-', "").replace("TRACEPARENT", "traceparent");
        assert_eq!(ask(&bare, "", TraceIds::Native), ask(CIRCLECI, "", TraceIds::Native));
    }

    #[test]
    fn every_format_has_its_shape() {
        let all: String = Format::ALL
            .map(|(name, _)| ask(GITLAB, &format!("format={name}"), TraceIds::Native))
            .concat();
        insta::assert_snapshot!(all, @r#"
        export TRACEPARENT=00-000000000000000000000000a24630a5-d57d4350c5866fa0-01
        TRACEPARENT=00-000000000000000000000000a24630a5-d57d4350c5866fa0-01
        {"traceparent":"00-000000000000000000000000a24630a5-d57d4350c5866fa0-01","trace_id":"000000000000000000000000a24630a5","span_id":"d57d4350c5866fa0"}
        $env:TRACEPARENT = '00-000000000000000000000000a24630a5-d57d4350c5866fa0-01'
        TRACEPARENT=00-000000000000000000000000a24630a5-d57d4350c5866fa0-01
        00-000000000000000000000000a24630a5-d57d4350c5866fa0-01
        "#);
    }

    #[test]
    fn a_malformed_request_is_told_what_to_type() {
        for (path, query, expected) in [
            ("/traceparent/circleci/x/y", "", BadRequest::Uuid),
            (
                "/traceparent/circleci/00000000-0000-0000-0000-000000000000/3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34",
                "",
                BadRequest::Uuid,
            ),
            ("/traceparent/gitlab/0/1", "", BadRequest::Number),
            ("/traceparent/gitlab/01/1", "", BadRequest::Number),
            ("/traceparent/gitlab/+1/1", "", BadRequest::Number),
            ("/traceparent/gitlab/1/99999999999999999999", "", BadRequest::Number),
            ("/traceparent/gitlab/1/1", "root=x", BadRequest::Number),
            ("/traceparent/gitlab/1/1", "instance=https://gitlab.com", BadRequest::Instance),
            ("/traceparent/gitlab/1/1", "instance=a..b", BadRequest::Instance),
            ("/traceparent/gitlab/1/1", "instance=host:0", BadRequest::Instance),
            ("/traceparent/gitlab/1/1", "instance=host:+80", BadRequest::Instance),
            ("/traceparent/gitlab/1/1", "instance=$(id)", BadRequest::Instance),
            ("/traceparent/gitlab/1/1", "format=xml", BadRequest::Format),
            ("/traceparent/gitlab/1", "", BadRequest::Number),
            ("/traceparent/gitlab/1/2/3", "", BadRequest::Path),
            ("/traceparent", "", BadRequest::Path),
            ("/", "", BadRequest::Path),
        ] {
            assert_eq!(parse(path, Some(query), None).job, Err(expected), "{path}?{query}");
        }
    }

    #[test]
    fn a_job_of_a_project_that_is_switched_off_is_told_not_to_record() {
        let flag = |query| ask(GITLAB, query, TraceIds::Hashed).trim_end().ends_with("-01");
        assert!(flag("") && flag("project=acme/shop") && !flag("project=Acme%2FSecret"));
    }

    #[test]
    fn the_instance_enters_the_ids_in_lower_case_and_without_its_default_port() {
        let with = |query| ask(GITLAB, query, TraceIds::Hashed);
        assert_eq!(with("instance=GitLab.com:443"), with(""));
        assert_ne!(with("instance=gitlab.example.com:8443"), with("instance=gitlab.example.com"));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_a_shell_can_source_the_answer(
            path in "(/traceparent)?(/circleci|/gitlab)?(/[^?#]{0,40}){0,4}",
            query in "(format=[a-z$`]{0,8}|instance=\\PC{0,20}|project=\\PC{0,20}|root=\\PC{0,8}|&){0,5}",
            accept in "\\PC{0,30}",
        ) {
            let Request { format, job, project } = parse(&path, Some(&query), Some(&accept));
            let (settings, rules) = (TraceparentSettings::default(), ProjectRules::default());
            let body = match job {
                Ok(job) => format.render(job.context(&settings, &rules, project.as_deref())),
                Err(error) => format.render_error(error.status(), &error.to_string()),
            };
            prop_assert!(body.ends_with('\n'));
            prop_assert!(format != Format::Sh || body.lines().all(|line| {
                line.starts_with("# ") || line.starts_with("export TRACEPARENT=00-")
            }), "{body}");
        }
    }
}
