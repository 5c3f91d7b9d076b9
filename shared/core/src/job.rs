//! A job of a CI run, however it is told: by its environment, by a token's claims, by a request's
//! path, by the context of an event.
//!
//! Whoever tells it fills a [`Claim`] with text; [`Job::new`] checks it once, and from then on ids
//! are ids. The instance's host, the ids' form and the way to spans are each provider's own.

use std::fmt;

use serde::Serialize;
use thiserror::Error;
use uuid::Uuid;

use crate::{
    host::Host,
    id::{Hashed, SpanId, TraceId},
    project::Project,
    provider::Provider,
    settings::Settings,
};

/// What names a run or a job at its provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `CircleCI`'s workflows and jobs.
    Uuid(Uuid),
    /// GitLab's and GitHub's, from 1.
    Number(u64),
}

impl Key {
    /// A UUID with or without hyphens, in either case; never the nil one.
    #[must_use]
    pub fn uuid(text: &str) -> Option<Self> {
        let shape = matches!(text.len(), 32 | 36);
        let uuid = Uuid::try_parse(text).ok().filter(|it| shape && !it.is_nil())?;
        Some(Self::Uuid(uuid))
    }

    /// A positive decimal number without a sign or a leading zero.
    #[must_use]
    pub fn number(text: &str) -> Option<Self> {
        number(text).map(Self::Number)
    }
}

/// As it enters ids: lower case with hyphens, or decimal.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => uuid.hyphenated().fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// A positive decimal number without a sign or a leading zero.
pub(crate) fn number(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|it| it.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| canonical)
}

/// Whether a text may be the name of something, as it enters ids.
fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic())
}

/// What is said of a job, unchecked. It is also the `context` of a build event, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// The instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The workflow, pipeline or run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Which try of the run it is, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// The project's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The branch or tag, also as `refs/heads/main`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub ref_name: Option<String>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The root pipeline of a child pipeline, for native ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_id: Option<String>,
    /// The delivery of the code host that began the run, where the trace is that delivery's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The run above this one, where the trace is that run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<String>,
    /// The step of the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

impl Claim {
    /// The claim in a path of two segments, `{run}/{job}`.
    pub(crate) fn of_run_and_job(segments: &[&str]) -> Option<Self> {
        let [run, job] = segments else { return None };
        Some(Self {
            run_id: Some((*run).to_owned()),
            job_id: Some((*job).to_owned()),
            ..Self::default()
        })
    }
}

/// A claim that names no job: which field, and what to type there.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{expected}")]
pub struct BadJob {
    /// The field of the claim, as the context of an event names it.
    pub field: &'static str,
    /// What to type.
    pub expected: &'static str,
}

/// A job, or a run of which the job is not known, with checked ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Whose it is.
    pub provider: Provider,
    /// The instance, unless it is the configured one.
    pub host: Option<Host>,
    /// The project's path, such as `acme/web/shop`.
    pub project: Option<String>,
    /// The project's id, which outlives a new name. Only a token tells it.
    pub project_id: Option<String>,
    /// The workflow, pipeline or run.
    pub run: Key,
    /// The job.
    pub job: Option<Key>,
    /// Which try of the run it is, from 1, where the provider counts them.
    pub attempt: Option<u64>,
    /// The root pipeline of a child pipeline.
    pub root: Option<u64>,
    /// The branch or tag, also as `refs/heads/main`.
    pub ref_name: Option<String>,
    /// The commit.
    pub revision: Option<String>,
    /// The delivery of the code host that began the run.
    pub event: Option<String>,
    /// The run above this one.
    pub above: Option<String>,
    /// The step of the job.
    pub step: Option<String>,
}

/// Where a job's run is: its trace, and the spans of the run and of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The run's trace.
    pub trace: TraceId,
    /// The run's span.
    pub run: SpanId,
    /// The job's span, where the job is known.
    pub job: Option<SpanId>,
}

impl Place {
    /// The span that what the job does hangs under.
    #[must_use]
    pub fn span(&self) -> SpanId {
        self.job.unwrap_or(self.run)
    }
}

impl Job {
    /// Checks a claim strictly: ids in their provider's form, nothing else. A claim without a run
    /// is none.
    pub fn new(provider: Provider, claim: &Claim) -> Result<Self, BadJob> {
        let shape = provider.room().job;
        let key = |text: &Option<String>, field, expected| match text {
            None => Ok(None),
            Some(text) => (shape.key)(text).map(Some).ok_or(BadJob { field, expected }),
        };
        let decimal = |text: &Option<String>, field, expected| match text {
            None => Ok(None),
            Some(text) => number(text).map(Some).ok_or(BadJob { field, expected }),
        };
        let name = |text: &Option<String>, field| match text {
            Some(it) if !is_name(it) => {
                Err(BadJob { field, expected: "use printable ASCII characters, 253 at most" })
            }
            text => Ok(text.clone()),
        };
        let no_run = BadJob { field: "run_id", expected: shape.run };
        let host = claim.host.as_deref().map(Host::parse).transpose().map_err(|_| BadJob {
            field: "host",
            expected: "use a host name, with its port if it has one",
        })?;
        Ok(Self {
            provider,
            host,
            project: claim.project.clone(),
            project_id: None,
            run: key(&claim.run_id, "run_id", shape.run)?.ok_or(no_run)?,
            job: key(&claim.job_id, "job_id", shape.job)?,
            attempt: decimal(&claim.attempt, "attempt", shape.attempt)?,
            root: decimal(&claim.root_id, "root_id", "use the number of the root pipeline")?,
            ref_name: claim.ref_name.clone(),
            revision: claim.revision.clone(),
            event: name(&claim.event, "event")?,
            above: name(&claim.above, "above")?,
            step: name(&claim.step, "step")?,
        })
    }

    /// Whether what is said of a job fits the one that a token proves: its run, its attempt, and no
    /// other job. Not every token knows its job.
    #[must_use]
    pub fn is_told_by(&self, token: &Self) -> bool {
        let same_run = (self.provider, self.attempt) == (token.provider, token.attempt)
            && self.run == token.run;
        same_run && (self.job.is_none() || token.job.is_none() || self.job == token.job)
    }

    /// The ids of its trace and spans, which need not exist yet.
    #[must_use]
    pub fn place(&self, settings: &Settings) -> Place {
        (self.provider.room().job.place)(self, settings)
    }

    /// The project of that path at its instance, as rules name it.
    #[must_use]
    pub fn project_of(&self, path: &str, settings: &Settings) -> Project {
        match (self.provider.room().host)(settings) {
            // CircleCI's slug begins with the code host, which a job does not tell.
            None => Project::named(path),
            Some(host) => Project::new(self.host.as_ref().unwrap_or(host).as_str(), path),
        }
    }
}

/// How jobs of one provider are told; a drawer of its [`Room`](crate::provider::Room).
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Reads the id of a run or a job.
    pub key: fn(&str) -> Option<Key>,
    /// What to type as the id of a run.
    pub run: &'static str,
    /// What to type as the id of a job.
    pub job: &'static str,
    /// What to type as the number of the attempt.
    pub attempt: &'static str,
    /// What they are together, for who asks at the traceparent endpoint.
    pub ids: &'static str,
    /// The path of the traceparent endpoint behind the provider's name, for people.
    pub path: &'static str,
    /// The ids of some job in such a path, which need not exist.
    pub example: &'static [&'static str],
    /// The claim in such a path's segments; none where there are too few or too many.
    pub segments: fn(&[&str]) -> Option<Claim>,
    /// What a running job's environment says; none where it is no job of this provider.
    pub environment: fn(&crate::settings::Vars) -> Option<Claim>,
    /// The variables with the run's id, which is the correlation id unless there is another.
    pub run_variable: &'static str,
    /// Its spans.
    pub place: fn(&Job, &Settings) -> Place,
    /// What a verified token's payload says, strictly: none where a claim is missing or odd. With
    /// the project's id.
    pub claims: fn(&[u8]) -> Option<(Claim, String)>,
}

impl Shape {
    /// That of a provider whose jobs another one tells: none can be named here.
    pub(crate) const TOLD_ELSEWHERE: Self = Self {
        key: |_| None,
        run: "name the job as its own provider does",
        job: "name the job as its own provider does",
        attempt: "use the number of the attempt, from 1",
        ids: "name the job as its own provider does",
        path: "",
        example: &[],
        segments: |_| None,
        environment: |_| None,
        run_variable: "",
        place: |job, _| {
            let host = job.host.as_ref().map(Host::as_str).unwrap_or_default();
            let ids = Hashed::new(job.provider.as_str(), host);
            Place { trace: ids.trace(&job.run.to_string()), run: ids.span("run", &[]), job: None }
        },
        claims: |_| None,
    };
}

/// Claims of tokens, and how strictly they are read.
pub(crate) mod claim {
    use serde::{Deserialize, Deserializer, de::Error as _};

    use crate::project::Project;

    /// The longest reference that is kept, in bytes.
    const MAX_NAME: usize = 1024;

    /// Text. Ids come as text, and from some versions as numbers.
    pub(crate) struct Text(pub(crate) String);

    impl<'de> Deserialize<'de> for Text {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            match serde_json::Value::deserialize(deserializer)? {
                serde_json::Value::String(text) => Ok(Self(text)),
                serde_json::Value::Number(number) => Ok(Self(number.to_string())),
                _ => Err(D::Error::custom("neither text nor a number")),
            }
        }
    }

    /// `owner/name`, at GitLab with groups between them.
    pub(crate) fn repository(text: Option<&Text>) -> Option<String> {
        let path = &text?.0;
        (path.contains('/') && Project::is_name(path)).then(|| path.clone())
    }

    pub(crate) fn reference(text: Option<&Text>) -> Option<String> {
        let text = &text?.0;
        let plain = !text.is_empty() && text.len() <= MAX_NAME && !text.contains(char::is_control);
        plain.then(|| text.clone())
    }

    /// A SHA-1 or SHA-256 in hex.
    pub(crate) fn revision(text: Option<&Text>) -> Option<String> {
        let text = &text?.0;
        let hex = text.bytes().all(|it| it.is_ascii_hexdigit());
        (hex && matches!(text.len(), 40 | 64)).then(|| text.to_ascii_lowercase())
    }

    pub(crate) fn decimal(text: Option<&Text>) -> Option<String> {
        super::number(&text?.0).map(|it| it.to_string())
    }

    /// With hyphens: the other forms that a UUID may have are none of `CircleCI`'s.
    pub(crate) fn uuid(text: Option<&Text>) -> Option<String> {
        let text = &text?.0;
        let key = super::Key::uuid(text).filter(|_| text.len() == 36)?;
        Some(key.to_string())
    }
}
