//! The date formats that the providers send.

use jiff::{Timestamp, civil::DateTime, tz::Offset};

/// Nanoseconds since the Unix epoch, OTLP's unit of time.
pub type Nanos = u64;

/// Nanoseconds in a second.
pub const SECOND: Nanos = 1_000_000_000;

/// Reads a date in any format that CircleCI and GitLab were seen to send, several of which may
/// occur in one body. None when it is no date, or one before 1970.
///
/// | form | where |
/// | --- | --- |
/// | `2016-08-12 15:23:28 UTC` | GitLab |
/// | `2022-10-17 14:44:20 +0100` | GitLab in a local time zone |
/// | `2021-02-23T02:41:37.886Z`, `2016-08-12T17:23:21+02:00` | both |
/// | `2024-12-18 17:23:29.361740256 +0000 UTC` | CircleCI's `event_time` |
#[must_use]
pub fn parse(text: &str) -> Option<Nanos> {
    let text = text.trim();
    let mut words = text.split_ascii_whitespace();
    let timestamp = match (words.next(), words.next(), words.next()) {
        (Some(date), Some(time), zone) => {
            let end = time.as_ptr() as usize - date.as_ptr() as usize + time.len();
            let local: DateTime = text.get(..end)?.parse().ok()?;
            offset(zone.unwrap_or("UTC"))?.to_timestamp(local).ok()?
        }
        _ => text.parse::<Timestamp>().ok()?,
    };
    Nanos::try_from(timestamp.as_nanosecond()).ok()
}

/// `UTC`, `GMT`, `Z`, `+0100` or `-05:30`.
fn offset(zone: &str) -> Option<Offset> {
    if matches!(zone, "UTC" | "GMT" | "Z") {
        return Some(Offset::UTC);
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_at_checked(2)?;
    let minutes = minutes.strip_prefix(':').unwrap_or(minutes);
    // Unsigned and short, so that neither a second sign nor an overflow gets through.
    let hours: u8 = hours.parse().ok()?;
    let minutes: u8 = if minutes.is_empty() { 0 } else { minutes.parse().ok()? };
    Offset::from_seconds(sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60)).ok()
}

/// A provider's seconds as nanoseconds; negative ones, which come from rounding, as none.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and negative or absurd durations are to be clamped"
)]
pub fn seconds(seconds: f64) -> Nanos {
    // A century bounds what can be a duration, and keeps sums far from overflow.
    (seconds.clamp(0.0, 3.2e9) * 1e9).round() as Nanos
}

/// From one moment to a later one, in seconds.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a length needs no 53 bits")]
pub fn length((from, to): (Nanos, Nanos)) -> f64 {
    to.saturating_sub(from) as f64 / SECOND as f64
}

/// A moment as RFC 3339 writes it, in UTC. None for what no calendar holds.
#[must_use]
pub fn utc(nanos: Nanos) -> Option<String> {
    Timestamp::from_nanosecond(i128::from(nanos)).ok().map(|it| it.to_string())
}

/// The start and end of something, made whole where the payload left gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// When it began.
    pub start: Nanos,
    /// When it ended, never before `start`.
    pub end: Nanos,
    /// Whether either had to be made up.
    pub repaired: bool,
}

impl Interval {
    /// What is known, completed by `duration` and, failing that, by `fallback`. None when nothing
    /// at all is known.
    #[must_use]
    pub fn repair(
        start: Option<Nanos>,
        end: Option<Nanos>,
        duration: Option<Nanos>,
        fallback: Option<Nanos>,
    ) -> Option<Self> {
        let (start, end, repaired) = match (start, end) {
            (Some(start), Some(end)) if start <= end => (start, end, false),
            // Reversed: the start is what other spans are measured against.
            (Some(start), Some(_)) => (start, start.saturating_add(duration.unwrap_or(0)), true),
            (Some(start), None) => {
                let known = duration.map(|duration| start.saturating_add(duration));
                (start, known.or(fallback).unwrap_or(start).max(start), true)
            }
            (None, Some(end)) => (end.saturating_sub(duration.unwrap_or(0)), end, true),
            (None, None) => {
                let end = fallback?;
                (end.saturating_sub(duration.unwrap_or(0)), end, true)
            }
        };
        Some(Self { start, end, repaired })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_that_was_seen_is_read() {
        let noon = 1_471_015_408 * SECOND;
        for text in [
            "2016-08-12 15:23:28 UTC",
            "2016-08-12 15:23:28 +0000",
            "2016-08-12 16:23:28 +0100",
            "2016-08-12 10:23:28 -0500",
            "2016-08-12T15:23:28Z",
            "2016-08-12T15:23:28.000Z",
            "2016-08-12T17:23:28+02:00",
            "2016-08-12 15:23:28.000000000 +0000 UTC",
            "  2016-08-12 15:23:28 UTC ",
            "2016-08-12 15:23:28",
        ] {
            assert_eq!(parse(text), Some(noon), "{text}");
        }
        assert_eq!(utc(noon).as_deref(), Some("2016-08-12T15:23:28Z"));
        assert_eq!(
            parse("2024-12-18 17:23:29.361740256 +0000 UTC"),
            Some(1_734_542_609_361_740_256)
        );
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            " ",
            "yesterday",
            "2016-08-12",
            "2016-13-12 15:23:28 UTC",
            "12:00 13:00",
            "2016-08-12 15:23:28 CEST",
            "1960-01-01T00:00:00Z",
            "2016-08-12 15:23:28 +",
            "é é é",
            "2016-08-12 15:23:28 +99999999999",
            "2016-08-12\u{a0}15:23:28 UTC",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn gaps_are_filled_and_marked() {
        let repair = |start, end, duration, fallback| {
            Interval::repair(start, end, duration, fallback)
                .map(|it| (it.start, it.end, it.repaired))
        };
        assert_eq!(repair(Some(1), Some(5), Some(9), None), Some((1, 5, false)));
        assert_eq!(repair(Some(5), Some(5), None, None), Some((5, 5, false)), "zero length");
        assert_eq!(repair(Some(5), Some(1), None, None), Some((5, 5, true)), "reversed");
        assert_eq!(repair(Some(5), Some(1), Some(2), None), Some((5, 7, true)));
        assert_eq!(repair(Some(5), None, Some(2), Some(90)), Some((5, 7, true)));
        assert_eq!(repair(Some(5), None, None, Some(90)), Some((5, 90, true)));
        assert_eq!(repair(Some(5), None, None, Some(3)), Some((5, 5, true)));
        assert_eq!(repair(None, Some(9), Some(2), None), Some((7, 9, true)));
        assert_eq!(repair(None, Some(9), Some(20), None), Some((0, 9, true)));
        assert_eq!(repair(None, None, None, Some(4)), Some((4, 4, true)));
        assert_eq!(repair(None, None, Some(3), None), None);
        // In the year 2554 the clock ends.
        let last = u64::MAX - 1;
        assert_eq!(repair(Some(last), None, Some(5), None), Some((last, u64::MAX, true)));
        assert_eq!(repair(Some(last), Some(1), Some(5), None), Some((last, u64::MAX, true)));
    }

    #[test]
    fn negative_and_absurd_durations_are_clamped() {
        assert_eq!(seconds(-0.5), 0);
        assert_eq!(seconds(1.5), 1_500_000_000);
        assert!(seconds(f64::MAX) < u64::MAX / 4);
    }
}
