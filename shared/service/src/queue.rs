//! What lies between the webhook functions and the forwarder.

mod sqs;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use spanhook_core::message::Message;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout_at};

pub use sqs::{Depth, MoveTask, SqsQueue};

/// The queue did not take a message, after retries.
#[derive(Debug, Error)]
pub enum QueueError {
    /// It refused, or could not be reached.
    #[error("the queue refused {failed} of {total} messages: {reason}")]
    Refused {
        /// How many it refused.
        failed: usize,
        /// Of how many.
        total: usize,
        /// The service's own code or message, which holds no payload.
        reason: String,
    },
    /// It said nothing.
    #[error("the queue gave no answer in time; check QUEUE_URL and the network")]
    Silent,
}

/// Between two tries of a queue that refused.
const PAUSE: Duration = Duration::from_millis(500);

/// Has messages put somewhere, again and again until `until`; without that time, once. What was cut
/// off may have been taken: sent again, it is the same spans with the same ids.
pub(crate) async fn insist<F>(
    until: Option<Instant>,
    messages: Vec<Message>,
    put: impl Fn(Vec<Message>) -> F,
) -> Result<(), QueueError>
where
    F: Future<Output = Result<(), QueueError>>,
{
    let Some(until) = until else { return put(messages).await };
    let mut last = QueueError::Silent;
    loop {
        match timeout_at(until, put(messages.clone())).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => last = error,
            Err(_) => return Err(last),
        }
        if until.saturating_duration_since(Instant::now()) <= PAUSE {
            return Err(last);
        }
        sleep(PAUSE).await;
    }
}

/// The side that webhook functions write to.
pub trait Outbox: Send + Sync + 'static {
    /// Returns only once every message is durable.
    fn send(&self, messages: Vec<Message>) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// The same for the dead-letter queue.
    fn dead_letter(
        &self,
        messages: Vec<Message>,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// A message as the forwarder receives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The queue's id, never empty.
    pub id: String,
    /// What the queue wants to hear when the message is settled.
    pub receipt: String,
    /// The body, as the attribute `encoding` says.
    pub body: Bytes,
    /// String attributes.
    pub attributes: BTreeMap<String, String>,
    /// How often it was received, this time included.
    pub receive_count: u32,
}

/// What the forwarder does to messages that it could not deliver. A delivered one is deleted by
/// whoever drives the forwarder (on AWS the event source mapping).
pub trait Inbox: Send + Sync + 'static {
    /// Hides the messages for a while; a failure only means an earlier retry.
    fn back_off(
        &self,
        messages: &[(&Received, Duration)],
    ) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Copies a message to the dead-letter queue with the reason; returns once that is durable.
    fn reject(
        &self,
        message: &Received,
        reason: &str,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;
}
