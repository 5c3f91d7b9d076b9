//! Trace and span ids that follow from the run itself.
//!
//! `id = SHA-256(concatenation of netstrings)`, where a netstring is `{byte length}:{bytes},`.
//! Netstrings keep fields from running together (run 1 attempt 11 is not run 11 attempt 1), the
//! host keeps two instances apart, and hashing keeps ratio samplers honest: they read the low bits
//! of the trace id, which in a raw UUID or a counter are far from random.
//!
//! `docs/ids.md` shows how to compute an id with `printf` and `sha256sum`.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The first field of every id: a new way of deriving ids gets a new one.
const VERSION: &str = "spanhook/1";

/// A trace id: 16 bytes, never all zero.
///
/// <https://www.w3.org/TR/trace-context/#trace-id>
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId([u8; 16]);

/// A span id: 8 bytes, never all zero.
///
/// <https://www.w3.org/TR/trace-context/#parent-id>
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId([u8; 8]);

macro_rules! id_type {
    ($name:ident, $len:literal) => {
        impl $name {
            /// Takes the bytes as they are, unless they are all zero, which is no valid id.
            #[must_use]
            pub fn new(bytes: [u8; $len]) -> Option<Self> {
                (bytes != [0; $len]).then_some(Self(bytes))
            }

            /// The bytes, in the order in which they go on the wire.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first bytes of a digest. A digest that starts with zeros (one in 2^64 at best)
            /// still gives a valid id.
            fn from_digest(digest: &[u8]) -> Self {
                let mut bytes = [0; $len];
                bytes.copy_from_slice(&digest[..$len]);
                if bytes == [0; $len] {
                    bytes[$len - 1] = 1;
                }
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id_type!(TraceId, 16);
id_type!(SpanId, 8);

/// How ids are derived (`TRACE_IDS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceIds {
    /// Our own: a hash of provider, instance host and run. The default.
    #[default]
    Hashed,
    /// As circleci-hook and GitLab derive them, to share a trace with what they emit.
    Native,
}

/// Which of GitLab's own span ids a job span takes in [`TraceIds::Native`] mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GitlabJobKind {
    /// The id in `CI_TRACEPARENT` today.
    #[default]
    Default,
    /// The id of the job span that GitLab exports itself; `CI_TRACEPARENT` is to follow it.
    Export,
}

impl GitlabJobKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Export => "export",
        }
    }
}

fn digest<'a>(fields: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for field in fields {
        let mut length = [0; 20];
        hash.update(decimal(field.len() as u64, &mut length));
        hash.update(b":");
        hash.update(field);
        hash.update(b",");
    }
    hash.finalize().into()
}

/// Decimal digits without an allocation: ids of 10,000 jobs are hashed in one event.
fn decimal(mut value: u64, buffer: &mut [u8; 20]) -> &str {
    let mut start = buffer.len();
    loop {
        start -= 1;
        // A remainder of ten always fits.
        buffer[start] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    std::str::from_utf8(&buffer[start..]).unwrap_or("0")
}

/// Hashed ids of one provider's instance.
#[derive(Clone, Copy, Debug)]
pub struct Hashed<'a> {
    provider: &'a str,
    host: &'a str,
}

impl<'a> Hashed<'a> {
    /// `host` is lower case, without a scheme, with its port when that is not the default one.
    #[must_use]
    pub fn new(provider: &'a str, host: &'a str) -> Self {
        Self { provider, host }
    }

    /// The trace of a run.
    #[must_use]
    pub fn trace(&self, run: &str) -> TraceId {
        TraceId::from_digest(&digest([VERSION, self.provider, self.host, "trace", run]))
    }

    /// A span: its kind (`run`, `job`, `stage`, `queue`, `ping`) and its own keys.
    #[must_use]
    pub fn span(&self, kind: &str, keys: &[&str]) -> SpanId {
        let prefix = [VERSION, self.provider, self.host, kind];
        SpanId::from_digest(&digest(prefix.into_iter().chain(keys.iter().copied())))
    }
}

/// The ids of one CircleCI workflow and its jobs.
#[derive(Clone, Copy, Debug)]
pub struct CircleciIds<'a> {
    scheme: TraceIds,
    hashed: Hashed<'a>,
}

impl<'a> CircleciIds<'a> {
    /// `host` is the instance, `circleci.com` unless the server is self-hosted.
    #[must_use]
    pub fn new(scheme: TraceIds, host: &'a str) -> Self {
        Self { scheme, hashed: Hashed::new("circleci", host) }
    }

    /// The trace of a workflow; natively, the 16 bytes of its UUID.
    #[must_use]
    pub fn trace(&self, workflow: &str) -> TraceId {
        self.native(workflow)
            .and_then(|uuid| TraceId::new(uuid.into_bytes()))
            .unwrap_or_else(|| self.hashed.trace(workflow))
    }

    /// The span of a workflow; natively, the first 8 bytes of its UUID.
    #[must_use]
    pub fn run(&self, workflow: &str) -> SpanId {
        self.span("run", workflow)
    }

    /// The span of a job; natively, the first 8 bytes of its UUID.
    #[must_use]
    pub fn job(&self, job: &str) -> SpanId {
        self.span("job", job)
    }

    /// The span of a ping, in a trace of the same event id.
    #[must_use]
    pub fn ping(&self, event: &str) -> SpanId {
        self.span("ping", event)
    }

    fn span(&self, kind: &str, id: &str) -> SpanId {
        self.native(id)
            .and_then(|uuid| SpanId::new(first_eight(uuid.as_bytes())))
            .unwrap_or_else(|| self.hashed.span(kind, &[id]))
    }

    fn native(&self, id: &str) -> Option<Uuid> {
        (self.scheme == TraceIds::Native).then(|| Uuid::try_parse(id).ok()).flatten()
    }
}

/// The ids of one GitLab pipeline, its stages and jobs.
///
/// Native ids follow `lib/gitlab/ci/trace_context.rb`; what has none there (stages, queue times)
/// keeps the hashed span id within the native trace.
#[derive(Clone, Copy, Debug)]
pub struct GitlabIds<'a> {
    scheme: TraceIds,
    kind: GitlabJobKind,
    hashed: Hashed<'a>,
    /// The top of the pipeline's hierarchy within its project, which natively names the trace.
    root: u64,
    pipeline: u64,
}

impl<'a> GitlabIds<'a> {
    /// `root` is the pipeline itself unless it is a child pipeline.
    #[must_use]
    pub fn new(
        scheme: TraceIds,
        kind: GitlabJobKind,
        host: &'a str,
        root: u64,
        pipeline: u64,
    ) -> Self {
        Self { scheme, kind, hashed: Hashed::new("gitlab", host), root, pipeline }
    }

    /// The pipeline's trace; natively `%032x` of the root pipeline's id.
    #[must_use]
    pub fn trace(&self) -> TraceId {
        self.native(|| TraceId::new(u128::from(self.root).to_be_bytes()))
            .unwrap_or_else(|| self.hashed.trace(decimal(self.pipeline, &mut [0; 20])))
    }

    /// The pipeline's span; natively `SHA-256("pipeline:{root}:{pipeline}")`.
    #[must_use]
    pub fn run(&self) -> SpanId {
        self.native(|| Some(hex_seed(&format!("pipeline:{}:{}", self.root, self.pipeline))))
            .unwrap_or_else(|| self.hashed.span("run", &[decimal(self.pipeline, &mut [0; 20])]))
    }

    /// A job's span; natively `SHA-256("{root}:{job}:{kind}")`.
    #[must_use]
    pub fn job(&self, job: u64) -> SpanId {
        self.native(|| Some(hex_seed(&format!("{}:{job}:{}", self.root, self.kind.as_str()))))
            .unwrap_or_else(|| self.hashed.span("job", &[decimal(job, &mut [0; 20])]))
    }

    /// The span of a trigger job; natively `%016x` of its id.
    #[must_use]
    pub fn bridge(&self, job: u64) -> SpanId {
        self.native(|| SpanId::new(job.to_be_bytes())).unwrap_or_else(|| self.job(job))
    }

    /// A stage's span.
    #[must_use]
    pub fn stage(&self, stage: &str) -> SpanId {
        self.hashed.span("stage", &[decimal(self.pipeline, &mut [0; 20]), stage])
    }

    /// The span of the time that a job waited for a runner.
    #[must_use]
    pub fn queue(&self, job: u64) -> SpanId {
        self.hashed.span("queue", &[decimal(job, &mut [0; 20])])
    }

    /// The span of a job that the payload gives no id, by what names it within the pipeline.
    #[must_use]
    pub fn unnumbered(&self, kind: &str, stage: &str, name: &str) -> SpanId {
        self.hashed.span(kind, &[decimal(self.pipeline, &mut [0; 20]), stage, name])
    }

    fn native<T>(&self, id: impl FnOnce() -> Option<T>) -> Option<T> {
        (self.scheme == TraceIds::Native).then(id).flatten()
    }
}

fn hex_seed(seed: &str) -> SpanId {
    SpanId::from_digest(&Sha256::digest(seed))
}

fn first_eight(bytes: &[u8; 16]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    first
}

/// The W3C `traceparent` of a span, with the sampled flag or without.
///
/// <https://www.w3.org/TR/trace-context/#traceparent-header>
#[must_use]
pub fn traceparent(trace: TraceId, span: SpanId, sampled: bool) -> String {
    format!("00-{trace}-{span}-{:02x}", u8::from(sampled))
}

/// The trace and the parent span of a W3C `traceparent`, unless it is invalid. A version after
/// `00` may say more behind the flags, which is left alone.
///
/// <https://www.w3.org/TR/trace-context/#versioning-of-traceparent>
#[must_use]
pub fn parse_traceparent(text: &str) -> Option<(TraceId, SpanId)> {
    let mut parts = text.split('-');
    let mut part = |length: usize| {
        let digit = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
        parts.next().filter(|it| it.len() == length && it.bytes().all(digit))
    };
    let (version, trace, span, _flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    if version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    let (mut trace_bytes, mut span_bytes) = ([0; 16], [0; 8]);
    hex::decode_to_slice(trace, &mut trace_bytes).ok()?;
    hex::decode_to_slice(span, &mut span_bytes).ok()?;
    Some((TraceId::new(trace_bytes)?, SpanId::new(span_bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_it_was_written() {
        let (trace, span) = parse_traceparent(VALID).unwrap();
        assert_eq!(traceparent(trace, span, true), VALID);
        let later = format!("01{}-more", &VALID[2..]);
        assert_eq!(parse_traceparent(&later), Some((trace, span)));
    }

    #[test]
    fn an_invalid_traceparent_is_none() {
        for text in [
            "",
            "00",
            &VALID[..54],
            &format!("{VALID}-more"),
            &format!("ff{}", &VALID[2..]),
            &VALID.to_uppercase(),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse_traceparent(text), None, "{text}");
        }
    }
}
