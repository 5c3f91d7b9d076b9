//! An SQS server with a queue and its dead-letter queue.

use aws_sdk_sqs::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    types::{MessageSystemAttributeName, QueueAttributeName},
};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::{Parts, eventually, free_port};

/// How often a message is received before it is moved.
pub const MAX_RECEIVE_COUNT: u32 = 3;

pub struct Sqs {
    pub client: Client,
    pub endpoint: String,
    pub queue: String,
    pub dead_letters: String,
    process: Child,
}

impl Sqs {
    pub async fn start(parts: &Parts) -> Self {
        Self::start_patient(parts, MAX_RECEIVE_COUNT).await
    }

    /// With a queue that moves a message after so many receives.
    pub async fn start_patient(parts: &Parts, max_receive_count: u32) -> Self {
        let port = free_port();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/parts/sqs/run.sh");
        let process = Command::new(script)
            .arg(port.to_string())
            .env("SPANHOOK_PARTS", &parts.parts)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let endpoint = format!("http://127.0.0.1:{port}");
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .endpoint_url(&endpoint)
            .build();
        let client = Client::from_conf(config);
        eventually("the SQS server", async || client.list_queues().send().await.is_ok()).await;
        let dead = client.create_queue().queue_name("dead-letters").send().await.unwrap();
        let dead_letters = dead.queue_url.unwrap();
        let arn = client
            .get_queue_attributes()
            .queue_url(&dead_letters)
            .attribute_names(QueueAttributeName::QueueArn)
            .send()
            .await
            .unwrap();
        let arn = arn.attributes.unwrap()[&QueueAttributeName::QueueArn].clone();
        let redrive =
            json!({ "deadLetterTargetArn": arn, "maxReceiveCount": max_receive_count.to_string() });
        let queue = client
            .create_queue()
            .queue_name("spans")
            .attributes(QueueAttributeName::VisibilityTimeout, "60")
            .attributes(QueueAttributeName::RedrivePolicy, redrive.to_string())
            .send()
            .await
            .unwrap();
        Self { client, endpoint, queue: queue.queue_url.unwrap(), dead_letters, process }
    }

    /// The variables of a function that uses these queues.
    #[must_use]
    pub fn vars(&self) -> Vec<(&str, &str)> {
        vec![
            ("AWS_ENDPOINT_URL_SQS", &self.endpoint),
            ("QUEUE_URL", &self.queue),
            ("DEAD_LETTER_QUEUE_URL", &self.dead_letters),
        ]
    }

    /// Bodies and attributes of what is in a queue, which stays there.
    pub async fn peek(&self, url: &str) -> Vec<aws_sdk_sqs::types::Message> {
        let answer = self
            .client
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(10)
            .visibility_timeout(0)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send()
            .await;
        answer.unwrap().messages.unwrap_or_default()
    }

    /// How many messages there are in a queue: those that wait, and those that were received.
    pub async fn count(&self, url: &str) -> (u64, u64) {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let request = self.client.get_queue_attributes().queue_url(url);
        let answer = request.set_attribute_names(Some(names.to_vec())).send().await.unwrap();
        let counts = answer.attributes.unwrap();
        let [waiting, received] = names.map(|it| counts[&it].parse().unwrap());
        (waiting, received)
    }

    pub async fn stop(mut self) {
        self.process.kill().await.unwrap();
    }
}
