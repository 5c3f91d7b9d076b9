//! Who may write what.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    logs::v1::LogRecord,
    metrics::v1::{Exemplar, Gauge, Metric, NumberDataPoint, metric::Data},
    trace::v1::{Span, span::Link},
};
use prost::Message as _;
use spanhook_core::{
    id::TraceIds,
    otlp::{
        Signal,
        front::{Code, Encoding, Rejects, Writer, status, success},
    },
    provider::Provider,
    rules::ProjectRules,
    settings::Settings,
};

use super::support::{
    LIMIT, NOW, SPANS, decoded, job, logs, metrics, out, own, request, span, spans, take, taken,
    text,
};

const OTHER: [u8; 16] = [9; 16];

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|it| it.name.as_str()).collect()
}

#[test]
fn a_job_writes_into_the_trace_of_its_own_run_with_either_form_of_ids() {
    let job = job();
    let native = *job
        .place(&Settings { trace_ids: TraceIds::Native, ..Settings::default() })
        .trace
        .as_bytes();
    assert_ne!(own(), native);
    for (ids, mine, others) in
        [(TraceIds::Hashed, own(), native), (TraceIds::Native, native, own())]
    {
        let settings = Settings { trace_ids: ids, ..Settings::default() };
        let take = |trace| {
            let body = spans(vec![span(trace, 1)]).encode_to_vec();
            let rules = ProjectRules::default();
            SPANS.take(&body, LIMIT, Writer::Job(&job), NOW, &settings, &rules)
        };
        let taken = take(mine).unwrap();
        assert_eq!((taken.count, taken.messages.len()), (1, 1), "{ids:?}");
        assert_eq!(taken.messages[0].attributes["trace_id"], hex::encode(mine));
        assert_eq!(take(others).unwrap_err().code(), Code::Forbidden, "{ids:?}");
        assert_eq!(take(OTHER).unwrap_err().code(), Code::Forbidden, "{ids:?}");
    }
}

#[test]
fn of_several_spans_those_of_other_traces_are_left_out_and_told() {
    let job = job();
    let request = spans(vec![span(own(), 1), span(OTHER, 2), span(own(), 3), span([8; 16], 4)]);
    let taken = taken(&request, Writer::Job(&job));
    assert_eq!(names(&out(&taken)), ["step 1", "step 3"]);
    assert_eq!((taken.count, taken.rejects.count()), (2, 2));
    insta::assert_snapshot!(taken.rejects.to_string(), @"not taken: 2 of another trace than that of this job's run; ask /traceparent for TRACEPARENT, and have the SDK read it");
}

#[test]
fn who_may_write_everywhere_does() {
    let job = job();
    let request = spans(vec![span(own(), 1), span(OTHER, 2)]);
    for writer in [Writer::Free(&job), Writer::Trusted] {
        let taken = taken(&request, writer);
        assert_eq!((taken.count, taken.messages.len()), (2, 2), "a message for each trace");
    }
}

#[test]
fn a_link_may_lead_into_another_trace() {
    let job = job();
    let link = Link { trace_id: OTHER.to_vec(), span_id: vec![1; 8], ..Link::default() };
    let linked = Span { links: vec![link], ..span(own(), 1) };
    assert_eq!(taken(&spans(vec![linked]), Writer::Job(&job)).count, 1);
}

/// The webhook makes these, and another with the same id would take its place.
#[test]
fn a_job_does_not_write_the_spans_of_its_run_and_of_itself() {
    let job = job();
    let place = job.place(&Settings::default());
    let with = |id: &[u8; 8]| Span { span_id: id.to_vec(), ..span(own(), 1) };
    let request = spans(vec![with(place.run.as_bytes()), with(place.job.unwrap().as_bytes())]);
    let refused = take(SPANS, &request.encode_to_vec(), Writer::Job(&job)).unwrap_err();
    assert_eq!(refused.code(), Code::Forbidden);
    insta::assert_snapshot!(refused, @"not taken: 2 with the id of the run's or the job's own span; leave the id to the SDK");
}

#[test]
fn ids_of_a_wrong_length_or_of_zeros_cost_their_span_and_no_other() {
    let good = span(own(), 1);
    let bad = [
        Span { trace_id: vec![1; 15], ..good.clone() },
        Span { trace_id: vec![1; 17], ..good.clone() },
        Span { trace_id: vec![0; 16], ..good.clone() },
        Span { trace_id: Vec::new(), ..good.clone() },
        Span { span_id: vec![1; 7], ..good.clone() },
        Span { span_id: vec![0; 8], ..good.clone() },
        Span { span_id: Vec::new(), ..good.clone() },
        Span { parent_span_id: vec![1; 9], ..good.clone() },
        Span { links: vec![Link { trace_id: vec![1; 3], ..Link::default() }], ..good.clone() },
    ];
    let job = job();
    for writer in [Writer::Job(&job), Writer::Trusted] {
        for bad in &bad {
            let taken = taken(&spans(vec![bad.clone(), good.clone()]), writer);
            assert_eq!(out(&taken).as_slice(), std::slice::from_ref(&good), "{bad:?}");
            let refused = take(SPANS, &spans(vec![bad.clone()]).encode_to_vec(), writer);
            let refused = refused.unwrap_err();
            assert_eq!(refused.code(), Code::Invalid, "{bad:?}");
            assert!(
                refused.to_string().starts_with("not taken: 1 without a trace id"),
                "{refused}"
            );
        }
    }
}

/// One decoder takes the last of two, another the first.
#[test]
fn a_span_of_two_traces_is_of_none() {
    let mut double = span(OTHER, 1).encode_to_vec();
    double.extend(Span { trace_id: own().to_vec(), ..Span::default() }.encode_to_vec());
    let wrapped = |number: u32, bytes: Vec<u8>| {
        let mut out = Vec::new();
        prost::encoding::bytes::encode(number, &bytes, &mut out);
        out
    };
    let body = wrapped(1, wrapped(2, wrapped(2, double)));
    let refused = take(SPANS, &body, Writer::Job(&job())).unwrap_err();
    assert_eq!(refused.code(), Code::Invalid);
}

#[test]
fn records_and_exemplars_of_other_traces_are_left_out_too() {
    let job = job();
    let record = |trace: &[u8]| LogRecord { trace_id: trace.to_vec(), ..LogRecord::default() };
    let body = logs(vec![record(&own()), record(&OTHER), record(&[]), record(&[0; 16])]);
    let of_logs = request(Signal::Logs, Encoding::Protobuf);
    let taken = take(of_logs, &body.encode_to_vec(), Writer::Job(&job)).unwrap();
    assert_eq!((taken.count, taken.rejects.count()), (3, 1));
    let written: ExportLogsServiceRequest = decoded(&taken);
    let records = &written.resource_logs[0].scope_logs[0].log_records;
    assert!(records.iter().all(|it| it.trace_id != OTHER));

    let metric = |trace: &[u8]| {
        let exemplars = vec![Exemplar { trace_id: trace.to_vec(), ..Exemplar::default() }];
        let data_points = vec![NumberDataPoint { exemplars, ..NumberDataPoint::default() }];
        let data = Some(Data::Gauge(Gauge { data_points }));
        Metric { name: "n".to_owned(), data, ..Metric::default() }
    };
    let of_metrics = request(Signal::Metrics, Encoding::Protobuf);
    let body = metrics(vec![metric(&own()), metric(&OTHER), metric(&[])]);
    let taken = take(of_metrics, &body.encode_to_vec(), Writer::Job(&job)).unwrap();
    assert_eq!((taken.count, taken.rejects.count()), (2, 1));
    let body = metrics(vec![metric(&OTHER)]).encode_to_vec();
    assert_eq!(take(of_metrics, &body, Writer::Job(&job)).unwrap_err().code(), Code::Forbidden);
}

#[test]
fn a_jobs_resource_says_what_its_token_says_and_keeps_the_rest() {
    let job = job();
    let lies = [
        ("service.name", "make"),
        ("vcs.repository.name", "payments"),
        ("vcs.owner.name", "rivals"),
        ("cicd.pipeline.run.id", "1"),
        ("spanhook.provider", "github"),
        ("host.name", "runner-7"),
    ];
    let lies: Vec<_> = lies.into_iter().map(|(key, value)| text(key, value)).collect();
    let mut sent = spans(vec![span(own(), 1)]);
    sent.resource_spans[0].resource.as_mut().unwrap().attributes = lies.clone();
    let resource_of = |writer| {
        let request: ExportTraceServiceRequest = decoded(&taken(&sent, writer));
        let [group] = request.resource_spans.try_into().unwrap();
        assert_eq!(group.schema_url, "https://opentelemetry.io/schemas/1.37.0");
        group.resource.unwrap().attributes
    };
    let expected = [
        ("service.name", "make"),
        ("host.name", "runner-7"),
        ("spanhook.provider", "gitlab"),
        ("cicd.pipeline.run.id", "2722508965"),
        ("cicd.pipeline.task.run.id", "15651125844"),
        ("vcs.owner.name", "acme/web"),
        ("vcs.repository.name", "shop"),
    ];
    assert_eq!(resource_of(Writer::Job(&job)), expected.map(|(key, value)| text(key, value)));
    assert_eq!(resource_of(Writer::Free(&job)), lies);
    let metric = Metric { name: "n".to_owned(), ..Metric::default() };
    let body = metrics(vec![metric]).encode_to_vec();
    let of_metrics = request(Signal::Metrics, Encoding::Protobuf);
    let taken = take(of_metrics, &body, Writer::Job(&job)).unwrap();
    let written: ExportMetricsServiceRequest = decoded(&taken);
    let resource = written.resource_metrics[0].resource.clone().unwrap();
    assert!(resource.attributes.contains(&text("vcs.repository.name", "shop")));
}

#[test]
fn the_rules_of_the_jobs_project_decide_and_leave_out_in_silence() {
    let job = job();
    let record = logs(vec![LogRecord::default()]).encode_to_vec();
    let body = spans(vec![span(own(), 1)]).encode_to_vec();
    for (rules, of_spans, of_logs) in [
        (r#"{"deny": ["acme/web/shop"]}"#, 0, 0),
        (r#"{"deny": ["gitlab.example.com/acme/*"]}"#, 0, 0),
        (r#"{"deny": ["acme/other"]}"#, 1, 1),
        (r#"{"share": {"acme/*": 0}}"#, 0, 1),
        (r#"{"allow": ["rivals/*"]}"#, 0, 0),
    ] {
        let parsed = ProjectRules::parse(rules).unwrap();
        let take = |signal, body: &[u8]| {
            let request = request(signal, Encoding::Protobuf);
            let settings = Settings::default();
            request.take(body, LIMIT, Writer::Job(&job), NOW, &settings, &parsed).unwrap()
        };
        let (spans, logs) = (take(Signal::Traces, &body), take(Signal::Logs, &record));
        assert_eq!((spans.messages.len(), logs.messages.len()), (of_spans, of_logs), "{rules}");
        assert_eq!(spans.rejects.count() + logs.rejects.count(), 0, "{rules}");
    }
    // Where nobody says whose it is, only rules for everybody hold.
    for (rules, expected) in [
        (r#"{"deny": ["acme/web/shop"]}"#, 1),
        (r#"{"allow": ["acme/*"]}"#, 0),
        (r#"{"share": {"*": 0}}"#, 0),
    ] {
        let rules = ProjectRules::parse(rules).unwrap();
        let settings = Settings::default();
        let taken = SPANS.take(&body, LIMIT, Writer::Trusted, NOW, &settings, &rules).unwrap();
        assert_eq!(taken.messages.len(), expected, "{rules:?}");
    }
}

#[test]
fn what_circleci_exports_gets_what_views_look_for() {
    let named = |name: &str, number| Span { name: name.to_owned(), ..span(OTHER, number) };
    let all = ["Pipeline: shop", "Workflow: build", "Job: test", "Task: 0", "Step: make", "Job"];
    let all: Vec<_> = all.into_iter().zip(1..).map(|(name, number)| named(name, number)).collect();
    let mut sent = spans(all);
    sent.resource_spans[0].resource.as_mut().unwrap().attributes =
        vec![text("service.name", "CircleCI Pipelines")];
    let taken = taken(&sent, Writer::Trusted);
    let kinds = |spans: &[Span]| -> Vec<String> {
        spans.iter().map(|it| format!("{:?}", it.attributes)).collect()
    };
    let written: ExportTraceServiceRequest = decoded(&taken);
    let resource = written.resource_spans[0].resource.clone().unwrap();
    assert!(resource.attributes.contains(&text("spanhook.provider", Provider::Circleci.as_str())));
    let spans = out(&taken);
    for (span, kind) in spans.iter().zip([None, Some("run"), Some("job"), None, Some("step"), None])
    {
        let expected: Vec<_> = kind.map(|it| text("spanhook.kind", it)).into_iter().collect();
        assert_eq!(span.attributes, expected, "{}", span.name);
    }
    // A job can't pass for it.
    let job = job();
    for group in &mut sent.resource_spans {
        group.scope_spans[0].spans.iter_mut().for_each(|it| it.trace_id = own().to_vec());
    }
    let of_job = out(&super::support::taken(&sent, Writer::Job(&job)));
    assert!(kinds(&of_job).iter().all(|it| it == "[]"));
}

#[test]
fn every_answer_has_its_shape_in_both_encodings() {
    let job = job();
    let rejects = taken(&spans(vec![span(own(), 1), span(OTHER, 2)]), Writer::Job(&job)).rejects;
    let mut text = String::new();
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let mut add = |what: &str, bytes: Vec<u8>| {
            let shown = match encoding {
                Encoding::Json => String::from_utf8(bytes).unwrap(),
                Encoding::Protobuf => format!("\"{}\"", bytes.escape_ascii()),
            };
            text += &format!("{what}: {shown}\n");
        };
        for signal in Signal::ALL {
            add("all", success(encoding, signal, &Rejects::default()));
            add("some", success(encoding, signal, &rejects));
        }
        for code in [Code::Invalid, Code::Forbidden, Code::Unavailable, Code::Unauthenticated] {
            add("refused", status(encoding, code, "why"));
        }
    }
    insta::assert_snapshot!(text);
}
