//! The forwarder function: a batch of the event source mapping in, the failures in it out.

use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage, SqsMessageAttribute};
use lambda_runtime::{Diagnostic, LambdaEvent};
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    clock::Clock,
    export::Export,
    forward::{Tally, Verdict, forward, rest, settle},
    queue::{Inbox, Received, SqsQueue},
    target::Target,
    telemetry::{Metric, Telemetry},
};

/// What is left of the time at the end, of [`MARGIN`](crate::forward::MARGIN): verdicts are carried
/// out before there is less than the first, its own telemetry is exported before there is less than
/// the second, which is for the answer. Later the runtime kills the process, and every message that
/// was delivered comes again.
const SETTLED: Duration = Duration::from_millis(1200);
const FLUSHED: Duration = Duration::from_millis(300);

/// The forwarder function's state.
#[derive(Debug)]
pub struct Forwarder {
    pub(crate) queue: SqsQueue,
    pub(crate) target: Target,
    pub(crate) telemetry: Telemetry,
}

/// An event that can't be answered message by message.
#[derive(Debug, Error)]
#[error("a message without an id or receipt handle came in; the whole batch stays queued")]
pub struct UnidentifiedMessage;

impl From<UnidentifiedMessage> for Diagnostic {
    fn from(error: UnidentifiedMessage) -> Self {
        Self { error_type: "UnidentifiedMessage".to_owned(), error_message: error.to_string() }
    }
}

impl Forwarder {
    /// Delivers one batch of the event source mapping, which deletes all but the reported failures.
    pub async fn handle(
        &self,
        event: LambdaEvent<SqsEvent>,
    ) -> Result<SqsBatchResponse, UnidentifiedMessage> {
        let started = Clock::SYSTEM.nanos();
        let remaining = event.context.deadline().duration_since(std::time::UNIX_EPOCH);
        let remaining = remaining.unwrap_or_default().saturating_sub(Clock::SYSTEM.since_epoch());
        let deadline = Instant::now() + remaining;
        let messages =
            event.payload.records.into_iter().map(received).collect::<Result<Vec<_>, _>>()?;

        let exporter = self.target.exporter().await;
        let failed = deliver(&messages, &*exporter, &self.queue, deadline, &self.telemetry).await;

        let count = i64::try_from(messages.len()).unwrap_or(i64::MAX);
        let failures = i64::try_from(failed.len()).unwrap_or(i64::MAX);
        self.telemetry.span(
            "forward",
            started,
            Clock::SYSTEM.nanos(),
            &[("messaging.batch.message_count", count), ("spanhook.failures", failures)],
        );
        self.telemetry.flush(before(deadline, FLUSHED)).await;

        let mut response = SqsBatchResponse::default();
        failed.into_iter().for_each(|id| response.add_failure(id));
        Ok(response)
    }
}

/// Delivers and settles; gives the ids of the messages that stay in the queue.
async fn deliver(
    messages: &[Received],
    exporter: &impl Export,
    inbox: &impl Inbox,
    deadline: Instant,
    telemetry: &Telemetry,
) -> Vec<String> {
    let mut tally = Tally::default();
    let verdicts = forward(messages, exporter, deadline, &mut tally).await;
    let resting = |message: &Received, verdict: &Verdict| rest(message, verdict, Clock::SYSTEM);
    let until = before(deadline, SETTLED);
    let failed = settle(inbox, messages, &verdicts, until, resting, &mut tally).await;
    report(telemetry, tally, lag(messages, &verdicts, Clock::SYSTEM));
    failed
}

/// The moment when so much is left.
fn before(deadline: Instant, margin: Duration) -> Instant {
    deadline.checked_sub(margin).unwrap_or(deadline)
}

/// An empty item identifier would fail the whole batch, so an empty id must not come this far.
fn received(record: SqsMessage) -> Result<Received, UnidentifiedMessage> {
    let present = |text: Option<String>| text.filter(|it| !it.is_empty());
    let text = |(name, it): (String, SqsMessageAttribute)| Some((name, it.string_value?));
    Ok(Received {
        id: present(record.message_id).ok_or(UnidentifiedMessage)?,
        receipt: present(record.receipt_handle).ok_or(UnidentifiedMessage)?,
        body: record.body.unwrap_or_default().into(),
        attributes: record.message_attributes.into_iter().filter_map(text).collect(),
        receive_count: record
            .attributes
            .get("ApproximateReceiveCount")
            .and_then(|it| it.parse().ok())
            .unwrap_or(1),
    })
}

/// How long SQS keeps a message, in milliseconds. No queue makes work later than that: who says so
/// has a wrong clock, as a job that exports may, and is not to ring the alarm of all others.
const KEPT: u64 = 14 * 24 * 60 * 60 * 1000;

/// From the end of the oldest delivered work to now, in milliseconds: of a batch that one late message
/// came with, that one is what somebody waited for.
#[must_use]
pub fn lag(messages: &[Received], verdicts: &[Verdict], clock: Clock) -> Option<u64> {
    let now = u64::try_from(clock.since_epoch().as_millis()).ok()?;
    messages
        .iter()
        .zip(verdicts)
        .filter(|(_, verdict)| **verdict == Verdict::Ack)
        .filter_map(|(message, _)| message.attributes.get("ended_at")?.parse::<u64>().ok())
        .map(|ended| now.saturating_sub(ended))
        .filter(|lag| *lag <= KEPT)
        .max()
}

/// Counts what a batch came to.
pub fn report(telemetry: &Telemetry, tally: Tally, lag: Option<u64>) {
    let mut metrics = vec![
        (Metric::Delivered, tally.delivered),
        (Metric::Spans, tally.spans),
        (Metric::Retried, tally.retried),
        (Metric::DeadLettered, tally.dead_lettered),
        (Metric::PartiallyRejected, tally.partially_rejected),
        (Metric::Misconfigured, tally.misconfigured),
    ];
    metrics.extend(lag.map(|lag| (Metric::DeliveryLag, lag)));
    telemetry.count("queue", "forwarded", &metrics);
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::SystemTime};

    use bytes::Bytes;
    use spanhook_core::message::pack;
    use tokio::time::timeout_at;

    use super::*;
    use crate::{
        export::{Outcome, Signal},
        queue::QueueError,
        telemetry::TelemetrySettings,
    };

    #[test]
    fn the_lag_is_that_of_the_oldest_work_that_was_delivered() {
        const NOW: u64 = 1_793_611_800_000;
        let now = Clock::new(|| SystemTime::UNIX_EPOCH + Duration::from_millis(NOW));
        let retry = || Verdict::Retry { after: None, reason: String::new() };
        let message = |ended: &str| Received {
            attributes: BTreeMap::from([("ended_at".to_owned(), ended.to_owned())]),
            ..Received::default()
        };
        let ago = |seconds: u64| message(&(NOW - seconds * 1000).to_string());
        let days = 24 * 60 * 60;
        for (batch, expected) in [
            (vec![], None),
            (
                vec![(ago(2), Verdict::Ack), (ago(600), Verdict::Ack), (ago(3), Verdict::Ack)],
                Some(600_000),
            ),
            (vec![(ago(2), Verdict::Ack), (ago(600), retry())], Some(2000)),
            (vec![(ago(600), retry())], None),
            (vec![(ago(13 * days), Verdict::Ack)], Some(13 * days * 1000)),
            // Clocks that are wrong, and what tells no time.
            (vec![(ago(15 * days), Verdict::Ack), (ago(2), Verdict::Ack)], Some(2000)),
            (vec![(message("0"), Verdict::Ack)], None),
            (vec![(message("x"), Verdict::Ack), (Received::default(), Verdict::Ack)], None),
            (vec![(message(&(NOW + 5000).to_string()), Verdict::Ack)], Some(0)),
        ] {
            let (messages, verdicts): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            assert_eq!(lag(&messages, &verdicts, now), expected, "{messages:?}");
        }
    }

    /// Hangs, as a receiver and as a queue.
    struct Hanging;

    impl Export for Hanging {
        async fn export(&self, _: Signal, _: Bytes) -> Outcome {
            std::future::pending().await
        }
    }

    impl Inbox for Hanging {
        async fn back_off(&self, _: &[(&Received, Duration)]) -> Result<(), QueueError> {
            std::future::pending().await
        }

        async fn reject(&self, _: &Received, _: &str) -> Result<(), QueueError> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_everything_hangs_the_failures_are_reported_in_time() {
        let attributes = BTreeMap::from([("encoding".to_owned(), "otlp-proto+zstd".to_owned())]);
        let message = |id: usize, body: String| Received {
            id: format!("m{id}"),
            body: body.into(),
            attributes: attributes.clone(),
            receive_count: 1,
            ..Received::default()
        };
        let mut messages: Vec<_> = (0..1000).map(|id| message(id, pack(&[10, 1, 0]))).collect();
        messages.push(message(1000, "it can't be read".to_owned()));
        let telemetry = Telemetry::queued("test", &TelemetrySettings::default());
        for seconds in [0, 1, 2, 60] {
            let deadline = Instant::now() + Duration::from_secs(seconds);
            let failed = deliver(&messages, &Hanging, &Hanging, deadline, &telemetry);
            let flushed = before(deadline, FLUSHED).max(Instant::now() + Duration::from_millis(5));
            let failed = timeout_at(flushed, failed).await.unwrap();
            assert_eq!(failed.len(), messages.len(), "{seconds} s");
        }
    }
}
