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
        body: pack(raw).into(),
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

fn as_on_lambda(message: &Received, verdict: &Verdict) -> Duration {
    rest(message, verdict, Clock::SYSTEM)
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
    let expected = Verdict::Retry { after: Some(Duration::from_secs(600)), reason: "busy".into() };
    assert_eq!(verdicts, vec![expected; 2]);
    assert_eq!(exporter.1.into_inner(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_operators_mistake_keeps_messages_and_stops_the_batch() {
    let exporter = ScriptedExporter::new(vec![Outcome::Misconfigured { reason: "401".into() }]);
    let big = vec![message(0, &request(3 * 1024 * 1024)), message(1, &request(3 * 1024 * 1024))];
    let mut tally = Tally::default();
    let verdicts = forward(&big, &exporter, soon(), &mut tally).await;
    assert!(verdicts.iter().all(|it| matches!(it, Verdict::Misconfigured { .. })));
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
    let joined = |ids: &[u8]| Bytes::from(ids.iter().flat_map(|id| spans(*id)).collect::<Vec<_>>());
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
    let rejected: Vec<_> = verdicts.iter().map(|it| matches!(it, Verdict::Reject { .. })).collect();
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
    let failed = settle(&inbox, &messages, &verdicts, soon(), as_on_lambda, &mut tally).await;
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
        settle(&inbox, &batch(1), &verdicts, soon(), as_on_lambda, &mut Tally::default()).await;
    assert_eq!(failed, ["m0"]);
}

/// Refuses requests that hold any of the poison markers, in no words of OTLP.
struct MumblingExporter {
    poison: BTreeSet<u8>,
    exports: AtomicUsize,
}

impl Export for MumblingExporter {
    async fn export(&self, _: Signal, request: Bytes) -> Outcome {
        self.exports.fetch_add(1, Ordering::Relaxed);
        if request.chunks(3).any(|it| self.poison.contains(&it[2])) {
            return Outcome::Unclear { reason: "HTTP 400".into() };
        }
        delivered()
    }
}

#[tokio::test]
async fn who_refuses_everything_in_other_words_than_otlps_is_the_operators_mistake() {
    for (count, most) in [(1, 1), (2, 3), (64, 14), (200, 18)] {
        let exporter =
            MumblingExporter { poison: (0..=255).collect(), exports: AtomicUsize::new(0) };
        let mut tally = Tally::default();
        let verdicts = forward(&batch(count), &exporter, soon(), &mut tally).await;
        assert!(verdicts.iter().all(|it| matches!(it, Verdict::Misconfigured { .. })));
        assert_eq!(tally.misconfigured, 1);
        let exports = exporter.exports.into_inner();
        assert!(exports <= most, "{exports} requests of {count} messages");
    }
}

#[tokio::test(start_paused = true)]
async fn who_mumbles_and_then_asks_to_wait_is_given_the_time() {
    let unclear = || Outcome::Unclear { reason: "HTTP 400".into() };
    // All eight, four, two, one, the other one; then two.
    let mut answers: Vec<_> = std::iter::repeat_with(unclear).take(5).collect();
    answers.push(retry(Some(600)));
    let exporter = ScriptedExporter::new(answers);
    let verdicts = forward(&batch(8), &exporter, soon(), &mut Tally::default()).await;
    let expected = Verdict::Retry { after: Some(Duration::from_secs(600)), reason: "busy".into() };
    assert_eq!(verdicts, vec![expected; 8]);
}

#[tokio::test]
async fn who_also_takes_something_refuses_exactly_the_bad_messages() {
    // At every end, so that bad ones are found before and after something was taken.
    for poison in [vec![0], vec![39], vec![20], vec![0, 2, 21, 39], vec![0, 39]] {
        let exporter = MumblingExporter {
            poison: poison.iter().copied().collect(),
            exports: AtomicUsize::new(0),
        };
        let verdicts = forward(&batch(40), &exporter, soon(), &mut Tally::default()).await;
        for (index, verdict) in verdicts.iter().enumerate() {
            let poisoned = poison.contains(&u8::try_from(index).unwrap());
            assert_eq!(matches!(verdict, Verdict::Reject { .. }), poisoned, "{index} {verdict:?}");
            assert_eq!(*verdict == Verdict::Ack, !poisoned, "{index} {verdict:?}");
        }
    }
}

/// Answers nothing, ever; or only what it is asked to reject.
struct HangingInbox {
    rejects: bool,
}

impl Inbox for HangingInbox {
    async fn back_off(&self, _: &[(&Received, Duration)]) -> Result<(), QueueError> {
        std::future::pending().await
    }

    async fn reject(&self, _: &Received, _: &str) -> Result<(), QueueError> {
        if self.rejects { Ok(()) } else { std::future::pending().await }
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_hangs_keeps_nobody_beyond_the_deadline_and_loses_nothing() {
    let verdicts = [
        Verdict::Ack,
        Verdict::Retry { after: None, reason: String::new() },
        Verdict::Misconfigured { reason: String::new() },
        Verdict::Reject { reason: "bad".into() },
    ];
    for (rejects, expected) in [(true, &["m1", "m2"][..]), (false, &["m1", "m2", "m3"])] {
        let inbox = HangingInbox { rejects };
        let (until, mut tally) = (soon(), Tally::default());
        let messages = batch(4);
        let settled = settle(&inbox, &messages, &verdicts, until, as_on_lambda, &mut tally);
        let failed = timeout_at(until + Duration::from_millis(10), settled).await.unwrap();
        assert_eq!(failed, expected);
        assert_eq!(tally.dead_lettered, u64::from(rejects));
    }
}
