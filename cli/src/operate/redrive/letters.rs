//! Where dead letters are: an SQS queue, or the folder of `spanhook serve`.

use std::time::Duration;

use spanhook_core::message::Message;
use spanhook_service::queue::{Inbox, Outbox, Received, SqsQueue};

use crate::{
    serve::store::Store,
    terminal::{Failure, failure},
};

/// How long letters stay hidden while they are looked at.
const HIDDEN: Duration = Duration::from_secs(300);

pub(super) enum Letters {
    Sqs {
        dead: SqsQueue,
        queue: SqsQueue,
    },
    /// The folder, and whether its letters were read.
    Folder(Store, bool),
}

impl Letters {
    /// The next letters; none when all were seen.
    pub(super) async fn next(&mut self) -> Result<Vec<Received>, Failure> {
        match self {
            // An empty answer may only mean that few servers were asked: a long poll asks all.
            Self::Sqs { dead, .. } => {
                dead.receive(HIDDEN, Duration::from_secs(2)).await.map_err(failure)
            }
            Self::Folder(_, true) => Ok(Vec::new()),
            Self::Folder(store, read) => {
                *read = true;
                Ok(store.dead())
            }
        }
    }

    /// Queues the messages, and when they are durable deletes the letters.
    pub(super) async fn redrive(
        &self,
        letters: &[Received],
        messages: Vec<Message>,
    ) -> Result<(), Failure> {
        match self {
            Self::Sqs { dead, queue } => {
                queue.send(messages).await.map_err(failure)?;
                for letter in letters {
                    dead.delete(letter).await.map_err(failure)?;
                }
                Ok(())
            }
            Self::Folder(store, _) => store.redrive(letters, messages).await.map_err(failure),
        }
    }

    /// Makes letters visible again that were only looked at; a failure means that it takes longer.
    pub(super) async fn leave(&self, letters: &[Received]) {
        if let Self::Sqs { dead, .. } = self {
            let now: Vec<_> = letters.iter().map(|it| (it, Duration::ZERO)).collect();
            let _ = dead.back_off(&now).await;
        }
    }
}
