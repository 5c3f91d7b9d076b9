//! What may leave the cluster. Everything has to be named here: a field that is not, a new one of a
//! later Tekton for example, stays. Scripts, arguments, environments, parameters, results and
//! volumes are not named.

mod allowed;
mod text;

use serde_json::{Map, Value};

pub use allowed::{is_sent_reason, of_pod};
pub use text::MAX_TEXT;

use crate::kind::Kind;
use text::{as_it_is, message};

/// What is kept of a value.
#[derive(Debug)]
enum Keep {
    /// A text without passwords in its addresses, a number, a boolean.
    Scalar,
    /// A text for people, which quotes what went wrong: addresses lose their queries too.
    Message,
    /// These fields of an object.
    Fields(&'static [(&'static str, Self)]),
    /// Every element of a list.
    Each(&'static Self),
    /// Every scalar of an object, where its key is one of these.
    Entries(fn(&str) -> bool),
    /// What is defined elsewhere.
    As(&'static Self),
}

/// What leaves of an object, which gets the kind that it was asked for as: the objects of a list do
/// not say theirs.
#[must_use]
pub fn prune(kind: Kind, api_version: &str, object: &Value) -> Value {
    let mut pruned = kept(allowed::of(kind), object).unwrap_or_default();
    if let Value::Object(fields) = &mut pruned {
        fields.insert("apiVersion".to_owned(), api_version.into());
        fields.insert("kind".to_owned(), kind.as_str().into());
    }
    pruned
}

/// None where nothing is kept.
fn kept(keep: &Keep, value: &Value) -> Option<Value> {
    match (keep, value) {
        (Keep::As(keep), value) => kept(keep, value),
        (Keep::Scalar, Value::String(text)) => Some(as_it_is(text).into()),
        (Keep::Message, Value::String(text)) => Some(message(text).into()),
        (Keep::Scalar, Value::Number(_) | Value::Bool(_)) => Some(value.clone()),
        (Keep::Fields(fields), Value::Object(object)) => {
            let each = fields.iter().filter_map(|(name, keep)| {
                Some(((*name).to_owned(), kept(keep, object.get(*name)?)?))
            });
            Some(Value::Object(each.collect()))
        }
        (Keep::Entries(is_kept), Value::Object(object)) => {
            let each = object.iter().filter(|(key, _)| is_kept(key));
            let each =
                each.filter_map(|(key, value)| Some((key.clone(), kept(&Keep::Scalar, value)?)));
            Some(Value::Object(each.collect::<Map<_, _>>()))
        }
        // What is nothing stays nothing, so that places in the list keep their meaning.
        (Keep::Each(keep), Value::Array(list)) => {
            Some(list.iter().map(|it| kept(keep, it).unwrap_or_default()).collect())
        }
        _ => None,
    }
}

/// What leaves of a CloudEvent of Tekton, whose data is the whole object under its kind:
/// `{"taskRun": {…}}`, in structured mode below `data`. None where it is none.
///
/// <https://tekton.dev/docs/pipelines/events/>
#[must_use]
pub fn cloud_event(body: &Value) -> Option<Value> {
    if let Some(data) = body.get("data") {
        let mut event = kept(&allowed::CLOUD_EVENT, body)?;
        event.as_object_mut()?.insert("data".to_owned(), cloud_event(data)?);
        return Some(event);
    }
    let runs = [
        ("pipelineRun", Kind::PipelineRun),
        ("taskRun", Kind::TaskRun),
        ("customRun", Kind::CustomRun),
    ];
    let (name, kind) = runs.into_iter().find(|(name, _)| body[*name].is_object())?;
    let run = &body[name];
    let stated = run.get("apiVersion").and_then(Value::as_str);
    // The controller fills it in; where it does not, its events are of this version.
    let known = stated.filter(|it| it.starts_with("tekton.dev/")).unwrap_or("tekton.dev/v1beta1");
    let pruned = prune(kind, known, run);
    Some(Value::Object([(name.to_owned(), pruned)].into_iter().collect()))
}
