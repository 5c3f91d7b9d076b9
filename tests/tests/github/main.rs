//! GitHub on real parts: recorded deliveries in any order and in both id modes, and beside the
//! Collector's own receiver of them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::maybe_infinite_iter,
    reason = "a test fails by panicking"
)]

mod orders;
mod receiver;
mod stack;
