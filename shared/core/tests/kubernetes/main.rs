//! What comes out of a cluster: batches of objects to spans.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking")]

#[path = "../conventions/mod.rs"]
mod conventions;
#[path = "../describe/mod.rs"]
mod describe;
mod lighthouse;
mod objects;
mod orders;
mod plugin;
mod properties;
mod recorded;
mod samples;
mod support;
mod tekton;
