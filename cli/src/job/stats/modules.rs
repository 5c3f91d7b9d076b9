//! The modules of webpack-like statistics, of which only their packages are kept as they are read.

use std::{collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{packages::Packages, read::skip};

/// Of a chunk: a number, or a text.
#[derive(Clone, Debug, Deserialize, Hash, PartialEq, Eq)]
#[serde(untagged)]
pub(super) enum Id {
    Number(i64),
    Text(String),
}

/// A list of modules that name their chunks.
#[derive(Debug, Default)]
pub(super) struct ByChunk(pub(super) HashMap<Id, Packages>);

/// A module; anything else is read as one without a size. It is read field by field, since it may be
/// most of the file.
#[derive(Debug, Default)]
struct Module {
    name: Option<String>,
    /// The file's path without loaders and query; the bundler's own modules have none.
    path: Option<String>,
    size: Option<f64>,
    chunks: Vec<Id>,
    /// Those that were joined into this one.
    modules: Packages,
}

impl<'de> Deserialize<'de> for Module {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Module;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Module, A::Error> {
                let mut module = Module::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "name" => module.name = map.next_value()?,
                        "nameForCondition" => module.path = map.next_value()?,
                        "size" => module.size = map.next_value()?,
                        "chunks" => {
                            module.chunks = map.next_value::<Option<_>>()?.unwrap_or_default();
                        }
                        "modules" => module.modules = map.next_value()?,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(module)
            }

            skip!('de: bool text number list);
        }

        deserializer.deserialize_any(Any)
    }
}

impl Module {
    fn add_to(&self, packages: &mut Packages) {
        if self.modules.is_empty() {
            let path = self.path.as_deref().or(self.name.as_deref()).unwrap_or_default();
            packages.add(path, self.size.unwrap_or_default());
        } else {
            packages.extend(&self.modules);
        }
    }
}

/// Reads a list of modules one by one.
struct Modules<T, F>(T, F);

impl<'de, T: Default, F: FnMut(&mut T, &Module)> Visitor<'de> for Modules<T, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of modules")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<T, A::Error> {
        while let Some(module) = list.next_element()? {
            (self.1)(&mut self.0, &module);
        }
        Ok(self.0)
    }

    skip!('de: bool text number map);
}

impl<'de> Deserialize<'de> for Packages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let add = |packages: &mut Self, module: &Module| module.add_to(packages);
        deserializer.deserialize_any(Modules(Self::default(), add))
    }
}

impl<'de> Deserialize<'de> for ByChunk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let add = |chunks: &mut Self, module: &Module| {
            for chunk in &module.chunks {
                module.add_to(chunks.0.entry(chunk.clone()).or_default());
            }
        };
        deserializer.deserialize_any(Modules(Self::default(), add))
    }
}
