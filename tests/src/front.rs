//! What stands before the functions: an address over HTTP that invokes them as function URLs do.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};

use crate::lambda::Function;

/// One address for several functions, by the first segment of the path.
pub async fn listen(functions: BTreeMap<&'static str, Arc<Function>>) -> SocketAddr {
    let router = Router::new().fallback(forward).with_state(Arc::new(functions));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

type Functions = Arc<BTreeMap<&'static str, Arc<Function>>>;

async fn forward(State(functions): State<Functions>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let path = parts.uri.path_and_query().map_or("/", |it| it.as_str());
    let first = path.split(['/', '?']).nth(1).unwrap_or_default();
    let answer = |status: u16, body: String| {
        let status = StatusCode::from_u16(status).unwrap();
        Response::builder().status(status).body(Body::from(body)).unwrap()
    };
    let Some(function) = functions.get(first) else { return answer(404, String::new()) };
    let headers: Vec<_> = pairs(&parts.headers).collect();
    let (status, text) = function.request(parts.method.as_str(), path, &headers, &body).await;
    answer(status, text)
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (String, String)> {
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    headers.iter().map(move |(name, value)| (name.to_string(), text(value)))
}
