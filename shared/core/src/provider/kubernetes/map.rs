//! A batch to spans.

use serde_json::Value;

use super::{
    object::{self, Found, Kind, Nothing, Observed, at},
    payload::{Batch, Head, Item, MAX_ITEMS},
};
use crate::{
    delivery::{Delivery, Mapped, Unmappable},
    host::Host,
    lenient::List,
    mapping::read,
    settings::Settings,
};

/// Maps a verified batch, object by object: a bad one costs no other.
pub(super) fn map<'a>(
    delivery: &Delivery<'a>,
    settings: &Settings,
) -> Result<Mapped<'a>, Unmappable> {
    let batch: Batch<'a> = read(delivery.body)?;
    let List { items, dropped } = batch.items.ok_or(Unmappable::UnknownShape)?;
    if dropped > 0 {
        return Err(Unmappable::TooMany(MAX_ITEMS, "objects"));
    }
    let named = Host::parse(batch.cluster.as_str());
    let cluster = named.as_ref().unwrap_or(&settings.kubernetes.cluster);
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for item in &items {
        match object::read(item.get())
            .map_or(Err(Nothing::Unreadable), |it| spans(it, cluster, settings))
        {
            Ok(it) => found.push(it),
            Err(Nothing::Unreadable) => unread.push(item.get()),
            Err(Nothing::NotFinal | Nothing::NoSpan) => {}
        }
    }
    if unread.is_empty() && found.is_empty() {
        return Ok(Mapped::Ignored("no object of the batch is final, or gives a span"));
    }
    if unread.len() == items.len() {
        return Err(Unmappable::UnknownShape);
    }
    let telemetry = object::collect(found.into_iter());
    if unread.is_empty() {
        return Ok(Mapped::Telemetry(telemetry));
    }
    let name = Value::from(batch.cluster.as_str());
    let rest = format!(r#"{{"cluster":{name},"items":[{}]}}"#, unread.join(",")).into_bytes();
    Ok(Mapped::Partly { telemetry, rest, unread: unread.len() })
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
