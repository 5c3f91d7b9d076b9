//! Payload fields that accept whatever a provider sends.
//!
//! Providers call their payloads open: fields come and go, numbers arrive as text, `""` stands for
//! absent, and an object is null where nothing applies. A field of an unexpected type reads as
//! absent here, so one odd field never costs a delivery.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

/// The visits in which a value is of another type than the field's, and reads as absent.
macro_rules! absent {
    (scalars) => {
        absent!(null);
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
    (null) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
    (seq) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
    (map) => {
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
}

/// Text; numbers and booleans as they are written. Absent is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    /// The text, borrowed from the payload wherever that holds it unescaped.
    #[must_use]
    pub fn cow(&self) -> Cow<'a, str> {
        self.0.clone()
    }

    /// The text, unless it is absent.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        Some(self.as_str()).filter(|text| !text.is_empty())
    }

    /// The text, empty when absent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is absent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for TextVisitor<'a> {
            type Value = Text<'a>;
            absent!(null);
            absent!(seq);
            absent!(map);
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Borrowed(if value { "true" } else { "false" })))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Owned(value.to_string())))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Owned(value.to_string())))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Owned(value.to_string())))
            }
        }
        deserializer.deserialize_any(TextVisitor(PhantomData))
    }
}

/// Wraps one visitor each around a few scalar conversions.
macro_rules! scalar {
    ($(#[$doc:meta])* $name:ident, $value:ty, $visitor:ident, { $($visit:item)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $name(pub $value);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct $visitor;
                impl<'de> Visitor<'de> for $visitor {
                    type Value = $name;
                    absent!(null);
                    absent!(seq);
                    absent!(map);
                    $($visit)*
                }
                deserializer.deserialize_any($visitor)
            }
        }
    };
}

scalar!(
    /// A whole number that is not negative, also when it is written as text.
    Int, Option<u64>, IntVisitor, {
        fn visit_u64<E>(self, value: u64) -> Result<Int, E> {
            Ok(Int(Some(value)))
        }
        fn visit_i64<E>(self, value: i64) -> Result<Int, E> {
            Ok(Int(u64::try_from(value).ok()))
        }
        #[expect(
            clippy::cast_possible_truncation, clippy::cast_sign_loss,
            reason = "checked to be whole, positive and exactly representable"
        )]
        fn visit_f64<E>(self, value: f64) -> Result<Int, E> {
            let whole = value.fract() == 0.0 && (0.0..9.0e15).contains(&value);
            Ok(Int(whole.then_some(value as u64)))
        }
        fn visit_bool<E>(self, _: bool) -> Result<Int, E> {
            Ok(Int(None))
        }
        fn visit_str<E>(self, text: &str) -> Result<Int, E> {
            Ok(Int(text.trim().parse().ok()))
        }
    }
);

scalar!(
    /// A number, also when it is written as text.
    Number, Option<f64>, NumberVisitor, {
        #[expect(clippy::cast_precision_loss, reason = "durations need no 53 bits")]
        fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
            Ok(Number(Some(value as f64)))
        }
        #[expect(clippy::cast_precision_loss, reason = "durations need no 53 bits")]
        fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
            Ok(Number(Some(value as f64)))
        }
        fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
            Ok(Number(Some(value)))
        }
        fn visit_bool<E>(self, _: bool) -> Result<Number, E> {
            Ok(Number(None))
        }
        fn visit_str<E>(self, text: &str) -> Result<Number, E> {
            Ok(Number(text.trim().parse().ok().filter(|number: &f64| number.is_finite())))
        }
    }
);

scalar!(
    /// Yes or no, also when it is written as text or as 0 or 1.
    Flag, Option<bool>, FlagVisitor, {
        fn visit_bool<E>(self, value: bool) -> Result<Flag, E> {
            Ok(Flag(Some(value)))
        }
        fn visit_u64<E>(self, value: u64) -> Result<Flag, E> {
            Ok(Flag((value < 2).then_some(value == 1)))
        }
        fn visit_i64<E>(self, _: i64) -> Result<Flag, E> {
            Ok(Flag(None))
        }
        fn visit_f64<E>(self, _: f64) -> Result<Flag, E> {
            Ok(Flag(None))
        }
        fn visit_str<E>(self, text: &str) -> Result<Flag, E> {
            Ok(Flag(text.trim().to_ascii_lowercase().parse().ok()))
        }
    }
);

/// An object; none when it is null or no object at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<T>(pub Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Object<T> {
    /// The object, unless it is absent.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;
            absent!(scalars);
            absent!(seq);
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|it| Object(Some(it)))
            }
        }
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// A list; empty when it is null or no list at all. Of more than `MAX` items the first are kept: an
/// item that takes two bytes of a payload may take hundreds in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct List<T, const MAX: usize> {
    /// The items that were kept.
    pub items: Vec<T>,
    /// How many were left out.
    pub dropped: usize,
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self { items: Vec::new(), dropped: 0 }
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
            type Value = List<T, MAX>;
            absent!(scalars);
            absent!(map);
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T, MAX>, A::Error> {
                let mut list = List::default();
                while list.items.len() < MAX {
                    match seq.next_element()? {
                        Some(item) => list.items.push(item),
                        None => return Ok(list),
                    }
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    list.dropped += 1;
                }
                Ok(list)
            }
        }
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Everything<'a> {
        #[serde(borrow)]
        text: Text<'a>,
        int: Int,
        number: Number,
        flag: Flag,
        #[serde(borrow)]
        object: Object<Inner<'a>>,
        #[serde(borrow)]
        list: List<Text<'a>, 2>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Inner<'a> {
        #[serde(borrow)]
        text: Text<'a>,
    }

    #[test]
    fn a_field_of_any_type_never_fails() {
        let values =
            ["null", "true", "-1", "1", "1.5", "\"x\"", "\"\\u00e9\"", "[1,[2]]", "{\"a\":{}}"];
        for field in ["text", "int", "number", "flag", "object", "list", "unknown"] {
            for value in values {
                let json = format!("{{\"{field}\":{value}}}");
                assert!(serde_json::from_str::<Everything>(&json).is_ok(), "{json}");
            }
        }
    }

    #[test]
    fn numbers_and_flags_are_read_from_text() {
        let read: Everything =
            serde_json::from_str(r#"{"text":12,"int":"12","number":"1.5","flag":"false"}"#)
                .unwrap();
        assert_eq!(read.text.as_str(), "12");
        assert_eq!(read.int, Int(Some(12)));
        assert_eq!(read.number, Number(Some(1.5)));
        assert_eq!(read.flag, Flag(Some(false)));
        for (json, flag) in [
            ("1", Some(true)),
            ("0", Some(false)),
            ("2", None),
            (r#"" True""#, Some(true)),
            (r#""""#, None),
        ] {
            assert_eq!(serde_json::from_str::<Flag>(json).unwrap().0, flag, "{json}");
        }
        assert_eq!(serde_json::from_str::<Int>(r#"" 12 ""#).unwrap(), Int(Some(12)));
    }

    #[test]
    fn a_list_keeps_its_first_items_and_counts_the_others() {
        for (json, kept, dropped) in [
            (r#"{"list":[]}"#, 0, 0),
            (r#"{"list":["a","b"]}"#, 2, 0),
            (r#"{"list":["a","b",{"c":[]},"d"]}"#, 2, 2),
        ] {
            let list = serde_json::from_str::<Everything>(json).unwrap().list;
            assert_eq!((list.items.len(), list.dropped), (kept, dropped), "{json}");
        }
    }
}
