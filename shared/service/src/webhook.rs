//! The webhook services: verify, map, encode, queue, answer.
//!
//! The same router runs in a Lambda function and in the local process.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Serialize;
use spanhook_core::{
    check::{PATH_SECRET, Scheme},
    delivery::{Delivery, Outcome, RECEIVED},
    rules::ProjectRules,
    settings::Settings,
};
use tokio::time::Instant;

use crate::{
    answer::{Problem, health, not_found, wrong_method},
    clock::Clock,
    coding::Coding,
    gate::{Denied, Receiver},
    intake::{Intake, IntakeError, ReceivedBody, answer_early},
    live::Live,
    queue::{Outbox, QueueError, insist},
    telemetry::{Metric, Telemetry},
};

/// How long the queue is given to take a delivery, however long that took to arrive and to verify.
const LEAST: Duration = Duration::from_secs(1);

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
    /// The service of one function, at `/`, at its provider's paths and, for probes, `/health`.
    pub fn into_router(self) -> Router {
        let own = self.receiver.provider().room().paths.iter().filter(|it| **it != "/");
        let paths: Vec<_> = ["/"].into_iter().chain(own.copied()).collect();
        self.into_routes(&paths)
            .route("/health", axum::routing::get(health))
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method)
    }

    /// The service at these paths of a larger router.
    pub fn into_routes(self, paths: &[&str]) -> Router {
        let secret =
            self.receiver.provider().room().checks.iter().any(|it| it.scheme == Scheme::Path);
        let service = post(receive::<Q>).with_state(Arc::new(self));
        // With a slash at the end it is the same address to whoever pasted it.
        let mut router = paths.iter().fold(Router::new(), |router, path| match *path {
            "/" => router.route(path, service.clone()),
            path => router.route(path, service.clone()).route(&format!("{path}/"), service.clone()),
        });
        if secret {
            for path in paths.iter().filter(|it| **it != "/") {
                router = router.route(&format!("{path}/{{secret}}"), service.clone());
            }
        }
        router
    }
}

async fn receive<Q: Outbox>(
    State(webhook): State<Arc<Webhook<Q>>>,
    secret: Option<Path<String>>,
    mut headers: HeaderMap,
    body: Body,
) -> Response {
    if let Some(secret) = secret.and_then(|Path(it)| HeaderValue::try_from(it).ok()) {
        headers.insert(PATH_SECRET, secret);
    }
    let (arrived, started) = (Instant::now(), webhook.clock.nanos());
    if let Err(error) = Intake::announce(&body, webhook.max_body) {
        return answer_early(body, webhook.refused(error)).await;
    }
    let now = || webhook.clock.since_epoch().as_secs();
    let screened = match webhook.receiver.screen(&headers, now()).await {
        Ok(screened) => screened,
        Err(denied) => return answer_early(body, webhook.rejected(denied)).await,
    };
    let coding = match Coding::of(&headers) {
        Ok(coding) => coding,
        Err(error) => return answer_early(body, webhook.refused(error)).await,
    };
    let body = match webhook.intake.read(body, coding, webhook.max_body).await {
        Ok(body) => body,
        Err(error) => return webhook.refused(error).into_response(),
    };
    match screened.prove(body.bytes(), now()).await {
        Ok(_) => webhook.deliver(headers, body, (arrived, started)).await,
        Err(denied) => webhook.rejected(denied).into_response(),
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

    fn rejected(&self, denied: Denied) -> Problem {
        let provider = self.receiver.provider();
        tracing::warn!(%provider, reason = %denied, "delivery rejected");
        let metrics = [(Metric::Received, 1), (Metric::Rejected, 1)];
        self.telemetry.count(provider.as_str(), denied.as_str(), &metrics);
        match denied.problem() {
            Problem { status: StatusCode::UNAUTHORIZED, .. } => Problem {
                status: StatusCode::UNAUTHORIZED,
                detail: "the signature or token is missing or wrong",
            },
            problem => problem,
        }
    }

    async fn deliver(
        &self,
        mut headers: HeaderMap,
        body: ReceivedBody,
        (arrived, started): (Instant, u64),
    ) -> Response {
        let provider = self.receiver.provider();
        headers.insert(RECEIVED, HeaderValue::from(started));
        let kind = headers.get(provider.room().event).cloned();
        let kind = kind.as_ref().and_then(|it| it.to_str().ok()).unwrap_or_default();
        let told = |outcome, spans| self.telemetry.arrived(provider.as_str(), kind, outcome, spans);
        let count = |reason, metrics: &[(Metric, u64)]| {
            self.telemetry.count(provider.as_str(), reason, metrics);
        };
        let (settings, rules) = (Arc::clone(&self.settings), self.rules.get().await);
        let work = move |body: &[u8]| {
            let delivery = Delivery { headers: &headers, body };
            delivery.process(provider, &settings, &rules)
        };
        let outcome = match self.intake.work(body, work).await {
            Ok(outcome) => outcome,
            Err(error) => return self.refused(error).into_response(),
        };
        let patience = provider.room().patience;
        let until = patience.map(|it| (arrived + it).max(Instant::now() + LEAST));
        match outcome {
            Outcome::Ignored { as_str, reason } => {
                tracing::debug!(%provider, reason, "delivery ignored");
                told("ignored", 0);
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
                let (unread, rest) = (accepted.unread, accepted.rest);
                if let Err(error) = insist(until, messages, |it| self.queue.send(it)).await {
                    return self.unavailable(&error);
                }
                if unread > 0 {
                    if let Err(error) = insist(until, rest, |it| self.queue.dead_letter(it)).await {
                        return self.unavailable(&error);
                    }
                    tracing::warn!(%provider, unread, "parts of a delivery quarantined in the dead-letter queue");
                    count("unread", &[(Metric::DeadLettered, 1)]);
                }
                tracing::debug!(%provider, spans, traces = ?accepted.traces, "delivery accepted");
                told("accepted", spans);
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
                Answer::Accepted { spans, trace_id, unread }.into_response()
            }
            // A verified delivery that can't be mapped is kept where an operator looks for it.
            Outcome::Quarantined { reason, messages } => {
                if let Err(error) = insist(until, messages, |it| self.queue.dead_letter(it)).await {
                    return self.unavailable(&error);
                }
                tracing::warn!(%provider, %reason, "delivery quarantined in the dead-letter queue");
                told("quarantined", 0);
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
    Accepted {
        spans: usize,
        trace_id: Option<String>,
        /// Parts that can't be mapped are in the dead-letter queue.
        #[serde(skip_serializing_if = "is_zero")]
        unread: usize,
    },
    /// There is nothing to emit.
    Ignored { reason: &'static str },
    /// It is in the dead-letter queue.
    Quarantined { reason: String },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self)).into_response()
    }
}
