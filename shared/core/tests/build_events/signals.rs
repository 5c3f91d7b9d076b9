//! What events of each type give.

use opentelemetry_proto::tonic::common::v1::any_value;
use serde_json::{Value, json};
use spanhook_core::{
    build_event::Batch,
    id::Hashed,
    otlp::{
        Signal,
        encode::Limits,
        metric::Point,
        span::{self, Status},
    },
};

use crate::{
    decoded::{decoded, describe, records},
    events::{RECEIVED, event, log_groups, messages, metric_groups, of, parents, traces, with},
};

#[test]
fn every_type_gives_its_signals() {
    for (kind, spans, points, records) in [
        ("ci_build_metadata", 1, 1, 0),
        ("webpack_build_stats", 1, 1, 0),
        ("artifact", 1, 1, 0),
        ("measure", 0, 1, 0),
        ("mark", 1, 0, 1),
        ("anything else", 0, 0, 1),
    ] {
        let batch = of(&event(kind));
        let count = |signal| batch.telemetry.iter().map(|it| it.count(signal)).sum::<usize>();
        let found = (parents(&batch).len(), count(Signal::Metrics), count(Signal::Logs));
        assert_eq!(found, (spans, points, records), "{kind}");
    }
    assert_eq!(of(&json!([])), Batch::default());
}

#[test]
fn an_event_of_an_unknown_type_is_kept_whatever_it_holds() {
    let odd = json!({
        "type": "from tomorrow", "timestamp": "soon", "correlation_id": [1], "project": {},
        "git_ref": 7.5, "context": { "provider": "s3cret", "run_id": {} }, "attributes": 3,
    });
    let batch = of(&odd);
    let record = &log_groups(&batch)[0].records[0];
    assert_eq!((record.event_name.as_ref(), record.time), ("from tomorrow", RECEIVED));
    assert_eq!(record.context, None);
    assert_eq!(serde_json::from_str::<Value>(&record.body).unwrap(), odd);
    let odd = json!({ "type": "x", "context": { "provider": "gitlab", "run_id": "x" } });
    let own = Hashed::new("build", "").trace("x");
    assert_eq!(log_groups(&of(&odd))[0].records[0].context.unwrap().0, own, "no run, but a name");
}

#[test]
fn a_body_is_cut_at_64_kib_between_characters() {
    let batch = of(&json!({ "type": "x", "text": "é".repeat(40_000) }));
    let decoded = decoded(&messages(&batch, Limits::default()), Limits::default());
    let body = records(&decoded.logs[0]).next().unwrap().body.clone().unwrap().value;
    let Some(any_value::Value::StringValue(body)) = body else { panic!() };
    assert!((64 * 1024 - 1..=64 * 1024).contains(&body.len()), "{}", body.len());
}

#[test]
fn every_form_of_timestamp_is_read() {
    for (timestamp, nanos) in [
        (json!("2026-11-02T09:30:00Z"), 1_793_611_800_000_000_000),
        (json!("2026-11-02T10:30:00.250+01:00"), 1_793_611_800_250_000_000),
        (json!(1_793_611_800), 1_793_611_800_000_000_000),
        (json!("1793611800"), 1_793_611_800_000_000_000),
        (json!(1_793_611_800.25), 1_793_611_800_250_000_000),
        (json!(1_793_611_800_250_u64), 1_793_611_800_250_000_000),
        (json!(1_793_611_800_250.5), 1_793_611_800_250_500_000_u64),
        (json!(""), RECEIVED),
        (Value::Null, RECEIVED),
    ] {
        let batch = of(&with(event("mark"), "timestamp", timestamp.clone()));
        let time = log_groups(&batch)[0].records[0].time;
        assert!(time.abs_diff(nanos) < 500, "{timestamp}: {time}");
    }
}

#[test]
fn how_a_build_ended_is_told_in_the_words_of_the_conventions() {
    for (status, result, error) in [
        ("success", "success", None),
        ("failed", "failure", Some("failed")),
        ("error", "error", Some("error")),
        ("timedout", "timeout", Some("timeout")),
        ("canceled", "cancellation", None),
        ("ABORTED", "cancellation", None),
        ("skipped", "skip", None),
        ("blocked", "blocked", None),
    ] {
        let batch = of(&with(event("ci_build_metadata"), "job_status", status.into()));
        let span = &traces(&batch)[0].groups[0].spans[0];
        let point = &metric_groups(&batch)[0].metrics[0].points[0];
        let text = |value: Option<&span::Value<'_>>| match value {
            Some(span::Value::Text(text)) => Some(text.to_string()),
            _ => None,
        };
        for attributes in [&span.attributes, &point.attributes] {
            assert_eq!(text(attributes.get("cicd.pipeline.result")).as_deref(), Some(result));
            assert_eq!(text(attributes.get("error.type")).as_deref(), error, "{status}");
        }
        assert_eq!(span.status != Status::Unset, error.is_some());
    }
}

#[test]
fn a_failed_bundle_has_no_sizes() {
    for (field, value) in [("job_status", json!("failed")), ("errors_count", json!(1))] {
        let bundle = with(event("webpack_build_stats"), "metrics.asset_count", json!(0));
        let bundle =
            with(bundle, "details", json!({ "largest_assets": [{ "name": "a", "size": 1 }] }));
        let names = |batch: &Batch| -> Vec<String> {
            metric_groups(batch)[0].metrics.iter().map(|it| it.name.to_string()).collect()
        };
        let all = ["build.compile.duration", "build.bundle.assets", "build.asset.size"];
        assert_eq!(names(&of(&bundle)), all);
        let batch = of(&with(bundle, field, value));
        assert_eq!(names(&batch), ["build.compile.duration"]);
        let span = &traces(&batch)[0].groups[0].spans[0];
        assert_ne!(span.status, Status::Unset);
        assert!(span.attributes.get("error.type").is_some());
    }
}

#[test]
fn the_details_of_a_bundle_may_have_any_shape() {
    for (details, unread) in [
        (json!(null), 0),
        (json!({}), 0),
        (json!({ "largest_assets": null, "chunks": [] }), 0),
        (json!("text"), 1),
        (json!([1]), 1),
        (json!({ "largest_assets": 3 }), 1),
        (json!({ "largest_assets": { "a.js": 3 }, "chunks": "two" }), 2),
        (
            json!({ "largest_assets": [1, null, {}, { "name": 3 }, { "name": "a.js", "size": "big" }] }),
            5,
        ),
        (json!({ "chunks": [7, { "id": 1 }, { "name": "main", "size": -1 }] }), 3),
    ] {
        let batch = of(&with(event("webpack_build_stats"), "details", details.clone()));
        assert_eq!(batch.telemetry[0].count(Signal::Metrics), 1, "{details}");
        assert_eq!(batch.unread.count, unread, "{details}");
    }
    let assets: Vec<_> =
        (0..60).map(|it| json!({ "name": format!("{it}.js"), "size": it })).collect();
    let batch = of(&with(event("webpack_build_stats"), "details.largest_assets", json!(assets)));
    let sizes = &metric_groups(&batch)[0].metrics[1].points;
    let values: Vec<_> = sizes.iter().map(|it| it.value).collect();
    assert_eq!(values, (50..60).rev().map(f64::from).collect::<Vec<_>>());
    let body: Value = serde_json::from_str(&log_groups(&batch)[0].records[0].body).unwrap();
    assert_eq!(body["largest_assets"].as_array().unwrap().len(), 50);
}

/// Bundlers' plugins say `size` or `size_bytes`, a name or names, how many modules or which.
#[test]
fn a_chunk_is_read_however_a_plugin_writes_it() {
    let chunks = json!([
        { "id": 1, "name": "vendor", "size_bytes": 900, "modules": 210, "initial": true },
        { "id": 2, "names": ["main", "app"], "size": "800", "modules": [{}, {}, {}] },
        { "id": 792, "names": [], "size": 700, "initial": false },
        { "id": "lazy-BqmXrTnJ", "size": 600 },
        { "size": 500 },
        { "name": "vendor", "size": 5, "modules": 1, "initial": false },
        { "name": "lost" },
    ]);
    let batch = of(&with(event("webpack_build_stats"), "details", json!({ "chunks": chunks })));
    assert_eq!(batch.unread.at, ["events[0].details.chunks[6]"]);
    let points = |name: &str| -> Vec<_> {
        let metrics = &metric_groups(&batch)[0].metrics;
        let metric = metrics.iter().find(|it| it.name == name).unwrap();
        let of = |it: &Point<'static>| {
            let initial = it.attributes.get("build.chunk.initial").cloned();
            (it.attributes.text("build.chunk.name").to_owned(), it.value, initial)
        };
        metric.points.iter().map(of).collect()
    };
    let (yes, no) = (Some(span::Value::Bool(true)), Some(span::Value::Bool(false)));
    let point = |name: &str, value, initial: &Option<_>| (name.to_owned(), value, initial.clone());
    assert_eq!(
        points("build.chunk.size"),
        [
            point("vendor", 905.0, &yes),
            point("main", 800.0, &None),
            point("792", 700.0, &no),
            point("lazy", 600.0, &None),
            point("unnamed", 500.0, &None),
        ]
    );
    let modules = [point("vendor", 211.0, &yes), point("main", 3.0, &None)];
    assert_eq!(points("build.chunk.modules"), modules);
}

#[test]
fn the_packages_of_a_chunk_are_told_by_name_and_the_ones_beyond_ten_as_the_rest() {
    let many = (1..=13_u64).map(|it| json!({ "name": format!("p{it:02}@1.{it}"), "size": it }));
    let mut packages: Vec<_> = many.collect();
    packages.push(json!({ "name": "(own)", "size_bytes": "7", "modules": 2 }));
    packages.push(json!({ "name": "zod" }));
    let chunks = json!([
        { "name": "main", "size": 100, "packages": packages },
        // The same chunk of another page: its packages are added.
        { "name": "main", "size": 10, "packages": [{ "name": "p13", "size": 2, "modules": 1 }] },
        { "name": "lazy", "size": 1, "packages": "two" },
    ]);
    let batch = of(&with(event("webpack_build_stats"), "details", json!({ "chunks": chunks })));
    let chunk = "events[0].details.chunks";
    assert_eq!(
        batch.unread.at,
        [format!("{chunk}[0].packages[14]"), format!("{chunk}[2].packages")]
    );
    let metrics = &metric_groups(&batch)[0].metrics;
    let metric = metrics.iter().find(|it| it.name == "build.chunk.package.size").unwrap();
    let points = metric.points.iter();
    let found: Vec<_> =
        points.map(|it| (it.attributes.text("build.package.name"), it.value)).collect();
    assert_eq!(found[..2], [("p13", 15.0), ("p12", 12.0)]);
    assert_eq!(found[9..], [("p04", 4.0), ("(own)", 7.0), ("(rest)", 6.0)]);
    let records = log_groups(&batch)[0].records.iter();
    let records: Vec<_> = records.filter(|it| it.event_name == "build.chunk.package").collect();
    assert_eq!((records.len(), records[0].body.as_ref()), (12, "p13"));
    let own = &records[10].attributes;
    for (name, value) in [("build.chunk.package.size", 7), ("build.chunk.package.modules", 2)] {
        assert_eq!(own.get(name), Some(&span::Value::Int(value)), "{name}");
    }
    assert_eq!(own.text("build.chunk.name"), "main");
}

#[test]
fn no_secret_and_no_person_is_kept() {
    let attributes = json!({ "api_token": "s3cret", "author": "Ada", "user.email": "Ada" });
    let private = json!({ "password": { "old": "s3cret" }, "commit": { "author_name": "Ada" } });
    let events = json!([
        with(event("mark"), "attributes", attributes.clone()),
        with(event("measure"), "attributes", attributes),
        with(event("webpack_build_stats"), "details", private.clone()),
        with(event("x"), "data", private),
    ]);
    let text = format!("{:?}", of(&events));
    assert!(text.contains("api_token") && text.contains("[blanked]"), "{text}");
    assert!(!text.contains("s3cret") && !text.contains("Ada"), "{text}");
}

#[test]
fn the_largest_allowed_events_fit_the_queue() {
    // Text that does not compress, of characters that take two bytes each.
    let noise = |seed: usize, length: usize| -> String {
        let mut state = seed as u64 + 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from_u32(0xA0 + u32::try_from(state % 0x700).unwrap()).unwrap()
        };
        (0..length / 2).map(|_| next()).collect()
    };
    let attributes: serde_json::Map<_, _> =
        (0..64).map(|it| (noise(it, 256), noise(it + 100, 2048).into())).collect();
    for kind in ["mark", "measure"] {
        let mut huge = with(event(kind), "attributes", json!(attributes));
        for (seed, field) in
            ["correlation_id", "project", "git_ref", "commit_sha", "name"].iter().enumerate()
        {
            huge[*field] = noise(seed + 900, 256).into();
        }
        decoded(&messages(&of(&huge), Limits::default()), Limits::default());
    }
}

#[test]
fn a_measurement_is_counted_in_the_bucket_that_ends_with_it() {
    for (seconds, bucket) in [
        (0.0, "(0, 1]"),
        (1.0, "(0, 1]"),
        (1.5, "(1, 5]"),
        (21600.0, "(10800, 21600]"),
        (1e9, "(21600, inf]"),
    ] {
        let event = with(event("ci_build_metadata"), "metrics.duration_seconds", json!(seconds));
        assert!(describe(&of(&event)).contains(&format!("in {bucket}")), "{seconds}");
    }
}
