//! The commands for a deployment on AWS, against the built functions and a real SQS server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName};
use spanhook_core::{
    delivery::{Delivery, Unmappable},
    message::{Message, pack},
    provider::Provider,
};
use spanhook_tests::{
    Parts, collector::Collector, eventually, front, lambda::Function, mapping::poll, parts,
    sqs::Sqs, ssm::Ssm,
};
use tokio::process::Command;

const SECRET: &str = "hunter2-and-more";
const PIPELINE: &str = include_str!("../../events/gitlab/pipeline-failed.json");

/// Runs the built command; gives its exit code and all that it printed.
async fn spanhook(sqs: &Sqs, arguments: &[&str], vars: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanhook"));
    command.args(arguments).env_clear();
    let aws = [
        ("AWS_ENDPOINT_URL_SQS", sqs.endpoint.as_str()),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    let output = command.envs(aws).envs(vars.iter().copied()).output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

async fn put(sqs: &Sqs, url: &str, message: Message) {
    let attribute = |(name, value): (String, String)| {
        let value = MessageAttributeValue::builder().data_type("String").string_value(value);
        (name, value.build().unwrap())
    };
    let attributes = message.attributes.into_iter().map(attribute).collect();
    let send = sqs
        .client
        .send_message()
        .queue_url(url)
        .message_body(std::str::from_utf8(&message.body).unwrap());
    send.set_message_attributes(Some(attributes)).send().await.unwrap();
}

async fn count(sqs: &Sqs, url: &str) -> u64 {
    let name = QueueAttributeName::ApproximateNumberOfMessages;
    let request = sqs.client.get_queue_attributes().queue_url(url).attribute_names(name.clone());
    request.send().await.unwrap().attributes.unwrap()[&name].parse().unwrap()
}

fn refused(number: usize) -> Message {
    let pairs = [
        ("encoding", "otlp-proto+zstd".to_owned()),
        ("reason", "HTTP 400 something is wrong".to_owned()),
        ("spans", number.to_string()),
    ];
    Message {
        body: pack(number.to_string().as_bytes()).into(),
        attributes: pairs.map(|(name, value)| (name.to_owned(), value)).into(),
        group: String::new(),
    }
}

fn quarantined(body: &str) -> Vec<Message> {
    let reason = Unmappable::UnknownShape;
    let delivery = Delivery { headers: &reqwest::header::HeaderMap::new(), body: body.as_bytes() };
    Message::quarantine(Provider::Gitlab, &delivery, reason)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn redrive_empties_the_dead_letter_queue_of_what_can_be_delivered() {
    let parts = parts();
    let sqs = Sqs::start(&parts).await;
    for number in 0..25 {
        put(&sqs, &sqs.dead_letters, refused(number)).await;
    }
    for message in [quarantined(PIPELINE), quarantined("nonsense")].concat() {
        put(&sqs, &sqs.dead_letters, message).await;
    }
    let queues = ["redrive", "--from", &sqs.dead_letters, "--to", &sqs.queue];

    let (code, text) = spanhook(&sqs, &[&queues[..], &["--dry-run"]].concat(), &[]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("25 messages  back in the queue"), "{text}");
    assert_eq!((count(&sqs, &sqs.queue).await, count(&sqs, &sqs.dead_letters).await), (0, 27));

    let only = ["--reason", "no event of this provider"];
    let (code, text) = spanhook(&sqs, &[&queues[..], &only[..]].concat(), &[]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("mapped and queued"), "{text}");
    assert!(text.contains("still can't be mapped"), "{text}");
    assert_eq!((count(&sqs, &sqs.queue).await, count(&sqs, &sqs.dead_letters).await), (1, 26));

    let (code, text) = spanhook(&sqs, &queues, &[]).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!((count(&sqs, &sqs.queue).await, count(&sqs, &sqs.dead_letters).await), (26, 1));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn sqs_moves_very_many_dead_letters_by_itself() {
    let parts = parts();
    let sqs = Sqs::start(&parts).await;
    for number in 0..12 {
        put(&sqs, &sqs.dead_letters, refused(number)).await;
    }
    let task = ["redrive", "--task", "--from", &sqs.dead_letters, "--to", &sqs.queue];
    let (code, text) = spanhook(&sqs, &task, &[]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("messages are back in the queue"), "{text}");
    eventually("moving", async || count(&sqs, &sqs.queue).await == 12).await;
}

/// A deployment whose queue is emptied only while `polling`.
struct Deployment {
    sqs: Sqs,
    collector: Collector,
    forwarder: Function,
    url: String,
}

impl Deployment {
    async fn start(parts: &Parts, ssm: &Ssm) -> Self {
        let sqs = Sqs::start(parts).await;
        let collector = Collector::start(parts).await;
        let start = async |name, own: &[(&'static str, &str)]| {
            let vars: Vec<_> = sqs.vars().into_iter().chain(own.iter().copied()).collect();
            Function::start(parts, name, &vars).await
        };
        let secret = [
            ("SETTINGS", "ssm:/spanhook/circleci,ssm:/spanhook/shared"),
            ("AWS_ENDPOINT_URL_SSM", ssm.endpoint.as_str()),
        ];
        let circleci = Arc::new(start("circleci-webhook", &secret).await);
        let traceparent = Arc::new(start("traceparent", &[]).await);
        let forwarder =
            start("forwarder", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.http)]).await;
        let functions = BTreeMap::from([
            ("circleci", Arc::clone(&circleci)),
            ("traceparent", Arc::clone(&traceparent)),
        ]);
        let url = format!("http://{}", front::listen(functions).await);
        Self { sqs, collector, forwarder, url }
    }

    /// Walks the deployment; `polls` is whether the event source mapping works.
    async fn check(&self, polls: bool, secret: &str) -> (i32, String) {
        let arguments = [
            "check",
            "--circleci",
            &self.url,
            "--traceparent",
            &self.url,
            "--queue",
            &self.sqs.queue,
            "--dead-letters",
            &self.sqs.dead_letters,
            "--wait",
            "8",
        ];
        let vars = [("CIRCLECI_HOOK_SECRET", secret)];
        let check = spanhook(&self.sqs, &arguments, &vars);
        if !polls {
            return check.await;
        }
        let polling = async {
            loop {
                poll(&self.sqs, &self.forwarder).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            result = check => result,
            never = polling => never,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn check_walks_a_deployment_and_names_the_broken_hop() {
    let parts = parts();
    // Documents of settings, as the templates name them.
    let own = "# CircleCI\nCIRCLECI_HOOK_SECRET=[\"retired-secret\", \"hunter2-and-more\"]\n";
    let shared = "CIRCLECI_HOOK_SECRET=of-another-document\nTRACE_IDS=hashed\n";
    let ssm = Ssm::start(&[("/spanhook/circleci", own), ("/spanhook/shared", shared)]).await;
    let mut deployment = Deployment::start(&parts, &ssm).await;

    let (code, text) = deployment.check(true, SECRET).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("✓ collector"), "{text}");
    assert_eq!(deployment.collector.span_count(), 1);

    let (code, text) = deployment.check(true, "another secret").await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("✗ circleci") && text.contains("signature was refused"), "{text}");

    let (code, text) = deployment.check(false, SECRET).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("✗ forwarder") && text.contains("nobody takes them"), "{text}");

    deployment.collector.stop().await;
    let (code, text) = deployment.check(true, SECRET).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("✗ collector") && text.contains("none is acknowledged"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SPANHOOK_PARTS and SPANHOOK_FUNCTIONS"]
async fn a_function_reads_its_secret_before_its_first_event_or_does_not_start() {
    let parts = parts();
    let sqs = Sqs::start(&parts).await;
    let ssm = Ssm::start(&[("/spanhook/circleci", SECRET)]).await;
    let start = async |name| {
        let mut vars = sqs.vars();
        vars.push(("AWS_ENDPOINT_URL_SSM", &ssm.endpoint));
        vars.push(("CIRCLECI_HOOK_SECRET", name));
        Function::start(&parts, "circleci-webhook", &vars).await
    };
    let _function = start("ssm:/spanhook/circleci").await;
    eventually("reading the secret", async || ssm.asked() == ["/spanhook/circleci"]).await;
    assert!(start("ssm:/spanhook/gone").await.ended_in_failure().await);
}
