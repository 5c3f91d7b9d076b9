//! Statistics files, read in one pass. They may be 200 MB, nearly all of it modules, which are
//! skipped as they are read.

use std::{fmt, marker::PhantomData};

use super::{
    modules::{ByChunk, Id},
    packages::Packages,
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// What is used of a file of any format.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    // webpack and rspack, and plugins of rollup that copy their shape
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) rspack_version: Option<String>,
    pub(super) time: Option<f64>,
    pub(super) errors: Option<u64>,
    pub(super) warnings: Option<u64>,
    pub(super) assets: Option<Vec<Asset>>,
    pub(super) chunks: Vec<Chunk>,
    /// What is in the chunks by their ids, where the chunks do not tell it themselves.
    pub(super) modules: ByChunk,
    /// The configurations of a multi-compiler, or compilations within this one.
    pub(super) children: Vec<Self>,
    /// esbuild's metafile
    pub(super) outputs: Option<Pairs<Output>>,
    /// Vite's manifest
    pub(super) entries: Vec<(String, Entry)>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asset {
    pub(super) name: Option<String>,
    pub(super) size: Option<f64>,
    /// Source maps, licence texts and compressed copies.
    pub(super) related: Option<Vec<Self>>,
    info: Option<Info>,
}

#[derive(Debug, Deserialize)]
struct Info {
    related: Option<Related>,
}

#[derive(Debug, Deserialize)]
struct Related {
    #[serde(rename = "sourceMap")]
    source_map: Option<Loose>,
}

impl Asset {
    /// Names of source maps that the statistics mention but do not list below the asset.
    pub(super) fn maps_without_size(&self) -> impl Iterator<Item = &String> {
        let related = self.related.as_deref().unwrap_or_default();
        let maps = self.info.as_ref().and_then(|it| it.related.as_ref()?.source_map.as_ref());
        maps.map(Loose::texts)
            .unwrap_or_default()
            .iter()
            .filter(|name| !related.iter().any(|it| it.name.as_ref() == Some(*name)))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Chunk {
    pub(super) id: Option<Id>,
    pub(super) modules: Option<Packages>,
    pub(super) names: Option<Vec<String>>,
    pub(super) files: Option<Vec<String>>,
    pub(super) size: Option<f64>,
    pub(super) entry: Option<bool>,
    pub(super) initial: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Output {
    #[serde(default)]
    pub(super) bytes: f64,
    #[serde(rename = "entryPoint")]
    pub(super) entry_point: Option<IgnoredAny>,
    #[serde(rename = "cssBundle")]
    pub(super) css_bundle: Option<String>,
    #[serde(default)]
    pub(super) imports: Vec<Import>,
    inputs: Option<Pairs<Input>>,
}

/// What is left of a module in an output.
#[derive(Debug, Deserialize)]
struct Input {
    #[serde(rename = "bytesInOutput", default)]
    bytes: f64,
}

impl Output {
    pub(super) fn packages(&self) -> Packages {
        let mut packages = Packages::default();
        for (path, input) in self.inputs.iter().flat_map(|it| &it.0) {
            packages.add(path, input.bytes);
        }
        packages
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Import {
    #[serde(default)]
    pub(super) path: String,
    #[serde(default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) external: bool,
}

/// What a manifest says of a file. Any other value is read as one without a `file`, since a
/// manifest is told from other files by nothing else.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) file: Option<String>,
    pub(super) name: Option<String>,
    pub(super) css: Vec<String>,
    pub(super) assets: Vec<String>,
    pub(super) imports: Vec<String>,
    pub(super) begins: bool,
}

impl<'de> Deserialize<'de> for Statistics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Statistics;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the statistics of a bundler")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Statistics, A::Error> {
                let mut found = Statistics::default();
                // `errorsCount` is exact, where the list may be cut or absent.
                let (mut errors, mut warnings) = (None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "name" => found.name = map.next_value::<Loose>()?.text(),
                        "version" => found.version = map.next_value::<Loose>()?.text(),
                        "rspackVersion" => found.rspack_version = map.next_value::<Loose>()?.text(),
                        "time" => found.time = map.next_value()?,
                        "errorsCount" => found.errors = map.next_value()?,
                        "warningsCount" => found.warnings = map.next_value()?,
                        "errors" => errors = map.next_value::<Option<Count>>()?,
                        "warnings" => warnings = map.next_value::<Option<Count>>()?,
                        "assets" => found.assets = map.next_value()?,
                        "chunks" => {
                            found.chunks = map.next_value::<Option<_>>()?.unwrap_or_default();
                        }
                        "children" => {
                            found.children = map.next_value::<Option<_>>()?.unwrap_or_default();
                        }
                        "outputs" => found.outputs = map.next_value()?,
                        "modules" => {
                            found.modules = map.next_value::<Option<_>>()?.unwrap_or_default();
                        }
                        "inputs" => drop(map.next_value::<IgnoredAny>()?),
                        _ => {
                            let entry: Entry = map.next_value()?;
                            if entry.file.is_some() {
                                found.entries.push((key, entry));
                            }
                        }
                    }
                }
                found.errors = found.errors.or(errors.map(|it| it.0));
                found.warnings = found.warnings.or(warnings.map(|it| it.0));
                Ok(found)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// The length of a list.
#[derive(Debug)]
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }

        deserializer.deserialize_seq(List)
    }
}

/// An object as a list, in the order of the file: what is equally large keeps it.
#[derive(Debug)]
pub(super) struct Pairs<T>(pub(super) Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// Text, a list of texts, or yes; anything else is skipped.
#[derive(Debug, Default)]
enum Loose {
    Texts(Vec<String>),
    Yes,
    #[default]
    Other,
}

impl Loose {
    fn texts(&self) -> &[String] {
        if let Self::Texts(texts) = self { texts } else { &[] }
    }

    fn list(self) -> Vec<String> {
        if let Self::Texts(texts) = self { texts } else { Vec::new() }
    }

    fn text(self) -> Option<String> {
        self.list().into_iter().next()
    }
}

/// A visitor's methods for values that are skipped.
macro_rules! skip {
    ($lifetime:lifetime: $($value:ident)*) => { $(skip!(@ $lifetime $value);)* };
    (@ $lifetime:lifetime bool) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
    };
    (@ $lifetime:lifetime text) => {
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
    };
    (@ $lifetime:lifetime number) => {
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
        fn visit_unit<E>(self) -> Result<Self::Value, E> { Ok(Self::Value::default()) }
    };
    (@ $lifetime:lifetime list) => {
        fn visit_seq<A: SeqAccess<$lifetime>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
    (@ $lifetime:lifetime map) => {
        fn visit_map<A: MapAccess<$lifetime>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
}

pub(super) use skip;

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Loose;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Loose, E> {
                Ok(Loose::Texts(vec![text.to_owned()]))
            }

            fn visit_bool<E>(self, yes: bool) -> Result<Loose, E> {
                Ok(if yes { Loose::Yes } else { Loose::Other })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Loose, A::Error> {
                let mut texts = Vec::new();
                while let Some(item) = list.next_element::<Loose>()? {
                    texts.extend(item.list());
                }
                Ok(Loose::Texts(texts))
            }

            skip!('de: number map);
        }

        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let mut entry = Entry::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "file" => entry.file = map.next_value::<Loose>()?.text(),
                        "name" => entry.name = map.next_value::<Loose>()?.text(),
                        "css" => entry.css = map.next_value::<Loose>()?.list(),
                        "assets" => entry.assets = map.next_value::<Loose>()?.list(),
                        "imports" => entry.imports = map.next_value::<Loose>()?.list(),
                        "isEntry" => {
                            entry.begins = matches!(map.next_value()?, Loose::Yes);
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(entry)
            }

            skip!('de: bool text number list);
        }

        deserializer.deserialize_any(Any)
    }
}
