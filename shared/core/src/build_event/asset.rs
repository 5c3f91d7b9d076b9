//! Names of assets as metric attributes: few, and the same from build to build.

use std::{cmp::Reverse, collections::BTreeMap};

use super::MAX_TEXT;

/// The `most` largest parts by name, the largest first. Parts of one name are one part: two chunks
/// that only differ by their hash would be one series with two values.
pub(super) fn largest(
    parts: impl Iterator<Item = (String, u64)>,
    most: usize,
) -> Vec<(String, u64)> {
    let mut sizes = BTreeMap::<_, u64>::new();
    for (name, size) in parts {
        let sum = sizes.entry(name).or_default();
        *sum = sum.saturating_add(size);
    }
    let mut parts: Vec<_> = sizes.into_iter().collect();
    parts.sort_by_key(|(_, size)| Reverse(*size));
    parts.truncate(most);
    parts
}

/// A file's name without content hashes, as webpack, Rspack, Vite, Rollup and esbuild put them
/// there: `main.216a2cc270f6e6c99c5a.js`, `index-BqmXrTnJ.js`, `app-5HTMKBNA.js`.
pub(super) fn without_hash(name: &str) -> String {
    let name = name.split(['?', '#']).next().unwrap_or_default();
    let name = &name[..name.floor_char_boundary(MAX_TEXT)];
    let (folder, file) = name.rsplit_once('/').map_or(("", name), |(it, file)| (it, file));
    let parts: Vec<_> = file.split('.').filter_map(stem).collect();
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

/// Eight or more hexadecimal digits, of which not all are letters; or a long random text.
fn is_hash(text: &str) -> bool {
    let hex = text.bytes().all(|it| it.is_ascii_hexdigit());
    let digit = text.bytes().any(|it| it.is_ascii_digit());
    (text.len() >= 8 && hex && digit)
        || (text.len() >= 8 && digit && text.bytes().all(|it| it.is_ascii_alphanumeric()) && {
            // `chunk2026` is a name; base 32 and base 62 mix digits into the middle.
            let name = text.trim_end_matches(|it: char| it.is_ascii_digit());
            name.bytes().any(|it| it.is_ascii_digit())
        })
}

/// Eight characters of base64url or base 32 that are no word: a digit, or a capital letter that
/// is not the first beside a small one.
fn looks_random(text: &str) -> bool {
    let any = |rule: fn(&u8) -> bool| text.as_bytes().iter().any(rule);
    text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'))
        && (any(u8::is_ascii_digit)
            || any(u8::is_ascii_lowercase)
                && text.bytes().skip(1).any(|it| it.is_ascii_uppercase()))
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
            ("216a2cc270f6e6c99c5a.png", "[hash].png"),
            ("216a2cc270f6e6c99c5a", "[hash]"),
            ("jquery-3.7.1.min.js", "jquery-3.7.1.min.js"),
            ("user-Settings.js", "user-Settings.js"),
            ("vendor-calendar.js", "vendor-calendar.js"),
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
        let largest = largest(parts.into_iter(), 3);
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
