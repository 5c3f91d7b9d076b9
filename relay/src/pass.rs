//! Deliveries of Tekton and Lighthouse within the cluster, passed on to spanhook.
//!
//! Tekton proves nothing of its CloudEvents: they are signed here, after what may be secret was
//! taken out. Lighthouse signs its own, which go as they are. Neither tries again for long, so the
//! relay does while they wait: 2xx is said only when spanhook has said it.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody, to_bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::Value;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    metrics::{Metric, Metrics},
    post::{Answer, Message, Pace, Post, Verdict, advice},
    prune::cloud_event,
};

/// The largest delivery of Lighthouse: its own limit.
const LIGHTHOUSE: usize = 10_000_000;

/// The largest of Tekton, which becomes a tree of many times its size: an object with what is around
/// it, and a cluster keeps none above 1.5 MiB. <https://etcd.io/docs/v3.5/dev-guide/limit/>
const TEKTON: usize = 2 * MIB;

const MIB: usize = 1024 * 1024;

/// How many may be read or wait at a time, and how many MiB they may announce together.
const AT_ONCE: usize = 64;

/// How long a sender may take for its body.
const READING: Duration = Duration::from_secs(10);

/// The way of deliveries.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The way to the receiver.
    pub post: Post,
    /// Between tries.
    pub pace: Pace,
    /// How long a sender waits while the receiver is away.
    pub hold: Duration,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

#[derive(Clone)]
struct Passing {
    pass: Pass,
    slots: Arc<Semaphore>,
}

impl Pass {
    /// `/tekton`, `/lighthouse` and `/lighthouse/events`, the path of Lighthouse's own plugins.
    pub fn into_router(self) -> Router {
        let passing = Passing { pass: self, slots: Arc::new(Semaphore::new(AT_ONCE)) };
        Router::new()
            .route("/tekton", post(tekton))
            .route("/lighthouse", post(lighthouse))
            .route("/lighthouse/events", post(lighthouse))
            .with_state(passing)
    }
}

async fn tekton(State(passing): State<Passing>, headers: HeaderMap, body: Body) -> Response {
    let (slot, body) = match passing.read("/tekton", body, TEKTON).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let event = serde_json::from_slice::<Value>(&body).ok().and_then(|it| cloud_event(&it));
    let Some(event) = event else {
        let detail = "this is no CloudEvent of a PipelineRun, TaskRun or CustomRun\n";
        return (StatusCode::BAD_REQUEST, detail).into_response();
    };
    let headers = kept(&headers, |name| name == "content-type" || name.starts_with("ce-"));
    let message = Message::signed("/tekton", headers, event.to_string().into());
    passing.pass_on("/tekton", &message, slot).await
}

async fn lighthouse(State(passing): State<Passing>, headers: HeaderMap, body: Body) -> Response {
    let (slot, body) = match passing.read("/lighthouse", body, LIGHTHOUSE).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let headers = kept(&headers, |name| {
        matches!(name, "content-type" | "user-agent") || name.starts_with("x-lighthouse-")
    });
    let message = Message::untouched("/lighthouse", headers, body);
    passing.pass_on("/lighthouse", &message, slot).await
}

fn kept(headers: &HeaderMap, is_kept: impl Fn(&str) -> bool) -> HeaderMap {
    let each = headers.iter().filter(|(name, _)| is_kept(name.as_str()));
    // One that comes twice comes twice.
    let mut kept = HeaderMap::new();
    each.for_each(|(name, value)| {
        kept.append(name, value.clone());
    });
    kept
}

impl Passing {
    /// Reads a body once there is a place for it; the place is its own until it is dropped.
    async fn read(
        &self,
        path: &'static str,
        body: Body,
        limit: usize,
    ) -> Result<(OwnedSemaphorePermit, Bytes), Response> {
        let refused = |status: StatusCode, detail: &'static str| {
            self.pass.metrics.add(
                Metric::Passed,
                &[("path", path), ("status", status.as_str())],
                1,
            );
            tracing::warn!(path, %status, "a delivery was not read: {}", detail.trim_end());
            (status, detail).into_response()
        };
        let too_large = || refused(StatusCode::PAYLOAD_TOO_LARGE, "the delivery is too large\n");
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        if size(body.size_hint().lower()) > limit {
            return Err(too_large());
        }
        // Who does not say how much comes may send all that is allowed.
        let announced = body.size_hint().upper().map_or(limit, size).min(limit);
        let places = u32::try_from(announced.div_ceil(MIB)).unwrap_or(u32::MAX).max(1);
        let slot = Arc::clone(&self.slots).try_acquire_many_owned(places).map_err(|_| {
            refused(StatusCode::SERVICE_UNAVAILABLE, "too many deliveries wait; send it again\n")
        })?;
        match timeout(READING, to_bytes(body, limit)).await {
            Ok(Ok(body)) => Ok((slot, body)),
            // Or it broke off, and nobody reads this.
            Ok(Err(_)) => Err(too_large()),
            Err(_) => {
                Err(refused(StatusCode::REQUEST_TIMEOUT, "the delivery did not end in time\n"))
            }
        }
    }

    async fn pass_on(
        &self,
        path: &'static str,
        message: &Message,
        _slot: OwnedSemaphorePermit,
    ) -> Response {
        let answer = self.pass.until_taken(message).await;
        let status = answer.as_ref().and_then(|it| it.status);
        let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        self.pass.metrics.add(Metric::Passed, &[("path", path), ("status", status.as_str())], 1);
        let Some(Answer { status: Some(_), verdict, content: (kind, body) }) = answer else {
            tracing::warn!(path, "a delivery could not be passed on");
            return (status, "spanhook can't be reached; send it again\n").into_response();
        };
        if status.is_success() && matches!(verdict, Verdict::Later { .. }) {
            tracing::warn!(path, %status, "a delivery was not taken: {}", advice(status));
            return (StatusCode::BAD_GATEWAY, "what answers is not spanhook\n").into_response();
        }
        if !status.is_success() {
            tracing::warn!(path, %status, "a delivery was refused");
        }
        let mut response = (status, body).into_response();
        response.headers_mut().remove(header::CONTENT_TYPE);
        kind.and_then(|it| response.headers_mut().insert(header::CONTENT_TYPE, it));
        response
    }
}

impl Pass {
    /// Tries again what another try may mend.
    async fn until_taken(&self, message: &Message) -> Option<Answer> {
        let deadline = Instant::now() + self.hold;
        let mut last = None;
        for failures in 1.. {
            let Ok(answer) = timeout_at(deadline, self.post.send(message)).await else { break };
            let (verdict, status) = (answer.verdict.clone(), answer.status);
            last = Some(answer);
            let passes =
                status.is_none_or(|it| it.is_server_error() || it == StatusCode::TOO_MANY_REQUESTS);
            let Verdict::Later { after } = verdict else { break };
            let pause = after.unwrap_or_default().max(self.pace.pause(failures));
            if !passes || Instant::now() + pause >= deadline {
                break;
            }
            sleep(pause).await;
        }
        last
    }
}
