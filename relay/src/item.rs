//! What is sent of one object.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::kind::Kind;

/// How it came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Change {
    /// It was there when the relay looked.
    Added,
    /// The API server told of it.
    Modified,
    /// It is gone; this was its last state.
    Deleted,
}

/// One of a batch, as it is written in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Its JSON.
    pub json: String,
}

#[derive(Serialize)]
struct Wire<'i, O> {
    #[serde(rename = "type")]
    change: Change,
    observed_at: String,
    object: &'i O,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'i RawValue>,
}

impl Item {
    /// An object that was pruned, and beside an Event its Pod.
    #[must_use]
    pub fn new(
        kind: Kind,
        change: Change,
        at: Timestamp,
        object: &impl Serialize,
        pod: Option<&RawValue>,
    ) -> Self {
        let wire = Wire { change, observed_at: format!("{at:.3}"), object, pod };
        // Keys are texts and values are JSON: there is nothing that can't be written.
        Self { kind, json: serde_json::to_string(&wire).unwrap_or_default() }
    }
}
