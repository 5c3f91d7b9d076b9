//! Every variable that there is, against the page that lists them.

use std::{collections::BTreeSet, path::Path};

use spanhook_core::{provider::github, settings::Variable};

use crate::{
    job::{ci, report},
    operate::redeliver::{api, credential},
    serve::{self, store, view},
};

/// On the page, but none of ours: the SDK reads it by itself.
const FOREIGN: [&str; 1] = ["AWS_ENDPOINT_URL_SQS"];

fn variables() -> Vec<&'static Variable> {
    let job = [
        &report::ENDPOINT,
        &report::SIGNING_KEY,
        &report::TOKEN,
        &report::AUDIENCE,
        &ci::CORRELATION_ID,
        &ci::BUILD_CORRELATION_ID,
        &ci::PROJECT,
        &github::JOB_ID,
    ];
    let redeliver = [&credential::TOKEN, &credential::KEY, &api::API];
    let own = [
        &view::page::hosts::HOSTS,
        &serve::LISTEN,
        &serve::DATA,
        &store::LIMIT,
        &serve::role::ROLE,
    ];
    spanhook_service::settings::variables().chain(job).chain(redeliver).chain(own).collect()
}

fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md");
    std::fs::read_to_string(page).unwrap()
}

/// The words in code marks.
fn marked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A row says whose the variable is and what happens without a default in its own words; the rest is
/// the variable's.
#[test]
fn every_variable_has_a_row_with_its_meaning_and_its_default() {
    let page = page();
    let rows: Vec<Vec<_>> = page
        .lines()
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let mut left: BTreeSet<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(left.len(), rows.len(), "one row a variable");
    for variable in variables() {
        let name = format!("`{}`", variable.name);
        let row = rows.iter().find(|row| row[0] == name);
        let row = row.unwrap_or_else(|| panic!("{name} has no row in docs/settings.md"));
        let [_, users, meaning, default] = row[..] else { panic!("{row:?}") };
        assert!(!users.is_empty(), "{name}");
        assert_eq!(meaning, variable.meaning, "{name}");
        match variable.default {
            "" => assert!(!default.is_empty() && !default.starts_with('`'), "{name}: {default}"),
            text => assert_eq!(default, format!("`{text}`"), "{name}"),
        }
        assert!(left.remove(&*name), "{name} is defined twice");
    }
    let foreign = FOREIGN.map(|it| format!("`{it}`"));
    assert_eq!(left, foreign.iter().map(String::as_str).collect(), "rows of no variable");
}

#[test]
fn the_page_names_no_variable_that_there_is_not() {
    let page = page();
    let names: BTreeSet<_> = variables().iter().map(|it| it.name).chain(FOREIGN).collect();
    let shout =
        |it: &&str| it.contains('_') && it.bytes().all(|it| it.is_ascii_uppercase() || it == b'_');
    let text: String = page.split("```").step_by(2).collect();
    let unknown: Vec<_> = marked(&text).filter(shout).filter(|it| !names.contains(it)).collect();
    // The part of a name that makes another of it.
    assert_eq!(unknown, ["_TRACES_", "OTEL_EXPORTER_OTLP_"]);
}

/// Which are read again while a process runs is said in words there.
#[test]
fn what_is_live_is_what_the_page_says() {
    let live: BTreeSet<_> = spanhook_service::settings::variables()
        .filter(|it| it.live && !it.secret)
        .map(|it| it.name)
        .collect();
    assert_eq!(live, ["ACCESS", "PROJECT_RULES"].into());
}
