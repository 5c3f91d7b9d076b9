//! Build events: the samples as the Collector would decode them, every mistake, and anything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../conventions/mod.rs"]
mod conventions;
mod decoded;
#[path = "../describe/mod.rs"]
mod describe;
mod events;
mod mistakes;
mod places;
#[path = "../points/mod.rs"]
mod points;
mod properties;
mod signals;
#[path = "../support/mod.rs"]
mod support;

use std::{fs, path::Path};

use spanhook_core::{
    build_event::{Sender, map},
    settings::Settings,
};

use crate::events::RECEIVED;

#[test]
fn the_samples_become_these_spans_metrics_and_logs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/build-events");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    for file in files {
        let body = fs::read(&file).unwrap();
        let batch = map(&body, RECEIVED, &Settings::default(), Sender::Trusted).unwrap();
        let name = format!("build-events-{}", file.file_stem().unwrap().to_str().unwrap());
        insta::assert_snapshot!(name, decoded::describe(&batch));
    }
}
