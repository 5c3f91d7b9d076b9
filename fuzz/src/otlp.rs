//! What others send as OTLP.

use http::StatusCode;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::any_value,
};
use prost::Message as _;
use spanhook_core::{
    otlp::{
        Signal,
        front::{Encoding, Rejects, Request, Taken, Writer, status, success},
    },
    rules::ProjectRules,
    settings::Settings,
};
use spanhook_export::{Outcome, judge};

use crate::{NOW, build_events::JOB, cut, messages::Held};

/// What the JSON of a body may become.
const LIMIT: usize = 1 << 20;

/// The first byte chooses signal and writer, the rest is a request in protobuf.
pub fn otlp_protobuf(data: &[u8]) -> bool {
    taken(data, Encoding::Protobuf).is_some_and(|(request, body, taken)| {
        if let Some(sent) = sent(request.signal, body) {
            let accounted = taken.count + taken.rejects.count();
            // Metrics without points are counted where they are rejected.
            let fits = if request.signal == Signal::Metrics {
                accounted >= sent
            } else {
                accounted == sent
            };
            assert!(fits, "{accounted} of {sent} are accounted for");
        }
        taken.count > 0
    })
}

/// The same in JSON.
pub fn otlp_json(data: &[u8]) -> bool {
    taken(data, Encoding::Json).is_some_and(|(_, _, taken)| taken.count > 0)
}

/// How many spans, points or records another decoder finds.
fn sent(signal: Signal, body: &[u8]) -> Option<usize> {
    Some(match signal {
        Signal::Traces => {
            let groups = ExportTraceServiceRequest::decode(body).ok()?.resource_spans;
            groups.iter().flat_map(|it| &it.scope_spans).map(|it| it.spans.len()).sum()
        }
        Signal::Metrics => {
            let groups = ExportMetricsServiceRequest::decode(body).ok()?.resource_metrics;
            let metrics = groups.iter().flat_map(|it| &it.scope_metrics).flat_map(|it| &it.metrics);
            metrics.map(crate::messages::points).sum()
        }
        Signal::Logs => {
            let groups = ExportLogsServiceRequest::decode(body).ok()?.resource_logs;
            groups.iter().flat_map(|it| &it.scope_logs).map(|it| it.log_records.len()).sum()
        }
    })
}

fn taken(data: &[u8], encoding: Encoding) -> Option<(Request, &[u8], Taken)> {
    let (choice, body) = cut::choice(data)?;
    let signal = Signal::ALL[choice % 3];
    let writer = [Writer::Trusted, Writer::Job(&JOB), Writer::Free(&JOB)][choice / 3 % 3];
    let request = Request { signal, encoding };
    let (settings, rules) = (Settings::default(), ProjectRules::default());
    let received = NOW * 1_000_000_000;
    let taken = match request.take(body, LIMIT, writer, received, &settings, &rules) {
        Ok(taken) => taken,
        Err(refused) => {
            let answer = status(encoding, refused.code(), &refused.to_string());
            let outcome = judge(StatusCode::BAD_REQUEST, None, encoding.content_type(), &answer);
            assert!(matches!(outcome, Outcome::Reject { .. }), "{outcome:?}");
            return None;
        }
    };
    let held = Held::of(&taken.messages);
    let counts = [held.spans.len(), held.points, held.records];
    assert_eq!(counts.iter().sum::<usize>(), taken.count);
    if let Writer::Job(_) = writer {
        check_own(&held);
    }
    check_answer(encoding, signal, &taken.rejects);
    Some((request, body, taken))
}

/// A job writes into the trace of its own run, in its own name, and not the spans of its provider.
fn check_own(held: &Held) {
    let place = JOB.place(&Settings::default());
    let reserved = [Some(place.run), place.job].map(|it| it.map(|it| it.as_bytes().to_vec()));
    for (span, resource) in held.spans.iter().zip(&held.resources) {
        assert_eq!(span.trace_id, place.trace.as_bytes());
        assert!(!reserved.contains(&Some(span.span_id.clone())), "{span:?}");
        for (key, value) in [
            ("spanhook.provider", "gitlab"),
            ("cicd.pipeline.run.id", "2722508965"),
            ("cicd.pipeline.task.run.id", "15651125844"),
            ("vcs.owner.name", "acme/web"),
            ("vcs.repository.name", "shop"),
        ] {
            let found: Vec<_> = resource.iter().filter(|it| it.key == key).collect();
            let [found] = found.as_slice() else { panic!("{key} once: {resource:?}") };
            let expected = Some(any_value::Value::StringValue(value.to_owned()));
            assert_eq!(found.value.clone().and_then(|it| it.value), expected, "{key}");
        }
    }
}

/// The answer says what was rejected, as an exporter reads it.
fn check_answer(encoding: Encoding, signal: Signal, rejects: &Rejects) {
    let answer = success(encoding, signal, rejects);
    let Outcome::Delivered { partial } =
        judge(StatusCode::OK, None, encoding.content_type(), &answer)
    else {
        panic!("an answer: {}", answer.escape_ascii())
    };
    let rejected = partial.map_or(0, |it| it.rejected);
    assert_eq!(rejected, rejects.count() as u64);
}
