//! Which traces the process's own page shows, and what each is made of. All of it is bounded: the
//! newest is kept.

use std::collections::{BTreeMap, HashMap, VecDeque};

use sha2::{Digest, Sha256};

/// How many traces are kept to be shown.
pub(super) const KEPT_TRACES: usize = 1000;

/// Bytes of bodies that are kept of one trace. Later deliveries of a run repeat the earlier ones,
/// so what goes first says least.
pub(super) const TRACE_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of bodies that are kept of all traces together.
pub(super) const SHOWN_BYTES: usize = 64 * 1024 * 1024;

/// The traces that are shown.
#[derive(Default)]
pub(super) struct Gallery {
    traces: HashMap<String, Shelf>,
    /// By the last change, oldest first.
    order: BTreeMap<u64, String>,
    bodies: HashMap<u64, Body>,
    bytes: usize,
    changes: u64,
    /// Ids that made room for others and are to be settled.
    pub(super) expired: Vec<u64>,
}

#[derive(Default)]
struct Shelf {
    changed: u64,
    /// Oldest first.
    ids: VecDeque<u64>,
    bytes: usize,
}

struct Body {
    hash: [u8; 8],
    bytes: usize,
    traces: Vec<String>,
}

impl Gallery {
    /// Shows a message with its traces; one that is shown already makes its trace the newest.
    pub(super) fn add(&mut self, id: u64, body: &[u8], traces: &[String]) {
        let (hash, bytes) = (digest(body), body.len());
        let mut placed = Vec::new();
        for trace in traces {
            self.changes += 1;
            let entry = self.traces.entry(trace.clone()).or_default();
            self.order.remove(&entry.changed);
            entry.changed = self.changes;
            self.order.insert(self.changes, trace.clone());
            let known = |id: &u64| self.bodies.get(id).is_some_and(|it| it.hash == hash);
            if !entry.ids.iter().any(known) {
                entry.ids.push_back(id);
                entry.bytes += bytes;
                placed.push(trace.clone());
            }
        }
        if placed.is_empty() {
            self.expired.push(id);
            return;
        }
        self.bytes += bytes;
        self.bodies.insert(id, Body { hash, bytes, traces: placed.clone() });
        for trace in placed {
            while let Some(oldest) = self
                .traces
                .get(&trace)
                .filter(|it| it.bytes > TRACE_BYTES && it.ids.len() > 1)
                .and_then(|it| it.ids.front().copied())
            {
                self.take_off(&trace, oldest);
            }
        }
        self.keep(SHOWN_BYTES);
    }

    /// Drops the oldest traces until so many bytes are left.
    pub(super) fn keep(&mut self, bytes: usize) {
        while self.traces.len() > KEPT_TRACES || self.bytes > bytes {
            let Some((_, trace)) = self.order.pop_first() else { break };
            for id in self.traces.get(&trace).map(|it| it.ids.clone()).unwrap_or_default() {
                self.take_off(&trace, id);
            }
            self.traces.remove(&trace);
        }
    }

    /// A message is no longer part of a trace; it is expired when it is part of no other.
    fn take_off(&mut self, trace: &str, id: u64) {
        let Some(body) = self.bodies.get_mut(&id) else { return };
        body.traces.retain(|it| it != trace);
        if let Some(entry) = self.traces.get_mut(trace) {
            entry.ids.retain(|it| *it != id);
            entry.bytes = entry.bytes.saturating_sub(body.bytes);
        }
        if body.traces.is_empty() {
            self.bytes = self.bytes.saturating_sub(body.bytes);
            self.bodies.remove(&id);
            self.expired.push(id);
        }
    }

    /// Forgets a message that is gone.
    pub(super) fn remove(&mut self, id: u64) {
        let traces = self.bodies.get(&id).map(|it| it.traces.clone()).unwrap_or_default();
        for trace in traces {
            self.take_off(&trace, id);
        }
        self.expired.retain(|it| *it != id);
    }

    /// The newest traces, newest first, each with a number that changes with it.
    pub(super) fn newest(&self, limit: usize) -> Vec<(String, u64)> {
        self.order.iter().rev().take(limit).map(|(at, trace)| (trace.clone(), *at)).collect()
    }

    /// The messages of a trace, newest first.
    pub(super) fn ids(&self, trace: &str) -> Vec<u64> {
        self.traces.get(trace).map(|it| it.ids.iter().rev().copied().collect()).unwrap_or_default()
    }
}

fn digest(body: &[u8]) -> [u8; 8] {
    Sha256::digest(body).first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(gallery: &mut Gallery, id: u64, traces: &[&str], text: &str) {
        let traces: Vec<_> = traces.iter().map(ToString::to_string).collect();
        gallery.add(id, text.as_bytes(), &traces);
    }

    #[test]
    fn the_oldest_traces_make_room_by_number() {
        let mut gallery = Gallery::default();
        for number in 0..KEPT_TRACES as u64 + 5 {
            add(&mut gallery, number, &[&format!("{number}")], &format!("body {number}"));
        }
        assert_eq!(gallery.expired, [0, 1, 2, 3, 4]);
        let newest = gallery.newest(usize::MAX);
        assert_eq!((newest.len(), newest[0].0.as_str()), (KEPT_TRACES, "1004"));
    }

    #[test]
    fn the_oldest_bodies_make_room_by_bytes_in_a_trace_and_in_all() {
        let mut gallery = Gallery::default();
        let megabyte = "x".repeat(1024 * 1024 - 8);
        for number in 0..10 {
            add(&mut gallery, number, &["one"], &format!("{number}{megabyte}"));
        }
        assert_eq!(gallery.ids("one"), [9, 8, 7, 6], "4 MiB of one trace");
        for number in 10..110 {
            let trace = format!("{number}");
            add(&mut gallery, number, &[&trace], &format!("{number}{megabyte}"));
        }
        assert!(gallery.bytes <= SHOWN_BYTES && gallery.bytes > SHOWN_BYTES / 8 * 7);
        assert!(gallery.ids("one").is_empty() && gallery.ids("109") == [109]);
        assert_eq!(gallery.expired.len() + gallery.bodies.len(), 110);
    }

    #[test]
    fn what_several_traces_share_goes_with_the_last_of_them() {
        let mut gallery = Gallery::default();
        add(&mut gallery, 1, &["a", "b"], "shared");
        add(&mut gallery, 2, &["a"], "shared");
        assert_eq!(gallery.expired, [2], "the same content is kept once");
        gallery.take_off("a", 1);
        assert!(!gallery.expired.contains(&1));
        gallery.take_off("b", 1);
        assert!(gallery.expired.contains(&1));
    }
}
