//! The relay's batch.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::object::Metadata;
use crate::lenient::{List, Object, Text};

/// The most objects of a batch that are mapped; the relay sends a hundred.
pub(super) const MAX_ITEMS: usize = 1000;

/// Objects as a watch of the Kubernetes API tells them.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Batch<'a> {
    /// The cluster's name.
    pub(super) cluster: Text<'a>,
    pub(super) items: Option<List<&'a RawValue, MAX_ITEMS>>,
}

/// An object, and what happened to it.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Item<'a> {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub(super) r#type: Text<'a>,
    pub(super) observed_at: Text<'a>,
    pub(super) object: Option<&'a RawValue>,
    /// Beside an event: the Pod that it is of.
    pub(super) pod: Object<Pod<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Pod<'a> {
    pub(super) metadata: Object<Metadata<'a>>,
}

/// Of an object first its kind is read.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Head<'a> {
    pub(super) kind: Text<'a>,
}
