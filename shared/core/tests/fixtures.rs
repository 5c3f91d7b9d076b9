//! The spans of every recorded delivery, as the Collector would decode them.
//!
//! The payloads are in `$SPANHOOK_FIXTURES`, which no clone has: what the project wrote itself, and
//! every test can read, is in `samples.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

mod conventions;
mod deliveries;
mod describe;

use std::path::{Path, PathBuf};

use deliveries::{circleci, describe, gitlab, ids, payloads};
use spanhook_core::{
    circleci,
    gitlab::{self, JobSpans},
    id::TraceIds,
    mapping::Provider,
};

fn fixtures(folder: &str) -> PathBuf {
    let root = std::env::var_os("SPANHOOK_FIXTURES").expect("SPANHOOK_FIXTURES");
    Path::new(&root).join(folder)
}

fn snapshot(name: &str, folder: &Path, map: impl Fn(&[u8]) -> String) {
    let text = payloads(folder)
        .iter()
        .map(|(file, body)| format!("=== {file}\n{}", map(body)))
        .collect::<String>();
    insta::assert_snapshot!(name, text);
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn circleci_deliveries_become_these_spans() {
    let map = |body: &[u8]| {
        describe(Provider::Circleci, circleci::map(body, &circleci(TraceIds::Hashed)))
    };
    snapshot("circleci", &fixtures("circleci"), map);
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn circleci_deliveries_take_circleci_hooks_ids_in_native_mode() {
    let map = |body: &[u8]| {
        ids(&describe(Provider::Circleci, circleci::map(body, &circleci(TraceIds::Native))))
    };
    snapshot("circleci-native", &fixtures("circleci"), map);
}

fn gitlab_snapshot(name: &str, folder: &str, trace_ids: TraceIds, job_spans: JobSpans) {
    let settings = gitlab(trace_ids, job_spans);
    let map = |body: &[u8]| describe(Provider::Gitlab, gitlab::map(body, &settings));
    snapshot(name, &fixtures(&format!("gitlab/{folder}")), map);
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn gitlab_deliveries_become_these_spans() {
    for folder in [
        "cimonitor/pipeline",
        "cimonitor/canceled-pipeline",
        "cimonitor/deployment",
        "go-gitlab",
        "liatrio-gitlabprocessor",
        "zoidyzoidzoid-sink",
        "contrib-pr45781",
        "gitlab-docs",
        "synthetic",
    ] {
        let name = format!("gitlab-{}", folder.replace('/', "-"));
        gitlab_snapshot(&name, folder, TraceIds::Hashed, JobSpans::Pipeline);
    }
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn gitlab_job_events_become_these_spans_in_job_mode() {
    for folder in
        ["cimonitor/canceled-pipeline", "zoidyzoidzoid-sink", "contrib-pr45781", "gitlab-docs"]
    {
        let name = format!("gitlab-jobs-{}", folder.replace('/', "-"));
        gitlab_snapshot(&name, folder, TraceIds::Hashed, JobSpans::Job);
    }
}

#[test]
#[ignore = "needs SPANHOOK_FIXTURES"]
fn gitlab_child_pipelines_share_the_roots_trace_in_native_mode() {
    gitlab_snapshot("gitlab-native", "synthetic", TraceIds::Native, JobSpans::Pipeline);
}
