//! `spanhook serve`: all functions behind one port.

mod demo;
mod files;
mod forwarding;
mod health;
mod listen;
mod logs;
mod source;
pub(crate) mod store;
#[cfg(test)]
mod tests;
pub(crate) mod view;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, http::StatusCode, routing::any};
use clap::{Args, Subcommand};
use spanhook_core::{
    otlp::encode::Limits,
    provider::Provider,
    settings::{Settings, SettingsError, Variable, Vars, WebhookSettings},
};
use spanhook_service::{
    answer::{not_found, problem, wrong_method},
    build_events::BuildEvents,
    clock::Clock,
    export::shown,
    gate::{Gate, GateError, GateSettings, Receiver},
    intake::Intake,
    live::with_documents,
    otlp::Otlp,
    settings::environment,
    startup::project_rules,
    target::Target,
    telemetry::{LOG_LEVEL, Telemetry, TelemetrySettings},
    traceparent::Traceparent,
    webhook::Webhook,
};
use tokio::{net::TcpListener, signal, sync::watch, task::JoinHandle, time::Instant};
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use crate::terminal::{Failure, failure, print};
use source::Source;
use store::{DATA_LIMIT, LIMIT, Store, parse_bytes};
use view::page::hosts::Hosts;

/// A delivery is made by one thread and let go of by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long open requests may take once the process is asked to stop.
const SHUTDOWN: Duration = Duration::from_secs(20);

/// How long the process's own telemetry may take after that.
const FLUSH: Duration = Duration::from_secs(2);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Receive webhooks, keep them safe and forward their spans, all in one process
    Serve(Serve),
    /// Show the whole way with sample deliveries, in the terminal and on a local page
    Demo(demo::Demo),
}

impl Command {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Serve(command) => command.run().await,
            Self::Demo(command) => command.run().await,
        }
    }
}
/// `SPANHOOK_LISTEN`
pub(crate) static LISTEN: Variable = Variable::new(
    "SPANHOOK_LISTEN",
    "127.0.0.1:3000",
    "use an address and a port, such as 0.0.0.0:3000",
    "address, as `--listen`",
);

/// `SPANHOOK_DATA`
pub(crate) static DATA: Variable = Variable::new(
    "SPANHOOK_DATA",
    "spanhook-data",
    "use the path of a folder",
    "folder of the queue, as `--data`",
);

#[derive(Args, Debug)]
#[command(after_help = help())]
pub(crate) struct Serve {
    /// Address to listen on; 0.0.0.0:3000 for every interface
    #[arg(long, value_name = "ADDRESS", env = LISTEN.name, default_value = LISTEN.default)]
    pub(crate) listen: SocketAddr,
    /// Folder of the queue; what was answered 2xx is in it
    #[arg(long, value_name = "FOLDER", env = DATA.name, default_value = DATA.default)]
    pub(crate) data: PathBuf,
    /// Size that the folder may grow to; deliveries beyond it are answered 503
    #[arg(long, value_name = "SIZE", env = LIMIT.name, default_value = LIMIT.default, value_parser = parse_bytes)]
    pub(crate) data_limit: u64,
}

/// The settings without which nothing comes in or goes out.
fn help() -> String {
    let of = |it: Provider| it.room().checks.iter().map(move |check| (it, check.variable));
    let secrets = Provider::ALL.into_iter().flat_map(of).fold(String::new(), |text, (it, own)| {
        format!("{text}  {:<29}{}: {}\n", own.name, it.room().title, own.meaning)
    });
    format!(
        "Settings come from the environment:
{secrets}  OTEL_EXPORTER_OTLP_ENDPOINT  Collector to forward to; without one, traces are shown at /
All of them: docs/settings.md. `spanhook check` says which are missing or wrong."
    )
}

impl Serve {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let vars = environment();
        logs::init(&vars, LOG_LEVEL.default);
        let vars = with_documents(&vars).await.map_err(failure)?;
        let running =
            Running::start_limited(&vars, self.listen, &self.data, self.data_limit).await?;
        print(running.welcome());
        running.until_signal().await
    }
}

/// A started process.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) store: Store,
    /// The services that deliveries are posted to.
    paths: Vec<&'static str>,
    forwarding_to: Option<String>,
    server: JoinHandle<()>,
    forwarder: JoinHandle<()>,
    stop: watch::Sender<bool>,
    telemetry: Telemetry,
}

impl Running {
    pub(crate) async fn start(
        vars: &Vars,
        listen: SocketAddr,
        data: &std::path::Path,
    ) -> Result<Self, Failure> {
        Self::start_limited(vars, listen, data, DATA_LIMIT).await
    }

    async fn start_limited(
        vars: &Vars,
        listen: SocketAddr,
        data: &std::path::Path,
        data_limit: u64,
    ) -> Result<Self, Failure> {
        let common = WebhookSettings::parse(vars).map_err(failure)?;
        let build_events = build_events_gate(vars).await?;
        let receivers = receivers(vars, common, build_events.is_some()).await?;
        // The queue of this process packs by itself.
        let settings =
            Settings { limits: Limits::BYTES, ..Settings::parse(vars).map_err(failure)? };
        let settings = Arc::new(settings);
        let target = Target::open(vars).await.map_err(failure)?;
        let forwarding_to = target.as_ref().map(|it| shown(&it.settings.endpoint));
        let rules = project_rules(vars).await.map_err(failure)?;
        let telemetry = TelemetrySettings::parse(vars).map_err(failure)?;
        let telemetry = Telemetry::exporting("spanhook-serve", &telemetry).map_err(failure)?;
        let store = Store::open_limited(data, data_limit).map_err(failure)?;

        let mut paths: Vec<_> = receivers.iter().map(|it| it.provider().as_str()).collect();
        let source = Source::new(store.clone(), forwarding_to.clone(), telemetry.clone());
        let intake = Intake::new();
        let mut router = view::page::router(Arc::new(source), Hosts::parse(vars))
            .merge(health::router(store.clone()))
            .merge(
                Traceparent {
                    gate: gate(GateSettings::traceparent(vars)).await?,
                    clock: Clock::SYSTEM,
                    rules: Arc::clone(&rules),
                    settings: Arc::clone(&settings),
                    telemetry: telemetry.clone(),
                }
                .into_routes(),
            );
        for receiver in receivers {
            let paths = receiver.provider().room().paths;
            let webhook = Webhook {
                receiver,
                settings: Arc::clone(&settings),
                max_body: common.max_body,
                rules: Arc::clone(&rules),
                queue: Arc::new(store.clone()),
                intake: intake.clone(),
                telemetry: telemetry.clone(),
                clock: Clock::SYSTEM,
            };
            router = router.merge(webhook.into_routes(paths));
        }
        if let Some(gate) = build_events {
            let gate = Arc::new(gate);
            let build_events = BuildEvents {
                gate: Arc::clone(&gate),
                settings: Arc::clone(&settings),
                rules: Arc::clone(&rules),
                queue: Arc::new(store.clone()),
                intake: intake.clone(),
                telemetry: telemetry.clone(),
                clock: Clock::SYSTEM,
            };
            let otlp = Otlp {
                gate,
                settings,
                max_body: common.max_body,
                rules,
                queue: Arc::new(store.clone()),
                intake,
                telemetry: telemetry.clone(),
                clock: Clock::SYSTEM,
            };
            router = router
                .merge(build_events.into_routes(&["/build-events"]))
                .merge(otlp.into_routes());
            paths.extend(["build-events", OTLP]);
        }
        router = unconfigured(router, &paths)
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method)
            .layer(CatchPanicLayer::new())
            .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT));

        let listener = TcpListener::bind(listen).await.map_err(|error| {
            failure(format!("{listen} can't be listened on ({error}); choose another --listen"))
        })?;
        let address = listener.local_addr().map_err(failure)?;
        let (stop, stopped) = watch::channel(false);
        let serving = listen::serve(listener, router, files::connections(), stopped.clone());
        Ok(Self {
            address,
            server: tokio::spawn(serving),
            forwarder: tokio::spawn(forwarding::run(
                store.clone(),
                target,
                telemetry.clone(),
                stopped,
            )),
            store,
            paths,
            forwarding_to,
            stop,
            telemetry,
        })
    }

    fn welcome(&self) -> String {
        let mut text = format!("spanhook listens on http://{}\n", self.address);
        for path in &self.paths {
            text += &format!("  {path:<18} POST /{path}\n");
        }
        text += "  trace context      GET  /traceparent/…\n";
        text += &match &self.forwarding_to {
            Some(target) => format!("  spans go to        {target}\n"),
            None => {
                "  traces are shown at / (no Collector: OTEL_EXPORTER_OTLP_ENDPOINT is not set)\n"
                    .to_owned()
            }
        };
        text
    }

    /// Serves until SIGINT or SIGTERM, then finishes what was begun. When a part of it ends by
    /// itself the process ends, for whatever supervises it to start it again: deliveries must not
    /// be answered 202 with nobody to forward them.
    pub(crate) async fn until_signal(mut self) -> Result<(), Failure> {
        let mut terminate =
            signal::unix::signal(signal::unix::SignalKind::terminate()).map_err(failure)?;
        tokio::select! {
            _ = signal::ctrl_c() => {}
            _ = terminate.recv() => {}
            _ = &mut self.forwarder => {
                return Err(failure("forwarding stopped, which it never should; start spanhook again, nothing is lost"));
            }
            () = self.store.ended() => {
                return Err(failure("the queue's writer stopped, which it never should; start spanhook again, nothing is lost"));
            }
            ended = &mut self.server => {
                let reason = match ended {
                    Ok(()) => "it ended".to_owned(),
                    Err(error) => error.to_string(),
                };
                return Err(failure(format!("the server stopped: {reason}")));
            }
        }
        self.shut_down().await;
        Ok(())
    }

    pub(crate) async fn shut_down(self) {
        tracing::info!("stopping: open requests are finished, what is queued stays queued");
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(SHUTDOWN, async {
            let _ = self.server.await;
            let _ = self.forwarder.await;
        })
        .await;
        self.telemetry.flush(Instant::now() + FLUSH).await;
    }
}

async fn gate(settings: Result<GateSettings, SettingsError>) -> Result<Gate, Failure> {
    Gate::open(settings.map_err(failure)?).await.map_err(failure)
}

/// The paths of what jobs export: of traces, metrics and logs.
const OTLP: &str = "v1/{signal}";

/// What proves build events, and what jobs export.
const BUILD_EVENTS: &str = "BUILD_EVENTS_SIGNING_KEY, BUILD_EVENTS_TOKEN or OIDC_ISSUERS";

/// Build events are taken when there is a way to prove who sends them.
async fn build_events_gate(vars: &Vars) -> Result<Option<Gate>, Failure> {
    if !GateSettings::take_build_events(vars) {
        return Ok(None);
    }
    gate(GateSettings::build_events(vars)).await.map(Some)
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
