//! The type of body that a webhook sends unless its owner chooses JSON: a form of one field.
//!
//! <https://docs.github.com/en/webhooks/using-webhooks/creating-webhooks>

use std::borrow::Cow;

/// The JSON of a body. What it is, its first bytes tell: proxies rewrite `Content-Type`.
///
/// It is no larger than the body, apart from bytes that are no UTF-8, of which each becomes three.
pub(super) fn decode(body: &[u8]) -> Cow<'_, [u8]> {
    if !body.starts_with(b"payload=") {
        return body.into();
    }
    match form_urlencoded::parse(body).next() {
        Some((_, Cow::Borrowed(json))) => json.as_bytes().into(),
        Some((_, Cow::Owned(json))) => json.into_bytes().into(),
        None => body.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_of_a_form_is_the_json() {
        for (body, json) in [
            (r#"{"zen":"payload="}"#, r#"{"zen":"payload="}"#),
            ("payload=%7B%22zen%22%3A%22Keep+it%22%7D", r#"{"zen":"Keep it"}"#),
            ("payload={}&payload=x&other=y", "{}"),
            ("payload=", ""),
            ("payload=%", "%"),
            ("other=x&payload=%7B%7D", "other=x&payload=%7B%7D"),
            ("", ""),
        ] {
            assert_eq!(decode(body.as_bytes()).as_ref(), json.as_bytes(), "{body}");
        }
        assert_eq!(decode(b"payload=\xff").as_ref(), "\u{fffd}".as_bytes());
    }
}
