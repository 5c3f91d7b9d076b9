//! A request taken apart: which spans, points and records may be written, and where they stood.

use std::borrow::Cow;

use super::{
    Reason, Refused, Rejects, Writer,
    producer::Producer,
    schema::{self, DATA, Type},
    wire::{self, Fields, Malformed, Raw},
};
use crate::{
    id::{SpanId, TraceId},
    job::{Job, Place},
    otlp::{
        Signal,
        encode::{attributes, bytes_field, message_field},
        span::Attributes,
    },
    semconv as sc,
    settings::Settings,
    time::Nanos,
};

/// The most spans, points and records of one request.
pub const MAX_ITEMS: usize = 100_000;

/// The largest resource or scope, in bytes. It is repeated in every message.
const MAX_ENVELOPE: usize = 64 * 1024;

/// The largest span, metric or record, in bytes: with its resource and scope it fits a message before
/// that is compressed.
const MAX_ITEM: usize = 2 * 1024 * 1024 - 4 * MAX_ENVELOPE;

/// A metric larger than this is taken apart by its points.
const MAX_METRIC: usize = 64 * 1024;

/// What may be written of a request.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    /// What a group by resource holds besides its scopes.
    resources: Vec<Vec<u8>>,
    /// The resource of each scope, and what a group by scope holds besides its items.
    scopes: Vec<(usize, Vec<u8>)>,
    pub(super) items: Vec<Item<'a>>,
}

/// A span, a metric or a log record.
#[derive(Debug)]
pub(super) struct Item<'a> {
    scope: usize,
    bytes: Cow<'a, [u8]>,
    /// Of a span.
    pub(super) trace: Option<TraceId>,
    /// How many spans, points or records it is.
    pub(super) count: usize,
    /// When the last of it was, in nanoseconds since the Unix epoch; 0 where nothing says it.
    pub(super) end: Nanos,
}

impl<'a> Batch<'a> {
    /// Reads a request, with what was left out of it.
    pub(super) fn read(
        request: &'a [u8],
        signal: Signal,
        writer: Writer<'_>,
        settings: &Settings,
    ) -> Result<(Self, Rejects), Refused> {
        let (own, stamp) = match writer {
            Writer::Job(job) => (Some(job.place(settings)), Some(proved(job))),
            Writer::Free(_) | Writer::Trusted => (None, None),
        };
        let reader = Reader {
            signal,
            own,
            stamp,
            batch: Self { resources: Vec::new(), scopes: Vec::new(), items: Vec::new() },
            rejects: Rejects::default(),
            seen: 0,
        };
        reader.read(request)
    }

    /// The export request of these items, which are in the order of the batch.
    pub(super) fn request(&self, items: &[&Item<'_>]) -> Vec<u8> {
        let mut request = Vec::new();
        let resource = |item: &Item<'_>| self.scopes[item.scope].0;
        for of_resource in items.chunk_by(|a, b| resource(a) == resource(b)) {
            message_field(1, &mut request, |group| {
                group.extend_from_slice(&self.resources[resource(of_resource[0])]);
                for of_scope in of_resource.chunk_by(|a, b| a.scope == b.scope) {
                    message_field(2, group, |scope| {
                        scope.extend_from_slice(&self.scopes[of_scope[0].scope].1);
                        of_scope.iter().for_each(|item| bytes_field(2, &item.bytes, scope));
                    });
                }
            });
        }
        request
    }
}

/// What a job's token says of it, for the resources that it sends: nobody can send in another's name.
fn proved(job: &Job) -> Attributes<'static> {
    let project = job.project.clone().unwrap_or_default();
    let (owner, name) = project.rsplit_once('/').unwrap_or(("", &project));
    let mut proved = Attributes::with_capacity(5);
    proved.set(sc::PROVIDER, job.provider.as_str());
    proved.set(sc::CICD_PIPELINE_RUN_ID, job.run.to_string());
    proved.set(sc::CICD_PIPELINE_TASK_RUN_ID, job.job.as_ref().map(ToString::to_string));
    proved.set(sc::VCS_OWNER_NAME, owner.to_owned());
    proved.set(sc::VCS_REPOSITORY_NAME, name.to_owned());
    proved
}

/// The names of those, whether a token says them or not.
const PROVED: [&str; 5] = [
    sc::PROVIDER,
    sc::CICD_PIPELINE_RUN_ID,
    sc::CICD_PIPELINE_TASK_RUN_ID,
    sc::VCS_OWNER_NAME,
    sc::VCS_REPOSITORY_NAME,
];

struct Reader<'a> {
    signal: Signal,
    /// Where a job may write, and nowhere else.
    own: Option<Place>,
    stamp: Option<Attributes<'static>>,
    batch: Batch<'a>,
    rejects: Rejects,
    /// How many spans, points and records there were so far.
    seen: usize,
}

impl<'a> Reader<'a> {
    fn read(mut self, request: &'a [u8]) -> Result<(Batch<'a>, Rejects), Refused> {
        let signal = self.signal;
        let malformed = |_: Malformed| Refused::NotOtlp(signal);
        for group in nested(request, 1) {
            let group = group.map_err(malformed)?;
            let resource = rest(group, &schema::GROUP).map_err(malformed)?;
            let mut resource = Envelope { rest: resource, at: None };
            for scoped in nested(group, 2) {
                let scoped = scoped.map_err(malformed)?;
                let scope = rest(scoped, &schema::SCOPE_GROUP).map_err(malformed)?;
                let mut scope = Envelope { rest: scope, at: None };
                for item in nested(scoped, 2) {
                    let item = item.map_err(malformed)?;
                    self.item(item, &mut resource, &mut scope)?;
                }
            }
        }
        Ok((self.batch, self.rejects))
    }

    fn item(
        &mut self,
        bytes: &'a [u8],
        resource: &mut Envelope,
        scope: &mut Envelope,
    ) -> Result<(), Refused> {
        let count = if self.signal == Signal::Metrics { points(bytes) } else { 1 };
        self.seen += count.max(1);
        if self.seen > super::MAX_ITEMS {
            return Err(Refused::TooMany);
        }
        let trace = match self.examine(bytes, resource, scope) {
            Ok(trace) => trace,
            Err(reason) => {
                self.rejects.add(reason, count);
                return Ok(());
            }
        };
        let producer = self.producer(&resource.rest);
        let resource = *resource.at.get_or_insert_with(|| {
            let rest = match (&self.stamp, producer) {
                (Some(stamp), _) => stamped(&resource.rest, stamp),
                (None, Some(producer)) => stamped(&resource.rest, &producer.resource()),
                (None, None) => std::mem::take(&mut resource.rest),
            };
            self.batch.resources.push(rest);
            self.batch.resources.len() - 1
        });
        let scope = *scope.at.get_or_insert_with(|| {
            self.batch.scopes.push((resource, std::mem::take(&mut scope.rest)));
            self.batch.scopes.len() - 1
        });
        let mut keep = |bytes: Cow<'a, [u8]>, count, end| {
            if bytes.len() > MAX_ITEM {
                return self.rejects.add(Reason::TooLarge, count);
            }
            self.batch.items.push(Item { scope, bytes, trace, count, end });
        };
        match self.signal {
            Signal::Metrics if bytes.len() > MAX_METRIC => match apart(bytes) {
                Some(pieces) => pieces.into_iter().for_each(|piece| {
                    let (count, end) = (points(&piece), newest_point(&piece));
                    keep(piece.into(), count, end);
                }),
                None => self.rejects.add(Reason::TooLarge, count),
            },
            Signal::Metrics => keep(bytes.into(), count, newest_point(bytes)),
            Signal::Traces => {
                let end = time(bytes, &[8]);
                keep(producer.map_or(bytes.into(), |it| it.span(bytes)), 1, end);
            }
            Signal::Logs => keep(bytes.into(), 1, time(bytes, &[1, 11])),
        }
        Ok(())
    }

    /// The producer of a resource, where it may be a provider: none shows a job's token.
    fn producer(&self, resource: &[u8]) -> Option<&'static Producer> {
        let wanted = self.stamp.is_none() && self.signal == Signal::Traces;
        wanted.then(|| Producer::of(service_name(resource)?)).flatten()
    }

    /// Whether it may be written; of a span its trace.
    fn examine(
        &self,
        bytes: &[u8],
        resource: &Envelope,
        scope: &Envelope,
    ) -> Result<Option<TraceId>, Reason> {
        let (mut told, mut trace, mut foreign) = (0, None, false);
        let own = self.own.as_ref();
        let checked = wire::check(bytes, schema::item(self.signal), &mut |id| {
            told += 1;
            trace = id;
            foreign |= id.is_some() && own.is_some_and(|own| id != Some(own.trace));
        });
        checked.map_err(|malformed| match malformed {
            Malformed::Shape => Reason::Malformed,
            Malformed::Id => Reason::Ids,
        })?;
        if self.signal == Signal::Traces {
            // Of two ids one decoder might take the first, and another the last.
            let span = span_id(bytes).filter(|_| told == 1 && trace.is_some());
            let span = span.ok_or(Reason::Ids)?;
            let reserved = own.is_some_and(|it| it.run == span || it.job == Some(span));
            if !foreign && reserved {
                return Err(Reason::Reserved);
            }
        }
        if foreign {
            return Err(Reason::Foreign);
        }
        if self.signal == Signal::Metrics && kinds(bytes) > 1 {
            return Err(Reason::Malformed);
        }
        if resource.rest.len().max(scope.rest.len()) > MAX_ENVELOPE {
            return Err(Reason::TooLarge);
        }
        Ok(trace.filter(|_| self.signal == Signal::Traces))
    }
}

/// What a group holds besides its parts, and where the batch keeps it once one of them is written.
struct Envelope {
    rest: Vec<u8>,
    at: Option<usize>,
}

/// The messages in field `number`, one after the other.
fn nested(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields(message).filter_map(move |raw| match raw {
        Ok(raw) if raw.number != number => None,
        Ok(raw) if raw.is_nested() => Some(Ok(raw.value)),
        Ok(_) => Some(Err(Malformed::Shape)),
        Err(malformed) => Some(Err(malformed)),
    })
}

/// The fields of a group but its parts, checked.
fn rest(group: &[u8], of: &'static Type) -> Result<Vec<u8>, Malformed> {
    let mut rest = Vec::new();
    for raw in Fields(group) {
        let raw = raw?;
        if raw.number != 2 {
            rest.extend_from_slice(raw.whole);
        }
    }
    wire::check(&rest, of, &mut |_| {})?;
    Ok(rest)
}

/// The fields of a message that was checked.
fn fields(message: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    Fields(message).map_while(Result::ok)
}

/// A group by resource with these attributes, and no others of the names in [`PROVED`].
fn stamped(group: &[u8], attributes_of_ours: &Attributes<'_>) -> Vec<u8> {
    let (mut resource, mut others) = (Vec::new(), Vec::new());
    for raw in fields(group) {
        if raw.number != 1 {
            others.extend_from_slice(raw.whole);
            continue;
        }
        for raw in fields(raw.value) {
            if raw.number != 1 || !PROVED.contains(&key(raw.value)) {
                resource.extend_from_slice(raw.whole);
            }
        }
    }
    attributes(1, attributes_of_ours, &mut resource);
    let mut out = Vec::with_capacity(resource.len() + others.len() + 8);
    bytes_field(1, &resource, &mut out);
    out.extend_from_slice(&others);
    out
}

/// The key of a `KeyValue`: of several the last, as decoders take it.
fn key(attribute: &[u8]) -> &str {
    let key = fields(attribute).filter(|it| it.number == 1).last();
    key.and_then(|it| std::str::from_utf8(it.value).ok()).unwrap_or_default()
}

/// The `service.name` of a group by resource.
fn service_name(group: &[u8]) -> Option<&str> {
    let resources = fields(group).filter(|it| it.number == 1);
    let mut attributes = resources.flat_map(|it| fields(it.value)).filter(|it| it.number == 1);
    let service = attributes.find(|it| key(it.value) == sc::SERVICE_NAME)?;
    let value = fields(service.value).filter(|it| it.number == 2).last()?;
    let text = fields(value.value).filter(|it| it.number == 1).last()?;
    std::str::from_utf8(text.value).ok()
}

/// The id of a span: of several the last, as decoders take it.
fn span_id(span: &[u8]) -> Option<SpanId> {
    let id = fields(span).filter(|it| it.number == 2).last()?;
    SpanId::new(id.value.try_into().ok()?)
}

/// The first of these fields that says a time.
fn time(message: &[u8], numbers: &[u32]) -> Nanos {
    let read = |number: &u32| {
        let field = fields(message).filter(|it| it.number == *number).last();
        field.and_then(|it| it.fixed64()).filter(|it| *it > 0)
    };
    numbers.iter().find_map(read).unwrap_or(0)
}

/// The points of a metric.
fn each_point(metric: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    let data = fields(metric).filter(|it| DATA.contains(&it.number) && it.is_nested());
    data.flat_map(|it| fields(it.value)).filter(|it| it.number == 1)
}

/// Of how many kinds a metric's points are: of more than one every decoder would keep the last only.
/// <https://protobuf.dev/programming-guides/proto3/#oneof-features>
fn kinds(metric: &[u8]) -> usize {
    let is_there = |number: &&u32| fields(metric).any(|it| it.number == **number);
    DATA.iter().filter(is_there).count()
}

fn points(metric: &[u8]) -> usize {
    each_point(metric).count()
}

/// `time_unix_nano` has the same number in points of every kind.
fn newest_point(metric: &[u8]) -> Nanos {
    let times = each_point(metric).filter(Raw::is_nested).map(|it| time(it.value, &[3]));
    times.max().unwrap_or(0)
}

/// A metric in several, each with a part of the points and all the rest; none where that alone is too
/// large to be repeated.
fn apart(metric: &[u8]) -> Option<Vec<Vec<u8>>> {
    let is_data = |raw: &Raw<'_>| DATA.contains(&raw.number);
    let about = joined(fields(metric).filter(|it| !is_data(it)));
    let mut pieces = Vec::new();
    for data in fields(metric).filter(is_data) {
        let about_data = joined(fields(data.value).filter(|it| it.number != 1));
        if about.len() + about_data.len() > MAX_ENVELOPE {
            return None;
        }
        let mut piece = about_data.clone();
        let mut write = |piece: &[u8]| {
            let mut whole = about.clone();
            bytes_field(data.number, piece, &mut whole);
            pieces.push(whole);
        };
        for point in fields(data.value).filter(|it| it.number == 1) {
            if piece.len() > about_data.len() && piece.len() + point.whole.len() > MAX_METRIC {
                write(&piece);
                piece.truncate(about_data.len());
            }
            piece.extend_from_slice(point.whole);
        }
        write(&piece);
    }
    Some(pieces)
}

fn joined<'a>(fields: impl Iterator<Item = Raw<'a>>) -> Vec<u8> {
    fields.flat_map(|it| it.whole.iter().copied()).collect()
}
