//! The forwarder: messages in, a verdict for each out.
//!
//! Whoever drives it (the event source mapping on AWS, the local process, a test) deletes what was
//! acknowledged. A message is acknowledged only after the receiver acknowledged its spans.

use std::{
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
    export::{Export, Outcome, Signal},
    queue::{Inbox, Received},
};

/// The largest request, in bytes: it fits the Collector's 4 MiB over gRPC and 20 MiB over HTTP.
pub const REQUEST_LIMIT: usize = 3_584 * 1024;

/// No export begins when less time than this is left.
const MARGIN: Duration = Duration::from_secs(2);

/// Pauses between tries within one batch: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long messages rest after an answer that only an operator can mend.
const MISCONFIGURED_PAUSE: Duration = Duration::from_secs(300);

/// The longest rest that we choose ourselves; jitter adds a quarter at most.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(900);

/// The longest rest that a receiver may ask for: SQS hides a message for no more than 12 hours,
/// counted from when it was received.
const LONGEST_REST: Duration = Duration::from_secs(11 * 3600);

/// Messages on their way to the dead-letter queue at a time: a batch of nothing but bad ones has
/// [`MARGIN`] to get there.
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
                request.push(index, raw.into());
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

fn read(message: &Received) -> Result<(Signal, Vec<u8>), String> {
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
struct Joined {
    signal: Signal,
    parts: Vec<(usize, Bytes)>,
    len: usize,
}

impl Joined {
    fn new(signal: Signal) -> Self {
        Self { signal, parts: Vec::new(), len: 0 }
    }

    fn push(&mut self, index: usize, raw: Bytes) {
        self.len += raw.len();
        self.parts.push((index, raw));
    }

    /// Protobuf messages of one type join by joining their bytes.
    fn bytes(&self) -> Bytes {
        match self.parts.as_slice() {
            [(_, only)] => only.clone(),
            parts => {
                let mut bytes = Vec::with_capacity(self.len);
                parts.iter().for_each(|(_, raw)| bytes.extend_from_slice(raw));
                bytes.into()
            }
        }
    }

    fn halves(mut self) -> (Self, Self) {
        let right = self.parts.split_off(self.parts.len() / 2);
        let len = |parts: &[(usize, Bytes)]| parts.iter().map(|(_, raw)| raw.len()).sum();
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
    tally: &'b mut Tally,
}

impl<E: Export> Batch<'_, E> {
    /// Sends a request, and its halves when something in it is refused, down to the one message.
    async fn deliver(&mut self, request: Joined) {
        let mut waiting = vec![request];
        while let Some(request) = waiting.pop() {
            if request.parts.is_empty() {
                continue;
            }
            let outcome = match &self.stopped[request.signal as usize] {
                Some(verdict) => {
                    let verdict = verdict.clone();
                    self.settle(&request, &verdict);
                    continue;
                }
                None => self.send(request.signal, request.bytes()).await,
            };
            match outcome {
                Outcome::Delivered { partial } => {
                    if let Some(partial) = partial {
                        tracing::warn!(
                            rejected = partial.rejected,
                            signal = request.signal.as_str(),
                            message = partial.message,
                            "the receiver took a request but not all that was in it"
                        );
                        self.tally.partially_rejected += partial.rejected;
                    }
                    self.settle(&request, &Verdict::Ack);
                }
                Outcome::Reject { reason } | Outcome::TooLarge { reason }
                    if request.parts.len() == 1 =>
                {
                    self.settle(&request, &Verdict::Reject { reason });
                }
                Outcome::Reject { .. } | Outcome::TooLarge { .. } => {
                    let (left, right) = request.halves();
                    waiting.extend([right, left]);
                }
                Outcome::Retry { after, reason } => {
                    tracing::warn!(reason, "the receiver can't be reached; messages stay queued");
                    self.stop(&request, Verdict::Retry { after, reason });
                }
                Outcome::Misconfigured { reason } => {
                    let signal = request.signal.as_str();
                    tracing::error!(signal, reason, "nothing is delivered until this is mended");
                    self.tally.misconfigured += 1;
                    let after = Some(MISCONFIGURED_PAUSE);
                    self.stop(&request, Verdict::Retry { after, reason });
                }
            }
        }
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

    fn stop(&mut self, request: &Joined, verdict: Verdict) {
        self.settle(request, &verdict);
        self.stopped[request.signal as usize] = Some(verdict);
    }

    fn settle(&mut self, request: &Joined, verdict: &Verdict) {
        for (index, _) in &request.parts {
            self.verdicts[*index] = Some(verdict.clone());
        }
    }
}

/// Carries the verdicts out and gives the ids of the messages that stay in the queue, each once.
///
/// A message whose way to the dead-letter queue fails stays too. What rests longer is a message
/// that was received more often: Lambda does not slow down on partial failures by itself.
pub async fn settle(
    inbox: &impl Inbox,
    messages: &[Received],
    verdicts: &[Verdict],
    clock: Clock,
    tally: &mut Tally,
) -> Vec<String> {
    let kept = reject(inbox, messages, verdicts, tally).await;
    let resting: Vec<_> = messages
        .iter()
        .zip(verdicts)
        .filter_map(|(message, verdict)| match verdict {
            Verdict::Retry { after, .. } => Some((message, back_off(message, *after, clock))),
            Verdict::Reject { .. } if kept.contains(message.id.as_str()) => {
                Some((message, back_off(message, None, clock)))
            }
            _ => None,
        })
        .collect();
    if let Err(error) = inbox.back_off(&resting).await {
        tracing::warn!(%error, "messages are retried sooner than they should be");
    }
    let mut seen = HashSet::new();
    let ids = resting.iter().map(|(message, _)| &message.id);
    let failed: Vec<_> = ids.filter(|id| seen.insert(*id)).cloned().collect();
    tally.retried += failed.len() as u64;
    failed
}

/// Moves what was rejected to the dead-letter queue, each message once, and gives the ids of those
/// that the queue did not take.
async fn reject<'m>(
    inbox: &impl Inbox,
    messages: &'m [Received],
    verdicts: &'m [Verdict],
    tally: &mut Tally,
) -> HashSet<&'m str> {
    let mut rejected: HashMap<_, _> = HashMap::new();
    for (message, verdict) in messages.iter().zip(verdicts) {
        if let Verdict::Reject { reason } = verdict {
            rejected.insert(message.id.as_str(), (message, reason.as_str()));
        }
    }
    // Collected first: a stream that holds the closure is not `Send` enough for a task.
    let moves: Vec<_> = rejected
        .into_values()
        .map(async |(message, reason)| (message, reason, inbox.reject(message, reason).await))
        .collect();
    let mut moves = stream::iter(moves).buffer_unordered(REJECTS_AT_ONCE);
    let mut kept = HashSet::new();
    while let Some((message, reason, moved)) = moves.next().await {
        let id = message.id.as_str();
        match moved {
            Ok(()) => {
                tracing::warn!(id, reason, "message moved to the dead-letter queue");
                tally.dead_lettered += 1;
            }
            Err(error) => {
                tracing::error!(id, %error, "the dead-letter queue refused; the message stays");
                kept.insert(id);
            }
        }
    }
    kept
}

/// Doubles with every receipt, with jitter so that a batch does not come back as one; never less
/// than the receiver asked for.
fn back_off(message: &Received, after: Option<Duration>, clock: Clock) -> Duration {
    let doublings = message.receive_count.saturating_sub(1).min(10);
    let base = Duration::from_secs(5 << doublings).min(LONGEST_BACK_OFF);
    let own = base + base.mul_f64(jitter(&message.id, clock.nanos()));
    own.max(after.unwrap_or_default()).min(LONGEST_REST)
}

/// A share of a pause, below a quarter, that differs from message to message.
fn jitter(id: &str, seed: u64) -> f64 {
    let noise = id.bytes().fold(seed, |sum, it| sum.rotate_left(5) ^ u64::from(it));
    f64::from(u8::try_from(noise % 256).unwrap_or(0)) / 1024.0
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use proptest::prelude::*;
    use spanhook_core::message::pack;

    use super::*;
    use crate::queue::QueueError;

    fn message(id: usize, raw: &[u8]) -> Received {
        let attributes = [("encoding", "otlp-proto+zstd"), ("spans", "3")];
        Received {
            id: format!("m{id}"),
            body: pack(raw),
            attributes: attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            receive_count: 1,
            ..Received::default()
        }
    }

    /// A `resource_spans` field that holds one byte.
    fn spans(marker: u8) -> Vec<u8> {
        vec![10, 1, marker]
    }

    fn batch(count: usize) -> Vec<Received> {
        (0..count).map(|id| message(id, &spans(u8::try_from(id).unwrap()))).collect()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// Refuses requests that hold any of the poison markers.
    struct RefusingExporter {
        poison: BTreeSet<u8>,
        exports: AtomicUsize,
    }

    impl Export for RefusingExporter {
        async fn export(&self, _: Signal, request: Bytes) -> Outcome {
            self.exports.fetch_add(1, Ordering::Relaxed);
            if request.chunks(3).any(|it| self.poison.contains(&it[2])) {
                return Outcome::Reject { reason: "bad span".into() };
            }
            Outcome::Delivered { partial: None }
        }
    }

    /// Gives its answers one after the other, the last one for ever.
    struct ScriptedExporter(Mutex<Vec<Outcome>>, AtomicUsize);

    impl ScriptedExporter {
        fn new(mut answers: Vec<Outcome>) -> Self {
            answers.reverse();
            Self(Mutex::new(answers), AtomicUsize::new(0))
        }
    }

    impl Export for ScriptedExporter {
        async fn export(&self, _: Signal, _: Bytes) -> Outcome {
            self.1.fetch_add(1, Ordering::Relaxed);
            let mut answers = self.0.lock().unwrap();
            if answers.len() > 1 { answers.pop().unwrap() } else { answers[0].clone() }
        }
    }

    fn retry(after: Option<u64>) -> Outcome {
        Outcome::Retry { after: after.map(Duration::from_secs), reason: "busy".into() }
    }

    fn delivered() -> Outcome {
        Outcome::Delivered { partial: None }
    }

    proptest! {
        #[test]
        fn exactly_the_poison_messages_are_rejected(
            count in 1..40usize, poison in prop::collection::btree_set(0..40u8, 0..6),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let exporter = RefusingExporter { poison: poison.clone(), exports: AtomicUsize::new(0) };
            let messages = batch(count);
            let verdicts =
                runtime.block_on(forward(&messages, &exporter, soon(), &mut Tally::default()));
            for (index, verdict) in verdicts.iter().enumerate() {
                let poisoned = poison.contains(&u8::try_from(index).unwrap());
                prop_assert_eq!(matches!(verdict, Verdict::Reject { .. }), poisoned);
                prop_assert_eq!(*verdict == Verdict::Ack, !poisoned);
            }
            // Each poison message costs at most one path down a binary tree.
            let depth = usize::try_from(count.next_power_of_two().ilog2()).unwrap() + 1;
            prop_assert!(exporter.exports.into_inner() <= 1 + 2 * depth * poison.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_recovers_within_the_deadline_gets_everything() {
        let exporter = ScriptedExporter::new(vec![retry(None), retry(Some(20)), delivered()]);
        let began = Instant::now();
        let mut tally = Tally::default();
        let verdicts = forward(&batch(3), &exporter, soon(), &mut tally).await;
        assert_eq!(verdicts, vec![Verdict::Ack; 3]);
        assert!(began.elapsed() >= Duration::from_secs(20), "Retry-After is honoured");
        assert_eq!((tally.delivered, tally.spans), (3, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_ends_after_the_deadline_is_left_to_the_queue() {
        let exporter = ScriptedExporter::new(vec![retry(Some(600))]);
        let verdicts = forward(&batch(2), &exporter, soon(), &mut Tally::default()).await;
        let expected =
            Verdict::Retry { after: Some(Duration::from_secs(600)), reason: "busy".into() };
        assert_eq!(verdicts, vec![expected; 2]);
        assert_eq!(exporter.1.into_inner(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_operators_mistake_keeps_messages_and_stops_the_batch() {
        let exporter = ScriptedExporter::new(vec![Outcome::Misconfigured { reason: "401".into() }]);
        let big =
            vec![message(0, &request(3 * 1024 * 1024)), message(1, &request(3 * 1024 * 1024))];
        let mut tally = Tally::default();
        let verdicts = forward(&big, &exporter, soon(), &mut tally).await;
        assert!(verdicts.iter().all(|it| matches!(it, Verdict::Retry { after: Some(_), .. })));
        assert_eq!((exporter.1.into_inner(), tally.misconfigured), (1, 1));
    }

    /// One `resource_spans` field of about `len` bytes.
    fn request(len: usize) -> Vec<u8> {
        let mut raw = Vec::new();
        prost::encoding::bytes::encode(1, &vec![7u8; len], &mut raw);
        raw
    }

    /// Remembers how large requests were.
    struct MeasuringExporter(Mutex<Vec<usize>>);

    impl Export for MeasuringExporter {
        async fn export(&self, _: Signal, request: Bytes) -> Outcome {
            self.0.lock().unwrap().push(request.len());
            delivered()
        }
    }

    /// Takes traces and logs, and knows no metrics.
    #[derive(Default)]
    struct TracesAndLogs(Mutex<Vec<(Signal, Bytes)>>);

    impl Export for TracesAndLogs {
        async fn export(&self, signal: Signal, request: Bytes) -> Outcome {
            self.0.lock().unwrap().push((signal, request));
            match signal {
                Signal::Metrics => Outcome::Misconfigured { reason: "HTTP 404".into() },
                _ => delivered(),
            }
        }
    }

    #[tokio::test]
    async fn signals_are_joined_apart_and_one_that_is_refused_stops_no_other() {
        let exporter = TracesAndLogs::default();
        let signals = [None, Some("metrics"), Some("logs"), Some("metrics"), Some("traces")];
        let messages: Vec<_> = signals
            .iter()
            .enumerate()
            .map(|(id, signal)| {
                let mut message = message(id, &spans(u8::try_from(id).unwrap()));
                let named = signal.map(|it| ("signal".to_owned(), it.to_owned()));
                message.attributes.extend(named);
                message
            })
            .collect();
        let verdicts = forward(&messages, &exporter, soon(), &mut Tally::default()).await;
        let taken: Vec<_> = verdicts.iter().map(|it| *it == Verdict::Ack).collect();
        assert_eq!(taken, [true, false, true, false, true]);
        let sent = exporter.0.into_inner().unwrap();
        let joined =
            |ids: &[u8]| Bytes::from(ids.iter().flat_map(|id| spans(*id)).collect::<Vec<_>>());
        assert_eq!(
            sent,
            [
                (Signal::Traces, joined(&[0, 4])),
                (Signal::Metrics, joined(&[1, 3])),
                (Signal::Logs, joined(&[2])),
            ]
        );
    }

    #[tokio::test]
    async fn requests_stay_below_the_collectors_limit() {
        let exporter = MeasuringExporter(Mutex::default());
        let messages: Vec<_> = (0..20).map(|id| message(id, &request(600 * 1024))).collect();
        forward(&messages, &exporter, soon(), &mut Tally::default()).await;
        let sizes = exporter.0.into_inner().unwrap();
        assert!(sizes.iter().all(|it| *it <= REQUEST_LIMIT), "{sizes:?}");
        assert_eq!(sizes.len(), 4);
    }

    #[tokio::test]
    async fn an_undecodable_message_is_rejected_alone() {
        let mut messages = batch(4);
        messages[1].body = "*** no base64 ***".into();
        messages[2].attributes.clear();
        let exporter = ScriptedExporter::new(vec![delivered()]);
        let verdicts = forward(&messages, &exporter, soon(), &mut Tally::default()).await;
        let rejected: Vec<_> =
            verdicts.iter().map(|it| matches!(it, Verdict::Reject { .. })).collect();
        assert_eq!(rejected, [false, true, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_export_begins_when_the_deadline_is_near() {
        let exporter = ScriptedExporter::new(vec![delivered()]);
        let deadline = Instant::now() + Duration::from_secs(1);
        let verdicts = forward(&batch(1), &exporter, deadline, &mut Tally::default()).await;
        assert!(matches!(verdicts[0], Verdict::Retry { .. }));
        assert_eq!(exporter.1.into_inner(), 0);
    }

    /// Takes everything, or refuses rejects.
    #[derive(Default)]
    struct RecordingInbox {
        refuses: bool,
        rejected: Mutex<Vec<(String, String)>>,
        rested: Mutex<Vec<(String, Duration)>>,
    }

    impl Inbox for RecordingInbox {
        async fn back_off(&self, messages: &[(&Received, Duration)]) -> Result<(), QueueError> {
            let rested = messages.iter().map(|(it, pause)| (it.id.clone(), *pause));
            self.rested.lock().unwrap().extend(rested);
            Ok(())
        }

        async fn reject(&self, message: &Received, reason: &str) -> Result<(), QueueError> {
            if self.refuses {
                return Err(QueueError::Refused { failed: 1, total: 1, reason: "down".into() });
            }
            self.rejected.lock().unwrap().push((message.id.clone(), reason.to_owned()));
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_stays_is_reported_and_rests_longer_each_time() {
        let mut messages = batch(3);
        messages[1].receive_count = 4;
        let verdicts = [
            Verdict::Ack,
            Verdict::Retry { after: None, reason: String::new() },
            Verdict::Reject { reason: "bad".into() },
        ];
        let inbox = RecordingInbox::default();
        let mut tally = Tally::default();
        let failed = settle(&inbox, &messages, &verdicts, Clock::SYSTEM, &mut tally).await;
        assert_eq!(failed, ["m1"]);
        assert_eq!(*inbox.rejected.lock().unwrap(), [("m2".to_owned(), "bad".to_owned())]);
        let pause = inbox.rested.lock().unwrap()[0].1;
        assert!((Duration::from_secs(40)..Duration::from_secs(51)).contains(&pause), "{pause:?}");
    }

    #[tokio::test]
    async fn a_message_that_the_dead_letter_queue_refuses_stays() {
        let inbox = RecordingInbox { refuses: true, ..RecordingInbox::default() };
        let verdicts = [Verdict::Reject { reason: "bad".into() }];
        let failed =
            settle(&inbox, &batch(1), &verdicts, Clock::SYSTEM, &mut Tally::default()).await;
        assert_eq!(failed, ["m0"]);
    }
}
