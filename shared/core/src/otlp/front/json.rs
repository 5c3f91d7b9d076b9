//! OTLP's JSON to its protobuf, field by field as it is read: a tree of the body could take a hundred
//! times its size.
//!
//! Read are lowerCamelCase names, ids in hexadecimal, 64-bit numbers as text or as numbers, enums as
//! numbers. A field that is not known is passed over, as the specification asks of receivers.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>

use std::{borrow::Cow, cell::Cell, fmt};

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost::encoding::encode_varint;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::schema::{Field, Kind, Type};
use crate::otlp::encode::bytes_field;

/// The field that was read when it went wrong; empty where there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadJson(pub(super) &'static str);

/// The protobuf of a message in JSON, of at most `limit` bytes.
pub(super) fn to_protobuf(
    json: &[u8],
    of: &'static Type,
    limit: usize,
) -> Result<Vec<u8>, BadJson> {
    let at = Cell::new("");
    let context = Context { at: &at, limit };
    let mut out = Vec::with_capacity(json.len() / 2);
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = Message { of, out: &mut out, context }.deserialize(&mut reader);
    // What went wrong quotes the body; where it did is ours to tell.
    read.and_then(|()| reader.end()).map_err(|_| BadJson(at.get()))?;
    Ok(out)
}

#[derive(Clone, Copy)]
struct Context<'c> {
    at: &'c Cell<&'static str>,
    limit: usize,
}

/// Writes the fields of an object.
struct Message<'o> {
    of: &'static Type,
    out: &'o mut Vec<u8>,
    context: Context<'o>,
}

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Self { of, out, context } = self;
        while let Some(name) = fields.next_key::<Cow<'_, str>>()? {
            let Some(field) = of.named(&name) else {
                fields.next_value::<IgnoredAny>()?;
                continue;
            };
            context.at.set(field.name);
            fields.next_value_seed(Value { field, out: &mut *out, context, listed: false })?;
            if out.len() > context.limit {
                return Err(A::Error::custom("too large"));
            }
        }
        Ok(())
    }
}

/// Writes a field; one that is `null` is absent.
struct Value<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
    context: Context<'o>,
    /// Whether it is an element of a repeated field.
    listed: bool,
}

impl Value<'_> {
    fn number<E: serde::de::Error>(self, number: i128) -> Result<(), E> {
        let bytes = integer(self.field.kind, number).ok_or_else(|| E::custom("out of range"))?;
        self.plain(&bytes)
    }

    fn double<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.plain(&value.to_le_bytes())
    }

    /// A value that says its own length. In a list its field is written once, before all of them.
    fn plain<E: serde::de::Error>(self, bytes: &[u8]) -> Result<(), E> {
        let Field { number, kind, repeated, .. } = *self.field;
        if repeated && !self.listed {
            return Err(E::custom("no list"));
        }
        if !self.listed {
            self.out.extend_from_slice(&key(number, kind));
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

/// Whether a list of this kind is written as one field.
fn is_packed(kind: Kind) -> bool {
    !matches!(kind, Kind::Text | Kind::Bytes | Kind::Id(_) | Kind::Message(_))
}

/// The number of a field with the type of its value, as it precedes that.
fn key(number: u32, kind: Kind) -> Vec<u8> {
    let wire = match kind {
        Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => 1,
        Kind::Fixed32 => 5,
        _ => 0,
    };
    let mut key = Vec::with_capacity(2);
    encode_varint(u64::from(number << 3 | wire), &mut key);
    key
}

/// A whole number as its kind is written, unless it is none that the kind has.
fn integer(kind: Kind, number: i128) -> Option<Vec<u8>> {
    let varint = |value: u64| {
        let mut bytes = Vec::with_capacity(10);
        encode_varint(value, &mut bytes);
        bytes
    };
    Some(match kind {
        // A negative number is written with all its 64 bits, also where it is one of 32.
        Kind::Int32 => varint(i64::from(i32::try_from(number).ok()?).cast_unsigned()),
        Kind::Int64 => varint(i64::try_from(number).ok()?.cast_unsigned()),
        Kind::Uint32 => varint(u32::try_from(number).ok()?.into()),
        Kind::Uint64 => varint(u64::try_from(number).ok()?),
        Kind::Sint32 => {
            let number = i32::try_from(number).ok()?;
            varint((number << 1 ^ number >> 31).cast_unsigned().into())
        }
        Kind::Fixed32 => u32::try_from(number).ok()?.to_le_bytes().to_vec(),
        Kind::Fixed64 => u64::try_from(number).ok()?.to_le_bytes().to_vec(),
        Kind::Sfixed64 => i64::try_from(number).ok()?.to_le_bytes().to_vec(),
        _ => return None,
    })
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the field holds")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        if self.listed { Err(E::custom("nothing in a list")) } else { Ok(()) }
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        match self.field.kind {
            Kind::Bool => self.plain(&[value.into()]),
            _ => Err(E::custom("no boolean")),
        }
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match self.field.kind {
            #[expect(clippy::cast_precision_loss, reason = "what JSON writes without a point")]
            Kind::Double => self.double(value as f64),
            _ => self.number(value.into()),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        match self.field.kind {
            #[expect(clippy::cast_precision_loss, reason = "what JSON writes without a point")]
            Kind::Double => self.double(value as f64),
            _ => self.number(value.into()),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        match self.field.kind {
            Kind::Double => self.double(value),
            // `1e9` and `1.0` are whole.
            #[expect(clippy::cast_possible_truncation, reason = "whole, and far below 2^127")]
            _ if value.fract() == 0.0 && value.abs() < 1e20 => self.number(value as i128),
            _ => Err(E::custom("no whole number")),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let number = self.field.number;
        match self.field.kind {
            Kind::Text => bytes_field(number, text.as_bytes(), self.out),
            Kind::Id(_) => {
                let id = hex::decode(text).map_err(|_| E::custom("no hexadecimal"))?;
                bytes_field(number, &id, self.out);
            }
            Kind::Bytes => {
                let bytes = base64(text).ok_or_else(|| E::custom("no base64"))?;
                bytes_field(number, &bytes, self.out);
            }
            Kind::Double => {
                self.double(double(text).ok_or_else(|| E::custom("no number"))?)?;
            }
            Kind::Bool | Kind::Message(_) => return Err(E::custom("no text")),
            _ => self.number(text.parse().map_err(|_| E::custom("no whole number"))?)?,
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<(), A::Error> {
        let Kind::Message(of) = self.field.kind else {
            return Err(A::Error::custom("no object"));
        };
        let mut nested = Vec::new();
        Message { of, out: &mut nested, context: self.context }.visit_map(fields)?;
        bytes_field(self.field.number, &nested, self.out);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { field, out, context, listed } = self;
        if listed || !field.repeated {
            return Err(A::Error::custom("no list"));
        }
        let packed = is_packed(field.kind);
        let mut list = Vec::new();
        loop {
            let out = if packed { &mut list } else { &mut *out };
            if out.len() > context.limit {
                return Err(A::Error::custom("too large"));
            }
            if items.next_element_seed(Value { field, out, context, listed: true })?.is_none() {
                break;
            }
        }
        if packed {
            bytes_field(field.number, &list, out);
        }
        Ok(())
    }
}

/// Bytes as proto3's JSON has them: in either alphabet, with padding or without.
/// <https://protobuf.dev/programming-guides/json/>
fn base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let url_safe = text.contains(['-', '_']);
    let alphabet = if url_safe { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, LENIENT).decode(text).ok()
}

fn double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        text => text.parse().ok().filter(|it: &f64| it.is_finite()),
    }
}
