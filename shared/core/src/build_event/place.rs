//! The trace of an event, and its place there.

use crate::{
    id::{Hashed, SpanId, TraceId},
    job::{self, BadJob},
};

/// Where the span of an event hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) trace: TraceId,
    /// The span of the job or the run; in a correlation id's own trace, its root.
    pub(super) parent: SpanId,
    /// Whether the trace is a correlation id's own.
    pub(super) own: bool,
}

impl Place {
    /// The place in the run that the job is part of.
    pub(super) fn in_run(place: job::Place) -> Self {
        Self { trace: place.trace, parent: place.span(), own: false }
    }

    /// The root of a correlation id's own trace. Its owner keeps others out of it: a proved project,
    /// or a kind of proof that is not enough for every project; empty where neither is known.
    pub(super) fn own(owner: &str, correlation: &str) -> Self {
        let ids = Hashed::new("build", owner);
        Self { trace: ids.trace(correlation), parent: ids.span("run", &[correlation]), own: true }
    }
}

/// Where in an event a field of its context is.
pub(super) fn path(bad: BadJob) -> &'static str {
    match bad.field {
        "host" => "context.host",
        "job_id" => "context.job_id",
        "attempt" => "context.attempt",
        "root_id" => "context.root_id",
        _ => "context.run_id",
    }
}
