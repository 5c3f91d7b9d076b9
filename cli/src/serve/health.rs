//! What probes ask: whether the process is to be started again, and whether it takes deliveries.

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use spanhook_service::answer::Problem;

use super::store::{Condition, Store};

/// `/health` for liveness, `/ready` for readiness.
pub(super) fn router(store: Store) -> Router {
    Router::new().route("/health", get(health)).route("/ready", get(ready)).with_state(store)
}

/// Starting anew helps against neither a full disk nor one that refuses writes: these are
/// [`ready`]'s to say.
async fn health(State(store): State<Store>) -> Response {
    if store.is_alive() {
        return "ok\n".into_response();
    }
    unavailable("the queue's writer has stopped; start spanhook again")
}

async fn ready(State(store): State<Store>) -> Response {
    match store.condition() {
        Condition { failed: true, .. } => unavailable("the disk refuses writes"),
        Condition { full: true, .. } => unavailable("the queue is full"),
        _ if !store.is_alive() => unavailable("the queue's writer has stopped"),
        _ => "ready\n".into_response(),
    }
}

fn unavailable(detail: &'static str) -> Response {
    Problem { status: StatusCode::SERVICE_UNAVAILABLE, detail }.into_response()
}
