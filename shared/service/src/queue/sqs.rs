//! Amazon SQS.

mod many;
mod refusal;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use aws_sdk_sqs::{
    Client,
    config::{Builder, timeout::TimeoutConfig},
    types::{
        ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue,
        MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
    },
};
use futures_util::{StreamExt, stream};
use spanhook_core::message::Message;

use super::{Inbox, Outbox, QueueError, Received};
use refusal::{code, entry_reason, reason, refused};

/// `SendMessageBatch` takes ten entries and 1 MiB; attributes count too.
const BATCH_ENTRIES: usize = 10;
const BATCH_BYTES: usize = 900 * 1024;

/// SQS allows ten attributes.
const ATTRIBUTES: usize = 10;

/// Visibility changes under way at a time: those of a batch of 1,000 messages are ten rounds.
const BACK_OFFS_AT_ONCE: usize = 10;

/// Tries of an entry that the service did not take.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// How long the answer to a receive may take beyond the wait that it asks for.
const ANSWER: Duration = Duration::from_secs(5);

/// About how many messages a queue holds. SQS counts with a delay of up to a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Those that can be received.
    pub waiting: u64,
    /// Those that were received and are neither deleted nor back: being worked on, or resting.
    pub taken: u64,
}

/// A redrive by SQS itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveTask {
    /// `RUNNING`, `COMPLETED`, `FAILED`, `CANCELLING` or `CANCELLED`.
    pub status: String,
    /// About how many messages were moved.
    pub moved: i64,
    /// Of about how many.
    pub total: Option<i64>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// A queue and its dead-letter queue.
#[derive(Clone, Debug)]
pub struct SqsQueue {
    client: Client,
    queue_url: String,
    dead_letter_url: Option<String>,
}

impl SqsQueue {
    /// Uses one client for its life.
    #[must_use]
    pub fn new(client: Client, queue_url: String, dead_letter_url: Option<String>) -> Self {
        Self { client, queue_url, dead_letter_url }
    }

    /// Receives up to ten messages, which stay hidden for `visibility`.
    pub async fn receive(
        &self,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Received>, QueueError> {
        // A client's own limit of a try is for calls that don't wait.
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(wait + ANSWER).build();
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.queue_url)
            .max_number_of_messages(10)
            .visibility_timeout(seconds(visibility))
            .wait_time_seconds(seconds(wait))
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .customize()
            .config_override(Builder::new().timeout_config(timeouts))
            .send()
            .await
            .map_err(|error| refused(1, 1, reason(&error)))?;
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(received).collect())
    }

    /// Deletes a message.
    pub async fn delete(&self, message: &Received) -> Result<(), QueueError> {
        let request = self.client.delete_message().queue_url(&self.queue_url);
        let sent = request.receipt_handle(&message.receipt).send().await;
        sent.map(drop).map_err(|error| refused(1, 1, reason(&error)))
    }

    /// About how many messages there are.
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let attributes = self.attributes(&names).await?;
        let [waiting, taken] =
            names.map(|it| attributes.get(&it).and_then(|it| it.parse().ok()).unwrap_or(0));
        Ok(Depth { waiting, taken })
    }

    /// Starts SQS's own redrive of this dead-letter queue to a queue.
    pub async fn start_moving_to(&self, queue: &Self) -> Result<(), QueueError> {
        let (from, to) = (self.arn().await?, queue.arn().await?);
        let request = self.client.start_message_move_task().source_arn(from).destination_arn(to);
        let started = request.send().await;
        started.map(drop).map_err(|error| refused(1, 1, reason(&error)))
    }

    /// How far the newest redrive of this dead-letter queue is.
    pub async fn moving(&self) -> Result<MoveTask, QueueError> {
        let request = self.client.list_message_move_tasks().source_arn(self.arn().await?);
        let answer = request.send().await.map_err(|error| refused(1, 1, reason(&error)))?;
        let task = answer.results.unwrap_or_default().into_iter().next();
        let task = task.ok_or_else(|| refused(1, 1, "there is no such task".to_owned()))?;
        Ok(MoveTask {
            status: task.status.unwrap_or_default(),
            moved: task.approximate_number_of_messages_moved,
            total: task.approximate_number_of_messages_to_move,
            failure: task.failure_reason,
        })
    }

    async fn arn(&self) -> Result<String, QueueError> {
        let mut attributes = self.attributes(&[QueueAttributeName::QueueArn]).await?;
        let arn = attributes.remove(&QueueAttributeName::QueueArn);
        arn.ok_or_else(|| refused(1, 1, "the queue has no ARN".to_owned()))
    }

    async fn attributes(
        &self,
        names: &[QueueAttributeName],
    ) -> Result<HashMap<QueueAttributeName, String>, QueueError> {
        let request = self.client.get_queue_attributes().queue_url(&self.queue_url);
        let answer = request.set_attribute_names(Some(names.to_vec())).send().await;
        let answer = answer.map_err(|error| refused(1, 1, reason(&error)))?;
        Ok(answer.attributes.unwrap_or_default())
    }

    async fn send_to(&self, url: &str, messages: Vec<Message>) -> Result<(), QueueError> {
        let total = messages.len();
        let mut failed = 0;
        let mut reason = String::new();
        for batch in batches(messages) {
            if let Err((count, why)) = self.send_batch(url, batch).await {
                failed += count;
                reason = why;
            }
        }
        if failed == 0 { Ok(()) } else { Err(refused(failed, total, reason)) }
    }

    /// Sends until every entry is taken: the service may take some and refuse others.
    async fn send_batch(&self, url: &str, batch: Vec<Message>) -> Result<(), (usize, String)> {
        let mut waiting: Vec<_> = batch.into_iter().enumerate().collect();
        let mut why = String::new();
        for tried in 0..TRIES {
            if tried > 0 {
                tokio::time::sleep(PAUSE * tried).await;
            }
            let entries = waiting.iter().filter_map(|(id, it)| entry(*id, it)).collect();
            let request = self.client.send_message_batch().queue_url(url);
            match request.set_entries(Some(entries)).send().await {
                Ok(answer) => {
                    let taken: Vec<_> = answer.successful.iter().map(|it| it.id.as_str()).collect();
                    waiting.retain(|(id, _)| !taken.contains(&id.to_string().as_str()));
                    if waiting.is_empty() {
                        return Ok(());
                    }
                    why = entry_reason(&answer.failed);
                }
                // The total of a batch is limited by the queue's own message limit.
                Err(error) if code(&error) == "AWS.SimpleQueueService.BatchRequestTooLong" => {
                    return self.send_singly(url, waiting).await;
                }
                // The client has tried several times itself; a provider waits for our answer.
                Err(error) => return Err((waiting.len(), reason(&error))),
            }
        }
        Err((waiting.len(), why))
    }

    async fn send_singly(
        &self,
        url: &str,
        messages: Vec<(usize, Message)>,
    ) -> Result<(), (usize, String)> {
        let mut refused = (0, String::new());
        for (_, message) in messages {
            let request =
                self.client.send_message().queue_url(url).message_body(text(&message.body));
            let request = request.message_group_id(message.group);
            let attributes = attributes(&message.attributes).collect();
            if let Err(error) = request.set_message_attributes(Some(attributes)).send().await {
                refused = (refused.0 + 1, reason(&error));
            }
        }
        if refused.0 == 0 { Ok(()) } else { Err(refused) }
    }

    async fn back_off_batch(
        &self,
        messages: &[(&Received, Duration)],
    ) -> Result<(), (usize, String)> {
        let entries = messages.iter().enumerate().filter_map(|(id, (message, pause))| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(id.to_string())
                .receipt_handle(&message.receipt)
                .visibility_timeout(seconds(*pause))
                .build()
                .ok()
        });
        let request = self.client.change_message_visibility_batch().queue_url(&self.queue_url);
        match request.set_entries(Some(entries.collect())).send().await {
            Ok(answer) if answer.failed.is_empty() => Ok(()),
            Ok(answer) => Err((answer.failed.len(), entry_reason(&answer.failed))),
            Err(error) => Err((messages.len(), reason(&error))),
        }
    }

    fn dead_letter_url(&self) -> Result<&str, QueueError> {
        let missing = || refused(1, 1, "DEAD_LETTER_QUEUE_URL is not set".to_owned());
        self.dead_letter_url.as_deref().ok_or_else(missing)
    }
}

impl Outbox for SqsQueue {
    async fn send(&self, messages: Vec<Message>) -> Result<(), QueueError> {
        self.send_to(&self.queue_url, messages).await
    }

    async fn dead_letter(&self, messages: Vec<Message>) -> Result<(), QueueError> {
        self.send_to(self.dead_letter_url()?, messages).await
    }
}

impl Inbox for SqsQueue {
    async fn back_off(&self, messages: &[(&Received, Duration)]) -> Result<(), QueueError> {
        // Collected first: a stream that holds the closure is not `Send` enough for a task.
        let calls: Vec<_> =
            messages.chunks(BATCH_ENTRIES).map(|chunk| self.back_off_batch(chunk)).collect();
        let mut calls = stream::iter(calls).buffer_unordered(BACK_OFFS_AT_ONCE);
        let (mut failed, mut why) = (0, String::new());
        while let Some(result) = calls.next().await {
            if let Err((count, reason)) = result {
                failed += count;
                why = reason;
            }
        }
        if failed == 0 { Ok(()) } else { Err(refused(failed, messages.len(), why)) }
    }

    async fn reject(&self, message: &Received, reason: &str) -> Result<(), QueueError> {
        let mut attributes = message.attributes.clone();
        attributes.insert("reason".to_owned(), printable(reason));
        // The reason is worth more than the number of spans, or what a foreign message carries.
        for spare in ["spans"].into_iter().chain(message.attributes.keys().map(String::as_str)) {
            if attributes.len() > ATTRIBUTES && spare != "reason" {
                attributes.remove(spare);
            }
        }
        let group = attributes.get("trace_id").map_or("rejected", String::as_str).to_owned();
        let copy = Message { body: message.body.clone(), attributes, group };
        self.send_to(self.dead_letter_url()?, vec![copy]).await
    }
}

/// SQS refuses control characters, and an attribute that is empty.
fn printable(reason: &str) -> String {
    let clean = |it: char| if it.is_ascii_graphic() || it == ' ' { it } else { '?' };
    let reason: String = reason.chars().take(512).map(clean).collect();
    if reason.is_empty() { "unknown".to_owned() } else { reason }
}

fn batches(messages: Vec<Message>) -> Vec<Vec<Message>> {
    let mut batches: Vec<Vec<Message>> = Vec::new();
    let mut size = 0;
    for message in messages {
        let attributes = message.attributes.iter().map(|(name, it)| name.len() + it.len() + 8);
        let len = message.body.len() + attributes.sum::<usize>();
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH_ENTRIES && size + len <= BATCH_BYTES => {
                size += len;
                batch.push(message);
            }
            _ => {
                size = len;
                batches.push(vec![message]);
            }
        }
    }
    batches
}

/// A body is text already, by the packing of this queue.
fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

/// None never happens: only a missing id or body fails. An entry that was not sent counts as
/// refused, so even then nothing would be lost.
fn entry(id: usize, message: &Message) -> Option<SendMessageBatchRequestEntry> {
    let mut entry = SendMessageBatchRequestEntry::builder()
        .id(id.to_string())
        .message_body(text(&message.body))
        .message_group_id(&message.group);
    for (name, value) in attributes(&message.attributes) {
        entry = entry.message_attributes(name, value);
    }
    entry.build().ok()
}

fn attributes(
    attributes: &BTreeMap<String, String>,
) -> impl Iterator<Item = (String, MessageAttributeValue)> {
    attributes.iter().filter_map(|(name, value)| {
        let value = MessageAttributeValue::builder().data_type("String").string_value(value);
        Some((name.clone(), value.build().ok()?))
    })
}

/// None without an id or a receipt handle: such a message can't be settled, and comes again.
fn received(message: aws_sdk_sqs::types::Message) -> Option<Received> {
    let attributes = message.message_attributes.unwrap_or_default();
    let count = message.attributes.unwrap_or_default();
    let count = count.get(&MessageSystemAttributeName::ApproximateReceiveCount);
    Some(Received {
        id: message.message_id.filter(|it| !it.is_empty())?,
        receipt: message.receipt_handle.filter(|it| !it.is_empty())?,
        body: message.body.unwrap_or_default().into(),
        attributes: attributes
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.string_value?)))
            .collect(),
        receive_count: count.and_then(|it| it.parse().ok()).unwrap_or(1),
    })
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX).min(43_200)
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::{
        operation::{
            send_message::SendMessageOutput, send_message_batch::SendMessageBatchError,
            send_message_batch::SendMessageBatchOutput,
        },
        types::{BatchResultErrorEntry, SendMessageBatchResultEntry},
    };
    use aws_smithy_mocks::{RuleMode, mock, mock_client};

    use super::*;

    fn message(bytes: usize) -> Message {
        let attributes = BTreeMap::from([("signal".to_owned(), "traces".to_owned())]);
        Message { body: "x".repeat(bytes).into(), attributes, group: "g".to_owned() }
    }

    fn taken(ids: &[&str], refused: &[&str]) -> SendMessageBatchOutput {
        let taken = ids.iter().map(|id| {
            let entry = SendMessageBatchResultEntry::builder().id(*id).message_id("m");
            entry.md5_of_message_body("d").build().unwrap()
        });
        let refused = refused.iter().map(|id| {
            let entry = BatchResultErrorEntry::builder().id(*id).code("InternalError");
            entry.sender_fault(false).build().unwrap()
        });
        SendMessageBatchOutput::builder()
            .set_successful(Some(taken.collect()))
            .set_failed(Some(refused.collect()))
            .build()
            .unwrap()
    }

    fn queue(client: Client) -> SqsQueue {
        SqsQueue::new(client, "http://queue".to_owned(), Some("http://dead".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn only_refused_entries_are_sent_again() {
        let first = mock!(Client::send_message_batch)
            .match_requests(|it| it.entries().len() == 3)
            .then_output(|| taken(&["0", "2"], &["1"]));
        let second = mock!(Client::send_message_batch)
            .match_requests(|it| it.entries().len() == 1 && it.entries()[0].id() == "1")
            .then_output(|| taken(&["1"], &[]));
        let client = mock_client!(aws_sdk_sqs, RuleMode::Sequential, [&first, &second]);
        queue(client).send(vec![message(1), message(1), message(1)]).await.unwrap();
        assert_eq!((first.num_calls(), second.num_calls()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_that_is_refused_three_times_is_an_error_and_so_is_one_without_an_answer() {
        for refused in [&["1"][..], &[]] {
            let refusing = mock!(Client::send_message_batch)
                .match_requests(|_| true)
                .then_output(move || taken(&["0"], refused));
            let client = mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [&refusing]);
            let error = queue(client).send(vec![message(1), message(1)]).await.unwrap_err();
            assert!(error.to_string().starts_with("the queue refused 1 of 2"), "{error}");
            assert_eq!(refusing.num_calls(), 3);
        }
    }

    #[tokio::test]
    async fn a_queue_that_takes_smaller_batches_gets_single_messages() {
        let too_long = mock!(Client::send_message_batch).then_error(|| {
            let code = "AWS.SimpleQueueService.BatchRequestTooLong";
            let meta = aws_sdk_sqs::error::ErrorMetadata::builder().code(code).build();
            SendMessageBatchError::generic(meta)
        });
        let single = mock!(Client::send_message)
            .match_requests(|it| it.message_group_id() == Some("g"))
            .then_output(|| SendMessageOutput::builder().build());
        let client = mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [&too_long, &single]);
        queue(client).send(vec![message(1), message(1)]).await.unwrap();
        assert_eq!(single.num_calls(), 2);
    }

    #[tokio::test]
    async fn visibility_changes_do_not_wait_for_each_other() {
        // Takes connections and never answers.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
            .region(aws_sdk_sqs::config::Region::new("eu-west-1"))
            .credentials_provider(aws_sdk_sqs::config::Credentials::for_tests())
            .endpoint_url(format!("http://{}", silent.local_addr().unwrap()))
            .build();
        let queue = queue(Client::from_conf(config));
        let messages: Vec<_> = (0..1000)
            .map(|id| Received {
                id: format!("m{id}"),
                receipt: "r".to_owned(),
                ..Received::default()
            })
            .collect();
        let resting: Vec<_> = messages.iter().map(|it| (it, Duration::from_secs(9))).collect();
        let connected = async {
            let mut open = Vec::new();
            while open.len() < BACK_OFFS_AT_ONCE {
                open.push(silent.accept().await.unwrap());
            }
        };
        tokio::select! {
            result = queue.back_off(&resting) => panic!("nothing was answered: {result:?}"),
            found = tokio::time::timeout(Duration::from_secs(60), connected) => found.unwrap(),
        }
    }

    #[test]
    fn batches_stay_within_what_the_service_takes() {
        let sizes = [240_000, 240_000, 240_000, 240_000, 10].into_iter().chain([10; 25]);
        let batches = batches(sizes.map(message).collect());
        assert!(batches.iter().all(|it| it.len() <= BATCH_ENTRIES));
        let bytes = |batch: &Vec<Message>| batch.iter().map(|it| it.body.len()).sum::<usize>();
        assert!(batches.iter().all(|it| bytes(it) <= BATCH_BYTES));
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 30);
    }
}
