//! HTTP answers that the services share.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::coding;

/// A problem document. <https://www.rfc-editor.org/rfc/rfc9457>
///
/// `detail` is for the caller: it names no reason that would help to forge a delivery, and repeats
/// nothing of the request.
#[derive(Clone, Copy, Debug)]
pub struct Problem {
    /// The status, 4xx or 5xx.
    pub status: StatusCode,
    /// What the caller can do about it.
    pub detail: &'static str,
}

#[derive(Serialize)]
struct Document<'d> {
    r#type: &'static str,
    title: Option<&'static str>,
    status: u16,
    detail: &'d str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        problem(self.status, self.detail)
    }
}

/// A problem document whose text is made up for the case.
pub fn problem(status: StatusCode, detail: &str) -> Response {
    let document = Document {
        r#type: "about:blank",
        title: status.canonical_reason(),
        status: status.as_u16(),
        detail,
    };
    // Four plain fields always serialize.
    let body = serde_json::to_string(&document).unwrap_or_default();
    let mut response = Response::new(Body::from(format!("{body}\n")));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        let accepted = HeaderValue::from_static(coding::ACCEPTED);
        response.headers_mut().insert(header::ACCEPT_ENCODING, accepted);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
    }
    response
}

/// No such path.
pub async fn not_found() -> Problem {
    Problem { status: StatusCode::NOT_FOUND, detail: "there is nothing at this path" }
}

/// A path that takes another method.
pub async fn wrong_method() -> Problem {
    let detail = "webhooks are sent with POST, traceparent is asked for with GET";
    Problem { status: StatusCode::METHOD_NOT_ALLOWED, detail }
}

/// Whether the process answers.
pub async fn health() -> &'static str {
    "ok\n"
}
