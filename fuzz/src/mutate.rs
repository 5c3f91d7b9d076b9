//! Mutations that keep a body's structure: libFuzzer's own break JSON and protobuf's lengths so often
//! that little would get past the first parser. Three of four mutations are these; the other ones
//! are libFuzzer's, so that bodies that are broken come, too.

use fastrand::Rng;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use serde_json::{Map, Value};

/// Texts that something is made of: dates at the ends of what can be told, words of providers.
const TEXTS: [&str; 24] = [
    "",
    " ",
    "0",
    "-1",
    "1.5",
    "true",
    "null",
    "2026-11-02T09:30:00Z",
    "2026-11-02 09:30:00 UTC",
    "2026-11-02 09:30:00 +0100",
    "0001-01-01T00:00:00Z",
    "1970-01-01T00:00:00Z",
    "2554-07-21T23:34:33.709551615Z",
    "9999-12-31T23:59:59Z",
    "18446744073709551615",
    "success",
    "failed",
    "canceled",
    "completed",
    "https://u:p@gitlab.example.com:8443/acme/shop?a=b#c",
    "refs/heads/main",
    "acme/shop",
    "\u{0}\u{fffd}é😀\n",
    "cedf175c-c537-49f8-9b5c-95892f0b2407",
];

/// Changes a JSON body behind whatever stands before it. None where there is no JSON, or it is
/// another mutation's turn.
pub fn json(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let mut random = Rng::with_seed(seed.into());
    let begins = |it: &usize| matches!(data[*it], b'{' | b'[');
    // Behind a token's header, whose JSON is a line of its own.
    let line = data[..size].iter().rposition(|it| *it == b'\n').map_or(0, |it| it + 1);
    let at = (line..size).find(begins).or_else(|| (0..size).find(begins))?;
    let mut body: Value = serde_json::from_slice(&data[at..size]).ok()?;
    if random.u8(..4) == 0 {
        return None;
    }
    for _ in 0..random.usize(1..4) {
        let other = any_part(&body, &mut random).clone();
        let target = any_part_mut(&mut body, &mut random);
        change(target, other, &mut random);
    }
    let new = serde_json::to_vec(&body).ok()?;
    write(data, at, &new, max_size)
}

/// Changes a protobuf body behind the first byte.
pub fn protobuf(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let mut random = Rng::with_seed(seed.into());
    let body = data[..size].get(1..)?;
    if random.u8(..4) == 0 {
        return None;
    }
    let new = changed(body, &mut random, 0)?;
    write(data, 1, &new, max_size)
}

fn write(data: &mut [u8], at: usize, new: &[u8], max_size: usize) -> Option<usize> {
    let end = at + new.len();
    if end > max_size {
        return None;
    }
    data.get_mut(at..end)?.copy_from_slice(new);
    Some(end)
}

fn children(json: &Value) -> usize {
    match json {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    }
}

fn any_part<'j>(json: &'j Value, random: &mut Rng) -> &'j Value {
    let count = children(json);
    if count == 0 || random.u8(..6) == 0 {
        return json;
    }
    let at = random.usize(..count);
    let part = match json {
        Value::Array(items) => items.get(at),
        Value::Object(fields) => fields.values().nth(at),
        _ => None,
    };
    part.map_or(json, |it| any_part(it, random))
}

fn any_part_mut<'j>(json: &'j mut Value, random: &mut Rng) -> &'j mut Value {
    let count = children(json);
    if count == 0 || random.u8(..6) == 0 {
        return json;
    }
    let at = random.usize(..count);
    match json {
        Value::Array(items) => any_part_mut(&mut items[at], random),
        Value::Object(fields) => match fields.values_mut().nth(at) {
            Some(it) => any_part_mut(it, random),
            None => unreachable!("there are as many"),
        },
        scalar => scalar,
    }
}

fn scalar(random: &mut Rng) -> Value {
    match random.u8(..9) {
        0 => Value::Null,
        1 => random.bool().into(),
        2 => random.i64(..).into(),
        3 => random.u64(..).into(),
        4 => random.i64(-2..1000).into(),
        5 => f64::from_bits(random.u64(..)).into(),
        6 => random.u32(1_700_000_000..1_800_000_000).into(),
        _ => TEXTS[random.usize(..TEXTS.len())].into(),
    }
}

fn change(target: &mut Value, other: Value, random: &mut Rng) {
    match (random.u8(..8), target) {
        (0, Value::Array(items)) if !items.is_empty() => {
            items.remove(random.usize(..items.len()));
        }
        (0, Value::Object(fields)) if !fields.is_empty() => {
            if let Some(key) = fields.keys().nth(random.usize(..fields.len())).cloned() {
                fields.remove(&key);
            }
        }
        (1, Value::Array(items)) => items.push(other),
        (1, Value::Object(fields)) => renamed(fields, random),
        // Many of the same: what takes long takes longer.
        (2, Value::Array(items)) if (1..100).contains(&items.len()) => {
            let item = items[random.usize(..items.len())].clone();
            items.extend(std::iter::repeat_n(item, random.usize(1..60)));
        }
        (2, Value::String(text)) if (1..1000).contains(&text.len()) => {
            *text = text.repeat(random.usize(2..2000).min(20_000 / text.len()));
        }
        (3, Value::String(text)) => {
            let at = (0..=text.len()).rev().find(|it| random.bool() && text.is_char_boundary(*it));
            text.truncate(at.unwrap_or(0));
            text.push_str(TEXTS[random.usize(..TEXTS.len())]);
        }
        (3, Value::Number(number)) => {
            let near = number.as_i64().unwrap_or(0).wrapping_add(random.i64(-2..3));
            *number = near.into();
        }
        (4 | 5, target) => *target = other,
        (_, target) => *target = scalar(random),
    }
}

/// One field takes another one's name.
fn renamed(fields: &mut Map<String, Value>, random: &mut Rng) {
    let keys: Vec<_> = fields.keys().cloned().collect();
    if keys.is_empty() {
        return;
    }
    let (from, to) = (&keys[random.usize(..keys.len())], &keys[random.usize(..keys.len())]);
    if let Some(value) = fields.remove(from) {
        fields.insert(to.clone(), value);
    }
}

/// A field as it came: its number, the kind of its value, and that with its length.
type Field = (u32, WireType, Vec<u8>);

fn fields(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (number, wire) = decode_key(&mut bytes).ok()?;
        let length = match wire {
            WireType::Varint => {
                let before = bytes;
                decode_varint(&mut bytes).ok()?;
                let (value, _) = before.split_at(before.len() - bytes.len());
                fields.push((number, wire, value.to_vec()));
                continue;
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut bytes).ok()?).ok()?,
            _ => return None,
        };
        fields.push((number, wire, bytes.get(..length)?.to_vec()));
        bytes = &bytes[length..];
    }
    Some(fields)
}

fn changed(message: &[u8], random: &mut Rng, depth: usize) -> Option<Vec<u8>> {
    let mut fields = fields(message)?;
    let at = if fields.is_empty() { return None } else { random.usize(..fields.len()) };
    let inner = Some(&fields[at]).filter(|it| it.1 == WireType::LengthDelimited && depth < 9);
    let inner = inner.filter(|_| random.u8(..5) > 0);
    if let Some(value) = inner.and_then(|it| changed(&it.2, random, depth + 1)) {
        fields[at].2 = value;
    } else {
        match random.u8(..7) {
            0 => drop(fields.remove(at)),
            1 => fields.insert(at, fields[random.usize(..fields.len())].clone()),
            2 => {
                let field = fields[at].clone();
                fields.extend(std::iter::repeat_n(field, random.usize(1..40)));
            }
            3 => fields[at].0 = random.u32(1..20),
            4 if fields[at].1 == WireType::LengthDelimited => {
                let length = [0, 8, 16, random.usize(..40)][random.usize(..4)];
                fields[at].2.resize(length, random.u8(..));
            }
            5 => fields[at] = (random.u32(1..20), WireType::Varint, vec![random.u8(..0x80)]),
            _ => {
                if let Some(byte) = fields[at].2.last_mut() {
                    *byte ^= 1 << random.u8(..7);
                }
            }
        }
    }
    Some(written(&fields))
}

fn written(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, wire, value) in fields {
        encode_key(*number, *wire, &mut out);
        if *wire == WireType::LengthDelimited {
            encode_varint(value.len() as u64, &mut out);
        }
        out.extend_from_slice(value);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a mutation with many seeds in a buffer of 4,096 bytes, and gives what it made.
    fn made(of: &[u8], mutate: fn(&mut [u8], usize, usize, u32) -> Option<usize>) -> Vec<Vec<u8>> {
        let mutated = |seed| {
            let mut data = of.to_vec();
            data.resize(4096, 0);
            let size = mutate(&mut data, of.len(), 4096, seed)?;
            data.truncate(size);
            Some(data)
        };
        (0..400).filter_map(mutated).collect()
    }

    #[test]
    fn what_was_json_stays_json_behind_its_headers() {
        let made = made(
            br#"1a: b
{"a": [1, {"b": "c"}], "d": null}"#,
            json,
        );
        assert!(made.len() > 200, "{}", made.len());
        let distinct: std::collections::BTreeSet<_> = made.iter().collect();
        assert!(distinct.len() > 100, "{}", distinct.len());
        for data in &made {
            let body = data.strip_prefix(b"1a: b\n").unwrap();
            assert!(serde_json::from_slice::<Value>(body).is_ok(), "{}", data.escape_ascii());
        }
    }

    #[test]
    fn what_was_protobuf_stays_protobuf() {
        let inner =
            written(&[(1, WireType::Varint, vec![7]), (2, WireType::SixtyFourBit, vec![0; 8])]);
        let body = written(&[(1, WireType::LengthDelimited, inner)]);
        let made = made(&[b"0", body.as_slice()].concat(), protobuf);
        assert!(made.len() > 200, "{}", made.len());
        assert!(made.iter().all(|it| fields(&it[1..]).is_some()));
    }
}
