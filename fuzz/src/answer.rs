//! What an OTLP receiver, or something else at its address, answers.

use http::StatusCode;
use spanhook_export::{Outcome, judge};

use crate::cut;

/// Statuses, of each kind one or more.
const STATUSES: [u16; 10] = [200, 202, 204, 400, 422, 401, 404, 413, 429, 503];

/// The first byte chooses the status, then come a line with the content type and the body.
pub fn answer(data: &[u8]) -> bool {
    let Some((choice, rest)) = cut::choice(data) else { return false };
    let Some(([kind], body)) = cut::lines(rest) else { return false };
    let Ok(status) = StatusCode::from_u16(STATUSES[choice % STATUSES.len()]) else { return false };
    match judge(status, None, kind, body) {
        Outcome::Delivered { partial } => {
            assert!(status.is_success());
            let page = kind.split(';').next().is_some_and(|it| it.trim() == "text/html");
            assert!(!page || body.is_empty(), "{kind}");
            if let Some(partial) = partial {
                assert!(partial.rejected > 0 || !partial.message.is_empty());
                check_line(&partial.message);
            }
            true
        }
        Outcome::Retry { reason, .. }
        | Outcome::TooLarge { reason }
        | Outcome::Misconfigured { reason } => {
            check_line(&reason);
            false
        }
        Outcome::Reject { reason } | Outcome::Unclear { reason } => {
            assert!(matches!(status.as_u16(), 400 | 422));
            check_line(&reason);
            false
        }
    }
}

/// A receiver's words stand in one line of a log, and do not fill it.
fn check_line(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(text.chars().count() <= 400, "{text}");
}
