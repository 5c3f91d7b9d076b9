//! Metrics from webhooks: those of every sample, whom they leave out, and those of any spans.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "it writes spans too")]
mod describe;
mod points;
mod support;

use std::{collections::BTreeSet, fs, path::Path};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest, common::v1::KeyValue,
    metrics::v1::metric::Data,
};
use proptest::prelude::*;
use prost::Message as _;
use spanhook_core::{
    delivery::{Accepted, Outcome},
    id::{SpanId, TraceId, TraceIds},
    message::{Content, Message, read},
    otlp::{
        Signal,
        metric::{Kind as Metric, Point},
        span::{Attributes, Group, Kind, Link, Span, Trace, Value},
    },
    provider::{Provider, gitlab::JobSpans},
    rules::ProjectRules,
    run_metrics,
    settings::Settings,
};
use support::{delivery, with_jobs};

const RUN: &str = "cicd.pipeline.run.duration";
const QUEUE: &str = "spanhook.job.queue.duration";

fn settings(job_spans: JobSpans) -> Settings {
    Settings { webhook_metrics: true, ..with_jobs(TraceIds::Hashed, job_spans) }
}

/// The samples of a provider by name.
fn samples(provider: Provider) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events").join(provider.as_str());
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
}

fn accepted(
    provider: Provider,
    body: &[u8],
    settings: &Settings,
    rules: &ProjectRules,
) -> Option<Accepted> {
    match delivery(body).process(provider, settings, rules) {
        // What can't be read is kept whatever its project may be.
        Outcome::Accepted(accepted) => Some(accepted).filter(|it| !it.messages.is_empty()),
        Outcome::Ignored { .. } | Outcome::Quarantined { .. } => None,
    }
}

/// The metrics among messages, decoded by types that spanhook did not write.
fn metrics(messages: &[Message]) -> Vec<ExportMetricsServiceRequest> {
    let decode = |message: &Message| match read(&message.body, &message.attributes).unwrap() {
        Content::Otlp(Signal::Metrics, raw) => {
            Some(ExportMetricsServiceRequest::decode(&*raw).unwrap())
        }
        _ => None,
    };
    messages.iter().filter_map(decode).collect()
}

fn described(provider: Provider, body: &[u8], settings: &Settings) -> String {
    let accepted = accepted(provider, body, settings, &ProjectRules::default());
    let mut text = String::new();
    for request in metrics(&accepted.unwrap_or_default().messages) {
        points::write_metrics(&request, true, &mut text);
    }
    text
}

/// The metrics of a provider's samples, of which some give none.
fn of_samples(provider: Provider) -> String {
    let mut text = String::new();
    for (name, body) in samples(provider) {
        for (how, job_spans) in [("", JobSpans::Pipeline), (", jobs by job events", JobSpans::Job)]
        {
            if provider != Provider::Gitlab && job_spans == JobSpans::Job {
                continue;
            }
            let found = described(provider, &body, &settings(job_spans));
            let found = if found.is_empty() { "none\n" } else { &found };
            text += &format!("=== {name}{how}\n{found}");
        }
    }
    text
}

#[test]
fn circlecis_samples_give_these_metrics() {
    insta::assert_snapshot!(of_samples(Provider::Circleci));
}

#[test]
fn gitlabs_samples_give_these_metrics() {
    insta::assert_snapshot!(of_samples(Provider::Gitlab));
}

#[test]
fn githubs_samples_give_these_metrics() {
    insta::assert_snapshot!(of_samples(Provider::Github));
}

#[test]
fn a_clusters_samples_give_these_metrics() {
    insta::assert_snapshot!(of_samples(Provider::Kubernetes));
}

#[test]
fn tektons_samples_give_these_metrics() {
    insta::assert_snapshot!(of_samples(Provider::Tekton));
}

#[test]
fn lighthouses_samples_give_these_metrics() {
    insta::assert_snapshot!(of_samples(Provider::Lighthouse));
}

/// Every sample that gives something, with what it gives.
fn all(rules: &ProjectRules, settings: &Settings) -> Vec<(String, Accepted)> {
    let of = |provider: Provider| {
        samples(provider).into_iter().filter_map(move |(name, body)| {
            Some((format!("{provider} {name}"), accepted(provider, &body, settings, rules)?))
        })
    };
    Provider::ALL.into_iter().flat_map(of).collect()
}

#[test]
fn without_the_setting_there_are_no_metrics_and_with_it_the_spans_are_the_same() {
    let rules = ProjectRules::default();
    let without = all(&rules, &with_jobs(TraceIds::Hashed, JobSpans::Pipeline));
    let with = all(&rules, &settings(JobSpans::Pipeline));
    assert_eq!(without.len(), with.len());
    for ((name, without), (_, with)) in without.iter().zip(&with) {
        assert_eq!(without.points, 0, "{name}");
        // A delivery of several projects has the metrics of each behind its spans.
        let spans = with.messages.iter().filter(|it| it.attributes["signal"] == "traces");
        assert!(spans.eq(&without.messages), "{name}");
        let encoded = metrics(&with.messages);
        let count = |metric: &_| match metric {
            Some(Data::Histogram(it)) => it.data_points.len(),
            _ => panic!("no histogram"),
        };
        let scopes = encoded.iter().flat_map(|it| &it.resource_metrics);
        let metrics = scopes.flat_map(|it| &it.scope_metrics).flat_map(|it| &it.metrics);
        assert_eq!(metrics.map(|it| count(&it.data)).sum::<usize>(), with.points, "{name}");
    }
}

#[test]
fn a_delivery_that_comes_twice_gives_the_same_messages() {
    let rules = ProjectRules::default();
    let both = settings(JobSpans::Pipeline);
    assert_eq!(all(&rules, &both), all(&rules, &both));
}

#[test]
fn a_project_that_is_switched_off_gives_none_and_a_share_of_runs_is_no_share_of_metrics() {
    let on = settings(JobSpans::Pipeline);
    let denied = ProjectRules::parse(r#"{"deny": ["*"]}"#).unwrap();
    assert_eq!(all(&denied, &on), []);
    let everything = all(&ProjectRules::default(), &on);
    let metrics_alone = all(&ProjectRules::parse(r#"{"share": {"*": 0}}"#).unwrap(), &on);
    let expected: Vec<_> = everything.iter().filter(|(_, it)| it.points > 0).collect();
    assert!(!expected.is_empty() && metrics_alone.len() == expected.len());
    for ((name, found), (_, expected)) in metrics_alone.iter().zip(expected) {
        assert_eq!((found.spans, found.points), (0, expected.points), "{name}");
        assert_eq!(metrics(&found.messages), metrics(&expected.messages), "{name}");
    }
}

#[test]
fn nothing_of_one_run_is_in_a_series() {
    let keys = |attributes: &[KeyValue]| -> BTreeSet<String> {
        attributes.iter().map(|it| it.key.clone()).collect()
    };
    let (mut on_resources, mut on_points) = (BTreeSet::new(), BTreeSet::new());
    let mut pipelines = BTreeSet::new();
    for (_, accepted) in all(&ProjectRules::default(), &settings(JobSpans::Pipeline)) {
        for group in metrics(&accepted.messages).iter().flat_map(|it| &it.resource_metrics) {
            on_resources.extend(keys(&group.resource.as_ref().unwrap().attributes));
            for metric in group.scope_metrics.iter().flat_map(|it| &it.metrics) {
                let Some(Data::Histogram(histogram)) = &metric.data else { panic!() };
                for point in &histogram.data_points {
                    on_points.extend(keys(&point.attributes));
                    pipelines.insert(describe::value(point.attributes[0].value.as_ref()));
                }
            }
        }
    }
    let expected = [
        "cicd.pipeline.name",
        "service.name",
        "spanhook.provider",
        "vcs.owner.name",
        "vcs.provider.name",
        "vcs.repository.name",
        "vcs.repository.url.full",
    ];
    assert_eq!(on_resources, expected.map(str::to_owned).into());
    let expected = [
        "cicd.pipeline.name",
        "cicd.pipeline.result",
        "cicd.pipeline.run.state",
        "cicd.pipeline.task.name",
        "error.type",
    ];
    assert_eq!(on_points, expected.map(str::to_owned).into());
    insta::assert_snapshot!(Vec::from_iter(pipelines).join("\n"));
}

/// Spans of every kind, at any time, of any result.
fn spans() -> impl Strategy<Value = Vec<Span<'static>>> {
    let kind = prop::sample::select(vec![
        "run",
        "stage",
        "job",
        "queue",
        "step",
        "marker",
        "ping",
        "of tomorrow",
    ]);
    let result = prop::sample::select(vec!["success", "failure", "skip", "archived", ""]);
    let times = prop_oneof![(0..50_u64, 0..50_u64), (any::<u64>(), any::<u64>())];
    let span = (kind, result, times, 1..9_u8);
    let make = |(number, (kind, result, times, linked))| -> Span<'static> {
        let id = |number: u8| SpanId::new([number; 8]).unwrap();
        let (from, to): (u64, u64) = times;
        let times = (from.min(to), from.max(to));
        let mut span = Span::new(id(number), None, "RUN build", Kind::Internal, times);
        span.attributes.set("spanhook.kind", kind);
        span.attributes.set("cicd.pipeline.result", result);
        span.links.push(Link { trace: TraceId::new([1; 16]).unwrap(), span: id(linked) });
        span
    };
    prop::collection::vec(span, 0..8).prop_map(move |it| (1..).zip(it).map(make).collect())
}

proptest! {
    #[test]
    fn a_run_that_was_not_skipped_has_one_executing_point_and_its_states_are_its_length(
        spans in spans(),
        on_workers in any::<bool>(),
    ) {
        let kinds = ["run", "queue"].map(|kind| -> Vec<_> {
            let is = |it: &&Span<'_>| it.attributes.text("spanhook.kind") == kind;
            spans.iter().filter(is).cloned().collect()
        });
        let mut resource = Attributes::default();
        resource.set("cicd.pipeline.name", "build");
        resource.set("cicd.pipeline.run.id", "1");
        let group = |spans| Group { resource: resource.clone(), spans };
        let groups = if on_workers {
            spans.into_iter().map(|it| group(vec![it])).collect()
        } else {
            vec![group(spans)]
        };
        let trace = Trace { id: TraceId::new([1; 16]).unwrap(), groups };
        let found = run_metrics::of(std::slice::from_ref(&trace));
        // All of it is of one pipeline.
        prop_assert!(found.len() <= 1);
        let metrics: Vec<_> = found.iter().flat_map(|it| &it.metrics).collect();
        let points_of = |name: &str| -> Vec<&Point<'_>> {
            metrics.iter().filter(|it| it.name == name).flat_map(|it| &it.points).collect()
        };
        for metric in &metrics {
            prop_assert!(matches!(metric.kind, Metric::DeltaHistogram(_)) && metric.unit == "s");
            for point in &metric.points {
                prop_assert!(point.value >= 0.0 && point.value.is_finite());
                prop_assert!(point.time == 0 || point.start + 1 == point.time);
                let pipeline = Value::Text("build".into());
                prop_assert_eq!(point.attributes.get("cicd.pipeline.name"), Some(&pipeline));
            }
        }
        let [runs, queues] = kinds;
        #[expect(clippy::cast_precision_loss, reason = "compared with a tolerance")]
        let seconds = |it: &Span<'_>| (it.end - it.start) as f64 / 1e9;
        let points = points_of(RUN);
        for run in &runs {
            let own = |it: &&&Point<'_>| it.exemplar == Some((trace.id, run.id));
            let own: Vec<_> = points.iter().filter(own).collect();
            let state = |state: &str| -> Vec<&Point<'_>> {
                let is = |it: &&&&Point<'_>| it.attributes.text("cicd.pipeline.run.state") == state;
                own.iter().filter(is).map(|it| **it).collect()
            };
            let (pending, executing) = (state("pending"), state("executing"));
            if run.attributes.text("cicd.pipeline.result") == "skip" {
                prop_assert!(own.is_empty());
                continue;
            }
            prop_assert!(executing.len() == 1 && pending.len() <= 1);
            prop_assert_eq!(own.len(), executing.len() + pending.len());
            prop_assert_eq!(executing[0].time, run.end);
            prop_assert!(pending.iter().all(|it| it.attributes.get("cicd.pipeline.result").is_none()));
            let sum: f64 = own.iter().map(|it| it.value).sum();
            prop_assert!((sum - seconds(run)).abs() <= 1e-12 + seconds(run) * 1e-12);
        }
        let waited = points_of(QUEUE);
        prop_assert_eq!(waited.len(), queues.len());
        for (point, queue) in waited.iter().zip(&queues) {
            prop_assert_eq!((point.time, point.value), (queue.end, seconds(queue)));
        }
        let of_runs: BTreeSet<_> = points.iter().map(|it| it.exemplar).collect();
        prop_assert!(of_runs.len() <= runs.len());
    }
}
