//! `spanhook inspect`: what queue and dead-letter messages hold.

use std::{collections::BTreeMap, fmt::Write, io::Read, path::PathBuf, time::Duration};

use bytes::Bytes;
use clap::Args;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    trace::v1::Span,
};
use prost::Message;
use serde_json::Value;
use spanhook_core::{
    message::{self, Content, OTLP, RAW, Undecodable, join_parts, unpack, unpack_part},
    otlp::Signal,
};
use spanhook_service::queue::SqsQueue;
use thiserror::Error;

use crate::{
    serve::{
        store::Store,
        view::{duration, hex, measure::measures, named, value_text},
    },
    terminal::{Failure, failure, print, printable},
};

#[derive(Args, Debug)]
#[command(
    after_help = "A file, or standard input, holds what `aws sqs receive-message --message-attribute-names All` prints,
an SQS event of Lambda, one message of either, or a bare message body."
)]
pub(crate) struct Inspect {
    /// Files to read; standard input when there is none
    #[arg(value_name = "FILE", conflicts_with_all = ["queue", "data"])]
    files: Vec<PathBuf>,
    /// Read from an SQS queue instead; messages stay in it, but count as received once more
    #[arg(long, value_name = "URL")]
    queue: Option<String>,
    /// Read the dead letters of a `spanhook serve` that is stopped, from its folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "queue")]
    data: Option<PathBuf>,
}

/// Input that holds no messages.
#[derive(Debug, Error)]
pub(crate) enum InspectError {
    #[error(
        "this is no queue message; give the output of `aws sqs receive-message --message-attribute-names All`, an SQS event, or a message body"
    )]
    NoMessage,
    #[error("message {number} can't be read: {error}")]
    Undecodable { number: usize, error: Undecodable },
    #[error(
        "message {number} holds a delivery of which other parts are missing; give all its parts ({part}) at once"
    )]
    Incomplete { number: usize, part: String },
}

/// A body and its attributes.
type Raw = (Bytes, BTreeMap<String, String>);

impl Inspect {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut messages = Vec::new();
        if let Some(url) = self.queue {
            let client = aws_sdk_sqs::Client::new(&aws_config::load_from_env().await);
            let queue = SqsQueue::new(client, url, None);
            let peek =
                queue.receive(Duration::ZERO, Duration::from_secs(1)).await.map_err(failure)?;
            if peek.is_empty() {
                print("the queue is empty, or all of its messages are being worked on\n");
                return Ok(());
            }
            messages.extend(peek.into_iter().map(|it| (it.body, it.attributes)));
        } else if let Some(folder) = self.data {
            let dead = Store::open(&folder).map_err(failure)?.dead();
            messages.extend(dead.into_iter().map(|it| (it.body, it.attributes)));
            if messages.is_empty() {
                print("there are no dead letters\n");
            }
        } else if self.files.is_empty() {
            let mut input = String::new();
            std::io::stdin().read_to_string(&mut input).map_err(failure)?;
            messages.extend(parse(&input).map_err(failure)?);
        } else {
            for file in &self.files {
                let input = std::fs::read_to_string(file).map_err(|error| {
                    failure(format!("{} can't be read: {error}", file.display()))
                })?;
                messages.extend(parse(&input).map_err(failure)?);
            }
        }
        print(render(&messages));
        Ok(())
    }
}

/// Finds messages in any of the accepted forms.
fn parse(input: &str) -> Result<Vec<Raw>, InspectError> {
    let Ok(json) = serde_json::from_str::<Value>(input) else {
        return bare(input.trim());
    };
    let list = ["Messages", "Records"].iter().find_map(|key| json.get(key)?.as_array().cloned());
    let list = list.or_else(|| json.as_array().cloned()).unwrap_or_else(|| vec![json]);
    let messages = list.iter().map(message).collect::<Option<Vec<_>>>();
    messages.filter(|it| !it.is_empty()).ok_or(InspectError::NoMessage)
}

fn message(json: &Value) -> Option<Raw> {
    let either = |upper: &str, lower: &str| json.get(upper).or_else(|| json.get(lower));
    let body = either("Body", "body")?.as_str()?.to_owned().into();
    let attributes = either("MessageAttributes", "messageAttributes").and_then(Value::as_object);
    let text = |it: &Value| {
        it.get("StringValue").or_else(|| it.get("stringValue"))?.as_str().map(ToOwned::to_owned)
    };
    let named = attributes.into_iter().flatten();
    Some((body, named.filter_map(|(name, it)| Some((name.clone(), text(it)?))).collect()))
}

/// A body without its attributes tells by itself what it is.
fn bare(body: &str) -> Result<Vec<Raw>, InspectError> {
    for encoding in [OTLP, RAW] {
        if unpack(body, Some(encoding), None).is_ok() {
            let attributes = BTreeMap::from([("encoding".to_owned(), encoding.to_owned())]);
            return Ok(vec![(body.to_owned().into(), attributes)]);
        }
    }
    Err(InspectError::NoMessage)
}

/// All messages as text. One that can't be read is shown as that, and hides no other.
fn render(messages: &[Raw]) -> String {
    let mut text = String::new();
    for (index, (body, attributes)) in messages.iter().enumerate() {
        let number = index + 1;
        if let Err(error) = one_message(&mut text, messages, number, body, attributes) {
            let _ = writeln!(text, "{}", printable(&error.to_string()));
            about(&mut text, attributes);
        }
    }
    text
}

fn one_message(
    text: &mut String,
    messages: &[Raw],
    number: usize,
    body: &Bytes,
    attributes: &BTreeMap<String, String>,
) -> Result<(), InspectError> {
    let undecodable = |error| InspectError::Undecodable { number, error };
    let get = |name: &str| attributes.get(name).map(String::as_str);
    let part = get("part").unwrap_or("1/1");
    if part != "1/1" {
        // Several parts are shown once, where the first of those that are there stands.
        let delivery = attributes.get("delivery");
        let earlier = messages[..number - 1].iter().any(|(_, it)| it.get("delivery") == delivery);
        if !earlier {
            let payload = whole(messages, attributes, number)?;
            quarantined(text, number, attributes, &payload);
        }
        return Ok(());
    }
    match message::read(body, attributes).map_err(undecodable)? {
        Content::Quarantined(payload) => quarantined(text, number, attributes, &payload),
        Content::Otlp(Signal::Metrics, raw) => {
            let request = ExportMetricsServiceRequest::decode(&*raw)
                .map_err(|_| undecodable(Undecodable::Protobuf))?;
            let _ = writeln!(text, "message {number}: metrics");
            about(text, attributes);
            for measure in measures(request) {
                let _ = writeln!(text, "  {}", printable(&measure.to_string()));
            }
        }
        Content::Otlp(Signal::Logs, raw) => {
            let request = ExportLogsServiceRequest::decode(&*raw)
                .map_err(|_| undecodable(Undecodable::Protobuf))?;
            let _ = writeln!(text, "message {number}: log records");
            about(text, attributes);
            let groups = request.resource_logs.into_iter().flat_map(|it| it.scope_logs);
            for record in groups.flat_map(|it| it.log_records) {
                let body = record.body.map(value_text).unwrap_or_default();
                let line = format!("{} {body}", record.event_name);
                let _ = writeln!(text, "  {}", printable(&line));
            }
        }
        Content::Otlp(Signal::Traces, raw) => {
            let request = ExportTraceServiceRequest::decode(&*raw)
                .map_err(|_| undecodable(Undecodable::Protobuf))?;
            let _ = writeln!(text, "message {number}: spans");
            about(text, attributes);
            spans(text, request);
        }
    }
    Ok(())
}

fn whole(
    messages: &[Raw],
    attributes: &BTreeMap<String, String>,
    number: usize,
) -> Result<Vec<u8>, InspectError> {
    let delivery = attributes.get("delivery");
    let mut parts: Vec<_> = messages
        .iter()
        .filter(|(_, it)| it.get("delivery") == delivery)
        .filter_map(|(body, it)| {
            let nth: usize = it.get("part")?.split('/').next()?.parse().ok()?;
            Some((nth, unpack_part(body).ok()?))
        })
        .collect();
    parts.sort_by_key(|(nth, _)| *nth);
    parts.dedup_by_key(|(nth, _)| *nth);
    let part = attributes.get("part").cloned().unwrap_or_default();
    let total = part.split('/').nth(1).and_then(|it| it.parse().ok());
    if total != Some(parts.len()) {
        return Err(InspectError::Incomplete { number, part });
    }
    let parts: Vec<_> = parts.into_iter().map(|(_, part)| part).collect();
    join_parts(&parts).map_err(|error| InspectError::Undecodable { number, error })
}

fn about(text: &mut String, attributes: &BTreeMap<String, String>) {
    for (name, value) in attributes {
        let _ = writeln!(text, "  {}: {}", printable(name), printable(value));
    }
}

fn quarantined(
    text: &mut String,
    number: usize,
    attributes: &BTreeMap<String, String>,
    payload: &[u8],
) {
    let reason = attributes.get("reason").map_or("unknown", String::as_str);
    let _ = writeln!(text, "message {number}: quarantined delivery, because {}", printable(reason));
    about(text, attributes);
    let json = serde_json::from_slice::<Value>(payload);
    let pretty = json.ok().and_then(|it| serde_json::to_string_pretty(&it).ok());
    let payload = pretty.unwrap_or_else(|| String::from_utf8_lossy(payload).into_owned());
    for line in payload.lines() {
        let _ = writeln!(text, "  | {}", printable(line));
    }
}

fn spans(text: &mut String, request: ExportTraceServiceRequest) {
    for group in request.resource_spans {
        let _ = writeln!(text, "  resource");
        for (key, value) in named(group.resource.map(|it| it.attributes).unwrap_or_default()) {
            let _ = writeln!(text, "    {} = {}", printable(&key), printable(&value));
        }
        for span in group.scope_spans.into_iter().flat_map(|it| it.spans) {
            one(text, span);
        }
    }
}

fn one(text: &mut String, span: Span) {
    let status = if span.status.as_ref().is_some_and(|it| it.code == 2) { "  ERROR" } else { "" };
    let took = duration(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano));
    let name = printable(&span.name);
    let _ = writeln!(text, "  span {name:?}  {took}{status}");
    let (trace, id) = (hex(&span.trace_id), hex(&span.span_id));
    let _ = writeln!(text, "    trace {trace} span {id} parent {}", hex(&span.parent_span_id));
    let times = (span.start_time_unix_nano, span.end_time_unix_nano);
    let _ = writeln!(text, "    from {} to {} (ns since 1970)", times.0, times.1);
    for (key, value) in named(span.attributes) {
        let _ = writeln!(text, "    {} = {}", printable(&key), printable(&value));
    }
    for event in span.events {
        let pairs: Vec<_> =
            named(event.attributes).iter().map(|(k, v)| format!("{k}={v}")).collect();
        let line = format!("event {}: {}", event.name, pairs.join(" "));
        let _ = writeln!(text, "    {}", printable(&line));
    }
    for link in span.links {
        let _ = writeln!(text, "    link {} {}", hex(&link.trace_id), hex(&link.span_id));
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use spanhook_core::{
        delivery::{Delivery, Unmappable},
        message::{Message, pack},
        provider::Provider,
    };

    use super::*;

    #[test]
    fn a_quarantined_delivery_is_shown_with_its_reason_from_every_form_of_input() {
        let body = br#"{"object_kind":"pipeline","note":"\u001b[31mred"}"#;
        let delivery = Delivery { headers: &HeaderMap::new(), body };
        let mut messages = Message::quarantine(Provider::Gitlab, &delivery, Unmappable::NoRun);
        let message = messages.remove(0);
        let body = String::from_utf8(message.body.to_vec()).unwrap();
        let values = |key: &str| -> Value {
            let pairs = message.attributes.iter();
            pairs.map(|(name, it)| (name.clone(), serde_json::json!({ key: it }))).collect()
        };
        let aws = serde_json::json!({ "Messages": [{ "Body": body, "MessageAttributes": values("StringValue") }] });
        let event = serde_json::json!({ "Records": [{ "body": body, "messageAttributes": values("stringValue") }] });
        for input in [aws.to_string(), event.to_string(), body] {
            let text = render(&parse(&input).unwrap());
            assert!(text.contains("\"object_kind\": \"pipeline\""), "{text}");
            assert!(!text.contains('\x1b'), "{text}");
        }
        let text = render(&parse(&aws.to_string()).unwrap());
        assert!(text.contains("because the event names no run"), "{text}");
    }

    #[test]
    fn no_name_key_or_attribute_steers_the_terminal() {
        use opentelemetry_proto::tonic::{
            common::v1::KeyValue,
            resource::v1::Resource,
            trace::v1::{ResourceSpans, ScopeSpans, span},
        };
        const EVIL: &str = "a\x1b]0;x\u{9b}2J\u{202e}\u{200b}";
        let attributes = || vec![KeyValue { key: EVIL.to_owned(), ..KeyValue::default() }];
        let event =
            span::Event { name: EVIL.to_owned(), attributes: attributes(), ..Default::default() };
        let span = Span {
            name: EVIL.to_owned(),
            attributes: attributes(),
            events: vec![event],
            ..Span::default()
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes: attributes(), ..Resource::default() }),
                scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            }],
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let good = BTreeMap::from([pair("encoding", OTLP), pair(EVIL, EVIL)]);
        let part = format!("1/2{EVIL}");
        let bad =
            BTreeMap::from([pair("part", &part), pair("delivery", EVIL), pair("reason", EVIL)]);
        let text = render(&[
            (pack(&prost::Message::encode_to_vec(&request)).into(), good),
            ("x".into(), bad),
        ]);
        assert!(text.contains("a·]0;x·2J·· = "), "{text}");
        let steers = |it: char| it != '\n' && printable(&it.to_string()) == "·";
        assert!(!text.contains(|it| steers(it) && it != '·'), "{text:?}");
    }

    #[test]
    fn a_message_that_can_not_be_read_hides_no_other() {
        let raw = |body: &str| {
            let encoding = ("encoding".to_owned(), RAW.to_owned());
            (body.to_owned().into(), BTreeMap::from([encoding]))
        };
        let text = render(&[raw("***"), raw(&pack(b"readable"))]);
        assert!(text.contains("message 1 can't be read: the body is not base64"), "{text}");
        assert!(text.contains("| readable"), "{text}");
    }

    #[test]
    fn what_is_no_message_is_told_so() {
        for input in ["", "hello", "{}", "[]", "{\"Messages\":[]}", &pack(&[1, 2, 3])[..4]] {
            assert!(matches!(parse(input), Err(InspectError::NoMessage)), "{input}");
        }
    }
}
