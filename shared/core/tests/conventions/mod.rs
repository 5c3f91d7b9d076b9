//! The semantic conventions 1.44 as data, and a check of every span against them.
//!
//! <https://opentelemetry.io/docs/specs/semconv/cicd/cicd-spans/>,
//! <https://opentelemetry.io/docs/specs/semconv/resource/cicd/>

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};

const RESULTS: &[&str] = &["success", "failure", "error", "timeout", "cancellation", "skip"];

const KINDS: &[&str] = &[
    "run",
    "stage",
    "job",
    "queue",
    "step",
    "marker",
    "ping",
    // Of a cluster.
    "event",
    "pull_request",
    "pipeline_run",
    "retry",
    "activity",
    "pod",
    "container",
    "schedule",
    "pull",
];

/// Where an attribute belongs.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Resource,
    Span,
}
use Place::{Resource, Span as OnSpan};

/// Name, place, and the values of an enum (which may be extended where `OPEN` says so).
const ATTRIBUTES: &[(&str, Place, &[&str])] = &[
    ("service.name", Resource, &[]),
    ("cicd.pipeline.name", Resource, &[]),
    ("cicd.pipeline.run.id", Resource, &[]),
    ("cicd.pipeline.run.url.full", Resource, &[]),
    ("cicd.worker.id", Resource, &[]),
    ("cicd.worker.name", Resource, &[]),
    ("vcs.provider.name", Resource, &[]),
    ("vcs.repository.url.full", Resource, &[]),
    ("vcs.repository.name", Resource, &[]),
    ("vcs.owner.name", Resource, &[]),
    ("vcs.ref.head.name", Resource, &[]),
    ("vcs.ref.head.revision", Resource, &[]),
    ("vcs.ref.head.type", Resource, &["branch", "tag"]),
    ("vcs.ref.type", Resource, &["branch", "tag"]),
    ("vcs.ref.base.name", Resource, &[]),
    ("vcs.ref.base.revision", Resource, &[]),
    ("vcs.ref.base.type", Resource, &["branch", "tag"]),
    ("vcs.change.id", Resource, &[]),
    ("vcs.change.title", Resource, &[]),
    // `locked` is GitLab's: the conventions let an enum grow.
    ("vcs.change.state", Resource, &["open", "wip", "closed", "merged", "locked"]),
    ("app.build_id", Resource, &[]),
    // Of no convention: the name that senders of build events know it by.
    ("correlation_id", Resource, &[]),
    // Of no convention, and the same for every provider.
    (
        "spanhook.provider",
        Resource,
        &["circleci", "gitlab", "github", "kubernetes", "tekton", "lighthouse"],
    ),
    ("spanhook.kind", OnSpan, KINDS),
    ("spanhook.stage", OnSpan, &[]),
    ("spanhook.job", OnSpan, &[]),
    ("spanhook.trigger", OnSpan, &[]),
    ("spanhook.reason", OnSpan, &[]),
    // Of a person, where an operator lets people be named.
    ("user.id", OnSpan, &[]),
    ("user.name", OnSpan, &[]),
    ("user.full_name", OnSpan, &[]),
    ("artifact.filename", OnSpan, &[]),
    ("artifact.version", OnSpan, &[]),
    ("artifact.hash", OnSpan, &[]),
    ("cicd.pipeline.action.name", OnSpan, &["BUILD", "RUN", "SYNC"]),
    ("cicd.pipeline.result", OnSpan, &[]),
    ("cicd.pipeline.task.name", OnSpan, &[]),
    ("cicd.pipeline.task.run.id", OnSpan, &[]),
    ("cicd.pipeline.task.run.url.full", OnSpan, &[]),
    ("cicd.pipeline.task.run.result", OnSpan, &[]),
    ("cicd.pipeline.task.type", OnSpan, &["build", "test", "deploy"]),
    ("error.type", OnSpan, &[]),
    ("deployment.environment.name", OnSpan, &[]),
    ("k8s.cluster.name", Resource, &[]),
    ("k8s.namespace.name", Resource, &[]),
    ("k8s.pod.name", OnSpan, &[]),
    ("k8s.pod.uid", OnSpan, &[]),
    ("k8s.node.name", OnSpan, &[]),
    ("k8s.container.name", OnSpan, &[]),
    ("k8s.container.status.last_terminated_reason", OnSpan, &[]),
    ("container.image.id", OnSpan, &[]),
    ("container.image.name", OnSpan, &[]),
];

/// Of spanhook's own those that are no text.
const OWN: &[(&str, Place)] = &[
    ("spanhook.attempt", OnSpan),
    ("spanhook.time_repaired", OnSpan),
    ("k8s.container.restart_count", OnSpan),
    // Of no convention yet.
    ("k8s.container.exit_code", OnSpan),
    ("k8s.pod.status.phase", OnSpan),
    ("k8s.pod.status.reason", OnSpan),
    ("k8s.image.size", OnSpan),
    ("k8s.image.pull.duration", OnSpan),
];

/// Providers', and what build events say.
const PREFIXES: &[&str] = &["build.", "circleci.", "github.", "gitlab.", "lighthouse.", "tekton."];

/// What a pipeline run span, and what a task span must have.
const RUN: &[&str] = &["cicd.pipeline.result"];
const TASK: &[&str] = &[
    "cicd.pipeline.task.name",
    "cicd.pipeline.task.run.id",
    "cicd.pipeline.task.run.url.full",
    "cicd.pipeline.task.run.result",
];

/// What the time that a job waited must have.
const WAITED: &[&str] = &["spanhook.job", "cicd.pipeline.task.name"];

/// All that the event of a job that never ran may have: the same for every provider.
const NOT_RUN: &[&str] = &[
    "spanhook.stage",
    "spanhook.reason",
    "cicd.pipeline.task.name",
    "cicd.pipeline.task.run.id",
    "cicd.pipeline.task.run.result",
];

/// Those whose tasks have an address only where an operator gives that of a dashboard.
const WITHOUT_ADDRESS: &[&str] = &["tekton", "lighthouse"];

fn get<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes.iter().find(|it| it.key == key)?.value.as_ref()?.value.as_ref()
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match get(attributes, key)? {
        Value::StringValue(text) => Some(text),
        other => panic!("{key} is {other:?}, not text"),
    }
}

/// Panics at the first span that breaks a rule.
pub(crate) fn check(request: &ExportTraceServiceRequest) {
    for group in &request.resource_spans {
        let resource = &group.resource.as_ref().unwrap().attributes;
        assert_eq!(group.schema_url, "https://opentelemetry.io/schemas/1.44.0");
        assert!(text(resource, "service.name").is_some_and(|it| !it.is_empty()), "no service.name");
        placed(resource, Resource);
        for scope_spans in &group.scope_spans {
            assert_eq!(scope_spans.schema_url, group.schema_url);
            let scope = scope_spans.scope.as_ref().unwrap();
            assert!(scope.name == "spanhook" && !scope.version.is_empty());
            let provider = text(resource, "spanhook.provider").unwrap_or_default();
            scope_spans.spans.iter().for_each(|it| one(it, provider));
        }
    }
}

fn placed(attributes: &[KeyValue], place: Place) {
    let mut seen = std::collections::HashSet::new();
    for attribute in attributes {
        let key = attribute.key.as_str();
        assert!(seen.insert(key), "{key} is set twice");
        let rule = ATTRIBUTES.iter().find(|(name, _, _)| *name == key);
        match rule {
            None => assert!(
                OWN.contains(&(key, place))
                    || PREFIXES.iter().any(|prefix| key.starts_with(prefix)),
                "{key} is neither of the conventions nor of a provider"
            ),
            Some((_, right, values)) => {
                assert!(*right == place, "{key} is in the wrong place");
                let value = text(attributes, key).unwrap();
                assert!(!value.is_empty(), "{key} is empty");
                assert!(values.is_empty() || values.contains(&value), "{key} = {value}");
                assert!(!key.ends_with("url.full") || value.starts_with("http"), "{key} = {value}");
            }
        }
    }
}

fn happened(name: &str, attributes: &[KeyValue]) {
    placed(attributes, OnSpan);
    let all_namespaced = attributes.iter().all(|it| it.key.contains('.'));
    assert!(all_namespaced, "{name}: {attributes:?}");
    if name == "job not run" {
        let other = attributes.iter().find(|it| !NOT_RUN.contains(&it.key.as_str()));
        assert!(other.is_none(), "{name} has {other:?}");
        assert!(text(attributes, "cicd.pipeline.task.name").is_some(), "{name} names no job");
        let result = text(attributes, "cicd.pipeline.task.run.result");
        assert!(result.is_none_or(|it| RESULTS.contains(&it)), "{name} is a {result:?}");
    }
}

fn one(span: &Span, provider: &str) {
    assert!(span.trace_id.len() == 16 && span.trace_id.iter().any(|it| *it != 0));
    assert!(span.span_id.len() == 8 && span.span_id.iter().any(|it| *it != 0));
    assert!(
        span.start_time_unix_nano <= span.end_time_unix_nano,
        "{} ends before it begins",
        span.name
    );
    assert!(!span.name.is_empty());
    placed(&span.attributes, OnSpan);
    let has = |key: &&str| get(&span.attributes, key).is_some();
    span.events.iter().for_each(|it| happened(&it.name, &it.attributes));
    let kind = text(&span.attributes, "spanhook.kind");
    // What the code host told begins a trace, and is no run.
    let event = kind == Some("event");
    // The time that a task waited names it, and is none.
    let task = kind != Some("queue") && has(&"cicd.pipeline.task.run.id");
    if kind == Some("queue") && !span.links.is_empty() {
        for key in WAITED {
            assert!(has(key), "{} has no {key}", span.name);
        }
        let name = text(&span.attributes, "spanhook.job");
        assert_eq!(name, text(&span.attributes, "cicd.pipeline.task.name"), "{}", span.name);
    }
    // 2 is SERVER, 1 is INTERNAL.
    let required = match span.kind {
        2 if event => &[],
        2 => RUN,
        1 if task => TASK,
        1 => &[],
        kind => panic!("kind {kind}"),
    };
    let optional = |key: &&str| key.ends_with("url.full") && WITHOUT_ADDRESS.contains(&provider);
    for key in required.iter().filter(|it| !optional(it)) {
        assert!(has(key), "{} has no {key}", span.name);
    }
    if span.kind == 2 && !event {
        assert!(span.name == "RUN" || span.name.starts_with("RUN "), "{}", span.name);
    }
    let result = ["cicd.pipeline.result", "cicd.pipeline.task.run.result"]
        .into_iter()
        .find_map(|key| text(&span.attributes, key));
    let known = result.filter(|it| RESULTS.contains(it));
    let failed = matches!(known, Some("failure" | "error" | "timeout"));
    let status = span.status.as_ref().map_or(0, |it| it.code);
    // UNSET without an error, never OK; ERROR always with error.type.
    assert!(status == 0 || status == 2, "status {status}");
    assert_eq!(status == 2, has(&"error.type"), "{}: status and error.type disagree", span.name);
    assert!(!failed || status == 2, "{} is a {known:?} without an error", span.name);
    assert!(known.is_none() || failed || status == 0, "{} is a {known:?} with an error", span.name);
}
