//! OTLP of others: what is taken of it, and what comes out in the queue.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
mod codecs;
mod signals;
mod support;
mod writers;
