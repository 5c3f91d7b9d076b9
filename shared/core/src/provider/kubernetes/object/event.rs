//! A Kubernetes event of a Pod: the pull of an image. What else events tell, the Pod tells better.
//!
//! <https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/images/image_manager.go>

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    Found, Metadata, Nothing, Of, at,
    origin::{Origin, first},
    pod::{fail, image_name},
};
use crate::{
    lenient::{Object, Text},
    otlp::span::{Kind as SpanKind, Span},
    semconv as sc,
    time::{self, Nanos, seconds},
};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Event<'a> {
    reason: Text<'a>,
    message: Text<'a>,
    #[serde(rename = "eventTime")]
    time: Text<'a>,
    first_timestamp: Text<'a>,
    last_timestamp: Text<'a>,
    involved_object: Object<Involved<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Involved<'a> {
    uid: Text<'a>,
    field_path: Text<'a>,
}

pub(super) fn spans<'a>(
    event: Event<'a>,
    meta: &Metadata<'a>,
    origin: &Origin<'a, '_>,
) -> Result<Found<'a>, Nothing> {
    let involved = event.involved_object.0.unwrap_or_default();
    if involved.uid.as_str() != origin.uid() {
        return Err(Nothing::Unreadable);
    }
    // An event that is repeated keeps its first time, so its span stays what it was.
    let times = [&event.time, &event.first_timestamp, &event.last_timestamp];
    let end = times.into_iter().chain([&meta.creation_timestamp]).find_map(at);
    let container = container(involved.field_path.as_str());
    let message = event.message.as_str();
    let (ids, uid) = (origin.ids(), origin.uid());
    let pull = match event.reason.as_str() {
        "Pulled" => Pull::parse(message).ok_or(Nothing::NoSpan)?,
        "Failed" => Pull::failed(message).ok_or(Nothing::NoSpan)?,
        _ => return Err(Nothing::NoSpan),
    };
    let end = end.ok_or(Nothing::Unreadable)?;
    let id = match pull.error {
        None => ids.pull(uid, container),
        Some(_) => ids.failed_pull(uid, container, meta.uid.as_str()),
    };
    let name = if container.is_empty() { "pull".into() } else { format!("pull {container}") };
    let start = end.saturating_sub(pull.whole);
    let mut span = Span::new(id, Some(ids.object(uid)), name, SpanKind::Internal, (start, end));
    span.attributes.set(sc::KIND, "pull");
    let labels = &origin.labels;
    span.attributes.set(sc::JOB, first(&[&labels.pipeline_task, &labels.task]));
    span.attributes.set(sc::K8S_POD_NAME, origin.meta.name.cow());
    span.attributes.set(sc::K8S_POD_UID, origin.meta.uid.cow());
    span.attributes.set(sc::K8S_CONTAINER_NAME, container.to_owned());
    span.attributes
        .set(sc::CONTAINER_IMAGE_NAME, image_name(Cow::Borrowed(pull.image)).into_owned());
    span.attributes.set("k8s.image.size", pull.size);
    span.attributes.set("k8s.image.pull.duration", pull.pure.map(|it| time::length((0, it))));
    if let Some(error) = pull.error {
        fail(&mut span, error.into());
    }
    Ok(Found::new(origin, Of::Kubernetes, vec![span]))
}

/// The container of `spec.containers{NAME}` and `spec.initContainers{NAME}`.
fn container(path: &str) -> &str {
    let name = path.split_once('{').and_then(|(_, rest)| rest.strip_suffix('}'));
    name.unwrap_or_default()
}

/// What the message of a pull tells.
#[derive(Debug, PartialEq)]
struct Pull<'m> {
    image: &'m str,
    /// With the time that it waited for other pulls.
    whole: Nanos,
    /// Without that time, where both are told.
    pure: Option<Nanos>,
    /// In bytes.
    size: Option<u64>,
    error: Option<&'static str>,
}

impl<'m> Pull<'m> {
    /// `Successfully pulled image "golang:1.26" in 12.8s (13.9s including waiting). Image size: 306857691 bytes.`,
    /// of which versions before 1.30 lack the size and those before 1.28 the time with waiting. An
    /// image that was there already was not pulled.
    fn parse(message: &'m str) -> Option<Self> {
        let (image, rest) = quoted(message.strip_prefix("Successfully pulled image ")?)?;
        let rest = rest.strip_prefix(" in ")?;
        let (times, size) = match rest.split_once(". Image size: ") {
            Some((times, size)) => (times, size.strip_suffix(" bytes.")?.parse().ok()),
            None => (rest, None),
        };
        let (pure, whole) = match times.split_once(" (") {
            Some((pure, whole)) => (pure, whole.strip_suffix(" including waiting)")?),
            None => (times, times),
        };
        let (pure, whole) = (duration(pure)?, duration(whole)?);
        Some(Self { image, whole, pure: Some(pure), size, error: None })
    }

    /// `Failed to pull image "golang:9.99": …`; the events that say only `Error: ErrImagePull` are of
    /// the same failure.
    fn failed(message: &'m str) -> Option<Self> {
        let (image, _) = quoted(message.strip_prefix("Failed to pull image ")?)?;
        Some(Self { image, whole: 0, pure: None, size: None, error: Some("ErrImagePull") })
    }
}

/// A text in quotes and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('"')?.split_once('"')
}

/// A duration as Go writes it: `1m3.2s`, `796ms`.
///
/// <https://pkg.go.dev/time#Duration.String>
fn duration(text: &str) -> Option<Nanos> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "µs" | "us" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    (!text.is_empty()).then(|| seconds(sum))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_messages_of_every_version_are_read() {
        let pull = |image, whole: f64, pure: f64, size| {
            Some(Pull {
                image,
                whole: seconds(whole),
                pure: Some(seconds(pure)),
                size,
                error: None,
            })
        };
        for (message, expected) in [
            (
                r#"Successfully pulled image "a" in 1.661234s"#,
                pull("a", 1.661_234, 1.661_234, None),
            ),
            (r#"Successfully pulled image "a:1" in 1m3.5s"#, pull("a:1", 63.5, 63.5, None)),
            (
                r#"Successfully pulled image "a" in 796ms (1.5s including waiting)"#,
                pull("a", 1.5, 0.796, None),
            ),
            (
                r#"Successfully pulled image "a" in 7.25s (9.5s including waiting). Image size: 68857691 bytes."#,
                pull("a", 9.5, 7.25, Some(68_857_691)),
            ),
            (r#"Container image "a" already present on machine"#, None),
            (r#"Successfully pulled image "a""#, None),
            (r#"Successfully pulled image "a" in soon"#, None),
            ("", None),
        ] {
            assert_eq!(Pull::parse(message), expected, "{message}");
        }
        assert_eq!(Pull::failed(r#"Failed to pull image "a": gone"#).unwrap().image, "a");
        assert_eq!(Pull::failed("Error: ErrImagePull"), None);
    }

    proptest! {
        #[test]
        fn any_message_is_read_or_refused(text: String, digits in "[0-9.hmsuµn]{0,12}") {
            let _ = (Pull::parse(&text), Pull::failed(&text), duration(&digits), container(&text));
            let _ = Pull::parse(&format!("Successfully pulled image \"a\" in {digits}"));
        }
    }
}
