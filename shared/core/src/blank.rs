//! A payload without what must not be kept of it.

use std::{borrow::Cow, fmt};

use serde::{
    Serialize,
    de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
};

/// Whether what stands under a key is blanked, by whether its surroundings are.
pub(crate) type Rule = fn(bool, &str) -> bool;

/// The body with every scalar blanked that the rule names; one that is no JSON as it is.
///
/// The body is copied as it is read: a tree of it could take a hundred times its size.
pub(crate) fn blanked(body: &[u8], rule: Rule) -> Cow<'_, [u8]> {
    let mut out = Vec::with_capacity(body.len());
    let mut json = serde_json::Deserializer::from_slice(body);
    let copied =
        json.deserialize_any(Copy { out: &mut out, blank: false, rule }).and_then(|()| json.end());
    if copied.is_ok() { out.into() } else { body.into() }
}

/// Copies one value.
struct Copy<'o> {
    out: &'o mut Vec<u8>,
    blank: bool,
    rule: Rule,
}

impl Copy<'_> {
    fn scalar(self, value: impl Serialize) {
        if self.blank {
            self.out.extend_from_slice(br#""[blanked]""#);
        } else {
            // A number or a text is written to memory without fail.
            let _ = serde_json::to_writer(self.out, &value);
        }
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

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.scalar(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.scalar(value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.scalar(value);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.scalar(value);
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.scalar(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { out, blank, rule } = self;
        out.push(b'[');
        let empty = out.len();
        loop {
            let before = out.len();
            if before > empty {
                out.push(b',');
            }
            if items.next_element_seed(Copy { out, blank, rule })?.is_none() {
                out.truncate(before);
                out.push(b']');
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Self { out, blank, rule } = self;
        out.push(b'{');
        let empty = out.len();
        while let Some(key) = fields.next_key::<Cow<'_, str>>()? {
            if out.len() > empty {
                out.push(b',');
            }
            // As above; a key that is read is text.
            let _ = serde_json::to_writer(&mut *out, &key);
            out.push(b':');
            let blank = rule(blank, &key);
            fields.next_value_seed(Copy { out, blank, rule })?;
        }
        out.push(b'}');
        Ok(())
    }
}
