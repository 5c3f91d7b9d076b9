//! Traces as people look at them: a tree of spans, made from the OTLP that is forwarded.

pub(crate) mod measure;
pub(crate) mod page;
pub(crate) mod role;
pub(crate) mod waterfall;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry};

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1,
};
use prost::Message;
use serde::Serialize;
use spanhook_core::{
    message::{self, Content},
    otlp::Signal,
    semconv::{
        ATTEMPT, CICD_PIPELINE_NAME, CICD_PIPELINE_RESULT, CICD_PIPELINE_RUN_URL_FULL,
        CICD_PIPELINE_TASK_NAME, CICD_PIPELINE_TASK_RUN_RESULT, ERROR_TYPE, JOB_NOT_RUN, PROVIDER,
        REASON, SERVICE_NAME, VCS_CHANGE_ID, VCS_OWNER_NAME, VCS_REF_HEAD_NAME,
        VCS_REF_HEAD_REVISION, VCS_REPOSITORY_NAME,
    },
};

use spanhook_service::queue::Received;

use measure::{Measure, measures};
use role::Role;

/// One trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Trace {
    /// What a list shows of it.
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// Spans in the order of a tree: a parent before its children, siblings by their start.
    pub(crate) spans: Vec<Row>,
    /// What builds of the run measured, by name.
    pub(crate) measures: Vec<Measure>,
}

/// What a list shows of a trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Hexadecimal.
    pub(crate) id: String,
    /// `service.name`
    pub(crate) service: String,
    /// The pipeline's name.
    pub(crate) pipeline: String,
    /// Owner and name of the repository.
    pub(crate) repository: String,
    /// Branch or tag.
    pub(crate) reference: String,
    /// The commit.
    pub(crate) revision: String,
    /// The run's page at the provider.
    pub(crate) url: String,
    /// Which try of the run it is, where that is told.
    pub(crate) attempt: String,
    /// `cicd.pipeline.result`; empty while only jobs of the run arrived, and where there is no run.
    pub(crate) result: String,
    /// What it tells of: the run, or what else came first.
    pub(crate) role: Role,
    /// Nanoseconds since the epoch, as text: JavaScript's numbers are too short for them.
    #[serde(serialize_with = "as_text")]
    pub(crate) start: u64,
    /// As `start`.
    #[serde(serialize_with = "as_text")]
    pub(crate) end: u64,
    /// How many spans there are.
    pub(crate) span_count: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn as_text<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// One span in the tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// Hexadecimal.
    pub(crate) id: String,
    /// How deep in the tree.
    pub(crate) depth: usize,
    /// What it stands for.
    pub(crate) role: Role,
    /// Its name.
    pub(crate) name: String,
    /// Nanoseconds since the epoch.
    #[serde(serialize_with = "as_text")]
    pub(crate) start: u64,
    /// As `start`.
    #[serde(serialize_with = "as_text")]
    pub(crate) end: u64,
    /// When the job began to wait, shown on the job's own row; 0 when it did not wait.
    #[serde(serialize_with = "as_text")]
    pub(crate) queued: u64,
    /// The result attribute.
    pub(crate) result: String,
    /// Whether the status is ERROR.
    pub(crate) failed: bool,
    /// `error.type`
    pub(crate) error: String,
    /// Whether the pipeline goes on when it fails.
    pub(crate) allowed_to_fail: bool,
    /// Attributes of the span and then of its resource.
    pub(crate) attributes: Vec<(String, String)>,
    /// Events with their own attributes.
    pub(crate) events: Vec<Happening>,
    /// `trace/span`, hexadecimal.
    pub(crate) links: Vec<String>,
}

/// A span event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Happening {
    /// What.
    pub(crate) name: String,
    /// Nanoseconds since the epoch.
    #[serde(serialize_with = "as_text")]
    pub(crate) time: u64,
    /// What is known of it.
    pub(crate) attributes: Vec<(String, String)>,
}

/// The traces that a message belongs to, hexadecimal; none when it can't be read.
pub(crate) fn traces_of(message: &Received) -> Option<Vec<String>> {
    if let Some(trace) = message.attributes.get("trace_id") {
        return Some(vec![trace.clone()]);
    }
    let traces: BTreeSet<String> = match message::read(&message.body, &message.attributes).ok()? {
        Content::Otlp(Signal::Metrics, raw) => {
            let request = ExportMetricsServiceRequest::decode(&*raw).ok()?;
            measures(request).into_iter().flat_map(|it| it.traces).collect()
        }
        Content::Otlp(Signal::Logs, raw) => {
            let request = ExportLogsServiceRequest::decode(&*raw).ok()?;
            let scopes = request.resource_logs.into_iter().flat_map(|it| it.scope_logs);
            let records = scopes.flat_map(|it| it.log_records);
            records.map(|it| hex(&it.trace_id)).filter(|it| !it.is_empty()).collect()
        }
        // Of many traces, none of which has a message of its own.
        Content::Otlp(Signal::Traces, raw) => {
            let request = ExportTraceServiceRequest::decode(&*raw).ok()?;
            let scopes = request.resource_spans.into_iter().flat_map(|it| it.scope_spans);
            scopes.flat_map(|it| it.spans).map(|it| hex(&it.trace_id)).collect()
        }
        Content::Quarantined(_) => return None,
    };
    Some(traces.into_iter().collect())
}

/// The most bytes of messages that are made into traces at once: as spans they take about ten times
/// as much.
const DECODED_BYTES: usize = 8 * 1024 * 1024;

/// The traces in queue messages, as many of them as [`DECODED_BYTES`] allow. What can't be read is passed over; duplicate spans and measurements are
/// one.
pub(crate) fn traces(messages: impl IntoIterator<Item = Received>) -> Vec<Trace> {
    let mut requests = Vec::new();
    let mut measured = Vec::new();
    let mut decoded = 0;
    for message in messages {
        if decoded >= DECODED_BYTES {
            break;
        }
        let content = message::read(&message.body, &message.attributes);
        if let Ok(Content::Otlp(Signal::Traces | Signal::Metrics, raw)) = &content {
            decoded += raw.len();
        }
        match content {
            Ok(Content::Otlp(Signal::Traces, raw)) => {
                requests.extend(ExportTraceServiceRequest::decode(&*raw).ok());
            }
            Ok(Content::Otlp(Signal::Metrics, raw)) => {
                let request = ExportMetricsServiceRequest::decode(&*raw);
                measured.extend(request.ok().into_iter().flat_map(measures));
            }
            _ => {}
        }
    }
    let requests = requests.into_iter();
    let mut found: BTreeMap<Vec<u8>, Collected> = BTreeMap::new();
    for group in requests.flat_map(|request| request.resource_spans) {
        let resource = named(group.resource.map(|it| it.attributes).unwrap_or_default());
        for span in group.scope_spans.into_iter().flat_map(|it| it.spans) {
            let trace = found.entry(span.trace_id.clone()).or_default();
            match trace.spans.entry(span.span_id.clone()) {
                Entry::Vacant(entry) => drop(entry.insert((span, resource.clone()))),
                // A pipeline that ended again after a retry: the later end, in whatever order.
                Entry::Occupied(mut entry) => {
                    let rank = |span: &v1::Span| (span.end_time_unix_nano, span.encode_to_vec());
                    if rank(&entry.get().0) < rank(&span) {
                        entry.insert((span, resource.clone()));
                    }
                }
            }
        }
    }
    let mut ids: BTreeMap<String, Collected> =
        found.into_iter().map(|(id, trace)| (hex(&id), trace)).collect();
    for measure in measured {
        for trace in &measure.traces {
            let of = &mut ids.entry(trace.clone()).or_default().measures;
            if !of.contains(&measure) {
                of.push(measure.clone());
            }
        }
    }
    ids.into_iter().map(|(id, trace)| trace.arrange(&id)).collect()
}

/// Attributes as text.
type Pairs = Vec<(String, String)>;

#[derive(Default)]
struct Collected {
    /// By their ids, each with its resource's attributes.
    spans: HashMap<Vec<u8>, (v1::Span, Pairs)>,
    measures: Vec<Measure>,
}

impl Collected {
    fn arrange(mut self, id: &str) -> Trace {
        // The queue time of a job is drawn on the job's own row.
        let queues: Vec<_> = self
            .spans
            .iter()
            .filter(|(_, (span, _))| Role::of(span) == Role::Queue)
            .filter_map(|(id, (span, _))| Some((id.clone(), span.links.first()?.span_id.clone())))
            .filter(|(_, job)| self.spans.contains_key(job))
            .collect();
        let mut waited = HashMap::new();
        for (queue, job) in queues {
            if let Some((span, _)) = self.spans.remove(&queue) {
                waited.insert(job, span.start_time_unix_nano);
            }
        }

        let mut children: HashMap<Option<&[u8]>, Vec<&v1::Span>> = HashMap::new();
        for (span, _) in self.spans.values() {
            let parent = Some(span.parent_span_id.as_slice());
            // A span whose parent has not arrived stands at the top.
            let known = parent.filter(|it| self.spans.contains_key(*it) && **it != *span.span_id);
            children.entry(known).or_default().push(span);
        }
        for siblings in children.values_mut() {
            siblings.sort_by_key(|span| {
                // Times may be whole seconds: of two steps the earlier one ends when the other begins.
                let end = Role::of(span).is_step().then_some(span.end_time_unix_nano);
                (span.start_time_unix_nano, end, span.name.clone(), span.span_id.clone())
            });
        }

        let mut rows = Vec::with_capacity(self.spans.len());
        let mut seen = HashSet::new();
        let mut waiting: Vec<(&v1::Span, usize)> = Vec::new();
        let tops = children.get(&None).into_iter().flatten().copied();
        // What hangs in a circle is reached from no top.
        let mut rest: Vec<_> = self.spans.values().map(|(span, _)| span).collect();
        rest.sort_by_key(|span| (span.start_time_unix_nano, span.span_id.clone()));
        for top in tops.chain(rest) {
            waiting.push((top, 0));
            while let Some((span, depth)) = waiting.pop() {
                if !seen.insert(span.span_id.as_slice()) {
                    continue;
                }
                let resource = &self.spans[&span.span_id].1;
                rows.push(row(span, resource, depth, waited.get(&span.span_id).copied()));
                let below = children.get(&Some(span.span_id.as_slice()));
                waiting.extend(below.into_iter().flatten().rev().map(|it| (*it, depth + 1)));
            }
        }
        let mut measures = self.measures;
        measures.sort_by(|a, b| {
            (&a.name, &a.attributes, a.time).cmp(&(&b.name, &b.attributes, b.time))
        });
        Trace { summary: summary(id, &rows), spans: rows, measures }
    }
}

fn row(span: &v1::Span, resource: &[(String, String)], depth: usize, queued: Option<u64>) -> Row {
    let mut attributes = named(span.attributes.clone());
    let get = |key: &str| value(&attributes, key);
    let result = [CICD_PIPELINE_RESULT, CICD_PIPELINE_TASK_RUN_RESULT]
        .map(get)
        .into_iter()
        .find(|it| !it.is_empty());
    // What only some providers tell is called alike behind their name.
    let allowed = format!("{}.job.allow_failure", value(resource, PROVIDER));
    let (error, allowed_to_fail) = (get(ERROR_TYPE), get(&allowed) == "true");
    attributes.extend(resource.iter().cloned());
    Row {
        id: hex(&span.span_id),
        depth,
        role: Role::of(span),
        name: span.name.clone(),
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano.max(span.start_time_unix_nano),
        queued: queued.filter(|it| *it < span.start_time_unix_nano).unwrap_or(0),
        result: result.unwrap_or_default(),
        failed: span.status.as_ref().is_some_and(|it| it.code == 2),
        error,
        allowed_to_fail,
        attributes,
        events: span
            .events
            .iter()
            .map(|event| Happening {
                name: event.name.clone(),
                time: event.time_unix_nano,
                attributes: named(event.attributes.clone()),
            })
            .collect(),
        links: span
            .links
            .iter()
            .map(|link| format!("{}/{}", hex(&link.trace_id), hex(&link.span_id)))
            .collect(),
    }
}

/// The text of an attribute; empty where it is not there.
fn value(attributes: &[(String, String)], key: &str) -> String {
    let found = attributes.iter().find(|(name, _)| name == key);
    found.map(|(_, it)| it.clone()).unwrap_or_default()
}

fn summary(id: &str, rows: &[Row]) -> Summary {
    let runs = || rows.iter().filter(|row| row.role == Role::Run);
    // An event may have started several: what failed is what is looked for.
    let run = runs().find(|row| row.failed).or_else(|| runs().next()).or(rows.first());
    let mut pipelines: Vec<_> =
        runs().map(|row| value(&row.attributes, CICD_PIPELINE_NAME)).collect();
    pipelines.dedup();
    let get = |key: &str| value(run.map(|row| row.attributes.as_slice()).unwrap_or_default(), key);
    let (owner, repository) = (get(VCS_OWNER_NAME), get(VCS_REPOSITORY_NAME));
    let start = |row: &Row| if row.queued > 0 { row.queued } else { row.start };
    Summary {
        id: id.to_owned(),
        service: get(SERVICE_NAME),
        pipeline: match (get(CICD_PIPELINE_NAME), &pipelines[..]) {
            (_, [_, _, ..]) => pipelines.join(", "),
            (name, _) if name.is_empty() => run.map(|row| row.name.clone()).unwrap_or_default(),
            (name, _) => name,
        },
        repository: if owner.is_empty() { repository } else { format!("{owner}/{repository}") },
        // Of a pull request the branch is not always told.
        reference: match (get(VCS_REF_HEAD_NAME), get(VCS_CHANGE_ID)) {
            (name, change) if name.is_empty() && !change.is_empty() => format!("#{change}"),
            (name, _) => name,
        },
        revision: get(VCS_REF_HEAD_REVISION),
        url: get(CICD_PIPELINE_RUN_URL_FULL),
        attempt: get(ATTEMPT),
        result: get(CICD_PIPELINE_RESULT),
        role: run.map(|row| row.role).unwrap_or_default(),
        start: rows.iter().map(start).min().unwrap_or(0),
        end: rows.iter().map(|row| row.end).max().unwrap_or(0),
        span_count: rows.len() + rows.iter().filter(|row| row.queued > 0).count(),
    }
}

/// The name and reason of a job that never ran, of an event that says so.
#[must_use]
pub(crate) fn not_run(event: &Happening) -> Option<(&str, &str)> {
    let get = |key: &str| {
        event.attributes.iter().find(|(name, _)| name == key).map(|(_, it)| it.as_str())
    };
    (event.name == JOB_NOT_RUN)
        .then(|| (get(CICD_PIPELINE_TASK_NAME).unwrap_or("job"), get(REASON).unwrap_or("")))
}

/// Attributes as text.
pub(crate) fn named(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    attributes
        .into_iter()
        .map(|it| (it.key, it.value.map(value_text).unwrap_or_default()))
        .collect()
}

/// A value as text.
pub(crate) fn value_text(value: AnyValue) -> String {
    match value.value {
        Some(any_value::Value::StringValue(it)) => it,
        Some(any_value::Value::BoolValue(it)) => it.to_string(),
        Some(any_value::Value::IntValue(it)) => it.to_string(),
        Some(any_value::Value::DoubleValue(it)) => it.to_string(),
        Some(any_value::Value::ArrayValue(it)) => {
            it.values.into_iter().map(value_text).collect::<Vec<_>>().join(", ")
        }
        _ => String::new(),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `1 h 02 min`, `3 min 04 s`, `12.3 s`, `450 ms`.
#[must_use]
pub(crate) fn duration(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    match seconds {
        0 => format!("{} ms", nanos / 1_000_000),
        1..60 => format!("{}.{} s", seconds, nanos / 100_000_000 % 10),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_messages_only_as_many_are_decoded_as_memory_allows() {
        let attribute = KeyValue {
            key: "text".to_owned(),
            value: Some(AnyValue {
                value: Some(any_value::Value::StringValue("x".repeat(1024 * 1024))),
            }),
            ..KeyValue::default()
        };
        let span = v1::Span {
            trace_id: vec![1; 16],
            span_id: vec![1; 8],
            attributes: vec![attribute],
            ..v1::Span::default()
        };
        let scope = v1::ScopeSpans { spans: vec![span], ..v1::ScopeSpans::default() };
        let group = v1::ResourceSpans { scope_spans: vec![scope], ..v1::ResourceSpans::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![group] };
        let encoding = ("encoding".to_owned(), message::PROTOBUF.to_owned());
        let message = Received {
            body: request.encode_to_vec().into(),
            attributes: [encoding].into(),
            ..Received::default()
        };
        let mut asked = 0;
        let messages = (0..600).map(|_| {
            asked += 1;
            message.clone()
        });
        assert_eq!(traces(messages).len(), 1);
        assert!(asked <= DECODED_BYTES / (1024 * 1024) + 1, "{asked} messages");
    }
}
