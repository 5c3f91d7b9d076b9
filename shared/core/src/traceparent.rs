//! The trace context of a running job, as a pure function of the ids that the job knows.
//!
//! People append the answer to a file that a shell sources. So an answer ends with a newline, an
//! error of a shell format is made of comment lines, and nothing of the request is echoed: the
//! values that appear were parsed into ids first.

use std::{borrow::Cow, fmt::Write as _};

use thiserror::Error;

use crate::{
    id::{SpanId, TraceId, traceparent},
    job::{BadJob, Claim, Job},
    provider::Provider,
    rules::{Decision, ProjectRules},
    settings::Settings,
};

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

impl Context {
    /// The context of a job, whose spans need not exist yet; of its run where the job is not known.
    ///
    /// `project` is its project's path, if the caller gave it: the rules may go by it.
    #[must_use]
    pub fn of(job: &Job, settings: &Settings, rules: &ProjectRules, project: Option<&str>) -> Self {
        let place = job.place(settings);
        let project = project.map(|path| job.project_of(path, settings));
        let decision = rules.decide(project.as_ref(), place.trace, settings.trace_ids);
        let sampled = decision == Decision::Keep;
        Self { trace: place.trace, span: place.span(), sampled }
    }
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

    /// An error in this format: comments, which do no harm in a file that a shell sources. In the
    /// file behind `$GITHUB_ENV` a comment fails the step that wrote it, so there it is nothing.
    ///
    /// <https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands#environment-files>
    #[must_use]
    pub fn render_error(self, status: u16, message: &str) -> String {
        if self == Self::Github {
            return String::new();
        }
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
    #[error("no such path; use {}", paths())]
    Path,
    /// An id is not in its provider's form.
    #[error("{0}")]
    Id(&'static str),
    /// The instance is no host name.
    #[error("instance must be a host name without a scheme, with its port if it has one")]
    Instance,
    /// The ids are those of another job than the token's.
    #[error("the token is another job's; ask with the ids of the job that it was made for")]
    OtherJob,
    /// No such format.
    #[error("format must be sh, dotenv, json, powershell, github or value")]
    Format,
}

/// The paths of all providers, a line each.
fn paths() -> String {
    let shapes = Provider::ALL.into_iter().map(|it| (it, it.room().job.path));
    let paths = shapes.filter(|(_, path)| !path.is_empty());
    let paths: Vec<_> = paths.map(|(it, path)| format!("/traceparent/{it}/{path}")).collect();
    paths.join("\nor ")
}

impl BadRequest {
    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Path => 404,
            Self::OtherJob => 403,
            Self::Id(_) | Self::Instance | Self::Format => 400,
        }
    }
}

/// Checks who asks.
pub fn job(provider: Provider, claim: &Claim) -> Result<Job, BadRequest> {
    Job::new(provider, claim).map_err(|BadJob { field, .. }| match field {
        "host" => BadRequest::Instance,
        _ => BadRequest::Id(provider.room().job.ids),
    })
}

/// What was asked. The format comes apart from the job, because an error has to be written in it
/// too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// How the answer is written.
    pub format: Format,
    /// Whose context it is to be.
    pub job: Result<Job, BadRequest>,
    /// Whether the path names no run at all, which leaves it to the caller's token.
    pub bare: bool,
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
    let segments: Vec<_> = path.trim_end_matches('/').split('/').skip(1).collect();
    let asked = match segments.as_slice() {
        ["traceparent", name, rest @ ..] => match Provider::named(name) {
            Some(provider) => Some((provider, rest)),
            // circleci-hook's own path
            None => Some((Provider::Circleci, &segments[1..])).filter(|_| !name.is_empty()),
        },
        _ => None,
    };
    let bare = matches!(segments.as_slice(), ["traceparent"])
        || matches!(segments.as_slice(), ["traceparent", name] if Provider::named(name).is_some());
    let text = |name| parameter(name).map(str::to_owned);
    let job = asked.map_or(Err(BadRequest::Path), |(provider, segments)| {
        let claim = (provider.room().job.segments)(segments).ok_or(BadRequest::Path)?;
        let claim = Claim {
            host: text("instance"),
            root_id: text("root"),
            event: text("event"),
            above: text("above"),
            ..claim
        };
        job(provider, &claim)
    });
    let project = text("project");
    match format {
        Ok(format) => Request { format, job, bare, project },
        Err(error) => Request { format: Format::Sh, job: Err(error), bare: false, project },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TraceIds;
    use proptest::prelude::*;

    const CIRCLECI: &str = "/traceparent/circleci/cedf175c-c537-49f8-9b5c-95892f0b2407/3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34";
    const GITLAB: &str = "/traceparent/gitlab/2722508965/15651125844";

    fn ask(path: &str, query: &str, trace_ids: TraceIds) -> String {
        let settings = Settings { trace_ids, ..Settings::default() };
        let Request { format, job, project, .. } = parse(path, Some(query), None);
        let rules = ProjectRules::parse(r#"{"deny": ["acme/secret"]}"#).unwrap();
        match job {
            Ok(job) => format.render(Context::of(&job, &settings, &rules, project.as_deref())),
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

    const UUID: BadRequest = BadRequest::Id(
        "workflow and job must be UUIDs; use $CIRCLE_WORKFLOW_ID and $CIRCLE_WORKFLOW_JOB_ID",
    );
    const NUMBER: BadRequest = BadRequest::Id(
        "pipeline, job and root must be positive numbers; use $CI_PIPELINE_ID and $CI_JOB_ID",
    );

    #[test]
    fn in_githubs_environment_file_an_error_is_nothing() {
        let (error, any) = (BadRequest::Path.to_string(), Format::ALL.len());
        let harmless: Vec<_> = Format::ALL
            .into_iter()
            .filter(|(_, format)| format.render_error(404, &error).is_empty())
            .map(|(name, _)| name)
            .collect();
        assert_eq!((harmless, any), (vec!["github"], 6));
    }

    #[test]
    fn a_malformed_request_is_told_what_to_type() {
        for (path, query, expected) in [
            ("/traceparent/circleci/x/y", "", UUID),
            (
                "/traceparent/circleci/00000000-0000-0000-0000-000000000000/3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34",
                "",
                UUID,
            ),
            ("/traceparent/gitlab/0/1", "", NUMBER),
            ("/traceparent/gitlab/01/1", "", NUMBER),
            ("/traceparent/gitlab/+1/1", "", NUMBER),
            ("/traceparent/gitlab/1/99999999999999999999", "", NUMBER),
            ("/traceparent/gitlab/1/1", "root=x", NUMBER),
            ("/traceparent/gitlab/1/1", "instance=https://gitlab.com", BadRequest::Instance),
            ("/traceparent/gitlab/1/1", "instance=a..b", BadRequest::Instance),
            ("/traceparent/gitlab/1/1", "instance=host:0", BadRequest::Instance),
            ("/traceparent/gitlab/1/1", "instance=host:+80", BadRequest::Instance),
            ("/traceparent/gitlab/1/1", "instance=$(id)", BadRequest::Instance),
            ("/traceparent/gitlab/1/1", "format=xml", BadRequest::Format),
            ("/traceparent/gitlab/1", "", BadRequest::Path),
            ("/traceparent/github/9", "", BadRequest::Path),
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
            let Request { format, job, project, .. } = parse(&path, Some(&query), Some(&accept));
            let (settings, rules) = (Settings::default(), ProjectRules::default());
            let body = match job {
                Ok(job) => format.render(Context::of(&job, &settings, &rules, project.as_deref())),
                Err(error) => format.render_error(error.status(), &error.to_string()),
            };
            prop_assert!(body.ends_with('\n') || format == Format::Github && body.is_empty());
            prop_assert!(format != Format::Sh || body.lines().all(|line| {
                line.starts_with("# ") || line.starts_with("export TRACEPARENT=00-")
            }), "{body}");
        }
    }
}
