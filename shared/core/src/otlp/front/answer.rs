//! What a sender of OTLP is answered, in the encoding of its request.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>

use serde_json::json;

use super::{Encoding, Rejects};
use crate::otlp::{
    Signal,
    encode::{bytes_field, message_field, varint_field},
};

/// What went wrong, as a `google.rpc.Code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// `INVALID_ARGUMENT`
    Invalid,
    /// `INVALID_ARGUMENT` too, since less of it would be taken.
    TooLarge,
    /// `PERMISSION_DENIED`
    Forbidden,
    /// `UNAVAILABLE`
    Unavailable,
    /// `UNAUTHENTICATED`
    Unauthenticated,
}

impl Code {
    fn number(self) -> u64 {
        match self {
            Self::Invalid | Self::TooLarge => 3,
            Self::Forbidden => 7,
            Self::Unavailable => 14,
            Self::Unauthenticated => 16,
        }
    }
}

/// An `Export…ServiceResponse`: empty, or with what was left out.
#[must_use]
pub fn success(encoding: Encoding, signal: Signal, rejects: &Rejects) -> Vec<u8> {
    let count = rejects.count();
    let words = rejects.to_string();
    let name = match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Metrics => "rejectedDataPoints",
        Signal::Logs => "rejectedLogRecords",
    };
    match encoding {
        _ if count == 0 => encoding.empty().to_vec(),
        Encoding::Json => {
            // 64-bit numbers are text in proto3's JSON.
            let partial = json!({ name: count.to_string(), "errorMessage": words });
            json!({ "partialSuccess": partial }).to_string().into_bytes()
        }
        Encoding::Protobuf => {
            let mut out = Vec::new();
            message_field(1, &mut out, |partial| {
                varint_field(1, count as u64, partial);
                bytes_field(2, words.as_bytes(), partial);
            });
            out
        }
    }
}

/// A `google.rpc.Status`.
#[must_use]
pub fn status(encoding: Encoding, code: Code, message: &str) -> Vec<u8> {
    match encoding {
        Encoding::Json => {
            json!({ "code": code.number(), "message": message }).to_string().into_bytes()
        }
        Encoding::Protobuf => {
            let mut out = Vec::new();
            varint_field(1, code.number(), &mut out);
            bytes_field(2, message.as_bytes(), &mut out);
            out
        }
    }
}
