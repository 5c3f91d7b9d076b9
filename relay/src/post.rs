//! One request to the receiver, and what its answer means.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::{Client, Url};
use serde::Deserialize;
use spanhook_export::{clock::Clock, innermost};
use uuid::Uuid;

use crate::keys::Keys;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How much of an answer is read.
const MAX_ANSWER: usize = 16 * 1024;

/// The longest that a receiver may ask to be left alone.
const MAX_AFTER: Duration = Duration::from_secs(300);

/// A request that keeps its id over all tries: <https://www.standardwebhooks.com>
#[derive(Clone, Debug)]
pub struct Message {
    /// `webhook-id`; none where somebody else has signed.
    id: Option<String>,
    path: &'static str,
    headers: HeaderMap,
    body: Bytes,
}

impl Message {
    /// One that is signed here.
    #[must_use]
    pub fn signed(path: &'static str, headers: HeaderMap, body: Bytes) -> Self {
        Self { id: Some(format!("relay_{}", Uuid::new_v4().simple())), path, headers, body }
    }

    /// One that is passed on as it is.
    #[must_use]
    pub fn untouched(path: &'static str, headers: HeaderMap, body: Bytes) -> Self {
        Self { id: None, path, headers, body }
    }
}

/// What the receiver said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has it, and where an operator looks what it could not read of it.
    Taken {
        /// How many items those are.
        unread: u64,
    },
    /// It has it where an operator looks for what can't be read.
    Quarantined,
    /// Never: the body is too large.
    Refused,
    /// Not now, or not until an operator mends something. Nothing is wrong with the body.
    Later {
        /// When the receiver wants to be asked again.
        after: Option<Duration>,
    },
}

/// What spanhook says of all that it has taken.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Said {
    Accepted {
        /// How many items of it spanhook could not read.
        #[serde(default)]
        unread: u64,
    },
    Ignored {},
    Quarantined {},
}

/// What an answer means. Only that a body is too large is final: spanhook refuses none for another
/// reason, and an operator who gave the wrong key or address is to lose nothing by it. (A proxy says
/// 400 to who speaks HTTP where it expects HTTPS, and 200 with a page where people log in.)
#[must_use]
pub fn judge(status: StatusCode, body: &[u8], after: Option<Duration>) -> Verdict {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => Verdict::Refused,
        it if it.is_success() => match serde_json::from_slice(body) {
            Ok(Said::Accepted { unread }) => Verdict::Taken { unread },
            Ok(Said::Ignored {}) => Verdict::Taken { unread: 0 },
            Ok(Said::Quarantined {}) => Verdict::Quarantined,
            Err(_) => Verdict::Later { after },
        },
        _ => Verdict::Later { after },
    }
}

/// What an operator has to mend, for the log.
#[must_use]
pub fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => {
            "KUBERNETES_SIGNING_KEY is not the receiver's, or a clock is more than five minutes off"
        }
        StatusCode::FORBIDDEN => "something in front of the receiver forbids the request",
        StatusCode::NOT_FOUND => {
            "SPANHOOK_ENDPOINT is no address of spanhook, or KUBERNETES_SIGNING_KEY is not set there"
        }
        it if it.is_redirection() => "set SPANHOOK_ENDPOINT to the address it redirects to",
        it if it.is_success() => {
            "what answers is not spanhook; SPANHOOK_ENDPOINT is not its address, or something in front of it answers itself"
        }
        _ => "it is asked again",
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status; none where there was no answer.
    pub status: Option<StatusCode>,
    /// What it means.
    pub verdict: Verdict,
    /// Its media type and its body, cut, or why there is none.
    pub content: (Option<HeaderValue>, Bytes),
}

impl Answer {
    /// In a word, for metrics.
    #[must_use]
    pub fn as_str(&self) -> String {
        self.status.map_or_else(|| "none".to_owned(), |it| it.as_u16().to_string())
    }
}

/// The way to the receiver.
#[derive(Clone, Debug)]
pub struct Post {
    /// With a connection pool.
    pub client: Client,
    /// The receiver's address.
    pub endpoint: Url,
    /// What signs.
    pub keys: Arc<Keys>,
    /// Dates signatures.
    pub clock: Clock,
}

impl Post {
    /// Sends a message once.
    pub async fn send(&self, message: &Message) -> Answer {
        let mut headers = message.headers.clone();
        if let Some(id) = &message.id {
            self.sign(&mut headers, id, &message.body);
        }
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}{}", url.path().trim_end_matches('/'), message.path));
        let request = self.client.post(url).headers(headers).timeout(TIMEOUT);
        match request.body(message.body.clone()).send().await {
            Ok(mut response) => {
                let status = response.status();
                let after = retry_after(response.headers());
                let kind = response.headers().get(header::CONTENT_TYPE).cloned();
                let mut body = Vec::new();
                while let Ok(Some(part)) = response.chunk().await {
                    body.extend_from_slice(&part[..part.len().min(MAX_ANSWER - body.len())]);
                    if body.len() == MAX_ANSWER {
                        break;
                    }
                }
                let verdict = judge(status, &body, after);
                Answer { status: Some(status), verdict, content: (kind, body.into()) }
            }
            Err(error) => Answer {
                status: None,
                verdict: Verdict::Later { after: None },
                content: (None, innermost(&error).into()),
            },
        }
    }

    /// A signature has a date, so each try has its own.
    fn sign(&self, headers: &mut HeaderMap, id: &str, body: &[u8]) {
        let now = self.clock.since_epoch().as_secs();
        headers.insert("webhook-timestamp", HeaderValue::from(now));
        let signature = self.keys.sign(id, now, body);
        for (name, value) in [("webhook-id", id), ("webhook-signature", &signature)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

/// In seconds; of those in front of a receiver hardly one gives a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_AFTER))
}

/// How long to wait before the next try: twice as long each time, and not at the same moment as
/// everybody else.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Before the second try.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

impl Pace {
    /// The pause after this many tries that failed.
    #[must_use]
    pub fn pause(self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.most).mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_body_that_is_too_large_is_refused_for_good() {
        let later = Verdict::Later { after: None };
        for (status, expected) in [
            (301, later.clone()),
            (400, later.clone()),
            (401, later.clone()),
            (403, later.clone()),
            (404, later.clone()),
            (408, later.clone()),
            (413, Verdict::Refused),
            (422, later.clone()),
            (429, later.clone()),
            (500, later.clone()),
            (503, later),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(judge(status, br#"{"status":"accepted"}"#, None), expected, "{status}");
        }
    }

    #[test]
    fn only_what_spanhook_itself_says_it_has_is_taken() {
        let later = Verdict::Later { after: None };
        for (body, expected) in [
            (r#"{"status":"accepted","spans":3,"trace_id":"00"}"#, Verdict::Taken { unread: 0 }),
            (r#"{"status":"accepted","spans":3,"unread":2}"#, Verdict::Taken { unread: 2 }),
            (r#"{"status":"ignored","reason":"none is final"}"#, Verdict::Taken { unread: 0 }),
            (r#"{"status":"quarantined","reason":"no event"}"#, Verdict::Quarantined),
            ("", later.clone()),
            ("ok", later.clone()),
            ("<!DOCTYPE html><title>Log in</title>", later.clone()),
            (r#"{"status":"ok"}"#, later.clone()),
            (r#"{"status":"accepted","spans":"#, later),
        ] {
            for status in [StatusCode::OK, StatusCode::ACCEPTED] {
                assert_eq!(judge(status, body.as_bytes(), None), expected, "{status} {body}");
            }
        }
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_are_never_alike() {
        let pace = Pace { first: Duration::from_secs(1), most: Duration::from_secs(60) };
        for (failures, most) in [(1, 1), (2, 2), (3, 4), (7, 60), (8, 60), (u32::MAX, 60)] {
            let pause = pace.pause(failures);
            let most = Duration::from_secs(most);
            assert!(pause <= most && pause * 2 >= most, "{failures}: {pause:?}");
        }
    }

    #[test]
    fn a_receiver_is_left_alone_as_long_as_it_asks_but_not_for_ever() {
        let after = |value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            retry_after(&[(header::RETRY_AFTER, value)].into_iter().collect())
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("86400"), Some(MAX_AFTER));
        assert_eq!(after("soon"), None);
    }
}
