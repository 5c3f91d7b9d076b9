//! Ids of a pipeline, its stages and jobs, in both schemes.

use crate::{
    id::{Hashed, SpanId, TraceId, TraceIds, decimal, span_of},
    job::{Job, Key, Place},
    settings::Settings,
};

/// Which of GitLab's own span ids a job span takes in [`TraceIds::Native`] mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GitlabJobKind {
    /// The id in `CI_TRACEPARENT` today.
    #[default]
    Default,
    /// The id of the job span that GitLab exports itself; `CI_TRACEPARENT` is to follow it.
    Export,
}

impl GitlabJobKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Export => "export",
        }
    }
}

/// The ids of one GitLab pipeline, its stages and jobs.
///
/// Native ids follow `lib/gitlab/ci/trace_context.rb`; what has none there (stages, queue times)
/// keeps the hashed span id within the native trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GitlabIds<'a> {
    scheme: TraceIds,
    kind: GitlabJobKind,
    hashed: Hashed<'a>,
    /// The top of the pipeline's hierarchy within its project, which natively names the trace.
    root: u64,
    pipeline: u64,
}

impl<'a> GitlabIds<'a> {
    /// `root` is the pipeline itself unless it is a child pipeline.
    pub(crate) fn new(
        scheme: TraceIds,
        kind: GitlabJobKind,
        host: &'a str,
        root: u64,
        pipeline: u64,
    ) -> Self {
        Self { scheme, kind, hashed: Hashed::new(super::ROOM.name, host), root, pipeline }
    }

    /// The pipeline's trace; natively `%032x` of the root pipeline's id.
    pub(crate) fn trace(&self) -> TraceId {
        self.native(|| TraceId::new(u128::from(self.root).to_be_bytes()))
            .unwrap_or_else(|| self.hashed.trace(decimal(self.pipeline, &mut [0; 20])))
    }

    /// The pipeline's span; natively `SHA-256("pipeline:{root}:{pipeline}")`.
    pub(crate) fn run(&self) -> SpanId {
        self.native(|| Some(span_of(&format!("pipeline:{}:{}", self.root, self.pipeline))))
            .unwrap_or_else(|| self.hashed.span("run", &[decimal(self.pipeline, &mut [0; 20])]))
    }

    /// A job's span; natively `SHA-256("{root}:{job}:{kind}")`.
    pub(crate) fn job(&self, job: u64) -> SpanId {
        self.native(|| Some(span_of(&format!("{}:{job}:{}", self.root, self.kind.as_str()))))
            .unwrap_or_else(|| self.hashed.span("job", &[decimal(job, &mut [0; 20])]))
    }

    /// The span of a trigger job; natively `%016x` of its id.
    pub(crate) fn bridge(&self, job: u64) -> SpanId {
        self.native(|| SpanId::new(job.to_be_bytes())).unwrap_or_else(|| self.job(job))
    }

    /// A stage's span.
    pub(crate) fn stage(&self, stage: &str) -> SpanId {
        self.hashed.span("stage", &[decimal(self.pipeline, &mut [0; 20]), stage])
    }

    /// The span of the time that a job waited for a runner.
    pub(crate) fn queue(&self, job: u64) -> SpanId {
        self.hashed.span("queue", &[decimal(job, &mut [0; 20])])
    }

    /// The span of a job that the payload gives no id, by what names it within the pipeline.
    pub(crate) fn unnumbered(&self, kind: &str, stage: &str, name: &str) -> SpanId {
        self.hashed.span(kind, &[decimal(self.pipeline, &mut [0; 20]), stage, name])
    }

    fn native<T>(&self, id: impl FnOnce() -> Option<T>) -> Option<T> {
        (self.scheme == TraceIds::Native).then(id).flatten()
    }
}

/// The place of a job.
pub(super) fn place(job: &Job, settings: &Settings) -> Place {
    let own = &settings.gitlab;
    let number = |key: &Key| match key {
        Key::Number(number) => *number,
        // No key of this provider.
        Key::Uuid(_) => 0,
    };
    let pipeline = number(&job.run);
    let ids = GitlabIds::new(
        settings.trace_ids,
        own.job_kind,
        job.host.as_ref().unwrap_or(&own.host).as_str(),
        job.root.unwrap_or(pipeline),
        pipeline,
    );
    Place {
        trace: ids.trace(),
        run: ids.run(),
        job: job.job.as_ref().map(|it| ids.job(number(it))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_depend_on_every_field_and_are_never_zero(run in 0u64.., job in 0u64.., host in "[a-z.]{1,20}") {
            for scheme in [TraceIds::Hashed, TraceIds::Native] {
                let ids = GitlabIds::new(scheme, GitlabJobKind::Default, &host, run, run);
                prop_assert_ne!(*ids.trace().as_bytes(), [0; 16]);
                for span in [ids.run(), ids.job(job), ids.bridge(job), ids.stage(&host), ids.queue(job)] {
                    prop_assert_ne!(*span.as_bytes(), [0; 8]);
                }
            }
            let ids = GitlabIds::new(TraceIds::Hashed, GitlabJobKind::Default, &host, run, run);
            let elsewhere = format!("{host}x");
            let other = GitlabIds::new(TraceIds::Hashed, GitlabJobKind::Default, &elsewhere, run, run);
            prop_assert_ne!(ids.trace(), other.trace());
            prop_assert_ne!(ids.job(job), ids.job(job ^ 1));
            prop_assert_ne!(ids.job(job), ids.queue(job));
        }
    }
}
