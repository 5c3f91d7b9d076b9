//! The one way of a delivery: mapped, judged, encoded. Whoever proves it first (a webhook, before
//! anything is parsed) or has it proved already (a redrive) calls [`Delivery::process`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use http::HeaderMap;
use thiserror::Error;

use crate::{
    id::TraceId,
    legible::legible,
    message::Message,
    otlp::{Signal, Telemetry, encode, span::Link},
    provider::{Provider, Room},
    rules::{Decision, ProjectRules},
    run_metrics,
    settings::Settings,
};

/// What a provider posted: headers, and the raw bytes of the body.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// As they arrived; of a delivery that was kept, those that were kept with it.
    pub headers: &'a HeaderMap,
    /// As it arrived.
    pub body: &'a [u8],
}

/// The header in which whoever took a delivery notes when, in nanoseconds since the epoch: some
/// events have no date of their own, and a mapping has no clock. It replaces what a sender wrote.
pub const RECEIVED: &str = "spanhook-received";

/// What a mapping makes of a verified delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Mapped<'a> {
    /// Something to forward, by project.
    Telemetry(Vec<Telemetry<'a>>),
    /// Something to forward, and something that can't be mapped: none is lost for the other.
    Partly {
        /// By project.
        telemetry: Vec<Telemetry<'a>>,
        /// A delivery of the rest alone, for the dead-letter queue.
        rest: Vec<u8>,
        /// How many parts the rest has.
        unread: usize,
    },
    /// Nothing to emit, and why: acknowledged, because providers punish every other answer.
    Ignored(&'static str),
}

/// Why a verified payload can't be mapped. It goes to the dead-letter queue as it came.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unmappable {
    /// The body is no JSON object, or one that breaks off.
    #[error("the body is not a JSON object")]
    NotJson,
    /// Nothing says what kind of event it is, as with a custom webhook template.
    #[error("the body is no event of this provider")]
    UnknownShape,
    /// There is no run to hang spans on.
    #[error("the event names no run")]
    NoRun,
    /// Not one date can be read, and a span needs a time.
    #[error("the event holds no readable date")]
    NoTime,
    /// More jobs, or objects, than are mapped at once: their spans would take the memory of all other
    /// deliveries.
    #[error("the event holds more than {0} {1}")]
    TooMany(usize, &'static str),
    /// The mapping panicked: our mistake, and no reason to lose the delivery.
    #[error("spanhook could not map the event; please report it")]
    Bug,
}

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// These messages belong into the queue.
    Accepted(Accepted),
    /// There is nothing to emit.
    Ignored {
        /// A short name, for metrics.
        as_str: &'static str,
        /// Why, for the sender.
        reason: &'static str,
    },
    /// These messages belong into the dead-letter queue.
    Quarantined {
        /// Why it can't be mapped.
        reason: Unmappable,
        /// The delivery, in as many parts as it takes.
        messages: Vec<Message>,
    },
}

/// What a delivery gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accepted {
    /// What is to be queued.
    pub messages: Vec<Message>,
    /// How many spans are in it.
    pub spans: usize,
    /// How many metric points.
    pub points: usize,
    /// How many log records.
    pub records: usize,
    /// The traces, in the order of the delivery.
    pub traces: Vec<TraceId>,
    /// The first span.
    pub first: Option<Link>,
    /// How many parts of it could not be mapped.
    pub unread: usize,
    /// Those parts, for the dead-letter queue.
    pub rest: Vec<Message>,
}

impl Accepted {
    /// Judges telemetry project by project and encodes what is kept; nothing kept says why.
    pub fn of(
        source: &str,
        mut telemetry: Vec<Telemetry<'_>>,
        settings: &Settings,
        rules: &ProjectRules,
    ) -> Result<Self, Decision> {
        let mut refused = None;
        telemetry.retain_mut(|it| match rules.keep(it, settings.trace_ids) {
            Decision::Keep => true,
            decision => {
                refused = Some(decision);
                false
            }
        });
        if let (true, Some(decision)) = (telemetry.is_empty(), refused) {
            return Err(decision);
        }
        let mut accepted = Self::default();
        for it in &telemetry {
            accepted.spans += it.count(Signal::Traces);
            accepted.points += it.count(Signal::Metrics);
            accepted.records += it.count(Signal::Logs);
            accepted.traces.extend(it.traces.iter().map(|it| it.id));
            accepted.messages.extend(encode::messages(it, source, settings.limits));
        }
        accepted.first = telemetry.iter().flat_map(|it| &it.traces).find_map(|trace| {
            let span = trace.groups.iter().find_map(|it| it.spans.first())?.id;
            Some(Link { trace: trace.id, span })
        });
        Ok(accepted)
    }
}

impl Delivery<'_> {
    /// Maps, judges and encodes a delivery that is proved. Pure, and never a panic.
    #[must_use]
    pub fn process(
        &self,
        provider: Provider,
        settings: &Settings,
        rules: &ProjectRules,
    ) -> Outcome {
        self.process_in(provider.room(), provider, settings, rules)
    }

    fn process_in(
        &self,
        room: &Room,
        provider: Provider,
        settings: &Settings,
        rules: &ProjectRules,
    ) -> Outcome {
        let body = guarded(|| Ok(legible((room.decode)(self.body))));
        let decoded =
            Delivery { headers: self.headers, body: body.as_deref().unwrap_or(self.body) };
        let accept = |mut telemetry: Vec<Telemetry<'_>>| {
            (room.correlation)(settings).mark(&mut telemetry);
            if settings.webhook_metrics {
                // Before the rules: they keep the metrics of runs outside a project's share.
                telemetry.iter_mut().for_each(|it| it.metrics = run_metrics::of(&it.traces));
            }
            Accepted::of(provider.as_str(), telemetry, settings, rules)
        };
        let work = || match (room.map)(&decoded, settings)? {
            Mapped::Ignored(reason) => Ok(Outcome::Ignored { as_str: "ignored", reason }),
            Mapped::Telemetry(telemetry) => Ok(match accept(telemetry) {
                Ok(accepted) => Outcome::Accepted(accepted),
                Err(decision) => decision.into(),
            }),
            Mapped::Partly { telemetry, rest, unread } => {
                let rest = Delivery { headers: self.headers, body: &rest };
                let rest = Message::quarantine(provider, &rest, Unmappable::UnknownShape);
                let accepted = accept(telemetry).unwrap_or_default();
                Ok(Outcome::Accepted(Accepted { unread, rest, ..accepted }))
            }
        };
        let outcome = match body {
            Ok(_) => guarded(work),
            Err(reason) => Err(reason),
        };
        outcome.unwrap_or_else(|reason| Outcome::Quarantined {
            reason,
            // What is private can be blanked only where it can be read.
            messages: Message::quarantine(provider, &decoded, reason),
        })
    }
}

/// Rooms are tested never to panic; if one does, the payload must still not be lost.
fn guarded<T>(work: impl FnOnce() -> Result<T, Unmappable>) -> Result<T, Unmappable> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Unmappable::Bug))
}

impl From<Decision> for Outcome {
    fn from(decision: Decision) -> Self {
        let (as_str, reason) = match decision {
            Decision::Keep => ("ignored", "there is nothing to emit"),
            Decision::Denied => ("denied", "PROJECT_RULES switch the project off"),
            Decision::NotSampled => ("not_sampled", "the run is outside the project's share"),
        };
        Self::Ignored { as_str, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Content, unpack};

    #[test]
    fn a_room_that_panics_costs_no_delivery() {
        let room = *Provider::Circleci.room();
        for room in [
            Room { decode: |_| panic!("a mistake in decoding"), ..room },
            Room { map: |_, _| panic!("a mistake in mapping"), ..room },
        ] {
            let headers = HeaderMap::new();
            let delivery = Delivery { headers: &headers, body: b"as it came" };
            let (settings, rules) = (Settings::default(), ProjectRules::default());
            let outcome = delivery.process_in(&room, Provider::Circleci, &settings, &rules);
            let Outcome::Quarantined { reason, messages } = outcome else { panic!("{outcome:?}") };
            let [message] = messages.as_slice() else { panic!("{messages:?}") };
            let encoding = message.attributes.get("encoding").map(String::as_str);
            let content = unpack(&message.body, encoding, None).unwrap();
            assert_eq!(reason, Unmappable::Bug);
            assert_eq!(content, Content::Quarantined(b"as it came".to_vec()));
        }
    }
}
