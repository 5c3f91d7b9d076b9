//! `spanhook event`: posts what a job knows of its build.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read, stdin},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use spanhook_core::{
    settings::{Vars, var},
    time,
};
use spanhook_export::{clock::Clock, environment};
use thiserror::Error;

use super::{
    ci::{self, CORRELATION_ID, Context},
    report::{HELP, Posting},
};
use crate::terminal::{Failure, failure};

#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Event {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// How the build ended, and how long it took
    Build(Build),
    /// The size of something that was built
    Artifact(Artifact),
    /// A number, as a metric
    Measure(Measure),
    /// A moment, as a span and a log record
    Mark(Mark),
    /// Events of your own, as JSON
    Raw(Raw),
}

#[derive(Args, Debug)]
struct Build {
    /// How it ended, else what GitLab says of the job (in its after-script)
    #[arg(long)]
    status: Option<Status>,
    /// How long it took, else the time since the pipeline was created, or the job began (GitLab)
    #[arg(long, value_name = "SECONDS", value_parser = amount)]
    duration: Option<f64>,
    #[command(flatten)]
    posting: Posting,
}

#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Status {
    Success,
    // GitHub's `job.status` has the other names.
    #[value(alias = "failure")]
    Failed,
    #[value(alias = "cancelled")]
    Canceled,
}

#[derive(Args, Debug)]
struct Artifact {
    /// Its name, else that of the file
    #[arg(long, required_unless_present = "file")]
    name: Option<String>,
    /// Take size and digest from this file
    #[arg(long, value_name = "PATH", required_unless_present = "size")]
    file: Option<PathBuf>,
    /// Its size
    #[arg(long, value_name = "BYTES", conflicts_with = "file")]
    size: Option<u64>,
    /// Its SHA-256
    #[arg(long, value_name = "HEX", conflicts_with = "file")]
    digest: Option<String>,
    /// What tells it from others of its name, such as release or arm64
    #[arg(long)]
    variant: Option<String>,
    /// Its version
    #[arg(long)]
    version: Option<String>,
    /// The size of one of its parts; may be repeated
    #[arg(long, value_name = "PART=BYTES", value_parser = part)]
    breakdown: Vec<(String, u64)>,
    #[command(flatten)]
    posting: Posting,
}

#[derive(Args, Debug)]
struct Measure {
    /// Name of the metric, such as build.cache.hits
    name: String,
    /// Its value now
    #[arg(value_parser = number, allow_negative_numbers = true)]
    value: f64,
    /// Its unit, such as s, By or {test}
    #[arg(long)]
    unit: Option<String>,
    /// What it belongs to; may be repeated
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    #[command(flatten)]
    posting: Posting,
}

#[derive(Args, Debug)]
struct Mark {
    /// Name of the moment, such as deployed
    name: String,
    /// What is known of it; may be repeated
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    #[command(flatten)]
    posting: Posting,
}

#[derive(Args, Debug)]
struct Raw {
    /// One JSON event or an array of them; - is standard input
    file: PathBuf,
    #[command(flatten)]
    posting: Posting,
}

/// An event that could not be made.
#[derive(Debug, Error)]
pub(crate) enum EventError {
    #[error("no id of this CI run; {}", CORRELATION_ID.expected)]
    NoId,
    #[error("it is not known how long the build took; give --duration SECONDS")]
    NoDuration,
    #[error("{file} can't be read ({reason}); give the path of a file")]
    Unreadable { file: String, reason: io::ErrorKind },
    #[error("{file} holds no JSON event and no array of them")]
    NotEvents { file: String },
    #[error("the event can't be written as JSON")]
    NotJson,
}

impl Event {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let vars = environment();
        let (posting, body) = match self.kind {
            Kind::Build(it) => (it.posting, it.body(&vars)),
            Kind::Artifact(it) => (it.posting, it.body(&vars)),
            Kind::Measure(Measure { name, value, unit, attributes, posting }) => {
                let attributes: BTreeMap<_, _> = attributes.into_iter().collect();
                let fields =
                    json!({ "name": name, "value": value, "unit": unit, "attributes": attributes });
                (posting, one("measure", fields, &vars))
            }
            Kind::Mark(Mark { name, attributes, posting }) => {
                let attributes: BTreeMap<_, _> = attributes.into_iter().collect();
                (posting, one("mark", json!({ "name": name, "attributes": attributes }), &vars))
            }
            Kind::Raw(it) => (it.posting, it.body(&vars)),
        };
        posting.post(&vars, body.map_err(failure)).await
    }
}

impl Build {
    fn body(&self, vars: &Vars) -> Result<String, EventError> {
        // In `script` GitLab says "running", which is no end.
        let told = || Status::from_str(var(vars, "CI_JOB_STATUS")?, true).ok();
        let duration = self.duration.or_else(|| elapsed(vars, Clock::SYSTEM));
        let fields = json!({
            "job_status": self.status.or_else(told),
            "metrics": { "duration_seconds": duration.ok_or(EventError::NoDuration)? },
        });
        one("ci_build_metadata", fields, vars)
    }
}

/// Seconds since the pipeline was created, else since the job began.
fn elapsed(vars: &Vars, clock: Clock) -> Option<f64> {
    let begun = ["CI_PIPELINE_CREATED_AT", "CI_JOB_STARTED_AT"]
        .iter()
        .find_map(|name| time::parse(var(vars, name)?))?;
    let nanos = clock.nanos().saturating_sub(begun);
    // To the millisecond: clocks of two machines do not agree on more.
    Some(std::time::Duration::from_millis(nanos / 1_000_000).as_secs_f64())
}

impl Artifact {
    fn body(self, vars: &Vars) -> Result<String, EventError> {
        let (size, digest) = match &self.file {
            Some(file) => {
                let (size, digest) = measure(file).map_err(|error| unreadable(file, &error))?;
                (Some(size), Some(digest))
            }
            None => (self.size, self.digest),
        };
        let file_name = || Some(self.file.as_ref()?.file_name()?.to_string_lossy().into_owned());
        let breakdown: BTreeMap<_, _> = self.breakdown.into_iter().collect();
        let fields = json!({
            "name": self.name.or_else(file_name),
            "size_bytes": size,
            "digest": digest,
            "variant": self.variant,
            "version": self.version,
            "breakdown": breakdown,
        });
        one("artifact", fields, vars)
    }
}

/// Size and SHA-256 of a file that may be larger than the memory.
fn measure(file: &Path) -> io::Result<(u64, String)> {
    let mut reader = BufReader::with_capacity(64 * 1024, File::open(file)?);
    let (mut size, mut hash) = (0, Sha256::new());
    loop {
        let part = reader.fill_buf()?;
        if part.is_empty() {
            break;
        }
        hash.update(part);
        let taken = part.len();
        size += taken as u64;
        reader.consume(taken);
    }
    Ok((size, hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

impl Raw {
    fn body(&self, vars: &Vars) -> Result<String, EventError> {
        let mut bytes = Vec::new();
        let read = if self.file == Path::new("-") {
            stdin().lock().read_to_end(&mut bytes)
        } else {
            File::open(&self.file).and_then(|mut file| file.read_to_end(&mut bytes))
        };
        read.map_err(|error| unreadable(&self.file, &error))?;
        let not_events = || EventError::NotEvents { file: self.file.display().to_string() };
        let mut json: Value = serde_json::from_slice(&bytes).map_err(|_| not_events())?;
        let events = match &mut json {
            Value::Array(events) => events.as_mut_slice(),
            event => std::slice::from_mut(event),
        };
        let context = Context::read(vars);
        for event in events {
            let fields = event.as_object_mut().ok_or_else(not_events)?;
            let given = [
                ("correlation_id", json!(ci::correlation_id(vars))),
                ("project", json!(ci::project(vars, &context))),
                ("context", json!(context)),
            ];
            for (name, value) in given {
                if !value.is_null() && fields.get(name).is_none_or(Value::is_null) {
                    fields.insert(name.to_owned(), value);
                }
            }
        }
        Ok(json.to_string())
    }
}

fn unreadable(file: &Path, error: &io::Error) -> EventError {
    EventError::Unreadable { file: file.display().to_string(), reason: error.kind() }
}

/// What events of every type have in common.
#[derive(Debug, Serialize)]
pub(crate) struct Envelope<T> {
    timestamp: String,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    #[serde(flatten)]
    pub(crate) fields: T,
    context: Context,
}

impl<T> Envelope<T> {
    /// An event of now; refused when it would belong to no build.
    pub(crate) fn new(r#type: &'static str, fields: T, vars: &Vars) -> Result<Self, EventError> {
        let context = Context::read(vars);
        let correlation_id = ci::correlation_id(vars);
        if correlation_id.is_none() && !context.is_placed() {
            return Err(EventError::NoId);
        }
        let now = i128::from(Clock::SYSTEM.nanos());
        let now = Timestamp::from_nanosecond(now).unwrap_or_default();
        Ok(Self {
            timestamp: format!("{now:.3}"),
            r#type,
            correlation_id,
            project: ci::project(vars, &context),
            fields,
            context,
        })
    }
}

fn one(r#type: &'static str, fields: Value, vars: &Vars) -> Result<String, EventError> {
    let mut fields = fields;
    if let Some(fields) = fields.as_object_mut() {
        fields.retain(|_, value| {
            !value.is_null() && !value.as_object().is_some_and(serde_json::Map::is_empty)
        });
    }
    let event = Envelope::new(r#type, fields, vars)?;
    serde_json::to_string(&event).map_err(|_| EventError::NotJson)
}

fn pair(text: &str) -> Option<(String, &str)> {
    let (name, value) = text.split_once('=')?;
    (!name.is_empty()).then(|| (name.to_owned(), value))
}

fn attribute(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = pair(text).ok_or("use NAME=VALUE")?;
    Ok((name, value.to_owned()))
}

fn part(text: &str) -> Result<(String, u64), &'static str> {
    let part = || {
        let (name, size) = pair(text)?;
        Some((name, size.parse().ok()?))
    };
    part().ok_or("use PART=BYTES, with a whole number of bytes")
}

fn number(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|it: &f64| it.is_finite()).ok_or("use a number, such as 0.87")
}

fn amount(text: &str) -> Result<f64, &'static str> {
    number(text).ok().filter(|it| *it >= 0.0).ok_or("use a number of seconds, such as 61.5")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn the_time_of_a_build_is_that_of_its_pipeline_and_else_of_its_job() {
        let clock = Clock::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let vars = |vars: &[(&str, &str)]| -> Vars {
            vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let job = ("CI_JOB_STARTED_AT", "2027-01-15T07:59:00Z");
        let pipeline = ("CI_PIPELINE_CREATED_AT", "2027-01-15T07:50:00Z");
        let seconds = |given: &[(&str, &str)]| elapsed(&vars(given), clock);
        assert_eq!(seconds(&[job, pipeline]), Some(600.0));
        assert_eq!(seconds(&[job]), Some(60.0));
        assert_eq!(seconds(&[("CI_JOB_STARTED_AT", "2100-01-01T00:00:00Z")]), Some(0.0));
        assert_eq!(seconds(&[]), None);
    }

    #[test]
    fn pairs_and_numbers_of_the_command_line_are_checked() {
        assert_eq!(attribute("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(part("dex=12"), Ok(("dex".to_owned(), 12)));
        assert!(attribute("=b").is_err() && attribute("a").is_err());
        assert!(part("dex=-1").is_err() && part("dex=1.5").is_err());
        assert!(number("-1.5").is_ok() && number("inf").is_err() && number("NaN").is_err());
        assert!(amount("0").is_ok() && amount("-1").is_err());
    }
}
