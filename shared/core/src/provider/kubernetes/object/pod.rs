//! A Pod, its containers, and the time until it had a node.
//!
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    Found, Kind, Nothing, Of, at,
    condition::Conditions,
    origin::{Origin, first},
};
use crate::{
    id::SpanId,
    lenient::{Int, List, Object, Text},
    mapping::mark_repaired,
    otlp::span::{Kind as SpanKind, Span, Status as SpanStatus},
    semconv as sc,
    time::{Interval, Nanos},
};

/// The most containers of a Pod that are mapped.
const MAX_CONTAINERS: usize = 1000;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Spec<'a> {
    node_name: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Status<'a> {
    phase: Text<'a>,
    reason: Text<'a>,
    start_time: Text<'a>,
    conditions: Conditions<'a>,
    init_container_statuses: List<Object<Container<'a>>, MAX_CONTAINERS>,
    container_statuses: List<Object<Container<'a>>, MAX_CONTAINERS>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Container<'a> {
    name: Text<'a>,
    image: Text<'a>,
    #[serde(rename = "imageID")]
    image_id: Text<'a>,
    restart_count: Int,
    state: Object<State<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct State<'a> {
    waiting: Object<Waiting<'a>>,
    running: Object<serde::de::IgnoredAny>,
    terminated: Object<Terminated<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Waiting<'a> {
    reason: Text<'a>,
}

/// How a container ended, which is how a step of a TaskRun did, too.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Terminated<'a> {
    pub(super) exit_code: Int,
    pub(super) reason: Text<'a>,
    pub(super) started_at: Text<'a>,
    pub(super) finished_at: Text<'a>,
}

impl<'a> Terminated<'a> {
    /// What is wrong; none where nothing is.
    fn failure(&self) -> Option<Cow<'a, str>> {
        match (self.exit_code.0, self.reason.as_str()) {
            (Some(0) | None, _) => None,
            (_, "" | "Error" | "Completed") => Some("container_failure".into()),
            _ => Some(self.reason.cow()),
        }
    }
}

impl<'a> Container<'a> {
    fn end(&self) -> Option<&Terminated<'a>> {
        self.state.get()?.terminated.get()
    }

    /// What it waits for that will not come: the phases of a start are no failures.
    fn stuck(&self) -> Option<Cow<'a, str>> {
        let reason = &self.state.get()?.waiting.get()?.reason;
        let starting = matches!(reason.as_str(), "" | "ContainerCreating" | "PodInitializing");
        (!starting).then(|| reason.cow())
    }
}

impl<'a> Status<'a> {
    fn containers(&self) -> impl Iterator<Item = &Container<'a>> {
        let all = [&self.init_container_statuses, &self.container_statuses];
        all.into_iter().flat_map(|it| &it.items).filter_map(|it| it.get())
    }

    fn has_ended(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Whether nothing of it will change. A Pod that was given up may have containers that still
    /// run, of which more is told when they end or when the Pod is deleted.
    fn is_quiet(&self) -> bool {
        let runs = |it: &Container<'_>| it.state.get().is_some_and(|it| it.running.get().is_some());
        self.has_ended() && !self.containers().any(runs)
    }

    /// What is wrong: with the Pod itself, else with its first container that is.
    fn failure(&self) -> Option<Cow<'a, str>> {
        if self.phase.as_str() == "Succeeded" {
            return None;
        }
        let unscheduled = || {
            let found = self.conditions.named("PodScheduled");
            found.filter(|it| it.status.as_str() == "False").map(|it| it.reason.cow())
        };
        let found = first(&[&self.reason])
            .or_else(|| self.containers().find_map(|it| it.end()?.failure()))
            .or_else(|| self.containers().find_map(Container::stuck))
            .or_else(|| unscheduled().filter(|it| !it.is_empty()));
        found.or_else(|| (self.phase.as_str() == "Failed").then(|| "_OTHER".into()))
    }

    /// The last moment that the object itself tells.
    fn last_told(&self) -> Option<Nanos> {
        let finished = self.containers().filter_map(|it| at(&it.end()?.finished_at));
        finished.max()
    }

    /// The last moment at which something is known of it at all.
    fn last_known(&self, created: Option<Nanos>) -> Option<Nanos> {
        let conditions = self.conditions.items.iter().filter_map(|it| it.get());
        let changes = conditions.filter_map(|it| at(&it.last_transition_time));
        changes.chain(at(&self.start_time)).chain(created).max()
    }
}

pub(super) fn spans<'a>(
    spec: &Spec<'a>,
    status: &Status<'a>,
    deleted: Option<Nanos>,
    origin: &Origin<'a, '_>,
) -> Result<Found<'a>, Nothing> {
    if !status.is_quiet() && deleted.is_none() {
        return Err(Nothing::NotFinal);
    }
    let created = at(&origin.meta.creation_timestamp);
    // A Pod that ended says when, and says the same when it is deleted. One that was deleted before
    // ended then.
    let (end, known) = if status.has_ended() {
        (status.last_told(), status.last_known(created))
    } else {
        (deleted.max(status.last_told()), created)
    };
    let interval = Interval::repair(created, end, None, known).ok_or(Nothing::Unreadable)?;
    let (ids, uid) = (origin.ids(), origin.uid());
    let (id, times) = (ids.object(uid), (interval.start, interval.end));
    let mut span = Span::new(id, origin.above_pod(), "pod", SpanKind::Internal, times);
    span.links = origin.links(Kind::Pod);
    span.attributes.set(sc::KIND, "pod");
    pod(&mut span, spec, origin);
    span.attributes.set("k8s.pod.status.phase", status.phase.cow());
    span.attributes.set("k8s.pod.status.reason", status.reason.cow());
    if let Some(error) = status.failure() {
        fail(&mut span, error);
    }
    mark_repaired(&mut span, &interval);

    let scheduled = status.conditions.named("PodScheduled");
    let scheduled = scheduled.filter(|it| it.status.as_str() == "True");
    let waited = created.zip(scheduled.and_then(|it| at(&it.last_transition_time)));
    let schedule = waited.filter(|(from, to)| from < to).map(|times| {
        let mut span =
            Span::new(ids.schedule(uid), Some(id), "schedule", SpanKind::Internal, times);
        span.attributes.set(sc::KIND, "schedule");
        pod(&mut span, spec, origin);
        span
    });
    let containers = status.containers().filter_map(|it| container(it, id, spec, origin));
    let spans = [span].into_iter().chain(schedule).chain(containers).collect();
    Ok(Found::new(origin, Of::Kubernetes, spans))
}

/// Sets what Pod a span is of.
fn pod<'a>(span: &mut Span<'a>, spec: &Spec<'a>, origin: &Origin<'a, '_>) {
    let labels = &origin.labels;
    span.attributes.set(sc::JOB, first(&[&labels.pipeline_task, &labels.task]));
    span.attributes.set(sc::K8S_POD_NAME, origin.meta.name.cow());
    span.attributes.set(sc::K8S_POD_UID, origin.meta.uid.cow());
    span.attributes.set(sc::K8S_NODE_NAME, spec.node_name.cow());
}

fn container<'a>(
    of: &Container<'a>,
    parent: SpanId,
    spec: &Spec<'a>,
    origin: &Origin<'a, '_>,
) -> Option<Span<'a>> {
    let end = of.end()?;
    let (start, finish) = (at(&end.started_at), at(&end.finished_at));
    // Of a container that its node forgot, nothing is known but that it ended.
    let interval = Interval::repair(start, finish, None, None)?;
    let restarts = of.restart_count.0.unwrap_or(0);
    let id = origin.ids().container(origin.uid(), of.name.as_str(), restarts);
    let name = first(&[&of.name]).unwrap_or("container".into());
    let times = (interval.start, interval.end);
    let mut span = Span::new(id, Some(parent), name, SpanKind::Internal, times);
    span.attributes.set(sc::KIND, "container");
    pod(&mut span, spec, origin);
    span.attributes.set(sc::K8S_CONTAINER_NAME, of.name.cow());
    span.attributes.set(sc::K8S_CONTAINER_RESTART_COUNT, restarts);
    span.attributes.set(sc::K8S_CONTAINER_STATUS_LAST_TERMINATED_REASON, end.reason.cow());
    span.attributes.set("k8s.container.exit_code", end.exit_code.0);
    span.attributes.set(sc::CONTAINER_IMAGE_NAME, image_name(of.image.cow()));
    span.attributes.set(sc::CONTAINER_IMAGE_ID, image_id(of.image_id.cow()));
    if let Some(error) = end.failure() {
        fail(&mut span, error);
    }
    mark_repaired(&mut span, &interval);
    Some(span)
}

/// Marks a span as failed.
pub(super) fn fail<'a>(span: &mut Span<'a>, error: Cow<'a, str>) {
    span.status = SpanStatus::Error(error.clone());
    span.attributes.set(sc::ERROR_TYPE, error);
}

/// An image's name without its tag and its digest, as the conventions have it.
pub(super) fn image_name(image: Cow<'_, str>) -> Cow<'_, str> {
    let cut = |image: &str| {
        let name = image.split('@').next().unwrap_or_default();
        // A colon before the last slash is a registry's port.
        let path = name.rfind('/').map_or(0, |it| it + 1);
        name[path..].find(':').map_or(name.len(), |it| path + it)
    };
    match image {
        Cow::Borrowed(it) => it[..cut(it)].into(),
        Cow::Owned(it) => it[..cut(&it)].to_owned().into(),
    }
}

/// An image's id without the scheme that Docker put before it.
pub(super) fn image_id(id: Cow<'_, str>) -> Cow<'_, str> {
    match id {
        Cow::Borrowed(it) => it.rsplit("://").next().unwrap_or_default().into(),
        Cow::Owned(it) => it.rsplit("://").next().unwrap_or_default().to_owned().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_name_has_neither_tag_nor_digest() {
        for (image, name) in [
            ("golang:1.26", "golang"),
            (
                "registry.example.com:5000/team/app:v1@sha256:00",
                "registry.example.com:5000/team/app",
            ),
            ("registry.example.com:5000/team/app", "registry.example.com:5000/team/app"),
            ("", ""),
        ] {
            assert_eq!(image_name(image.into()), name, "{image}");
        }
    }
}
