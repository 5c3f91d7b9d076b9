//! An API server in memory: lists with pages, watches with history, bookmarks, and faults on demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Query, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

pub(crate) struct Cluster {
    address: std::net::SocketAddr,
    server: JoinHandle<()>,
    shared: Shared,
}

#[derive(Clone)]
struct Shared {
    state: Arc<Mutex<Store>>,
    /// Counts changes, so that open watches look again.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Store {
    version: u64,
    /// By path of the kind, as `/apis/tekton.dev/v1/taskruns`.
    history: BTreeMap<String, Vec<(u64, &'static str, Value)>>,
    /// What is asked for is served from here on.
    compacted: u64,
    /// Whether that is said by the status of the answer.
    gone_by_status: bool,
    /// Watches that were opened before this are closed.
    epoch: u64,
    forbidden: BTreeSet<String>,
    /// Served kinds; all others are absent.
    served: BTreeSet<String>,
    /// So many requests get this status.
    failing: (u32, u16),
    slow: Duration,
    page: usize,
    /// Requests by path, with verbs.
    asked: BTreeMap<(String, &'static str), u64>,
}

/// Where each kind is served.
pub(crate) fn path_of(kind: &str) -> &'static str {
    match kind {
        "Pod" => "/api/v1/pods",
        "Event" => "/api/v1/events",
        "PipelineRun" => "/apis/tekton.dev/v1/pipelineruns",
        "TaskRun" => "/apis/tekton.dev/v1/taskruns",
        "CustomRun" => "/apis/tekton.dev/v1beta1/customruns",
        "LighthouseJob" => "/apis/lighthouse.jenkins.io/v1alpha1/lighthousejobs",
        "PipelineActivity" => "/apis/jenkins.io/v1/pipelineactivities",
        kind => panic!("{kind}"),
    }
}

const KINDS: [&str; 7] =
    ["Pod", "Event", "PipelineRun", "TaskRun", "CustomRun", "LighthouseJob", "PipelineActivity"];

impl Cluster {
    /// A cluster that knows every kind.
    pub(crate) async fn start() -> Self {
        let cluster = Self::bare().await;
        KINDS.iter().for_each(|kind| cluster.serve(path_of(kind)));
        cluster
    }

    /// A cluster that knows none.
    pub(crate) async fn bare() -> Self {
        let state = Arc::new(Mutex::new(Store { page: 2, version: 10, ..Store::default() }));
        let shared = Shared { state, changed: watch::channel(0).0 };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, server, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.shared.state.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let result = change(&mut self.store());
        self.shared.changed.send_modify(|it| *it += 1);
        result
    }

    /// Creates or replaces an object.
    pub(crate) fn put(&self, object: &Value) {
        self.put_at(path_of(object["kind"].as_str().unwrap()), object);
    }

    /// The same, served elsewhere.
    pub(crate) fn put_at(&self, path: &str, object: &Value) {
        self.change(|store| {
            let mut history = store.history.get(path).into_iter().flatten().rev();
            let last = history.find(|(_, _, it)| uid(it) == uid(object));
            let is_new = last.is_none_or(|(_, change, _)| *change == "DELETED");
            store.record(path, if is_new { "ADDED" } else { "MODIFIED" }, object);
        });
    }

    pub(crate) fn delete(&self, object: &Value) {
        let path = path_of(object["kind"].as_str().unwrap());
        self.change(|store| store.record(path, "DELETED", object));
    }

    pub(crate) fn serve(&self, path: &str) {
        self.change(|store| store.served.insert(path.to_owned()));
    }

    pub(crate) fn forbid(&self, kind: &str) {
        self.change(|store| store.forbidden.insert(path_of(kind).to_owned()));
    }

    pub(crate) fn permit(&self, kind: &str) {
        self.change(|store| store.forbidden.remove(path_of(kind)));
    }

    /// Closes all watches.
    pub(crate) fn drop_watches(&self) {
        self.change(|store| store.epoch += 1);
    }

    /// Closes all watches and forgets what they would be told next: 410 for whoever asks.
    pub(crate) fn expire(&self) {
        self.change(|store| {
            store.epoch += 1;
            store.version += 1;
            store.compacted = store.version;
        });
    }

    /// From now on 410 is a status, as some proxies and servers have it, not the first line.
    pub(crate) fn say_gone_by_status(&self) {
        self.store().gone_by_status = true;
    }

    /// Closes all watches and answers the next requests with an error.
    pub(crate) fn fail(&self, times: u32, status: u16) {
        self.change(|store| (store.epoch, store.failing) = (store.epoch + 1, (times, status)));
    }

    pub(crate) fn slow(&self, slow: Duration) {
        self.change(|store| store.slow = slow);
    }

    /// How many objects a page of a list has.
    pub(crate) fn page(&self, page: usize) {
        self.store().page = page;
    }

    /// How often a kind was listed, or a watch of it begun.
    pub(crate) fn asked(&self, kind: &str, verb: &'static str) -> u64 {
        self.store().asked.get(&(path_of(kind).to_owned(), verb)).copied().unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Store {
    fn record(&mut self, path: &str, change: &'static str, object: &Value) {
        self.version += 1;
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.history.entry(path.to_owned()).or_default().push((self.version, change, object));
    }

    fn current(&self, path: &str) -> BTreeMap<String, Value> {
        self.at(path, self.version)
    }

    /// What there was at a version.
    fn at(&self, path: &str, version: u64) -> BTreeMap<String, Value> {
        let mut current = BTreeMap::new();
        let history = self.history.get(path).into_iter().flatten();
        for (_, change, object) in history.take_while(|it| it.0 <= version) {
            if *change == "DELETED" {
                current.remove(uid(object));
            } else {
                current.insert(uid(object).to_owned(), object.clone());
            }
        }
        current
    }
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap()
}

/// An error as an API server writes it.
fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("made up: {reason}"), "reason": reason, "code": code})
}

fn error(code: u16, reason: &str) -> Response {
    (StatusCode::from_u16(code).unwrap(), axum::Json(status(code, reason))).into_response()
}

/// `/apis/x/v1/namespaces/jx/things` as `/apis/x/v1/things` and `jx`.
fn place(path: &str) -> (String, Option<String>) {
    let parts: Vec<_> = path.split('/').collect();
    match parts.iter().position(|it| *it == "namespaces") {
        Some(at) => {
            ([&parts[..at], &parts[at + 2..]].concat().join("/"), Some(parts[at + 1].to_owned()))
        }
        None => (path.to_owned(), None),
    }
}

type Asked = BTreeMap<String, String>;

async fn answer(State(shared): State<Shared>, uri: Uri, Query(asked): Query<Asked>) -> Response {
    let (path, namespace) = place(uri.path());
    let is_watch = asked.get("watch").is_some_and(|it| it == "true" || it == "1");
    let slow = {
        let mut store = shared.state.lock().unwrap();
        let verb = if is_watch { "watch" } else { "list" };
        *store.asked.entry((path.clone(), verb)).or_default() += 1;
        if store.failing.0 > 0 {
            store.failing.0 -= 1;
            return error(store.failing.1, "InternalError");
        }
        if store.forbidden.contains(&path) {
            return error(403, "Forbidden");
        }
        if !store.served.contains(&path) {
            return error(404, "NotFound");
        }
        store.slow
    };
    tokio::time::sleep(slow).await;
    let is_selected = move |object: &Value| {
        let of = |field: &str| asked_field(object, field);
        let in_place = namespace.as_ref().is_none_or(|it| of("namespace") == *it);
        let labelled =
            path_is_pods(object) && object["metadata"]["labels"]["tekton.dev/taskRun"].is_null();
        in_place && !labelled
    };
    if is_watch {
        watch(&shared, path, &asked, is_selected)
    } else {
        list(&shared.state.lock().unwrap(), &path, &asked, is_selected)
    }
}

fn asked_field(object: &Value, field: &str) -> String {
    object["metadata"][field].as_str().unwrap_or_default().to_owned()
}

fn path_is_pods(object: &Value) -> bool {
    object["kind"] == "Pod"
}

fn list(
    store: &Store,
    path: &str,
    asked: &Asked,
    is_selected: impl Fn(&Value) -> bool,
) -> Response {
    // All pages are of the moment of the first.
    let token = asked.get("continue").and_then(|it| it.split_once('.'));
    let (version, from) = token.map_or((store.version, 0), |(version, from)| {
        (version.parse().unwrap(), from.parse().unwrap())
    });
    let all: Vec<_> = store.at(path, version).into_values().filter(is_selected).collect();
    let page = asked.get("limit").map_or(all.len(), |_| store.page);
    let items: Vec<_> = all.iter().skip(from).take(page).cloned().map(bare).collect();
    let next = from + items.len();
    let more = if next < all.len() { format!("{version}.{next}") } else { String::new() };
    let metadata = json!({"resourceVersion": version.to_string(), "continue": more});
    axum::Json(json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
        .into_response()
}

/// The items of a list do not say what they are.
fn bare(mut object: Value) -> Value {
    object.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
    object
}

fn watch(
    shared: &Shared,
    path: String,
    asked: &Asked,
    is_selected: impl Fn(&Value) -> bool + Send + Sync + 'static,
) -> Response {
    let from: u64 = asked.get("resourceVersion").map_or(0, |it| it.parse().unwrap());
    let (compacted, epoch, by_status) = {
        let store = shared.state.lock().unwrap();
        (store.compacted, store.epoch, store.gone_by_status)
    };
    if from < compacted && by_status {
        return error(410, "Expired");
    }
    if from < compacted {
        // As recorded: the status is 200, and the first line says that it is over.
        let gone = json!({"type": "ERROR", "object": status(410, "Expired")});
        return format!("{gone}\n").into_response();
    }
    let state = Arc::clone(&shared.state);
    let changed = shared.changed.subscribe();
    let lines = stream::unfold((from, changed), move |(seen, mut changed)| {
        let (state, path) = (Arc::clone(&state), path.clone());
        let next = {
            let store = state.lock().unwrap();
            let open = store.epoch == epoch && !store.forbidden.contains(&path);
            let history = store.history.get(&path).map(Vec::as_slice).unwrap_or_default();
            let unseen = history.partition_point(|(version, _, _)| *version <= seen);
            let next = history[unseen..].iter().find(|(_, _, object)| is_selected(object));
            open.then(|| next.cloned())
        };
        async move {
            if let Some((version, change, object)) = next? {
                let line = format!("{}\n", json!({"type": change, "object": object}));
                return Some((Ok::<_, Infallible>(line), (version, changed)));
            }
            changed.changed().await.ok()?;
            Some((Ok(String::new()), (seen, changed)))
        }
    });
    Body::from_stream(lines).into_response()
}
