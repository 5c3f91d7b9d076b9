//! Fields of an event, checked one by one.

use serde::Deserialize;
use serde_json::Value;

use super::{BadEvents, MAX_ATTRIBUTES, MAX_TEXT, private};
use crate::{
    id::{SpanId, TraceId, parse_traceparent},
    job::{BadJob, Claim, Job},
    lenient::{Int, Number},
    otlp::span::Attributes,
    provider::Provider,
    time::{self, Nanos, SECOND},
};

pub(super) const TEXT: &str = "use text of at most 256 bytes";
pub(super) const BYTES: &str = "use a whole number of bytes, not negative";
pub(super) const COUNT: &str = "use a whole number, not negative";

const TYPE: &str =
    "use ci_build_metadata, webpack_build_stats, artifact, measure, mark or a name of your own";
const TIME: &str =
    "use RFC 3339 such as 2026-11-02T09:30:00Z, or seconds or milliseconds since 1970";

/// One event as it came.
#[derive(Clone, Copy)]
pub(super) struct Event<'j> {
    index: usize,
    pub(super) json: &'j Value,
    pub(super) r#type: &'j str,
}

/// The types that are checked and mapped field by field.
const KNOWN: [&str; 5] =
    ["ci_build_metadata", "webpack_build_stats", "artifact", "measure", "mark"];

impl<'j> Event<'j> {
    pub(super) fn new(index: usize, json: &'j Value) -> Result<Self, BadEvents> {
        if !json.is_object() {
            return Err(BadEvents::NotObject(index));
        }
        let r#type = json.get("type").and_then(Value::as_str).map(str::trim);
        let r#type = r#type.filter(|it| !it.is_empty() && it.len() <= MAX_TEXT);
        let r#type = r#type.ok_or(BadEvents::Field { index, path: "type", expected: TYPE })?;
        Ok(Self { index, json, r#type })
    }

    /// What is wrong at `path`. An event of an unknown type is kept whatever it holds: there what
    /// can't be read is absent.
    pub(super) fn refuse<T>(
        &self,
        path: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, BadEvents> {
        if KNOWN.contains(&self.r#type) { Err(self.bad(path, expected)) } else { Ok(None) }
    }

    pub(super) fn bad(&self, path: &'static str, expected: &'static str) -> BadEvents {
        BadEvents::Field { index: self.index, path, expected }
    }

    /// Where something of this event is, as errors name it.
    pub(super) fn path(&self, of: &str) -> String {
        format!("events[{}].{of}", self.index)
    }

    /// The value at a path of names with dots between them; null is absent.
    pub(super) fn get(&self, path: &str) -> Option<&'j Value> {
        path.split('.').try_fold(self.json, Value::get).filter(|it| !it.is_null())
    }

    /// A short text; a number is taken as it is written, and an empty text is absent.
    pub(super) fn text(&self, path: &'static str) -> Result<Option<String>, BadEvents> {
        match self.get(path) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= MAX_TEXT => {
                let text = private::without_credentials(text.trim());
                Ok(Some(text.into_owned()).filter(|it| !it.is_empty()))
            }
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => self.refuse(path, TEXT),
        }
    }

    /// A number, also when it is written as text.
    pub(super) fn number(
        &self,
        path: &'static str,
        expected: &'static str,
    ) -> Result<Option<f64>, BadEvents> {
        let Some(json) = self.get(path) else { return Ok(None) };
        match Number::deserialize(json) {
            Ok(Number(Some(number))) => Ok(Some(number)),
            _ => self.refuse(path, expected),
        }
    }

    /// A number that must be there and not be negative.
    pub(super) fn amount(
        &self,
        path: &'static str,
        expected: &'static str,
    ) -> Result<f64, BadEvents> {
        let number = self.number(path, expected)?;
        number.filter(|it| *it >= 0.0).ok_or(self.bad(path, expected))
    }

    /// A whole number that is not negative, also when it is written as text.
    pub(super) fn count(
        &self,
        path: &'static str,
        expected: &'static str,
    ) -> Result<Option<u64>, BadEvents> {
        let Some(json) = self.get(path) else { return Ok(None) };
        match Int::deserialize(json) {
            Ok(Int(Some(count))) => Ok(Some(count)),
            _ => self.refuse(path, expected),
        }
    }

    /// `timestamp`, in nanoseconds since the Unix epoch.
    pub(super) fn time(&self) -> Result<Option<Nanos>, BadEvents> {
        let Some(json) = self.get("timestamp") else { return Ok(None) };
        let read = match json {
            Value::String(text) if text.trim().is_empty() => return Ok(None),
            Value::String(text) => time::parse(text).or_else(|| epoch(json)),
            _ => epoch(json),
        };
        read.map_or_else(|| self.refuse("timestamp", TIME), |it| Ok(Some(it)))
    }

    /// `attributes`, without what is private.
    pub(super) fn attributes(&self) -> Result<Attributes<'static>, BadEvents> {
        const PATH: &str = "attributes";
        let mut attributes = Attributes::default();
        let Some(json) = self.get(PATH) else { return Ok(attributes) };
        let fields = json.as_object().ok_or(self.bad(PATH, "use an object"))?;
        if fields.len() > MAX_ATTRIBUTES {
            return Err(self.bad(PATH, "use at most 64 attributes"));
        }
        for (key, value) in fields {
            if key.is_empty() || key.len() > MAX_TEXT {
                return Err(self.bad(PATH, "use names of 1 to 256 bytes"));
            }
            if private::is_personal(key) {
                continue;
            }
            let key = key.clone();
            match value {
                Value::Null => {}
                _ if private::is_secret(&key) => attributes.set(key, private::BLANK),
                Value::Bool(it) => attributes.set(key, *it),
                Value::String(it) => {
                    attributes.set(key, private::without_credentials(it).into_owned());
                }
                Value::Number(it) => match (it.as_i64(), it.as_u64()) {
                    (Some(it), _) => attributes.set(key, it),
                    (None, Some(it)) => attributes.set(key, it),
                    (None, None) => attributes.set(key, it.as_f64()),
                },
                _ => return Err(self.bad(PATH, "use text, a number, true or false as a value")),
            }
        }
        Ok(attributes)
    }

    /// `context`: the job that sent the event, as it says itself.
    pub(super) fn context(&self) -> Result<Origin, BadEvents> {
        if self.get("context").is_some_and(|it| !it.is_object()) {
            return Ok(self.refuse("context", "use an object")?.unwrap_or_default());
        }
        let provider = match self.text("context.provider")? {
            None => None,
            Some(name) => match Provider::named(&name) {
                None => self.refuse("context.provider", Provider::EXPECTED)?,
                provider => provider,
            },
        };
        let traceparent = self.get("context.traceparent").and_then(Value::as_str);
        let claim = Claim {
            host: self.text("context.host")?,
            run_id: self.text("context.run_id")?,
            job_id: self.text("context.job_id")?,
            attempt: self.text("context.attempt")?,
            project: self.text("context.project")?,
            ref_name: self.text("context.ref")?,
            revision: self.text("context.revision")?,
            root_id: self.text("context.root_id")?,
            event: self.text("context.event")?,
            above: self.text("context.above")?,
            step: self.text("context.step")?,
        };
        let named = provider.filter(|_| claim.run_id.is_some());
        Ok(Origin {
            job: named.map(|provider| Job::new(provider, &claim)),
            run_id: claim.run_id,
            project: claim.project,
            ref_name: claim.ref_name,
            revision: claim.revision,
            traceparent: traceparent
                .and_then(|it| parse_traceparent(it.trim()))
                .map(|(trace, span, _)| (trace, span)),
        })
    }
}

/// Seconds since 1970 up to the year 2500, which are milliseconds of January 1970; or milliseconds.
fn epoch(json: &Value) -> Option<Nanos> {
    const SECONDS: f64 = 1.7e10;
    const MILLI: Nanos = SECOND / 1000;
    if let Ok(Int(Some(whole))) = Int::deserialize(json) {
        let unit = if whole < 17_000_000_000 { SECOND } else { MILLI };
        return whole.checked_mul(unit).filter(|it| *it > 0);
    }
    let Number(number) = Number::deserialize(json).ok()?;
    let number = number.filter(|it| *it > 0.0 && *it < SECONDS * 1000.0)?;
    let seconds = if number < SECONDS { number } else { number / 1000.0 };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and below 2^64 as nanoseconds"
    )]
    Some((seconds * 1e9) as Nanos)
}

/// The job that an event comes from, proved or claimed.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    /// The run, and the job if it is known; none when no run is named.
    pub(super) job: Option<Result<Job, BadJob>>,
    pub(super) run_id: Option<String>,
    pub(super) project: Option<String>,
    pub(super) ref_name: Option<String>,
    pub(super) revision: Option<String>,
    pub(super) traceparent: Option<(TraceId, SpanId)>,
}

impl Origin {
    /// Forgets which run it claims to be part of; whether it did.
    pub(super) fn leave_run(&mut self) -> bool {
        let joined = self.traceparent.take().is_some();
        // The run's id may still stand in for a correlation id.
        let named = self.job.take().is_some();
        joined || named
    }
}

impl From<&Job> for Origin {
    fn from(job: &Job) -> Self {
        Self {
            run_id: Some(job.run.to_string()),
            project: job.project.clone(),
            ref_name: job.ref_name.clone(),
            revision: job.revision.clone(),
            job: Some(Ok(job.clone())),
            traceparent: None,
        }
    }
}
