//! The spans that CircleCI exports by itself. They have ids of their own, so they are not in the
//! traces of its webhooks: an organization sends the one or the other.
//!
//! <https://circleci.com/docs/guides/integration/otel/>

use crate::otlp::front::Producer;

/// Names begin with what they stand for; a task is one of a job's parallel parts.
pub(crate) static EXPORTED: Producer = Producer {
    service: "CircleCI Pipelines",
    provider: super::ROOM.name,
    kind: |name| match name.split_once(": ")?.0 {
        "Workflow" => Some("run"),
        "Job" => Some("job"),
        "Step" => Some("step"),
        _ => None,
    },
};
