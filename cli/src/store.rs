//! The embedded queue of the local process, in place of SQS, and the traces that it shows.
//!
//! One writer thread takes everything that waits, writes it as one batch with one `fdatasync`, and
//! then answers all of it (group commit). Bodies live on disk; memory holds eight bytes for each
//! waiting message.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use spanhook_core::message::Message;
use spanhook_service::queue::{Inbox, Outbox, QueueError, Received};
use thiserror::Error;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, timeout_at},
};

/// Writes that may wait for the disk before senders wait too.
const WAITING_WRITES: usize = 4096;

/// The most that one commit takes along, in bytes of bodies.
const COMMIT_BYTES: usize = 8 * 1024 * 1024;

/// How long a received message is hidden unless it is settled.
const VISIBILITY: Duration = Duration::from_secs(300);

/// The most bytes of bodies that one batch holds in memory.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// How many traces are kept to be shown.
const KEPT_TRACES: usize = 1000;

/// A queue that can't be used.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// Another process has it.
    #[error("another spanhook uses {0}; stop that one, or choose another folder with --data")]
    Locked(String),
    /// The files can't be read or written.
    #[error(
        "the queue in {folder} can't be opened ({reason}); check the folder's permissions and free space, or choose another with --data"
    )]
    Unusable {
        /// The folder.
        folder: String,
        /// What the storage engine said.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("the queue can't be read: {0}")]
    Read(#[from] fjall::Error),
}

/// A message as it is kept.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    body: std::borrow::Cow<'a, str>,
    attributes: BTreeMap<String, String>,
}

/// A change of the index that waits for its write to be durable.
type Change = Box<dyn FnOnce(&mut Index)>;

/// What the writer is asked for.
enum Write {
    Enqueue(Vec<Message>),
    DeadLetter(Vec<Message>),
    /// Delivered: forget them.
    Delete(Vec<u64>),
    /// To the dead letters, with a reason.
    Reject(u64, String),
    /// Dead letters out, messages in.
    Redrive(Vec<u64>, Vec<Message>),
    /// Delivered to the process's own page.
    Show(Vec<(u64, Vec<String>, String)>),
}

struct Request {
    write: Write,
    done: oneshot::Sender<Result<usize, QueueError>>,
}

/// The queue. Clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    inner: Arc<Inner>,
    writer: mpsc::Sender<Request>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("depth", &self.depth()).finish_non_exhaustive()
    }
}

struct Inner {
    db: Database,
    queue: Keyspace,
    dead: Keyspace,
    /// `{trace id}/{hash of the body}` to the signal and the body, `traces:…`.
    traces: Keyspace,
    /// Sequence number to trace id, oldest first.
    recent: Keyspace,
    index: Mutex<Index>,
    arrived: Notify,
    /// Grows with every trace that is kept.
    shown: AtomicU64,
}

/// What is known of waiting messages without reading them.
#[derive(Default)]
struct Index {
    next: u64,
    ready: VecDeque<u64>,
    /// Hidden until then: received and not settled, or resting.
    hidden: BTreeSet<(Instant, u64)>,
    hidden_until: HashMap<u64, Instant>,
    /// How often those were received that were received at all.
    received: HashMap<u64, u32>,
    dead: usize,
    shown: HashMap<String, u64>,
    shown_order: BTreeMap<u64, String>,
}

impl Index {
    fn hide(&mut self, id: u64, until: Instant) {
        self.reveal(id);
        self.hidden.insert((until, id));
        self.hidden_until.insert(id, until);
    }

    fn reveal(&mut self, id: u64) -> bool {
        self.hidden_until.remove(&id).is_some_and(|until| self.hidden.remove(&(until, id)))
    }

    fn forget(&mut self, id: u64) {
        self.reveal(id);
        self.received.remove(&id);
    }

    /// Makes what has rested long enough ready again, before what is new.
    fn wake(&mut self, now: Instant) {
        while let Some(&(until, id)) = self.hidden.first().filter(|(until, _)| *until <= now) {
            self.hidden.remove(&(until, id));
            self.hidden_until.remove(&id);
            self.ready.push_front(id);
        }
    }
}

impl Store {
    /// Opens the queue in a folder, and makes both if need be. What was hidden when the process
    /// ended is ready again.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let unusable = |error: fjall::Error| match error {
            fjall::Error::Locked => StoreError::Locked(folder.display().to_string()),
            error => StoreError::Unusable {
                folder: folder.display().to_string(),
                reason: error.to_string(),
            },
        };
        let db = Database::builder(folder)
            .cache_size(4 * 1024 * 1024)
            .max_journaling_size(64 * 1024 * 1024)
            .worker_threads(1)
            .manual_journal_persist(true)
            .open()
            .map_err(unusable)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(4 * 1024 * 1024);
        let keyspace = |name| db.keyspace(name, options).map_err(unusable);
        let inner = Inner {
            queue: keyspace("queue")?,
            dead: keyspace("dead")?,
            traces: keyspace("traces")?,
            recent: keyspace("recent")?,
            db,
            index: Mutex::default(),
            arrived: Notify::new(),
            shown: AtomicU64::new(0),
        };
        inner.load()?;
        let inner = Arc::new(inner);
        let (writer, requests) = mpsc::channel(WAITING_WRITES);
        let writing = Arc::clone(&inner);
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writing.run(requests))
            .map_err(|error| StoreError::Unusable {
                folder: folder.display().to_string(),
                reason: error.to_string(),
            })?;
        Ok(Self { inner, writer })
    }

    async fn write(&self, write: Write) -> Result<usize, QueueError> {
        let closed =
            |reason: &str| QueueError::Refused { failed: 1, total: 1, reason: reason.to_owned() };
        let (done, answer) = oneshot::channel();
        let sent = self.writer.send(Request { write, done }).await;
        sent.map_err(|_| closed("the queue is closed"))?;
        answer.await.map_err(|_| closed("the queue is closed"))?
    }

    /// Messages that wait, hidden ones included.
    #[must_use]
    pub(crate) fn depth(&self) -> usize {
        let index = self.inner.index();
        index.ready.len() + index.hidden.len()
    }

    /// Messages and deliveries in the dead-letter queue.
    #[must_use]
    pub(crate) fn dead_letters(&self) -> usize {
        self.inner.index().dead
    }

    /// Receives up to `max` messages, waiting until there is one or `until` comes.
    pub(crate) async fn receive(
        &self,
        max: usize,
        until: Instant,
    ) -> Result<Vec<Received>, StoreError> {
        loop {
            let arrived = self.inner.arrived.notified();
            let batch = self.inner.take(max)?;
            if !batch.is_empty() || Instant::now() >= until {
                return Ok(batch);
            }
            let next = self.inner.index().hidden.first().map(|(at, _)| *at);
            let _ = timeout_at(next.unwrap_or(until).min(until), arrived).await;
        }
    }

    /// Forgets delivered messages. Lost in a crash, it only means a second delivery.
    pub(crate) async fn delete(&self, messages: &[&Received]) -> Result<(), QueueError> {
        let ids = messages.iter().filter_map(|it| it.receipt.parse().ok()).collect();
        self.write(Write::Delete(ids)).await.map(drop)
    }

    /// Moves delivered messages to what is shown of the traces that they belong to.
    pub(crate) async fn show(
        &self,
        messages: Vec<(&Received, Vec<String>)>,
    ) -> Result<(), QueueError> {
        let moved = messages.into_iter().filter_map(|(message, traces)| {
            let signal = message.attributes.get("signal").map_or("traces", String::as_str);
            let kept = format!("{signal}:{}", message.body);
            Some((message.receipt.parse().ok()?, traces, kept))
        });
        self.write(Write::Show(moved.collect())).await.map(drop)
    }

    /// The dead letters, oldest first.
    pub(crate) fn dead(&self) -> Result<Vec<Received>, StoreError> {
        let mut found = Vec::new();
        for entry in self.inner.dead.iter() {
            let (key, value) = entry.into_inner()?;
            if let Ok(record) = serde_json::from_slice::<Record<'_>>(&value) {
                let id = sequence(&key).to_string();
                found.push(Received {
                    receipt: id.clone(),
                    id,
                    body: record.body.into_owned(),
                    attributes: record.attributes,
                    receive_count: 1,
                });
            }
        }
        Ok(found)
    }

    /// Takes dead letters out and puts messages into the queue, in one step.
    pub(crate) async fn redrive(
        &self,
        letters: &[Received],
        messages: Vec<Message>,
    ) -> Result<(), QueueError> {
        let ids = letters.iter().filter_map(|it| it.receipt.parse().ok()).collect();
        self.write(Write::Redrive(ids, messages)).await.map(drop)
    }

    /// The newest traces' ids, newest first.
    #[must_use]
    pub(crate) fn traces(&self, limit: usize) -> Vec<String> {
        self.inner.index().shown_order.values().rev().take(limit).cloned().collect()
    }

    /// A number that changes whenever a trace does.
    #[must_use]
    pub(crate) fn version(&self) -> u64 {
        self.inner.shown.load(Ordering::Acquire)
    }

    /// The bodies of a trace's messages.
    pub(crate) fn trace(&self, id: &str) -> Result<Vec<String>, StoreError> {
        let mut bodies = Vec::new();
        for entry in self.inner.traces.prefix(format!("{id}/")) {
            bodies.push(String::from_utf8_lossy(&entry.value()?).into_owned());
        }
        Ok(bodies)
    }
}

impl Inner {
    fn index(&self) -> MutexGuard<'_, Index> {
        // A panic elsewhere leaves the index whole: every change to it is a single step.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self) -> Result<(), StoreError> {
        let mut index = self.index();
        for entry in self.queue.iter() {
            let id = sequence(&entry.key()?);
            index.ready.push_back(id);
            index.next = id + 1;
        }
        for entry in self.dead.iter() {
            index.next = index.next.max(sequence(&entry.key()?) + 1);
            index.dead += 1;
        }
        for entry in self.recent.iter() {
            let (key, value) = entry.into_inner()?;
            let trace = String::from_utf8_lossy(&value).into_owned();
            let id = sequence(&key);
            index.next = index.next.max(id + 1);
            index.shown.insert(trace.clone(), id);
            index.shown_order.insert(id, trace);
        }
        Ok(())
    }

    fn take(&self, max: usize) -> Result<Vec<Received>, StoreError> {
        let now = Instant::now();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < max && bytes < BATCH_BYTES {
            let id = {
                let mut index = self.index();
                index.wake(now);
                let Some(id) = index.ready.pop_front() else { break };
                index.hide(id, now + VISIBILITY);
                id
            };
            let Some(value) = self.queue.get(id.to_be_bytes())? else {
                self.index().forget(id);
                continue;
            };
            let mut index = self.index();
            let count = index.received.entry(id).or_insert(0);
            *count += 1;
            // A record that can't be read is handed on empty: the forwarder rejects it.
            let record = serde_json::from_slice(&value);
            let record: Record<'_> =
                record.unwrap_or_else(|_| Record { body: "".into(), attributes: BTreeMap::new() });
            bytes += record.body.len();
            batch.push(Received {
                id: id.to_string(),
                receipt: id.to_string(),
                body: record.body.into_owned(),
                attributes: record.attributes,
                receive_count: *count,
            });
        }
        Ok(batch)
    }

    fn run(&self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut batch = vec![first];
            let mut bytes = 0;
            while bytes < COMMIT_BYTES {
                let Ok(next) = requests.try_recv() else { break };
                if let Write::Enqueue(messages) | Write::DeadLetter(messages) = &next.write {
                    bytes += messages.iter().map(|it| it.body.len()).sum::<usize>();
                }
                batch.push(next);
            }
            let (writes, waiting): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|it| (it.write, it.done)).unzip();
            match self.commit(writes) {
                Ok(counts) => {
                    for (done, count) in waiting.into_iter().zip(counts) {
                        // Who asked may have gone away; what it asked for is done all the same.
                        let _ = done.send(Ok(count));
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the queue can't be written; free disk space and restart");
                    for done in waiting {
                        let reason = "the disk refused the write".to_owned();
                        let _ = done.send(Err(QueueError::Refused { failed: 1, total: 1, reason }));
                    }
                }
            }
        }
    }

    /// One batch on disk, then the index: what is not durable is not visible.
    fn commit(&self, writes: Vec<Write>) -> Result<Vec<usize>, fjall::Error> {
        let durable = writes.iter().any(|it| !matches!(it, Write::Delete(_)));
        let mode = if durable { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.db.batch().durability(Some(mode));
        let mut changes: Vec<Change> = Vec::new();
        let mut counts = Vec::with_capacity(writes.len());
        let mut next = self.index().next;
        let mut sequence_number = || {
            next += 1;
            next - 1
        };
        for write in writes {
            let mut count = 0;
            match write {
                Write::Enqueue(messages) => {
                    for message in messages {
                        let id = sequence_number();
                        batch.insert(&self.queue, id.to_be_bytes(), encode(message));
                        changes.push(Box::new(move |index| index.ready.push_back(id)));
                        count += 1;
                    }
                }
                Write::DeadLetter(messages) => {
                    for message in messages {
                        batch.insert(&self.dead, sequence_number().to_be_bytes(), encode(message));
                        changes.push(Box::new(|index| index.dead += 1));
                        count += 1;
                    }
                }
                Write::Delete(ids) => {
                    for id in ids {
                        batch.remove(&self.queue, id.to_be_bytes());
                        changes.push(Box::new(move |index| index.forget(id)));
                        count += 1;
                    }
                }
                Write::Reject(id, reason) => {
                    let value = self.queue.get(id.to_be_bytes())?;
                    if let Some(value) = value {
                        batch.insert(&self.dead, id.to_be_bytes(), with_reason(&value, reason));
                        batch.remove(&self.queue, id.to_be_bytes());
                        changes.push(Box::new(move |index| {
                            index.forget(id);
                            index.dead += 1;
                        }));
                        count += 1;
                    }
                }
                Write::Redrive(letters, messages) => {
                    for letter in letters {
                        batch.remove(&self.dead, letter.to_be_bytes());
                        changes.push(Box::new(|index| index.dead = index.dead.saturating_sub(1)));
                    }
                    for message in messages {
                        let id = sequence_number();
                        batch.insert(&self.queue, id.to_be_bytes(), encode(message));
                        changes.push(Box::new(move |index| index.ready.push_back(id)));
                        count += 1;
                    }
                }
                Write::Show(messages) => {
                    for (id, traces, body) in messages {
                        let hash = hex(&Sha256::digest(&body)[..8]);
                        for trace in traces {
                            let at = sequence_number();
                            let old = self.index().shown.get(&trace).copied();
                            if let Some(old) = old {
                                batch.remove(&self.recent, old.to_be_bytes());
                            }
                            batch.insert(&self.traces, format!("{trace}/{hash}"), &*body);
                            batch.insert(&self.recent, at.to_be_bytes(), trace.as_bytes());
                            // At once, so that a second message of the trace in this batch sees it.
                            let mut index = self.index();
                            if let Some(old) = index.shown.insert(trace.clone(), at) {
                                index.shown_order.remove(&old);
                            }
                            index.shown_order.insert(at, trace);
                        }
                        batch.remove(&self.queue, id.to_be_bytes());
                        changes.push(Box::new(move |index| index.forget(id)));
                        count += 1;
                    }
                    self.expire(&mut batch)?;
                }
            }
            counts.push(count);
        }
        batch.commit()?;
        let mut index = self.index();
        index.next = next;
        for change in changes {
            change(&mut index);
        }
        drop(index);
        self.shown.fetch_add(1, Ordering::AcqRel);
        self.arrived.notify_waiters();
        Ok(counts)
    }

    /// Removes the oldest traces that are too many to show.
    fn expire(&self, batch: &mut fjall::OwnedWriteBatch) -> Result<(), fjall::Error> {
        let mut index = self.index();
        while index.shown_order.len() > KEPT_TRACES {
            let Some((at, trace)) = index.shown_order.pop_first() else { break };
            index.shown.remove(&trace);
            batch.remove(&self.recent, at.to_be_bytes());
            for entry in self.traces.prefix(format!("{trace}/")) {
                batch.remove(&self.traces, entry.key()?);
            }
        }
        Ok(())
    }
}

impl Outbox for Store {
    async fn send(&self, messages: Vec<Message>) -> Result<(), QueueError> {
        self.write(Write::Enqueue(messages)).await.map(drop)
    }

    async fn dead_letter(&self, messages: Vec<Message>) -> Result<(), QueueError> {
        self.write(Write::DeadLetter(messages)).await.map(drop)
    }
}

impl Inbox for Store {
    async fn back_off(&self, messages: &[(&Received, Duration)]) -> Result<(), QueueError> {
        let mut index = self.inner.index();
        for (message, pause) in messages {
            if let Ok(id) = message.receipt.parse() {
                index.hide(id, Instant::now() + *pause);
            }
        }
        Ok(())
    }

    async fn reject(&self, message: &Received, reason: &str) -> Result<(), QueueError> {
        let id = message.receipt.parse().unwrap_or(u64::MAX);
        self.write(Write::Reject(id, reason.to_owned())).await.map(drop)
    }
}

fn encode(message: Message) -> Vec<u8> {
    let record = Record { body: message.body.into(), attributes: message.attributes };
    // Text under text keys always serializes.
    serde_json::to_vec(&record).unwrap_or_default()
}

fn with_reason(value: &[u8], reason: String) -> Vec<u8> {
    let record: Result<Record<'_>, _> = serde_json::from_slice(value);
    let Ok(mut record) = record else { return value.to_vec() };
    record.attributes.insert("reason".to_owned(), reason);
    serde_json::to_vec(&record).unwrap_or_else(|_| value.to_vec())
}

fn sequence(key: &[u8]) -> u64 {
    key.try_into().map_or(0, u64::from_be_bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn message(name: &str) -> Message {
        let attributes = BTreeMap::from([("trace_id".to_owned(), "ab".repeat(16))]);
        Message { body: name.to_owned(), attributes, group: String::new() }
    }

    async fn take(store: &Store, max: usize) -> Vec<Received> {
        store.receive(max, Instant::now()).await.unwrap()
    }

    fn bodies(batch: &[Received]) -> Vec<&str> {
        batch.iter().map(|it| it.body.as_str()).collect()
    }

    #[tokio::test]
    async fn messages_come_in_order_once_and_again_only_when_they_are_due() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.send(vec![message("a"), message("b"), message("c")]).await.unwrap();
        let batch = take(&store, 2).await;
        assert_eq!(bodies(&batch), ["a", "b"]);
        assert_eq!(bodies(&take(&store, 9).await), ["c"]);
        assert!(take(&store, 9).await.is_empty(), "all are hidden");
        store.back_off(&[(&batch[1], Duration::ZERO)]).await.unwrap();
        store.delete(&[&batch[0]]).await.unwrap();
        let again = take(&store, 9).await;
        assert_eq!((bodies(&again), again[0].receive_count), (vec!["b"], 2));
        assert_eq!(store.depth(), 2);
    }

    #[tokio::test]
    async fn what_was_not_deleted_is_there_after_a_restart() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.send((0..100).map(|it| message(&it.to_string())).collect()).await.unwrap();
        let batch = take(&store, 60).await;
        store.delete(&batch.iter().take(40).collect::<Vec<_>>()).await.unwrap();
        store.reject(&batch[50], "poison").await.unwrap();
        // The writer ends with its last handle and lets go of the folder.
        let inner = Arc::downgrade(&store.inner);
        drop(store);
        while inner.strong_count() > 0 {
            thread::yield_now();
        }
        let store = Store::open(folder.path()).unwrap();
        assert_eq!((store.depth(), store.dead_letters()), (59, 1));
        assert_eq!(take(&store, 1000).await.len(), 59);
        let dead = store.dead().unwrap();
        assert_eq!(
            (dead[0].body.as_str(), dead[0].attributes["reason"].as_str()),
            ("50", "poison")
        );
    }

    #[tokio::test]
    async fn a_second_store_on_the_same_folder_is_refused() {
        let folder = TempDir::new().unwrap();
        let _store = Store::open(folder.path()).unwrap();
        assert!(matches!(Store::open(folder.path()), Err(StoreError::Locked(_))));
    }

    fn placed(batch: &[Received]) -> Vec<(&Received, Vec<String>)> {
        batch.iter().map(|it| (it, vec![it.attributes["trace_id"].clone()])).collect()
    }

    #[tokio::test]
    async fn the_oldest_traces_make_room_for_new_ones() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let of = |number: usize| {
            let attributes = BTreeMap::from([("trace_id".to_owned(), format!("{number:032x}"))]);
            Message { body: format!("body {number}"), attributes, group: String::new() }
        };
        store.send((0..KEPT_TRACES + 5).map(of).collect()).await.unwrap();
        loop {
            let batch = take(&store, 400).await;
            if batch.is_empty() {
                break;
            }
            store.show(placed(&batch)).await.unwrap();
        }
        let traces = store.traces(usize::MAX);
        assert_eq!((traces.len(), store.depth()), (KEPT_TRACES, 0));
        assert_eq!(traces[0], format!("{:032x}", KEPT_TRACES + 4), "newest first");
        assert!(store.trace(&format!("{:032x}", 0)).unwrap().is_empty(), "the oldest is gone");
        assert_eq!(store.trace(&traces[0]).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn the_same_message_twice_is_kept_once() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.send(vec![message("same"), message("same"), message("other")]).await.unwrap();
        let batch = take(&store, 9).await;
        store.show(placed(&batch)).await.unwrap();
        assert_eq!(store.trace(&"ab".repeat(16)).unwrap().len(), 2);
        assert_eq!(store.traces(9).len(), 1);
    }
}
