//! What is never kept: secrets that slipped into an event, and who wrote a commit.

use std::borrow::Cow;

use serde_json::Value;

/// What stands in the place of a secret.
pub(super) const BLANK: &str = "[blanked]";

/// Whether the name of a field tells that its value is a secret.
pub(super) fn is_secret(key: &str) -> bool {
    const WORDS: [&str; 14] = [
        "password",
        "passwd",
        "passphrase",
        "pwd",
        "session",
        "bearer",
        "sshkey",
        "token",
        "secret",
        "authorization",
        "cookie",
        "apikey",
        "credential",
        "privatekey",
    ];
    // `buildsName` has those letters too: a data source's name stands first or last in its part.
    let dsn = |part: &str| {
        let part = part.to_ascii_lowercase();
        part.starts_with("dsn") || part.ends_with("dsn")
    };
    if key.split(|it: char| !it.is_alphanumeric()).any(dsn) {
        return true;
    }
    let key = letters(key);
    // An author is a person.
    WORDS.iter().any(|word| key.contains(word)) || key.replace("author", "").contains("auth")
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
        Value::String(text) => without_credentials(text).into_owned().into(),
        value => value.clone(),
    }
}

/// A text with what is secret in its web addresses blanked: who logs in, and parts of a query with
/// the name of a secret. <https://www.rfc-editor.org/rfc/rfc3986#section-3.2.1>
pub(super) fn without_credentials(text: &str) -> Cow<'_, str> {
    let mut clean = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let ends = |it: char| it.is_whitespace() || matches!(it, '"' | '\'' | '<' | '>' | '`');
        let (address, after) = after.split_at(after.find(ends).unwrap_or(after.len()));
        clean += before;
        clean += "://";
        write_address(address, &mut clean);
        rest = after;
    }
    if clean.is_empty() { text.into() } else { (clean + rest).into() }
}

/// What stands behind the scheme of a web address.
fn write_address(address: &str, clean: &mut String) {
    let authority = address.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    // What stands in the place of a port and is none is a password with a slash in it.
    let port = |it: &str| it.bytes().all(|it| it.is_ascii_digit());
    let odd = !authority.starts_with('[')
        && authority.split_once(':').is_some_and(|(_, rest)| !port(rest));
    let login = if odd { address.rfind('@') } else { authority.rfind('@') };
    let (login, address) = address.split_at(login.unwrap_or(0));
    *clean += if login.is_empty() { "" } else { BLANK };
    for part in address.split_inclusive(['?', '&', '#', ';']) {
        match part.split_once('=') {
            Some((name, value)) if is_secret(name) => {
                let end = value.trim_start_matches(|it| !matches!(it, '?' | '&' | '#' | ';'));
                *clean += &format!("{name}={BLANK}{end}");
            }
            _ => *clean += part,
        }
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
        for key in [
            "db_pwd",
            "DBPWD",
            "gpg-passphrase",
            "DSN",
            "sentryDsn",
            "dsn.main",
            "PHP_SESSION_ID",
            "auth",
            "npm._auth",
            "oauth2",
            "basicAuth",
            "bearer",
            "ssh_key",
            "SSH-Key-Deploy",
        ] {
            assert!(is_secret(key) && !is_personal(key), "{key}");
        }
        for key in ["author", "commit.author.name", "E-Mail", "userEmail", "authored_by"] {
            assert!(is_personal(key), "{key}");
        }
        for key in ["name", "size", "authority", "branch", "buildsName", "threads_number", "passed"]
        {
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

    #[test]
    fn addresses_lose_who_logs_in_and_what_their_query_names_a_secret() {
        for (text, expected) in [
            ("https://u:p@h/x", "https://[blanked]@h/x"),
            ("https://token@h:8443/x@1", "https://[blanked]@h:8443/x@1"),
            ("postgres://u:p/w?x#@h:5432/db", "postgres://[blanked]@h:5432/db"),
            (
                "cloned https://a:b@h and git+ssh://c:d@i.",
                "cloned https://[blanked]@h and git+ssh://[blanked]@i.",
            ),
            ("\"https://a:b@c@h\"", "\"https://[blanked]@h\""),
            ("https://h/x?a=1&access_token=t&b=2", "https://h/x?a=1&access_token=[blanked]&b=2"),
            ("https://h/#token=t", "https://h/#token=[blanked]"),
            ("https://h:8443/@scope/pkg?v=1", "https://h:8443/@scope/pkg?v=1"),
            ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
            ("a://", "a://"),
            ("me@example.com: 1:2", "me@example.com: 1:2"),
        ] {
            assert_eq!(without_credentials(text), expected, "{text}");
        }
        // As many as a body holds: each a few bytes, and none a frame of the stack.
        let many = "\"https://u:p@h\" ".repeat(1_000_000);
        assert_eq!(without_credentials(&many).len(), "\"https://[blanked]@h\" ".len() * 1_000_000);
        let json = serde_json::json!({ "remotes": ["https://u:p@h/x"] });
        assert_eq!(super::text(&json, 9), r#"{"remotes":["https://[blanked]@h/x"]}"#);
    }
}
