//! What is left out of a request, and what its sender is told of it.

use std::fmt;

/// Why a span, point or record is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// It can't be decoded.
    Malformed,
    /// Its ids are none.
    Ids,
    /// It is of another trace than its writer's.
    Foreign,
    /// It has the id of a span that the provider's webhook makes.
    Reserved,
    /// It is larger than a message.
    TooLarge,
}

const REASONS: [(Reason, &str); 5] = [
    (Reason::Malformed, "can't be decoded"),
    (Reason::Ids, "without a trace id of 16 bytes and a span id of 8, not all of them zero"),
    (
        Reason::Foreign,
        "of another trace than that of this job's run; ask /traceparent for TRACEPARENT, and have the SDK read it",
    ),
    (Reason::Reserved, "with the id of the run's or the job's own span; leave the id to the SDK"),
    (Reason::TooLarge, "too large for the queue; shorten attributes or events"),
];

/// What was left out of a request, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejects([usize; REASONS.len()]);

impl Rejects {
    pub(super) fn add(&mut self, reason: Reason, count: usize) {
        // A metric without points is something that can be left out, too.
        if let Some(at) = REASONS.iter().position(|(it, _)| *it == reason) {
            self.0[at] += count.max(1);
        }
    }

    /// How many spans, points or records.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().sum()
    }

    /// Whether there are some that this sender may not write.
    #[must_use]
    pub(super) fn any_forbidden(&self) -> bool {
        let forbidden = |it: &Reason| matches!(it, Reason::Foreign | Reason::Reserved);
        REASONS.iter().zip(self.0).any(|((reason, _), count)| count > 0 && forbidden(reason))
    }
}

/// In words for the sender.
impl fmt::Display for Rejects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left_out = REASONS.iter().zip(self.0).filter(|(_, count)| *count > 0);
        left_out.enumerate().try_for_each(|(index, ((_, words), count))| {
            let separator = if index == 0 { "not taken: " } else { "; " };
            write!(f, "{separator}{count} {words}")
        })
    }
}
