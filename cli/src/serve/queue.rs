//! The queue that a process works on: its own, or one that it shares with others.

mod shared;

use std::{path::Path, time::Duration};

use spanhook_core::{message::Message, otlp::encode::Limits};
use spanhook_service::{
    queue::{Inbox, Outbox, QueueError, Received},
    settings::{QUEUE_URL, Vars},
};
use tokio::time::Instant;

use super::store::{Condition, Store};
use crate::terminal::{Failure, failure};
pub(super) use shared::Shared;

/// Either queue. Clones share it.
#[derive(Clone, Debug)]
pub(super) enum Queue {
    /// In a folder of this process alone.
    Embedded(Store),
    /// SQS, or another server that speaks it.
    Shared(Shared),
}

impl Queue {
    /// The one that `QUEUE_URL` names, else the one in the folder.
    pub(super) async fn open(vars: &Vars, folder: &Path, limit: u64) -> Result<Self, Failure> {
        if is_shared(vars) {
            return Shared::open(vars).await.map(Self::Shared);
        }
        Store::open_limited(folder, limit).map(Self::Embedded).map_err(failure)
    }

    /// What it takes as a message.
    pub(super) fn limits(&self) -> Limits {
        match self {
            Self::Embedded(_) => Limits::BYTES,
            Self::Shared(_) => Limits::default(),
        }
    }

    /// What rests is received again at once, when there is nothing else. What rests in a shared queue
    /// is in nobody's hands until its time, which is never long.
    pub(super) fn wake(&self) {
        match self {
            Self::Embedded(store) => store.wake(),
            Self::Shared(_) => {}
        }
    }

    /// Receives up to `max` messages, waiting until there is one or `until` comes.
    pub(super) async fn receive(&self, max: usize, until: Instant) -> Vec<Received> {
        match self {
            Self::Embedded(store) => store.receive(max, until).await,
            Self::Shared(shared) => shared.receive(max, until).await,
        }
    }

    /// Forgets delivered messages.
    pub(super) async fn delete(&self, messages: &[&Received]) -> Result<(), QueueError> {
        match self {
            Self::Embedded(store) => store.delete(messages).await,
            Self::Shared(shared) => shared.delete(messages).await,
        }
    }

    /// Gives back what was received and not settled; nothing more is received.
    pub(super) async fn give_back(&self) {
        match self {
            // The next process to open it has everything.
            Self::Embedded(_) => {}
            Self::Shared(shared) => shared.give_back().await,
        }
    }

    /// What a new start of the process may mend.
    pub(super) fn health(&self) -> Result<(), &'static str> {
        match self {
            Self::Embedded(store) if !store.is_alive() => {
                Err("the queue's writer has stopped; start spanhook again")
            }
            // It ends by itself where that could help.
            Self::Embedded(_) | Self::Shared(_) => Ok(()),
        }
    }

    /// What keeps deliveries from being taken.
    pub(super) fn ready(&self) -> Result<(), &'static str> {
        match self {
            Self::Embedded(store) => match store.condition() {
                Condition { failed: true, .. } => Err("the disk refuses writes"),
                Condition { full: true, .. } => Err("the queue is full"),
                _ if !store.is_alive() => Err("the queue's writer has stopped"),
                _ => Ok(()),
            },
            Self::Shared(shared) if shared.is_reached() => Ok(()),
            Self::Shared(_) => Err("the queue can't be reached"),
        }
    }

    /// Returns when nothing more can become of the queue in this process, with the reason.
    pub(super) async fn ended(&self) -> String {
        match self {
            Self::Embedded(store) => {
                store.ended().await;
                "the queue's writer stopped, which it never should; start spanhook again, nothing is lost".to_owned()
            }
            Self::Shared(shared) => shared.ended().await,
        }
    }
}

/// Whether the settings name a queue that others share.
pub(super) fn is_shared(vars: &Vars) -> bool {
    QUEUE_URL.get(vars).is_some()
}

impl Outbox for Queue {
    async fn send(&self, messages: Vec<Message>) -> Result<(), QueueError> {
        match self {
            Self::Embedded(store) => store.send(messages).await,
            Self::Shared(shared) => shared.send(messages).await,
        }
    }

    async fn dead_letter(&self, messages: Vec<Message>) -> Result<(), QueueError> {
        match self {
            Self::Embedded(store) => store.dead_letter(messages).await,
            Self::Shared(shared) => shared.dead_letter(messages).await,
        }
    }
}

impl Inbox for Queue {
    async fn back_off(&self, messages: &[(&Received, Duration)]) -> Result<(), QueueError> {
        match self {
            Self::Embedded(store) => store.back_off(messages).await,
            Self::Shared(shared) => shared.back_off(messages).await,
        }
    }

    async fn reject(&self, message: &Received, reason: &str) -> Result<(), QueueError> {
        match self {
            Self::Embedded(store) => store.reject(message, reason).await,
            Self::Shared(shared) => shared.reject(message, reason).await,
        }
    }
}
