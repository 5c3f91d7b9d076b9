//! From a checked event to spans, metric points and log records.

mod bundle;

use std::borrow::Cow;

use serde_json::Value;

use super::{
    BadEvents, Batch, MAX_PARTS, Sender, asset,
    place::{self, Place},
    private,
    read::{BYTES, Event, Origin, TEXT},
};
use crate::{
    id::{Hashed, SpanId, TraceId},
    lenient::Int,
    mapping::{self, Outcome, Repository},
    otlp::{
        log::Record,
        metric::{self, Kind as Metric, Point},
        span::{Attributes, Kind, Span},
    },
    semconv::{self as sc, RunResult},
    settings::Settings,
    time::{self, Nanos},
};

pub(super) fn event(
    event: &Event<'_>,
    received: Nanos,
    settings: &Settings,
    sender: Sender<'_>,
    batch: &mut Batch,
) -> Result<(), BadEvents> {
    let identity = sender.identity();
    let mut origin: Origin = match identity {
        Some(identity) => identity.into(),
        None => event.context()?,
    };
    if matches!(sender, Sender::Confined(_)) {
        batch.confined |= origin.leave_run();
    }
    let place = match &origin.job {
        None => None,
        Some(Ok(job)) => Some(Place::in_run(job.place(settings))),
        Some(Err(bad)) => event.refuse(place::path(*bad), bad.expected)?,
    };
    let project = match &origin.project {
        Some(project) if identity.is_some() => Some(project.clone()),
        claimed => event.text("project")?.or_else(|| claimed.clone()),
    };
    let project = project.as_deref().map(path).unwrap_or_default();
    let sent = event.time()?;
    let correlation = event.text("correlation_id")?.or_else(|| origin.run_id.clone());
    let claimed = origin.traceparent;
    let joined = claimed.map(|(trace, parent)| Place { trace, parent, own: false });
    // Only a proved project enters the ids: events of one build need not all say their project. No
    // project goes by the name of a proof.
    let owner = match sender {
        Sender::Job(job) => job.project.as_deref().map(path).unwrap_or_default(),
        Sender::Trusted => String::new(),
        Sender::Confined(proof) => proof.to_owned(),
    };
    let own = || correlation.as_deref().map(|it| Place::own(&owner, it));
    batch.enter(&project);
    let place = place.or(joined).or_else(own);
    batch.trace_ids.extend(place.as_ref().map(|it| it.trace));
    let subject = Subject {
        event,
        resource: resource(event, &origin, &project, correlation.as_deref(), identity.is_some())?,
        place,
        project,
        correlation: correlation.unwrap_or_default(),
        time: sent.unwrap_or(received),
        // Without a time of its own an event is told from others by its content: one that is sent
        // again is received at another time, and is still the same.
        stamp: sent.map_or_else(|| event.json.to_string(), |it| it.to_string()),
        received,
    };
    match event.r#type {
        "ci_build_metadata" => subject.build(batch),
        "webpack_build_stats" => subject.bundle(batch),
        "artifact" => subject.artifact(batch),
        "measure" => subject.measure(batch),
        "mark" => subject.mark(batch),
        name => {
            // Its lists are kept whole: nobody knows what they are.
            let body = private::text(event.json, usize::MAX);
            let context = subject.place.map(|it| (it.trace, it.parent));
            subject.log(batch, name, body, Attributes::default(), context);
            Ok(())
        }
    }
}

/// `group/project`, also when the project is given as a web address, which may hold credentials.
fn path(project: &str) -> String {
    match Repository::parse(project) {
        Some(it) => mapping::path(&it.owner, &it.name),
        None => project.trim_matches('/').to_owned(),
    }
}

fn resource(
    event: &Event<'_>,
    origin: &Origin,
    project: &str,
    correlation: Option<&str>,
    proved: bool,
) -> Result<Attributes<'static>, BadEvents> {
    let text = |text: &str| text.to_owned();
    let either = |proved_or_claimed: &Option<String>, path| match proved_or_claimed {
        Some(text) if proved => Ok(Some(text.clone())),
        claimed => event.text(path).map(|it| it.or_else(|| claimed.clone())),
    };
    let branch = either(&origin.ref_name, "git_ref")?;
    let branch = branch.as_deref().map(|it| {
        ["refs/heads/", "refs/tags/"]
            .iter()
            .find_map(|prefix| it.strip_prefix(prefix))
            .unwrap_or(it)
    });
    let revision = either(&origin.revision, "commit_sha")?;
    let (owner, name) = project.rsplit_once('/').unwrap_or(("", project));
    let mut resource = Attributes::with_capacity(10);
    resource.set(sc::SERVICE_NAME, text(if name.is_empty() { "build" } else { name }));
    resource.set(sc::CORRELATION_ID, correlation.map(text));
    resource.set(sc::APP_BUILD_ID, correlation.map(text));
    resource.set(sc::CICD_PIPELINE_NAME, text(project));
    let run = origin.run_id.as_deref().filter(|_| origin.job.is_some());
    resource.set(sc::CICD_PIPELINE_RUN_ID, run.or(correlation).map(text));
    resource.set(sc::VCS_REPOSITORY_NAME, text(name));
    resource.set(sc::VCS_OWNER_NAME, text(owner));
    resource.set(sc::VCS_REF_HEAD_NAME, branch.map(text));
    resource.set(sc::VCS_REF_HEAD_REVISION, revision);
    Ok(resource)
}

/// An event, and what events of every type have in common.
struct Subject<'e, 'j> {
    event: &'e Event<'j>,
    resource: Attributes<'static>,
    /// None when neither a run nor a correlation id is known.
    place: Option<Place>,
    project: String,
    correlation: String,
    /// When the event says that it happened, else when it was received.
    time: Nanos,
    /// What tells it from other events of its type and name.
    stamp: String,
    received: Nanos,
}

impl Subject<'_, '_> {
    fn place(&self) -> Result<Place, BadEvents> {
        let expected = "use text that names the build, such as $CI_PIPELINE_ID";
        self.place.ok_or(self.event.bad("correlation_id", expected))
    }

    fn name(&self) -> Result<String, BadEvents> {
        self.event.text("name")?.ok_or(self.event.bad("name", TEXT))
    }

    /// The id of the event's span: the same event sent twice is the same span.
    fn id(&self, place: Place, names: &[&str]) -> SpanId {
        let trace = place.trace.to_string();
        let keys = [&[trace.as_str(), &self.correlation], names, &[&self.stamp]].concat();
        Hashed::new("build", "").span(self.event.r#type, &keys)
    }

    fn span(&self, place: Place, id: SpanId, name: String, length: Nanos) -> Span<'static> {
        // The root of a correlation id's own trace hangs under nothing.
        let parent = (id != place.parent).then_some(place.parent);
        let times = (self.time.saturating_sub(length), self.time);
        Span::new(id, parent, name, Kind::Internal, times)
    }

    /// A gauge's point now.
    fn gauge(
        &self,
        batch: &mut Batch,
        (name, unit): (&str, &str),
        value: f64,
        attributes: Attributes<'static>,
        (place, span): (Place, SpanId),
    ) {
        let exemplar = Some((place.trace, span));
        // A gauge has no beginning.
        let point = Point { start: 0, time: self.time, value, attributes, exemplar };
        batch.add_point(&self.resource, (name, unit, Metric::Gauge), point);
    }

    fn log(
        &self,
        batch: &mut Batch,
        event_name: &str,
        body: String,
        attributes: Attributes<'static>,
        context: Option<(TraceId, SpanId)>,
    ) {
        let record = Record {
            time: self.time,
            observed: self.received,
            event_name: event_name.to_owned().into(),
            body: body.into(),
            attributes,
            context,
        };
        batch.add_record(&self.resource, record);
    }

    /// A part of what was built as a record too: a store that takes no metrics has it as a document.
    fn part(
        &self,
        batch: &mut Batch,
        event_name: &str,
        name: String,
        attributes: Attributes<'static>,
        (place, span): (Place, SpanId),
    ) {
        self.log(batch, event_name, name, attributes, Some((place.trace, span)));
    }

    fn build(&self, batch: &mut Batch) -> Result<(), BadEvents> {
        let place = self.place()?;
        let seconds = self
            .event
            .amount("metrics.duration_seconds", "use a number of seconds, not negative")?;
        let outcome = self.event.text("job_status")?.map(outcome);
        let id = if place.own { place.parent } else { self.id(place, &[]) };
        let name = format!("build {}", self.project).trim_end().to_owned();
        let mut span = self.span(place, id, name, time::seconds(seconds));

        let mut attributes = Attributes::with_capacity(4);
        // The convention requires a name.
        let pipeline = if self.project.is_empty() { "build" } else { &self.project };
        attributes.set(sc::CICD_PIPELINE_NAME, pipeline.to_owned());
        // A build reports one time from beginning to end, without a split.
        attributes.set(sc::CICD_PIPELINE_RUN_STATE, sc::EXECUTING);
        if let Some(outcome) = outcome {
            attributes.set(sc::CICD_PIPELINE_RESULT, outcome.result.clone());
            attributes.set(sc::ERROR_TYPE, outcome.error.clone());
            outcome.apply(sc::CICD_PIPELINE_RESULT, &mut span);
        }
        let exemplar = Some((place.trace, id));
        let point =
            Point { start: span.start, time: span.end, value: seconds, attributes, exemplar };
        let metric = (sc::CICD_PIPELINE_RUN_DURATION, "s", metric::WORK);
        batch.add_point(&self.resource, metric, point);
        batch.add_span(place.trace, &self.resource, span);
        Ok(())
    }

    fn artifact(&self, batch: &mut Batch) -> Result<(), BadEvents> {
        let event = self.event;
        let place = self.place()?;
        let name = self.name()?;
        let variant = event.text("variant")?;
        let size = event.count("size_bytes", BYTES)?.ok_or(event.bad("size_bytes", BYTES))?;
        let parts = self.parts()?;

        // Variants of an artifact are built at the same moment.
        let id = self.id(place, &[&name, variant.as_deref().unwrap_or_default()]);
        let mut span = self.span(place, id, format!("artifact {name}"), 0);
        span.attributes.set(sc::ARTIFACT_FILENAME, name.clone());
        span.attributes.set(sc::ARTIFACT_VERSION, event.text("version")?);
        span.attributes.set(sc::ARTIFACT_HASH, event.text("digest")?);
        span.attributes.set("build.artifact.variant", variant.clone());
        span.attributes.set("build.artifact.size", size);

        let mut labels = Attributes::with_capacity(4);
        labels.set(sc::CICD_PIPELINE_NAME, self.project.clone());
        labels.set("build.artifact.name", name);
        labels.set("build.artifact.variant", variant);
        let at = (place, id);
        self.gauge(batch, ("build.artifact.size", "By"), float(size), labels.clone(), at);
        for (part, size) in asset::largest(parts, MAX_PARTS) {
            let mut labels = labels.clone();
            labels.set("build.artifact.part.name", part.clone());
            self.gauge(batch, ("build.artifact.part.size", "By"), float(size), labels.clone(), at);
            labels.set("build.artifact.part.size", size);
            self.part(batch, "build.artifact.part", part, labels, at);
        }
        batch.add_span(place.trace, &self.resource, span);
        Ok(())
    }

    fn parts(&self) -> Result<Vec<(String, u64)>, BadEvents> {
        const PATH: &str = "breakdown";
        let bad = self.event.bad(
            PATH,
            "use an object of names of at most 256 bytes, each with a whole number of bytes",
        );
        let Some(json) = self.event.get(PATH) else { return Ok(Vec::new()) };
        let part = |(name, size): (&String, &Value)| {
            let Int(size) = serde::Deserialize::deserialize(size).unwrap_or_default();
            let short = name.len() <= super::MAX_TEXT;
            size.filter(|_| short).map(|size| (name.clone(), size)).ok_or(bad)
        };
        json.as_object().ok_or(bad)?.iter().map(part).collect()
    }

    fn measure(&self, batch: &mut Batch) -> Result<(), BadEvents> {
        let event = self.event;
        let place = self.place()?;
        let name = instrument(&self.name()?);
        let value = event.number("value", "use a number")?;
        let value = value.ok_or(event.bad("value", "use a number"))?;
        let unit = event.text("unit")?.unwrap_or_default();
        // <https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-unit>
        if unit.len() > 63 || !unit.is_ascii() {
            return Err(event.bad("unit", "use at most 63 ASCII characters, such as s or By"));
        }
        let at = (place, place.parent);
        self.gauge(batch, (&name, &unit), value, event.attributes()?, at);
        Ok(())
    }

    fn mark(&self, batch: &mut Batch) -> Result<(), BadEvents> {
        let place = self.place()?;
        let name = self.name()?;
        let attributes = self.event.attributes()?;
        let id = self.id(place, &[&name]);
        let mut span = self.span(place, id, name.clone(), 0);
        span.attributes = attributes.clone();
        self.log(batch, &name, name.clone(), attributes, Some((place.trace, id)));
        batch.add_span(place.trace, &self.resource, span);
        Ok(())
    }
}

/// Exact up to 2^53 bytes, which are eight million gigabytes.
#[expect(clippy::cast_precision_loss, reason = "no size and no count is that large")]
fn float(count: u64) -> f64 {
    count as f64
}

/// How a job ended, in the words of the CI systems and of the conventions.
fn outcome(status: String) -> Outcome<'static> {
    match status.to_ascii_lowercase().as_str() {
        "success" | "passed" => Outcome::known(RunResult::Success, ""),
        "failed" | "failure" => Outcome::known(RunResult::Failure, "failed"),
        "error" => Outcome::known(RunResult::Error, "error"),
        "timedout" | "timeout" => Outcome::known(RunResult::Timeout, "timeout"),
        "canceled" | "cancelled" | "cancellation" | "aborted" => {
            Outcome::known(RunResult::Cancellation, "")
        }
        "skipped" | "skip" => Outcome::known(RunResult::Skip, ""),
        _ => Outcome::unknown(Cow::Owned(status)),
    }
}

/// The name of an instrument: a letter, then letters, digits and `_ . - /`, at most 255 in all.
///
/// <https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-name-syntax>
fn instrument(name: &str) -> String {
    let allowed = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '.' | '-' | '/');
    let name: String = name.chars().map(|it| if allowed(it) { it } else { '_' }).collect();
    let mut name = if name.starts_with(|it: char| it.is_ascii_alphabetic()) {
        name
    } else {
        format!("m.{name}")
    };
    name.truncate(255);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_instruments_follow_the_specification() {
        for (name, expected) in [
            ("build.cache/hit-rate_1", "build.cache/hit-rate_1"),
            ("cache hit rate", "cache_hit_rate"),
            ("3g.size", "m.3g.size"),
            ("größe", "gr__e"),
            ("_x", "m._x"),
        ] {
            assert_eq!(instrument(name), expected, "{name}");
        }
    }

    #[test]
    fn a_project_is_a_path_without_what_a_web_address_may_hold() {
        for (project, expected) in [
            ("acme/shop", "acme/shop"),
            ("/shop/", "shop"),
            ("https://user:s3cret@gitlab.com/acme/web/shop.git", "acme/web/shop"),
            ("git@github.com:acme/shop.git", "acme/shop"),
        ] {
            assert_eq!(path(project), expected, "{project}");
        }
    }

    proptest! {
        #[test]
        fn any_name_becomes_one_of_an_instrument(name in "\\PC{1,300}") {
            let name = instrument(&name);
            prop_assert!(name.len() <= 255 && name.as_bytes()[0].is_ascii_alphabetic());
        }
    }
}
