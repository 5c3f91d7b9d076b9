//! Reading bodies within bounds of memory and time.
//!
//! A body costs memory before anything is proved of who sends it. So what all of them together may
//! hold is bounded, a body takes its part of it only as it arrives, and what can be said without
//! it (its length, a proof in the headers) is said before.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderValue, StatusCode, header::CONNECTION},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use crate::{answer::Problem, coding::Coding};

/// What all bodies together may hold beyond their first [`SMALL`] bytes each. One of them may hold
/// all of itself besides: so of several that wait for each other's part one always goes on.
const LARGE_SHARE: usize = 24 * 1024 * 1024;

/// What the first [`SMALL`] bytes of all bodies together may hold. It is a share of its own: most
/// deliveries need no more, and are taken while others fill the larger one.
const SMALL_SHARE: usize = 16 * 1024 * 1024;

/// Up to this size a body is small, and its work is done where it is read.
const SMALL: usize = 64 * 1024;

/// A body takes its part of a share in steps of this size.
const STEP: u32 = 16 * 1024;

/// How long a body waits for its part. GitLab waits ten seconds for an answer.
///
/// <https://docs.gitlab.com/user/project/integrations/webhooks/>
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a sender may pause within a body.
const STALL: Duration = Duration::from_secs(10);

/// How long the short rest of a body that is not wanted is waited for.
const DRAIN: Duration = Duration::from_secs(1);

/// A body that is not taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum IntakeError {
    /// Larger than it may be.
    #[error("the body is too large")]
    TooLarge,
    /// The connection ended first.
    #[error("the body could not be read to its end")]
    BrokenOff,
    /// The sender paused for 10 seconds.
    #[error("the body did not go on for 10 seconds")]
    Stalled,
    /// Compressed in a way that is not known here.
    #[error("the body has a Content-Encoding other than gzip or zstd")]
    Encoding,
    /// It can't be decompressed.
    #[error("the body is not what its Content-Encoding says")]
    NotEncoded,
    /// Other bodies hold all that may be held, or the process is about to end.
    #[error("too many bodies are read at the moment; send it again")]
    Busy,
}

impl IntakeError {
    /// What the caller is told; `too_large` says what to do about that.
    #[must_use]
    pub fn problem(self, too_large: &'static str) -> Problem {
        let (status, detail) = match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, too_large),
            Self::BrokenOff => (StatusCode::BAD_REQUEST, "the body could not be read to its end"),
            Self::Stalled => (StatusCode::REQUEST_TIMEOUT, "the body did not go on for 10 seconds"),
            Self::Encoding => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "compress the body with gzip, zstd or not at all",
            ),
            Self::NotEncoded => {
                (StatusCode::BAD_REQUEST, "the body is not what its Content-Encoding says")
            }
            Self::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "too much is sent at the moment; send it again")
            }
        };
        Problem { status, detail }
    }
}

/// The bounds that all services of a process share.
#[derive(Clone, Debug)]
pub struct Intake {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// Whose holder needs no part of a share any more.
    whole: Arc<Semaphore>,
    /// Large bodies are worked on one at a time: their spans take many times their size.
    work: Arc<Semaphore>,
}

/// A body, and its part of the shares until it is dropped.
#[derive(Debug)]
pub struct ReceivedBody {
    bytes: Vec<u8>,
    coding: Coding,
    /// How long it may be, compressed and not.
    limit: usize,
    held: Vec<OwnedSemaphorePermit>,
    /// How long the body may become with what is held.
    room: usize,
}

impl ReceivedBody {
    /// The body as it came: what proves its sender covers these bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Default for Intake {
    fn default() -> Self {
        Self::new()
    }
}

impl Intake {
    /// The bounds, of which nothing is taken yet.
    #[must_use]
    pub fn new() -> Self {
        let share = |size| Arc::new(Semaphore::new(size));
        Self {
            small: share(SMALL_SHARE),
            large: share(LARGE_SHARE),
            whole: share(1),
            work: share(1),
        }
    }

    /// Whether the body says by itself that it is larger than `limit` bytes: it need not be read.
    pub fn announce(body: &Body, limit: usize) -> Result<(), IntakeError> {
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > limit { Err(IntakeError::TooLarge) } else { Ok(()) }
    }

    /// Reads a body of at most `limit` bytes.
    pub async fn read(
        &self,
        mut body: Body,
        coding: Coding,
        limit: usize,
    ) -> Result<ReceivedBody, IntakeError> {
        let mut received =
            ReceivedBody { bytes: Vec::new(), coding, limit, held: Vec::new(), room: 0 };
        loop {
            let frame = timeout(STALL, body.frame()).await.map_err(|_| IntakeError::Stalled)?;
            let Some(frame) = frame else { return Ok(received) };
            // Trailers are of no use.
            let Ok(data) = frame.map_err(|_| IntakeError::BrokenOff)?.into_data() else { continue };
            let size = received.bytes.len() + data.len();
            if size > limit {
                return Err(IntakeError::TooLarge);
            }
            while received.room < size {
                let more = timeout(PATIENCE, self.make_room(&mut received));
                more.await.map_err(|_| IntakeError::Busy)?;
            }
            received.bytes.extend_from_slice(&data);
        }
    }

    async fn make_room(&self, received: &mut ReceivedBody) {
        let part = |share: &Arc<Semaphore>| Arc::clone(share).acquire_many_owned(STEP);
        let (permit, more) = if received.room < SMALL {
            (part(&self.small).await, STEP as usize)
        } else {
            tokio::select! {
                biased;
                permit = part(&self.large) => (permit, STEP as usize),
                permit = Arc::clone(&self.whole).acquire_owned() => (permit, usize::MAX),
            }
        };
        // The shares are never closed.
        received.held.extend(permit);
        received.room = received.room.saturating_add(more);
    }

    /// Does the work that a proved body gives, decompressed: at once, or for a large one away from
    /// the threads that answer others. How large a compressed one becomes nothing tells before, so it
    /// counts as large: of those one at a time is in memory. Begun work is finished even if the caller
    /// has gone.
    pub async fn work<T: Send + 'static>(
        &self,
        body: ReceivedBody,
        work: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> Result<T, IntakeError> {
        if body.bytes.len() <= SMALL && body.coding == Coding::Identity {
            return Ok(work(&body.bytes));
        }
        let turn = Arc::clone(&self.work).acquire_owned().await.map_err(|_| IntakeError::Busy)?;
        let done = spawn_blocking(move || {
            let result = body.coding.decode(&body.bytes, body.limit).map(|it| work(&it));
            drop(turn);
            result
        });
        done.await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(IntakeError::Busy),
        })
    }
}

/// Answers before the body was read. A short one is waited for, since closing a connection with
/// unread bytes resets it, and the sender may lose the answer; otherwise the connection is closed.
pub async fn answer_early(mut body: Body, answer: impl IntoResponse) -> Response {
    let short = Intake::announce(&body, SMALL).is_ok();
    let drain = async {
        let mut drained = 0;
        while let Some(Ok(frame)) = body.frame().await {
            drained += frame.data_ref().map_or(0, bytes::Bytes::len);
            if drained > SMALL {
                return false;
            }
        }
        body.is_end_stream()
    };
    let drained = short && timeout(DRAIN, drain).await.unwrap_or(false);
    let mut response = answer.into_response();
    if !drained {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};

    /// A body that sends so much and then says no more.
    fn stuck(bytes: usize) -> Body {
        let piece = Bytes::from(vec![b'x'; bytes]);
        Body::from_stream(stream::iter([Ok::<_, std::io::Error>(piece)]).chain(stream::pending()))
    }

    async fn read(intake: &Intake, body: Body) -> Result<usize, IntakeError> {
        intake.read(body, Coding::Identity, 30 << 20).await.map(|it| it.bytes().len())
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let intake = Intake::new();
        assert_eq!(read(&intake, "ten bytes.".into()).await, Ok(10));
        let read = intake.read("ten bytes.".into(), Coding::Identity, 9);
        assert_eq!(read.await.unwrap_err(), IntakeError::TooLarge);
        assert_eq!(Intake::announce(&"ten bytes.".into(), 10), Ok(()));
        assert_eq!(Intake::announce(&"ten bytes.".into(), 9), Err(IntakeError::TooLarge));
        assert_eq!(Intake::announce(&stuck(10), 9), Ok(()), "it does not say");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_go_on_is_given_up() {
        assert_eq!(read(&Intake::new(), stuck(5)).await, Err(IntakeError::Stalled));
        let cut = stream::iter([Ok("half"), Err(std::io::Error::other("cut"))]);
        let cut = Body::from_stream(cut);
        assert_eq!(read(&Intake::new(), cut).await, Err(IntakeError::BrokenOff));
    }

    /// Forty connections, each one byte short of 25 MB, held 1,020 MB.
    #[tokio::test(start_paused = true)]
    async fn large_bodies_hold_no_more_than_their_share_and_leave_small_ones_theirs() {
        let intake = Intake::new();
        let readers: Vec<_> = (0..40)
            .map(|_| {
                let intake = intake.clone();
                tokio::spawn(async move { read(&intake, stuck((25 << 20) - 1)).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(intake.large.available_permits(), 0, "they hold what they may");
        assert_eq!(read(&intake, "a small one".into()).await, Ok(11));
        let mut busy = 0;
        for reader in readers {
            busy += usize::from(reader.await.unwrap() == Err(IntakeError::Busy));
        }
        assert!(busy > 20, "only {busy} of 40 were sent away");
        assert_eq!(intake.large.available_permits(), LARGE_SHARE, "all of it is given back");
        assert_eq!(intake.small.available_permits(), SMALL_SHARE);
    }

    /// Each would wait for what the others hold.
    #[tokio::test(start_paused = true)]
    async fn large_bodies_that_come_at_the_same_time_are_all_read() {
        let intake = Intake::new();
        let slowly = || {
            let piece = Bytes::from(vec![b'x'; 256 * 1024]);
            Body::from_stream(stream::iter(0..96).then(move |_| {
                let piece = piece.clone();
                async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    Ok::<_, std::io::Error>(piece)
                }
            }))
        };
        let read = (0..4).map(|_| read(&intake, slowly()));
        assert_eq!(futures_util::future::join_all(read).await, vec![Ok(24 << 20); 4]);
    }

    #[tokio::test]
    async fn large_work_is_done_one_at_a_time_and_not_on_the_callers_thread() {
        let intake = Intake::new();
        let here = std::thread::current().id();
        let running = Arc::new(Semaphore::new(1));
        let body = |bytes, coding| ReceivedBody {
            bytes,
            coding,
            limit: SMALL + 1,
            held: Vec::new(),
            room: 0,
        };
        let large = || body(vec![0; SMALL + 1], Coding::Identity);
        // Nobody knows how large it becomes.
        let compressed = || body(zstd::bulk::compress(b"small", 1).unwrap(), Coding::Zstd);
        let alone = || {
            let running = Arc::clone(&running);
            move |_: &[u8]| {
                let alone = running.try_acquire();
                std::thread::yield_now();
                (alone.is_ok(), std::thread::current().id())
            }
        };
        let bodies = (0..20).map(|it| if it % 2 == 0 { large() } else { compressed() });
        let works = bodies.map(|it| intake.work(it, alone()));
        for result in futures_util::future::join_all(works).await {
            let (alone, thread) = result.unwrap();
            assert!(alone && thread != here);
        }
        let small = body(vec![0; SMALL], Coding::Identity);
        let (_, thread) = intake.work(small, alone()).await.unwrap();
        assert_eq!(thread, here);
    }

    #[tokio::test(start_paused = true)]
    async fn an_early_answer_closes_the_connection_unless_the_body_is_short() {
        for (body, closes) in [
            (Body::from("short"), false),
            (Body::empty(), false),
            (Body::from(vec![0; SMALL + 1]), true),
            (stuck(5), true),
            (stuck(SMALL + 1), true),
        ] {
            let answer = answer_early(body, StatusCode::UNAUTHORIZED).await;
            assert_eq!(answer.headers().contains_key(CONNECTION), closes);
        }
    }
}
