//! Puts each function together from its variables.

use std::{process::ExitCode, sync::Arc};

use axum::Router;
use spanhook_core::{
    provider::Provider,
    rules::ProjectRules,
    settings::{PROJECT_RULES, Settings, SettingsError, Vars, WebhookSettings},
};
use thiserror::Error;

use crate::{
    aws::AWS,
    build_events::BuildEvents,
    clock::Clock,
    export::ENDPOINT,
    forwarder::Forwarder,
    gate::{Gate, GateError, GateSettings, Receiver},
    intake::Intake,
    live::{self, Live, LiveError, Source},
    queue::SqsQueue,
    settings::QueueSettings,
    target::{Target, TargetError},
    telemetry::{Telemetry, TelemetryError, TelemetrySettings},
    traceparent::Traceparent,
    webhook::Webhook,
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
    /// Nothing could be exported.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Nothing could be proved.
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
    let vars = &live::with_documents(vars).await?;
    let common = WebhookSettings::parse(vars)?;
    let webhook = Webhook {
        receiver: Receiver::open(provider, vars, common).await?,
        settings: Arc::new(Settings::parse(vars)?),
        max_body: common.max_body,
        rules: project_rules(vars).await?,
        queue: Arc::new(sqs_queue(vars).await?),
        intake: Intake::new(),
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
    let client = aws_sdk_sqs::Client::new(AWS.config().await);
    Ok(SqsQueue::new(client, settings.queue_url, Some(settings.dead_letter_queue_url)))
}

/// The traceparent function.
pub async fn traceparent(vars: &Vars) -> Result<Router, StartupError> {
    let vars = &live::with_documents(vars).await?;
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
    let vars = &live::with_documents(vars).await?;
    let service = BuildEvents {
        gate: Gate::open(GateSettings::build_events(vars)?).await?,
        settings: Arc::new(Settings::parse(vars)?),
        rules: project_rules(vars).await?,
        queue: Arc::new(sqs_queue(vars).await?),
        intake: Intake::new(),
        telemetry: telemetry(vars, "spanhook-build-events")?,
        clock: Clock::SYSTEM,
    };
    Ok(service.into_router())
}

/// The rules of projects; none keeps every run.
pub async fn project_rules(vars: &Vars) -> Result<Arc<Live<ProjectRules>>, LiveError> {
    let source = Source::parse(vars, PROJECT_RULES.name);
    let rules = Live::open(&source, &PROJECT_RULES, live::rules, ProjectRules::default()).await?;
    Ok(Arc::new(rules))
}

/// The forwarder function.
pub async fn forwarder(vars: &Vars) -> Result<Forwarder, StartupError> {
    let vars = &live::with_documents(vars).await?;
    Ok(Forwarder {
        queue: sqs_queue(vars).await?,
        target: Target::open(vars).await?.ok_or_else(|| {
            ENDPOINT
                .missing_with("set it to the Collector's address, such as http://collector:4318")
        })?,
        telemetry: Telemetry::exporting("spanhook-forwarder", &TelemetrySettings::parse(vars)?)?,
    })
}
