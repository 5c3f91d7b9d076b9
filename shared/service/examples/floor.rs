//! The floor of `benches/serve.py`: the HTTP stack of `serve`, which verifies a delivery of `CircleCI`,
//! parses it and forgets it, and a bare route beside it. What `serve` does more slowly than this is its
//! own doing.
#![allow(clippy::print_stdout, reason = "it says where it listens")]

use std::{error::Error, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use spanhook_core::{provider::Provider, secret::Secrets};
use spanhook_service::settings::environment;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let secret = environment().remove("CIRCLECI_HOOK_SECRET").ok_or("set CIRCLECI_HOOK_SECRET")?;
    let secrets = Arc::new(Secrets::new([secret.as_bytes()]));
    let check = &Provider::Circleci.room().checks[0];
    let receive = async move |headers: HeaderMap, body: Bytes| {
        if check.verify(&headers, &body, &secrets, 0).is_err() {
            return (StatusCode::UNAUTHORIZED, "");
        }
        match serde_json::from_slice::<serde_json::Value>(&body) {
            Ok(_) => (StatusCode::ACCEPTED, r#"{"status":"accepted"}"#),
            Err(_) => (StatusCode::BAD_REQUEST, ""),
        }
    };
    let router = Router::new()
        .route("/circleci", post(receive))
        .route("/traceparent/{*job}", get(async || "TRACEPARENT=00-0-0-01\n"));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("floor listens on http://{}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}
