//! The traceparent service: pure and stateless.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use spanhook_core::{
    rules::ProjectRules,
    secret::Secrets,
    signature::verify_token,
    traceparent::{BadRequest, Format, Request as Asked, TraceparentSettings, parse},
};

use crate::{
    answer::health,
    live::Live,
    telemetry::{Metric, Telemetry},
};

/// The traceparent endpoint.
#[derive(Debug)]
pub struct Traceparent {
    /// The bearer tokens that callers need; none means that anybody may ask.
    pub tokens: Live<Secrets>,
    /// Which runs are sampled.
    pub rules: Arc<Live<ProjectRules>>,
    /// How ids are derived.
    pub ids: TraceparentSettings,
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
            .route("/traceparent/{*rest}", axum::routing::any(answer))
            .with_state(Arc::new(self))
    }
}

async fn answer(State(service): State<Arc<Traceparent>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let header = |name: HeaderName| parts.headers.get(name).and_then(|it| it.to_str().ok());
    let Asked { format, job, project } =
        parse(parts.uri.path(), parts.uri.query(), header(header::ACCEPT));
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        let response = failure(format, StatusCode::METHOD_NOT_ALLOWED, "ask with GET");
        return ([(header::ALLOW, "GET, HEAD")], response).into_response();
    }
    let token = bearer(&parts.headers);
    if service.tokens.verify(|tokens| verify_token(token, tokens)).await.is_err() {
        let message = "a bearer token is needed; send the header Authorization: Bearer ...";
        let response = failure(format, StatusCode::UNAUTHORIZED, message);
        return ([(header::WWW_AUTHENTICATE, "Bearer")], response).into_response();
    }
    match job {
        Ok(job) => {
            service.telemetry.count("traceparent", "answered", &[(Metric::Received, 1)]);
            let rules = service.rules.get().await;
            let context = job.context(&service.ids, &rules, project.as_deref());
            let body = format.render(context);
            // With a token the answer is that caller's own; and rules may change.
            let caching = match (service.tokens.get().await.is_empty(), rules.is_empty()) {
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
            let status = if error == BadRequest::Path {
                StatusCode::NOT_FOUND
            } else {
                StatusCode::BAD_REQUEST
            };
            failure(format, status, &error.to_string())
        }
    }
}

fn failure(format: Format, status: StatusCode, message: &str) -> Response {
    let kind =
        if format == Format::Json { "application/problem+json" } else { format.content_type() };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, format.render_error(status.as_u16(), message)).into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}
