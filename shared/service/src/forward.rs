//! The forwarder: messages in, a verdict for each out.
//!
//! Whoever drives it (the event source mapping on AWS, the local process, a test) deletes what was
//! acknowledged. A message is acknowledged only after the receiver acknowledged its spans.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    panic::{UnwindSafe, catch_unwind},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use spanhook_core::message::{self, Content};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    clock::Clock,
    export::{Export, Outcome, Partial, Signal},
    queue::{Inbox, Received},
};

/// The largest request, in bytes: it fits the Collector's 4 MiB over gRPC and 20 MiB over HTTP.
pub const REQUEST_LIMIT: usize = 3_584 * 1024;

/// No export begins when less time than this is left: [`settle`] and the forwarder's own telemetry
/// have it.
pub const MARGIN: Duration = Duration::from_secs(3);

/// Pauses between tries within one batch: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long messages rest after an answer that only an operator can mend.
const MISCONFIGURED_PAUSE: Duration = Duration::from_secs(300);

/// The longest rest that we choose ourselves; jitter adds a quarter at most.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(900);

/// The longest rest that a receiver may ask for: SQS hides a message for no more than 12 hours,
/// counted from when it was received.
pub const LONGEST_REST: Duration = Duration::from_secs(11 * 3600);

/// Messages on their way to the dead-letter queue at a time: a batch of nothing but bad ones has a
/// part of [`MARGIN`] to get there.
const REJECTS_AT_ONCE: usize = 16;

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its spans arrived: delete it.
    Ack,
    /// It stays in the queue.
    Retry {
        /// When the receiver wants to be asked again.
        after: Option<Duration>,
        /// Why.
        reason: String,
    },
    /// It stays in the queue until the operator has mended something.
    Misconfigured {
        /// What.
        reason: String,
    },
    /// It goes to the dead-letter queue.
    Reject {
        /// Why.
        reason: String,
    },
}

/// What a batch came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that the receiver took.
    pub delivered: u64,
    /// Spans in them.
    pub spans: u64,
    /// Messages that stay.
    pub retried: u64,
    /// Messages that went to the dead-letter queue.
    pub dead_lettered: u64,
    /// Spans refused within requests that were taken.
    pub partially_rejected: u64,
    /// Answers that only an operator can mend.
    pub misconfigured: u64,
}

/// Delivers a batch before the deadline: one verdict a message, in their order.
pub async fn forward(
    messages: &[Received],
    exporter: &impl Export,
    deadline: Instant,
    tally: &mut Tally,
) -> Vec<Verdict> {
    let originals = originals(messages);
    let mut batch = Batch {
        exporter,
        deadline: deadline.checked_sub(MARGIN).unwrap_or(deadline),
        jitter: messages.first().map_or(0.0, |it| jitter(&it.id, 0)),
        verdicts: vec![None; messages.len()],
        stopped: [const { None }; 3],
        took: [false; 3],
        tally,
    };
    let mut requests = Signal::ALL.map(Joined::new);
    for (index, message) in messages.iter().enumerate() {
        if originals[index] != index {
            continue;
        }
        match read(message) {
            Err(reason) => batch.verdicts[index] = Some(Verdict::Reject { reason }),
            Ok((signal, raw)) => {
                let request = &mut requests[signal as usize];
                if request.len + raw.len() > REQUEST_LIMIT {
                    batch.deliver(std::mem::replace(request, Joined::new(signal))).await;
                }
                request.push(index, raw);
            }
        }
    }
    for request in requests {
        batch.deliver(request).await;
    }
    let verdicts = batch.verdicts;
    for (message, verdict) in messages.iter().zip(&verdicts) {
        if *verdict == Some(Verdict::Ack) {
            tally.delivered += 1;
            tally.spans +=
                message.attributes.get("spans").and_then(|it| it.parse().ok()).unwrap_or(0);
        }
    }
    let unsent = || Verdict::Retry { after: None, reason: "not sent before the deadline".into() };
    originals.into_iter().map(|it| verdicts[it].clone().unwrap_or_else(unsent)).collect()
}

/// For every message the place of the first one that is the same: a queue that delivers at least
/// once may do so twice in one batch.
fn originals(messages: &[Received]) -> Vec<usize> {
    let mut first = HashMap::new();
    let places = messages.iter().enumerate();
    places.map(|(place, it)| *first.entry((&it.id, &it.body)).or_insert(place)).collect()
}

fn read(message: &Received) -> Result<(Signal, Cow<'_, [u8]>), String> {
    match contained(|| message::read(&message.body, &message.attributes))? {
        Ok(Content::Otlp(signal, raw)) => Ok((signal, raw)),
        Ok(Content::Quarantined(_)) => {
            let reason = message.attributes.get("reason").map_or("", String::as_str);
            Err(format!("a quarantined delivery holds no spans: {reason}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// A bug that one message brings out is no reason to lose its batch.
fn contained<T>(work: impl FnOnce() -> T + UnwindSafe) -> Result<T, String> {
    catch_unwind(work).map_err(|_| "reading it panicked, which is a bug in spanhook".to_owned())
}

/// Messages of one signal that go out as one request.
struct Joined<'m> {
    signal: Signal,
    parts: Vec<(usize, Cow<'m, [u8]>)>,
    len: usize,
}

impl<'m> Joined<'m> {
    fn new(signal: Signal) -> Self {
        Self { signal, parts: Vec::new(), len: 0 }
    }

    fn push(&mut self, index: usize, raw: Cow<'m, [u8]>) {
        self.len += raw.len();
        self.parts.push((index, raw));
    }

    /// Protobuf messages of one type join by joining their bytes.
    fn bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.len);
        self.parts.iter().for_each(|(_, raw)| bytes.extend_from_slice(raw));
        bytes.into()
    }

    fn halves(mut self) -> (Self, Self) {
        let right = self.parts.split_off(self.parts.len() / 2);
        let len = |parts: &[(usize, Cow<'_, [u8]>)]| parts.iter().map(|(_, raw)| raw.len()).sum();
        let (left_len, right_len) = (len(&self.parts), len(&right));
        let half = |parts, len| Self { signal: self.signal, parts, len };
        (half(self.parts, left_len), half(right, right_len))
    }
}

struct Batch<'b, E> {
    exporter: &'b E,
    deadline: Instant,
    /// Of pauses between tries, so that forwarders that were refused together come back apart.
    jitter: f64,
    verdicts: Vec<Option<Verdict>>,
    /// Why nothing more of a signal is sent: what stops one request would stop the next. A receiver
    /// that takes no metrics may still take traces.
    stopped: [Option<Verdict>; 3],
    /// Whether the receiver took a request of a signal: so it is one.
    took: [bool; 3],
    tally: &'b mut Tally,
}

impl<E: Export> Batch<'_, E> {
    /// Sends a request, and its halves when something in it is refused, down to the one message.
    ///
    /// Who refuses in other words than OTLP's may be something else at that address, which refuses
    /// everything: only when it also takes something is a message bad. Until then one message is
    /// looked for, and the rest is tried in the pieces that are left: some twenty requests of a
    /// thousand messages, none of which is lost.
    async fn deliver(&mut self, request: Joined<'_>) {
        let signal = request.signal as usize;
        let mut waiting = vec![request];
        let mut doubtful: Vec<(Joined<'_>, String)> = Vec::new();
        while let Some(request) = waiting.pop() {
            if request.parts.is_empty() {
                continue;
            }
            if let Some(verdict) = self.stopped[signal].clone() {
                for request in doubtful.drain(..).map(|(it, _)| it).chain([request]) {
                    self.settle(&request, &verdict);
                }
                continue;
            }
            let alone = request.parts.len() == 1;
            match self.send(request.signal, request.bytes()).await {
                Outcome::Delivered { partial } => {
                    self.took[signal] = true;
                    self.note(request.signal, partial);
                    self.settle(&request, &Verdict::Ack);
                }
                Outcome::Unclear { reason }
                    if !self.took[signal] && (alone || !doubtful.is_empty()) =>
                {
                    doubtful.push((request, reason));
                }
                Outcome::Reject { reason }
                | Outcome::Unclear { reason }
                | Outcome::TooLarge { reason }
                    if alone =>
                {
                    self.settle(&request, &Verdict::Reject { reason });
                }
                Outcome::Reject { .. } | Outcome::Unclear { .. } | Outcome::TooLarge { .. } => {
                    let (left, right) = request.halves();
                    waiting.extend([right, left]);
                }
                Outcome::Retry { after, reason } => {
                    tracing::warn!(reason, "the receiver can't be reached; messages stay queued");
                    self.stop(&request, Verdict::Retry { after, reason });
                }
                Outcome::Misconfigured { reason } => self.misconfigured(&request, reason),
            }
            if self.took[signal] || waiting.is_empty() {
                for (request, reason) in std::mem::take(&mut doubtful) {
                    self.resolve(request, reason, &mut waiting);
                }
            }
        }
    }

    /// What is done with a request whose refusal was doubtful.
    fn resolve<'m>(&mut self, request: Joined<'m>, reason: String, waiting: &mut Vec<Joined<'m>>) {
        let signal = request.signal as usize;
        if let Some(verdict) = self.stopped[signal].clone() {
            self.settle(&request, &verdict);
        } else if !self.took[signal] {
            let hint =
                "it took nothing; check that OTEL_EXPORTER_OTLP_ENDPOINT is an OTLP receiver";
            self.misconfigured(&request, format!("{reason}: {hint}"));
        } else if request.parts.len() == 1 {
            self.settle(&request, &Verdict::Reject { reason });
        } else {
            let (left, right) = request.halves();
            waiting.extend([right, left]);
        }
    }

    fn note(&mut self, signal: Signal, partial: Option<Partial>) {
        let Some(partial) = partial else { return };
        tracing::warn!(
            rejected = partial.rejected,
            signal = signal.as_str(),
            message = partial.message,
            "the receiver took a request but not all that was in it"
        );
        self.tally.partially_rejected += partial.rejected;
    }

    fn misconfigured(&mut self, request: &Joined<'_>, reason: String) {
        let signal = request.signal.as_str();
        tracing::error!(signal, reason, "nothing is delivered until this is mended");
        self.tally.misconfigured += 1;
        self.stop(request, Verdict::Misconfigured { reason });
    }

    /// Tries again within the deadline, as long as the receiver asks for no longer pause.
    async fn send(&self, signal: Signal, request: Bytes) -> Outcome {
        let mut pause = FIRST_PAUSE;
        loop {
            if Instant::now() >= self.deadline {
                let reason = "not sent before the deadline".to_owned();
                return Outcome::Retry { after: None, reason };
            }
            let export = self.exporter.export(signal, request.clone());
            let answer = timeout_at(self.deadline, export).await;
            let (after, reason) = match answer {
                Err(_) => (None, "no answer before the deadline".to_owned()),
                Ok(Outcome::Retry { after, reason }) => (after, reason),
                Ok(outcome) => return outcome,
            };
            // A receiver may ask for no pause, or for one that overflows the clock.
            let wait = (pause + pause.mul_f64(self.jitter)).max(after.unwrap_or_default());
            let next = Instant::now().checked_add(wait.saturating_add(MARGIN));
            if next.is_none_or(|next| next > self.deadline) {
                return Outcome::Retry { after, reason };
            }
            sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn stop(&mut self, request: &Joined<'_>, verdict: Verdict) {
        self.settle(request, &verdict);
        self.stopped[request.signal as usize] = Some(verdict);
    }

    fn settle(&mut self, request: &Joined<'_>, verdict: &Verdict) {
        for (index, _) in &request.parts {
            self.verdicts[*index] = Some(verdict.clone());
        }
    }
}

/// Carries the verdicts out and gives the ids of the messages that stay in the queue, each once.
///
/// It ends at `until`, whatever the queue does. A message whose way to the dead-letter queue failed
/// or was not confirmed by then stays too. What stays rests as long as `rest` says; where the queue
/// was not told in time, that is for its own visibility timeout.
pub async fn settle(
    inbox: &impl Inbox,
    messages: &[Received],
    verdicts: &[Verdict],
    until: Instant,
    rest: impl Fn(&Received, &Verdict) -> Duration,
    tally: &mut Tally,
) -> Vec<String> {
    let stays = |verdict: &Verdict| {
        matches!(verdict, Verdict::Retry { .. } | Verdict::Misconfigured { .. })
    };
    let resting = |stays: &dyn Fn(&Received, &Verdict) -> bool| -> Vec<_> {
        let all = messages.iter().zip(verdicts).filter(|(message, it)| stays(message, it));
        all.map(|(message, verdict)| (message, rest(message, verdict))).collect()
    };
    let kept = resting(&|_, it| stays(it));
    // Beside each other: neither must use up the other's time.
    let ((), refused) = tokio::join!(
        back_off(inbox, &kept, until),
        reject(inbox, messages, verdicts, until, tally)
    );
    let refused = resting(&|it, verdict| !stays(verdict) && refused.contains(it.id.as_str()));
    back_off(inbox, &refused, until).await;

    let mut seen = HashSet::new();
    let ids = kept.iter().chain(&refused).map(|(message, _)| &message.id);
    let failed: Vec<_> = ids.filter(|id| seen.insert(*id)).cloned().collect();
    tally.retried += failed.len() as u64;
    failed
}

/// A failure means another pause than the one that was meant, and no more.
async fn back_off(inbox: &impl Inbox, resting: &[(&Received, Duration)], until: Instant) {
    if resting.is_empty() {
        return;
    }
    match timeout_at(until, inbox.back_off(resting)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "messages do not rest as long as they should"),
        Err(_) => tracing::warn!("the queue was not told in time how long messages rest"),
    }
}

/// Moves what was rejected to the dead-letter queue, each message once, and gives the ids of those
/// that it did not confirm.
async fn reject<'m>(
    inbox: &impl Inbox,
    messages: &'m [Received],
    verdicts: &'m [Verdict],
    until: Instant,
    tally: &mut Tally,
) -> HashSet<&'m str> {
    let mut rejected: HashMap<_, _> = HashMap::new();
    for (message, verdict) in messages.iter().zip(verdicts) {
        if let Verdict::Reject { reason } = verdict {
            rejected.insert(message.id.as_str(), (message, reason.as_str()));
        }
    }
    let mut kept: HashSet<_> = rejected.keys().copied().collect();
    // Collected first: a stream that holds the closure is not `Send` enough for a task.
    let moves: Vec<_> = rejected
        .into_values()
        .map(async |(message, reason)| (message, reason, inbox.reject(message, reason).await))
        .collect();
    let mut moves = stream::iter(moves).buffer_unordered(REJECTS_AT_ONCE);
    while let Ok(Some((message, reason, moved))) = timeout_at(until, moves.next()).await {
        let id = message.id.as_str();
        match moved {
            Ok(()) => {
                tracing::warn!(id, reason, "message moved to the dead-letter queue");
                tally.dead_lettered += 1;
                kept.remove(id);
            }
            Err(error) => {
                tracing::error!(id, %error, "the dead-letter queue refused; the message stays");
            }
        }
    }
    kept
}

/// How long a message rests: twice as long with every receipt, since Lambda does not slow down on
/// partial failures by itself, with jitter so that a batch does not come back as one; never less
/// than the receiver asked for.
#[must_use]
pub fn rest(message: &Received, verdict: &Verdict, clock: Clock) -> Duration {
    let asked = match verdict {
        Verdict::Retry { after, .. } => after.unwrap_or_default(),
        Verdict::Misconfigured { .. } => MISCONFIGURED_PAUSE,
        Verdict::Ack | Verdict::Reject { .. } => Duration::ZERO,
    };
    let doublings = message.receive_count.saturating_sub(1).min(10);
    let base = Duration::from_secs(5 << doublings).min(LONGEST_BACK_OFF);
    let own = base + base.mul_f64(jitter(&message.id, clock.nanos()));
    own.max(asked).min(LONGEST_REST)
}

/// A share of a pause, below a quarter, that differs from message to message.
fn jitter(id: &str, seed: u64) -> f64 {
    let noise = id.bytes().fold(seed, |sum, it| sum.rotate_left(5) ^ u64::from(it));
    f64::from(u8::try_from(noise % 256).unwrap_or(0)) / 1024.0
}

#[cfg(test)]
mod tests;
