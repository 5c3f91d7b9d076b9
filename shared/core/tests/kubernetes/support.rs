//! What the tests of this folder do alike.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Any},
    trace::v1::Span,
};
use prost::Message as _;
use serde_json::{Value, json};
use spanhook_core::{
    delivery::{Accepted, Delivery, Outcome, RECEIVED},
    message::{BODY_LIMIT, Content, Message, unpack},
    provider::{
        Provider,
        lighthouse::{self, Sources},
    },
    rules::ProjectRules,
    settings::Settings,
};

use crate::conventions;

/// A delivery, and whose it is.
pub(crate) type Sent = (Provider, Value);

pub(crate) fn with(sources: Sources) -> Settings {
    let lighthouse = lighthouse::Settings { sources, ..lighthouse::Settings::default() };
    Settings { lighthouse, ..Settings::default() }
}

/// The samples of a provider by name.
pub(crate) fn samples(provider: Provider) -> BTreeMap<String, Value> {
    let folder = format!("{}/../../events/{provider}", env!("CARGO_MANIFEST_DIR"));
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
    };
    fs::read_dir(folder).unwrap().map(|it| read(it.unwrap().path())).collect()
}

pub(crate) fn sample(name: &str) -> Value {
    samples(Provider::Kubernetes).remove(name).unwrap_or_else(|| panic!("no sample {name}"))
}

/// A batch of objects.
pub(crate) fn batch(items: &[Value]) -> Value {
    json!({ "cluster": "prod", "items": items })
}

/// An object as it is after a change.
pub(crate) fn modified(object: &Value) -> Value {
    json!({ "type": "MODIFIED", "observed_at": "2026-11-02T09:40:30.250Z", "object": object })
}

/// The objects of a sample by kind, the first of each.
pub(crate) fn object(name: &str, kind: &str) -> Value {
    let batch = sample(name);
    let items = batch["items"].as_array().unwrap();
    let found = items.iter().map(|it| &it["object"]).find(|it| it["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {name}")).clone()
}

/// The whole way of a delivery.
pub(crate) fn process((provider, body): &Sent, settings: &Settings) -> Outcome {
    let body = body.to_string();
    // 2026-11-02T09:30:00.5Z
    let headers = HeaderMap::from_iter([(
        HeaderName::from_static(RECEIVED),
        HeaderValue::from(1_793_611_800_500_000_000_u64),
    )]);
    let delivery = Delivery { headers: &headers, body: body.as_bytes() };
    delivery.process(*provider, settings, &ProjectRules::default())
}

/// The spans of a message, which keep to the conventions.
pub(crate) fn request(message: &Message) -> ExportTraceServiceRequest {
    assert!(message.body.len() <= BODY_LIMIT, "{} bytes", message.body.len());
    let get = |name: &str| message.attributes.get(name).map(String::as_str);
    let Content::Otlp(_, raw) = unpack(&message.body, get("encoding"), get("signal")).unwrap()
    else {
        panic!("quarantined")
    };
    let request = ExportTraceServiceRequest::decode(&*raw).unwrap();
    conventions::check(&request);
    request
}

/// A span with the attributes of its resource.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) resource: Vec<KeyValue>,
    pub(crate) span: Span,
}

impl Seen {
    pub(crate) fn text(&self, key: &str) -> String {
        text(&self.span.attributes, key)
    }

    pub(crate) fn kind(&self) -> String {
        self.text("spanhook.kind")
    }

    pub(crate) fn failed(&self) -> bool {
        self.span.status.as_ref().is_some_and(|it| it.code == 2)
    }

    pub(crate) fn seconds(&self) -> u64 {
        (self.span.end_time_unix_nano - self.span.start_time_unix_nano) / 1_000_000_000
    }
}

fn seen(accepted: &Accepted) -> Vec<Seen> {
    let requests = accepted.messages.iter().map(request);
    let groups = requests.flat_map(|it| it.resource_spans);
    let of = |group: opentelemetry_proto::tonic::trace::v1::ResourceSpans| {
        let resource = group.resource.unwrap().attributes;
        let spans = group.scope_spans.into_iter().flat_map(|it| it.spans);
        spans.map(move |span| Seen { resource: resource.clone(), span }).collect::<Vec<_>>()
    };
    groups.flat_map(of).collect()
}

/// What a delivery gives; nothing where it is ignored or kept.
pub(crate) fn spans_of(sent: &Sent, settings: &Settings) -> Vec<Seen> {
    match process(sent, settings) {
        Outcome::Accepted(accepted) => seen(&accepted),
        _ => Vec::new(),
    }
}

/// What a batch gives.
pub(crate) fn spans(items: &[Value]) -> Vec<Seen> {
    spans_of(&(Provider::Kubernetes, batch(items)), &with(Sources::Objects))
}

/// The one span of a kind.
pub(crate) fn only<'s>(spans: &'s [Seen], kind: &str) -> &'s Seen {
    let mut of = spans.iter().filter(|it| it.kind() == kind);
    let span = of.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(of.next().is_none(), "more than one {kind}");
    span
}

/// The one span of a name.
pub(crate) fn named<'s>(spans: &'s [Seen], name: &str) -> &'s Seen {
    let mut of = spans.iter().filter(|it| it.span.name == name);
    let span = of.next().unwrap_or_else(|| panic!("no span {name}"));
    assert!(of.next().is_none(), "more than one {name}");
    span
}

/// The value of an attribute as text, empty where there is none.
pub(crate) fn text(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|it| it.key == key).and_then(|it| it.value.as_ref());
    match value.and_then(|it| it.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::BoolValue(it)) => it.to_string(),
        Some(Any::IntValue(it)) => it.to_string(),
        Some(Any::DoubleValue(it)) => it.to_string(),
        Some(other) => panic!("{key} is {other:?}"),
        None => String::new(),
    }
}

/// All that a sequence of deliveries leaves at the Collector: a span that comes twice is one.
/// Panics where one span comes with two contents.
pub(crate) fn left(sequence: &[Sent], settings: &Settings) -> BTreeMap<Vec<u8>, Seen> {
    let mut all: BTreeMap<Vec<u8>, Seen> = BTreeMap::new();
    for it in sequence.iter().flat_map(|it| spans_of(it, settings)) {
        let known = all.entry(it.span.span_id.clone()).or_insert_with(|| it.clone());
        assert_eq!(*known, it, "one span, two contents");
    }
    all
}

/// The same deliveries in order, reversed, shuffled and doubled.
pub(crate) fn any_order_is_the_same(
    sequence: &[Sent],
    settings: &Settings,
) -> BTreeMap<Vec<u8>, Seen> {
    let expected = left(sequence, settings);
    assert!(!expected.is_empty());
    let mut other = sequence.to_vec();
    other.reverse();
    assert_eq!(left(&other, settings), expected, "reversed");
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..5 {
        random.shuffle(&mut other);
        assert_eq!(left(&other, settings), expected, "shuffled");
    }
    other.extend_from_slice(sequence);
    assert_eq!(left(&other, settings), expected, "doubled");
    expected
}

/// The parents that are in no span of their trace.
pub(crate) fn missing_parents(all: &BTreeMap<Vec<u8>, Seen>) -> Vec<String> {
    let ids: BTreeSet<_> = all.values().map(|it| (&it.span.trace_id, &it.span.span_id)).collect();
    let orphan = |it: &&Seen| {
        let above = &it.span.parent_span_id;
        !above.is_empty() && !ids.contains(&(&it.span.trace_id, above))
    };
    all.values().filter(orphan).map(|it| format!("{} {}", it.kind(), it.span.name)).collect()
}
