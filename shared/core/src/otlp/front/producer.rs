//! Providers that export OTLP themselves: what makes their spans look like those of their webhooks.
//!
//! The one place for it: a provider that begins to export gets an entry here, which lies in its own
//! room. What an entry adds is attributes; nothing that came is changed.

use std::borrow::Cow;

use super::wire::Fields;
use crate::{
    otlp::{encode::attributes, span::Attributes},
    provider::circleci,
    semconv as sc,
};

/// A provider's own export.
#[derive(Debug)]
pub(crate) struct Producer {
    /// The `service.name` of its resources.
    pub(crate) service: &'static str,
    /// Its name, as its room has it.
    pub(crate) provider: &'static str,
    /// What a span of that name stands for, as [`sc::KIND`] says it.
    pub(crate) kind: fn(&str) -> Option<&'static str>,
}

/// All that are known.
const PRODUCERS: [&Producer; 1] = [&circleci::EXPORTED];

impl Producer {
    /// The one whose resources have this `service.name`.
    pub(super) fn of(service: &str) -> Option<&'static Self> {
        PRODUCERS.into_iter().find(|it| it.service == service)
    }

    /// What its resources get.
    pub(super) fn resource(&self) -> Attributes<'static> {
        let mut resource = Attributes::with_capacity(1);
        resource.set(sc::PROVIDER, self.provider);
        resource
    }

    /// A span with what it stands for.
    pub(super) fn span<'a>(&self, span: &'a [u8]) -> Cow<'a, [u8]> {
        let name = Fields(span).map_while(Result::ok).filter(|it| it.number == 5).last();
        let name = name.and_then(|it| std::str::from_utf8(it.value).ok()).unwrap_or_default();
        let Some(kind) = (self.kind)(name) else { return span.into() };
        let mut own = Attributes::with_capacity(1);
        own.set(sc::KIND, kind);
        let mut span = span.to_vec();
        attributes(9, &own, &mut span);
        span.into()
    }
}
