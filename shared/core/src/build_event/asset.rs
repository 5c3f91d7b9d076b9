//! Names of assets as metric attributes: few, and the same from build to build.

use std::{cmp::Reverse, collections::BTreeMap};

use super::MAX_TEXT;

/// What a part weighs, in bytes.
pub(super) trait Weight: Default {
    /// The size by which parts are ranked.
    fn size(&self) -> u64;

    /// Takes in another part of the same name.
    fn add(&mut self, other: Self);
}

impl Weight for u64 {
    fn size(&self) -> u64 {
        *self
    }

    fn add(&mut self, other: Self) {
        *self = self.saturating_add(other);
    }
}

/// The `most` largest parts by name, the largest first. Parts of one name are one part: two chunks
/// that only differ by their hash would be one series with two values.
pub(super) fn largest<W: Weight>(
    parts: impl IntoIterator<Item = (String, W)>,
    most: usize,
) -> Vec<(String, W)> {
    let mut sums = BTreeMap::<_, W>::new();
    for (name, weight) in parts {
        sums.entry(name).or_default().add(weight);
    }
    let mut parts: Vec<_> = sums.into_iter().collect();
    parts.sort_by_key(|(_, weight)| Reverse(weight.size()));
    parts.truncate(most);
    parts
}

/// A file's name without content hashes, as webpack, Rspack, Vite, Rollup and esbuild put them
/// there: `main.216a2cc270f6e6c99c5a.js`, `index-BqmXrTnJ.js`, `app-5HTMKBNA.js`.
pub(super) fn without_hash(name: &str) -> String {
    let name = name.split(['?', '#']).next().unwrap_or_default();
    let name = &name[..name.floor_char_boundary(MAX_TEXT)];
    let (folder, file) = name.rsplit_once('/').map_or(("", name), |(it, file)| (it, file));
    let last = file.matches('.').count();
    let parts = file.split('.').enumerate();
    let parts = parts.filter(|(nth, it)| *nth == 0 || *nth == last || !is_short_hash(it));
    let parts: Vec<_> = parts.filter_map(|(_, it)| stem(it)).collect();
    let file = match parts.as_slice() {
        // Nothing but a hash and an ending.
        [ending] if file.contains('.') && !file.starts_with(ending) => format!("[hash].{ending}"),
        [] => "[hash]".to_owned(),
        parts => parts.join("."),
    };
    if folder.is_empty() { file } else { format!("{folder}/{file}") }
}

/// A part between dots without the hash at its end; none when it is nothing else.
fn stem(part: &str) -> Option<&str> {
    if is_hash(part) {
        return None;
    }
    // The hash of Rollup and Vite may itself hold a hyphen, and has eight characters.
    let eight = part.len().checked_sub(8).and_then(|at| part.split_at_checked(at));
    if let Some((name, hash)) = eight
        && let Some(name) = name.strip_suffix('-').filter(|it| !it.is_empty())
        && looks_random(hash)
    {
        return Some(name);
    }
    match part.rsplit_once('-') {
        Some((name, hash)) if !name.is_empty() && is_hash(hash) => Some(name),
        _ => Some(part),
    }
}

/// Eight or more hexadecimal digits, or a longer text of letters and digits; never just letters.
fn is_hash(text: &str) -> bool {
    let hex = text.bytes().all(|it| it.is_ascii_hexdigit());
    text.bytes().any(|it| it.is_ascii_digit())
        && text.bytes().all(|it| it.is_ascii_alphanumeric())
        && (hex && text.len() >= 8 || text.len() >= 16 && !is_word(text))
}

/// Four or more hexadecimal digits of both kinds, which between a name and its ending are a hash that
/// was cut short: `vendor.3f2a.js`.
fn is_short_hash(text: &str) -> bool {
    text.len() >= 4
        && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
        && text.bytes().any(|it| it.is_ascii_digit())
        && text.bytes().any(|it| it.is_ascii_lowercase())
}

/// Base64url or base 32 that is no word: it has a digit, or a capital letter behind the first.
fn looks_random(text: &str) -> bool {
    let capital = text.bytes().skip(1).any(|it| it.is_ascii_uppercase());
    text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'))
        && (capital || text.bytes().any(|it| it.is_ascii_digit()))
        && !is_word(text)
}

/// Small letters with a number behind them, as `release2`: a name more likely than chance.
fn is_word(text: &str) -> bool {
    let letters = text.trim_end_matches(|it: char| it.is_ascii_digit());
    !letters.is_empty() && letters.bytes().all(|it| it.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hashes_of_every_bundler_are_removed() {
        for (name, expected) in [
            ("main.216a2cc270f6e6c99c5a.js", "main.js"),
            ("main.216a2cc270f6e6c99c5a.js.map", "main.js.map"),
            ("480.e5414484f584d7b13305.js", "480.js"),
            ("static/js/2.8a7f1c3d.chunk.js", "static/js/2.chunk.js"),
            ("main.js?216a2cc270f6e6c99c5a", "main.js"),
            ("pages/_app-7bb0ecb8e2b1c1b3.js", "pages/_app.js"),
            ("assets/index-BqmXrTnJ.js", "assets/index.js"),
            ("assets/index-C_x-9a1b.css", "assets/index.css"),
            ("out/app-5HTMKBNA.js", "out/app.js"),
            ("out/chunk-APCGEOZB.js", "out/chunk.js"),
            ("rolldown-runtime-CucqJBlL.mjs", "rolldown-runtime.mjs"),
            ("216a2cc270f6e6c99c5a.png", "[hash].png"),
            ("216a2cc270f6e6c99c5a", "[hash]"),
            ("jquery-3.7.1.min.js", "jquery-3.7.1.min.js"),
            ("user-Settings.js", "user-Settings.js"),
            ("vendor-calendar.js", "vendor-calendar.js"),
            ("app-release2.apk", "app-release2.apk"),
            ("bootstrap5.es2015polyfills.js", "bootstrap5.es2015polyfills.js"),
            ("4Yw8kPz1QmX3vT7nB2cd.js", "[hash].js"),
            ("vendor.3f2a.js", "vendor.js"),
            ("vendor.3f2a.js.map", "vendor.js.map"),
            ("3f2a.js", "3f2a.js"),
            ("es2015.2024.e2e.js", "es2015.2024.e2e.js"),
            ("styles.css", "styles.css"),
            ("a.b", "a.b"),
            ("", ""),
        ] {
            assert_eq!(without_hash(name), expected, "{name}");
        }
    }

    #[test]
    fn the_largest_come_first_and_one_name_comes_once() {
        let parts = [("b", 2), ("a", 2), ("c", 1), ("d", u64::MAX), ("d", 1), ("c", 4)];
        let parts = parts.map(|(name, size)| (name.to_owned(), size));
        let largest = largest(parts, 3);
        let expected = [("d", u64::MAX), ("c", 5), ("a", 2)];
        assert_eq!(largest, expected.map(|(name, size)| (name.to_owned(), size)));
    }

    proptest! {
        #[test]
        fn any_name_gives_a_short_one(name in "[a-zA-Z0-9é./?#_-]{0,300}") {
            prop_assert!(without_hash(&name).len() <= MAX_TEXT + "[hash].".len());
        }
    }
}
