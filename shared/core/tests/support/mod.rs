//! What the tests of several files do alike.
#![allow(dead_code, reason = "each file uses a part of it")]

use std::sync::LazyLock;

use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use spanhook_core::{
    delivery::{Delivery, Mapped, Unmappable},
    id::TraceIds,
    job::{Claim, Job, Place},
    message::{BODY_LIMIT, Content, Message, unpack},
    otlp::Signal,
    provider::{
        Provider,
        gitlab::{self, JobSpans},
    },
    settings::Settings,
};

static NO_HEADERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

/// A body as a delivery: the mappings so far read no header.
pub(crate) fn delivery(body: &[u8]) -> Delivery<'_> {
    Delivery { headers: &NO_HEADERS, body }
}

pub(crate) fn map<'a>(
    provider: Provider,
    body: &'a [u8],
    settings: &Settings,
) -> Result<Mapped<'a>, Unmappable> {
    (provider.room().map)(&delivery(body), settings)
}

pub(crate) fn with_ids(trace_ids: TraceIds) -> Settings {
    Settings { trace_ids, ..Settings::default() }
}

pub(crate) fn with_jobs(trace_ids: TraceIds, job_spans: JobSpans) -> Settings {
    let gitlab = gitlab::Settings { job_spans, ..gitlab::Settings::default() };
    Settings { gitlab, ..with_ids(trace_ids) }
}

/// A claim of a run, and of a job where it is not empty.
pub(crate) fn claim(run: &str, job: &str) -> Claim {
    let text = |it: &str| Some(it.to_owned()).filter(|it| !it.is_empty());
    Claim { run_id: text(run), job_id: text(job), ..Claim::default() }
}

pub(crate) fn place(provider: Provider, claim: &Claim, settings: &Settings) -> Place {
    Job::new(provider, claim).unwrap().place(settings)
}

/// The spans in a message, decoded by types that spanhook did not write.
pub(crate) fn request(message: &Message) -> ExportTraceServiceRequest {
    assert!(message.body.len() <= BODY_LIMIT, "{} bytes", message.body.len());
    let get = |name: &str| message.attributes.get(name).map(String::as_str);
    match unpack(&message.body, get("encoding"), get("signal")).unwrap() {
        Content::Otlp(Signal::Traces, raw) => ExportTraceServiceRequest::decode(&*raw).unwrap(),
        other => panic!("no spans: {other:?}"),
    }
}
