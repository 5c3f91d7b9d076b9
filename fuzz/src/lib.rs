//! What outside bytes are fuzzed through: one function a target, which reads them as the service
//! would and asserts what must hold whatever they are.
//!
//! `fuzz_targets/` hands these functions to libFuzzer, `tests/corpus.rs` runs the kept corpora
//! through them in every test run. `docs/fuzzing.md` says how to fuzz.
#![expect(
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "a target that panics has found something, and says what"
)]

mod answer;
mod build_events;
mod claims;
pub mod corpus;
mod cut;
mod delivery;
mod messages;
pub mod mutate;
mod otlp;
mod plant;
mod rules;
pub mod seeds;
mod settings;
mod signature;
#[cfg(feature = "service")]
mod token;
mod traceparent;

#[cfg(feature = "service")]
pub use self::token::token;
pub use self::{
    answer::answer,
    build_events::build_events,
    claims::claims,
    delivery::delivery,
    messages::message,
    otlp::{otlp_json, otlp_protobuf},
    rules::rules,
    settings::settings,
    signature::signature,
    traceparent::traceparent,
};

/// Seconds since the Unix epoch at which everything here happens.
pub(crate) const NOW: u64 = 1_793_611_800;

/// Runs one input, and says whether what it holds was taken rather than refused: a corpus has to
/// have both, or it no longer gets past the first check.
pub type Target = fn(&[u8]) -> bool;

/// All targets by their names.
pub const TARGETS: &[(&str, Target)] = &[
    ("answer", answer),
    ("build_events", build_events),
    ("claims", claims),
    ("delivery", delivery),
    ("message", message),
    ("otlp_json", otlp_json),
    ("otlp_protobuf", otlp_protobuf),
    ("rules", rules),
    ("settings", settings),
    ("signature", signature),
    #[cfg(feature = "service")]
    ("token", token),
    ("traceparent", traceparent),
];
