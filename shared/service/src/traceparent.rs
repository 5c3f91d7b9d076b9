//! The traceparent service: pure and stateless.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use spanhook_core::{
    rules::ProjectRules,
    settings::Settings,
    traceparent::{BadRequest, Context, Format, Request as Asked, parse},
};

use crate::{
    answer::{Problem, health},
    clock::Clock,
    gate::{Denied, Gate, Proof},
    live::Live,
    telemetry::{Metric, Telemetry},
};

/// Why there is no context, for people.
const REASON: HeaderName = HeaderName::from_static("spanhook-error");

/// The traceparent endpoint.
#[derive(Debug)]
pub struct Traceparent {
    /// Who may ask.
    pub gate: Gate,
    /// Checks tokens by it.
    pub clock: Clock,
    /// Which runs are sampled.
    pub rules: Arc<Live<ProjectRules>>,
    /// How ids are derived.
    pub settings: Arc<Settings>,
    /// What it says of itself.
    pub telemetry: Telemetry,
}

impl Traceparent {
    /// The service of the function. Whatever goes wrong is said in the format that was asked for,
    /// an unknown path and a wrong method included: the answer may be sourced by a shell.
    pub fn into_router(self) -> Router {
        let service = Router::new().fallback(answer).with_state(Arc::new(self));
        Router::new().route("/health", axum::routing::get(health)).fallback_service(service)
    }

    /// The service below `/traceparent` of a larger router.
    pub fn into_routes(self) -> Router {
        Router::new()
            .route("/traceparent", axum::routing::any(answer))
            // The wildcard stands for one character at least.
            .route("/traceparent/", axum::routing::any(answer))
            .route("/traceparent/{*rest}", axum::routing::any(answer))
            .with_state(Arc::new(self))
    }
}

async fn answer(State(service): State<Arc<Traceparent>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let header = |name: HeaderName| parts.headers.get(name).and_then(|it| it.to_str().ok());
    let Asked { format, job, bare, project } =
        parse(parts.uri.path(), parts.uri.query(), header(header::ACCEPT));
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        let response = failure(format, StatusCode::METHOD_NOT_ALLOWED, "ask with GET");
        return ([(header::ALLOW, "GET, HEAD")], response).into_response();
    }
    let now = service.clock.since_epoch().as_secs();
    let admitted = service.gate.admit(&parts.headers, b"", now).await;
    let admitted = admitted.and_then(|caller| {
        caller.require(project.as_deref())?;
        Ok(caller)
    });
    let caller = match admitted {
        Ok(caller) => caller,
        Err(denied) => {
            tracing::warn!(reason = %denied, "trace context refused");
            service.telemetry.count("traceparent", denied.as_str(), &[(Metric::Rejected, 1)]);
            return refused(format, denied);
        }
    };
    // A job's token says which job it is: it is told its own context and no other's.
    let (job, project) = match &caller.identity {
        // Of a provider without webhooks there is no trace to join.
        Some(own) if own.provider.room().checks.is_empty() => (Err(BadRequest::Path), None),
        Some(own) if bare => (Ok(own.clone()), own.project.clone()),
        Some(own) => (
            job.and_then(|it| it.is_told_by(own).then(|| own.clone()).ok_or(BadRequest::OtherJob)),
            own.project.clone(),
        ),
        None => (job, project),
    };
    match job {
        Ok(job) => {
            service.telemetry.count("traceparent", "answered", &[(Metric::Received, 1)]);
            let rules = service.rules.get().await;
            let context = Context::of(&job, &service.settings, &rules, project.as_deref());
            let body = format.render(context);
            // With a proof the answer is that caller's own; and rules may change.
            let caching = match (caller.by == Proof::None, rules.is_empty()) {
                (true, true) => "public, max-age=31536000, immutable",
                (true, false) => "public, max-age=60",
                (false, true) => "private, max-age=31536000, immutable",
                (false, false) => "private, max-age=60",
            };
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static(format.content_type())),
                (header::CACHE_CONTROL, HeaderValue::from_static(caching)),
                (header::VARY, HeaderValue::from_static("accept, authorization")),
            ];
            (headers, body).into_response()
        }
        Err(error) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            failure(format, status, &error.to_string())
        }
    }
}

/// The texts are our own, and of nothing that was asked: they are a header as well, since some
/// formats have no body for them.
fn failure(format: Format, status: StatusCode, message: &str) -> Response {
    let kind =
        if format == Format::Json { "application/problem+json" } else { format.content_type() };
    let reason = HeaderValue::try_from(message.replace('\n', " "));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (REASON, reason.unwrap_or(HeaderValue::from_static("see the documentation"))),
    ];
    (status, headers, format.render_error(status.as_u16(), message)).into_response()
}

/// The error of a caller that is not admitted, in the format that was asked for.
fn refused(format: Format, denied: Denied) -> Response {
    let Problem { status, detail } = denied.problem();
    if status == StatusCode::UNAUTHORIZED {
        let message = "a token is needed; send the header Authorization: Bearer ...";
        let response = failure(format, status, message);
        return ([(header::WWW_AUTHENTICATE, "Bearer")], response).into_response();
    }
    failure(format, status, detail)
}
