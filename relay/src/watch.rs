//! The watch of one kind in one namespace, or in all.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    runtime::watcher::{self, Event, watcher},
};
use spanhook_export::clock::Clock;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use crate::{
    item::{Change, Item},
    kind::Kind,
    ledger::{Ledger, Scope},
    metrics::{Label, Metric, Metrics},
    post::Pace,
};

/// How long a hint about the same thing is not repeated.
const HINT: Duration = Duration::from_secs(15 * 60);

/// How often what was watched is refused before an operator hears of it: an API server that has just
/// started forbids, or does not know, what it will a moment later.
const REFUSALS: u32 = 3;

/// How often it is tried again.
#[derive(Clone, Copy, Debug)]
pub struct WatchPace {
    /// What is not there, or not allowed: at most.
    pub absent: Duration,
    /// What failed.
    pub failed: Pace,
}

/// What all watches share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// What was sent.
    pub ledger: Arc<Mutex<Ledger>>,
    /// Where items go. Waiting for room in it pauses the watch.
    pub outbox: mpsc::Sender<Item>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Dates what is seen.
    pub clock: Clock,
    /// Between tries.
    pub pace: WatchPace,
}

/// One watch.
pub struct Watch {
    /// The API server.
    pub client: Client,
    /// What is watched.
    pub kind: Kind,
    /// Where.
    pub scope: Scope,
    /// What has to be settled before.
    pub after: Option<watch::Receiver<bool>>,
    /// Is told once it is known what there is.
    pub settled: watch::Sender<bool>,
    /// What it shares.
    pub shared: Shared,
}

/// Why a watch has to begin anew.
enum End {
    /// The API server does not know the kind, or this version of it.
    Absent,
    /// The service account may not read it.
    Forbidden,
    /// The API server has forgotten what it told last.
    Expired,
}

/// The queue is closed: the relay stops.
struct Closed;

impl Watch {
    /// Watches until the relay stops.
    pub async fn run(mut self) {
        if let Some(after) = &mut self.after {
            // One that is gone will not settle any more.
            let _ = after.wait_for(|it| *it).await;
        }
        let (mut hinted, versions) = (None::<Instant>, self.kind.versions().1);
        let (mut version, mut refusals, mut was_watched) = (0, 0, false);
        loop {
            let resource = self.kind.resource(versions[version]);
            let mut is_listed = false;
            let Ok(end) = self.follow(&resource, &mut is_listed).await else { return };
            if is_listed {
                (was_watched, refusals) = (true, 0);
            }
            self.count(Metric::Watching, None, 0);
            let (reason, hint) = match end {
                End::Expired => {
                    self.count(Metric::WatchErrors, Some("expired"), 1);
                    sleep(self.shared.pace.failed.pause(1)).await;
                    continue;
                }
                End::Absent => {
                    version = (version + 1) % versions.len();
                    if version != 0 {
                        continue;
                    }
                    ("absent", "the cluster has none of this kind; it is looked for again")
                }
                End::Forbidden => (
                    "forbidden",
                    "the relay's service account may not get, list and watch this kind; add it to its role",
                ),
            };
            self.count(Metric::WatchErrors, Some(reason), 1);
            self.settled.send_replace(true);
            refusals += 1;
            let lasts = !was_watched || refusals >= REFUSALS;
            if lasts && hinted.is_none_or(|it| it.elapsed() >= HINT) {
                hinted = Some(Instant::now());
                let namespace = self.namespace();
                if matches!(end, End::Forbidden) {
                    tracing::warn!(kind = self.kind.as_str(), namespace, "{hint}");
                } else {
                    tracing::info!(kind = self.kind.as_str(), namespace, "{hint}");
                }
            }
            let pace = Pace { most: self.shared.pace.absent, ..self.shared.pace.failed };
            sleep(pace.pause(refusals)).await;
        }
    }

    /// Reads the list, then what changes.
    async fn follow(&self, resource: &ApiResource, is_listed: &mut bool) -> Result<End, Closed> {
        let client = self.client.clone();
        let api: Api<DynamicObject> = match &self.scope {
            Some(namespace) => Api::namespaced_with(client, namespace, resource),
            None => Api::all_with(client, resource),
        };
        let mut stream = pin!(watcher(api, self.kind.selection()));
        let mut failures = 0;
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => {
                    // `Init` says only that a list is going to be asked for.
                    if !matches!(event, Event::Init) {
                        failures = 0;
                    }
                    *is_listed |= matches!(event, Event::InitDone);
                    self.tell(event, &resource.api_version).await?;
                }
                Err(error) => {
                    if let Some(end) = end(&error) {
                        return Ok(end);
                    }
                    failures += 1;
                    if is_expired(&error) {
                        // Usual after a while without changes: the stream lists again.
                        self.count(Metric::WatchErrors, Some("expired"), 1);
                        sleep(self.shared.pace.failed.pause(failures)).await;
                        continue;
                    }
                    self.count(Metric::WatchErrors, Some("failed"), 1);
                    let kind = self.kind.as_str();
                    // An object that can't be read may be quoted in the whole of it.
                    tracing::warn!(kind, failures, reason = reason(&error), "watch failed");
                    sleep(self.shared.pace.failed.pause(failures)).await;
                }
            }
        }
        Ok(End::Expired)
    }

    async fn tell(&self, event: Event<DynamicObject>, api_version: &str) -> Result<(), Closed> {
        let is_listed = matches!(event, Event::InitDone);
        let items = match event {
            Event::Init => {
                if self.kind == Kind::Pod {
                    self.ledger().begin_list(&self.scope);
                }
                return Ok(());
            }
            Event::InitApply(object) => self.observe(Change::Added, &object, api_version),
            Event::Apply(object) => self.observe(Change::Modified, &object, api_version),
            Event::Delete(object) => self.observe(Change::Deleted, &object, api_version),
            Event::InitDone => {
                self.count(Metric::Lists, None, 1);
                self.count(Metric::Watching, None, 1);
                if self.kind == Kind::Pod {
                    self.ledger().end_list(&self.scope, self.now())
                } else {
                    Vec::new()
                }
            }
        };
        for item in items {
            self.shared.metrics.add(Metric::Queued, &[], 1);
            self.shared.outbox.send(item).await.map_err(|_| Closed)?;
        }
        if is_listed {
            self.settled.send_replace(true);
        }
        Ok(())
    }

    fn observe(&self, change: Change, object: &DynamicObject, api_version: &str) -> Vec<Item> {
        // It was read as JSON: there is nothing that can't be written.
        let object = serde_json::to_value(object).unwrap_or_default();
        let now = self.now();
        self.ledger().observe(&self.scope, self.kind, change, (api_version, &object), now)
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        let since_epoch = self.shared.clock.since_epoch();
        Timestamp::from_duration(since_epoch.try_into().unwrap_or_default()).unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.scope.as_deref().unwrap_or("*")
    }

    fn count(&self, metric: Metric, reason: Option<&str>, value: u64) {
        let labels = [("kind", self.kind.as_str()), ("namespace", self.namespace())];
        let labels: Vec<Label<'_>> =
            labels.into_iter().chain(reason.map(|it| ("reason", it))).collect();
        match metric {
            Metric::Watching => self.shared.metrics.set(metric, &labels, value),
            _ => self.shared.metrics.add(metric, &labels, value),
        }
    }
}

/// Whether this watch has to end because of an error. Otherwise the stream goes on by itself: from
/// where it was, or with a list when it says so.
fn end(error: &watcher::Error) -> Option<End> {
    let (watcher::Error::InitialListFailed(cause)
    | watcher::Error::WatchStartFailed(cause)
    | watcher::Error::WatchFailed(cause)) = error
    else {
        return None;
    };
    let kube::Error::Api(status) = cause else { return None };
    match status.code {
        403 => Some(End::Forbidden),
        404 => Some(End::Absent),
        // While it watches the stream lists again by itself; when it was about to it would ask for
        // the same for ever.
        410 => Some(End::Expired),
        _ => None,
    }
}

/// As an API server says within a stream that it has forgotten what comes next.
fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(status) if status.code == 410)
}

/// What is told of an error: its kind and the API server's code and reason.
fn reason(error: &watcher::Error) -> String {
    let of_client = |what: &str, error: &kube::Error| match error {
        kube::Error::Api(status) => format!("{what}: {} {}", status.code, status.reason),
        kube::Error::SerdeError(_) => format!("{what}: the answer can't be read"),
        error => format!("{what}: {}", spanhook_export::innermost(error)),
    };
    match error {
        watcher::Error::InitialListFailed(error) => of_client("list", error),
        watcher::Error::WatchStartFailed(error) => of_client("start", error),
        watcher::Error::WatchFailed(error) => of_client("watch", error),
        watcher::Error::WatchError(status) => format!("watch: {} {}", status.code, status.reason),
        watcher::Error::NoResourceVersion => "the answer has no resourceVersion".to_owned(),
    }
}
