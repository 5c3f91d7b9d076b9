//! Inputs in parts. All are text as far as the target's own bytes are, so that a corpus can be read.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The first byte as a choice, with what follows. Seeds write it as a printable character from `0`.
pub(crate) fn choice(data: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some((usize::from(first.wrapping_sub(b'0')), rest))
}

/// Lines of headers, and the body behind the first empty line; without one all is body.
pub(crate) fn request(data: &[u8]) -> (HeaderMap, &[u8]) {
    let end = data.windows(2).position(|it| it == b"\n\n");
    let (head, body) = end.map_or((&b""[..], data), |at| (&data[..at], &data[at + 2..]));
    (headers(head), body)
}

/// Lines `name: value`; what is no header is left out, as a server would.
pub(crate) fn headers(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split(|it| *it == b'\n') {
        let mut parts = line.splitn(2, |it| *it == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    headers
}

/// `N` lines of text and the rest.
pub(crate) fn lines<const N: usize>(data: &[u8]) -> Option<([&str; N], &[u8])> {
    let mut found = [""; N];
    let mut rest = data;
    for line in &mut found {
        let end = rest.iter().position(|it| *it == b'\n').unwrap_or(rest.len());
        *line = std::str::from_utf8(&rest[..end]).ok()?;
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    Some((found, rest))
}
