//! A body to protobuf.

use std::borrow::Cow;

use super::{Refused, json, schema};
use crate::{legible::legible, otlp::Signal};

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
            Self::Json => json::to_protobuf(&legible(body), schema::request(signal), limit)
                .map(Cow::Owned)
                .map_err(|bad| Refused::Json(bad.0)),
        }
    }
}
