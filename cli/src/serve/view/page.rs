//! The local page: a list of traces, one trace as a waterfall. No external asset, no inline script.

pub(crate) mod hosts;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use spanhook_core::provider::{Provider, Room};

use self::hosts::Hosts;
use super::{Summary, Trace};

/// Where the page finds traces.
pub(crate) trait TraceSource: Send + Sync + 'static {
    /// A text that changes whenever the list does.
    fn version(&self) -> String;
    /// The newest traces, newest first.
    fn list(&self, limit: usize) -> Vec<Summary>;
    /// One trace by its id.
    fn trace(&self, id: &str) -> Option<Trace>;
    /// How the process is doing.
    fn status(&self) -> Status;
}

/// How the process is doing.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Status {
    /// Messages that wait.
    pub(crate) queued: usize,
    /// Messages and deliveries that nobody could take.
    pub(crate) dead_letters: usize,
    /// Bytes of the queue's files, and how many they may have.
    pub(crate) queue_bytes: u64,
    pub(crate) queue_capacity: u64,
    /// Entries of the queue that can't be read and were set aside.
    pub(crate) damaged: usize,
    /// Where spans go; none means that they are shown here.
    pub(crate) forwarding_to: Option<String>,
    /// Counters since the start.
    pub(crate) counters: Vec<(&'static str, u64)>,
}

/// Traces that a list shows.
const LISTED: usize = 200;

/// The page and the JSON behind it, under its own names.
pub(crate) fn router<S: TraceSource>(source: Arc<S>, hosts: Hosts) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/traces/{id}", get(index))
        .route(
            "/assets/app.js",
            get(async || {
                asset("text/javascript; charset=utf-8", include_str!("../../../assets/app.js"))
            }),
        )
        .route(
            "/assets/app.css",
            get(async || asset("text/css; charset=utf-8", include_str!("../../../assets/app.css"))),
        )
        .route("/api/traces", get(list::<S>))
        .route("/api/traces/{id}", get(one::<S>))
        .route_layer(from_fn_with_state(hosts, hosts::guard))
        .with_state(source)
}

async fn index() -> Response {
    asset("text/html; charset=utf-8", include_str!("../../../assets/index.html"))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; \
                  connect-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

#[derive(Serialize)]
struct Listing {
    status: Status,
    /// Name and path of each webhook, to be shown where no trace is yet.
    webhooks: Vec<(&'static str, &'static str)>,
    traces: Vec<Summary>,
}

async fn list<S: TraceSource>(State(source): State<Arc<S>>, headers: HeaderMap) -> Response {
    let version = format!("\"{}\"", source.version());
    if headers.get(header::IF_NONE_MATCH).is_some_and(|it| it.as_bytes() == version.as_bytes()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    // Reading and decoding traces is no work for the threads that answer webhooks.
    let read = move || Listing {
        status: source.status(),
        webhooks: Provider::with_webhooks().map(|it| webhook(it.room())).collect(),
        traces: source.list(LISTED),
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(listing) => {
            let mut response = Json(listing).into_response();
            if let Ok(version) = HeaderValue::try_from(version) {
                response.headers_mut().insert(header::ETAG, version);
            }
            response
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The last of a provider's paths is its own; the root is one provider's too.
fn webhook(room: &'static Room) -> (&'static str, &'static str) {
    (room.title, room.paths.last().copied().unwrap_or("/"))
}

async fn one<S: TraceSource>(State(source): State<Arc<S>>, Path(id): Path<String>) -> Response {
    let valid = id.len() == 32 && id.bytes().all(|it| it.is_ascii_hexdigit());
    let read = move || valid.then(|| source.trace(&id.to_ascii_lowercase())).flatten();
    match tokio::task::spawn_blocking(read).await {
        Ok(Some(trace)) => Json(trace).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        http::{Method, Request},
        routing::post,
    };
    use tower::ServiceExt;

    use super::*;

    struct Empty;

    impl TraceSource for Empty {
        fn version(&self) -> String {
            String::new()
        }
        fn list(&self, _: usize) -> Vec<Summary> {
            Vec::new()
        }
        fn trace(&self, _: &str) -> Option<Trace> {
            None
        }
        fn status(&self) -> Status {
            Status::default()
        }
    }

    async fn ask(method: Method, path: &str, headers: &[(&str, &str)]) -> u16 {
        let webhook = Router::new().route("/", post(async || StatusCode::ACCEPTED));
        let router = router(Arc::new(Empty), Hosts::default()).merge(webhook);
        let request = Request::builder().method(method).uri(path);
        let request = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
        let request = request.body(Body::empty()).unwrap();
        router.oneshot(request).await.unwrap().status().as_u16()
    }

    const PAGE: [&str; 5] = ["/", "/traces/x", "/assets/app.js", "/assets/app.css", "/api/traces"];

    #[tokio::test]
    async fn the_page_is_not_served_under_a_strangers_name() {
        let local = ("host", "localhost:3000");
        for path in PAGE {
            assert_eq!(ask(Method::GET, path, &[local]).await, 200, "{path}");
            for headers in
                [&[("host", "evil.example")][..], &[local, ("host", "evil.example")], &[]]
            {
                assert_eq!(ask(Method::GET, path, headers).await, 421, "{path} {headers:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_page_runs_no_script_but_its_own_and_is_in_no_frame() {
        for path in PAGE.iter().filter(|it| **it != "/api/traces") {
            let router = router(Arc::new(Empty), Hosts::default());
            let request = Request::builder().uri(*path).header("host", "localhost");
            let answer = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let header = |name: &str| answer.headers()[name].to_str().unwrap();
            let policy = header("content-security-policy");
            for rule in [
                "default-src 'none'",
                "script-src 'self'",
                "frame-ancestors 'none'",
                "base-uri 'none'",
            ] {
                assert!(policy.split("; ").any(|it| it == rule), "{path}: {policy}");
            }
            assert!(!policy.contains("unsafe") && !policy.contains("http"), "{path}: {policy}");
            assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        }
    }

    #[tokio::test]
    async fn webhooks_are_taken_under_every_name() {
        assert_eq!(ask(Method::POST, "/", &[("host", "hooks.example.com")]).await, 202);
    }

    #[tokio::test]
    async fn another_websites_script_gets_nothing_and_a_link_works() {
        for (site, api) in
            [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
        {
            let headers = [("host", "127.0.0.1:3000"), ("sec-fetch-site", site)];
            assert_eq!(ask(Method::GET, "/api/traces", &headers).await, api, "{site}");
            assert_eq!(ask(Method::GET, "/", &headers).await, 200, "{site}");
        }
    }

    #[tokio::test]
    async fn nothing_of_the_page_changes_anything() {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            for path in PAGE.iter().filter(|it| **it != "/") {
                let status = ask(method.clone(), path, &[("host", "localhost")]).await;
                assert_eq!(status, 405, "{method} {path}");
            }
        }
    }
}
