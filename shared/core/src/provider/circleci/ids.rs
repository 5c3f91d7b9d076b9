//! Ids of a workflow and its jobs, in both schemes.

use uuid::Uuid;

use crate::{
    id::{Hashed, SpanId, TraceId, TraceIds},
    job::{Job, Key, Place},
    settings::Settings,
};

/// The ids of one CircleCI workflow and its jobs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CircleciIds<'a> {
    scheme: TraceIds,
    hashed: Hashed<'a>,
}

impl<'a> CircleciIds<'a> {
    /// `host` is the instance, `circleci.com` unless the server is self-hosted.
    pub(crate) fn new(scheme: TraceIds, host: &'a str) -> Self {
        Self { scheme, hashed: Hashed::new(super::ROOM.name, host) }
    }

    /// The trace of a workflow; natively, the 16 bytes of its UUID.
    pub(crate) fn trace(&self, workflow: &str) -> TraceId {
        self.native(workflow)
            .and_then(|uuid| TraceId::new(uuid.into_bytes()))
            .unwrap_or_else(|| self.hashed.trace(workflow))
    }

    /// The span of a workflow; natively, the first 8 bytes of its UUID.
    pub(crate) fn run(&self, workflow: &str) -> SpanId {
        self.span("run", workflow)
    }

    /// The span of a job; natively, the first 8 bytes of its UUID.
    pub(crate) fn job(&self, job: &str) -> SpanId {
        self.span("job", job)
    }

    /// The span of a ping, in a trace of the same event id.
    pub(crate) fn ping(&self, event: &str) -> SpanId {
        self.span("ping", event)
    }

    fn span(&self, kind: &str, id: &str) -> SpanId {
        self.native(id)
            .and_then(|uuid| SpanId::new(first_eight(uuid.as_bytes())))
            .unwrap_or_else(|| self.hashed.span(kind, &[id]))
    }

    fn native(&self, id: &str) -> Option<Uuid> {
        (self.scheme == TraceIds::Native).then(|| Uuid::try_parse(id).ok()).flatten()
    }
}

fn first_eight(bytes: &[u8; 16]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    first
}

/// The place of a job.
pub(super) fn place(job: &Job, settings: &Settings) -> Place {
    // The instance is a setting, as for webhooks, which do not name it.
    let ids = CircleciIds::new(settings.trace_ids, settings.circleci.host.as_str());
    let run = job.run.to_string();
    let job = job.job.as_ref().map(Key::to_string).map(|it| ids.job(&it));
    Place { trace: ids.trace(&run), run: ids.run(&run), job }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn not_even_the_nil_workflow_has_an_id_of_zeros(host in "[a-z.]{1,20}") {
            let nil = "00000000-0000-0000-0000-000000000000";
            for scheme in [TraceIds::Hashed, TraceIds::Native] {
                let ids = CircleciIds::new(scheme, &host);
                prop_assert_ne!(*ids.trace(nil).as_bytes(), [0; 16]);
                for span in [ids.run(nil), ids.job(nil), ids.ping(nil)] {
                    prop_assert_ne!(*span.as_bytes(), [0; 8]);
                }
            }
        }
    }
}
