//! What the page shows, from the queue's folder.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use spanhook_service::telemetry::Telemetry;

use super::{
    queue::Shared,
    store::Store,
    view::{
        self,
        page::{Status, TraceSource},
    },
};

/// Summaries by trace, each with the number that changes with the trace.
type Summaries = HashMap<String, (u64, view::Summary)>;

pub(super) struct Source {
    store: Store,
    forwarding_to: Option<String>,
    telemetry: Telemetry,
    /// Only traces that changed are decoded for a list; whoever decodes one holds this, so that
    /// many who look at the page need the memory for one trace.
    summaries: Mutex<Summaries>,
}

impl Source {
    pub(super) fn new(store: Store, forwarding_to: Option<String>, telemetry: Telemetry) -> Self {
        Self { store, forwarding_to, telemetry, summaries: Mutex::default() }
    }

    fn summaries(&self) -> MutexGuard<'_, Summaries> {
        // A panic leaves at most an older list.
        self.summaries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, id: &str) -> Option<view::Trace> {
        view::traces(self.store.trace(id)).into_iter().find(|trace| trace.summary.id == id)
    }
}

impl TraceSource for Source {
    fn version(&self) -> String {
        format!("{}-{}", self.store.version(), self.store.dead_letters())
    }

    fn list(&self, limit: usize) -> Vec<view::Summary> {
        let mut known = self.summaries();
        let listed = self.store.traces(limit).into_iter().filter_map(|(id, changed)| {
            let kept = known.remove(&id).filter(|(at, _)| *at == changed);
            let summary = kept.map(|(_, it)| it).or_else(|| Some(self.read(&id)?.summary))?;
            Some((id, (changed, summary)))
        });
        let listed: Vec<_> = listed.collect();
        known.clear();
        known.extend(listed.iter().cloned());
        listed.into_iter().map(|(_, (_, summary))| summary).collect()
    }

    fn trace(&self, id: &str) -> Option<view::Trace> {
        let _one_at_a_time = self.summaries();
        self.read(id)
    }

    fn status(&self) -> Status {
        let condition = self.store.condition();
        Status {
            queued: self.store.depth(),
            dead_letters: self.store.dead_letters(),
            queue_bytes: condition.bytes,
            queue_capacity: condition.capacity,
            damaged: condition.damaged,
            forwarding_to: self.forwarding_to.clone(),
            counters: self.telemetry.totals(),
        }
    }
}

/// What the page shows of a queue that others share: no traces, since none are kept.
pub(super) struct SharedSource {
    pub(super) queue: Shared,
    pub(super) forwarding_to: String,
    pub(super) telemetry: Telemetry,
}

impl TraceSource for SharedSource {
    fn version(&self) -> String {
        let counts = self.queue.counts();
        format!("{}-{}", counts.queued, counts.dead_letters)
    }

    fn list(&self, _: usize) -> Vec<view::Summary> {
        Vec::new()
    }

    fn trace(&self, _: &str) -> Option<view::Trace> {
        None
    }

    fn status(&self) -> Status {
        let counts = self.queue.counts();
        let number = |it| usize::try_from(it).unwrap_or(usize::MAX);
        Status {
            queued: number(counts.queued),
            dead_letters: number(counts.dead_letters),
            forwarding_to: Some(self.forwarding_to.clone()),
            counters: self.telemetry.totals(),
            ..Status::default()
        }
    }
}
