//! What a refusal asks to wait for.
//!
//! <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit>

use std::time::Duration;

use reqwest::header::HeaderMap;

/// Tries of one request.
const TRIES: u32 = 5;

/// Longer pauses are nobody's to wait for at a terminal: a window of the primary limit is an hour.
const LONGEST: Duration = Duration::from_secs(65 * 60);

/// Without a word of when: GitHub asks for a minute, and for more each time.
const SECONDARY: Duration = Duration::from_secs(60);

/// Something is wrong with GitHub itself.
const TROUBLE: Duration = Duration::from_secs(1);

/// Why to wait, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Of the requests of an hour none is left.
    Primary,
    /// Too much in a short time.
    Secondary,
    /// 5xx, or no answer.
    Trouble,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "GitHub's rate limit is used up",
            Self::Secondary => "GitHub asks for fewer requests",
            Self::Trouble => "GitHub does not answer well",
        }
    }
}

/// A request without an answer that tells, after so many tries.
pub(super) fn trouble(tried: u32) -> Option<(Reason, Duration)> {
    (tried < TRIES).then(|| (Reason::Trouble, TROUBLE * 2_u32.pow(tried - 1)))
}

/// How long to wait before the request is sent again, after so many tries; none when that would not
/// help. `now` is in seconds since the epoch.
pub(super) fn wait(
    status: u16,
    headers: &HeaderMap,
    message: &str,
    now: u64,
    tried: u32,
) -> Option<(Reason, Duration)> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let limited = status == 403 || status == 429;
    if !limited && status < 500 || tried >= TRIES {
        return None;
    }
    let kind = if limited { Reason::Secondary } else { Reason::Trouble };
    let (reason, pause) = if let Some(seconds) = number("retry-after") {
        (kind, Duration::from_secs(seconds))
    } else if !limited {
        return trouble(tried);
    } else if number("x-ratelimit-remaining") == Some(0) {
        // A second more: GitHub's clock is not ours.
        let left = number("x-ratelimit-reset")?.saturating_sub(now) + 1;
        (Reason::Primary, Duration::from_secs(left))
    } else if status == 429 || message.to_lowercase().contains("secondary rate limit") {
        (Reason::Secondary, SECONDARY * 2_u32.pow(tried - 1))
    } else {
        return None;
    };
    (pause <= LONGEST).then_some((reason, pause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_waited_for_as_it_asks() {
        const NOW: u64 = 1_793_000_000;
        let secondary = "You have exceeded a secondary rate limit. Please wait a few minutes";
        let reset = (NOW + 90).to_string();
        let tomorrow = (NOW + 86_400).to_string();
        let primary = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset.as_str())];
        let far = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", tomorrow.as_str())];
        let after = [("retry-after", "7"), ("x-ratelimit-remaining", "0")];
        let left = [("x-ratelimit-remaining", "4999"), ("x-ratelimit-reset", reset.as_str())];
        let mut text = String::new();
        for (what, status, headers, message, tried) in [
            ("primary", 403, &primary[..], "API rate limit exceeded", 1),
            ("primary as 429", 429, &primary, "API rate limit exceeded", 1),
            ("primary until tomorrow", 403, &far, "API rate limit exceeded", 1),
            ("retry-after", 403, &after, secondary, 1),
            ("retry-after, once too often", 403, &after, secondary, 5),
            ("secondary", 403, &left, secondary, 1),
            ("secondary again", 403, &left, secondary, 3),
            ("429 without a word", 429, &[], "", 1),
            ("no permission", 403, &left, "Resource not accessible by integration", 1),
            ("bad token", 401, &left, "Bad credentials", 1),
            ("not found", 404, &[], "Not Found", 1),
            ("not processable", 422, &[], "Validation Failed", 1),
            ("bad gateway", 502, &[], "", 1),
            ("bad gateway again", 502, &[], "", 4),
            ("bad gateway, once too often", 502, &[], "", 5),
            ("unavailable for a while", 503, &after, "", 1),
        ] {
            let headers =
                headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let found = wait(status, &headers.collect(), message, NOW, tried);
            text += &format!("{status} {what}: {found:?}\n");
        }
        insta::assert_snapshot!(text);
    }
}
