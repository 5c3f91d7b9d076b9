//! `ExportLogsServiceRequest`.

use std::ptr;

use prost::encoding::{fixed32, fixed64};

use super::{
    Envelope, attributes, bytes_field, message_field, scope, split, text, varint_field,
    write_resource,
};
use crate::{
    message::Message,
    otlp::{
        Signal,
        log::{BODY_LIMIT, Group, Record},
    },
};

/// `SEVERITY_NUMBER_INFO`
const INFO: u64 = 9;

/// The sampled bit of the trace flags.
const SAMPLED: u32 = 1;

type Placed<'l, 'a> = (&'l Group<'a>, &'l Record<'a>);

/// The messages of log records, in order. No record is split.
pub(super) fn encode_logs(groups: &[Group<'_>], envelope: Envelope<'_>) -> Vec<Message> {
    let records: Vec<Placed<'_, '_>> =
        groups.iter().flat_map(|group| group.records.iter().map(move |it| (group, it))).collect();
    let ended_at = records.iter().map(|(_, record)| record.time).max().unwrap_or(0);
    let mut messages = Vec::new();
    split(&records, envelope.limits, &write_request, &mut |records, body| {
        messages.push(envelope.message(Signal::Logs, (records.len(), ended_at), body));
    });
    messages
}

fn write_request(records: &[Placed<'_, '_>]) -> Vec<u8> {
    let mut request = Vec::new();
    for of_group in records.chunk_by(|a, b| ptr::eq(a.0, b.0)) {
        let mut scope_logs = scope();
        for (_, record) in of_group {
            message_field(2, &mut scope_logs, |out| write_record(record, out));
        }
        if let Some((group, _)) = of_group.first() {
            write_resource(&group.resource, scope_logs, &mut request);
        }
    }
    request
}

fn write_record(record: &Record<'_>, out: &mut Vec<u8>) {
    fixed64::encode(1, &record.time, out);
    varint_field(2, INFO, out);
    text(3, "INFO", out);
    if !record.body.is_empty() {
        let body = &record.body[..record.body.floor_char_boundary(BODY_LIMIT)];
        message_field(5, out, |value| bytes_field(1, body.as_bytes(), value));
    }
    attributes(6, &record.attributes, out);
    if let Some((trace, span)) = record.context {
        fixed32::encode(8, &SAMPLED, out);
        bytes_field(9, trace.as_bytes(), out);
        bytes_field(10, span.as_bytes(), out);
    }
    fixed64::encode(11, &record.observed, out);
    text(12, &record.event_name, out);
}
