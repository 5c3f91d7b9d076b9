//! Metrics of runs and of the time that jobs wait, made of the spans of a delivery. What a span stands
//! for it says itself, so every provider has them.
//!
//! | metric | a point is |
//! | --- | --- |
//! | `cicd.pipeline.run.duration`, `executing` | a run, in the delivery that has its span |
//! | `cicd.pipeline.run.duration`, `pending` | what of it passed before its first job began, if the same delivery tells |
//! | `spanhook.job.queue.duration` | a job that waited |
//!
//! A point is timed by what it measures and not by a clock, so a delivery that comes twice gives the
//! same points. A measurement is made when what is measured ends, so that is the point's time, and
//! it counts from a nanosecond before: delta points of one series must not overlap, as runs do.
//!
//! <https://opentelemetry.io/docs/specs/semconv/cicd/cicd-metrics/>

use std::{borrow::Cow, collections::HashMap};

use crate::{
    id::{SpanId, TraceId},
    mapping::mentions,
    otlp::{
        metric::{self, Point},
        span::{Attributes, Group, Span, Trace, Value},
    },
    semconv::{self as sc, RunResult},
    time::{self, Nanos},
};

/// What of a run's resource is the same for the next run. Every other attribute would make a run a
/// series of its own.
const LASTING: [&str; 5] = [
    sc::PROVIDER,
    sc::VCS_PROVIDER_NAME,
    sc::VCS_REPOSITORY_URL_FULL,
    sc::VCS_REPOSITORY_NAME,
    sc::VCS_OWNER_NAME,
];

/// The metrics of these traces, by pipeline.
#[must_use]
pub fn of<'a>(traces: &[Trace<'a>]) -> Vec<metric::Group<'a>> {
    let mut groups = Vec::new();
    for trace in traces {
        let jobs: HashMap<_, _> = of_kind(trace, "job").map(|(_, it)| (it.id, &it.name)).collect();
        let runs = runs(trace);
        for group in &trace.groups {
            let run = &runs[group.resource.text(sc::CICD_PIPELINE_RUN_ID)];
            let pipeline = Pipeline::new(&group.resource, run.span);
            for span in &group.spans {
                match span.attributes.text(sc::KIND) {
                    "run" => pipeline.run(trace.id, span, run.began, &mut groups),
                    "queue" => pipeline.queue(trace.id, span, &jobs, &mut groups),
                    _ => {}
                }
            }
        }
    }
    groups
}

/// A span, and the resource that it is of.
type Placed<'t, 'a> = (&'t Attributes<'a>, &'t Span<'a>);

fn of_kind<'t, 'a>(trace: &'t Trace<'a>, kind: &'t str) -> impl Iterator<Item = Placed<'t, 'a>> {
    let of = |it: &'t Group<'a>| it.spans.iter().map(|span| (&it.resource, span));
    let spans = trace.groups.iter().flat_map(of);
    spans.filter(move |(_, it)| it.attributes.text(sc::KIND) == kind)
}

/// What a delivery tells of one of a trace's runs: an event in a repository may start several.
#[derive(Default)]
struct Run<'t, 'a> {
    span: Option<&'t Span<'a>>,
    /// When its first job began.
    began: Option<Nanos>,
}

/// By their ids.
fn runs<'t, 'a>(trace: &'t Trace<'a>) -> HashMap<&'t str, Run<'t, 'a>> {
    let id = |resource: &'t Attributes<'a>| resource.text(sc::CICD_PIPELINE_RUN_ID);
    let ids = trace.groups.iter().map(|it| id(&it.resource));
    let mut runs: HashMap<_, _> = ids.map(|it| (it, Run::default())).collect();
    for (resource, span) in of_kind(trace, "run") {
        runs.entry(id(resource)).or_default().span.get_or_insert(span);
    }
    let jobs = of_kind(trace, "job").map(|(resource, it)| (resource, it.start));
    // Where jobs have deliveries of their own, a run's may still have stages.
    let stages = of_kind(trace, "stage").map(|it| (it.0, stage_began(it)));
    for (resource, start) in jobs.chain(stages) {
        let began = &mut runs.entry(id(resource)).or_default().began;
        *began = Some(began.map_or(start, |it| it.min(start)));
    }
    runs
}

/// When a stage's first job began: its span begins when that one waited.
fn stage_began((resource, stage): Placed<'_, '_>) -> Nanos {
    let key = format!("{}.stage.queued_duration", resource.text(sc::PROVIDER));
    match stage.attributes.get(&key) {
        Some(Value::Double(queued)) => stage.start.saturating_add(time::seconds(*queued)),
        _ => stage.start,
    }
}

/// What is measured.
struct Pipeline<'a> {
    name: Cow<'a, str>,
    resource: Attributes<'a>,
}

impl<'a> Pipeline<'a> {
    fn new(run_resource: &Attributes<'a>, run: Option<&Span<'a>>) -> Self {
        let own = text(run_resource, sc::CICD_PIPELINE_NAME);
        let service = text(run_resource, sc::SERVICE_NAME);
        let (name, service) = if is_lasting(&own, run_resource, run) {
            (own, service)
        } else {
            let name = repository(run_resource);
            // The operator's pattern may have put the name there.
            let holds_name = mentions(&service, &own);
            let service = if holds_name { service.replace(&*own, &name).into() } else { service };
            (name, service)
        };
        let mut resource = Attributes::with_capacity(LASTING.len() + 2);
        resource.set(sc::SERVICE_NAME, service);
        resource.set(sc::CICD_PIPELINE_NAME, name.clone());
        for key in LASTING {
            resource.set(key, run_resource.get(key).cloned());
        }
        Self { name, resource }
    }

    /// A run that was skipped took no time, and one that waits for a person's leave, which looks the
    /// same, is told again when it ends.
    fn run(
        &self,
        trace: TraceId,
        span: &Span<'a>,
        began: Option<Nanos>,
        groups: &mut Vec<metric::Group<'a>>,
    ) {
        if span.attributes.text(sc::CICD_PIPELINE_RESULT) == RunResult::Skip.as_str() {
            return;
        }
        let mut add = |state, times, result: &[&'static str]| {
            let mut attributes = Attributes::with_capacity(4);
            attributes.set(sc::CICD_PIPELINE_NAME, self.name.clone());
            attributes.set(sc::CICD_PIPELINE_RUN_STATE, state);
            for key in result {
                attributes.set(*key, span.attributes.get(key).cloned());
            }
            let name = sc::CICD_PIPELINE_RUN_DURATION;
            self.add(name, point(times, attributes, (trace, span.id)), groups);
        };
        // A job that was kept from an earlier try may have begun before the run.
        let began = began.map(|it| it.clamp(span.start, span.end));
        if let Some(began) = began {
            add(sc::PENDING, (span.start, began), &[]);
        }
        let times = (began.unwrap_or(span.start), span.end);
        add(sc::EXECUTING, times, &[sc::CICD_PIPELINE_RESULT, sc::ERROR_TYPE]);
    }

    fn queue(
        &self,
        trace: TraceId,
        span: &Span<'a>,
        jobs: &HashMap<SpanId, &Cow<'a, str>>,
        groups: &mut Vec<metric::Group<'a>>,
    ) {
        // What links no job is the wait of a whole run.
        if span.links.is_empty() {
            return;
        }
        let job = span.links.iter().find_map(|it| jobs.get(&it.span));
        let mut attributes = Attributes::with_capacity(2);
        attributes.set(sc::CICD_PIPELINE_NAME, self.name.clone());
        // The name of the job's span, which leaves out what is of one run.
        attributes.set(sc::CICD_PIPELINE_TASK_NAME, job.map(|it| (*it).clone()));
        let point = point((span.start, span.end), attributes, (trace, span.id));
        self.add(sc::JOB_QUEUE_DURATION, point, groups);
    }

    fn add(&self, name: &str, point: Point<'a>, groups: &mut Vec<metric::Group<'a>>) {
        metric::add(groups, &self.resource, (name, "s", metric::WORK), point);
    }
}

fn point<'a>(
    times: (Nanos, Nanos),
    attributes: Attributes<'a>,
    exemplar: (TraceId, SpanId),
) -> Point<'a> {
    Point {
        start: times.1.saturating_sub(1),
        time: times.1,
        value: time::length(times),
        attributes,
        exemplar: Some(exemplar),
    }
}

fn text<'a>(attributes: &Attributes<'a>, key: &str) -> Cow<'a, str> {
    match attributes.get(key) {
        Some(Value::Text(text)) => text.clone(),
        _ => Cow::default(),
    }
}

/// Whether a pipeline's name is there and holds nothing of this run. The name of the run's span says
/// so where there is one: the mapping leaves the pipeline's out of it when it varies, and knows more
/// than the resource does, such as a commit's title.
fn is_lasting(name: &str, resource: &Attributes<'_>, run: Option<&Span<'_>>) -> bool {
    let reference = resource.text(sc::VCS_REF_HEAD_NAME);
    // `main` or `develop` is a branch that lasts, and a word that a pipeline may have for a name.
    let is_word = reference.chars().all(char::is_alphabetic);
    let of_run = [sc::CICD_PIPELINE_RUN_ID, sc::VCS_CHANGE_ID, sc::VCS_CHANGE_TITLE];
    let revision = resource.text(sc::VCS_REF_HEAD_REVISION);
    let varies = || {
        of_run.iter().any(|key| mentions(name, resource.text(key)))
            || !is_word && mentions(name, reference)
            || name
                .split(|it: char| !it.is_alphanumeric())
                .any(|word| word.len() >= 7 && revision.starts_with(word))
    };
    match run {
        _ if name.is_empty() => false,
        Some(run) if run.name.ends_with(name) => true,
        Some(_) => is_word && mentions(name, reference) && !varies(),
        None => !varies(),
    }
}

/// `owner/name`, which stands in for a pipeline's name; the conventions require one.
fn repository<'a>(resource: &Attributes<'a>) -> Cow<'a, str> {
    let (owner, name) =
        (text(resource, sc::VCS_OWNER_NAME), text(resource, sc::VCS_REPOSITORY_NAME));
    match (owner.is_empty(), name.is_empty()) {
        (_, true) => "unknown".into(),
        (true, false) => name,
        (false, false) => format!("{owner}/{name}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::span::{Group, Kind, Link};

    fn resource(name: &str, reference: &str) -> Attributes<'static> {
        let mut resource = Attributes::default();
        resource.set(sc::SERVICE_NAME, format!("ci {name}"));
        resource.set(sc::CICD_PIPELINE_NAME, name.to_owned());
        resource.set(sc::CICD_PIPELINE_RUN_ID, "1234567890");
        resource.set(sc::VCS_REPOSITORY_NAME, "shop");
        resource.set(sc::VCS_OWNER_NAME, "acme/web");
        resource.set(sc::VCS_REF_HEAD_NAME, reference.to_owned());
        resource.set(sc::VCS_REF_HEAD_REVISION, "4bf92f3577b34da6a3ce929d0e0e47364bf92f35");
        resource.set(sc::VCS_CHANGE_ID, "57");
        resource.set(sc::VCS_CHANGE_TITLE, "Add a basket");
        resource
    }

    /// The service and the pipeline of a run's metrics, or of a job's in a delivery of its own.
    fn named(name: &str, reference: &str, run: Option<&'static str>) -> (String, String) {
        let id = SpanId::new([1; 8]).unwrap();
        let (span_name, kind) = run.map_or(("queue", "queue"), |name| (name, "run"));
        let mut span = Span::new(id, None, span_name, Kind::Internal, (1, 2));
        span.attributes.set(sc::KIND, kind);
        span.links.push(Link { trace: TraceId::new([1; 16]).unwrap(), span: id });
        let groups = vec![Group { resource: resource(name, reference), spans: vec![span] }];
        let trace = Trace { id: TraceId::new([1; 16]).unwrap(), groups };
        let [group] = &of(&[trace])[..] else { panic!() };
        let pipeline = group.resource.text(sc::CICD_PIPELINE_NAME);
        assert_eq!(group.metrics[0].points[0].attributes.text(sc::CICD_PIPELINE_NAME), pipeline);
        (group.resource.text(sc::SERVICE_NAME).to_owned(), pipeline.to_owned())
    }

    #[test]
    fn a_pipelines_name_stays_unless_it_is_of_one_run() {
        const OTHER: &str = "acme/web/shop";
        for (name, reference, run, expected) in [
            ("build", "feature/basket-1", Some("RUN build"), "build"),
            ("build", "feature/basket-1", None, "build"),
            // The mapping knows what the resource does not say, such as a commit's title.
            ("Mend the basket", "main", Some("RUN"), OTHER),
            ("for feature/basket-1", "feature/basket-1", Some("RUN"), OTHER),
            ("for feature/basket-1", "feature/basket-1", None, OTHER),
            // A branch that lasts is no reason to call its runs another pipeline's.
            ("main", "main", Some("RUN"), "main"),
            ("main", "main", None, "main"),
            ("Deploy main 4bf92f3", "main", Some("RUN"), OTHER),
            ("Deploy 4bf92f35", "main", None, OTHER),
            ("Run 1234567890", "main", None, OTHER),
            ("MR 57", "main", None, OTHER),
            ("Add a basket", "main", None, OTHER),
            ("", "main", None, OTHER),
        ] {
            let service = format!("ci {expected}");
            let service = if name.is_empty() { "ci " } else { &service };
            let found = named(name, reference, run);
            assert_eq!(found, (service.to_owned(), expected.to_owned()), "{name} {run:?}");
        }
    }

    #[test]
    fn two_runs_of_one_event_have_their_own_names_and_waits() {
        let id = |byte: u8| SpanId::new([byte; 8]).unwrap();
        let group = |name: &str, number: u8, began: Nanos| {
            let mut resource = Attributes::default();
            resource.set(sc::CICD_PIPELINE_NAME, name.to_owned());
            resource.set(sc::CICD_PIPELINE_RUN_ID, number.to_string());
            let mut run =
                Span::new(id(number), None, format!("RUN {name}"), Kind::Server, (0, 100));
            run.attributes.set(sc::KIND, "run");
            let times = (began * 1_000_000_000, 200_000_000_000);
            let mut job = Span::new(id(number + 10), None, "job", Kind::Internal, times);
            job.attributes.set(sc::KIND, "job");
            run.end = 100_000_000_000;
            Group { resource, spans: vec![run, job] }
        };
        let groups = vec![group("unit", 1, 10), group("lint", 2, 30)];
        let trace = Trace { id: TraceId::new([1; 16]).unwrap(), groups };
        let found: Vec<_> = of(&[trace])
            .iter()
            .map(|group| {
                let values: Vec<_> = group.metrics[0].points.iter().map(|it| it.value).collect();
                (group.resource.text(sc::CICD_PIPELINE_NAME).to_owned(), values)
            })
            .collect();
        assert_eq!(
            found,
            [("unit".to_owned(), vec![10.0, 90.0]), ("lint".to_owned(), vec![30.0, 70.0])]
        );
    }

    #[test]
    fn a_pipeline_without_any_name_is_unknown() {
        assert_eq!(repository(&Attributes::default()), "unknown");
        let mut resource = Attributes::default();
        resource.set(sc::VCS_REPOSITORY_NAME, "shop");
        assert_eq!(repository(&resource), "shop");
    }
}
