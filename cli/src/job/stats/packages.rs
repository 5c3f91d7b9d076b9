//! Which npm packages a chunk is made of; `packages/bundler/src/packages.ts` does the same.

use std::{borrow::Cow, cmp::Reverse, collections::BTreeMap};

use serde::Serialize;

use super::reduce::whole;

/// Modules of no package: the app's own code, and what the bundler adds.
const OWN: &str = "(own)";

/// Packages that are not told one by one, and what lies in `node_modules` and has no package's name.
const REST: &str = "(rest)";

const MAX_PACKAGES: usize = 20;

/// npm's limit, in bytes.
const MAX_NAME: usize = 214;

/// What the modules of one package weigh in a chunk.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Package {
    name: String,
    size: u64,
    modules: u64,
}

/// The modules of a chunk, where the statistics tell them.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Contents {
    modules: u64,
    packages: Vec<Package>,
}

impl Contents {
    /// Statistics that were cut down tell no modules, or none with a size.
    pub(super) fn of(packages: &Packages) -> Option<Self> {
        let packages = packages.largest();
        let modules = packages.iter().map(|it| it.modules).sum();
        (!packages.is_empty()).then_some(Self { modules, packages })
    }
}

/// Size and number of modules, by their package.
#[derive(Clone, Debug, Default)]
pub(super) struct Packages(BTreeMap<String, (f64, u64)>);

impl Packages {
    pub(super) fn add(&mut self, path: &str, size: f64) {
        // Of a module without a size nothing was left.
        if size > 0.0 {
            self.enter(&package_of(path), (size, 1));
        }
    }

    pub(super) fn extend(&mut self, other: &Self) {
        for (name, found) in &other.0 {
            self.enter(name, *found);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn enter(&mut self, name: &str, (size, modules): (f64, u64)) {
        if let Some(sum) = self.0.get_mut(name) {
            *sum = (sum.0 + size, sum.1 + modules);
        } else {
            self.0.insert(name.to_owned(), (size, modules));
        }
    }

    /// The largest, then the app's own code and the rest, so that the sum is that of all.
    fn largest(&self) -> Vec<Package> {
        let is_last = |name: &str| name == OWN || name == REST;
        let mut named: Vec<_> = self.0.iter().filter(|(name, _)| !is_last(name)).collect();
        named.sort_by_key(|(_, (size, _))| Reverse(whole(*size)));
        let mut last = Self::default();
        for name in [OWN, REST] {
            self.0.get(name).iter().for_each(|it| last.enter(name, **it));
        }
        for (_, found) in named.split_off(named.len().min(MAX_PACKAGES)) {
            last.enter(REST, *found);
        }
        let all = named.into_iter().chain(&last.0);
        all.map(|(name, &(size, modules))| Package {
            name: name.clone(),
            size: whole(size),
            modules,
        })
        .collect()
    }
}

/// The package that a module is of, by its path. The last `node_modules` counts: pnpm, Yarn's `PnP`
/// and nested packages all end in one (`.pnpm/react@19.1.0/node_modules/react`,
/// `react-npm-19.1.0-1b2c.zip/node_modules/react`).
fn package_of(module: &str) -> Cow<'_, str> {
    // webpack puts loaders in front, and queries behind; Rollup marks what a plugin made of a module
    // with a NUL byte.
    let path = module.rsplit('!').next().unwrap_or_default();
    let path = path.strip_prefix('\0').unwrap_or(path);
    let path = path.split(['?', '|']).next().unwrap_or_default();
    let parts: Vec<_> = path.split(['/', '\\', ':']).collect();
    let Some(at) = parts.iter().rposition(|it| *it == "node_modules") else { return OWN.into() };
    let part = |nth| parts.get(at + nth).copied().unwrap_or_default();
    let scoped = part(1).starts_with('@');
    let name: Cow<'_, str> =
        if scoped { format!("{}/{}", part(1), part(2)).into() } else { part(1).into() };
    if is_name(&name) { name } else { REST.into() }
}

/// A name, maybe in a scope: <https://github.com/npm/validate-npm-package-name#naming-rules>, and
/// capitals, which old ones have.
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '_'])
            && part
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_' | b'~'))
    };
    let in_scope = |scoped: &str| {
        scoped.split_once('/').is_some_and(|(scope, name)| is_part(scope) && is_part(name))
    };
    name.len() <= MAX_NAME && name.strip_prefix('@').map_or_else(|| is_part(name), in_scope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The package's tests read the same list.
    #[test]
    fn packages_are_told_by_the_paths_of_modules_however_they_were_installed() {
        let cases = include_str!("../../../../packages/bundler/test/packages.json");
        let cases: BTreeMap<String, String> = serde_json::from_str(cases).unwrap();
        assert!(cases.len() > 30);
        for (path, name) in &cases {
            assert_eq!(package_of(path), *name, "{path}");
        }
    }

    #[test]
    fn the_largest_are_told_with_own_code_and_the_sum_of_the_rest_behind_them() {
        let mut packages = Packages::default();
        for nth in 0..25_u32 {
            for file in 0..=nth {
                packages.add(&format!("node_modules/p{nth}/{file}.js"), 10.0);
            }
        }
        packages.add("src/a.js", 10.4);
        packages.add("node_modules/.cache/x.js", 10.0);
        packages.add("src/empty.js", 0.0);
        let found = packages.largest();
        let row = |name: &str, size, modules| Package { name: name.to_owned(), size, modules };
        assert_eq!(found.len(), 22);
        assert_eq!(found[0], row("p24", 250, 25));
        assert_eq!(found[20..], [row(OWN, 10, 1), row(REST, 160, 16)]);
    }

    proptest! {
        #[test]
        fn a_package_has_its_name_in_every_layout(
            name in "(@[a-z][a-z0-9._-]{0,9}/)?[A-Za-z0-9][a-z0-9._~-]{0,12}",
            layout in 0..4,
            front in r"(|/home/ada/app/|D:\\app\\|\x00/app/|/app/node_modules/x/l.js\?\?y!/app/)",
            behind in "[a-z]{1,8}[.]js([?][a-z]{0,4})?",
        ) {
            let folder = match layout {
                0 => "node_modules".to_owned(),
                1 => {
                    format!("node_modules/.pnpm/{}@1.2.3_x@4/node_modules", name.replace('/', "+"))
                }
                2 => format!(".yarn/cache/{}-npm-1.2.3-0a1b.zip/node_modules", name.replace('/', "-")),
                _ => "node_modules/@outer/x/node_modules".to_owned(),
            };
            let path = format!("{front}{folder}/{name}/lib/{behind}");
            prop_assert_eq!(package_of(&path), name);
        }

        #[test]
        fn any_path_gives_a_name_that_is_short_and_has_no_version(path in r"\PC{0,60}(node_modules[/\\])?\PC{0,60}") {
            let name = package_of(&path);
            prop_assert!(name == OWN || name == REST || is_name(&name));
            prop_assert!(!name.trim_start_matches('@').contains('@'));
        }

        #[test]
        fn what_is_told_weighs_as_much_as_all(
            modules in proptest::collection::vec(("(node_modules/)?[a-z]{1,2}", 0..1000_u32), 0..80),
        ) {
            let mut packages = Packages::default();
            for (path, size) in &modules {
                packages.add(path, f64::from(*size));
            }
            let found = packages.largest();
            prop_assert!(found.len() <= MAX_PACKAGES + 2);
            let all: u64 = modules.iter().map(|(_, size)| u64::from(*size)).sum();
            prop_assert_eq!(found.iter().map(|it| it.size).sum::<u64>(), all);
        }
    }
}
