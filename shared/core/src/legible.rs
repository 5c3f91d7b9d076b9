//! Bodies whose JSON is meant well and written carelessly.

use std::borrow::Cow;

/// Before JSON that a shell of Windows wrote to a file.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A body without what a parser of JSON refuses and a reader would not notice: a byte order mark,
/// and in texts halves of surrogate pairs, as JavaScript and Java leave them where they cut a text,
/// and bytes that are no UTF-8. Both of these become U+FFFD. What does not begin as JSON stays as it
/// came.
///
/// <https://www.rfc-editor.org/rfc/rfc8259#section-8>
pub(crate) fn legible(body: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match body {
        Cow::Borrowed(body) => mended(body),
        Cow::Owned(body) => match mended(&body) {
            Cow::Borrowed(same) if same.len() == body.len() => body.into(),
            other => other.into_owned().into(),
        },
    }
}

fn mended(body: &[u8]) -> Cow<'_, [u8]> {
    let json = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    if !matches!(json.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return body.into();
    }
    let mut text: Cow<'_, [u8]> = match String::from_utf8_lossy(json) {
        Cow::Borrowed(_) => json.into(),
        Cow::Owned(text) => text.into_bytes().into(),
    };
    for at in halves(&text) {
        text.to_mut()[at..at + REPLACEMENT.len()].copy_from_slice(REPLACEMENT);
    }
    text
}

const REPLACEMENT: &[u8; 6] = br"\uFFFD";

/// The places of escapes that are one half of a surrogate pair without the other.
fn halves(json: &[u8]) -> Vec<usize> {
    let rest = |at: usize| json.get(at..).unwrap_or_default();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(step) = rest(at).iter().position(|it| *it == b'\\') {
        at += step;
        at += match (unit(rest(at)), unit(rest(at + 6))) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                found.push(at);
                6
            }
            _ => 2,
        };
    }
    found
}

/// The UTF-16 unit of the escape that a text begins with.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(br"\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_a_reader_would_not_notice_is_mended() {
        for (body, expected) in [
            (&b"\xEF\xBB\xBF{\"a\":1}"[..], &b"{\"a\":1}"[..]),
            (br#"{"a":"\ud83d"}"#, br#"{"a":"\uFFFD"}"#),
            (br#"{"a":"\uDE00\ud83d\ud83d\uDE00"}"#, br#"{"a":"\uFFFD\uFFFD\ud83d\uDE00"}"#),
            (br#"{"a":"\\ud83d"}"#, br#"{"a":"\\ud83d"}"#),
            (b"[\"caf\xE9\"]", "[\"caf\u{fffd}\"]".as_bytes()),
            (b"\xEF\xBB\xBFcaf\xE9", b"\xEF\xBB\xBFcaf\xE9"),
            (br"{\", br"{\"),
            (br"{\ud8", br"{\ud8"),
            (b"", b""),
        ] {
            assert_eq!(legible(body.into()).as_ref(), expected, "{body:?}");
            assert_eq!(legible(body.to_vec().into()).as_ref(), expected, "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn whole_json_stays_as_it_is(text: String, pretty: bool) {
            let json = serde_json::json!([text, { text.as_str(): 1 }]);
            let body = if pretty { format!("{json:#}") } else { json.to_string() };
            let borrowed = matches!(legible(body.as_bytes().into()), Cow::Borrowed(it) if it == body.as_bytes());
            prop_assert!(borrowed);
        }

        #[test]
        fn a_text_of_any_units_and_bytes_is_read(units: Vec<u16>, bytes: Vec<u8>) {
            let mut body = b"[\"".to_vec();
            body.extend(units.iter().flat_map(|it| format!("\\u{it:04x}").into_bytes()));
            body.extend(bytes.into_iter().filter(|it| *it >= b' ' && !matches!(it, b'"' | b'\\')));
            body.extend(b"\"]");
            let mended = legible(body.into());
            let read: Vec<Value> = serde_json::from_slice(&mended).unwrap();
            prop_assert!(read[0].as_str().unwrap().starts_with(&String::from_utf16_lossy(&units)));
        }
    }
}
