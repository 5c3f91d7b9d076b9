//! The pure half of spanhook: no clock, no network, no environment.
//!
//! One delivery runs through it in one direction:
//!
//! 1. [`signature`] checks the raw bytes,
//! 2. [`circleci`] or [`gitlab`] maps them to a [`span::Trace`] whose ids come from [`id`],
//! 3. [`encode`] turns the trace into queue [`message`]s that each fit the queue.
//!
//! [`build_event`] maps what jobs themselves report, which is [`metric`]s and [`log`]s too.
//! [`traceparent`] computes the same ids for a job that is still running.

pub mod build_event;
pub mod circleci;
pub mod encode;
pub mod gitlab;
pub mod id;
pub mod identity;
pub mod lenient;
pub mod log;
pub mod mapping;
pub mod message;
pub mod metric;
pub mod rules;
pub mod secret;
pub mod semconv;
pub mod signature;
pub mod span;
pub mod time;
pub mod traceparent;
