//! Many messages at a time, for a process that pulls them itself, without an event source mapping.

use std::time::Duration;

use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use futures_util::{StreamExt, future::join_all, stream};

use super::{
    BATCH_ENTRIES, QueueError, Received, SqsQueue,
    refusal::{entry_reason, reason, refused},
};

/// Calls under way at a time.
const AT_ONCE: usize = 16;

impl SqsQueue {
    /// The dead-letter queue, as a queue of its own.
    #[must_use]
    pub fn dead_letters(&self) -> Option<Self> {
        let queue_url = self.dead_letter_url.clone()?;
        Some(Self { client: self.client.clone(), queue_url, dead_letter_url: None })
    }

    /// Receives about `max` messages of about `bytes`, waiting up to `wait` for the first of them. A
    /// full answer means that there may be more: two calls follow for each, until none is full. An
    /// error after messages were received only means fewer of them.
    pub async fn receive_many(
        &self,
        (max, bytes): (usize, usize),
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Received>, QueueError> {
        let mut batch = self.receive(visibility, wait).await?;
        let (mut answers, mut full) = (1, usize::from(batch.len() == BATCH_ENTRIES));
        while full > 0 {
            let size: usize = batch.iter().map(|it| it.body.len()).sum();
            let fitting = bytes.saturating_sub(size) * answers / size.max(1);
            let wanted = max.saturating_sub(batch.len()).div_ceil(BATCH_ENTRIES);
            let calls = (2 * full).min(AT_ONCE).min(fitting).min(wanted);
            let calls = (0..calls).map(|_| self.receive(visibility, Duration::ZERO));
            full = 0;
            for answer in join_all(calls).await {
                answers += 1;
                match answer {
                    Ok(more) => {
                        full += usize::from(more.len() == BATCH_ENTRIES);
                        batch.extend(more);
                    }
                    Err(error) => tracing::warn!(%error, "a batch is smaller than it could be"),
                }
            }
        }
        Ok(batch)
    }

    /// Deletes messages, ten with each call.
    pub async fn delete_many(&self, messages: &[&Received]) -> Result<(), QueueError> {
        // Collected first: a stream that holds the closure is not `Send` enough for a task.
        let calls: Vec<_> =
            messages.chunks(BATCH_ENTRIES).map(|chunk| self.delete_batch(chunk)).collect();
        let mut calls = stream::iter(calls).buffer_unordered(AT_ONCE);
        let (mut failed, mut why) = (0, String::new());
        while let Some(result) = calls.next().await {
            if let Err((count, reason)) = result {
                failed += count;
                why = reason;
            }
        }
        if failed == 0 { Ok(()) } else { Err(refused(failed, messages.len(), why)) }
    }

    async fn delete_batch(&self, messages: &[&Received]) -> Result<(), (usize, String)> {
        let entries = messages.iter().enumerate().filter_map(|(id, message)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(id.to_string())
                .receipt_handle(&message.receipt)
                .build()
                .ok()
        });
        let request = self.client.delete_message_batch().queue_url(&self.queue_url);
        match request.set_entries(Some(entries.collect())).send().await {
            Ok(answer) if answer.failed.is_empty() => Ok(()),
            Ok(answer) => Err((answer.failed.len(), entry_reason(&answer.failed))),
            Err(error) => Err((messages.len(), reason(&error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::{
        Client,
        error::ErrorMetadata,
        operation::{
            delete_message_batch::DeleteMessageBatchOutput,
            receive_message::{ReceiveMessageError, ReceiveMessageOutput},
        },
        types::{BatchResultErrorEntry, Message},
    };
    use aws_smithy_mocks::{RuleMode, mock, mock_client};

    use super::*;

    fn queue(client: Client) -> SqsQueue {
        SqsQueue::new(client, "http://queue".to_owned(), Some("http://dead".to_owned()))
    }

    fn answer(messages: usize, size: usize) -> ReceiveMessageOutput {
        let message = |id: usize| {
            let message = Message::builder().message_id(id.to_string()).receipt_handle("r");
            message.body("x".repeat(size)).build()
        };
        ReceiveMessageOutput::builder()
            .set_messages(Some((0..messages).map(message).collect()))
            .build()
    }

    /// Calls and messages, where every answer holds so many of such a size.
    async fn received(messages: usize, size: usize, limits: (usize, usize)) -> (usize, usize) {
        let receive = mock!(Client::receive_message)
            .match_requests(|_| true)
            .then_output(move || answer(messages, size));
        let queue = queue(mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [&receive]));
        let batch = queue.receive_many(limits, Duration::from_secs(9), Duration::ZERO).await;
        (receive.num_calls(), batch.unwrap().len())
    }

    #[tokio::test]
    async fn more_is_asked_for_while_answers_are_full_and_fit() {
        for (messages, size, limits, expected) in [
            (0, 0, (1000, 4096), (1, 0)),
            (9, 1, (1000, 4096), (1, 9)),
            (10, 1, (1000, 1 << 20), (100, 1000)),
            (10, 1, (10, 1 << 20), (1, 10)),
            // Large ones: three answers hold as much as may be held.
            (10, 100, (1000, 3000), (3, 30)),
            (10, 100, (1000, 900), (1, 10)),
        ] {
            assert_eq!(received(messages, size, limits).await, expected, "{messages} {size}");
        }
    }

    #[tokio::test]
    async fn what_was_received_before_an_error_is_kept() {
        let first = mock!(Client::receive_message)
            .match_requests(|it| it.wait_time_seconds() == Some(1))
            .then_output(|| answer(10, 1));
        let failing = mock!(Client::receive_message)
            .match_requests(|it| it.wait_time_seconds() == Some(0))
            .then_error(|| {
                let meta = ErrorMetadata::builder().code("AccessDenied").build();
                ReceiveMessageError::generic(meta)
            });
        let client = mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [&first, &failing]);
        let (visibility, wait) = (Duration::from_secs(9), Duration::from_secs(1));
        let batch = queue(client).receive_many((100, 99), visibility, wait).await;
        assert_eq!((batch.unwrap().len(), failing.num_calls()), (10, 2));
    }

    #[tokio::test]
    async fn messages_are_deleted_by_tens_and_those_that_stay_are_counted() {
        let deleting = mock!(Client::delete_message_batch)
            .match_requests(|it| it.entries().len() == 10)
            .then_output(|| {
                let empty = DeleteMessageBatchOutput::builder().set_successful(Some(vec![]));
                empty.set_failed(Some(vec![])).build().unwrap()
            });
        let failing = mock!(Client::delete_message_batch)
            .match_requests(|it| it.entries().len() == 5)
            .then_output(|| {
                let entry = BatchResultErrorEntry::builder().id("0").code("InternalError");
                let failed = vec![entry.sender_fault(false).build().unwrap()];
                let empty = DeleteMessageBatchOutput::builder().set_successful(Some(vec![]));
                empty.set_failed(Some(failed)).build().unwrap()
            });
        let client = mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [&deleting, &failing]);
        let messages = vec![Received { receipt: "r".to_owned(), ..Received::default() }; 25];
        let messages: Vec<_> = messages.iter().collect();
        let error = queue(client).delete_many(&messages).await.unwrap_err().to_string();
        assert!(error.starts_with("the queue refused 1 of 25 messages: InternalError"), "{error}");
        assert_eq!((deleting.num_calls(), failing.num_calls()), (2, 1));
    }
}
