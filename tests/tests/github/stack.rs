//! How GitHub's deliveries come.

use serde_json::Value;
use spanhook_core::check::sign_hex;
use spanhook_tests::{lambda::Function, stack::Hook};

/// `parts/collector/githubreceiver.yaml` has it as well.
const SECRET: &str = "hunter2-and-more";
pub(crate) const SIGNATURE: &str = "X-Hub-Signature-256";

pub(crate) const HOOK: Hook = Hook {
    function: "github-webhook",
    path: "/github",
    secret: ("GITHUB_WEBHOOK_SECRET", SECRET),
    proof: |body| (SIGNATURE.to_owned(), sign(body)),
};

pub(crate) fn sign(body: &[u8]) -> String {
    format!("sha256={}", sign_hex(body, SECRET.as_bytes()).unwrap())
}

pub(crate) async fn post(function: &Function, body: &[u8], signature: &str) -> (u16, Value) {
    HOOK.post(function, body, (SIGNATURE.to_owned(), signature.to_owned())).await
}
