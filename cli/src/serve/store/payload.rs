//! What a record says: a body, and what is known of it.
//!
//! ```text
//! length of the body 4 | body | what is known of it, as JSON
//! ```
//!
//! The queue packs what it keeps by itself: a short body stands as it is, a longer one compressed.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use spanhook_core::message::Message;

use super::record::{self, Coding, Kind, Record};

/// A body from this many bytes on is compressed: below, what that saves is not worth its time.
const COMPRESSED: usize = 4 * 1024;

/// The largest body that is believed to be in a record, in bytes.
const LARGEST: usize = 64 * 1024 * 1024;

/// A record that has no id yet. Whoever wants it written makes it, so that the one thread that writes
/// only writes.
pub(super) struct Draft {
    pub(super) kind: Kind,
    pub(super) coding: Coding,
    pub(super) payload: Vec<u8>,
    pub(super) checksum: u32,
}

impl Draft {
    /// A message that waits, or a dead letter.
    pub(super) fn message(kind: Kind, message: &Message) -> Self {
        Self::new(kind, &message.body, &message.attributes, &[])
    }

    /// A body with its attributes and the traces, hexadecimal, that it is shown with.
    pub(super) fn new(
        kind: Kind,
        body: &[u8],
        attributes: &BTreeMap<String, String>,
        traces: &[String],
    ) -> Self {
        #[derive(Serialize)]
        struct About<'a> {
            attributes: &'a BTreeMap<String, String>,
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            traces: &'a [String],
        }
        let (coding, body) = stored(body);
        let mut payload = Vec::with_capacity(body.len() + 512);
        // A delivery is bounded far below 4 GiB.
        payload.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        payload.extend_from_slice(&body);
        // Text under text keys always serializes.
        let _ = serde_json::to_writer(&mut payload, &About { attributes, traces });
        Self::of(kind, coding, payload)
    }

    /// Ids that are done with.
    pub(super) fn settled(ids: &[u64]) -> Self {
        Self::of(Kind::Settled, Coding::Plain, record::ids(ids))
    }

    /// A payload as it is.
    pub(super) fn of(kind: Kind, coding: Coding, payload: Vec<u8>) -> Self {
        Self { kind, coding, checksum: crc32fast::hash(&payload), payload }
    }
}

/// A body as it is kept. One that looks as if a record began in it is kept as text, which never does:
/// beside a damaged record it could be taken for one.
fn stored(body: &[u8]) -> (Coding, Cow<'_, [u8]>) {
    let compressed = || zstd::bulk::compress(body, 1).ok().filter(|it| it.len() < body.len());
    let (coding, stored): (_, Cow<'_, [u8]>) =
        match (body.len() >= COMPRESSED).then(compressed).flatten() {
            Some(packed) => (Coding::Zstd, packed.into()),
            None => (Coding::Plain, body.into()),
        };
    match memchr::memmem::find(&stored, &record::MAGIC) {
        None => (coding, stored),
        Some(_) => (Coding::Text, STANDARD.encode(body).into_bytes().into()),
    }
}

/// A body as it was before it was kept, with what is known of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept<'b> {
    pub(super) body: Cow<'b, [u8]>,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) traces: Vec<String>,
}

impl<'b> Kept<'b> {
    /// None of what another version wrote and this one can't read.
    pub(super) fn read(record: &Record<'b>) -> Option<Self> {
        #[derive(Deserialize)]
        struct About {
            attributes: BTreeMap<String, String>,
            #[serde(default)]
            traces: Vec<String>,
        }
        if record.coding == Coding::Json {
            return Self::earlier(record);
        }
        let (length, rest) = record.payload.split_first_chunk()?;
        let (body, about) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        let body = match record.coding {
            Coding::Zstd => decompress(body)?.into(),
            Coding::Text => STANDARD.decode(body).ok()?.into(),
            Coding::Plain | Coding::Json => body.into(),
        };
        let About { attributes, traces } = serde_json::from_slice(about).ok()?;
        Some(Self { body, attributes, traces })
    }

    /// A message of a version that kept all of it as JSON. What that one showed is not shown again.
    fn earlier(record: &Record<'_>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Earlier {
            body: String,
            attributes: BTreeMap<String, String>,
        }
        let Earlier { body, attributes } = serde_json::from_slice(record.payload).ok()?;
        Some(Self { body: body.into_bytes().into(), attributes, traces: Vec::new() })
    }

    /// The body as a part of `whole`, which the record was read from, or by itself.
    pub(super) fn bytes(body: Cow<'_, [u8]>, whole: &Bytes) -> Bytes {
        match body {
            Cow::Borrowed(part) => whole.slice_ref(part),
            Cow::Owned(body) => body.into(),
        }
    }
}

fn decompress(packed: &[u8]) -> Option<Vec<u8>> {
    let size = zstd::zstd_safe::get_frame_content_size(packed).ok()??;
    let size = usize::try_from(size).ok().filter(|it| *it <= LARGEST)?;
    zstd::bulk::decompress(packed, size).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn again(body: &[u8]) -> (Coding, Vec<u8>) {
        let attributes = BTreeMap::from([("encoding".to_owned(), "otlp-proto".to_owned())]);
        let traces = vec!["ab".repeat(16)];
        let draft = Draft::new(Kind::Shown, body, &attributes, &traces);
        let mut bytes = Vec::new();
        record::write(&mut bytes, &draft, 7, true);
        let kept = Kept::read(&record::read(&bytes).unwrap()).unwrap();
        assert_eq!((kept.attributes, kept.traces), (attributes, traces));
        (draft.coding, kept.body.into_owned())
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_out_again(body: Vec<u8>, times in 1..3000_usize) {
            let body = body.repeat(times);
            prop_assert_eq!(again(&body).1, body);
        }
    }

    #[test]
    fn a_long_body_is_compressed_and_one_with_a_record_in_it_is_text() {
        let forged = [b"before".as_slice(), &record::MAGIC, b"after"].concat();
        for (body, coding) in [
            (vec![b'x'; COMPRESSED - 1], Coding::Plain),
            (vec![b'x'; COMPRESSED], Coding::Zstd),
            (forged, Coding::Text),
            (Vec::new(), Coding::Plain),
        ] {
            assert!(again(&body) == (coding, body));
        }
    }

    #[test]
    fn what_an_earlier_version_kept_is_read() {
        let payload = br#"{"body":"KLUv","attributes":{"encoding":"otlp-proto+zstd"}}"#;
        let record =
            Record { kind: Kind::Queued, coding: Coding::Json, begins: false, id: 1, payload };
        let kept = Kept::read(&record).unwrap();
        assert_eq!(
            (&*kept.body, kept.attributes["encoding"].as_str()),
            (&b"KLUv"[..], "otlp-proto+zstd")
        );
        assert_eq!(Kept::read(&Record { payload: b"{}", ..record }), None);
    }
}
