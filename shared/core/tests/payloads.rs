//! Payloads as others really write them: what means the same gives the same spans, whatever the
//! hand; what is missing costs what it would have told, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path};

use serde_json::{Map, Value, json};
use spanhook_core::{
    build_event::{self, Sender},
    delivery::{Accepted, Mapped, Outcome, Unmappable},
    id::TraceIds,
    mapping::ServiceName,
    otlp::{
        Signal,
        front::{Encoding, Request, Writer},
    },
    provider::{
        Provider,
        gitlab::{self, JobSpans},
    },
    rules::ProjectRules,
    settings::Settings,
};
use support::{delivery, map, with_jobs};

/// The samples of a provider.
fn samples(provider: Provider) -> Vec<(String, Value)> {
    let events = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events");
    let files = fs::read_dir(events.join(provider.as_str())).unwrap();
    let read = |path: &Path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let found: Vec<_> = files
        .map(|it| it.unwrap().path())
        .map(|path| (format!("{provider}/{}", path.file_name().unwrap().display()), read(&path)))
        .collect();
    assert!(!found.is_empty());
    found
}

fn outcome(provider: Provider, body: &[u8]) -> Outcome {
    delivery(body).process(provider, &Settings::default(), &ProjectRules::default())
}

/// The same JSON with every value changed, from the inside out.
fn changed(json: &Value, change: fn(Value) -> Value) -> Value {
    let inside = match json {
        Value::Array(items) => items.iter().map(|it| changed(it, change)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, it)| (key.clone(), changed(it, change)));
            Value::Object(fields.collect())
        }
        scalar => scalar.clone(),
    };
    change(inside)
}

/// What is kept is kept as it came, so it differs where the delivery does.
fn without_rest<'a>(mapped: Result<Mapped<'a>, Unmappable>) -> Result<Mapped<'a>, Unmappable> {
    match mapped {
        Ok(Mapped::Partly { telemetry, unread, .. }) => {
            Ok(Mapped::Partly { telemetry, unread, rest: Vec::new() })
        }
        mapped => mapped,
    }
}

#[test]
fn numbers_and_flags_may_be_texts_and_unknown_fields_may_come() {
    let as_text = |it: Value| match it {
        Value::Number(_) | Value::Bool(_) => it.to_string().into(),
        it => it,
    };
    let in_capitals = |it: Value| match it {
        Value::Bool(it) => if it { "True" } else { "False" }.into(),
        Value::Number(it) => format!(" {it} ").into(),
        it => it,
    };
    let with_more = |it: Value| match it {
        Value::Object(mut fields) => {
            fields.insert("field of tomorrow".into(), json!({ "\u{0}é😀": [[], {}, null, 1e300] }));
            Value::Object(fields)
        }
        it => it,
    };
    for provider in Provider::ALL {
        for job_spans in [JobSpans::Pipeline, JobSpans::Job] {
            let settings = with_jobs(TraceIds::Hashed, job_spans);
            for (name, json) in samples(provider) {
                let body = json.to_string();
                let expected = without_rest(map(provider, body.as_bytes(), &settings));
                for change in [as_text, in_capitals, with_more] {
                    let body = changed(&json, change).to_string();
                    let found = without_rest(map(provider, body.as_bytes(), &settings));
                    assert_eq!(found, expected, "{name}");
                }
            }
        }
    }
}

#[test]
fn a_body_is_the_same_with_a_byte_order_mark_with_spaces_and_in_a_form() {
    for provider in Provider::ALL {
        for (name, json) in samples(provider) {
            let expected = outcome(provider, json.to_string().as_bytes());
            let marked = format!("\u{feff}{json}");
            let spaced = format!("\r\n{json:#}\n\n");
            let mut bodies = vec![marked.clone(), spaced];
            if provider == Provider::Github {
                let form = |json: &str| {
                    let mut form = form_urlencoded::Serializer::new(String::new());
                    form.append_pair("payload", json).finish()
                };
                bodies.extend([form(&json.to_string()), form(&marked)]);
            }
            for body in bodies {
                match (outcome(provider, body.as_bytes()), &expected) {
                    (
                        Outcome::Quarantined { reason, .. },
                        Outcome::Quarantined { reason: it, .. },
                    ) => {
                        assert_eq!(reason, *it, "{name}");
                    }
                    (Outcome::Accepted(found), Outcome::Accepted(expected)) => {
                        let kept = |it: &Accepted| (it.messages.clone(), it.unread, it.rest.len());
                        assert_eq!(kept(&found), kept(expected), "{name}");
                    }
                    (found, expected) => assert_eq!(&found, expected, "{name}"),
                }
            }
        }
    }
}

#[test]
fn a_text_that_was_cut_within_a_character_costs_that_character() {
    let pipeline = |title: &str| {
        format!(
            r#"{{"object_kind":"pipeline","object_attributes":{{"id":7,"status":"success",
            "created_at":"2026-01-01T00:00:00Z","finished_at":"2026-01-01T00:01:00Z"}},
            "commit":{{"title":"{title}"}}}}"#
        )
    };
    let whole = outcome(Provider::Gitlab, pipeline("Ship \u{fffd}").as_bytes());
    assert!(matches!(whole, Outcome::Accepted(_)));
    assert_eq!(outcome(Provider::Gitlab, pipeline(r"Ship \ud83d").as_bytes()), whole);
    let mut bytes = pipeline("Ship #").into_bytes();
    let at = bytes.iter().position(|it| *it == b'#').unwrap();
    bytes[at] = 0xE9;
    assert_eq!(outcome(Provider::Gitlab, &bytes), whole);
}

#[test]
fn an_array_in_place_of_an_event_is_none_and_a_field_named_twice_is_kept_whole() {
    for (provider, body) in [
        (Provider::Circleci, r#"["ping", "853f39c4", "2026-11-03T14:06:31Z"]"#),
        (Provider::Gitlab, r#"["pipeline", {"id": 7, "status": "success"}]"#),
        (Provider::Github, r#"["completed"]"#),
        (Provider::Circleci, r#"{"type": "ping", "type": "ping"}"#),
        (Provider::Gitlab, "null"),
        (Provider::Gitlab, r#""pipeline""#),
    ] {
        let outcome = outcome(provider, body.as_bytes());
        let Outcome::Quarantined { reason, messages } = outcome else { panic!("{outcome:?}") };
        assert_eq!((reason, messages.len()), (Unmappable::NotJson, 1), "{body}");
    }
}

fn service_name(mapped: &Mapped<'_>) -> String {
    use spanhook_core::otlp::span::Value;
    let Mapped::Telemetry(telemetry) = mapped else { panic!("{mapped:?}") };
    match telemetry[0].traces[0].groups[0].resource.get("service.name") {
        Some(Value::Text(text)) => text.to_string(),
        other => panic!("{other:?}"),
    }
}

fn without(json: &Value, fields: &[&str]) -> Value {
    let fields = json.as_object().unwrap().iter().filter(|it| !fields.contains(&it.0.as_str()));
    Value::Object(fields.map(|(key, it)| (key.clone(), it.clone())).collect::<Map<_, _>>())
}

#[test]
fn a_project_that_nothing_names_has_no_address_and_the_providers_own_service_name() {
    let settings = Settings {
        gitlab: gitlab::Settings {
            service_name: ServiceName::parse("ci-{repository}", "gitlab").unwrap(),
            ..gitlab::Settings::default()
        },
        ..Settings::default()
    };
    let (_, pipeline) = samples(Provider::Gitlab)
        .into_iter()
        .find(|it| it.0 == "gitlab/pipeline-failed.json")
        .unwrap();
    let named = pipeline.to_string();
    let named = map(Provider::Gitlab, named.as_bytes(), &settings).unwrap();
    assert!(service_name(&named).starts_with("ci-") && format!("{named:?}").contains("https://"));
    for odd in [json!(null), json!("acme/shop"), json!([]), json!({}), json!({ "web_url": "" })] {
        let mut nameless = pipeline.clone();
        nameless["project"] = odd;
        let body = nameless.to_string();
        let mapped = map(Provider::Gitlab, body.as_bytes(), &settings).unwrap();
        assert_eq!(service_name(&mapped), "gitlab");
        let text = format!("{mapped:?}");
        assert!(!text.contains("/-/") && !text.contains("vcs.repository.url.full"), "{text}");
        assert!(
            text.contains(r#""https://gitlab.com""#),
            "the instance's page is one that is there"
        );
    }
}

#[test]
fn a_circleci_run_has_no_made_up_address() {
    let settings = Settings::default();
    for (name, json) in samples(Provider::Circleci) {
        let mut bare = without(&json, &["project"]);
        if let Some(workflow) = bare["workflow"].as_object_mut() {
            workflow.remove("url");
        }
        let body = bare.to_string();
        let mapped = map(Provider::Circleci, body.as_bytes(), &settings);
        let text = format!("{mapped:?}");
        assert!(!text.contains("app.circleci.com/"), "{name}: {text}");
    }
}

#[test]
fn what_is_no_event_is_kept_with_a_reason() {
    for provider in Provider::ALL {
        for body in [
            "",
            " ",
            "{",
            "{}",
            "[]",
            "null",
            "\u{feff}",
            "\u{feff}{}",
            "payload=",
            "payload=%7B",
            "a=b&c=d",
            "<xml/>",
            "\0",
        ] {
            let outcome = outcome(provider, body.as_bytes());
            assert!(
                matches!(outcome, Outcome::Quarantined { .. }),
                "{provider} {body:?}: {outcome:?}"
            );
        }
    }
}

/// A parser that calls itself for each level would end the process, and no sender has to be trusted for it.
#[test]
fn json_of_any_depth_is_answered_and_ends_no_process() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        let within = [r#"{"object_kind":"pipeline","builds":"#, &deep, "}"].concat();
        for provider in Provider::with_webhooks() {
            for body in [&deep, &within] {
                let Outcome::Quarantined { reason, .. } = outcome(provider, body.as_bytes()) else {
                    panic!("{provider} maps it")
                };
                assert_ne!(reason, Unmappable::Bug, "{provider}");
            }
        }
        let settings = Settings::default();
        assert!(build_event::map(deep.as_bytes(), 1, &settings, Sender::Trusted).is_err());
    }
    let values = |levels| {
        let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(levels), "]}}".repeat(levels));
        let value = format!(r#"{{"key":"k","value":{open}{close}}}"#);
        format!(r#"{{"resourceSpans":[{{"resource":{{"attributes":[{value}]}}}}]}}"#)
    };
    let request = Request { signal: Signal::Traces, encoding: Encoding::Json };
    let (settings, rules) = (Settings::default(), ProjectRules::default());
    let take = |body: String| {
        request.take(body.as_bytes(), 1 << 20, Writer::Trusted, 1, &settings, &rules)
    };
    assert!(take(values(10)).is_ok());
    assert!(take(values(100_000)).is_err());
}
