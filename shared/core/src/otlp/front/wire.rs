//! Protobuf as it came: fields are looked at where they are, and none is copied, dropped or put into
//! another order. So what a newer OTLP has added goes through.
//!
//! <https://protobuf.dev/programming-guides/encoding/>

use prost::encoding::{WireType, decode_key, decode_varint};

use super::schema::{Kind, LINK, TRACE, Type};
use crate::id::TraceId;

/// How deep messages may be in each other: less than what the decoders that come after allow.
const MAX_DEPTH: usize = 64;

/// Bytes that are not the message that they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// They break off, or a field is not of its type.
    Shape,
    /// An id is not of its length.
    Id,
}

/// A field as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a> {
    pub(super) number: u32,
    wire: WireType,
    /// With its number and its length.
    pub(super) whole: &'a [u8],
    /// Without them.
    pub(super) value: &'a [u8],
}

impl Raw<'_> {
    /// Whether it is a message, a text or bytes.
    pub(super) fn is_nested(&self) -> bool {
        self.wire == WireType::LengthDelimited
    }

    /// The number in a `fixed64`.
    pub(super) fn fixed64(&self) -> Option<u64> {
        self.value.try_into().ok().map(u64::from_le_bytes).filter(|_| !self.is_nested())
    }
}

/// The fields of a message, in their order.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn read(&mut self) -> Option<Raw<'a>> {
        let start = self.0;
        let mut rest = start;
        let (number, wire) = decode_key(&mut rest).ok()?;
        let length = match wire {
            WireType::Varint => {
                let mut after = rest;
                decode_varint(&mut after).ok()?;
                rest.len() - after.len()
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut rest).ok()?).ok()?,
            // Groups are no part of proto3.
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Raw { number, wire, whole: &start[..start.len() - rest.len()], value })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Raw<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let raw = self.read().ok_or(Malformed::Shape);
        if raw.is_err() {
            self.0 = &[];
        }
        Some(raw)
    }
}

/// Checks that every decoder can read the message, and gives `traces` the traces that it is part of:
/// those of its links are others' and are left alone.
pub(super) fn check(
    bytes: &[u8],
    of: &'static Type,
    traces: &mut impl FnMut(Option<TraceId>),
) -> Result<(), Malformed> {
    check_at(bytes, of, MAX_DEPTH, traces)
}

fn check_at(
    bytes: &[u8],
    of: &'static Type,
    depth: usize,
    traces: &mut impl FnMut(Option<TraceId>),
) -> Result<(), Malformed> {
    if depth == 0 {
        return Err(Malformed::Shape);
    }
    for raw in Fields(bytes) {
        let raw = raw?;
        let Some(field) = of.field(raw.number) else { continue };
        match field.kind {
            Kind::Message(of) if raw.is_nested() => check_at(raw.value, of, depth - 1, traces)?,
            Kind::Id(TRACE) if raw.is_nested() && !std::ptr::eq(of, &raw const LINK) => {
                traces(trace(raw.value)?);
            }
            kind if fits(kind, raw) || field.repeated && is_packed(kind, raw) => {}
            Kind::Id(_) if raw.is_nested() => return Err(Malformed::Id),
            _ => return Err(Malformed::Shape),
        }
    }
    Ok(())
}

/// A trace's id; none where there is no trace, which is written as nothing or as zeros.
fn trace(value: &[u8]) -> Result<Option<TraceId>, Malformed> {
    match value {
        [] => Ok(None),
        bytes => bytes.try_into().map(TraceId::new).map_err(|_| Malformed::Id),
    }
}

/// Whether a field holds one value of this kind.
fn fits(kind: Kind, raw: Raw<'_>) -> bool {
    match (kind, raw.wire) {
        (Kind::Text, WireType::LengthDelimited) => std::str::from_utf8(raw.value).is_ok(),
        (Kind::Bytes, WireType::LengthDelimited)
        | (Kind::Fixed32, WireType::ThirtyTwoBit)
        | (Kind::Fixed64 | Kind::Sfixed64 | Kind::Double, WireType::SixtyFourBit)
        | (
            Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Sint32,
            WireType::Varint,
        ) => true,
        (Kind::Id(length), WireType::LengthDelimited) => {
            raw.value.is_empty() || raw.value.len() == length
        }
        _ => false,
    }
}

/// Whether a field holds several numbers of this kind behind each other.
fn is_packed(kind: Kind, raw: Raw<'_>) -> bool {
    let mut rest = raw.value;
    raw.is_nested()
        && match kind {
            Kind::Fixed64 | Kind::Double => rest.len().is_multiple_of(8),
            Kind::Uint64 => {
                while !rest.is_empty() {
                    if decode_varint(&mut rest).is_err() {
                        return false;
                    }
                }
                true
            }
            _ => false,
        }
}
