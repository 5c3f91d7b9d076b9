//! The pure half of spanhook: no clock, no network, no environment.
//!
//! One delivery runs through it in one direction:
//!
//! 1. [`check`] proves who sent the raw bytes,
//! 2. [`delivery`] hands them to the mapping in the [`provider`]'s room, which makes [`otlp`]
//!    telemetry with [`id`]s that follow from the run,
//! 3. [`run_metrics`] measures its spans, if that is wanted, and [`rules`] judge it project by
//!    project,
//! 4. [`otlp::encode`] turns it into queue [`message`]s that each fit the queue.
//!
//! [`build_event`] maps what jobs themselves report. [`traceparent`] computes the same ids for a
//! [`job`] that is still running.

mod blank;
pub mod build_event;
pub mod check;
pub mod correlation;
pub mod delivery;
pub mod host;
pub mod id;
pub mod job;
mod legible;
pub mod lenient;
pub mod mapping;
pub mod message;
pub mod otlp;
pub mod project;
pub mod provider;
pub mod rules;
pub mod run_metrics;
pub mod secret;
pub mod semconv;
pub mod settings;
mod task;
mod template;
pub mod time;
pub mod traceparent;
