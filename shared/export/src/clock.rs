//! The time, passed in so that tests can choose it.

use std::time::{Duration, SystemTime};

/// Tells the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock(fn() -> SystemTime);

impl Clock {
    /// The system's clock.
    pub const SYSTEM: Self = Self(now);

    /// A clock of the caller's.
    #[must_use]
    pub const fn new(now: fn() -> SystemTime) -> Self {
        Self(now)
    }

    /// Time since the Unix epoch.
    #[must_use]
    pub fn since_epoch(self) -> Duration {
        (self.0)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    /// Nanoseconds since the Unix epoch, as spans take them.
    #[must_use]
    pub fn nanos(self) -> u64 {
        u64::try_from(self.since_epoch().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
fn now() -> SystemTime {
    SystemTime::now()
}
