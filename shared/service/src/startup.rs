//! Puts each function together from its variables.

use std::{process::ExitCode, sync::Arc};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage, SqsMessageAttribute};
use axum::Router;
use lambda_runtime::{Diagnostic, LambdaEvent};
use spanhook_core::{
    provider::Provider,
    rules::ProjectRules,
    settings::{Intake, PROJECT_RULES, Settings, SettingsError, Vars},
};
use thiserror::Error;

use crate::{
    build_events::BuildEvents,
    clock::Clock,
    export::{Target, TargetError},
    forward::{Tally, Verdict, forward, settle},
    identity::{Gate, GateError, GateSettings},
    live::{self, Live, LiveError, Source},
    queue::{Received, SqsQueue},
    settings::QueueSettings,
    telemetry::{Metric, Telemetry, TelemetryError, TelemetrySettings},
    traceparent::Traceparent,
    webhook::{Receiver, ReceiverError, Webhook},
};

/// Why a function does not start.
#[derive(Debug, Error)]
pub enum StartupError {
    /// A variable is missing or wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A secret can't be read.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// Nothing could be verified.
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    /// Nothing could be exported.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Nobody could be admitted.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// Its own telemetry can't be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
}

/// Says why a function does not start.
#[must_use]
pub fn refuse(error: &StartupError) -> ExitCode {
    tracing::error!(%error, "the function can't start");
    ExitCode::FAILURE
}

/// How a function ends: never, unless the runtime fails.
pub fn exit_code<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the Lambda runtime failed");
            ExitCode::FAILURE
        }
    }
}

/// A provider's webhook function.
pub async fn webhook(vars: &Vars, provider: Provider) -> Result<Router, StartupError> {
    let intake = Intake::parse(vars)?;
    let webhook = Webhook {
        receiver: Receiver::open(provider, vars, intake).await?,
        settings: Arc::new(Settings::parse(vars)?),
        max_body: intake.max_body,
        rules: project_rules(vars).await?,
        queue: Arc::new(sqs_queue(vars).await?),
        telemetry: telemetry(vars, &format!("spanhook-{provider}-webhook"))?,
        clock: Clock::SYSTEM,
    };
    Ok(webhook.into_router())
}

fn telemetry(vars: &Vars, function: &str) -> Result<Telemetry, SettingsError> {
    Ok(Telemetry::queued(function, &TelemetrySettings::parse(vars)?))
}

/// One client for the life of the process. `AWS_ENDPOINT_URL_SQS` points it elsewhere.
async fn sqs_queue(vars: &Vars) -> Result<SqsQueue, StartupError> {
    let settings = QueueSettings::parse(vars)?;
    let client = aws_sdk_sqs::Client::new(&aws_config::load_from_env().await);
    Ok(SqsQueue::new(client, settings.queue_url, Some(settings.dead_letter_queue_url)))
}

/// The traceparent function.
pub async fn traceparent(vars: &Vars) -> Result<Router, StartupError> {
    let service = Traceparent {
        gate: Gate::open(GateSettings::traceparent(vars)?).await?,
        clock: Clock::SYSTEM,
        rules: project_rules(vars).await?,
        settings: Arc::new(Settings::parse(vars)?),
        telemetry: telemetry(vars, "spanhook-traceparent")?,
    };
    Ok(service.into_router())
}

/// The build-events function.
pub async fn build_events(vars: &Vars) -> Result<Router, StartupError> {
    let service = BuildEvents {
        gate: Gate::open(GateSettings::build_events(vars)?).await?,
        settings: Arc::new(Settings::parse(vars)?),
        rules: project_rules(vars).await?,
        queue: Arc::new(sqs_queue(vars).await?),
        telemetry: telemetry(vars, "spanhook-build-events")?,
        clock: Clock::SYSTEM,
    };
    Ok(service.into_router())
}

/// The rules of projects; none keeps every run.
pub async fn project_rules(vars: &Vars) -> Result<Arc<Live<ProjectRules>>, LiveError> {
    let name = PROJECT_RULES.name;
    let source = Source::parse(vars, name);
    let rules = Live::open(&source, name, live::rules, ProjectRules::default()).await?;
    Ok(Arc::new(rules))
}

/// The forwarder function.
pub async fn forwarder(vars: &Vars) -> Result<Forwarder, StartupError> {
    Ok(Forwarder {
        queue: sqs_queue(vars).await?,
        target: Target::open(vars).await?.ok_or(SettingsError::Missing {
            variable: "OTEL_EXPORTER_OTLP_ENDPOINT",
            hint: "set it to the Collector's address, such as http://collector:4318",
        })?,
        telemetry: Telemetry::exporting("spanhook-forwarder", &TelemetrySettings::parse(vars)?)?,
    })
}

/// The forwarder function's state.
#[derive(Debug)]
pub struct Forwarder {
    queue: SqsQueue,
    target: Target,
    telemetry: Telemetry,
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
        let deadline = tokio::time::Instant::now() + remaining;
        let messages =
            event.payload.records.into_iter().map(received).collect::<Result<Vec<_>, _>>()?;

        let mut tally = Tally::default();
        let exporter = self.target.exporter().await;
        let verdicts = forward(&messages, &*exporter, deadline, &mut tally).await;
        let failed = settle(&self.queue, &messages, &verdicts, Clock::SYSTEM, &mut tally).await;

        let lag = lag(&messages, &verdicts, Clock::SYSTEM);
        report(&self.telemetry, tally, lag);
        let ended = Clock::SYSTEM.nanos();
        let count = i64::try_from(messages.len()).unwrap_or(i64::MAX);
        let failures = i64::try_from(failed.len()).unwrap_or(i64::MAX);
        self.telemetry.span(
            "forward",
            started,
            ended,
            &[("messaging.batch.message_count", count), ("spanhook.failures", failures)],
        );
        self.telemetry.flush().await;

        let mut response = SqsBatchResponse::default();
        failed.into_iter().for_each(|id| response.add_failure(id));
        Ok(response)
    }
}

/// An empty item identifier would fail the whole batch, so an empty id must not come this far.
fn received(record: SqsMessage) -> Result<Received, UnidentifiedMessage> {
    let present = |text: Option<String>| text.filter(|it| !it.is_empty());
    let text = |(name, it): (String, SqsMessageAttribute)| Some((name, it.string_value?));
    Ok(Received {
        id: present(record.message_id).ok_or(UnidentifiedMessage)?,
        receipt: present(record.receipt_handle).ok_or(UnidentifiedMessage)?,
        body: record.body.unwrap_or_default(),
        attributes: record.message_attributes.into_iter().filter_map(text).collect(),
        receive_count: record
            .attributes
            .get("ApproximateReceiveCount")
            .and_then(|it| it.parse().ok())
            .unwrap_or(1),
    })
}

/// From the end of the newest delivered work to now, in milliseconds.
fn lag(messages: &[Received], verdicts: &[Verdict], clock: Clock) -> Option<u64> {
    let ended = messages
        .iter()
        .zip(verdicts)
        .filter(|(_, verdict)| **verdict == Verdict::Ack)
        .filter_map(|(message, _)| message.attributes.get("ended_at")?.parse::<u64>().ok())
        .max()?;
    u64::try_from(clock.since_epoch().as_millis()).ok().map(|now| now.saturating_sub(ended))
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
