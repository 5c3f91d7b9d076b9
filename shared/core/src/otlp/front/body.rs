//! A body, from what came to protobuf.

use std::{borrow::Cow, io::Read};

use flate2::read::MultiGzDecoder;

use super::{Refused, json, schema};
use crate::otlp::Signal;

/// The largest window of zstd that is decoded, as the power of two of its bytes: the 8 MiB that every
/// decoder should support. A frame may ask for much more memory.
/// <https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1.1.2>
const WINDOW: u32 = 23;

/// How a request is written, and its answer with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`
    Protobuf,
    /// `application/json`
    Json,
}

impl Encoding {
    /// By a `Content-Type`, whose parameters do not matter.
    #[must_use]
    pub fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        [Self::Protobuf, Self::Json]
            .into_iter()
            .find(|it| it.content_type().eq_ignore_ascii_case(essence))
    }

    /// The `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    /// A message with nothing in it.
    pub(super) fn empty(self) -> &'static [u8] {
        match self {
            Self::Protobuf => b"",
            Self::Json => b"{}",
        }
    }

    pub(super) fn protobuf(
        self,
        body: Cow<'_, [u8]>,
        signal: Signal,
        limit: usize,
    ) -> Result<Cow<'_, [u8]>, Refused> {
        match self {
            Self::Protobuf => Ok(body),
            Self::Json => json::to_protobuf(&body, schema::request(signal), limit)
                .map(Cow::Owned)
                .map_err(|bad| Refused::Json(bad.0)),
        }
    }
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Identity,
    /// gzip
    Gzip,
    /// Zstandard
    Zstd,
}

impl Compression {
    /// By a `Content-Encoding`.
    #[must_use]
    pub fn of(content_encoding: &str) -> Option<Self> {
        match content_encoding.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The body as it was before, of at most `limit` bytes: no more of it is ever unpacked.
    pub(super) fn unpack(self, body: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, Refused> {
        let read = |from: &mut dyn Read| {
            let mut out = Vec::new();
            let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
            from.take(most).read_to_end(&mut out).map_err(|_| Refused::Compression)?;
            if out.len() > limit { Err(Refused::TooLarge) } else { Ok(Cow::Owned(out)) }
        };
        match self {
            Self::Identity => Ok(Cow::Borrowed(body)),
            Self::Gzip => read(&mut MultiGzDecoder::new(body)),
            Self::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(body);
                let mut decoder = decoder.map_err(|_| Refused::Compression)?;
                decoder.window_log_max(WINDOW).map_err(|_| Refused::Compression)?;
                read(&mut decoder)
            }
        }
    }
}
