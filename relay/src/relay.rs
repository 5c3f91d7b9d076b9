//! All parts together: one process.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::Router;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use reqwest::Url;
use spanhook_core::settings::var;
use spanhook_export::{client, clock::Clock, environment, innermost};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    signal,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tracing_subscriber::EnvFilter;

use crate::{
    deliver::{Deliver, QUEUE},
    keys::{Keys, KeysError},
    kind::Kind,
    ledger::{Ledger, Scope},
    metrics::Metrics,
    options::Options,
    pass::Pass,
    post::{Pace, Post},
    serve::Condition,
    watch::{Shared, Watch, WatchPace},
};

/// How long a sender of a delivery waits while the receiver is away.
const HOLD: Duration = Duration::from_secs(60);

/// How fast things are tried again. Tests have less time.
#[derive(Clone, Copy, Debug)]
pub struct Paces {
    /// Of requests to the receiver.
    pub post: Pace,
    /// Of watches.
    pub watch: WatchPace,
}

impl Default for Paces {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self {
            post: Pace { first: second, most: Duration::from_secs(60) },
            watch: WatchPace {
                absent: Duration::from_secs(60),
                failed: Pace { first: second, most: Duration::from_secs(30) },
            },
        }
    }
}

/// A relay that can't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// There is neither a service account nor a kubeconfig.
    #[error(
        "no cluster is known ({0}); run the relay in a Pod with a service account, or set KUBECONFIG"
    )]
    Cluster(String),
    /// The HTTP client.
    #[error("the HTTP client can't be set up: {0}")]
    Client(#[from] reqwest::Error),
    /// An address that is taken.
    #[error("{address} can't be listened on ({reason}); choose another {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What chooses it.
        flag: &'static str,
        /// Why not.
        reason: std::io::Error,
    },
}

impl Options {
    /// With what only the environment says.
    #[must_use]
    pub fn with_environment(mut self) -> Self {
        self.signing_key = var(&environment(), "KUBERNETES_SIGNING_KEY").map(ToOwned::to_owned);
        self
    }
}

/// Starts logging to standard error, as JSON, at `LOG_LEVEL` or `info`. Of what the Kubernetes client
/// says of its own failures, the relay's words are enough.
pub fn init_logs() {
    let vars = environment();
    let level = var(&vars, "LOG_LEVEL").unwrap_or("info,kube_runtime=error,kube_client=error");
    let logs = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(level));
    let _ =
        logs.json().flatten_event(true).with_ansi(false).with_writer(std::io::stderr).try_init();
}

/// Waits for SIGTERM or SIGINT.
pub async fn until_signal() {
    let terminate = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => pending().await,
        }
    };
    tokio::select! {
        _ = signal::ctrl_c() => {}
        _ = terminate => {}
    }
}

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    /// Where probes are answered.
    pub listen: SocketAddr,
    /// Where deliveries are taken.
    pub deliveries: Option<SocketAddr>,
    watches: Vec<JoinHandle<()>>,
    deliver: JoinHandle<()>,
    servers: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    flush: Duration,
}

impl Relay {
    /// Starts with the cluster that the process is in, or the one of `KUBECONFIG`.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        // The process may have two providers linked in: it has to choose. Once is enough.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Client::try_default().await;
        let cluster = cluster.map_err(|error| StartError::Cluster(innermost(&error)))?;
        Self::start_with(options, cluster, Paces::default()).await
    }

    /// The same with a client of the caller's.
    pub async fn start_with(
        options: Options,
        cluster: Client,
        paces: Paces,
    ) -> Result<Self, StartError> {
        let keys = Arc::new(Keys::open(options.signing_key.as_deref(), options.signing_key_file)?);
        let clock = Clock::SYSTEM;
        let post = Post { client: client().build()?, endpoint: options.endpoint, keys, clock };
        let metrics = Arc::new(Metrics::default());
        let listener = bind("--listen", options.listen).await?;
        let deliveries = match options.deliveries {
            Some(address) => Some(bind("--deliveries", address).await?),
            None => None,
        };

        let (outbox, items) = mpsc::channel(QUEUE);
        let now = clock.since_epoch().try_into().unwrap_or_default();
        let now = Timestamp::from_duration(now).unwrap_or_default();
        let backfill = options.backfill.try_into().unwrap_or(SignedDuration::MAX);
        let condition_outbox = outbox.downgrade();
        let shared = Shared {
            ledger: Arc::new(Mutex::new(Ledger::new(now, backfill))),
            outbox,
            metrics: Arc::clone(&metrics),
            clock,
            pace: paces.watch,
        };
        // An empty variable names none.
        let mut namespaces = options.namespaces;
        namespaces.retain(|it| !it.is_empty());
        let (watches, settled) = watches(&cluster, &namespaces, &shared);
        let deliver = Deliver {
            cluster: options.cluster,
            wait: options.batch_wait,
            post: post.clone(),
            pace: paces.post,
            metrics: Arc::clone(&metrics),
        };
        log(&deliver.cluster, &post.endpoint, &namespaces);

        let (stop, stopped) = watch::channel(false);
        let condition =
            Condition { outbox: condition_outbox, settled, metrics: Arc::clone(&metrics) };
        let mut relay = Self {
            listen: listener.1,
            deliveries: deliveries.as_ref().map(|it| it.1),
            watches,
            deliver: tokio::spawn(deliver.run(items)),
            servers: vec![serve(listener.0, condition.into_router(), stopped.clone())],
            stop,
            flush: options.flush,
        };
        if let Some((listener, _)) = deliveries {
            let pass = Pass { post, pace: paces.post, hold: HOLD, metrics };
            relay.servers.push(serve(listener, pass.into_router(), stopped));
        }
        Ok(relay)
    }

    /// Stops watching, and sends what was seen. What can't be sent in time is listed by the next
    /// start.
    pub async fn stop(mut self) {
        tracing::info!("stopping: what was seen is sent");
        let deadline = Instant::now() + self.flush;
        let _ = self.stop.send(true);
        // A watch that is gone has given up its end of the queue.
        for watch in self.watches.drain(..) {
            watch.abort();
            let _ = watch.await;
        }
        if timeout_at(deadline, &mut self.deliver).await.is_err() {
            tracing::warn!("not all could be sent; the next start lists it within --backfill");
        }
        for server in &mut self.servers {
            let _ = timeout_at(deadline, server).await;
        }
    }
}

/// Nothing of a relay outlives it.
impl Drop for Relay {
    fn drop(&mut self) {
        self.watches.iter().chain(&self.servers).for_each(JoinHandle::abort);
        self.deliver.abort();
    }
}

fn watches(
    cluster: &Client,
    namespaces: &[String],
    shared: &Shared,
) -> (Vec<JoinHandle<()>>, Vec<watch::Receiver<bool>>) {
    let named = namespaces.iter().cloned().map(Some);
    let scopes: Vec<Scope> = if namespaces.is_empty() { vec![None] } else { named.collect() };
    let mut all = (Vec::new(), Vec::new());
    for scope in scopes {
        let mut of_pods = None;
        for kind in Kind::ALL {
            let (settled, is_settled) = watch::channel(false);
            // Events are listed after the Pods that they belong to: most others are of strangers.
            let after = if kind == Kind::Event { of_pods.take() } else { None };
            let (client, scope, shared) = (cluster.clone(), scope.clone(), shared.clone());
            let watch = Watch { client, kind, scope, after, settled, shared };
            all.0.push(tokio::spawn(watch.run()));
            if kind == Kind::Pod {
                of_pods = Some(is_settled.clone());
            }
            all.1.push(is_settled);
        }
    }
    all
}

fn log(cluster: &str, endpoint: &Url, namespaces: &[String]) {
    let namespaces = if namespaces.is_empty() { "*".to_owned() } else { namespaces.join(",") };
    tracing::info!(cluster, %endpoint, namespaces, "the relay has started");
}

async fn bind(
    flag: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |reason| StartError::Listen { address, flag, reason };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
    let stopped = async move {
        let _ = stop.wait_for(|it| *it).await;
    };
    tokio::spawn(async move {
        // Accepting does not fail for good.
        let _ = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
    })
}
