//! What takes deliveries, build events and what jobs export, and answers for trace contexts.

use std::sync::Arc;

use axum::{Router, http::StatusCode, routing::any};
use spanhook_core::{
    provider::Provider,
    rules::ProjectRules,
    settings::{Settings, SettingsError, Vars, WebhookSettings},
};
use spanhook_service::{
    answer::problem,
    build_events::BuildEvents,
    clock::Clock,
    gate::{Gate, GateError, GateSettings, Receiver},
    intake::Intake,
    live::Live,
    otlp::Otlp,
    startup::project_rules,
    telemetry::Telemetry,
    traceparent::Traceparent,
    webhook::Webhook,
};

use super::queue::Queue;
use crate::terminal::{Failure, failure};

/// The paths of what jobs export: of traces, metrics and logs.
const OTLP: &str = "v1/{signal}";

/// What proves build events, and what jobs export.
const BUILD_EVENTS: &str = "BUILD_EVENTS_SIGNING_KEY, BUILD_EVENTS_TOKEN or OIDC_ISSUERS";

/// All services of a process that receives, with what proves who calls them.
pub(super) struct Services {
    common: WebhookSettings,
    receivers: Vec<Receiver>,
    /// Build events are taken when there is a way to prove who sends them.
    build_events: Option<Gate>,
    traceparent: Gate,
    settings: Settings,
    rules: Arc<Live<ProjectRules>>,
}

impl Services {
    pub(super) async fn open(vars: &Vars) -> Result<Self, Failure> {
        let common = WebhookSettings::parse(vars).map_err(failure)?;
        let build_events = if GateSettings::take_build_events(vars) {
            Some(gate(GateSettings::build_events(vars)).await?)
        } else {
            None
        };
        Ok(Self {
            common,
            receivers: receivers(vars, common, build_events.is_some()).await?,
            build_events,
            traceparent: gate(GateSettings::traceparent(vars)).await?,
            settings: Settings::parse(vars).map_err(failure)?,
            rules: project_rules(vars).await.map_err(failure)?,
        })
    }

    /// What can be posted to.
    pub(super) fn paths(&self) -> Vec<&'static str> {
        let webhooks = self.receivers.iter().map(|it| it.provider().as_str());
        let of_jobs = self.build_events.iter().flat_map(|_| ["build-events", OTLP]);
        webhooks.chain(of_jobs).collect()
    }

    pub(super) fn into_router(self, queue: Queue, telemetry: &Telemetry) -> Router {
        let paths = self.paths();
        let settings = Arc::new(Settings { limits: queue.limits(), ..self.settings });
        let (queue, intake) = (Arc::new(queue), Intake::new());
        let traceparent = Traceparent {
            gate: self.traceparent,
            clock: Clock::SYSTEM,
            rules: Arc::clone(&self.rules),
            settings: Arc::clone(&settings),
            telemetry: telemetry.clone(),
        };
        let mut router = traceparent.into_routes();
        for receiver in self.receivers {
            let paths = receiver.provider().room().paths;
            let webhook = Webhook {
                receiver,
                settings: Arc::clone(&settings),
                max_body: self.common.max_body,
                rules: Arc::clone(&self.rules),
                queue: Arc::clone(&queue),
                intake: intake.clone(),
                telemetry: telemetry.clone(),
                clock: Clock::SYSTEM,
            };
            router = router.merge(webhook.into_routes(paths));
        }
        if let Some(gate) = self.build_events {
            let gate = Arc::new(gate);
            let build_events = BuildEvents {
                gate: Arc::clone(&gate),
                settings: Arc::clone(&settings),
                rules: Arc::clone(&self.rules),
                queue: Arc::clone(&queue),
                intake: intake.clone(),
                telemetry: telemetry.clone(),
                clock: Clock::SYSTEM,
            };
            let otlp = Otlp {
                gate,
                settings,
                max_body: self.common.max_body,
                rules: self.rules,
                queue,
                intake,
                telemetry: telemetry.clone(),
                clock: Clock::SYSTEM,
            };
            router = router
                .merge(build_events.into_routes(&["/build-events"]))
                .merge(otlp.into_routes());
        }
        unconfigured(router, &paths)
    }
}

async fn gate(settings: Result<GateSettings, SettingsError>) -> Result<Gate, Failure> {
    Gate::open(settings.map_err(failure)?).await.map_err(failure)
}

/// The providers that have a secret; at least one must, unless build events come alone.
async fn receivers(
    vars: &Vars,
    common: WebhookSettings,
    build_events: bool,
) -> Result<Vec<Receiver>, Failure> {
    let mut receivers = Vec::new();
    for provider in Provider::with_webhooks() {
        match Receiver::open(provider, vars, common).await {
            Ok(receiver) => receivers.push(receiver),
            Err(GateError::Unproved(_)) => {}
            Err(error) => return Err(failure(error)),
        }
    }
    if receivers.is_empty() && !build_events {
        let missing: Vec<_> = Provider::with_webhooks().map(secrets).collect();
        return Err(failure(format!(
            "no webhook secret is set; set {}, or {BUILD_EVENTS} for build events (or ALLOW_UNSIGNED=true to accept anybody's deliveries)",
            missing.join(", or ")
        )));
    }
    Ok(receivers)
}

/// The variables with a provider's secrets, one of which is needed.
fn secrets(provider: Provider) -> String {
    let names: Vec<_> = provider.room().checks.iter().map(|it| it.variable.name).collect();
    format!("{} for {}", names.join(" or "), provider.room().title)
}

/// A service without a secret is told apart from a wrong path.
fn unconfigured(mut router: Router, configured: &[&'static str]) -> Router {
    let webhooks = Provider::with_webhooks().map(|it| (it.as_str(), secrets(it)));
    let of_jobs = ["build-events", OTLP].map(|it| (it, BUILD_EVENTS.to_owned()));
    for (path, variables) in webhooks.chain(of_jobs) {
        if !configured.contains(&path) {
            let detail = format!("{path} is not set up here; set {variables}");
            let answer = move || async move { problem(StatusCode::NOT_FOUND, &detail) };
            router = router.route(&format!("/{path}"), any(answer));
        }
    }
    router
}
