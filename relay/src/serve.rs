//! What the cluster asks of the relay: `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::{mpsc, watch};

use crate::{item::Item, metrics::Metrics};

/// The relay's condition.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Where items go.
    pub outbox: mpsc::WeakSender<Item>,
    /// Of each watch, whether it is known what there is.
    pub settled: Vec<watch::Receiver<bool>>,
    /// The numbers.
    pub metrics: Arc<Metrics>,
}

impl Condition {
    /// The routes.
    pub fn into_router(self) -> Router {
        Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

/// Starting anew does not help against a receiver that is away. It does when a part has ended, which
/// none ever should: each watch has one end of the queue.
async fn healthz(State(condition): State<Condition>) -> Response {
    let watches = condition.outbox.strong_count() >= condition.settled.len();
    let alive = watches && condition.outbox.upgrade().is_some_and(|it| !it.is_closed());
    if alive {
        "ok\n".into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "watching or sending has stopped; start the relay again\n",
        )
            .into_response()
    }
}

/// Ready once every kind was listed, or is known to be absent or forbidden.
async fn readyz(State(condition): State<Condition>) -> Response {
    if condition.settled.iter().all(|it| *it.borrow()) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the first lists are being read\n").into_response()
    }
}

async fn metrics(State(condition): State<Condition>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, condition.metrics.text()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;

    #[tokio::test]
    async fn a_part_that_has_ended_alone_fails_the_probe_that_starts_the_relay_again() {
        let (outbox, items) = mpsc::channel(1);
        let condition = Condition {
            outbox: outbox.downgrade(),
            settled: Kind::ALL.map(|_| watch::channel(true).1).into(),
            metrics: Arc::default(),
        };
        let probe = async || healthz(State(condition.clone())).await.status();
        let mut watches = Kind::ALL.map(|_| outbox.clone()).to_vec();
        drop(outbox);
        assert_eq!(probe().await, StatusCode::OK);
        drop(watches.pop());
        assert_eq!(probe().await, StatusCode::SERVICE_UNAVAILABLE, "one watch of seven");
        watches.push(watches[0].clone());
        assert_eq!(probe().await, StatusCode::OK);
        drop(items);
        assert_eq!(probe().await, StatusCode::SERVICE_UNAVAILABLE, "sending");
    }
}
