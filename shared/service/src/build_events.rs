//! The build-events service: check who calls, map, queue, answer.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Serialize;
use spanhook_core::{
    build_event::{self, Unread},
    delivery::Accepted,
    id::TraceId,
    rules::ProjectRules,
    settings::Settings,
};

use crate::{
    answer::{Problem, health, not_found, problem, wrong_method},
    clock::Clock,
    coding::Coding,
    gate::{Denied, Gate, Visitor},
    intake::{Intake, IntakeError, ReceivedBody, answer_early},
    live::Live,
    queue::Outbox,
    telemetry::{Metric, Telemetry},
};

/// The largest body, in bytes: a job reduces its statistics before it sends them, and JSON takes
/// many times its size in memory.
pub const MAX_BODY: usize = 1024 * 1024;

/// The name of the service in counters.
const PROVIDER: &str = build_event::PROVIDER;

/// What is said of events that name a run which their sender may not enter.
const CONFINED: &str =
    "ACCESS does not take this proof for every project; send the job's OIDC token to be in its run";

/// The build-events service.
#[derive(Debug)]
pub struct BuildEvents<Q> {
    /// Who may call.
    pub gate: Arc<Gate>,
    /// How ids are derived: as for the traceparent endpoint.
    pub settings: Arc<Settings>,
    /// Which runs are kept.
    pub rules: Arc<Live<ProjectRules>>,
    /// Where messages go.
    pub queue: Arc<Q>,
    /// How bodies are read.
    pub intake: Intake,
    /// What it says of itself.
    pub telemetry: Telemetry,
    /// Checks tokens by it, and dates events without a timestamp.
    pub clock: Clock,
}

impl<Q: Outbox> BuildEvents<Q> {
    /// The service of the function, at `/build-events`, at `/` and, for probes, `/health`.
    pub fn into_router(self) -> Router {
        self.into_routes(&["/", "/build-events"])
            .route("/health", axum::routing::get(health))
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method)
    }

    /// The service at these paths of a larger router.
    pub fn into_routes(self, paths: &[&str]) -> Router {
        let service = post(receive::<Q>).with_state(Arc::new(self));
        paths.iter().fold(Router::new(), |router, path| router.route(path, service.clone()))
    }
}

async fn receive<Q: Outbox>(
    State(service): State<Arc<BuildEvents<Q>>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if let Err(error) = Intake::announce(&body, MAX_BODY) {
        return answer_early(body, service.refused(error)).await;
    }
    let now = service.clock.since_epoch().as_secs();
    let visitor = match service.gate.screen(&headers, now).await {
        Ok(visitor) => visitor,
        Err(reason) => return answer_early(body, service.denied(reason)).await,
    };
    let coding = match Coding::of(&headers) {
        Ok(coding) => coding,
        Err(error) => return answer_early(body, service.refused(error)).await,
    };
    match service.intake.read(body, coding, MAX_BODY).await {
        Ok(body) => service.take(visitor, body).await,
        Err(error) => service.refused(error).into_response(),
    }
}

impl<Q: Outbox> BuildEvents<Q> {
    fn refused(&self, error: IntakeError) -> Problem {
        tracing::warn!(reason = %error, "build events not taken");
        if error == IntakeError::Busy {
            let metrics = [(Metric::Received, 1), (Metric::Refused, 1)];
            self.telemetry.count(PROVIDER, "busy", &metrics);
        }
        error.problem("the body is larger than 1 MiB; send fewer events at once")
    }

    fn denied(&self, denied: Denied) -> Response {
        tracing::warn!(reason = %denied, "build events rejected");
        let metrics = [(Metric::Received, 1), (Metric::Rejected, 1)];
        self.telemetry.count(PROVIDER, denied.as_str(), &metrics);
        denied.into_response()
    }

    async fn take(&self, visitor: Visitor<'_>, body: ReceivedBody) -> Response {
        let count = |reason, metrics: &[(Metric, u64)]| {
            self.telemetry.count(PROVIDER, reason, metrics);
        };
        let now = self.clock.since_epoch().as_secs();
        let caller = match visitor.admit(body.bytes(), now).await {
            Ok(caller) => caller,
            Err(reason) => return self.denied(reason),
        };
        let received = self.clock.nanos();
        let (of, settings) = (caller.clone(), Arc::clone(&self.settings));
        let map = move |body: &[u8]| build_event::map(body, received, &settings, of.sender());
        let batch = match self.intake.work(body, map).await {
            Err(error) => return self.refused(error).into_response(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "build events refused");
                count("invalid", &[(Metric::Received, 1), (Metric::Verified, 1)]);
                return problem(StatusCode::BAD_REQUEST, &error.to_string());
            }
            Ok(Ok(batch)) => batch,
        };
        for telemetry in &batch.telemetry {
            let named = Some(telemetry.project.path()).filter(|it| !it.is_empty());
            if let Err(reason) = caller.require(named) {
                return self.denied(reason);
            }
        }
        if batch.confined {
            tracing::info!(
                proof = caller.by.as_str(),
                "build events kept out of a run: {CONFINED}"
            );
        }
        if batch.unread.count > 0 {
            tracing::info!(count = batch.unread.count, "parts of build events could not be read");
        }
        let rules = self.rules.get().await;
        // What the rules leave nothing of is acknowledged like everything else.
        let accepted = Accepted::of(PROVIDER, batch.telemetry, &self.settings, &rules);
        let accepted = accepted.unwrap_or_default();
        let note = note(batch.confined, &batch.unread);
        let answer = Answer::of(&accepted, &batch.trace_ids, &batch.unread, note);
        let queued = accepted.messages.len() as u64;
        if let Err(error) = self.queue.send(accepted.messages).await {
            tracing::error!(%error, "the queue refused; the sender is asked to retry");
            count("queue", &[(Metric::Received, 1), (Metric::Refused, 1)]);
            let detail = "the queue does not take messages at the moment; send the events again";
            return Problem { status: StatusCode::SERVICE_UNAVAILABLE, detail }.into_response();
        }
        let counted = [
            (Metric::Received, 1),
            (Metric::Verified, 1),
            (Metric::Spans, answer.spans as u64),
            (Metric::Messages, queued),
        ];
        count("accepted", &counted);
        self.telemetry.arrived(PROVIDER, "build events", "accepted", answer.spans);
        (StatusCode::ACCEPTED, Json(answer)).into_response()
    }
}

/// The body of a 202.
#[derive(Serialize)]
struct Answer {
    status: &'static str,
    spans: usize,
    points: usize,
    records: usize,
    trace_ids: Vec<String>,
    /// How many parts of the events could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Answer {
    fn of(
        accepted: &Accepted,
        traces: &BTreeSet<TraceId>,
        unread: &Unread,
        note: Option<String>,
    ) -> Self {
        let Accepted { spans, points, records, .. } = *accepted;
        Self {
            status: if spans + points + records > 0 { "accepted" } else { "ignored" },
            spans,
            points,
            records,
            trace_ids: traces.iter().map(ToString::to_string).collect(),
            unread: Some(unread.count).filter(|it| *it > 0),
            note,
        }
    }
}

/// What the sender should know of events that were taken.
fn note(confined: bool, unread: &Unread) -> Option<String> {
    let parts = (unread.count > 0).then(|| {
        let (count, at) = (unread.count, unread.at.join(", "));
        format!(
            "{count} parts of details not read, first {at}; each needs size_bytes, an asset a name"
        )
    });
    let notes: Vec<_> = confined.then(|| CONFINED.to_owned()).into_iter().chain(parts).collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}
