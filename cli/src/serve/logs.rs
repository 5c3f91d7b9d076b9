//! Logs of the local process: for people on a terminal, JSON everywhere else.

use std::io::{IsTerminal, stderr};

use spanhook_service::{settings::Vars, telemetry::LOG_LEVEL};
use tracing_subscriber::EnvFilter;

/// Starts logging to standard error at `LOG_LEVEL`, or at `default`.
pub(crate) fn init(vars: &Vars, default: &str) {
    let filter = EnvFilter::new(LOG_LEVEL.get(vars).unwrap_or(default));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    // A second call keeps the first subscriber.
    let _ = if stderr().is_terminal() {
        logs.compact().with_target(false).try_init()
    } else {
        logs.json().flatten_event(true).with_ansi(false).try_init()
    };
}
