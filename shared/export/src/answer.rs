//! Whether an answer is one of an OTLP receiver at all.
//!
//! What is deleted after an answer is gone: a 2xx of something else, a login page or a proxy's
//! splash, must not pass for an acknowledgement. The specification wants the answer in the encoding
//! of the request. Receivers in use also send no body (Grafana Cloud, Loki, Prometheus), JSON for
//! protobuf (Langfuse, Lightstep), protobuf labelled as something else (`OpenObserve`), or the JSON
//! string `"OK"` (Splunk).
//!
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use serde_json::{Map, Value};
use tonic_types::pb::Status;

use super::{Partial, clip};

/// How an answer's body is labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Protobuf,
    Json,
    Html,
    /// None at all, or another: only the body tells.
    Other,
}

impl Label {
    pub(super) fn of(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/x-protobuf" | "application/protobuf" => Self::Protobuf,
            "application/json" => Self::Json,
            "text/html" | "application/xhtml+xml" => Self::Html,
            _ => Self::Other,
        }
    }
}

/// A body that says "delivered".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acknowledgement {
    /// What was refused of what was taken.
    pub(super) partial: Option<Partial>,
}

/// The acknowledgement in a 2xx's body; none when this is no OTLP receiver's. The answers of all
/// signals have the same fields under the same numbers.
pub(super) fn acknowledgement(label: Label, body: &[u8]) -> Option<Acknowledgement> {
    if body.is_empty() {
        return Some(Acknowledgement { partial: None });
    }
    let (rejected, message) = match (label, serde_json::from_slice(body)) {
        (Label::Html, _) => return None,
        (_, Ok(Value::Object(answer))) => json_partial(&answer)?,
        (Label::Json, Ok(Value::String(text))) if text.eq_ignore_ascii_case("ok") => {
            (0, String::new())
        }
        _ => {
            let answer: ExportTraceServiceResponse = decode(label, body)?;
            let partial = answer.partial_success.unwrap_or_default();
            (u64::try_from(partial.rejected_spans).unwrap_or(0), partial.error_message)
        }
    };
    let message = clip(&message);
    let partial = (rejected > 0 || !message.is_empty()).then_some(Partial { rejected, message });
    Some(Acknowledgement { partial })
}

/// The words of a refusal that is a `google.rpc.Status`, in protobuf or JSON; none when this is no
/// OTLP receiver's refusal.
pub(super) fn refusal(label: Label, body: &[u8]) -> Option<String> {
    if body.is_empty() || label == Label::Html {
        return None;
    }
    if let Ok(Value::Object(status)) = serde_json::from_slice(body) {
        let known = status.keys().all(|it| ["code", "message", "details"].contains(&it.as_str()));
        let message = status.get("message").and_then(Value::as_str);
        return message.filter(|_| known).map(ToOwned::to_owned);
    }
    decode::<Status>(label, body).map(|status| status.message)
}

/// Text decodes as protobuf by chance, with fields that nobody knows: those are for answers that
/// are labelled as protobuf only, where a later version of OTLP may have added them.
fn decode<M: Message + Default>(label: Label, body: &[u8]) -> Option<M> {
    let message = M::decode(body).ok()?;
    (label == Label::Protobuf || message.encoded_len() == body.len()).then_some(message)
}

/// `{}`, or `partialSuccess` alone. JSON writes 64-bit numbers as text.
fn json_partial(answer: &Map<String, Value>) -> Option<(u64, String)> {
    let field = |object: &Map<String, Value>, names: &[&str]| {
        names.iter().find_map(|name| object.get(*name).cloned())
    };
    let names = ["partialSuccess", "partial_success"];
    if !answer.keys().all(|it| names.contains(&it.as_str())) {
        return None;
    }
    let partial = match field(answer, &names) {
        None | Some(Value::Null) => return Some((0, String::new())),
        Some(Value::Object(partial)) => partial,
        Some(_) => return None,
    };
    let rejected = ["rejectedSpans", "rejectedDataPoints", "rejectedLogRecords", "rejected_spans"];
    let rejected = match field(&partial, &rejected) {
        Some(Value::String(text)) => text.parse().unwrap_or(0),
        Some(number) => number.as_u64().unwrap_or(0),
        None => 0,
    };
    let message = field(&partial, &["errorMessage", "error_message"]);
    Some((rejected, message.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content type, body, and how many were refused with which words.
    type Case<'c> = (&'c str, &'c [u8], Option<(u64, &'c str)>);

    const PAGE: &[u8] = b"<!doctype html><title>Sign in</title>";

    #[test]
    fn a_2xx_is_an_acknowledgement_when_it_is_empty_or_in_the_form_of_otlp() {
        let protobuf = |rejected_spans, message: &str| {
            let partial =
                opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess {
                    rejected_spans,
                    error_message: message.to_owned(),
                };
            ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec()
        };
        // A field 9 that this version does not know.
        let later = [protobuf(2, ""), vec![0x48, 1]].concat();
        let (none, two) = (Some((0, "")), Some((2, "too old")));
        let cases: &[Case<'_>] = &[
            ("application/x-protobuf", b"", none),
            ("text/plain", b"", none),
            ("text/html", b"", none),
            ("application/x-protobuf", &protobuf(0, ""), none),
            ("application/x-protobuf", &protobuf(2, "too old"), two),
            ("application/x-protobuf; charset=utf-8", &later, Some((2, ""))),
            ("", &protobuf(2, "too old"), two),
            ("application/octet-stream", &protobuf(2, "too old"), two),
            ("application/json", &protobuf(2, "too old"), two),
            ("application/json", b"{}", none),
            ("Application/JSON; charset=utf-8", br#"{"partialSuccess":{}}"#, none),
            ("application/json", br#"{"partialSuccess":null}"#, none),
            (
                "application/json",
                br#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}"#,
                two,
            ),
            ("application/json", br#"{"partial_success":{"rejected_spans":2}}"#, Some((2, ""))),
            ("application/json", br#"{"partialSuccess":{"rejectedLogRecords":2}}"#, Some((2, ""))),
            ("text/plain", b"{}", none),
            ("application/json", br#""OK""#, none),
        ];
        for (content_type, body, expected) in cases {
            let found = acknowledgement(Label::of(content_type), body);
            let found = found
                .map(|it| it.partial.map_or((0, String::new()), |it| (it.rejected, it.message)));
            let expected = expected.map(|(rejected, message)| (rejected, message.to_owned()));
            assert_eq!(found, expected, "{content_type} {body:?}");
        }
    }

    #[test]
    fn any_other_2xx_is_none() {
        let later_unlabelled = [0x0a, 0x00, 0x48, 1];
        let cases: &[(&str, &[u8])] = &[
            ("text/html; charset=utf-8", PAGE),
            ("TEXT/HTML", b"{}"),
            ("", PAGE),
            ("application/x-protobuf", PAGE),
            ("application/json", PAGE),
            ("text/plain", b"OK"),
            ("text/plain", b"It works!"),
            ("text/plain", b"\n"),
            ("text/plain", b"(0"), // field 5, which nobody knows
            ("", &later_unlabelled),
            ("application/json", br#"{"error":"sign in first"}"#),
            ("application/json", br#"{"partialSuccess":"no"}"#),
            ("application/json", br#""sign in first""#),
            ("application/json", b"[]"),
        ];
        for (content_type, body) in cases {
            assert_eq!(
                acknowledgement(Label::of(content_type), body),
                None,
                "{content_type} {body:?}"
            );
        }
    }

    #[test]
    fn a_refusal_is_a_status_in_protobuf_or_json() {
        let status =
            Status { code: 3, message: "bad span".to_owned(), details: Vec::new() }.encode_to_vec();
        let said = Some("bad span");
        let cases: &[(&str, &[u8], Option<&str>)] = &[
            ("application/x-protobuf", &status, said),
            ("", &status, said),
            ("application/json", br#"{"code":3,"message":"bad span","details":[]}"#, said),
            ("application/json", br#"{"errors":["bad span"]}"#, None),
            ("text/plain", b"bad span", None),
            ("application/x-protobuf", b"", None),
            ("text/html", PAGE, None),
            ("text/html", &status, None),
        ];
        for (content_type, body, expected) in cases {
            let found = refusal(Label::of(content_type), body);
            assert_eq!(found.as_deref(), *expected, "{content_type} {body:?}");
        }
    }
}
