//! The queue message: the one format that a webhook function writes and the forwarder reads.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{
    delivery::{Delivery, Unmappable},
    id::TraceId,
    otlp::Signal,
    project::Project,
    provider::Provider,
};

/// The largest body that is written, in bytes. It fits every SQS queue (256 KiB with attributes;
/// newer queues take 1 MiB) and bills as four 64 KiB requests at most.
pub const BODY_LIMIT: usize = 240 * 1024;

/// The largest protobuf that a message is believed to hold, in bytes: more is an attack on memory.
const RAW_LIMIT: usize = 16 * 1024 * 1024;

/// The largest delivery that may come out of a quarantined message, in bytes. GitLab sends 25 MB.
const DELIVERY_LIMIT: usize = 64 * 1024 * 1024;

/// Compression level. CI telemetry repeats itself so much that the lowest level is close to the
/// best ones, at a multiple of their speed.
const ZSTD_LEVEL: i32 = 1;

/// The attribute `encoding` of an OTLP request: base64 of zstd of its protobuf.
pub const OTLP: &str = "otlp-proto+zstd";

/// The attribute `encoding` of an OTLP request whose protobuf is the body.
pub const PROTOBUF: &str = "otlp-proto";

/// The attribute `encoding` of a quarantined delivery.
pub const RAW: &str = "raw+zstd";

/// What a queue takes as a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// Text: base64 of zstd, because SQS refuses some characters that JSON allows, and bills by size.
    #[default]
    Text,
    /// Bytes, packed by the queue itself if at all.
    Bytes,
}

impl Packing {
    fn encoding(self) -> &'static str {
        match self {
            Self::Text => OTLP,
            Self::Bytes => PROTOBUF,
        }
    }

    /// The body of an OTLP request.
    #[must_use]
    pub fn pack(self, raw: Vec<u8>) -> Bytes {
        match self {
            Self::Text => pack(&raw).into(),
            Self::Bytes => raw.into(),
        }
    }
}

/// A message as it is queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// As the attribute `encoding` says.
    pub body: Bytes,
    /// String attributes; SQS allows ten.
    pub attributes: BTreeMap<String, String>,
    /// `MessageGroupId`: one busy project does not delay the others (fair queueing).
    pub group: String,
}

impl Message {
    /// Spans, points or records to forward; the body comes from [`Packing::pack`]. `ended_at`, in
    /// nanoseconds since the epoch, is when the last of what is sent with them ended: the forwarder
    /// measures its delay by it.
    #[must_use]
    pub fn otlp(
        signal: Signal,
        source: &str,
        project: &Project,
        (count, ended_at): (usize, u64),
        (packing, body): (Packing, Bytes),
    ) -> Self {
        let attributes = named([
            ("signal", signal.as_str().to_owned()),
            ("encoding", packing.encoding().to_owned()),
            ("schema", "1".to_owned()),
            ("provider", source.to_owned()),
            (signal.items(), count.to_string()),
            ("ended_at", (ended_at / 1_000_000).to_string()),
        ]);
        Self { body, attributes, group: group(source, &project.to_string()) }
    }

    /// The same, all of one trace.
    #[must_use]
    pub fn of_trace(mut self, trace: TraceId) -> Self {
        self.attributes.insert("trace_id".to_owned(), trace.to_string());
        self
    }

    /// A verified delivery that can't be mapped, for the dead-letter queue, with the headers that
    /// matter. What its provider's room calls private is blanked wherever the body parses. One that
    /// is too large for a message is cut into several, numbered `part` of `1/3`.
    #[must_use]
    pub fn quarantine(
        provider: Provider,
        delivery: &Delivery<'_>,
        reason: Unmappable,
    ) -> Vec<Self> {
        let room = provider.room();
        let header = |name: &'static str| Some((name, delivery.headers.get(name)?.to_str().ok()?));
        let headers: BTreeMap<_, _> = room.headers.iter().filter_map(|it| header(it)).collect();
        let event = headers.get(room.event).copied().unwrap_or_default();
        let digest = Sha256::digest(delivery.body);
        let packed = compress(&(room.redact)(delivery.body));
        let parts: Vec<_> = packed.chunks(BODY_LIMIT / 4 * 3).collect();
        let attributes = named([
            ("encoding", RAW.to_owned()),
            ("schema", "1".to_owned()),
            ("provider", provider.to_string()),
            ("event", printable(event, 128)),
            ("reason", reason.to_string()),
            ("headers", printable(&serde_json::json!(headers).to_string(), 2048)),
            ("delivery", hex::encode(&digest[..8])),
        ]);
        let message = |(index, part): (usize, &&[u8])| {
            let mut attributes = attributes.clone();
            attributes.insert("part".to_owned(), format!("{}/{}", index + 1, parts.len()));
            Self {
                body: STANDARD.encode(part).into(),
                attributes,
                group: group(provider.as_str(), "quarantine"),
            }
        };
        parts.iter().enumerate().map(message).collect()
    }
}

fn named<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// SQS takes 128 characters; a hash keeps project names out of metrics and logs.
fn group(provider: &str, project: &str) -> String {
    hex::encode(&Sha256::digest(format!("{provider}:{project}"))[..16])
}

/// SQS refuses control characters, and refuses an empty attribute.
fn printable(text: &str, limit: usize) -> String {
    let clean = |it: char| if it.is_ascii_graphic() || it == ' ' { it } else { '?' };
    let text: String = text.chars().take(limit).map(clean).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

fn compress(raw: &[u8]) -> Vec<u8> {
    // In memory and with a bound on the output that zstd itself gives, it has no way to fail.
    zstd::bulk::compress(raw, ZSTD_LEVEL).unwrap_or_default()
}

/// The body of a message: base64 of zstd of `raw`.
#[must_use]
pub fn pack(raw: &[u8]) -> String {
    STANDARD.encode(compress(raw))
}

/// What a message holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'b> {
    /// An export request of the signal, checked to be whole but not decoded.
    Otlp(Signal, Cow<'b, [u8]>),
    /// A delivery, or a part of one, as it came.
    Quarantined(Vec<u8>),
}

/// Why a message can't be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Undecodable {
    /// Another program wrote it, or a newer spanhook.
    #[error("the attribute `encoding` is none that this version knows")]
    Encoding,
    /// The message holds a signal of a newer spanhook.
    #[error("the attribute `signal` is none that this version knows")]
    Signal,
    /// The body is no base64.
    #[error("the body is not base64")]
    Base64,
    /// The body holds no complete zstd frame, or an absurdly large one.
    #[error("the body is not zstd, or too large when decompressed")]
    Zstd,
    /// The protobuf breaks off; joined to others it would swallow the next one's spans.
    #[error("the body is not a whole OTLP request")]
    Protobuf,
}

/// Reads a message with its attributes.
pub fn read<'b>(
    body: &'b (impl AsRef<[u8]> + ?Sized),
    attributes: &BTreeMap<String, String>,
) -> Result<Content<'b>, Undecodable> {
    let attribute = |name: &str| attributes.get(name).map(String::as_str);
    unpack(body, attribute("encoding"), attribute("signal"))
}

/// Reads a message. `encoding` and `signal` are its attributes; one without a signal holds traces.
pub fn unpack<'b>(
    body: &'b (impl AsRef<[u8]> + ?Sized),
    encoding: Option<&str>,
    signal: Option<&str>,
) -> Result<Content<'b>, Undecodable> {
    let signal = || match signal {
        None => Ok(Signal::Traces),
        Some(name) => Signal::named(name).ok_or(Undecodable::Signal),
    };
    let (signal, raw) = match encoding {
        Some(RAW) => {
            let packed = unpack_part(body)?;
            return decompress(&packed, DELIVERY_LIMIT).map(Content::Quarantined);
        }
        Some(OTLP) => (signal()?, decompress(&unpack_part(body)?, RAW_LIMIT)?.into()),
        Some(PROTOBUF) => (signal()?, Cow::Borrowed(body.as_ref())),
        _ => return Err(Undecodable::Encoding),
    };
    if is_whole(&raw) { Ok(Content::Otlp(signal, raw)) } else { Err(Undecodable::Protobuf) }
}

/// Base64-decodes one part of a quarantined delivery; the parts are joined by [`join_parts`].
pub fn unpack_part(body: &(impl AsRef<[u8]> + ?Sized)) -> Result<Vec<u8>, Undecodable> {
    STANDARD.decode(body.as_ref().trim_ascii()).map_err(|_| Undecodable::Base64)
}

/// The delivery of all parts together.
pub fn join_parts(parts: &[Vec<u8>]) -> Result<Vec<u8>, Undecodable> {
    decompress(&parts.concat(), DELIVERY_LIMIT)
}

fn decompress(packed: &[u8], limit: usize) -> Result<Vec<u8>, Undecodable> {
    // The frame says how large it is, and is only believed up to the limit.
    let size = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
    let size = size.and_then(|it| usize::try_from(it).ok()).ok_or(Undecodable::Zstd)?;
    if size > limit {
        return Err(Undecodable::Zstd);
    }
    zstd::bulk::decompress(packed, size).map_err(|_| Undecodable::Zstd)
}

/// Whether the bytes are `resource_spans`, `resource_metrics` or `resource_logs` (field 1 of each
/// request) one after the other, the last one complete.
///
/// <https://protobuf.dev/programming-guides/encoding/#last-one-wins> is what lets such requests be
/// joined by joining their bytes.
fn is_whole(mut raw: &[u8]) -> bool {
    while !raw.is_empty() {
        let Ok((1, prost::encoding::WireType::LengthDelimited)) =
            prost::encoding::decode_key(&mut raw)
        else {
            return false;
        };
        let length = prost::encoding::decode_varint(&mut raw).ok();
        let Some(rest) = length.and_then(|it| raw.get(usize::try_from(it).ok()?..)) else {
            return false;
        };
        raw = rest;
    }
    true
}

/// The headers of a quarantined delivery, from the message's attribute.
#[must_use]
pub fn kept_headers(attribute: &str) -> HeaderMap {
    let kept: BTreeMap<String, String> = serde_json::from_str(attribute).unwrap_or_default();
    let header = |(name, value): (String, String)| {
        Some((name.parse::<HeaderName>().ok()?, value.parse().ok()?))
    };
    kept.into_iter().filter_map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_out_again(raw: Vec<u8>) {
            let packed = pack(&raw);
            prop_assert_eq!(unpack(&packed, Some(RAW), None), Ok(Content::Quarantined(raw)));
        }

        #[test]
        fn any_text_is_read_or_refused(body: String, raw: Vec<u8>) {
            let _ = unpack(&body, Some(OTLP), Some(&body));
            let _ = unpack(&STANDARD.encode(&raw), Some(OTLP), None);
            let _ = unpack(&pack(&raw), Some(OTLP), None);
            let _ = unpack(&raw, Some(PROTOBUF), None);
        }

        #[test]
        fn a_quarantined_delivery_survives_in_parts(raw in prop::collection::vec(any::<u8>(), 0..1000), times in 1..2000usize) {
            // Not JSON, so that nothing is blanked, and hard to compress.
            let mut body: Vec<u8> = (0..times).flat_map(|round| {
                Sha256::digest([raw.as_slice(), &round.to_be_bytes()].concat()).to_vec()
            }).collect();
            body.push(b'!');
            let delivery = Delivery { headers: &HeaderMap::new(), body: &body };
            let messages = Message::quarantine(Provider::Gitlab, &delivery, Unmappable::NotJson);
            let parts: Vec<_> = messages.iter().map(|it| unpack_part(&it.body).unwrap()).collect();
            prop_assert!(messages.iter().all(|it| it.body.len() <= BODY_LIMIT && it.attributes.len() <= 10));
            prop_assert_eq!(join_parts(&parts).unwrap(), body);
        }
    }

    #[test]
    fn a_request_that_breaks_off_is_refused_before_it_is_joined() {
        assert_eq!(unpack(&pack(&[10, 2, 1]), Some(OTLP), None), Err(Undecodable::Protobuf));
        assert_eq!(unpack(&pack(&[18, 1, 1]), Some(OTLP), None), Err(Undecodable::Protobuf));
        assert!(unpack(&pack(&[10, 2, 1, 1]), Some(OTLP), None).is_ok());
        assert!(unpack(&pack(&[]), Some(OTLP), None).is_ok());
        assert_eq!(unpack(&[10, 2, 1], Some(PROTOBUF), None), Err(Undecodable::Protobuf));
    }

    /// A kilobyte that says it is a gigabyte of zeros.
    #[test]
    fn a_message_that_would_fill_the_memory_is_refused() {
        let zeros = |bytes| pack(&vec![0; bytes]);
        assert_eq!(unpack(&zeros(RAW_LIMIT + 1), Some(OTLP), None), Err(Undecodable::Zstd));
        assert_eq!(unpack(&zeros(DELIVERY_LIMIT + 1), Some(RAW), None), Err(Undecodable::Zstd));
        assert!(unpack(&zeros(DELIVERY_LIMIT), Some(RAW), None).is_ok());
    }

    #[test]
    fn the_signal_is_told_by_its_attribute_and_traces_by_its_absence() {
        let packed = pack(&[10, 0]);
        let read = |signal| unpack(&packed, Some(OTLP), signal);
        assert_eq!(read(None), Ok(Content::Otlp(Signal::Traces, vec![10, 0].into())));
        assert_eq!(read(Some("traces")), Ok(Content::Otlp(Signal::Traces, vec![10, 0].into())));
        assert_eq!(read(Some("metrics")), Ok(Content::Otlp(Signal::Metrics, vec![10, 0].into())));
        assert_eq!(read(Some("logs")), Ok(Content::Otlp(Signal::Logs, vec![10, 0].into())));
        assert_eq!(read(Some("profiles")), Err(Undecodable::Signal));
        assert_eq!(unpack("", None, Some("logs")), Err(Undecodable::Encoding));
    }

    #[test]
    fn the_headers_that_were_kept_are_headers_again() {
        let headers = kept_headers(r#"{"x-gitlab-event":"Pipeline Hook","bad name":"x"}"#);
        assert_eq!(
            (headers.len(), &headers["x-gitlab-event"]),
            (1, &"Pipeline Hook".parse().unwrap())
        );
        assert!(kept_headers("{").is_empty());
    }
}
