//! The webhook services: verify, map, encode, queue, answer.
//!
//! The same router runs in a Lambda function and in the local process.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use axum::{
    Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use http_body_util::LengthLimitError;
use serde::Serialize;
use spanhook_core::{
    circleci::{self, CircleciSettings},
    encode::{Limits, encode},
    gitlab::{self, GitlabSettings},
    id::TraceIds,
    mapping::{Mapped, Provider, Unmappable},
    message::Message,
    rules::{Decision, ProjectRules},
    secret::Secrets,
    signature::{Rejection, WebhookHeaders, verify_circleci, verify_standard, verify_token},
    span::Link,
};

use crate::{
    answer::{Problem, health, not_found, wrong_method},
    clock::Clock,
    live::{self, Live, LiveError},
    queue::Outbox,
    settings::{
        CIRCLECI_SECRET, CircleciReceiverSettings, GITLAB_SECRET_TOKEN, GITLAB_SIGNING_TOKEN,
        GitlabReceiverSettings, SettingsError, WebhookSettings,
    },
    telemetry::{Metric, Telemetry},
};

/// A provider's deliveries: how they are verified and mapped.
#[derive(Debug)]
pub enum Receiver {
    /// CircleCI's.
    Circleci {
        /// Keys of the HMAC; empty only when unsigned deliveries are accepted.
        secrets: Live<Secrets>,
        /// The mapping.
        mapping: CircleciSettings,
    },
    /// GitLab's.
    Gitlab {
        /// Keys of the Standard Webhooks signature.
        signing_keys: Live<Secrets>,
        /// Secret tokens.
        tokens: Live<Secrets>,
        /// The mapping.
        mapping: GitlabSettings,
    },
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
    /// Sets up CircleCI's receiver; refuses to when nothing could be verified.
    pub async fn circleci(
        settings: CircleciReceiverSettings,
        common: WebhookSettings,
    ) -> Result<Self, ReceiverError> {
        let none = Secrets::default();
        let secrets = Live::open(&settings.secret, CIRCLECI_SECRET, live::secrets, none).await?;
        if secrets.get().await.is_empty() {
            accept_unsigned(common, Provider::Circleci, CircleciReceiverSettings::missing_secret)?;
        }
        Ok(Self::Circleci { secrets, mapping: settings.mapping })
    }

    /// Sets up GitLab's receiver; refuses to when nothing could be verified.
    pub async fn gitlab(
        settings: GitlabReceiverSettings,
        common: WebhookSettings,
    ) -> Result<Self, ReceiverError> {
        let GitlabReceiverSettings { signing_token, secret_token, mapping } = settings;
        let none = Secrets::default;
        let signing_keys =
            Live::open(&signing_token, GITLAB_SIGNING_TOKEN, live::signing_keys, none()).await?;
        let tokens = Live::open(&secret_token, GITLAB_SECRET_TOKEN, live::secrets, none()).await?;
        if signing_keys.get().await.is_empty() && tokens.get().await.is_empty() {
            accept_unsigned(common, Provider::Gitlab, GitlabReceiverSettings::missing_secret)?;
        }
        Ok(Self::Gitlab { signing_keys, tokens, mapping })
    }

    /// Whose deliveries these are.
    #[must_use]
    pub fn provider(&self) -> Provider {
        match self {
            Self::Circleci { .. } => Provider::Circleci,
            Self::Gitlab { .. } => Provider::Gitlab,
        }
    }

    /// Checks the raw bytes. With both of GitLab's secrets configured both must hold: a wrong
    /// signature is never excused by a right token.
    async fn verify(&self, headers: &HeaderMap, body: &[u8], now: u64) -> Result<(), Rejection> {
        match self {
            Self::Circleci { secrets, .. } => {
                // A list may also come as several headers.
                let lines: Vec<_> = headers.get_all("circleci-signature").iter().collect();
                let texts: Vec<_> = lines.iter().filter_map(|it| it.to_str().ok()).collect();
                let header = (!texts.is_empty()).then(|| texts.join(","));
                let unreadable = header.is_none() && !lines.is_empty();
                let check = |keys: &Secrets| {
                    if unreadable {
                        return Err(Rejection::Malformed);
                    }
                    verify_circleci(header.as_deref(), body, keys)
                };
                secrets.verify(check).await
            }
            Self::Gitlab { signing_keys, tokens, .. } => {
                // What is too old is read again at the same time: one wait, not two.
                tokio::join!(signing_keys.get(), tokens.get());
                let text = |name| headers.get(name).and_then(|it| it.to_str().ok());
                let signed = WebhookHeaders {
                    id: text("webhook-id"),
                    timestamp: text("webhook-timestamp"),
                    signature: text("webhook-signature"),
                };
                signing_keys.verify(|keys| verify_standard(signed, body, keys, now)).await?;
                let token = headers.get("x-gitlab-token").map(header::HeaderValue::as_bytes);
                tokens.verify(|tokens| verify_token(token, tokens)).await
            }
        }
    }

    /// How its ids are derived.
    fn trace_ids(&self) -> TraceIds {
        match self {
            Self::Circleci { mapping, .. } => mapping.trace_ids,
            Self::Gitlab { mapping, .. } => mapping.trace_ids,
        }
    }

    fn map<'a>(&self, body: &'a [u8]) -> Result<Mapped<'a>, Unmappable> {
        // Mappings are tested never to panic; if one does, the payload must still not be lost.
        let map = || match self {
            Self::Circleci { mapping, .. } => circleci::map(body, mapping),
            Self::Gitlab { mapping, .. } => gitlab::map(body, mapping),
        };
        catch_unwind(AssertUnwindSafe(map)).unwrap_or(Err(Unmappable::Bug))
    }
}

fn accept_unsigned(
    common: WebhookSettings,
    provider: Provider,
    missing: fn() -> SettingsError,
) -> Result<(), SettingsError> {
    if !common.allow_unsigned {
        return Err(missing());
    }
    tracing::warn!(%provider, "ALLOW_UNSIGNED=true: anybody who can reach this address can send deliveries");
    Ok(())
}

/// One provider's webhook service.
#[derive(Debug)]
pub struct Webhook<Q> {
    /// How deliveries are verified and mapped.
    pub receiver: Receiver,
    /// The largest body that is read, in bytes.
    pub max_body: usize,
    /// Which runs are kept.
    pub rules: Arc<Live<ProjectRules>>,
    /// Where messages go.
    pub queue: Arc<Q>,
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
    let started = webhook.clock.nanos();
    match to_bytes(body, webhook.max_body).await {
        Ok(body) => webhook.deliver(&headers, &body, started).await,
        Err(error) => {
            let source = std::error::Error::source(&error);
            let too_large = source.is_some_and(<dyn std::error::Error>::is::<LengthLimitError>);
            let (status, detail) = if too_large {
                (StatusCode::PAYLOAD_TOO_LARGE, "the delivery is larger than MAX_BODY_BYTES")
            } else {
                (StatusCode::BAD_REQUEST, "the body could not be read to its end")
            };
            Problem { status, detail }.into_response()
        }
    }
}

impl<Q: Outbox> Webhook<Q> {
    async fn deliver(&self, headers: &HeaderMap, body: &Bytes, started: u64) -> Response {
        let provider = self.receiver.provider();
        let count = |reason, metrics: &[(Metric, u64)]| {
            self.telemetry.count(provider.as_str(), reason, metrics);
        };
        let now = self.clock.since_epoch().as_secs();
        if let Err(rejection) = self.receiver.verify(headers, body, now).await {
            tracing::warn!(%provider, reason = %rejection, "delivery rejected");
            count(rejection.as_str(), &[(Metric::Received, 1), (Metric::Rejected, 1)]);
            let detail = "the signature or token is missing or wrong";
            return Problem { status: StatusCode::UNAUTHORIZED, detail }.into_response();
        }
        match self.receiver.map(body) {
            Ok(Mapped::Ignored(reason)) => self.ignore("ignored", reason),
            Ok(Mapped::Trace { trace, project }) => {
                let rules = self.rules.get().await;
                match rules.judge(&trace, &project, self.receiver.trace_ids()) {
                    Decision::Keep => {}
                    Decision::Denied => {
                        return self.ignore("denied", "PROJECT_RULES switch the project off");
                    }
                    Decision::NotSampled => {
                        return self
                            .ignore("not_sampled", "the run is outside the project's share");
                    }
                }
                let spans = trace.span_count();
                let id = trace.id;
                let first = trace.groups.iter().find_map(|it| it.spans.first()).map(|it| it.id);
                let mut messages = encode(&trace, provider, &project, Limits::default());
                drop(trace); // A large pipeline's spans need not wait for the queue.
                let queued = messages.len() as u64;
                messages.extend(first.and_then(|span| {
                    let run = Link { trace: id, span };
                    self.telemetry.own_span(provider, run, started, self.clock.nanos())
                }));
                if let Err(error) = self.queue.send(messages).await {
                    return self.unavailable(&error);
                }
                tracing::debug!(%provider, spans, trace_id = %id, "delivery accepted");
                count(
                    "accepted",
                    &[
                        (Metric::Received, 1),
                        (Metric::Verified, 1),
                        (Metric::Spans, spans as u64),
                        (Metric::Messages, queued),
                    ],
                );
                Answer::Accepted { spans, trace_id: id.to_string() }.into_response()
            }
            Err(reason) => self.quarantine(headers, body, reason).await,
        }
    }

    fn ignore(&self, why: &'static str, reason: &'static str) -> Response {
        let provider = self.receiver.provider();
        tracing::debug!(%provider, reason, "delivery ignored");
        let metrics = [(Metric::Received, 1), (Metric::Verified, 1), (Metric::Ignored, 1)];
        self.telemetry.count(provider.as_str(), why, &metrics);
        Answer::Ignored { reason }.into_response()
    }

    /// A verified delivery that can't be mapped is kept where an operator looks for it.
    async fn quarantine(&self, headers: &HeaderMap, body: &[u8], reason: Unmappable) -> Response {
        const KEPT: [&str; 9] = [
            "content-type",
            "user-agent",
            "circleci-event-type",
            "x-gitlab-event",
            "x-gitlab-event-uuid",
            "x-gitlab-instance",
            "idempotency-key",
            "webhook-id",
            "webhook-timestamp",
        ];
        let provider = self.receiver.provider();
        let kept: BTreeMap<_, _> = KEPT
            .into_iter()
            .filter_map(|name| Some((name, headers.get(name)?.to_str().ok()?)))
            .collect();
        let event = ["circleci-event-type", "x-gitlab-event"]
            .iter()
            .find_map(|name| kept.get(name).copied());
        let messages =
            Message::quarantine(provider, event.unwrap_or_default(), &kept, reason, body);
        if let Err(error) = self.queue.dead_letter(messages).await {
            return self.unavailable(&error);
        }
        tracing::warn!(%provider, %reason, "delivery quarantined in the dead-letter queue");
        let metrics = [(Metric::Received, 1), (Metric::Verified, 1), (Metric::DeadLettered, 1)];
        self.telemetry.count(provider.as_str(), "quarantined", &metrics);
        Answer::Quarantined { reason: reason.to_string() }.into_response()
    }

    fn unavailable(&self, error: &crate::queue::QueueError) -> Response {
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
    Accepted { spans: usize, trace_id: String },
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
