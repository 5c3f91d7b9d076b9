//! The page that lists the variables, against their definitions.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use spanhook_core::settings::variables;

/// The words in code marks of a cell.
fn marked(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_variable_is_on_its_page_with_its_default() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows: Vec<Vec<_>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    for variable in variables() {
        let name = variable.name;
        let mut found = rows.iter().filter(|row| marked(row[0]).contains(&name));
        let row = found.next().unwrap_or_else(|| panic!("{name} is not in docs/settings.md"));
        assert!(found.next().is_none(), "{name} is there twice");
        let [names, _, meaning, default] = row[..] else { panic!("{row:?}") };
        assert!(!meaning.is_empty(), "{name}");
        match variable.default {
            // Another name of the same setting has no default of its own.
            "" if marked(names)[0] != name => {}
            "" => assert!(!default.is_empty() && marked(default).is_empty(), "{name}: {default}"),
            text => assert_eq!(default, format!("`{text}`"), "{name}"),
        }
    }
}
