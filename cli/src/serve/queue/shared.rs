//! SQS, or another server that speaks it, in place of the embedded queue: several processes write
//! to it and empty it together.
//!
//! Nothing is kept here. What is received is leased for a short time, and the lease is renewed while
//! the message is worked on: when a process dies, others have its messages soon.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use spanhook_core::message::Message;
use spanhook_service::{
    queue::{Depth, Inbox, Outbox, QueueError, Received, SqsQueue},
    settings::{DEAD_LETTER_QUEUE_URL, QUEUE_URL, Vars},
    startup::sqs_queue,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::terminal::{Failure, failure};

/// How long a received message is hidden from other processes.
const LEASE: Duration = Duration::from_secs(60);

/// When a lease is renewed, while it has time left for several tries.
const RENEWED: Duration = Duration::from_secs(20);

/// How long a message may be worked on before its lease is left to end.
const HELD: Duration = Duration::from_secs(15 * 60);

/// How often leases and the queue itself are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// How long a poll waits for a message. A stop waits for the poll, which may bring messages.
const POLL: Duration = Duration::from_secs(5);

/// After a poll that failed, and after a batch of which nothing was taken: every call costs, and
/// each receive counts towards `maxReceiveCount`.
const PAUSE: Duration = Duration::from_secs(2);

/// Messages of a batch after one of which nothing was taken.
const FEW: usize = 10;

/// The most bytes of packed bodies of a batch: about one request, so that after a kill about as much comes
/// twice.
const BATCH_BYTES: usize = 384 * 1024;

/// A message that was received so often rests at least [`SELDOM`]: with the `maxReceiveCount` of
/// 1,000 that the templates set, it outlives an outage of nine days.
const OFTEN: u32 = 100;
const SELDOM: Duration = Duration::from_secs(15 * 60);

/// How long the queue may be out of reach before the process ends, for whatever supervises it to
/// start it again: with words about what is wrong, and perhaps with new credentials.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// A queue that several processes share. Clones share one connection to it.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: SqsQueue,
    dead_letters: SqsQueue,
    /// What is being worked on, by id.
    held: Mutex<HashMap<String, Held>>,
    /// Held by who polls.
    polling: tokio::sync::Mutex<()>,
    /// Nothing more is received.
    closed: AtomicBool,
    /// Something of the last batch was taken.
    fruitful: AtomicBool,
    state: watch::Sender<State>,
}

#[derive(Clone, Debug)]
struct Held {
    receipt: String,
    received: Instant,
    leased: Instant,
}

/// What is known of the queue.
#[derive(Clone, Debug, Default)]
struct State {
    counts: Counts,
    /// By call, since when it fails and why.
    failing: HashMap<&'static str, (Instant, String)>,
}

/// About how many messages there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) queued: u64,
    pub(crate) dead_letters: u64,
}

impl Shared {
    /// Opens the queue and looks whether it and its dead-letter queue are there.
    pub(super) async fn open(vars: &Vars) -> Result<Self, Failure> {
        let queue = sqs_queue(vars).await.map_err(failure)?;
        let missing = || failure(DEAD_LETTER_QUEUE_URL.missing());
        let dead_letters = queue.dead_letters().ok_or_else(missing)?;
        for (variable, queue) in [(&QUEUE_URL, &queue), (&DEAD_LETTER_QUEUE_URL, &dead_letters)] {
            queue.depth().await.map_err(|error| {
                failure(format!("the queue of {} can't be used: {error}", variable.name))
            })?;
        }
        Ok(Self::of(queue, dead_letters))
    }

    fn of(queue: SqsQueue, dead_letters: SqsQueue) -> Self {
        let inner = Arc::new(Inner {
            queue,
            dead_letters,
            held: Mutex::default(),
            polling: tokio::sync::Mutex::default(),
            closed: AtomicBool::new(false),
            fruitful: AtomicBool::new(true),
            state: watch::Sender::default(),
        });
        tokio::spawn(keep(Arc::downgrade(&inner)));
        Self(inner)
    }

    /// Whether the last look at the queue, and the last poll, found it.
    pub(super) fn is_reached(&self) -> bool {
        self.0.state.borrow().failing.is_empty()
    }

    /// About how many messages there were when they were last counted.
    pub(crate) fn counts(&self) -> Counts {
        self.0.state.borrow().counts
    }

    /// Returns when the queue was out of reach for too long.
    pub(super) async fn ended(&self) -> String {
        let lost = |state: &State| {
            let lost = state.failing.values().find(|(since, _)| since.elapsed() >= PATIENCE);
            lost.map(|(_, reason)| reason.clone())
        };
        let mut state = self.0.state.subscribe();
        // Its sender is here, so it does not go away.
        let state = state.wait_for(|it| lost(it).is_some()).await;
        let reason = state.ok().and_then(|it| lost(&it)).unwrap_or_default();
        let minutes = PATIENCE.as_secs() / 60;
        format!("the queue can't be used since {minutes} minutes, nothing is lost: {reason}")
    }

    /// As [`Queue::receive`](super::Queue::receive). Who stops waiting loses nothing: what a poll
    /// brings then is [given back](Self::give_back).
    pub(super) async fn receive(&self, max: usize, until: Instant) -> Vec<Received> {
        let this = Arc::clone(&self.0);
        tokio::spawn(async move { this.poll(max, until).await }).await.unwrap_or_default()
    }

    pub(super) async fn delete(&self, messages: &[&Received]) -> Result<(), QueueError> {
        if !messages.is_empty() {
            self.0.fruitful.store(true, Ordering::Release);
        }
        self.0.release(messages.iter().copied());
        self.0.queue.delete_many(messages).await
    }

    pub(super) async fn give_back(&self) {
        self.0.closed.store(true, Ordering::Release);
        let _polled = self.0.polling.lock().await;
        let held: Vec<_> = self.0.held().drain().map(|(id, held)| handle(id, &held)).collect();
        if held.is_empty() {
            return;
        }
        let back: Vec<_> = held.iter().map(|it| (it, Duration::ZERO)).collect();
        match self.0.queue.back_off(&back).await {
            Ok(()) => tracing::info!(messages = held.len(), "what was not sent yet is given back"),
            Err(error) => {
                tracing::warn!(%error, "what was not sent yet comes back within a minute");
            }
        }
    }
}

impl Outbox for Shared {
    async fn send(&self, messages: Vec<Message>) -> Result<(), QueueError> {
        self.0.queue.send(messages).await
    }

    async fn dead_letter(&self, messages: Vec<Message>) -> Result<(), QueueError> {
        self.0.queue.dead_letter(messages).await
    }
}

impl Inbox for Shared {
    async fn back_off(&self, messages: &[(&Received, Duration)]) -> Result<(), QueueError> {
        self.0.release(messages.iter().map(|(message, _)| *message));
        let resting: Vec<_> = messages.iter().map(|(it, pause)| (*it, rest(it, *pause))).collect();
        self.0.queue.back_off(&resting).await
    }

    /// Moves the message: nobody else deletes it here.
    async fn reject(&self, message: &Received, reason: &str) -> Result<(), QueueError> {
        self.0.queue.reject(message, reason).await?;
        self.0.fruitful.store(true, Ordering::Release);
        self.0.release([message]);
        self.0.queue.delete(message).await
    }
}

/// How long a message rests.
fn rest(message: &Received, pause: Duration) -> Duration {
    if message.receive_count > OFTEN { pause.max(SELDOM) } else { pause }
}

/// Enough of a message to change how long it is hidden.
fn handle(id: String, held: &Held) -> Received {
    Received { id, receipt: held.receipt.clone(), ..Received::default() }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        // A panic leaves at most a lease that is renewed in vain.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release<'m>(&self, messages: impl IntoIterator<Item = &'m Received>) {
        let mut held = self.held();
        messages.into_iter().for_each(|it| drop(held.remove(&it.id)));
    }

    async fn poll(&self, max: usize, until: Instant) -> Vec<Received> {
        let _alone = self.polling.lock().await;
        let fruitful = self.fruitful.swap(false, Ordering::AcqRel);
        let max = if fruitful { max } else { max.min(FEW) };
        if !fruitful {
            sleep(PAUSE).await;
        }
        while !self.closed.load(Ordering::Acquire) {
            let leased = Instant::now();
            let received = self.queue.receive_many((max, BATCH_BYTES), LEASE, POLL).await;
            self.note("receive", &received);
            match received {
                Ok(batch) if !batch.is_empty() => {
                    let hold = |it: &Received| {
                        let receipt = it.receipt.clone();
                        (it.id.clone(), Held { receipt, received: leased, leased })
                    };
                    self.held().extend(batch.iter().map(hold));
                    return batch;
                }
                Ok(_) => {}
                Err(_) => sleep(PAUSE).await,
            }
            if Instant::now() >= until {
                break;
            }
        }
        self.fruitful.store(true, Ordering::Release);
        Vec::new()
    }

    /// Takes in how a call went.
    fn note<T>(&self, call: &'static str, result: &Result<T, QueueError>) {
        self.state.send_modify(|state| match result {
            Ok(_) => {
                if state.failing.remove(call).is_some() {
                    tracing::info!(call, "the queue is there again");
                }
            }
            Err(error) => {
                let reason = error.to_string();
                let (_, last) = state.failing.entry(call).or_insert_with(|| {
                    tracing::error!(call, reason, "the queue can't be used; it is tried again");
                    (Instant::now(), String::new())
                });
                *last = reason;
            }
        });
    }

    /// Counts what is in the queues, which is also how it is known that they are there.
    async fn look(&self) {
        let (queue, dead) = tokio::join!(self.queue.depth(), self.dead_letters.depth());
        self.note("look", &queue);
        self.note("look at the dead letters", &dead);
        let all = |depth: Depth| depth.waiting + depth.taken;
        if let (Ok(queue), Ok(dead)) = (queue, dead) {
            let counts = Counts { queued: all(queue), dead_letters: all(dead) };
            self.state.send_modify(|state| state.counts = counts);
        }
    }

    /// Renews the leases of what is still worked on.
    async fn renew(&self) {
        let now = Instant::now();
        let due: Vec<_> = {
            let mut held = self.held();
            held.retain(|_, it| now.duration_since(it.received) < HELD);
            let due = held.iter_mut().filter(|(_, it)| now.duration_since(it.leased) >= RENEWED);
            due.map(|(id, it)| {
                it.leased = now;
                handle(id.clone(), it)
            })
            .collect()
        };
        if due.is_empty() {
            return;
        }
        let leases: Vec<_> = due.iter().map(|it| (it, LEASE)).collect();
        if let Err(error) = self.queue.back_off(&leases).await {
            // Some may have been settled in the meantime.
            tracing::debug!(%error, "leases were not renewed; messages may be sent twice");
        }
    }
}

/// Looks after the queue as long as somebody has it.
async fn keep(inner: Weak<Inner>) {
    while let Some(inner) = inner.upgrade() {
        tokio::join!(inner.renew(), inner.look());
        drop(inner);
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests;
