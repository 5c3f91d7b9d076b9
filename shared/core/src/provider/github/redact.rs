//! What is blanked before a payload is kept.

use std::borrow::Cow;

use crate::blank::blanked;

/// What a person or a program gave a run as its inputs may be secret; mail addresses are nobody's
/// business.
pub(super) fn redact(body: &[u8]) -> Cow<'_, [u8]> {
    blanked(body, |inside, key| {
        inside || matches!(key, "inputs" | "client_payload" | "email" | "secret")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn inputs_and_mail_addresses_are_blanked_and_their_names_stay() {
        let body = json!({
            "inputs": { "token": "s3cret", "list": ["s3cret"] },
            "client_payload": "s3cret",
            "head_commit": { "author": { "email": "s3cret@example.com" } },
            "hook": { "config": { "secret": "s3cret" } },
            "ref": "kept",
        });
        let body = body.to_string();
        let blanked = String::from_utf8(redact(body.as_bytes()).into_owned()).unwrap();
        assert!(blanked.contains("token") && blanked.contains("kept"), "{blanked}");
        assert!(!blanked.contains("s3cret"), "{blanked}");
    }
}
