//! Puts each function together from its variables.

use std::{process::ExitCode, sync::Arc, time::Duration};

use aws_config::{SdkConfig, timeout::TimeoutConfig};
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
    otlp::Otlp,
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

/// How long one try of the SDK may take. It has no limit of its own once it is connected, and a
/// queue that says nothing would use up the time for other tries.
const TRY: Duration = Duration::from_secs(3);

fn sqs_client(config: &SdkConfig) -> aws_sdk_sqs::Client {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(TRY).build();
    let config = aws_sdk_sqs::config::Builder::from(config).timeout_config(timeouts).build();
    aws_sdk_sqs::Client::from_conf(config)
}

/// One client for the life of the process. `AWS_ENDPOINT_URL_SQS` points it elsewhere.
pub async fn sqs_queue(vars: &Vars) -> Result<SqsQueue, StartupError> {
    let settings = QueueSettings::parse(vars)?;
    let client = sqs_client(AWS.config().await);
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
        gate: Arc::new(Gate::open(GateSettings::build_events(vars)?).await?),
        settings: Arc::new(Settings::parse(vars)?),
        rules: project_rules(vars).await?,
        queue: Arc::new(sqs_queue(vars).await?),
        intake: Intake::new(),
        telemetry: telemetry(vars, "spanhook-build-events")?,
        clock: Clock::SYSTEM,
    };
    Ok(service.into_router())
}

/// The OTLP function. Whoever may send build events may send here.
pub async fn otlp(vars: &Vars) -> Result<Router, StartupError> {
    let vars = &live::with_documents(vars).await?;
    let service = Otlp {
        gate: Arc::new(Gate::open(GateSettings::build_events(vars)?).await?),
        settings: Arc::new(Settings::parse(vars)?),
        max_body: WebhookSettings::parse(vars)?.max_body,
        rules: project_rules(vars).await?,
        queue: Arc::new(sqs_queue(vars).await?),
        intake: Intake::new(),
        telemetry: telemetry(vars, "spanhook-otlp")?,
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

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
    use spanhook_core::message::Message;
    use tokio::{net::TcpListener, time::Instant};

    use super::*;
    use crate::queue::Outbox;

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_never_answers_is_tried_several_times_within_a_functions_time() {
        // Takes connections and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()))
            .endpoint_url(format!("http://{}", silent.local_addr().unwrap()))
            .build();
        let queue = SqsQueue::new(sqs_client(&config), "http://queue".to_owned(), None);
        let message = Message {
            body: "x".into(),
            attributes: std::collections::BTreeMap::new(),
            group: "g".to_owned(),
        };
        let started = Instant::now();
        queue.send(vec![message]).await.unwrap_err();
        let took = started.elapsed();
        assert!(took > TRY * 2 && took < TRY * 5, "{took:?}");
    }
}
