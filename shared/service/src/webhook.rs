//! The webhook services: verify, map, encode, queue, answer.
//!
//! The same router runs in a Lambda function and in the local process.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::future::join_all;
use serde::Serialize;
use spanhook_core::{
    check::{Check, Rejection},
    delivery::{Delivery, Outcome},
    provider::Provider,
    rules::ProjectRules,
    secret::Secrets,
    settings::{Settings, SettingsError, Vars, WebhookSettings},
};
use tokio::time::Instant;

use crate::{
    answer::{Problem, health, not_found, wrong_method},
    clock::Clock,
    intake::{Intake, IntakeError, ReceivedBody, answer_early},
    live::{self, Live, LiveError, Source},
    queue::{Outbox, QueueError, insist},
    telemetry::{Metric, Telemetry},
};

/// How long the queue is given to take a delivery, however long that took to arrive and to verify.
const LEAST: Duration = Duration::from_secs(1);

/// What proves a provider's deliveries: its checks, each with its live secrets.
#[derive(Debug)]
pub struct Receiver {
    provider: Provider,
    /// Those that are configured. None only when unsigned deliveries are accepted.
    checks: Vec<(Check, Live<Secrets>)>,
}

/// A receiver that can't be set up.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReceiverError {
    /// A variable is missing or wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A secret can't be read.
    #[error(transparent)]
    Live(#[from] LiveError),
}

impl Receiver {
    /// Reads the secrets of a provider; refuses when nothing could be verified.
    pub async fn open(
        provider: Provider,
        vars: &Vars,
        common: WebhookSettings,
    ) -> Result<Self, ReceiverError> {
        let room = provider.room();
        let mut checks = Vec::new();
        for check in room.checks {
            let source = Source::parse(vars, check.variable.name);
            if source != Source::Unset {
                let read = live::keys(check.scheme);
                let secrets =
                    Live::open(&source, check.variable.name, read, Secrets::default()).await?;
                checks.push((*check, secrets));
            }
        }
        match (room.checks.first(), checks.is_empty()) {
            (Some(first), true) if !common.allow_unsigned => {
                let (variable, hint) = (first.variable.name, room.unproved);
                return Err(SettingsError::Missing { variable, hint }.into());
            }
            (_, true) => tracing::warn!(
                %provider,
                "ALLOW_UNSIGNED=true: anybody who can reach this address can send deliveries"
            ),
            _ => {}
        }
        Ok(Self { provider, checks })
    }

    /// Whose deliveries these are.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// What proves a delivery, in words for an operator.
    #[must_use]
    pub fn proofs(&self) -> String {
        let names: Vec<_> = self.checks.iter().map(|(check, _)| check.variable.name).collect();
        match names.as_slice() {
            [] => "unsigned deliveries are accepted".to_owned(),
            names => format!("proved by {}", names.join(" and ")),
        }
    }

    /// Checks what needs no body: whether what proves it is there and can be right.
    async fn screen(&self, headers: &HeaderMap, now: u64) -> Result<(), Rejection> {
        // What is too old is read again at the same time: one wait, not one for each.
        join_all(self.checks.iter().map(|(_, secrets)| secrets.get())).await;
        for (check, secrets) in &self.checks {
            secrets.verify(|secrets| check.verify_headers(headers, secrets, now)).await?;
        }
        Ok(())
    }

    /// Checks the raw bytes, after [`Self::screen`]. With several checks configured all must hold.
    async fn verify(&self, headers: &HeaderMap, body: &[u8], now: u64) -> Result<(), Rejection> {
        for (check, secrets) in &self.checks {
            secrets.verify(|secrets| check.verify(headers, body, secrets, now)).await?;
        }
        Ok(())
    }
}

/// One provider's webhook service.
#[derive(Debug)]
pub struct Webhook<Q> {
    /// How deliveries are verified.
    pub receiver: Receiver,
    /// How they are mapped.
    pub settings: Arc<Settings>,
    /// The largest body that is read, in bytes.
    pub max_body: usize,
    /// Which runs are kept.
    pub rules: Arc<Live<ProjectRules>>,
    /// Where messages go.
    pub queue: Arc<Q>,
    /// How bodies are read.
    pub intake: Intake,
    /// What it says of itself.
    pub telemetry: Telemetry,
    /// Tells a fresh signature from an old one.
    pub clock: Clock,
}

impl<Q: Outbox> Webhook<Q> {
    /// The service of one function, at `/`, at `/{provider}` and, for probes, `/health`.
    pub fn into_router(self) -> Router {
        let path = format!("/{}", self.receiver.provider());
        self.into_routes(&["/", &path])
            .route("/health", axum::routing::get(health))
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method)
    }

    /// The service at these paths of a larger router.
    pub fn into_routes(self, paths: &[&str]) -> Router {
        let service = post(receive::<Q>).with_state(Arc::new(self));
        // With a slash at the end it is the same address to whoever pasted it.
        paths.iter().fold(Router::new(), |router, path| match *path {
            "/" => router.route(path, service.clone()),
            path => router.route(path, service.clone()).route(&format!("{path}/"), service.clone()),
        })
    }
}

async fn receive<Q: Outbox>(
    State(webhook): State<Arc<Webhook<Q>>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (arrived, started) = (Instant::now(), webhook.clock.nanos());
    if let Err(error) = Intake::announce(&body, webhook.max_body) {
        return answer_early(body, webhook.refused(error)).await;
    }
    let now = webhook.clock.since_epoch().as_secs();
    if let Err(rejection) = webhook.receiver.screen(&headers, now).await {
        return answer_early(body, webhook.rejected(rejection)).await;
    }
    match webhook.intake.read(body, webhook.max_body).await {
        Ok(body) => webhook.deliver(headers, body, (arrived, started)).await,
        Err(error) => webhook.refused(error).into_response(),
    }
}

impl<Q: Outbox> Webhook<Q> {
    fn refused(&self, error: IntakeError) -> Problem {
        let provider = self.receiver.provider();
        tracing::warn!(%provider, reason = %error, "delivery not taken");
        if error == IntakeError::Busy {
            let metrics = [(Metric::Received, 1), (Metric::Refused, 1)];
            self.telemetry.count(provider.as_str(), "busy", &metrics);
        }
        error.problem("the delivery is larger than MAX_BODY_BYTES")
    }

    fn rejected(&self, rejection: Rejection) -> Problem {
        let provider = self.receiver.provider();
        tracing::warn!(%provider, reason = %rejection, "delivery rejected");
        let metrics = [(Metric::Received, 1), (Metric::Rejected, 1)];
        self.telemetry.count(provider.as_str(), rejection.as_str(), &metrics);
        let detail = "the signature or token is missing or wrong";
        Problem { status: StatusCode::UNAUTHORIZED, detail }
    }

    async fn deliver(
        &self,
        headers: HeaderMap,
        body: ReceivedBody,
        (arrived, started): (Instant, u64),
    ) -> Response {
        let provider = self.receiver.provider();
        let now = self.clock.since_epoch().as_secs();
        if let Err(rejection) = self.receiver.verify(&headers, body.bytes(), now).await {
            return self.rejected(rejection).into_response();
        }
        let count = |reason, metrics: &[(Metric, u64)]| {
            self.telemetry.count(provider.as_str(), reason, metrics);
        };
        let (settings, rules) = (Arc::clone(&self.settings), self.rules.get().await);
        let size = body.bytes().len();
        let work = move || {
            let delivery = Delivery { headers: &headers, body: body.bytes() };
            delivery.process(provider, &settings, &rules)
        };
        let outcome = match self.intake.work(size, work).await {
            Ok(outcome) => outcome,
            Err(error) => return self.refused(error).into_response(),
        };
        let patience = provider.room().patience;
        let until = patience.map(|it| (arrived + it).max(Instant::now() + LEAST));
        match outcome {
            Outcome::Ignored { as_str, reason } => {
                tracing::debug!(%provider, reason, "delivery ignored");
                count(
                    as_str,
                    &[(Metric::Received, 1), (Metric::Verified, 1), (Metric::Ignored, 1)],
                );
                Answer::Ignored { reason }.into_response()
            }
            Outcome::Accepted(accepted) => {
                let (spans, queued) = (accepted.spans, accepted.messages.len() as u64);
                let mut messages = accepted.messages;
                messages.extend(accepted.first.and_then(|run| {
                    self.telemetry.own_span(provider, run, started, self.clock.nanos())
                }));
                if let Err(error) = insist(until, messages, |it| self.queue.send(it)).await {
                    return self.unavailable(&error);
                }
                tracing::debug!(%provider, spans, traces = ?accepted.traces, "delivery accepted");
                count(
                    "accepted",
                    &[
                        (Metric::Received, 1),
                        (Metric::Verified, 1),
                        (Metric::Spans, spans as u64),
                        (Metric::Messages, queued),
                    ],
                );
                let trace_id = accepted.traces.first().map(ToString::to_string);
                Answer::Accepted { spans, trace_id }.into_response()
            }
            // A verified delivery that can't be mapped is kept where an operator looks for it.
            Outcome::Quarantined { reason, messages } => {
                if let Err(error) = insist(until, messages, |it| self.queue.dead_letter(it)).await {
                    return self.unavailable(&error);
                }
                tracing::warn!(%provider, %reason, "delivery quarantined in the dead-letter queue");
                let metrics =
                    [(Metric::Received, 1), (Metric::Verified, 1), (Metric::DeadLettered, 1)];
                count("quarantined", &metrics);
                Answer::Quarantined { reason: reason.to_string() }.into_response()
            }
        }
    }

    fn unavailable(&self, error: &QueueError) -> Response {
        let provider = self.receiver.provider();
        tracing::error!(%provider, %error, "the queue refused; the provider is asked to retry");
        self.telemetry.count(
            provider.as_str(),
            "queue",
            &[(Metric::Received, 1), (Metric::Refused, 1)],
        );
        let detail = "the queue does not take messages at the moment; send the delivery again";
        Problem { status: StatusCode::SERVICE_UNAVAILABLE, detail }.into_response()
    }
}

/// The body of a 202.
#[derive(Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer {
    /// Spans are queued.
    Accepted { spans: usize, trace_id: Option<String> },
    /// There is nothing to emit.
    Ignored { reason: &'static str },
    /// It is in the dead-letter queue.
    Quarantined { reason: String },
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self)).into_response()
    }
}
