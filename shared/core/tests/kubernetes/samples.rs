//! The spans of every sample of `events/`. A new sample is checked by being there.

use std::fmt::Write as _;

use spanhook_core::{
    delivery::Outcome,
    provider::{Provider, lighthouse::Sources},
    settings::Settings,
};

use crate::{
    describe::{write_attributes, write_span},
    support::{Sent, process, request, samples, with},
};

/// What a delivery becomes.
fn described(sent: &Sent, settings: &Settings) -> String {
    let accepted = match process(sent, settings) {
        Outcome::Accepted(accepted) => accepted,
        Outcome::Ignored { reason, .. } => return format!("ignored: {reason}\n"),
        Outcome::Quarantined { reason, .. } => return format!("quarantined: {reason}\n"),
    };
    let mut text = String::new();
    for message in &accepted.messages {
        writeln!(text, "trace {}", message.attributes["trace_id"]).unwrap();
        for group in request(message).resource_spans {
            text += "resource\n";
            write_attributes(&group.resource.unwrap().attributes, "  ", &mut text);
            for span in group.scope_spans.into_iter().flat_map(|it| it.spans) {
                write_span(&span, &mut text);
            }
        }
    }
    text
}

fn snapshots(provider: Provider, sources: &[Sources]) {
    for (name, json) in samples(provider) {
        let sent = (provider, json);
        let text: String = sources
            .iter()
            .map(|it| format!("=== {it:?}\n{}", described(&sent, &with(*it))))
            .collect();
        insta::assert_snapshot!(format!("{provider}-{name}"), text);
    }
}

#[test]
fn kubernetess_samples_become_these_spans() {
    snapshots(Provider::Kubernetes, &[Sources::Objects]);
}

#[test]
fn tektons_samples_become_these_spans() {
    snapshots(Provider::Tekton, &[Sources::Objects]);
}

#[test]
fn lighthouses_samples_become_these_spans() {
    snapshots(Provider::Lighthouse, &[Sources::Hooks, Sources::Both, Sources::Objects]);
}
