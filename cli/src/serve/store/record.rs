//! What is kept, byte by byte: records one after the other, each with its own checksums.
//!
//! ```text
//! magic 4 | kind 1 | coding 1 | begins 1 | zero 1 | id 8 | length 4 | checksum of the payload 4 | checksum of the header 4 | payload
//! ```
//!
//! `begins` is 1 in the first record of a write: what is broken after the last of these in a file may be of a
//! write that was broken off, whose sectors a disk may take in any order.
//!
//! Numbers are big-endian, checksums are CRC-32. No record depends on another: what can't be read
//! is passed over up to the next header, and only that is lost.

use super::payload::Draft;

/// Not UTF-8, so that no text has it; no payload does.
pub(super) const MAGIC: [u8; 4] = [0xFF, b'S', b'p', 0xFE];

/// Bytes before a payload.
pub(super) const HEADER: usize = 28;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message that waits.
    Queued = 1,
    /// A dead letter.
    Dead = 2,
    /// A message that the process's own page shows.
    Shown = 3,
    /// Ids that are done with, eight bytes each.
    Settled = 4,
}

/// How a payload is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// All of it as JSON, as an earlier version did.
    Json = 0,
    /// The body as it is.
    Plain = 1,
    /// The body as a zstd frame.
    Zstd = 2,
    /// The body as base64.
    Text = 3,
}

/// The payload of [`Kind::Settled`].
pub(super) fn ids(ids: &[u64]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_be_bytes()).collect()
}

/// The ids of [`Kind::Settled`].
pub(super) fn settled(payload: &[u8]) -> impl Iterator<Item = u64> {
    payload.as_chunks().0.iter().map(|it| u64::from_be_bytes(*it))
}

/// Appends a record.
pub(super) fn write(to: &mut Vec<u8>, draft: &Draft, id: u64, begins: bool) {
    let start = to.len();
    to.extend(MAGIC);
    to.extend([draft.kind as u8, draft.coding as u8, u8::from(begins), 0]);
    to.extend(id.to_be_bytes());
    // A delivery is bounded far below 4 GiB.
    to.extend(u32::try_from(draft.payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend(draft.checksum.to_be_bytes());
    let checksum = crc32fast::hash(&to[start..]);
    to.extend(checksum.to_be_bytes());
    to.extend_from_slice(&draft.payload);
}

/// A record that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'b> {
    pub(super) kind: Kind,
    pub(super) coding: Coding,
    pub(super) begins: bool,
    pub(super) id: u64,
    pub(super) payload: &'b [u8],
}

/// Why bytes are no record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// No header begins here.
    Header,
    /// The header holds, the payload does not.
    Payload { id: u64, length: usize },
    /// The bytes end before the record does.
    Short,
}

/// Reads the record that the bytes begin with.
pub(super) fn read(bytes: &[u8]) -> Result<Record<'_>, Broken> {
    let Some((header, _)) = bytes.split_at_checked(HEADER) else {
        let begun = bytes.iter().zip(MAGIC).all(|(byte, magic)| *byte == magic);
        return Err(if begun { Broken::Short } else { Broken::Header });
    };
    if header[..4] != MAGIC || crc32fast::hash(&header[..HEADER - 4]) != word(header, HEADER - 4) {
        return Err(Broken::Header);
    }
    let header = Header::of(header).ok_or(Broken::Header)?;
    let payload = bytes.get(HEADER..HEADER + header.length).ok_or(Broken::Short)?;
    if crc32fast::hash(payload) != header.checksum {
        return Err(Broken::Payload { id: header.id, length: HEADER + header.length });
    }
    Ok(header.record(payload))
}

/// The same of bytes that were checked, or have just been made by [`write()`].
pub(super) fn written(bytes: &[u8]) -> Option<Record<'_>> {
    let header = Header::of(bytes.get(..HEADER)?)?;
    Some(header.record(bytes.get(HEADER..HEADER + header.length)?))
}

fn word(header: &[u8], at: usize) -> u32 {
    header[at..].first_chunk().map_or(0, |it| u32::from_be_bytes(*it))
}

struct Header {
    kind: Kind,
    coding: Coding,
    begins: bool,
    id: u64,
    length: usize,
    checksum: u32,
}

impl Header {
    fn of(header: &[u8]) -> Option<Self> {
        Some(Self {
            kind: match header[4] {
                1 => Kind::Queued,
                2 => Kind::Dead,
                3 => Kind::Shown,
                4 => Kind::Settled,
                _ => return None,
            },
            coding: match header[5] {
                0 => Coding::Json,
                1 => Coding::Plain,
                2 => Coding::Zstd,
                3 => Coding::Text,
                _ => return None,
            },
            begins: header[6] == 1,
            id: header[8..].first_chunk().map_or(0, |it| u64::from_be_bytes(*it)),
            length: word(header, 16) as usize,
            checksum: word(header, 20),
        })
    }

    fn record<'b>(&self, payload: &'b [u8]) -> Record<'b> {
        let Self { kind, coding, begins, id, .. } = *self;
        Record { kind, coding, begins, id, payload }
    }
}

/// What a segment holds at a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'b> {
    Record(Record<'b>),
    /// Bytes that were a record; its id when that can still be read.
    Damaged(Option<u64>),
    /// A write that a crash broke off. It was not answered yet.
    CutOff,
    /// Nothing was written from here on.
    Unused,
}

/// Everything in a segment, each with where it begins and how long it is. A segment has its size
/// before it has its content, so what was not written is zeros.
pub(super) fn scan(bytes: &[u8]) -> impl Iterator<Item = (usize, usize, Found<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|it| !it.is_empty())?;
        let (length, found) = match read(rest) {
            Ok(record) => (HEADER + record.payload.len(), Found::Record(record)),
            // JSON never ends with a zero: the end was not written.
            Err(Broken::Payload { length, .. })
                if rest[length - 1] == 0 && is_zero(&rest[length..]) =>
            {
                (rest.len(), Found::CutOff)
            }
            Err(Broken::Payload { id, length }) => (length, Found::Damaged(Some(id))),
            Err(Broken::Header) if is_zero(rest) => (rest.len(), Found::Unused),
            Err(Broken::Header) if rest.len() > HEADER && is_zero(&rest[HEADER..]) => {
                (rest.len(), Found::CutOff)
            }
            Err(broken) => match next_header(rest) {
                Some(next) => (next, Found::Damaged(None)),
                None if broken == Broken::Short => (rest.len(), Found::CutOff),
                None => (rest.len(), Found::Damaged(None)),
            },
        };
        let start = at;
        at += length;
        Some((start, length, found))
    })
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|it| *it == 0)
}

/// Where the next header is, behind the first byte.
fn next_header(bytes: &[u8]) -> Option<usize> {
    let mut starts = bytes.windows(MAGIC.len()).enumerate().skip(1);
    starts
        .find(|(at, it)| **it == MAGIC && read(&bytes[*at..]) != Err(Broken::Header))
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let starts = (0..3_u64).map(|id| {
            let start = bytes.len();
            let payload = format!("payload {id}").into_bytes();
            write(&mut bytes, &Draft::of(Kind::Queued, Coding::Plain, payload), id, false);
            start
        });
        let starts = starts.collect();
        (bytes, starts)
    }

    /// As it is while it is written to: longer than what is in it.
    fn with_room(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.resize(bytes.len() + 100, 0);
        bytes
    }

    fn ids_of(bytes: &[u8]) -> Vec<u64> {
        let records = scan(bytes).filter_map(|(.., found)| match found {
            Found::Record(record) => Some(record.id),
            _ => None,
        });
        records.collect()
    }

    #[test]
    fn a_flipped_bit_costs_its_own_record_and_no_other() {
        let (bytes, starts) = three();
        assert_eq!(ids_of(&bytes), [0, 1, 2]);
        for at in 0..bytes.len() {
            let hit = starts.iter().rposition(|start| *start <= at).unwrap() as u64;
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                for bytes in [flipped.clone(), with_room(flipped)] {
                    let kept: Vec<_> = (0..3).filter(|id| *id != hit).collect();
                    assert_eq!(ids_of(&bytes), kept, "byte {at}, bit {bit}");
                    let damaged =
                        scan(&bytes).filter(|(.., it)| matches!(it, Found::Damaged(_))).count();
                    assert_eq!(damaged, 1, "byte {at}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_write_that_broke_off_is_told_from_damage() {
        let (bytes, starts) = three();
        for end in starts[2] + 1..bytes.len() {
            let last = scan(&bytes[..end]).last().unwrap();
            assert_eq!((last.0, last.2), (starts[2], Found::CutOff), "{end} bytes");
            let roomy = with_room(bytes[..end].to_vec());
            let last = scan(&roomy).last().unwrap();
            assert_eq!((last.0, last.2), (starts[2], Found::CutOff), "{end} bytes");
        }
        let roomy = with_room(bytes.clone());
        let last = scan(&roomy).last().unwrap();
        assert_eq!((last.0, last.2), (bytes.len(), Found::Unused));
        let strange = [&bytes[..], b"strange"].concat();
        assert_eq!(scan(&strange).last().unwrap().2, Found::Damaged(None));
    }

    #[test]
    fn damage_in_a_payload_still_says_whose_it_is() {
        let (mut bytes, starts) = three();
        bytes[starts[1] + HEADER] ^= 1;
        assert!(scan(&bytes).any(|(.., found)| found == Found::Damaged(Some(1))));
    }
}
