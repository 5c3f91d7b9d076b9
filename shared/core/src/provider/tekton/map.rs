//! An event to spans.
//!
//! <https://tekton.dev/docs/pipelines/events/>

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    delivery::{Delivery, Mapped, Unmappable},
    lenient::Object,
    mapping::read,
    provider::kubernetes::object::{self, Kind, Nothing, Observed},
    settings::Settings,
};

/// The body in binary mode: one object under its kind. In structured mode, as a broker may have made
/// of it, the same is the `data` of an envelope.
///
/// <https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/http-protocol-binding.md>
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Event<'a> {
    #[serde(rename = "pipelineRun")]
    pipeline: Option<&'a RawValue>,
    #[serde(rename = "taskRun")]
    task: Option<&'a RawValue>,
    #[serde(rename = "customRun")]
    custom: Option<&'a RawValue>,
    data: Object<Data<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Data<'a> {
    #[serde(rename = "pipelineRun")]
    pipeline: Option<&'a RawValue>,
    #[serde(rename = "taskRun")]
    task: Option<&'a RawValue>,
    #[serde(rename = "customRun")]
    custom: Option<&'a RawValue>,
}

/// Maps a verified event. What it is, its body tells: its type and its subject are headers that no
/// signature covers, and of its source the controller writes half.
pub(super) fn map<'a>(
    delivery: &Delivery<'a>,
    settings: &Settings,
) -> Result<Mapped<'a>, Unmappable> {
    let event: Event<'a> = read(delivery.body)?;
    let data = event.data.0.unwrap_or_default();
    let found = [
        (Kind::PipelineRun, event.pipeline.or(data.pipeline)),
        (Kind::TaskRun, event.task.or(data.task)),
        (Kind::CustomRun, event.custom.or(data.custom)),
    ];
    let found = found.into_iter().find_map(|(kind, json)| Some((kind, json?.get())));
    let (kind, json) = found.ok_or(Unmappable::UnknownShape)?;
    let observed = Observed { kind, json, deleted: None, pod: None };
    match object::spans(observed, &settings.kubernetes.cluster, settings) {
        Ok(found) => Ok(Mapped::Telemetry(object::collect([found].into_iter()))),
        Err(Nothing::NotFinal | Nothing::NoSpan) => Ok(Mapped::Ignored("the run is not finished")),
        Err(Nothing::Unreadable) => Err(Unmappable::NoRun),
    }
}
