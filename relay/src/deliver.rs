//! From items to batches to the receiver, one request after the other.
//!
//! There is no way for an item to be dropped on the way: the queue is bounded, and while it is full
//! the watches are not read. What they would have told stays in the API server, which is listed
//! again if that takes longer than it remembers.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    batch::Batch,
    item::Item,
    kind::Kind,
    metrics::{Metric, Metrics},
    post::{Message, Pace, Post, Verdict, advice},
};

const UNREAD: &str = "spanhook can't read these and keeps them in its dead-letter queue; run the same version of both, then `spanhook redrive`";

/// How many items may wait.
pub const QUEUE: usize = 500;

/// Sends what comes in.
#[derive(Debug)]
pub struct Deliver {
    /// The name that goes with each batch.
    pub cluster: String,
    /// How long an item waits for others.
    pub wait: Duration,
    /// The way to the receiver.
    pub post: Post,
    /// Between tries.
    pub pace: Pace,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Deliver {
    /// Sends until there is nobody left to give it items, and then what it still has.
    pub async fn run(self, mut items: mpsc::Receiver<Item>) {
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(item) => item,
                None => match items.recv().await {
                    Some(item) => item,
                    None => return,
                },
            };
            let mut batch = Batch::new(&self.cluster);
            next = batch.push(first).err();
            let deadline = Instant::now() + self.wait;
            while next.is_none() && !batch.is_full() {
                match timeout_at(deadline, items.recv()).await {
                    Ok(Some(item)) => next = batch.push(item).err(),
                    Ok(None) | Err(_) => break,
                }
            }
            self.deliver(batch).await;
        }
    }

    /// Sends a batch until it is taken. One that is too large for the receiver is sent in halves,
    /// down to single items.
    async fn deliver(&self, batch: Batch) {
        let mut parts = vec![batch];
        while let Some(batch) = parts.pop() {
            let kinds: Vec<_> = batch.kinds().collect();
            let taken = self.send(&batch).await;
            if let Some(metric) = taken {
                self.count(metric, &kinds);
                let now = self.post.clock.since_epoch().as_secs();
                self.metrics.set(Metric::LastSent, &[], now);
            } else if let Some([front, behind]) = batch.halves() {
                parts.extend([behind, front]);
            } else {
                tracing::error!(?kinds, "an object is too large for the receiver: it is left out");
                self.count(Metric::Dropped, &kinds);
            }
        }
    }

    /// Counts what waits no more.
    fn count(&self, metric: Metric, kinds: &[Kind]) {
        self.metrics.take(Metric::Queued, kinds.len() as u64);
        for kind in kinds {
            self.metrics.add(metric, &[("kind", kind.as_str())], 1);
        }
    }

    /// Sends a batch until it is taken, and says as what; none where it is too large.
    async fn send(&self, batch: &Batch) -> Option<Metric> {
        let json = HeaderValue::from_static("application/json");
        let headers: HeaderMap = [(header::CONTENT_TYPE, json)].into_iter().collect();
        let message = Message::signed("/kubernetes", headers, batch.json().into());
        let items = batch.kinds().len();
        let mut failures = 0;
        loop {
            let answer = self.post.send(&message).await;
            self.metrics.add(Metric::Posts, &[("status", &answer.as_str())], 1);
            match answer.verdict {
                Verdict::Taken { unread } => {
                    tracing::debug!(items, "batch sent");
                    if unread > 0 {
                        tracing::error!(items, unread, "{UNREAD}");
                        self.metrics.add(Metric::Quarantined, &[("kind", "unknown")], unread);
                    }
                    return Some(Metric::Sent);
                }
                Verdict::Quarantined => {
                    tracing::error!(items, unread = items, "{UNREAD}");
                    return Some(Metric::Quarantined);
                }
                Verdict::Refused => return None,
                Verdict::Later { after } => {
                    failures += 1;
                    let pause = after.unwrap_or_default().max(self.pace.pause(failures));
                    let seconds = pause.as_secs_f32();
                    if let Some(status) = answer.status {
                        let advice = advice(status);
                        tracing::warn!(%status, items, failures, seconds, "batch not taken: {advice}");
                    } else {
                        let reason = String::from_utf8_lossy(&answer.content.1);
                        tracing::warn!(%reason, items, failures, seconds, "batch not sent: asked again");
                    }
                    sleep(pause).await;
                }
            }
        }
    }
}
