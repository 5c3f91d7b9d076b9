//! A job, as what is not its own span tells of it: the time that it waited, and that it never ran.
//!
//! Every provider tells these alike, so that no query has to know one, or to cut a name apart.

use std::borrow::Cow;

use crate::{
    id::SpanId,
    otlp::span::{Attributes, Event, Kind, Link, Span},
    semconv as sc,
    time::Nanos,
};

/// What names a job.
#[derive(Clone, Debug)]
pub(crate) struct Task<'a> {
    /// Among the jobs of its pipeline, with the values of its matrix.
    pub(crate) name: Cow<'a, str>,
    /// Its id; empty where the payload gives none.
    pub(crate) run_id: Cow<'a, str>,
    /// Its stage; empty where the provider has none.
    pub(crate) stage: Cow<'a, str>,
}

impl<'a> Task<'a> {
    /// The span of the time that it waited. It is no task, so it has no result and no address.
    pub(crate) fn queue(
        self,
        (id, parent): (SpanId, Option<SpanId>),
        name: impl Into<Cow<'a, str>>,
        times: (Nanos, Nanos),
        job: Link,
    ) -> Span<'a> {
        let mut span = Span::new(id, parent, name, Kind::Internal, times);
        span.links.push(job);
        span.attributes.set(sc::KIND, "queue");
        span.attributes.set(sc::JOB, self.name.clone());
        self.describe(&mut span.attributes);
        span
    }

    /// The event that says that it never ran: on its own span where it has one, else on the span
    /// above. `result` is how it ended, where it can't run any more; `reason` the provider's word.
    pub(crate) fn not_run(
        self,
        time: Nanos,
        result: Option<Cow<'a, str>>,
        reason: Cow<'a, str>,
    ) -> Event<'a> {
        let mut attributes = Attributes::with_capacity(5);
        self.describe(&mut attributes);
        attributes.set(sc::CICD_PIPELINE_TASK_RUN_RESULT, result);
        attributes.set(sc::REASON, reason);
        Event { time, name: sc::JOB_NOT_RUN, attributes }
    }

    fn describe(self, attributes: &mut Attributes<'a>) {
        attributes.set(sc::STAGE, self.stage);
        attributes.set(sc::CICD_PIPELINE_TASK_NAME, self.name);
        attributes.set(sc::CICD_PIPELINE_TASK_RUN_ID, self.run_id);
    }
}
