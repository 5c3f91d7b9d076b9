//! What was sent, and what has to be remembered until something can be.
//!
//! Nothing of it grows with what has ended: of that an id is kept, the oldest ones are forgotten
//! beyond a bound, and all when the object is deleted. Forgetting costs a duplicate at most.

use std::{collections::HashMap, num::NonZeroUsize};

use jiff::{SignedDuration, Timestamp};
use lru::LruCache;
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use crate::{
    finality::{finished_at, is_final},
    item::{Change, Item},
    kind::Kind,
    prune::{is_sent_reason, of_pod, prune},
};

/// How many ids of sent objects are kept: some 10 MB.
const SENT: NonZeroUsize = bound(100_000);

/// How many Pods' metadata are kept for Events that come late: some 15 MB.
const PODS: NonZeroUsize = bound(10_000);

/// How many unknown Pods may have Events that wait for them. Most of these Pods are none of
/// Tekton's and never come.
const STRANGERS: NonZeroUsize = bound(1_000);

/// How many Events of one Pod may wait.
const WAITING: usize = 32;

const fn bound(bound: usize) -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(bound - 1)
}

/// Where an object was looked for: a namespace, or all of them.
pub type Scope = Option<String>;

/// The memory of the relay.
#[derive(Debug)]
pub struct Ledger {
    /// What ended before this is left out: another process has sent it.
    since: Timestamp,
    backfill: SignedDuration,
    sent: LruCache<String, ()>,
    /// What goes along with the Events of a Pod.
    pods: LruCache<String, Box<RawValue>>,
    /// Pods that have not ended, as they were last seen.
    open: HashMap<String, OpenPod>,
    /// Events by the Pod that has not been seen.
    waiting: LruCache<String, Vec<Waiting>>,
}

#[derive(Debug)]
struct OpenPod {
    scope: Scope,
    /// Whether the list that is read now, if one is, has it.
    listed: bool,
    /// What is sent if it is deleted.
    object: Box<RawValue>,
}

#[derive(Debug)]
struct Waiting {
    uid: String,
    change: Change,
    event: Box<RawValue>,
}

/// As text: read, it would take four times as much.
fn text(pruned: &Value) -> Box<RawValue> {
    to_raw_value(pruned).unwrap_or_default()
}

impl Ledger {
    /// A relay that starts now, and has sent nothing.
    #[must_use]
    pub fn new(now: Timestamp, backfill: SignedDuration) -> Self {
        Self {
            since: now.saturating_sub(backfill).unwrap_or(Timestamp::MIN),
            backfill,
            sent: LruCache::new(SENT),
            pods: LruCache::new(PODS),
            open: HashMap::new(),
            waiting: LruCache::new(STRANGERS),
        }
    }

    /// Takes note of an object, and says what is to be sent because of it. What has no uid is no
    /// object of an API server.
    pub fn observe(
        &mut self,
        scope: &Scope,
        kind: Kind,
        change: Change,
        (api_version, object): (&str, &Value),
        now: Timestamp,
    ) -> Vec<Item> {
        let Some(uid) = object["metadata"]["uid"].as_str() else { return Vec::new() };
        // A clock that was ahead at the start and was set right must not make the past of all.
        self.since = self.since.min(now.saturating_sub(self.backfill).unwrap_or(Timestamp::MIN));
        let pruned = || prune(kind, api_version, object);
        match kind {
            Kind::Event => self.event(uid, change, object, pruned, now).into_iter().collect(),
            Kind::Pod => {
                let released = self.meet(uid, object, now);
                let own = self.pod(scope, uid, change, object, pruned, now);
                own.into_iter().chain(released).collect()
            }
            _ => self.ended(uid, kind, change, object, pruned, now).into_iter().collect(),
        }
    }

    /// An object that is sent once it is final.
    fn ended(
        &mut self,
        uid: &str,
        kind: Kind,
        change: Change,
        object: &Value,
        pruned: impl Fn() -> Value,
        now: Timestamp,
    ) -> Option<Item> {
        let was_sent = self.settle(uid, change);
        let due = is_final(kind, object) && !was_sent && self.is_recent(kind, object);
        due.then(|| self.send(uid, kind, change, now, &pruned()))
    }

    fn pod(
        &mut self,
        scope: &Scope,
        uid: &str,
        change: Change,
        object: &Value,
        pruned: impl Fn() -> Value,
        now: Timestamp,
    ) -> Option<Item> {
        if is_final(Kind::Pod, object) {
            self.open.remove(uid);
            return self.ended(uid, Kind::Pod, change, object, pruned, now);
        }
        if change == Change::Deleted {
            self.open.remove(uid);
            return (!self.settle(uid, change))
                .then(|| Item::new(Kind::Pod, change, now, &pruned(), None));
        }
        let open = OpenPod { scope: scope.clone(), listed: true, object: text(&pruned()) };
        self.open.insert(uid.to_owned(), open);
        None
    }

    /// Whether it was sent. A deleted object does not come back: its id is forgotten.
    fn settle(&mut self, uid: &str, change: Change) -> bool {
        if change == Change::Deleted {
            self.sent.pop(uid).is_some()
        } else {
            self.sent.get(uid).is_some()
        }
    }

    fn is_recent(&self, kind: Kind, object: &Value) -> bool {
        finished_at(kind, object).is_none_or(|it| it >= self.since)
    }

    fn send(
        &mut self,
        uid: &str,
        kind: Kind,
        change: Change,
        now: Timestamp,
        pruned: &Value,
    ) -> Item {
        if change != Change::Deleted {
            self.sent.put(uid.to_owned(), ());
        }
        Item::new(kind, change, now, pruned, None)
    }

    /// An Event is sent with its Pod, and waits for it. Watches are told of neither in order.
    fn event(
        &mut self,
        uid: &str,
        change: Change,
        event: &Value,
        pruned: impl Fn() -> Value,
        now: Timestamp,
    ) -> Option<Item> {
        if self.settle(uid, change) || change == Change::Deleted {
            return None;
        }
        let reason = event["reason"].as_str().unwrap_or_default();
        if !is_sent_reason(reason) || !self.is_recent(Kind::Event, event) {
            return None;
        }
        let of = event["involvedObject"]["uid"].as_str()?;
        if let Some(pod) = self.pods.get(of) {
            let item = Item::new(Kind::Event, change, now, &pruned(), Some(pod));
            self.sent.put(uid.to_owned(), ());
            return Some(item);
        }
        let waiting = Waiting { uid: uid.to_owned(), change, event: text(&pruned()) };
        let events = self.waiting.get_or_insert_mut(of.to_owned(), Vec::new);
        // A repeated Event is told of again with a higher count.
        events.retain(|it| it.uid != uid);
        if events.len() < WAITING {
            events.push(waiting);
        }
        None
    }

    /// Remembers a Pod, and sends what waited for it.
    fn meet(&mut self, uid: &str, pod: &Value, now: Timestamp) -> Vec<Item> {
        let known = text(&of_pod(pod));
        let waiting = self.waiting.pop(uid).unwrap_or_default();
        let items = waiting.into_iter().map(|it| {
            self.sent.put(it.uid, ());
            Item::new(Kind::Event, it.change, now, &it.event, Some(&known))
        });
        let items = items.collect();
        self.pods.put(uid.to_owned(), known);
        items
    }

    /// A list of Pods is going to be read.
    pub fn begin_list(&mut self, scope: &Scope) {
        self.open.values_mut().filter(|it| it.scope == *scope).for_each(|it| it.listed = false);
    }

    /// A list of Pods was read to its end: those that are not in it were deleted while nobody
    /// watched.
    pub fn end_list(&mut self, scope: &Scope, now: Timestamp) -> Vec<Item> {
        let gone = self.open.extract_if(|_, it| it.scope == *scope && !it.listed);
        gone.map(|(_, it)| Item::new(Kind::Pod, Change::Deleted, now, &it.object, None)).collect()
    }
}
