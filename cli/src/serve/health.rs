//! What probes ask: whether the process is to be started again, and whether it takes deliveries.

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use spanhook_service::answer::Problem;

use super::queue::Queue;

/// `/health` for liveness, `/ready` for readiness.
pub(super) fn router(queue: Queue) -> Router {
    Router::new().route("/health", get(health)).route("/ready", get(ready)).with_state(queue)
}

/// Starting anew helps against neither a full disk nor one that refuses writes: these are
/// [`ready`]'s to say.
async fn health(State(queue): State<Queue>) -> Response {
    answer(queue.health(), "ok\n")
}

async fn ready(State(queue): State<Queue>) -> Response {
    answer(queue.ready(), "ready\n")
}

fn answer(state: Result<(), &'static str>, good: &'static str) -> Response {
    match state {
        Ok(()) => good.into_response(),
        Err(detail) => Problem { status: StatusCode::SERVICE_UNAVAILABLE, detail }.into_response(),
    }
}
