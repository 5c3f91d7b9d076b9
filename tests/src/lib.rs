//! Real parts for end-to-end tests: the built functions on a Lambda Runtime API, an SQS server,
//! an event source mapping, and the OpenTelemetry Collector.
//!
//! `tests/parts/install.sh` installs them and `.ci/run` names them: `SPANHOOK_PARTS` is the folder
//! of the parts, `SPANHOOK_FUNCTIONS` that of the built functions, `SPANHOOK_FIXTURES` that of
//! recorded payloads. Tests that need one say so in `#[ignore]`, and fail when it is not there.
#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a harness: what goes wrong in it is to fail the test"
)]

pub mod collector;
pub mod front;
pub mod lambda;
pub mod mapping;
pub mod sqs;
pub mod ssm;
pub mod stack;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// Where the parts are.
#[derive(Clone, Debug)]
pub struct Parts {
    pub parts: PathBuf,
    pub functions: PathBuf,
}

/// The folders that the environment names.
#[must_use]
pub fn parts() -> Parts {
    Parts { parts: folder("SPANHOOK_PARTS"), functions: folder("SPANHOOK_FUNCTIONS") }
}

/// The same for a test without functions.
#[must_use]
pub fn parts_alone() -> Parts {
    Parts { parts: folder("SPANHOOK_PARTS"), functions: PathBuf::new() }
}

/// A program of this workspace, which its own tests have built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    // Tests are a folder below.
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.exists(), "{} is not there: cargo build -p {name}", path.display());
    path
}

/// The folder of recorded payloads.
#[must_use]
pub fn fixtures() -> PathBuf {
    folder("SPANHOOK_FIXTURES")
}

/// The body of a sample or of a recorded delivery, which may be `{headers, body}`.
#[must_use]
pub fn body(path: &Path) -> Vec<u8> {
    let text = std::fs::read(path).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    json.get("body").map_or(text, |body| body.to_string().into_bytes())
}

fn folder(name: &str) -> PathBuf {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: .ci/run sets it")).into()
}

/// A port that was free a moment ago.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for a condition, for two minutes at most.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let until = Instant::now() + Duration::from_secs(120);
    while !condition().await {
        assert!(Instant::now() < until, "{what} did not happen");
        sleep(Duration::from_millis(50)).await;
    }
}
