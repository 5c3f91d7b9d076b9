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
pub(crate) fn decimal(mut value: u64, buffer: &mut [u8; 20]) -> &str {
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
        self.trace_of(&[run])
    }

    /// A trace of several keys.
    #[must_use]
    pub fn trace_of(&self, keys: &[&str]) -> TraceId {
        let prefix = [VERSION, self.provider, self.host, "trace"];
        TraceId::from_digest(&digest(prefix.into_iter().chain(keys.iter().copied())))
    }

    /// A span: its kind (`run`, `job`, `stage`, `queue`, `ping`) and its own keys.
    #[must_use]
    pub fn span(&self, kind: &str, keys: &[&str]) -> SpanId {
        let prefix = [VERSION, self.provider, self.host, kind];
        SpanId::from_digest(&digest(prefix.into_iter().chain(keys.iter().copied())))
    }
}

/// The first 8 bytes of the SHA-256 of a text, as several providers derive span ids.
pub(crate) fn span_of(seed: &str) -> SpanId {
    SpanId::from_digest(&Sha256::digest(seed))
}

/// The W3C `traceparent` of a span, with the sampled flag or without.
///
/// <https://www.w3.org/TR/trace-context/#traceparent-header>
#[must_use]
pub fn traceparent(trace: TraceId, span: SpanId, sampled: bool) -> String {
    format!("00-{trace}-{span}-{:02x}", u8::from(sampled))
}

/// The trace, the parent span and the sampled flag of a W3C `traceparent`, unless it is invalid. A
/// version after `00` may say more behind the flags, which is left alone.
///
/// <https://www.w3.org/TR/trace-context/#versioning-of-traceparent>
#[must_use]
pub fn parse_traceparent(text: &str) -> Option<(TraceId, SpanId, bool)> {
    let mut parts = text.split('-');
    let mut part = |length: usize| {
        let digit = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
        parts.next().filter(|it| it.len() == length && it.bytes().all(digit))
    };
    let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    if version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    let (mut trace_bytes, mut span_bytes) = ([0; 16], [0; 8]);
    hex::decode_to_slice(trace, &mut trace_bytes).ok()?;
    hex::decode_to_slice(span, &mut span_bytes).ok()?;
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    Some((TraceId::new(trace_bytes)?, SpanId::new(span_bytes)?, sampled))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_it_was_written() {
        let (trace, span, sampled) = parse_traceparent(VALID).unwrap();
        assert_eq!((traceparent(trace, span, sampled).as_str(), sampled), (VALID, true));
        let later = format!("01{}-more", &VALID[2..]);
        assert_eq!(parse_traceparent(&later), Some((trace, span, true)));
        let unsampled = VALID.replace("-01", "-fe");
        assert_eq!(parse_traceparent(&unsampled), Some((trace, span, false)));
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
