//! A Kubernetes cluster: the objects of Lighthouse, Tekton and their Pods, as a relay in the cluster
//! posts them, to spans.
//!
//! The relay watches and forwards; what the objects mean is told here alone, and the rooms of Tekton
//! and Lighthouse use the same library (`object`).

pub(super) mod ids;
mod map;
pub(super) mod object;
mod payload;
mod settings;

use std::borrow::Cow;

use serde_json::{Value, json};

pub use self::settings::{Settings, SpanContext};
use super::{Issuer, Room, Samples};
use crate::{
    check::{Check, Scheme},
    job::Shape,
    mapping::public_url,
    settings::Vars,
};

pub(super) const SAMPLES: Samples = Samples {
    deliveries: samples!["kubernetes/batch-of-a-pull-request.json"],
    build_events: &[],
    settings: &[("KUBERNETES_CLUSTER", "prod")],
};

pub(super) static ROOM: Room = Room {
    name: "kubernetes",
    title: "Kubernetes",
    paths: &["/kubernetes"],
    checks: &[
        Check { variable: &settings::SIGNING_KEY, scheme: Scheme::StandardWebhooks },
        Check { variable: &settings::TOKEN, scheme: Scheme::Bearer },
        Check {
            variable: &settings::OIDC_ISSUERS,
            scheme: Scheme::Oidc { audience: &settings::OIDC_AUDIENCE },
        },
    ],
    unproved: "set it to the key (whsec_...) that the relay signs with, or KUBERNETES_OIDC_ISSUERS to the cluster whose ServiceAccount the relay is",
    headers: &["content-type", "user-agent", "webhook-id", "webhook-timestamp"],
    event: "user-agent",
    // The relay tries again for as long as it takes.
    patience: None,
    variables: &[
        &settings::SIGNING_KEY,
        &settings::TOKEN,
        &settings::OIDC_ISSUERS,
        &settings::OIDC_AUDIENCE,
        &settings::CLUSTER,
        &settings::SERVICE_NAME,
        &settings::CORRELATION_ID,
        &settings::SPAN_CONTEXT,
    ],
    decode: |body| body.into(),
    map: map::map,
    correlation: |settings| &settings.kubernetes.correlation_id,
    // The relay leaves out all but names, times and states.
    redact: |body| body.into(),
    recognises: |json| {
        json["items"].as_array().is_some_and(|it| {
            json["cluster"].is_string() || it.iter().any(|it| it.get("object").is_some())
        })
    },
    sends: |_, _| vec![("user-agent", "spanhook-relay".to_owned())],
    ping,
    host: |settings| Some(&settings.kubernetes.cluster),
    job: Shape::TOLD_ELSEWHERE,
    issuer: Issuer {
        // What every cluster calls itself that is not told otherwise.
        public: "https://kubernetes.default.svc.cluster.local",
        // Every cluster has an address of its own, which says nothing.
        owns: |issuer| issuer.starts_with("https://kubernetes.default.svc"),
        ..Issuer::NONE
    },
};

/// Whether something is configured that proves the relay's batches.
pub(super) fn is_proved(vars: &Vars) -> bool {
    ROOM.checks.iter().any(|it| it.variable.get(vars).is_some())
}

/// An empty batch, which is verified and then ignored.
fn ping(at: &str, number: u64) -> Value {
    json!({ "cluster": "spanhook-check", "items": [], "sent_at": at, "number": number })
}

/// An address without what may be private in it. The pages of Kubernetes' dashboards are fragments.
pub(super) fn address(url: &str) -> Option<Cow<'_, str>> {
    let plain = public_url(url)?;
    let page = url.split_once("#/").map(|(_, page)| page.split(['?', '#']).next().unwrap_or(""));
    match page {
        Some(page) if !url.split('#').next().unwrap_or_default().contains('?') => {
            Some(format!("{plain}#/{page}").into())
        }
        _ => Some(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_the_page_of_a_dashboard_and_nothing_private() {
        for (url, expected) in [
            ("https://d.example.com/#/namespaces/jx/x", "https://d.example.com/#/namespaces/jx/x"),
            ("https://a:b@d.example.com/x#/y?token=1", "https://d.example.com/x#/y"),
            ("https://d.example.com/x?token=1#/y", "https://d.example.com/x"),
            ("https://d.example.com/x#token", "https://d.example.com/x"),
        ] {
            assert_eq!(address(url).as_deref(), Some(expected), "{url}");
        }
        assert_eq!(address("javascript:alert(1)"), None);
    }
}
