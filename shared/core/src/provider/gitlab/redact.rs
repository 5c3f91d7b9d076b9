//! What is blanked before a payload is kept.

use std::{borrow::Cow, fmt};

use serde::{
    Serialize,
    de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor},
};

/// GitLab sends pipeline variables in clear text; their values are secrets more often than not.
/// Below `variables` every value is blanked but the names, which stand under `key`.
///
/// The body is copied as it is read: a tree of it could take a hundred times its size.
pub(super) fn redact(body: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::with_capacity(body.len());
    let mut json = serde_json::Deserializer::from_slice(body);
    let copied =
        json.deserialize_any(Copy { out: &mut out, blank: false }).and_then(|()| json.end());
    if copied.is_ok() { out.into() } else { body.into() }
}

/// Copies one value.
struct Copy<'o> {
    out: &'o mut Vec<u8>,
    blank: bool,
}

impl Copy<'_> {
    fn scalar<E: Error>(self, value: impl Serialize) -> Result<(), E> {
        if self.blank {
            self.out.extend_from_slice(br#""[blanked]""#);
            return Ok(());
        }
        serde_json::to_writer(self.out, &value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Copy<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Copy<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { out, blank } = self;
        out.push(b'[');
        let empty = out.len();
        loop {
            let before = out.len();
            if before > empty {
                out.push(b',');
            }
            if items.next_element_seed(Copy { out, blank })?.is_none() {
                out.truncate(before);
                out.push(b']');
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Self { out, blank } = self;
        out.push(b'{');
        let empty = out.len();
        while let Some(key) = fields.next_key::<Cow<'_, str>>()? {
            if out.len() > empty {
                out.push(b',');
            }
            serde_json::to_writer(&mut *out, &key).map_err(A::Error::custom)?;
            out.push(b':');
            let blank = if blank { key != "key" } else { key == "variables" };
            fields.next_value_seed(Copy { out, blank })?;
        }
        out.push(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn blanked(body: &str) -> String {
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
            assert_eq!(blanked(body), expected);
        }
    }

    #[test]
    fn what_is_no_json_stays_as_it_is() {
        for body in ["", "nonsense", "{\"variables\":[", "{} {}", "{\"a\":1}x"] {
            assert_eq!(blanked(body), body);
        }
    }

    proptest! {
        #[test]
        fn everything_else_is_copied(text: String, number: i64, keys: Vec<String>) {
            let fields: BTreeMap<_, _> = keys.iter().map(|it| (format!("k{it}"), &text)).collect();
            let json = serde_json::json!([text, number, fields, [null, true, { "n": [0.5] }]]);
            let copy: serde_json::Value = serde_json::from_str(&blanked(&json.to_string())).unwrap();
            prop_assert_eq!(copy, json);
        }
    }
}
