//! The local forwarder: the same decisions as on AWS, driven by the embedded queue.

use std::time::Duration;

use spanhook_service::{
    clock::Clock,
    export::{Exporter, Target},
    forward::{Tally, Verdict, forward, settle},
    queue::{Inbox, Received},
    startup::report,
    telemetry::Telemetry,
};
use tokio::{sync::watch, time::Instant};

use crate::{store::Store, view};

/// Messages of a batch, as many as the event source mapping takes.
const BATCH: usize = 1000;

/// How long one batch may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long messages rest that the disk did not let be shown.
const REST: Duration = Duration::from_secs(10);

/// How long the queue may stay empty before it is looked at again.
const WAIT: Duration = Duration::from_secs(20);

/// Empties the queue until `stop` says otherwise; a batch that was begun is settled.
pub(crate) async fn run(
    store: Store,
    target: Option<Target>,
    telemetry: Telemetry,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let batch = tokio::select! {
            // Stopping is not to wait for a busy queue to be empty.
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            batch = store.receive(BATCH, Instant::now() + WAIT) => batch,
        };
        match &target {
            Some(target) => {
                deliver(&store, &*target.exporter().await, &telemetry, &batch, &mut stop).await;
            }
            None => show(&store, &batch).await,
        }
    }
}

async fn deliver(
    store: &Store,
    exporter: &Exporter,
    telemetry: &Telemetry,
    batch: &[Received],
    stop: &mut watch::Receiver<bool>,
) {
    if batch.is_empty() {
        return;
    }
    let mut tally = Tally::default();
    let verdicts = tokio::select! {
        biased;
        verdicts = forward(batch, exporter, Instant::now() + DEADLINE, &mut tally) => verdicts,
        // What was not answered yet stays queued; it may arrive twice, as the same span.
        () = grace(stop) => return,
    };
    settle(store, batch, &verdicts, Clock::SYSTEM, &mut tally).await;
    let delivered: Vec<_> =
        batch.iter().zip(&verdicts).filter(|(_, it)| **it == Verdict::Ack).map(|it| it.0).collect();
    if let Err(error) = store.delete(&delivered).await {
        tracing::error!(%error, "delivered messages could not be deleted and will be sent again");
    }
    report(telemetry, tally, None);
}

async fn grace(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
}

/// Without a Collector the traces are shown here.
async fn show(store: &Store, batch: &[Received]) {
    let mut shown = Vec::new();
    for message in batch {
        match view::traces_of(message) {
            Some(traces) => shown.push((message, traces)),
            None => {
                if let Err(error) = store.reject(message, "it can't be read").await {
                    tracing::error!(%error, "a message could not be moved to the dead letters");
                }
            }
        }
    }
    if shown.is_empty() {
        return;
    }
    let again: Vec<_> = shown.iter().map(|(message, _)| (*message, REST)).collect();
    if let Err(error) = store.show(shown).await {
        tracing::error!(%error, "traces could not be kept; they stay queued");
        let _ = store.back_off(&again).await;
    }
}
