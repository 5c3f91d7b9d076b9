//! The OTLP service: what jobs and providers export themselves. Check who calls, read, queue, answer.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::Response,
    routing::post,
};
use spanhook_core::{
    otlp::{
        Signal,
        front::{Code, Encoding, PROVIDER, Request, Taken, status, success},
    },
    rules::ProjectRules,
    settings::Settings,
};

use crate::{
    answer::{Problem, health, not_found, wrong_method},
    clock::Clock,
    coding::Coding,
    gate::{Denied, Gate, Visitor},
    intake::{Intake, IntakeError, ReceivedBody, answer_early},
    live::Live,
    queue::Outbox,
    telemetry::{Metric, Telemetry},
};

/// The OTLP service.
#[derive(Debug)]
pub struct Otlp<Q> {
    /// Who may send: as for build events, so that a job needs nothing else.
    pub gate: Arc<Gate>,
    /// How ids are derived: as for the traceparent endpoint.
    pub settings: Arc<Settings>,
    /// The largest body, in bytes, as it comes and as it is unpacked.
    pub max_body: usize,
    /// Which runs are kept.
    pub rules: Arc<Live<ProjectRules>>,
    /// Where messages go.
    pub queue: Arc<Q>,
    /// How bodies are read.
    pub intake: Intake,
    /// What it says of itself.
    pub telemetry: Telemetry,
    /// Checks tokens by it, and dates what has no time.
    pub clock: Clock,
}

impl<Q: Outbox> Otlp<Q> {
    /// The service of the function, with `/health` for probes.
    pub fn into_router(self) -> Router {
        self.into_routes()
            .route("/health", axum::routing::get(health))
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method)
    }

    /// The service in a larger router, at the paths that OTLP gives it.
    pub fn into_routes(self) -> Router {
        let service = Arc::new(self);
        Signal::ALL.into_iter().fold(Router::new(), |router, signal| {
            let service = Arc::clone(&service);
            let receive = move |headers: HeaderMap, body: Body| async move {
                service.receive(signal, headers, body).await
            };
            router.route(&format!("/v1/{}", signal.as_str()), post(receive))
        })
    }

    async fn receive(&self, signal: Signal, headers: HeaderMap, body: Body) -> Response {
        let text = |name: HeaderName| headers.get(name).map_or(Some(""), |it| it.to_str().ok());
        let encoding = text(CONTENT_TYPE).and_then(Encoding::of);
        // Who says nothing that can be answered in is answered in what people can read.
        let answers = Answers(encoding.unwrap_or(Encoding::Json));
        if let Err(error) = Intake::announce(&body, self.max_body) {
            return answer_early(body, self.unread(answers, error)).await;
        }
        let now = self.clock.since_epoch().as_secs();
        let visitor = match self.gate.screen(&headers, now).await {
            Ok(visitor) => visitor,
            Err(reason) => return answer_early(body, self.denied(answers, reason)).await,
        };
        let (Some(encoding), Ok(coding)) = (encoding, Coding::of(&headers)) else {
            let detail =
                "send application/x-protobuf or application/json, plain or with gzip or zstd";
            let answer = self.refused(answers, StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
            return answer_early(body, answer).await;
        };
        let request = Request { signal, encoding };
        match self.intake.read(body, coding, self.max_body).await {
            Ok(body) => self.take(request, visitor, body).await,
            Err(error) => self.unread(answers, error),
        }
    }

    async fn take(&self, request: Request, visitor: Visitor<'_>, body: ReceivedBody) -> Response {
        let answers = Answers(request.encoding);
        let now = self.clock.since_epoch().as_secs();
        let caller = match visitor.admit(body.bytes(), now).await {
            Ok(caller) => caller,
            Err(reason) => return self.denied(answers, reason),
        };
        if let Err(reason) = caller.writer() {
            return self.denied(answers, reason);
        }
        let rules = self.rules.get().await;
        let (received, limit) = (self.clock.nanos(), self.max_body);
        let settings = Arc::clone(&self.settings);
        let work = move |body: &[u8]| {
            let writer = caller.writer()?;
            Ok(request.take(body, limit, writer, received, &settings, &rules))
        };
        let taken = match self.intake.work(body, work).await {
            Err(error) => return self.unread(answers, error),
            Ok(Err(reason)) => return self.denied(answers, reason),
            Ok(Ok(Err(refused))) => {
                let status = match refused.code() {
                    Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                    Code::Forbidden => StatusCode::FORBIDDEN,
                    _ => StatusCode::BAD_REQUEST,
                };
                return self.refused(answers, status, &refused.to_string());
            }
            Ok(Ok(Ok(taken))) => taken,
        };
        self.queue(request, taken).await
    }

    async fn queue(&self, request: Request, taken: Taken) -> Response {
        let answers = Answers(request.encoding);
        let Taken { messages, count, rejects } = taken;
        let queued = messages.len() as u64;
        if let Err(error) = self.queue.send(messages).await {
            tracing::error!(%error, "the queue refused; the sender is asked to retry");
            let metrics = [(Metric::Received, 1), (Metric::Refused, 1)];
            self.telemetry.count(PROVIDER, "queue", &metrics);
            let detail = "the queue does not take messages at the moment; send it again";
            return answers.refusal(StatusCode::SERVICE_UNAVAILABLE, detail);
        }
        if rejects.count() > 0 {
            tracing::info!(%rejects, signal = request.signal.as_str(), "a part of a request left out");
        }
        let spans = if request.signal == Signal::Traces { count as u64 } else { 0 };
        let reason = if rejects.count() > 0 { "partial" } else { "accepted" };
        let counted = [
            (Metric::Received, 1),
            (Metric::Verified, 1),
            (Metric::Spans, spans),
            (Metric::Messages, queued),
        ];
        self.telemetry.count(PROVIDER, reason, &counted);
        answers.with(StatusCode::OK, success(request.encoding, request.signal, &rejects))
    }

    fn unread(&self, answers: Answers, error: IntakeError) -> Response {
        tracing::warn!(reason = %error, "OTLP not taken");
        if error == IntakeError::Busy {
            let metrics = [(Metric::Received, 1), (Metric::Refused, 1)];
            self.telemetry.count(PROVIDER, "busy", &metrics);
        }
        let too_large = "the body is larger than MAX_BODY_BYTES; send fewer at once";
        let Problem { status, detail } = error.problem(too_large);
        answers.refusal(status, detail)
    }

    fn denied(&self, answers: Answers, denied: Denied) -> Response {
        tracing::warn!(reason = %denied, "OTLP rejected");
        let metrics = [(Metric::Received, 1), (Metric::Rejected, 1)];
        self.telemetry.count(PROVIDER, denied.as_str(), &metrics);
        let Problem { status, detail } = denied.problem();
        answers.refusal(status, detail)
    }

    fn refused(&self, answers: Answers, status: StatusCode, detail: &str) -> Response {
        tracing::warn!(reason = detail, "OTLP refused");
        let metrics = [(Metric::Received, 1), (Metric::Verified, 1)];
        self.telemetry.count(PROVIDER, "invalid", &metrics);
        answers.refusal(status, detail)
    }
}

/// Answers, in the encoding of their request.
#[derive(Clone, Copy)]
struct Answers(Encoding);

impl Answers {
    fn with(self, status: StatusCode, body: Vec<u8>) -> Response {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let kind = HeaderValue::from_static(self.0.content_type());
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    fn refusal(self, http: StatusCode, detail: &str) -> Response {
        let code = match http {
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::FORBIDDEN => Code::Forbidden,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            _ => Code::Invalid,
        };
        let mut response = self.with(http, status(self.0, code, detail));
        let header = match http {
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
            StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, "10")),
            _ => None,
        };
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
