//! `spanhook serve`: all functions behind one port.

mod demo;
mod files;
mod forwarding;
mod health;
mod listen;
mod logs;
mod queue;
pub(crate) mod role;
mod services;
mod source;
pub(crate) mod store;
#[cfg(test)]
mod tests;
pub(crate) mod view;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, http::StatusCode};
use clap::{Args, Subcommand};
use spanhook_core::{
    provider::Provider,
    settings::{Variable, Vars},
};
use spanhook_service::{
    answer::{not_found, wrong_method},
    export::shown,
    live::with_documents,
    settings::environment,
    target::Target,
    telemetry::{LOG_LEVEL, Telemetry, TelemetrySettings},
};
use tokio::{net::TcpListener, signal, sync::watch, task::JoinHandle, time::Instant};
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use crate::terminal::{Failure, failure, print};
use queue::Queue;
use role::{ROLE, Role};
use services::Services;
use source::{SharedSource, Source};
use store::{DATA_LIMIT, LIMIT, Store, parse_bytes};
use view::page::hosts::Hosts;

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
    /// What this process does; a half of it alone needs a queue that processes share
    #[arg(long, env = ROLE.name, default_value = ROLE.default)]
    pub(crate) role: Role,
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
  QUEUE_URL                    SQS queue in place of --data, which several processes may share
All of them: docs/settings.md. `spanhook check` says which are missing or wrong."
    )
}

impl Serve {
    /// Everything with a queue in a folder, on a free port of this machine.
    pub(crate) fn local(data: &std::path::Path) -> Self {
        Self {
            listen: ([127, 0, 0, 1], 0).into(),
            data: data.to_owned(),
            data_limit: DATA_LIMIT,
            role: Role::All,
        }
    }

    pub(crate) async fn run(self) -> Result<(), Failure> {
        let vars = environment();
        logs::init(&vars, LOG_LEVEL.default);
        let vars = with_documents(&vars).await.map_err(failure)?;
        let running = Running::start(&vars, &self).await?;
        print(running.welcome());
        running.until_signal().await
    }
}

/// A started process.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    queue: Queue,
    role: Role,
    /// The services that deliveries are posted to.
    paths: Vec<&'static str>,
    forwarding_to: Option<String>,
    server: JoinHandle<()>,
    forwarder: JoinHandle<()>,
    stop: watch::Sender<bool>,
    telemetry: Telemetry,
}

impl Running {
    pub(crate) async fn start(vars: &Vars, serve: &Serve) -> Result<Self, Failure> {
        let role = serve.role;
        let services = if role.receives() { Some(Services::open(vars).await?) } else { None };
        let target =
            if role.forwards() { Target::open(vars).await.map_err(failure)? } else { None };
        role.check(vars, target.is_some()).map_err(failure)?;
        let forwarding_to = target.as_ref().map(|it| shown(&it.settings.endpoint));
        let telemetry = TelemetrySettings::parse(vars).map_err(failure)?;
        let telemetry = Telemetry::exporting("spanhook-serve", &telemetry).map_err(failure)?;
        let queue = Queue::open(vars, &serve.data, serve.data_limit).await?;

        let hosts = Hosts::parse(vars);
        let page = match &queue {
            Queue::Embedded(store) => {
                let source = Source::new(store.clone(), forwarding_to.clone(), telemetry.clone());
                view::page::router(Arc::new(source), hosts)
            }
            Queue::Shared(shared) => {
                let others = "other processes, by the queue that they share".to_owned();
                let source = SharedSource {
                    queue: shared.clone(),
                    forwarding_to: forwarding_to.clone().unwrap_or(others),
                    telemetry: telemetry.clone(),
                };
                view::page::router(Arc::new(source), hosts)
            }
        };
        let paths = services.as_ref().map(Services::paths).unwrap_or_default();
        let services = services.map(|it| it.into_router(queue.clone(), &telemetry));
        let router = page
            .merge(health::router(queue.clone()))
            .merge(services.unwrap_or_else(Router::new))
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method)
            .layer(CatchPanicLayer::new())
            .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT));

        let listen = serve.listen;
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            failure(format!("{listen} can't be listened on ({error}); choose another --listen"))
        })?;
        let address = listener.local_addr().map_err(failure)?;
        let (stop, mut stopped) = watch::channel(false);
        let serving = listen::serve(listener, router, files::connections(), stopped.clone());
        let forwarder = if role.forwards() {
            let (queue, telemetry) = (queue.clone(), telemetry.clone());
            tokio::spawn(forwarding::run(queue, target, telemetry, stopped))
        } else {
            tokio::spawn(async move { drop(stopped.wait_for(|stop| *stop).await) })
        };
        Ok(Self {
            address,
            server: tokio::spawn(serving),
            forwarder,
            queue,
            role,
            paths,
            forwarding_to,
            stop,
            telemetry,
        })
    }

    /// The queue, where it is this process's own.
    pub(crate) fn store(&self) -> Option<&Store> {
        match &self.queue {
            Queue::Embedded(store) => Some(store),
            Queue::Shared(_) => None,
        }
    }

    fn welcome(&self) -> String {
        let mut text = format!("spanhook listens on http://{}\n", self.address);
        for path in &self.paths {
            text += &format!("  {path:<18} POST /{path}\n");
        }
        if self.role.receives() {
            text += "  trace context      GET  /traceparent/…\n";
        }
        if matches!(self.queue, Queue::Shared(_)) {
            text += "  the queue is       that of QUEUE_URL, which other processes may share\n";
        }
        text += &match &self.forwarding_to {
            _ if !self.role.forwards() => {
                "  spans go to        the queue; other processes forward them\n".to_owned()
            }
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
            reason = self.queue.ended() => return Err(failure(reason)),
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
            self.queue.give_back().await;
        })
        .await;
        self.telemetry.flush(Instant::now() + FLUSH).await;
    }
}
