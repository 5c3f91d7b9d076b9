//! A batch to spans.

use super::{
    object::{self, Found, Kind, Nothing, Observed, at},
    payload::{Batch, Head, Item},
};
use crate::{
    delivery::{Delivery, Mapped, Unmappable},
    host::Host,
    mapping::read,
    settings::Settings,
};

/// Maps a verified batch, object by object: a bad one costs no other.
pub(super) fn map<'a>(
    delivery: &Delivery<'a>,
    settings: &Settings,
) -> Result<Mapped<'a>, Unmappable> {
    let batch: Batch<'a> = read(delivery.body)?;
    let items = batch.items.ok_or(Unmappable::UnknownShape)?.items;
    let named = Host::parse(batch.cluster.as_str());
    let cluster = named.as_ref().unwrap_or(&settings.kubernetes.cluster);
    let (mut found, mut legible) = (Vec::new(), items.is_empty());
    for item in items {
        match item.0.map_or(Err(Nothing::Unreadable), |it| spans(it, cluster, settings)) {
            Ok(it) => found.push(it),
            Err(Nothing::Unreadable) => {}
            Err(Nothing::NotFinal | Nothing::NoSpan) => legible = true,
        }
    }
    match (found.is_empty(), legible) {
        (false, _) => Ok(Mapped::Telemetry(object::collect(found.into_iter()))),
        (true, true) => Ok(Mapped::Ignored("no object of the batch is final, or gives a span")),
        (true, false) => Err(Unmappable::UnknownShape),
    }
}

fn spans<'a>(item: Item<'a>, cluster: &Host, settings: &Settings) -> Result<Found<'a>, Nothing> {
    let json = item.object.ok_or(Nothing::Unreadable)?.get();
    let head: Head<'a> = object::read(json).ok_or(Nothing::Unreadable)?;
    let kind = match head.kind.as_str() {
        "" => return Err(Nothing::Unreadable),
        name => Kind::named(name).ok_or(Nothing::NoSpan)?,
    };
    let deleted = (item.r#type.as_str() == "DELETED").then(|| at(&item.observed_at)).flatten();
    let pod = item.pod.0.and_then(|it| it.metadata.0);
    object::spans(Observed { kind, json, deleted, pod }, cluster, settings)
}
