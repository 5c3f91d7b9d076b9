//! npm packages as metric attributes: what the modules of a chunk weigh, by the package they are of.

use std::collections::BTreeMap;

use super::{
    MAX_TEXT,
    asset::{self, Weight},
};

/// What is of no package: the app's own code, and what the bundler adds. Like [`REST`] it can be no
/// name of a package: <https://github.com/npm/validate-npm-package-name#naming-rules>.
pub(super) const OWN: &str = "(own)";

/// Packages that are not told one by one.
pub(super) const REST: &str = "(rest)";

/// What the modules of a package weigh in a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Package {
    pub(super) size: u64,
    /// How many there are, where that is told.
    pub(super) modules: Option<u64>,
}

impl Weight for Package {
    fn size(&self) -> u64 {
        self.size
    }

    fn add(&mut self, other: Self) {
        self.size.add(other.size);
        self.modules = either(self.modules, other.modules, u64::saturating_add);
    }
}

/// Both as one, or the one that is told.
pub(super) fn either<T>(one: Option<T>, other: Option<T>, both: fn(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(both(one, other)),
        (one, other) => one.or(other),
    }
}

/// The `most` largest packages, the largest first, then the app's own code and what all others weigh:
/// the sum is that of all, so that a share of it is right.
pub(super) fn largest(
    mut packages: BTreeMap<String, Package>,
    most: usize,
) -> Vec<(String, Package)> {
    let own = packages.remove_entry(OWN);
    let mut rest = packages.remove_entry(REST);
    let mut shown = asset::largest(packages, usize::MAX);
    for (_, package) in shown.split_off(most.min(shown.len())) {
        rest.get_or_insert_with(|| (REST.to_owned(), Package::default())).1.add(package);
    }
    shown.extend(own.into_iter().chain(rest));
    shown
}

/// A package's name, which holds no `@` but in front of a scope: with a version it would be another
/// series after each update. None when nothing is left of it.
pub(super) fn without_version(name: &str) -> Option<String> {
    let name = &name[..name.floor_char_boundary(MAX_TEXT)];
    let version = name.char_indices().skip(1).find_map(|(at, it)| (it == '@').then_some(at));
    let name = &name[..version.unwrap_or(name.len())];
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn package(size: u64, modules: Option<u64>) -> Package {
        Package { size, modules }
    }

    #[test]
    fn a_name_has_no_version() {
        for (name, expected) in [
            ("react-dom", Some("react-dom")),
            ("react-dom@18.3.1", Some("react-dom")),
            ("@babel/runtime", Some("@babel/runtime")),
            ("@babel/runtime@7.28.4", Some("@babel/runtime")),
            ("react@npm:preact@10", Some("react")),
            (OWN, Some(OWN)),
            (REST, Some(REST)),
            ("@", Some("@")),
            ("", None),
        ] {
            assert_eq!(without_version(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn own_code_is_kept_however_small_and_the_rest_is_summed() {
        let packages = [
            (OWN, package(1, Some(1))),
            (REST, package(4, None)),
            ("a", package(10, Some(2))),
            ("b", package(3, Some(5))),
            ("c", package(30, None)),
        ];
        let packages: BTreeMap<_, _> =
            packages.into_iter().map(|(name, it)| (name.to_owned(), it)).collect();
        let names = |most| {
            let shown = largest(packages.clone(), most).into_iter();
            shown.map(|(name, it)| (name, it.size, it.modules)).collect::<Vec<_>>()
        };
        let row = |name: &str, size, modules| (name.to_owned(), size, modules);
        let (own, rest) = (row(OWN, 1, Some(1)), row(REST, 4, None));
        let (a, b, c) = (row("a", 10, Some(2)), row("b", 3, Some(5)), row("c", 30, None));
        assert_eq!(names(3), [c.clone(), a.clone(), b, own.clone(), rest]);
        assert_eq!(names(2), [c, a, own.clone(), row(REST, 7, Some(5))]);
        assert_eq!(names(0), [own, row(REST, 47, Some(7))]);
        assert_eq!(largest(BTreeMap::new(), 3), []);
    }

    proptest! {
        #[test]
        fn what_is_shown_weighs_as_much_as_all_and_is_bounded(
            packages in proptest::collection::btree_map("[a-d(own)]{1,5}", 0..1000_u64, 0..30),
            most in 0..12_usize,
        ) {
            let all: u64 = packages.values().sum();
            let packages = packages.into_iter().map(|(name, size)| (name, package(size, None)));
            let shown = largest(packages.collect(), most);
            prop_assert!(shown.len() <= most + 2);
            prop_assert_eq!(shown.iter().map(|(_, it)| it.size).sum::<u64>(), all);
        }

        #[test]
        fn any_name_without_its_version_is_the_same_again(name in "[@a-z/.0-9é-]{0,300}") {
            let name = without_version(&name);
            prop_assert_eq!(name.as_deref().and_then(without_version), name.clone());
            prop_assert!(name.is_none_or(|it| it.len() <= MAX_TEXT));
        }
    }
}
