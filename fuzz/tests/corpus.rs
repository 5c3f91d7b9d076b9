//! The kept corpora through their targets: what fuzzing has found stays found.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::Path};

use spanhook_fuzz::{TARGETS, corpus, seeds};

#[test]
fn every_input_that_is_kept_holds_what_its_target_asserts() {
    for &(name, target) in TARGETS {
        let inputs = corpus::read(name).unwrap();
        let taken = inputs.iter().filter(|it| target(it)).count();
        assert!(taken > 0 && taken < inputs.len(), "{name}: {taken} of {} taken", inputs.len());
    }
}

#[test]
fn what_a_campaign_begins_with_gets_past_the_first_check() {
    for &(name, target) in TARGETS {
        let seeds = seeds::of(name).unwrap();
        let taken = seeds.iter().filter(|it| target(it)).count();
        assert!(taken * 4 > seeds.len(), "{name}: {taken} of {} taken", seeds.len());
    }
}

#[test]
fn every_target_is_fuzzed_and_has_a_corpus() {
    let names = |folder: &str, ending: &str| -> BTreeSet<_> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name());
        names.map(|it| it.to_str().unwrap().trim_end_matches(ending).to_owned()).collect()
    };
    let targets: BTreeSet<_> = TARGETS.iter().map(|it| it.0.to_owned()).collect();
    assert_eq!(names("fuzz_targets", ".rs"), targets);
    assert_eq!(names("corpus", ".jsonl"), targets);
}
