//! What is blanked before a payload is kept.

use std::borrow::Cow;

use crate::blank::blanked;

/// GitLab sends pipeline variables in clear text; their values are secrets more often than not.
/// Below `variables` every value is blanked but the names, which stand under `key`.
pub(super) fn redact(body: &[u8]) -> Cow<'_, [u8]> {
    blanked(body, |inside, key| if inside { key != "key" } else { key == "variables" })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn redacted(body: &str) -> String {
        String::from_utf8(redact(body.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn variables_lose_their_values_and_keep_their_names() {
        for (body, expected) in [
            (
                r#"{"object_attributes":{"variables":[{"key":"TOKEN","value":"s3cret"}]}}"#,
                r#"{"object_attributes":{"variables":[{"key":"TOKEN","value":"[blanked]"}]}}"#,
            ),
            (
                r#"{"variables":{"a":"s3cret","b":[1,true,{"c":-1.5}],"d":null},"e":"kept"}"#,
                r#"{"variables":{"a":"[blanked]","b":["[blanked]","[blanked]",{"c":"[blanked]"}],"d":null},"e":"kept"}"#,
            ),
            (r#"[{"variables":"s3cret"},[],{}]"#, r#"[{"variables":"[blanked]"},[],{}]"#),
            (
                r#"{"variables":1,"variables":"twice"}"#,
                r#"{"variables":"[blanked]","variables":"[blanked]"}"#,
            ),
        ] {
            assert_eq!(redacted(body), expected);
        }
    }

    #[test]
    fn what_is_no_json_stays_as_it_is() {
        for body in ["", "nonsense", "{\"variables\":[", "{} {}", "{\"a\":1}x"] {
            assert_eq!(redacted(body), body);
        }
    }

    proptest! {
        #[test]
        fn everything_else_is_copied(text: String, number: i64, keys: Vec<String>) {
            let fields: BTreeMap<_, _> = keys.iter().map(|it| (format!("k{it}"), &text)).collect();
            let json = serde_json::json!([text, number, fields, [null, true, { "n": [0.5] }]]);
            let copy: serde_json::Value = serde_json::from_str(&redacted(&json.to_string())).unwrap();
            prop_assert_eq!(copy, json);
        }
    }
}
