//! Private things, put where senders have them, to be looked for in what comes out.

use serde_json::Value;

/// What is looked for.
const MARK: &str = "Pr1vate-Mark";

/// The JSON with a mark as the value of each field that `is_private`, and of no other; none where
/// it is no JSON or has no such field.
pub(crate) fn planted(body: &[u8], is_private: fn(&str) -> bool) -> Option<Vec<u8>> {
    let mut json: Value = serde_json::from_slice(body).ok()?;
    let count = plant(&mut json, is_private);
    let planted = json.to_string();
    // Where the body has the mark elsewhere nothing can be said.
    (count > 0 && planted.matches(MARK).count() == count).then(|| planted.into_bytes())
}

fn plant(json: &mut Value, is_private: fn(&str) -> bool) -> usize {
    match json {
        Value::Object(fields) => {
            let mut count = 0;
            for (key, value) in fields {
                if is_private(key) {
                    *value = MARK.into();
                    count += 1;
                } else {
                    count += plant(value, is_private);
                }
            }
            count
        }
        Value::Array(items) => items.iter_mut().map(|it| plant(it, is_private)).sum(),
        _ => 0,
    }
}

/// Asserts that there is no mark.
pub(crate) fn check_clean(raw: &[u8]) {
    let found = raw.windows(MARK.len()).position(|it| it == MARK.as_bytes());
    assert_eq!(found, None, "what is private came out: {}", raw.escape_ascii());
}
