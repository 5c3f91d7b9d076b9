//! GitHub: the samples as the Collector would decode them, every fault that other tools were seen to
//! have (numbered, as `issue_19`), any order, and anything.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking")]

#[path = "../conventions/mod.rs"]
mod conventions;
mod deliveries;
#[path = "../describe/mod.rs"]
mod describe;
mod ids;
mod orders;
mod properties;
mod recorded;
mod spans;
mod support;
