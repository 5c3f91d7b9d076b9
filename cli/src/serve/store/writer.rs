//! The one thread that writes.
//!
//! It takes everything that waits, writes it as one batch with one `fdatasync`, and then answers
//! all of it (group commit). A write that fails is refused and tried again with the next one;
//! meanwhile the thread tries by itself, so that it knows when there is room again.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use spanhook_service::queue::QueueError;
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    Fetched, Inner,
    index::{Index, Place},
    payload::{Draft, Kept},
    record::{self, Coding, Kind},
    segments::Segments,
    space::Space,
};

/// The most that one commit takes along, in bytes of bodies.
const COMMIT_BYTES: usize = 8 * 1024 * 1024;

/// How soon a writer that could not write tries again by itself.
const RETRY: Duration = Duration::from_secs(1);

/// Segments that are emptied in one go, before writes have their turn again.
const CARRIED_AT_ONCE: usize = 4;

/// What must still fit for the queue not to count as full: a message of the usual largest size.
const ONE_MESSAGE: u64 = 256 * 1024;

/// What the writer is asked for.
pub(super) enum Write {
    /// Messages and dead letters, in.
    Add(Vec<Draft>),
    /// Delivered: forget them.
    Delete(Vec<u64>),
    /// To the dead letters, with a reason.
    Reject(u64, String),
    /// Dead letters out, messages in.
    Redrive(Vec<u64>, Vec<Draft>),
    /// Delivered to the process's own page.
    Show(Vec<(u64, Draft)>),
    #[cfg(test)]
    Panic,
}

impl Write {
    /// Those that come in.
    fn drafts(&self) -> &[Draft] {
        match self {
            Self::Add(drafts) | Self::Redrive(_, drafts) => drafts,
            _ => &[],
        }
    }

    fn bytes(&self) -> usize {
        self.drafts().iter().map(|it| record::HEADER + it.payload.len()).sum()
    }
}

pub(super) struct Request {
    pub(super) write: Write,
    pub(super) done: oneshot::Sender<Result<(), QueueError>>,
}

pub(super) struct Writer {
    inner: Arc<Inner>,
    segments: Segments,
    space: Space,
    /// What is forgotten but not yet on disk as that. Lost in a crash, it is delivered again.
    settled: Vec<u64>,
    warned: bool,
}

/// Records that are to be written.
struct Batch {
    bytes: Vec<u8>,
    /// Where each record begins.
    starts: Vec<usize>,
    /// The highest id that was given.
    last: u64,
    /// Messages that are ready once they are on disk.
    ready: Vec<u64>,
    durable: bool,
}

impl Batch {
    fn after(last: u64) -> Self {
        Self { bytes: Vec::new(), starts: Vec::new(), last, ready: Vec::new(), durable: false }
    }

    fn add(&mut self, id: u64, draft: &Draft) {
        let begins = self.starts.is_empty();
        self.starts.push(self.bytes.len());
        record::write(&mut self.bytes, draft, id, begins);
    }

    fn add_new(&mut self, drafts: &[Draft]) {
        for draft in drafts {
            self.last += 1;
            self.add(self.last, draft);
            if draft.kind == Kind::Queued {
                self.ready.push(self.last);
            }
        }
    }

    fn settle(&mut self, ids: &[u64]) {
        if !ids.is_empty() {
            self.add(0, &Draft::settled(ids));
        }
    }

    /// Makes visible what is on disk.
    fn apply(self, index: &mut Index, written: Place) {
        for start in self.starts {
            if let Some(record) = record::written(&self.bytes[start..]) {
                index.put(&record, within(written, start, record.payload.len()));
            }
        }
        self.ready.into_iter().for_each(|id| index.ready(id));
    }
}

/// The place of one of the records that were written together.
fn within(written: Place, start: usize, payload: usize) -> Place {
    // All of them together are no longer than a `u32`, or they were not written.
    let number = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
    Place {
        offset: written.offset.saturating_add(number(start)),
        length: number(record::HEADER + payload),
        ..written
    }
}

impl Writer {
    pub(super) fn new(inner: Arc<Inner>, segments: Segments, space: Space) -> Self {
        let settled = inner.index().expire();
        let mut writer = Self { inner, segments, space, settled, warned: false };
        writer.tidy();
        writer.report();
        writer
    }

    /// Starts the thread. `alive` is dropped when it ends, however that comes about.
    pub(super) fn spawn(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        alive: watch::Sender<()>,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        thread::Builder::new().name("store".to_owned()).spawn(move || {
            let _alive = alive;
            self.run(&runtime, &mut requests);
        })?;
        Ok(())
    }

    fn run(&mut self, runtime: &Runtime, requests: &mut mpsc::Receiver<Request>) {
        loop {
            let first = if self.inner.failed.load(Ordering::Acquire)
                || self.inner.full.load(Ordering::Acquire)
            {
                let next = async { timeout(RETRY, requests.recv()).await };
                let Ok(first) = runtime.block_on(next) else {
                    self.retry();
                    continue;
                };
                first
            } else {
                requests.blocking_recv()
            };
            let Some(first) = first else {
                self.segments.end();
                return;
            };
            let mut bytes = first.write.bytes();
            let mut batch = vec![first];
            while bytes < COMMIT_BYTES {
                let Ok(next) = requests.try_recv() else { break };
                bytes += next.write.bytes();
                batch.push(next);
            }
            self.commit(batch);
        }
    }

    /// Finds out whether there is room, and whether writing works.
    fn retry(&mut self) {
        if self.inner.failed.load(Ordering::Acquire) {
            let mut batch = Batch::after(0);
            batch.durable = true;
            batch.settle(&self.settled);
            // Something to write even when nothing waits.
            batch.add(0, &Draft::settled(&[]));
            if self.append(&batch).is_ok() {
                self.settled.clear();
            }
        }
        self.tidy();
        self.report();
    }

    /// One batch on disk, then the index: what is not durable is not visible.
    fn commit(&mut self, requests: Vec<Request>) {
        let mut batch = Batch::after(self.inner.index().last);
        batch.settle(&self.settled);
        let used = self.segments.bytes();
        let mut room = self.space.capacity(used).saturating_sub(used);
        let mut waiting = Vec::with_capacity(requests.len());
        let mut deleted = Vec::new();
        for Request { write, done } in requests {
            if !write.drafts().is_empty() {
                let Some(left) = room.checked_sub(write.bytes() as u64) else {
                    let _ = done.send(Err(refused("the queue is full")));
                    continue;
                };
                room = left;
            }
            let forgiving = matches!(write, Write::Delete(_));
            match write {
                Write::Delete(ids) => {
                    batch.settle(&ids);
                    deleted.extend(ids);
                }
                write => {
                    if !self.add(&mut batch, write) {
                        let _ = done.send(Err(refused("the message can't be read for now")));
                        continue;
                    }
                    batch.durable = true;
                }
            }
            waiting.push((done, forgiving));
        }
        let written = if batch.starts.is_empty() { None } else { Some(self.append(&batch)) };
        let mut index = self.inner.index();
        let failed = match written {
            Some(Ok(place)) => {
                self.settled.clear();
                batch.apply(&mut index, place);
                false
            }
            Some(Err(())) => {
                // What was delivered needs no disk to be forgotten, and whole segments go with it:
                // that is what makes room on a disk without any.
                deleted.iter().for_each(|id| index.settle(*id));
                self.settled.append(&mut deleted);
                true
            }
            None => false,
        };
        self.settled.append(&mut index.expire());
        drop(index);
        self.inner.version.fetch_add(1, Ordering::AcqRel);
        self.inner.arrived.notify_waiters();
        self.tidy();
        self.report();
        for (done, forgiving) in waiting {
            let answer = if failed && !forgiving {
                Err(refused("the disk refused the write"))
            } else {
                Ok(())
            };
            // Who asked may have gone away; what it asked for is done all the same.
            let _ = done.send(answer);
        }
    }

    /// False when that needs what can't be read for now.
    fn add(&self, batch: &mut Batch, write: Write) -> bool {
        match write {
            Write::Add(drafts) => batch.add_new(&drafts),
            Write::Delete(ids) => batch.settle(&ids),
            Write::Reject(id, reason) => {
                match self.inner.fetch(id) {
                    Fetched::Record(bytes) => batch.add(id, &with_reason(&bytes, reason)),
                    // It needs no dead letter; set aside, if it is damaged.
                    Fetched::Gone => {}
                    Fetched::Later => return false,
                }
            }
            Write::Redrive(letters, drafts) => {
                // In this order a crash in between means a second delivery, not a lost one.
                batch.add_new(&drafts);
                batch.settle(&letters);
            }
            Write::Show(drafts) => drafts.iter().for_each(|(id, draft)| batch.add(*id, draft)),
            #[cfg(test)]
            Write::Panic => panic!("as the test asked"),
        }
        true
    }

    /// Writes, and says once that it does not work and once that it does again.
    fn append(&mut self, batch: &Batch) -> Result<Place, ()> {
        let written = self.segments.append(&batch.bytes, batch.durable);
        let failed = self.inner.failed.swap(written.is_err(), Ordering::AcqRel);
        match &written {
            Ok(_) if failed => tracing::info!("the queue can be written again"),
            Err(error) if !failed => tracing::error!(
                %error,
                "the queue can't be written and deliveries are answered 503; it is tried again every second, free disk space or see what the disk reports"
            ),
            _ => {}
        }
        written.map_err(drop)
    }

    /// Deletes segments that nothing is needed of, oldest first: what a segment says of ids that
    /// are done with only ever concerns older ones. One that is in use is emptied into the newest
    /// when too much on disk is not.
    fn tidy(&mut self) {
        let mut carried = 0;
        while let Some(oldest) = self.segments.oldest_closed() {
            let live = self.inner.index().live(oldest);
            if live > 0 {
                if carried == CARRIED_AT_ONCE || !self.is_wasteful() || !self.carry(oldest) {
                    return;
                }
                carried += 1;
            }
            let damaged = self.inner.index().is_damaged(oldest);
            self.inner.reader.forget(oldest);
            if let Err(error) = self.segments.remove(oldest, damaged) {
                let file = self.inner.reader.name(oldest);
                tracing::warn!(%error, file, "a file of the queue can't be deleted");
                return;
            }
        }
    }

    fn is_wasteful(&self) -> bool {
        let (bytes, live) = (self.segments.bytes(), self.inner.index().all_live());
        let waste = bytes.saturating_sub(live);
        let capacity = self.space.capacity(bytes);
        let worth = if bytes > capacity - capacity / 8 { live / 4 } else { live };
        waste > worth.max(self.segments.segment_bytes())
    }

    /// Copies what is needed of a segment; false when that can't be done now.
    fn carry(&mut self, segment: u32) -> bool {
        let mut batch = Batch::after(0);
        batch.durable = true;
        let mut moved = Vec::new();
        let of_segment = self.inner.index().of_segment(segment);
        for (id, _) in of_segment {
            match self.inner.fetch(id) {
                Fetched::Record(record) => {
                    let Some(record) = record::written(&record) else { continue };
                    let (coding, payload) = (record.coding, record.payload.to_vec());
                    moved.push((id, batch.bytes.len(), payload.len()));
                    batch.add(id, &Draft::of(record.kind, coding, payload));
                }
                Fetched::Later => return false,
                Fetched::Gone => {}
            }
        }
        if moved.is_empty() {
            return true;
        }
        let Ok(written) = self.append(&batch) else { return false };
        let mut index = self.inner.index();
        for (id, start, payload) in moved {
            index.relocate(id, within(written, start, payload));
        }
        true
    }

    /// How full it is: for the status, and once in the log.
    fn report(&mut self) {
        let used = self.segments.bytes();
        let capacity = self.space.capacity(used);
        {
            // What waits comes before what is shown.
            let mut index = self.inner.index();
            index.gallery.keep(usize::try_from(capacity / 4).unwrap_or(usize::MAX));
            self.settled.append(&mut index.expire());
        }
        self.inner.bytes.store(used, Ordering::Release);
        self.inner.capacity.store(capacity, Ordering::Release);
        let full = used.saturating_add(ONE_MESSAGE) > capacity;
        let was_full = self.inner.full.swap(full, Ordering::AcqRel);
        let share = used.saturating_mul(100) / capacity.max(1);
        if full && !was_full {
            tracing::error!(
                bytes = used,
                capacity,
                "the queue is full and deliveries are answered 503 until some are forwarded; see why they are not, free disk space or raise --data-limit"
            );
        } else if was_full && !full {
            tracing::info!(bytes = used, capacity, "the queue has room again");
        } else if share >= 80 && !self.warned {
            tracing::warn!(bytes = used, capacity, "the queue is {share} % full");
        }
        // Not again for every delivery around the mark.
        self.warned = share >= 80 || (self.warned && share >= 70);
    }
}

pub(super) fn refused(reason: &str) -> QueueError {
    QueueError::Refused { failed: 1, total: 1, reason: reason.to_owned() }
}

/// A dead letter of a record. One that can't be understood is one as it is.
fn with_reason(bytes: &[u8], reason: String) -> Draft {
    let Some(record) = record::written(bytes) else {
        return Draft::of(Kind::Dead, Coding::Json, bytes.to_vec());
    };
    match Kept::read(&record) {
        Some(mut kept) => {
            kept.attributes.insert("reason".to_owned(), reason);
            Draft::new(Kind::Dead, &kept.body, &kept.attributes, &[])
        }
        None => Draft::of(Kind::Dead, record.coding, record.payload.to_vec()),
    }
}
