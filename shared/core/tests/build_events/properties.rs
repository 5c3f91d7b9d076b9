//! Anything: mapped or refused, and what is mapped can be sent.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value},
    metrics::v1::{metric::Data, number_data_point},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use spanhook_core::{
    build_event::{Sender, map},
    job::Job,
    message::Message,
    otlp::{
        encode::Limits,
        metric::Kind,
        span::{self, Attributes},
    },
    provider::Provider,
    settings::Settings,
};

use crate::{
    decoded::{decoded, metrics, records},
    events::{
        KINDS, RECEIVED, at, event, log_groups, mapped, messages, metric_groups, of, parents, with,
    },
    points::points,
    support::claim,
};

/// JSON of any shape.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|it| json!(it)),
        "\\PC{0,20}".prop_map(Value::from),
        Just(json!("gitlab")),
        Just(json!("2026-11-02T09:30:00Z")),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,10}", inner, 0..5)
                .prop_map(|it| it.into_iter().collect()),
        ]
    })
}

/// An event of any type with any field replaced by anything.
fn any_event() -> impl Strategy<Value = Value> {
    const FIELDS: [&str; 22] = [
        "timestamp",
        "correlation_id",
        "project",
        "git_ref",
        "commit_sha",
        "job_status",
        "metrics",
        "metrics.duration_seconds",
        "metrics.compile_time_ms",
        "details",
        "details.largest_assets",
        "bundler",
        "errors_count",
        "name",
        "variant",
        "size_bytes",
        "breakdown",
        "value",
        "unit",
        "attributes",
        "context",
        "other",
    ];
    const CONTEXT: [&str; 10] = [
        "provider",
        "host",
        "run_id",
        "job_id",
        "attempt",
        "project",
        "ref",
        "revision",
        "root_id",
        "traceparent",
    ];
    let fields = prop::collection::vec((prop::sample::select(&FIELDS), any_json()), 0..4);
    let context = prop::collection::vec((prop::sample::select(&CONTEXT), any_json()), 0..4);
    (prop::sample::select(&KINDS), fields, context).prop_map(|(kind, fields, context)| {
        let mut event = event(kind);
        for (field, value) in context {
            event["context"][field] = value;
        }
        for (field, value) in fields {
            let (outer, inner) = field.split_once('.').unwrap_or((field, ""));
            match event.get_mut(outer).and_then(Value::as_object_mut) {
                Some(object) if !inner.is_empty() => drop(object.insert(inner.into(), value)),
                _ => event[outer] = value,
            }
        }
        event
    })
}

/// Whether the attributes are the same as those on the wire.
fn same(went_in: &Attributes<'_>, came_out: &[KeyValue]) -> bool {
    let went_in = went_in.iter().map(|(key, value)| {
        let value = match value {
            span::Value::Text(it) => any_value::Value::StringValue(it.to_string()),
            span::Value::Int(it) => any_value::Value::IntValue(*it),
            span::Value::Double(it) => any_value::Value::DoubleValue(*it),
            span::Value::Bool(it) => any_value::Value::BoolValue(*it),
            span::Value::List(_) => panic!("events have no lists"),
        };
        (key.to_owned(), value)
    });
    let value = |it: &KeyValue| it.value.clone().unwrap().value.unwrap();
    went_in.eq(came_out.iter().map(|it| (it.key.clone(), value(it))))
}

proptest! {
    #[test]
    fn any_bytes_are_mapped_or_refused(body: Vec<u8>) {
        let _ = map(&body, RECEIVED, &Settings::default(), Sender::Trusted);
    }

    #[test]
    fn any_event_is_mapped_or_refused_and_what_is_mapped_can_be_sent(
        events in prop::collection::vec(any_event(), 0..6),
        received: u64,
    ) {
        let body = json!(events).to_string();
        let settings = Settings::default();
        let first = map(body.as_bytes(), received, &settings, Sender::Trusted);
        prop_assert_eq!(&first, &map(body.as_bytes(), received, &settings, Sender::Trusted));
        if let Ok(batch) = first {
            decoded(&messages(&batch, Limits::default()), Limits::default());
        }
    }

    #[test]
    fn the_encoders_write_what_went_in(events in prop::collection::vec(any_event(), 1..6)) {
        let Ok(batch) = mapped(&json!(events), None) else { return Ok(()) };
        let decoded = decoded(&messages(&batch, Limits::default()), Limits::default());

        let went_in: Vec<_> = metric_groups(&batch).into_iter().flat_map(|it| &it.metrics).collect();
        let came_out: Vec<_> = decoded.metrics.iter().flat_map(metrics).collect();
        prop_assert_eq!(went_in.len(), came_out.len());
        for (went_in, came_out) in went_in.into_iter().zip(came_out) {
            prop_assert_eq!((&*went_in.name, &*went_in.unit), (&*came_out.name, &*came_out.unit));
            if let Some(Data::Gauge(gauge)) = &came_out.data {
                prop_assert_eq!(went_in.kind, Kind::Gauge);
                for (went_in, came_out) in went_in.points.iter().zip(&gauge.data_points) {
                    let value = number_data_point::Value::AsDouble(went_in.value);
                    prop_assert_eq!(Some(value), came_out.value);
                    prop_assert_eq!(went_in.time, came_out.time_unix_nano);
                    prop_assert!(same(&went_in.attributes, &came_out.attributes));
                    let (trace, span) = went_in.exemplar.unwrap();
                    prop_assert_eq!(&trace.as_bytes()[..], &*came_out.exemplars[0].trace_id);
                    prop_assert_eq!(&span.as_bytes()[..], &*came_out.exemplars[0].span_id);
                }
            }
        }

        let went_in: Vec<_> = log_groups(&batch).into_iter().flat_map(|it| &it.records).collect();
        let came_out: Vec<_> = decoded.logs.iter().flat_map(records).collect();
        prop_assert_eq!(went_in.len(), came_out.len());
        for (went_in, came_out) in went_in.into_iter().zip(came_out) {
            prop_assert_eq!(&*went_in.event_name, &*came_out.event_name);
            prop_assert_eq!(went_in.time, came_out.time_unix_nano);
            prop_assert_eq!(went_in.observed, came_out.observed_time_unix_nano);
            prop_assert!(same(&went_in.attributes, &came_out.attributes));
            let context = went_in.context;
            let (trace, span) = context.map_or((vec![], vec![]), |(trace, span)| {
                (trace.as_bytes().to_vec(), span.as_bytes().to_vec())
            });
            prop_assert_eq!((trace, span), (came_out.trace_id.clone(), came_out.span_id.clone()));
            let body = came_out.body.as_ref().and_then(|it| it.value.clone());
            prop_assert_eq!(body, Some(any_value::Value::StringValue(went_in.body.to_string())));
        }
    }

    #[test]
    fn with_an_identity_no_event_moves_its_spans(events in prop::collection::vec(any_event(), 1..6)) {
        let identity = Job::new(Provider::Gitlab, &claim("9", "7")).unwrap();
        let there = identity.place(&Settings::default());
        if let Ok(batch) = mapped(&json!(events), Some(&identity)) {
            for (trace, parent) in parents(&batch) {
                prop_assert_eq!((trace, parent), (there.trace, there.job));
            }
            for record in log_groups(&batch).into_iter().flat_map(|it| &it.records) {
                prop_assert_eq!(record.context.unwrap().0, there.trace);
            }
            let metrics = metric_groups(&batch).into_iter().flat_map(|it| &it.metrics);
            for point in metrics.flat_map(|it| &it.points) {
                prop_assert_eq!(point.exemplar.unwrap().0, there.trace);
            }
        }
    }

    #[test]
    fn splitting_keeps_every_span_point_and_record_in_order(
        kinds in prop::collection::vec(prop::sample::select(&KINDS), 1..40),
        body in 600..4000usize,
        raw in 600..8000usize,
    ) {
        let events: Vec<_> = kinds
            .iter()
            .enumerate()
            .map(|(nth, kind)| {
                // Alternating projects give alternating resources.
                let event = with(event(kind), "project", format!("acme/{}", nth % 3).into());
                at(event, &(1_793_611_800 + nth).to_string())
            })
            .collect();
        let batch = of(&json!(events));
        let whole = Limits::default();
        let small = Limits { body, raw, ..whole };
        let names = |limits| {
            let decoded = decoded(&messages(&batch, limits), whole);
            let groups = decoded.traces.iter().flat_map(|it| &it.resource_spans);
            let spans = groups.flat_map(|it| &it.scope_spans).flat_map(|it| &it.spans);
            let spans = spans.map(|it| hex::encode(&it.span_id));
            let points = decoded.metrics.iter().flat_map(metrics).flat_map(points);
            let records = decoded.logs.iter().flat_map(records).map(|it| format!("{it:?}"));
            spans.chain(points).chain(records).collect::<Vec<_>>()
        };
        prop_assert_eq!(names(small), names(whole));
        // A part is as late as the whole.
        let ended = |limits| {
            let tell = |it: &Message| {
                let said = ["signal", "trace_id", "ended_at"].map(|name| it.attributes.get(name).cloned());
                (it.group.clone(), said)
            };
            messages(&batch, limits).iter().map(tell).collect::<BTreeSet<_>>()
        };
        prop_assert_eq!(ended(small), ended(whole));
        let more = messages(&batch, small).len() >= messages(&batch, whole).len();
        prop_assert!(more);
        for message in messages(&batch, Limits { body, raw: usize::MAX, ..Limits::default() }) {
            let alone = ["spans", "points", "records"].iter().any(|it| {
                message.attributes.get(*it).is_some_and(|count| count == "1")
            });
            prop_assert!(alone || message.body.len() <= body);
        }
    }
}
