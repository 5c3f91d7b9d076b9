//! An event source mapping that behaves as AWS's does: batch and window, partial failures,
//! visibility, redrive to the dead-letter queue (the queue's own).
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>

use std::{collections::HashSet, time::Duration};

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{lambda::Function, sqs::Sqs};

/// As in the design: up to 1,000 messages; the window is shorter here.
const BATCH: usize = 1000;
const WINDOW: Duration = Duration::from_millis(500);

/// Takes one batch, invokes the function and deletes what it did not report. Gives the size of the
/// batch and of the reported failures.
pub async fn poll(sqs: &Sqs, function: &Function) -> (usize, usize) {
    let until = Instant::now() + WINDOW;
    let mut batch: Vec<Message> = Vec::new();
    while batch.len() < BATCH && Instant::now() < until {
        let received = sqs
            .client
            .receive_message()
            .queue_url(&sqs.queue)
            .max_number_of_messages(10)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send()
            .await
            .unwrap();
        batch.extend(received.messages.unwrap_or_default());
    }
    if batch.is_empty() {
        return (0, 0);
    }
    let ids: HashSet<_> = batch.iter().map(|it| it.message_id.clone().unwrap()).collect();
    let records: Vec<_> = batch.iter().map(record).collect();
    // An error keeps the whole batch.
    let Ok(answer) = function.invoke(json!({ "Records": records })).await else {
        return (batch.len(), batch.len());
    };
    let failures = answer["batchItemFailures"].as_array().cloned().unwrap_or_default();
    let failed: Option<HashSet<String>> = failures
        .iter()
        .map(|it| {
            it["itemIdentifier"].as_str().filter(|id| ids.contains(*id)).map(ToOwned::to_owned)
        })
        .collect();
    // An empty, missing or unknown id means the whole batch to AWS.
    let failed = failed.unwrap_or(ids);
    for message in &batch {
        if !failed.contains(message.message_id.as_ref().unwrap()) {
            let delete = sqs.client.delete_message().queue_url(&sqs.queue);
            let receipt = message.receipt_handle.clone().unwrap();
            delete.receipt_handle(receipt).send().await.unwrap();
        }
    }
    (batch.len(), failed.len())
}

fn record(message: &Message) -> Value {
    let attributes = message.message_attributes.iter().flatten().map(|(name, value)| {
        let value = json!({
            "stringValue": value.string_value, "dataType": value.data_type,
            "stringListValues": [], "binaryListValues": [],
        });
        (name.clone(), value)
    });
    let system = message.attributes.iter().flatten();
    let system = system.map(|(name, value)| (name.as_str().to_owned(), json!(value)));
    json!({
        "messageId": message.message_id, "receiptHandle": message.receipt_handle, "body": message.body,
        "md5OfBody": message.md5_of_body, "eventSource": "aws:sqs", "awsRegion": "eu-west-1",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:1:spans",
        "attributes": system.collect::<serde_json::Map<_, _>>(),
        "messageAttributes": attributes.collect::<serde_json::Map<_, _>>(),
    })
}
