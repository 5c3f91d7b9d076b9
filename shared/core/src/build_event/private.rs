//! What is never kept: secrets that slipped into an event, and who wrote a commit.

use serde_json::Value;

/// What stands in the place of a secret.
pub(super) const BLANK: &str = "[blanked]";

/// Whether the name of a field tells that its value is a secret.
pub(super) fn is_secret(key: &str) -> bool {
    const WORDS: [&str; 9] = [
        "password",
        "passwd",
        "token",
        "secret",
        "authorization",
        "cookie",
        "apikey",
        "credential",
        "privatekey",
    ];
    let key = letters(key);
    WORDS.iter().any(|word| key.contains(word))
}

/// Whether the name of a field tells that its value is a person.
pub(super) fn is_personal(key: &str) -> bool {
    let key = letters(key);
    key.contains("email") || key.contains("author") && !key.contains("authoriz")
}

/// `api_key`, `api-key` and `apiKey` are the same name.
fn letters(key: &str) -> String {
    key.chars().filter(|it| it.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The text of a value without what is private, of each list the first `most` items.
pub(super) fn text(json: &Value, most: usize) -> String {
    clean(json, most).to_string()
}

fn clean(json: &Value, most: usize) -> Value {
    match json {
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, _)| !is_personal(key))
            .map(|(key, value)| {
                let value = if is_secret(key) { BLANK.into() } else { clean(value, most) };
                (key.clone(), value)
            })
            .collect(),
        Value::Array(items) => items.iter().take(most).map(|it| clean(it, most)).collect(),
        value => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_persons_are_told_by_their_names() {
        for key in ["password", "API_TOKEN", "x-api-key", "Set-Cookie", "Authorization", "apiKey"] {
            assert!(is_secret(key) && !is_personal(key), "{key}");
        }
        for key in ["author", "commit.author.name", "E-Mail", "userEmail", "authored_by"] {
            assert!(is_personal(key), "{key}");
        }
        for key in ["name", "size", "authority", "branch"] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn the_text_of_an_event_holds_nothing_private_at_any_depth() {
        let json = serde_json::json!({
            "a": [{ "token": { "deep": "s3cret" } }, { "author": "Ada" }, 3],
            "email": "ada@example.com",
        });
        assert_eq!(text(&json, 2), r#"{"a":[{"token":"[blanked]"},{}]}"#);
    }
}
