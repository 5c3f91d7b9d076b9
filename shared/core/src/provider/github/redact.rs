//! What is blanked before a payload is kept.

use serde_json::Value;

/// What a person or a program gave a run as its inputs may be secret; mail addresses are nobody's
/// business.
pub(super) fn redact(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            for (key, value) in fields {
                if matches!(key.as_str(), "inputs" | "client_payload" | "email" | "secret") {
                    blank(value);
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

fn blank(json: &mut Value) {
    match json {
        Value::Object(fields) => fields.iter_mut().for_each(|(_, it)| blank(it)),
        Value::Array(items) => items.iter_mut().for_each(blank),
        Value::Null => {}
        value => *value = "[blanked]".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn inputs_and_mail_addresses_are_blanked_and_their_names_stay() {
        let mut body = json!({
            "inputs": { "token": "s3cret", "list": ["s3cret"] },
            "client_payload": "s3cret",
            "head_commit": { "author": { "email": "s3cret@example.com" } },
            "hook": { "config": { "secret": "s3cret" } },
            "ref": null,
        });
        redact(&mut body);
        let blanked = body.to_string();
        assert!(blanked.contains("token") && !blanked.contains("s3cret"), "{blanked}");
    }
}
