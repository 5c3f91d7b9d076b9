//! The half of spanhook that does I/O, shared by the functions and the local process.
//!
//! - [`settings`] reads the environment once, purely.
//! - [`live`] holds what may change while it runs: secrets and project rules.
//! - [`webhook`] and [`traceparent`] are axum routers.
//! - [`build_events`] takes what jobs report themselves, [`otlp`] what they or a provider export.
//! - [`gate`] says who may send to each of them.
//! - [`intake`] reads their bodies within bounds of memory and time, whatever [`coding`] they have.
//! - [`queue`] is what lies between the webhook functions and the forwarder.
//! - [`export`] speaks OTLP to a [`target`], [`forward`] decides what becomes of every message,
//!   [`forwarder`] is the function that drives it.
//! - [`telemetry`] is what spanhook says of itself.

pub mod answer;
pub mod aws;
pub mod build_events;
pub mod coding;
pub mod forward;
pub mod forwarder;
pub mod gate;
pub mod intake;
pub mod live;
pub mod otlp;
pub mod queue;
pub mod settings;
pub mod startup;
pub mod target;
pub mod telemetry;
pub mod traceparent;
pub mod webhook;

pub use spanhook_export::{self as export, clock};
