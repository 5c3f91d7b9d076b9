//! What a span stands for, and so how it is drawn.

use opentelemetry_proto::tonic::trace::v1;
use serde::{
    Deserialize, Serialize,
    de::{self, IntoDeserializer, value::StrDeserializer},
};
use spanhook_core::semconv::KIND;

use super::value_text;

/// What a span stands for, in the words that it says itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// What happened in the repository and brought the run.
    Event,
    /// A pull request from its opening to its end.
    PullRequest,
    /// The run.
    Run,
    /// What carries the run out, where that is another object.
    PipelineRun,
    /// A stage of it.
    Stage,
    /// A job.
    Job,
    /// The time that a job waited.
    Queue,
    /// A try of a job before its last one.
    Retry,
    /// A step of a job.
    Step,
    /// What the runner did for a job, as it tells itself.
    Execution,
    /// A part of that.
    RunnerStage,
    /// A function that the job called there.
    Function,
    /// The Pod that a job ran in.
    Pod,
    /// The time until a Pod had a node.
    Schedule,
    /// The pull of an image.
    Pull,
    /// A container of a Pod.
    Container,
    /// What else a run did, such as its promotions.
    Activity,
    /// A job that did not run again: its earlier attempt counts.
    Marker,
    /// That a webhook was set up.
    Ping,
    /// Anything else, such as what a job reported of itself.
    #[default]
    Other,
}

impl Role {
    pub(super) fn of(span: &v1::Span) -> Self {
        let said = span.attributes.iter().find(|it| it.key == KIND);
        let said = said.and_then(|it| it.value.clone()).map(value_text).unwrap_or_default();
        let word: StrDeserializer<'_, de::value::Error> = said.as_str().into_deserializer();
        Self::deserialize(word).unwrap_or(Self::Other)
    }

    /// Whether it is one of several that follow each other in a job.
    pub(super) fn is_step(self) -> bool {
        matches!(self, Self::Step | Self::RunnerStage | Self::Function)
    }

    /// Whether nothing went on meanwhile.
    pub(super) fn is_wait(self) -> bool {
        matches!(self, Self::Queue | Self::Schedule)
    }

    /// Whether it is a moment, or stands for what took no time of its own.
    pub(super) fn is_moment(self) -> bool {
        matches!(self, Self::Event | Self::Marker | Self::Ping)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};

    use super::*;

    #[test]
    fn what_a_span_stands_for_it_says_and_no_name_does() {
        let pair = |key: &str, text: &str| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) }),
            ..KeyValue::default()
        };
        let of = |name: &str, attributes: Vec<KeyValue>| {
            Role::of(&v1::Span { name: name.to_owned(), attributes, ..v1::Span::default() })
        };
        for (kind, role) in [
            ("event", Role::Event),
            ("pull_request", Role::PullRequest),
            ("run", Role::Run),
            ("pipeline_run", Role::PipelineRun),
            ("stage", Role::Stage),
            ("job", Role::Job),
            ("queue", Role::Queue),
            ("retry", Role::Retry),
            ("step", Role::Step),
            ("execution", Role::Execution),
            ("runner_stage", Role::RunnerStage),
            ("function", Role::Function),
            ("pod", Role::Pod),
            ("schedule", Role::Schedule),
            ("pull", Role::Pull),
            ("container", Role::Container),
            ("activity", Role::Activity),
            ("marker", Role::Marker),
            ("ping", Role::Ping),
        ] {
            assert_eq!(of("anything", vec![pair(KIND, kind)]), role, "{kind}");
        }
        assert_eq!(of("queue build", vec![pair("cicd.pipeline.task.run.id", "1")]), Role::Other);
    }
}
