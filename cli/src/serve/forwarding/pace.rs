//! When a receiver that takes nothing is asked again.
//!
//! On AWS every message rests by itself. Here one forwarder sees all of them, and need not find out
//! with every new delivery what it knows: while the receiver asks to wait or the operator has
//! something to mend, one message goes at a time, at growing intervals, until one arrives.

use std::time::Duration;

use spanhook_service::forward::Verdict;
use tokio::time::Instant;

/// Between probes: the first pause, and the longest that we choose ourselves. One message every ten
/// seconds is no load for a receiver, and what waits is on its way soon after it works again.
const FIRST: Duration = Duration::from_secs(1);
pub(super) const LONGEST: Duration = Duration::from_secs(10);

/// The longest pause that a receiver may ask for.
const ASKED: Duration = Duration::from_secs(60);

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The receiver works.
    Everything,
    /// One message, to see whether it works again.
    Probe,
    /// Nothing for that long.
    Nothing(Duration),
}

/// The pace of one signal: a receiver that takes no metrics may still take traces.
#[derive(Debug)]
pub(super) struct Pace {
    /// When to ask again; none while the receiver works.
    next: Option<Instant>,
    pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { next: None, pause: FIRST }
    }
}

impl Pace {
    /// Whether nothing says that the receiver does not work.
    pub(super) fn works(&self) -> bool {
        self.next.is_none()
    }

    pub(super) fn turn(&self, now: Instant) -> Turn {
        match self.next {
            None => Turn::Everything,
            Some(next) if next <= now => Turn::Probe,
            Some(next) => Turn::Nothing(next - now),
        }
    }

    /// Takes in what became of messages that were sent. A refusal of a message is the answer of a
    /// receiver that works.
    pub(super) fn learn(&mut self, verdicts: &[Verdict], now: Instant) {
        if verdicts.contains(&Verdict::Ack) {
            self.pause = FIRST;
        }
        let asked = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Ack | Verdict::Reject { .. } => None,
            Verdict::Retry { after, .. } => Some(after.unwrap_or_default()),
            Verdict::Misconfigured { .. } => Some(Duration::ZERO),
        });
        self.next = asked.max().map(|asked| now + asked.max(self.pause).min(ASKED));
        if self.next.is_some() {
            self.pause = (self.pause * 2).min(LONGEST);
        } else {
            self.pause = FIRST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(after: Option<u64>) -> Verdict {
        Verdict::Retry { after: after.map(Duration::from_secs), reason: String::new() }
    }

    fn misconfigured() -> Verdict {
        Verdict::Misconfigured { reason: String::new() }
    }

    #[test]
    fn probes_are_further_and_further_apart_until_one_arrives() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        assert_eq!(pace.turn(now), Turn::Everything);
        for seconds in [1, 2, 4, 8, 10, 10] {
            pace.learn(&[misconfigured()], now);
            let pause = Duration::from_secs(seconds);
            assert_eq!(pace.turn(now), Turn::Nothing(pause));
            now += pause;
            assert_eq!(pace.turn(now), Turn::Probe);
        }
        pace.learn(&[Verdict::Ack], now);
        assert_eq!(pace.turn(now), Turn::Everything);
        pace.learn(&[misconfigured()], now);
        assert_eq!(pace.turn(now), Turn::Nothing(FIRST));
    }

    #[test]
    fn what_a_receiver_asks_for_is_waited_even_when_it_took_something() {
        let now = Instant::now();
        let reject = || Verdict::Reject { reason: String::new() };
        let cases = [
            (vec![Verdict::Ack, Verdict::Ack], None),
            (vec![Verdict::Ack, reject()], None),
            (vec![reject()], None),
            (vec![retry(None)], Some(1)),
            (vec![Verdict::Ack, retry(Some(30)), retry(None)], Some(30)),
            (vec![Verdict::Ack, misconfigured()], Some(1)),
            (vec![retry(Some(u64::MAX))], Some(ASKED.as_secs())),
        ];
        for (verdicts, seconds) in cases {
            let mut pace = Pace::default();
            pace.learn(&verdicts, now);
            let expected =
                seconds.map_or(Turn::Everything, |it| Turn::Nothing(Duration::from_secs(it)));
            assert_eq!(pace.turn(now), expected, "{verdicts:?}");
        }
    }
}
