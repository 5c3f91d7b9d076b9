//! The local forwarder: the same decisions as on AWS, driven by the queue of `serve`.

mod pace;

use std::time::Duration;

use spanhook_service::{
    clock::Clock,
    export::{Exporter, Signal},
    forward::{Tally, Verdict, forward, rest, settle},
    forwarder::{lag, report},
    queue::{Inbox, Received},
    target::Target,
    telemetry::Telemetry,
};
use tokio::{sync::watch, time::Instant};

use self::pace::{Pace, Turn};
use super::{queue::Queue, store::Store, view};

/// The most messages of a batch. Its bytes are those of one request, and what was delivered is
/// forgotten before the next: after a kill only one request comes twice.
const BATCH: usize = 4000;

/// How long one batch may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long the store may take to carry the verdicts out.
const SETTLING: Duration = Duration::from_secs(60);

/// How long messages rest that the disk did not let be shown.
const REST: Duration = Duration::from_secs(10);

/// How long the queue may stay empty before it is looked at again.
const WAIT: Duration = Duration::from_secs(20);

/// Empties the queue until `stop` says otherwise; a batch that was begun is settled.
pub(crate) async fn run(
    queue: Queue,
    target: Option<Target>,
    telemetry: Telemetry,
    mut stop: watch::Receiver<bool>,
) {
    let mut paces: [Pace; 3] = Default::default();
    loop {
        let batch = tokio::select! {
            // Stopping is not to wait for a busy queue to be empty.
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            batch = queue.receive(BATCH, Instant::now() + WAIT) => batch,
        };
        match &target {
            Some(target) => {
                let exporter = &*target.exporter().await;
                let sending = Sending { queue: &queue, exporter, telemetry: &telemetry };
                let mut delivered = 0;
                for (signal, messages) in by_signal(batch) {
                    if *stop.borrow() {
                        return;
                    }
                    let pace = &mut paces[signal as usize];
                    delivered += sending.deliver(messages, pace, &mut stop).await;
                }
                // What was refused earlier need not wait for the end of its rest.
                if delivered > 0 && paces.iter().all(Pace::works) {
                    queue.wake();
                }
            }
            // What others share is shown by nobody; it has a target.
            None => {
                if let Queue::Embedded(store) = &queue {
                    show(store, &batch).await;
                }
            }
        }
    }
}

/// An unknown signal is the forwarder's to reject, in whatever company.
fn by_signal(batch: Vec<Received>) -> impl Iterator<Item = (Signal, Vec<Received>)> {
    let mut sorted = Signal::ALL.map(|signal| (signal, Vec::new()));
    for message in batch {
        let named = message.attributes.get("signal").and_then(|it| Signal::named(it));
        sorted[named.unwrap_or(Signal::Traces) as usize].1.push(message);
    }
    sorted.into_iter().filter(|(_, messages)| !messages.is_empty())
}

/// What a batch needs on its way.
struct Sending<'s> {
    queue: &'s Queue,
    exporter: &'s Exporter,
    telemetry: &'s Telemetry,
}

impl Sending<'_> {
    /// Sends messages of one signal at its pace, and says how many were delivered. What may not go yet
    /// rests until then.
    async fn deliver(
        &self,
        mut messages: Vec<Received>,
        pace: &mut Pace,
        stop: &mut watch::Receiver<bool>,
    ) -> usize {
        let mut delivered = 0;
        if pace.turn(Instant::now()) == Turn::Probe {
            let probe: Vec<_> = messages.pop().into_iter().collect();
            delivered += self.send(&probe, pace, stop).await;
        }
        match pace.turn(Instant::now()) {
            Turn::Everything => delivered += self.send(&messages, pace, stop).await,
            turn => {
                let pause = if let Turn::Nothing(pause) = turn { pause } else { Duration::ZERO };
                let resting: Vec<_> = messages.iter().map(|it| (it, pause)).collect();
                if let Err(error) = self.queue.back_off(&resting).await {
                    tracing::warn!(%error, "messages do not rest as long as they should");
                }
            }
        }
        delivered
    }

    async fn send(
        &self,
        messages: &[Received],
        pace: &mut Pace,
        stop: &mut watch::Receiver<bool>,
    ) -> usize {
        if messages.is_empty() {
            return 0;
        }
        let mut tally = Tally::default();
        let deadline = Instant::now() + DEADLINE;
        let verdicts = tokio::select! {
            biased;
            verdicts = forward(messages, self.exporter, deadline, &mut tally) => verdicts,
            // What was not answered yet stays queued; it may arrive twice, as the same span.
            () = grace(stop) => return 0,
        };
        pace.learn(&verdicts, Instant::now());
        let turn = pace.turn(Instant::now());
        // A message that was refused rests longer each time, so that the next probe is another.
        let resting = |message: &Received, verdict: &Verdict| {
            let own = rest(message, verdict, Clock::SYSTEM).min(pace::LONGEST);
            if let Turn::Nothing(pause) = turn { own.max(pause) } else { own }
        };
        let until = Instant::now() + SETTLING;
        settle(self.queue, messages, &verdicts, until, resting, &mut tally).await;
        let acknowledged = messages.iter().zip(&verdicts).filter(|(_, it)| **it == Verdict::Ack);
        let delivered: Vec<_> = acknowledged.map(|(message, _)| message).collect();
        if let Err(error) = self.queue.delete(&delivered).await {
            tracing::error!(%error, "delivered messages could not be deleted and will be sent again");
        }
        report(self.telemetry, tally, lag(messages, &verdicts, Clock::SYSTEM));
        delivered.len()
    }
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
