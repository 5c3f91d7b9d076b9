//! What is known of what is kept without reading it: where it is, and whose turn it is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    mem::take,
};

use tokio::time::Instant;

use super::{
    gallery::Gallery,
    payload::Kept,
    record::{self, Kind, Record},
};

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
    /// Of header and payload.
    pub(super) length: u32,
}

/// Everything that is kept.
#[derive(Default)]
pub(super) struct Index {
    /// The highest id that was given.
    pub(super) last: u64,
    queue: BTreeMap<u64, Place>,
    dead: BTreeMap<u64, Place>,
    shown: BTreeMap<u64, Place>,
    /// The traces of what is shown.
    pub(super) gallery: Gallery,
    /// Bytes in use, by segment.
    live: BTreeMap<u32, u64>,
    /// Segments with something in them that can't be read: they are never deleted.
    damaged: BTreeSet<u32>,
    ready: VecDeque<u64>,
    /// Hidden until then: received and not settled, or resting.
    hidden: BTreeSet<(Instant, u64)>,
    hidden_until: HashMap<u64, Instant>,
    /// How often those were received that were received at all.
    received: HashMap<u64, u32>,
}

impl Index {
    /// Takes a record in, in the order in which they were written: a later one of the same id
    /// stands for all before it.
    pub(super) fn put(&mut self, record: &Record<'_>, place: Place) {
        let id = record.id;
        if record.kind == Kind::Settled {
            record::settled(record.payload).for_each(|id| self.settle(id));
            return;
        }
        self.last = self.last.max(id);
        self.remove(id);
        if record.kind != Kind::Queued {
            self.reveal(id);
            self.received.remove(&id);
        }
        match record.kind {
            Kind::Queued => self.queue.extend([(id, place)]),
            Kind::Dead => self.dead.extend([(id, place)]),
            Kind::Shown => {
                self.shown.insert(id, place);
                match Kept::read(record) {
                    Some(kept) => self.gallery.add(id, &kept.body, &kept.traces),
                    None => self.gallery.expired.push(id),
                }
            }
            Kind::Settled => {}
        }
        *self.live.entry(place.segment).or_default() += u64::from(place.length);
    }

    /// Forgets what was kept under an id.
    pub(super) fn settle(&mut self, id: u64) {
        self.last = self.last.max(id);
        self.remove(id);
        self.reveal(id);
        self.received.remove(&id);
    }

    /// Forgets what can't be read, and that its segment may be deleted.
    pub(super) fn set_aside(&mut self, id: u64, segment: u32) {
        self.settle(id);
        self.damaged.insert(segment);
    }

    /// A segment may not be deleted, and an id in it not be given again.
    pub(super) fn damage(&mut self, segment: u32, id: Option<u64>) {
        self.damaged.insert(segment);
        self.last = self.last.max(id.unwrap_or(0));
    }

    pub(super) fn is_damaged(&self, segment: u32) -> bool {
        self.damaged.contains(&segment)
    }

    /// A record was copied to another place.
    pub(super) fn relocate(&mut self, id: u64, to: Place) {
        let maps = [&mut self.queue, &mut self.dead, &mut self.shown];
        for map in maps {
            if let Some(place) = map.get_mut(&id) {
                release(&mut self.live, *place);
                *place = to;
                *self.live.entry(to.segment).or_default() += u64::from(to.length);
            }
        }
    }

    fn remove(&mut self, id: u64) {
        let place = self.queue.remove(&id).or_else(|| self.dead.remove(&id)).or_else(|| {
            self.gallery.remove(id);
            self.shown.remove(&id)
        });
        if let Some(place) = place {
            release(&mut self.live, place);
        }
    }

    /// Bytes of a segment that are in use.
    pub(super) fn live(&self, segment: u32) -> u64 {
        self.live.get(&segment).copied().unwrap_or(0)
    }

    /// Bytes of all segments that are in use.
    pub(super) fn all_live(&self) -> u64 {
        self.live.values().sum()
    }

    /// What of a segment is in use.
    pub(super) fn of_segment(&self, segment: u32) -> Vec<(u64, Place)> {
        let all = self.queue.iter().chain(&self.dead).chain(&self.shown);
        all.filter(|(_, place)| place.segment == segment).map(|(id, place)| (*id, *place)).collect()
    }

    pub(super) fn place(&self, id: u64) -> Option<Place> {
        self.queue.get(&id).or_else(|| self.dead.get(&id)).or_else(|| self.shown.get(&id)).copied()
    }

    /// Messages that wait, hidden ones included.
    pub(super) fn depth(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn dead(&self) -> impl ExactSizeIterator<Item = u64> {
        self.dead.keys().copied()
    }

    /// Everything that waits becomes ready, oldest first.
    pub(super) fn ready_all(&mut self) {
        self.ready = self.queue.keys().copied().collect();
    }

    pub(super) fn ready(&mut self, id: u64) {
        self.ready.push_back(id);
    }

    /// The next that is due, hidden from now on until then.
    pub(super) fn next_due(&mut self, now: Instant, until: Instant) -> Option<u64> {
        // What has rested long enough comes before what is new.
        while let Some(&(at, id)) = self.hidden.first().filter(|(at, _)| *at <= now) {
            self.hidden.remove(&(at, id));
            self.hidden_until.remove(&id);
            self.ready.push_front(id);
        }
        while let Some(id) = self.ready.pop_front() {
            if self.queue.contains_key(&id) {
                self.hide(id, until);
                return Some(id);
            }
        }
        None
    }

    /// Counts that a message was received.
    pub(super) fn received(&mut self, id: u64) -> u32 {
        let count = self.received.entry(id).or_insert(0);
        *count += 1;
        *count
    }

    pub(super) fn hide(&mut self, id: u64, until: Instant) {
        if self.queue.contains_key(&id) {
            self.reveal(id);
            self.hidden.insert((until, id));
            self.hidden_until.insert(id, until);
        }
    }

    /// What rests is due now, once nothing else is.
    pub(super) fn wake(&mut self) {
        if self.ready.is_empty() {
            self.hidden_until.clear();
            self.ready.extend(take(&mut self.hidden).into_iter().map(|(_, id)| id));
        }
    }

    fn reveal(&mut self, id: u64) {
        if let Some(until) = self.hidden_until.remove(&id) {
            self.hidden.remove(&(until, id));
        }
    }

    /// When the next hidden message is due.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.hidden.first().map(|(at, _)| *at)
    }

    /// What is shown no longer, to make room.
    pub(super) fn expire(&mut self) -> Vec<u64> {
        let expired = take(&mut self.gallery.expired);
        expired.iter().for_each(|id| self.settle(*id));
        expired
    }
}

fn release(live: &mut BTreeMap<u32, u64>, place: Place) {
    if let Some(bytes) = live.get_mut(&place.segment) {
        *bytes = bytes.saturating_sub(u64::from(place.length));
        if *bytes == 0 {
            live.remove(&place.segment);
        }
    }
}
