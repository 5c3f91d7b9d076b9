//! The embedded queue of the local process, in place of SQS, and the traces that it shows.
//!
//! Messages are records in a few files ([`record`], [`segments`]); memory holds about forty bytes
//! for each that waits ([`index`]); one thread writes ([`writer`]). A record stands for itself:
//! what can't be read any more is set aside, counted and reported, and everything else is served.

mod gallery;
mod index;
mod payload;
mod record;
mod segments;
mod space;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::BTreeSet,
    fmt,
    fs::File,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use spanhook_core::{message::Message, otlp::encode::Limits};
use spanhook_service::forward::REQUEST_LIMIT;
use spanhook_service::queue::{Inbox, Outbox, QueueError, Received};
use thiserror::Error;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use index::{Index, Place};
use payload::{Draft, Kept};
use record::{Found, Kind};
use segments::{Reader, Segments};
use space::Space;
pub(crate) use space::{DATA_LIMIT, LIMIT, parse_bytes};
use writer::{Request, Write, Writer, refused};

/// Writes that may wait for the disk before senders wait too.
const WAITING_WRITES: usize = 4096;

/// How long a received message is hidden unless it is settled.
const VISIBILITY: Duration = Duration::from_secs(300);

/// How long a message rests that can't be read for now, such as for want of open files.
const UNREADABLE: Duration = Duration::from_secs(10);

/// Bytes of bodies from which on a batch takes no more: with the largest message it is one request.
const BATCH_BYTES: usize = REQUEST_LIMIT - Limits::BYTES.raw;

/// A queue that can't be used.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// Another process has it.
    #[error("another spanhook uses {0}; stop that one, or choose another folder with --data")]
    Locked(String),
    /// It was written by a version that kept its queue in another way.
    #[error(
        "the queue in {0} was written by an earlier version; let that one deliver it, or choose another folder with --data"
    )]
    Foreign(String),
    /// The files can't be read or written.
    #[error("the queue in {folder} can't be opened ({error}); {advice}")]
    Unusable {
        /// The folder.
        folder: String,
        /// What the system said.
        error: io::Error,
        /// What to do about it.
        advice: &'static str,
    },
}

/// How the queue is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// The last write failed.
    pub(crate) failed: bool,
    /// There is no room for another delivery.
    pub(crate) full: bool,
    /// Bytes of its files.
    pub(crate) bytes: u64,
    /// Bytes that its files may have.
    pub(crate) capacity: u64,
    /// Entries that can't be read and were set aside, since the start.
    pub(crate) damaged: usize,
}

/// The queue. Clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    inner: Arc<Inner>,
    writer: mpsc::Sender<Request>,
    alive: watch::Receiver<()>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("depth", &self.depth()).finish_non_exhaustive()
    }
}

struct Inner {
    index: Mutex<Index>,
    reader: Reader,
    arrived: Notify,
    /// Grows with every change.
    version: AtomicU64,
    failed: AtomicBool,
    full: AtomicBool,
    bytes: AtomicU64,
    capacity: AtomicU64,
    damaged: AtomicUsize,
    /// Held as long as the queue is used.
    _lock: File,
}

/// What is on disk under an id.
enum Fetched {
    /// Its record, which is whole.
    Record(Bytes),
    /// Nothing, or nothing any more.
    Gone,
    /// Not to be read at the moment.
    Later,
}

impl Store {
    /// Opens the queue in a folder with the usual limit, and makes both if need be.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_limited(folder, DATA_LIMIT)
    }

    /// Opens the queue in a folder, which may grow to `limit` bytes. What was hidden when the
    /// process ended is ready again.
    pub(crate) fn open_limited(folder: &Path, limit: u64) -> Result<Self, StoreError> {
        let name = || folder.display().to_string();
        let unusable = |error: io::Error| StoreError::Unusable {
            folder: name(),
            advice: advice(&error),
            error,
        };
        segments::prepare(folder).map_err(unusable)?;
        if folder.join("keyspaces").exists() {
            return Err(StoreError::Foreign(name()));
        }
        let Some(lock) = segments::lock(folder).map_err(unusable)? else {
            return Err(StoreError::Locked(name()));
        };
        let mut segments = Segments::open(folder, limit).map_err(unusable)?;
        let inner = Inner {
            index: Mutex::default(),
            reader: Reader::new(folder),
            arrived: Notify::new(),
            version: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            full: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            capacity: AtomicU64::new(0),
            damaged: AtomicUsize::new(0),
            _lock: lock,
        };
        inner.load(&mut segments).map_err(unusable)?;
        let inner = Arc::new(inner);
        let (writer, requests) = mpsc::channel(WAITING_WRITES);
        let (sign_of_life, alive) = watch::channel(());
        Writer::new(Arc::clone(&inner), segments, Space::new(folder, limit))
            .spawn(requests, sign_of_life)
            .map_err(unusable)?;
        Ok(Self { inner, writer, alive })
    }

    async fn write(&self, write: Write) -> Result<(), QueueError> {
        let (done, answer) = oneshot::channel();
        let sent = self.writer.send(Request { write, done }).await;
        sent.map_err(|_| refused("the queue is closed"))?;
        answer.await.map_err(|_| refused("the queue is closed"))?
    }

    /// Messages that wait, hidden ones included.
    #[must_use]
    pub(crate) fn depth(&self) -> usize {
        self.inner.index().depth()
    }

    /// Messages and deliveries in the dead-letter queue.
    #[must_use]
    pub(crate) fn dead_letters(&self) -> usize {
        self.inner.index().dead().len()
    }

    /// How the queue is doing.
    #[must_use]
    pub(crate) fn condition(&self) -> Condition {
        let inner = &self.inner;
        Condition {
            failed: inner.failed.load(Ordering::Acquire),
            full: inner.full.load(Ordering::Acquire),
            bytes: inner.bytes.load(Ordering::Acquire),
            capacity: inner.capacity.load(Ordering::Acquire),
            damaged: inner.damaged.load(Ordering::Acquire),
        }
    }

    /// Whether writes still have somebody who takes them.
    #[must_use]
    pub(crate) fn is_alive(&self) -> bool {
        !self.writer.is_closed()
    }

    /// Ends the writer as a mistake in it would.
    #[cfg(test)]
    pub(crate) async fn break_writer(&self) {
        let _ = self.write(Write::Panic).await;
    }

    /// Returns when the thread that writes has ended, which it never should.
    pub(crate) async fn ended(&self) {
        // Nothing is ever sent; an error is what says that the sender is gone.
        while self.alive.clone().changed().await.is_ok() {}
    }

    /// Receives up to `max` messages, waiting until there is one or `until` comes.
    pub(crate) async fn receive(&self, max: usize, until: Instant) -> Vec<Received> {
        loop {
            let arrived = self.inner.arrived.notified();
            let batch = self.inner.take(max);
            if !batch.is_empty() || Instant::now() >= until {
                return batch;
            }
            let next = self.inner.index().next_at();
            let _ = timeout_at(next.unwrap_or(until).min(until), arrived).await;
        }
    }

    /// What rests is received again at once, when there is nothing else.
    pub(crate) fn wake(&self) {
        self.inner.index().wake();
    }

    /// Forgets delivered messages. Lost in a crash, it only means a second delivery.
    pub(crate) async fn delete(&self, messages: &[&Received]) -> Result<(), QueueError> {
        let ids = messages.iter().filter_map(|it| it.receipt.parse().ok()).collect();
        self.write(Write::Delete(ids)).await
    }

    /// Moves delivered messages to what is shown of the traces that they belong to.
    pub(crate) async fn show(
        &self,
        messages: Vec<(&Received, Vec<String>)>,
    ) -> Result<(), QueueError> {
        let moved = messages.into_iter().filter_map(|(message, traces)| {
            let (body, attributes) = (&message.body, &message.attributes);
            let draft = Draft::new(Kind::Shown, body, attributes, &traces);
            Some((message.receipt.parse().ok()?, draft))
        });
        self.write(Write::Show(moved.collect())).await
    }

    /// The dead letters, oldest first.
    pub(crate) fn dead(&self) -> Vec<Received> {
        let ids: Vec<_> = self.inner.index().dead().collect();
        ids.into_iter().filter_map(|id| self.read(id)).collect()
    }

    /// Takes dead letters out and puts messages into the queue, in one write. One that a crash breaks
    /// off leaves letters that were redriven, never the other way round.
    pub(crate) async fn redrive(
        &self,
        letters: &[Received],
        messages: Vec<Message>,
    ) -> Result<(), QueueError> {
        let ids = letters.iter().filter_map(|it| it.receipt.parse().ok()).collect();
        self.write(Write::Redrive(ids, drafts(Kind::Queued, &messages))).await
    }

    /// The newest traces' ids, newest first, each with a number that changes with the trace.
    #[must_use]
    pub(crate) fn traces(&self, limit: usize) -> Vec<(String, u64)> {
        self.inner.index().gallery.newest(limit)
    }

    /// A number that changes whenever a trace does.
    #[must_use]
    pub(crate) fn version(&self) -> u64 {
        self.inner.version.load(Ordering::Acquire)
    }

    /// A trace's messages, newest first, each read when it is asked for.
    pub(crate) fn trace(&self, id: &str) -> impl Iterator<Item = Received> {
        let ids = self.inner.index().gallery.ids(id);
        ids.into_iter().filter_map(|id| self.read(id))
    }

    fn read(&self, id: u64) -> Option<Received> {
        let Fetched::Record(record) = self.inner.fetch(id) else { return None };
        received(id, &record, 1)
    }
}

impl Inner {
    fn index(&self) -> MutexGuard<'_, Index> {
        // A panic elsewhere leaves the index whole: every change to it is a single step.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads everything, and says what can't be read.
    fn load(&self, segments: &mut Segments) -> io::Result<()> {
        let mut index = self.index();
        // Ids whose record is damaged; a later one may stand for it.
        let mut lost = BTreeSet::new();
        let mut unknown = 0;
        for segment in segments.closed() {
            let bytes = self.reader.read_all(segment)?;
            let (mut damaged, mut places) = (0, 0);
            let begins = |found: &Found<'_>| matches!(found, Found::Record(it) if it.begins);
            let writes = record::scan(&bytes).filter(|(.., it)| begins(it));
            let newest = writes.last().map_or(usize::MAX, |(start, ..)| start);
            for (start, length, found) in record::scan(&bytes) {
                match found {
                    Found::Record(record) => {
                        lost.remove(&record.id);
                        if record.kind == record::Kind::Settled {
                            lost.retain(|lost| {
                                record::settled(record.payload).all(|id| id != *lost)
                            });
                        }
                        let number = |it: usize| u32::try_from(it).map_err(io::Error::other);
                        let place =
                            Place { segment, offset: number(start)?, length: number(length)? };
                        index.put(&record, place);
                    }
                    Found::Unused => segments.ends_at(segment, start as u64)?,
                    Found::Damaged(_) if start > newest => tracing::info!(
                        file = self.reader.name(segment),
                        byte = start,
                        bytes = length,
                        "a part of the last write was broken off; it had not been answered yet"
                    ),
                    Found::CutOff => tracing::info!(
                        file = self.reader.name(segment),
                        byte = start,
                        "the last write was broken off; it had not been answered yet"
                    ),
                    Found::Damaged(id) => {
                        damaged += length;
                        places += 1;
                        match id {
                            // An earlier record of the same id is still good.
                            Some(id) if index.place(id).is_some() => {}
                            Some(id) if id > 0 => lost.extend([id]),
                            _ => unknown += 1,
                        }
                        index.damage(segment, id);
                    }
                }
            }
            if places > 0 {
                tracing::error!(
                    file = self.reader.name(segment),
                    bytes = damaged,
                    of_bytes = bytes.len(),
                    places,
                    "a file of the queue is damaged; what can't be read is passed over, and the file is kept as .damaged when the rest of it is delivered"
                );
            }
        }
        index.ready_all();
        let missing = lost.len() + unknown;
        self.damaged.store(missing, Ordering::Release);
        if missing > 0 {
            tracing::error!(
                missing,
                "at most so many messages are missing, and some may be delivered twice; all others are served. See what the disk reports"
            );
        }
        Ok(())
    }

    fn take(&self, max: usize) -> Vec<Received> {
        let now = Instant::now();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < max && bytes < BATCH_BYTES {
            let Some(id) = self.index().next_due(now, now + VISIBILITY) else { break };
            let record = match self.fetch(id) {
                Fetched::Record(record) => record,
                Fetched::Gone => continue,
                // Then the next can't be read either, most likely.
                Fetched::Later => {
                    self.index().hide(id, now + UNREADABLE);
                    break;
                }
            };
            let count = self.index().received(id);
            // A record that can't be understood is handed on empty: the forwarder rejects it.
            let message = received(id, &record, count).unwrap_or_else(|| Received {
                id: id.to_string(),
                receipt: id.to_string(),
                receive_count: count,
                ..Received::default()
            });
            bytes += message.body.len();
            batch.push(message);
        }
        batch
    }

    /// The whole record of what is kept under an id. One that can't be read is set aside.
    fn fetch(&self, id: u64) -> Fetched {
        let Some(mut place) = self.index().place(id) else { return Fetched::Gone };
        loop {
            let reason = match self.reader.read(place) {
                Ok(bytes) if record::read(&bytes).is_ok_and(|it| it.id == id) => {
                    return Fetched::Record(bytes.into());
                }
                Ok(_) => "its checksum does not hold".to_owned(),
                Err(error) if segments::is_lost(&error) => error.to_string(),
                Err(error) => {
                    tracing::warn!(%error, "a message can't be read for now; it rests a while");
                    return Fetched::Later;
                }
            };
            // It may have been moved or settled in the meantime.
            let mut index = self.index();
            match index.place(id) {
                None => return Fetched::Gone,
                Some(now) if now != place => place = now,
                Some(_) => {
                    index.set_aside(id, place.segment);
                    drop(index);
                    self.damaged.fetch_add(1, Ordering::AcqRel);
                    tracing::error!(
                        file = self.reader.name(place.segment),
                        byte = place.offset,
                        bytes = place.length,
                        reason,
                        "a message can't be read and is set aside, in its file; all others are served"
                    );
                    return Fetched::Gone;
                }
            }
        }
    }
}

impl Outbox for Store {
    async fn send(&self, messages: Vec<Message>) -> Result<(), QueueError> {
        self.write(Write::Add(drafts(Kind::Queued, &messages))).await
    }

    async fn dead_letter(&self, messages: Vec<Message>) -> Result<(), QueueError> {
        self.write(Write::Add(drafts(Kind::Dead, &messages))).await
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
        self.write(Write::Reject(id, reason.to_owned())).await
    }
}

fn drafts(kind: Kind, messages: &[Message]) -> Vec<Draft> {
    messages.iter().map(|it| Draft::message(kind, it)).collect()
}

fn received(id: u64, bytes: &Bytes, receive_count: u32) -> Option<Received> {
    let Kept { body, attributes, .. } = Kept::read(&record::written(bytes)?)?;
    let body = Kept::bytes(body, bytes);
    Some(Received { id: id.to_string(), receipt: id.to_string(), body, attributes, receive_count })
}

/// What an operator does about an error of the system.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "let spanhook write there, or choose another folder with --data"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free disk space, or choose another folder with --data"
        }
        _ => "see what the disk reports, or choose another folder with --data",
    }
}
