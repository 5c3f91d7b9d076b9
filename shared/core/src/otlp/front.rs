//! What others send as OTLP, on its way into the queue: read, checked, judged, split.
//!
//! 1. `json` makes protobuf of JSON, within a bound, so that there is one way for both.
//! 2. `batch` takes the request apart, looks at each span, point and record once (`wire`, by the
//!    tables of `schema`), and leaves out what its [`Writer`] may not write. What is left stays as it
//!    came, byte for byte: fields of a newer OTLP arrive, but those of a request's outermost message,
//!    and in JSON those that have no number here.
//! 3. `producer` adds what makes a provider's own spans look like ours.
//! 4. [`Request::take`] asks the rules and puts what is left into messages, by trace.
//!
//! No decoder of a library is used: the owned types of `opentelemetry-proto` would drop what they do
//! not know, bring the SDK into this crate, and their reading of JSON refuses a value with a field
//! that is not known, where the specification has it ignored.
//!
//! <https://opentelemetry.io/docs/specs/otlp/>

mod answer;
mod batch;
mod body;
mod json;
mod producer;
mod rejects;
mod schema;
mod wire;

use std::collections::BTreeMap;

use thiserror::Error;

pub(crate) use self::producer::Producer;
pub use self::{
    answer::{Code, status, success},
    batch::MAX_ITEMS,
    body::Encoding,
    rejects::Rejects,
};
use self::{batch::Batch, rejects::Reason};
use super::{Signal, encode::split};
use crate::{
    id::TraceId,
    job::Job,
    message::Message,
    project::Project,
    rules::{Decision, ProjectRules},
    settings::Settings,
    time::Nanos,
};

/// The attribute `provider` of the messages.
pub const PROVIDER: &str = "otlp";

/// The most traces of a request that have messages of their own. Those of one with more share them,
/// so that a large request of tiny traces makes no flood of messages.
const MAX_TRACES: usize = 1_000;

/// Who sends, and so where it may write. Who may not write for every project and shows no job's
/// token may not write at all: an id does not tell whose run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer<'j> {
    /// A job whose token names its run: into the trace of that run, and no other.
    Job(&'j Job),
    /// A job that may write into every trace, such as one that sends for others.
    Free(&'j Job),
    /// One who may speak for every project.
    Trusted,
}

impl<'j> Writer<'j> {
    fn job(self) -> Option<&'j Job> {
        match self {
            Self::Job(job) | Self::Free(job) => Some(job),
            Self::Trusted => None,
        }
    }

    /// The project by whose rules it is judged; unknown where no token names one.
    fn project(self, settings: &Settings) -> Project {
        let path = |job: &'j Job| Some((job, job.project.as_deref()?));
        let named = self.job().and_then(path);
        named.map(|(job, path)| job.project_of(path, settings)).unwrap_or_default()
    }
}

/// What a request's address and headers say of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// By its path.
    pub signal: Signal,
    /// `Content-Type`
    pub encoding: Encoding,
}

/// What a request gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// What is to be queued.
    pub messages: Vec<Message>,
    /// How many spans, points or records are in it.
    pub count: usize,
    /// What was left out.
    pub rejects: Rejects,
}

/// A request of which nothing is taken. The texts are for the sender, and repeat nothing of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// It is larger than it may be.
    #[error("the body is too large; send fewer at once")]
    TooLarge,
    /// It holds more than [`MAX_ITEMS`].
    #[error("send at most {MAX_ITEMS} spans, points or records at once")]
    TooMany,
    /// It is no request of its signal.
    #[error("the body is no OTLP request for {}", .0.as_str())]
    NotOtlp(Signal),
    /// The JSON is none, or a field holds what it can't.
    #[error("the body is no OTLP request in JSON{}", near(.0))]
    Json(&'static str),
    /// Nothing is left of it.
    #[error("{0}")]
    Rejected(Rejects),
}

fn near(field: &str) -> String {
    match field {
        "" => String::new(),
        field => format!("; look at {field}: ids are hexadecimal, enums numbers"),
    }
}

impl Refused {
    /// What kind of mistake it is.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::TooLarge | Self::TooMany => Code::TooLarge,
            Self::Rejected(rejects) if rejects.any_forbidden() => Code::Forbidden,
            _ => Code::Invalid,
        }
    }
}

impl Request {
    /// Takes what the writer may write of a decompressed body, whose JSON may become `limit` bytes.
    /// `received`, in nanoseconds since the Unix epoch, stands in for times that are not there.
    pub fn take(
        self,
        body: &[u8],
        limit: usize,
        writer: Writer<'_>,
        received: Nanos,
        settings: &Settings,
        rules: &ProjectRules,
    ) -> Result<Taken, Refused> {
        let body = self.encoding.protobuf(body.into(), self.signal, limit)?;
        let project = writer.project(settings);
        let (batch, mut rejects) = Batch::read(&body, self.signal, writer, settings)?;
        let mut taken = Taken { messages: Vec::new(), count: 0, rejects: Rejects::default() };
        for (trace, items) in self.kept(&batch, &project, settings, rules) {
            let limits = settings.limits;
            let ended =
                items.iter().map(|it| it.end).max().filter(|it| *it > 0).unwrap_or(received);
            let write = |items: &[&batch::Item<'_>]| batch.request(items);
            split(&items, limits, &write, &mut |items, body| {
                let count = items.iter().map(|it| it.count).sum();
                if body.len() > limits.body {
                    return rejects.add(Reason::TooLarge, count);
                }
                let body = (limits.packing, body);
                let message = Message::otlp(self.signal, PROVIDER, &project, (count, ended), body);
                taken.count += count;
                taken.messages.push(match trace {
                    Some(trace) => message.of_trace(trace),
                    None => message,
                });
            });
        }
        // What the rules leave out is no mistake of the sender's, and is acknowledged.
        if batch.items.is_empty() && rejects.count() > 0 {
            return Err(Refused::Rejected(rejects));
        }
        taken.rejects = rejects;
        Ok(taken)
    }

    /// What the rules keep, by trace. Of a project that is sampled all metrics and logs are kept.
    fn kept<'b, 'a>(
        self,
        batch: &'b Batch<'a>,
        project: &Project,
        settings: &Settings,
        rules: &ProjectRules,
    ) -> Vec<(Option<TraceId>, Vec<&'b batch::Item<'a>>)> {
        if !rules.admit(project) {
            return Vec::new();
        }
        if self.signal != Signal::Traces {
            return vec![(None, batch.items.iter().collect())];
        }
        let mut traces: BTreeMap<Option<TraceId>, Vec<_>> = BTreeMap::new();
        for item in &batch.items {
            traces.entry(item.trace).or_default().push(item);
        }
        let ids = settings.trace_ids;
        traces.retain(|trace, _| {
            trace.is_none_or(|it| rules.decide(Some(project), it, ids) == Decision::Keep)
        });
        if traces.len() > MAX_TRACES {
            // In the order of the request, so that what is of one resource stays together.
            let keeps = |it: &&batch::Item<'_>| traces.contains_key(&it.trace);
            return vec![(None, batch.items.iter().filter(keeps).collect())];
        }
        traces.into_iter().collect()
    }
}
