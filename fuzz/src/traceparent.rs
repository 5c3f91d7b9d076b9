//! Questions for a trace context, and trace contexts.

use spanhook_core::{
    id::{TraceIds, parse_traceparent, traceparent as written},
    rules::ProjectRules,
    settings::Settings,
    traceparent::{Context, Format, Request, parse},
};

use crate::cut;

/// Four lines: a path, a query, an `Accept` header, a trace context.
pub fn traceparent(data: &[u8]) -> bool {
    let Some(([path, query, accept, context], _)) = cut::lines(data) else { return false };
    check_context(context);
    let Request { format, job, project, .. } = parse(path, Some(query), Some(accept));
    let rules = ProjectRules::default();
    let Ok(job) = job else {
        let error = job.map_or_else(|it| it, |_| unreachable!());
        let body = format.render_error(error.status(), &error.to_string());
        check_harmless(format, &body);
        return false;
    };
    let mut values = Vec::new();
    for trace_ids in [TraceIds::Hashed, TraceIds::Native] {
        let settings = Settings { trace_ids, ..Settings::default() };
        let context = Context::of(&job, &settings, &rules, project.as_deref());
        let value = Format::Value.render(context);
        let value = value.trim_end();
        assert!(is_w3c(value), "{value}");
        assert_eq!(parse_traceparent(value), Some((context.trace, context.span, true)));
        let body = format.render(context);
        assert!(body.contains(value) && body.ends_with('\n'), "{body}");
        check_assignment(format, &body);
        values.push(value.to_owned());
    }
    true
}

/// A trace context is read as the standard has it, and is written as it was read.
fn check_context(text: &str) {
    let read = parse_traceparent(text);
    if is_w3c(text) {
        assert!(read.is_some(), "{text}");
    }
    let Some((trace, span, sampled)) = read else { return };
    let again = written(trace, span, sampled);
    assert!(is_w3c(&again), "{again}");
    assert_eq!(again[3..53], text[3..53]);
}

/// Version 00 to the letter. <https://www.w3.org/TR/trace-context/#traceparent-header-field-values>
fn is_w3c(text: &str) -> bool {
    let hex = |it: &str| it.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |it: &str| it.bytes().all(|it| it == b'0');
    let parts: Vec<_> = text.split('-').collect();
    let [version, trace, span, flags] = parts.as_slice() else { return false };
    let lengths = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
    let valid = parts.iter().all(|it| hex(it)) && !zero(trace) && !zero(span);
    lengths && valid && *version == "00"
}

/// What a shell may source: words of letters, digits and few signs.
fn check_assignment(format: Format, body: &str) {
    let quotes = match format {
        Format::Json => "{}\":,",
        Format::Powershell => "$: '",
        _ => " ",
    };
    let plain =
        |it: char| it.is_ascii_alphanumeric() || "-_=\n".contains(it) || quotes.contains(it);
    assert!(body.chars().all(plain), "{body}");
    assert_eq!(body.lines().count(), 1, "{body}");
}

/// An error is comments, JSON or nothing.
fn check_harmless(format: Format, body: &str) {
    match format {
        Format::Github => assert_eq!(body, ""),
        Format::Json => {
            assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
        }
        _ => assert!(!body.is_empty() && body.lines().all(|it| it.starts_with("# ")), "{body}"),
    }
}
