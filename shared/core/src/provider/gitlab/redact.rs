//! What is blanked before a payload is kept.

use serde_json::Value;

/// GitLab sends pipeline variables in clear text; their values are secrets more often than not.
pub(super) fn redact(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == "variables" { blank(value) } else { redact(value) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

/// Below `variables` every value goes; names stay.
fn blank(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            fields.iter_mut().filter(|(key, _)| *key != "key").for_each(|(_, it)| blank(it));
        }
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
    fn variables_lose_their_values_and_keep_their_names() {
        let mut body = json!({"object_attributes":{"variables":[{"key":"TOKEN","value":"s3cret"}]}});
        redact(&mut body);
        let blanked = body.to_string();
        assert!(blanked.contains("TOKEN") && !blanked.contains("s3cret"), "{blanked}");
    }
}
