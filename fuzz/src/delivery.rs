//! A provider's delivery: proved as the provider proves it, mapped, judged, put into messages.

use std::sync::LazyLock;

use http::HeaderMap;
use spanhook_core::{
    check::Scheme,
    delivery::{Delivery, Outcome, Unmappable},
    provider::Provider,
    rules::ProjectRules,
    secret::Secrets,
    settings::{Settings, Vars},
};

use crate::{
    NOW, cut,
    messages::{self, Held},
    plant,
};

/// Variables that change what a mapping does.
const VARIANTS: [&[(&str, &str)]; 4] = [
    &[],
    &[("TRACE_IDS", "native"), ("GITLAB_JOB_SPANS", "job"), ("LIGHTHOUSE_SOURCES", "both")],
    &[("WEBHOOK_METRICS", "true"), ("LIGHTHOUSE_SOURCES", "objects")],
    &[
        ("GITLAB_SERVICE_NAME", "{repository}"),
        ("GITLAB_CORRELATION_ID", "{project}-{run_id}"),
        ("GITHUB_NATIVE_JOB_ID", "name"),
        ("GITHUB_CUSTOM_PROPERTIES", "team,tier"),
    ],
];

static SETTINGS: LazyLock<[Settings; 4]> = LazyLock::new(|| VARIANTS.map(parsed));

fn parsed(variables: &[(&str, &str)]) -> Settings {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let vars: Vars = variables.iter().map(owned).collect();
    Settings::parse(&vars).unwrap_or_else(|error| panic!("{error}"))
}

/// A key that every scheme takes.
const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// The first byte chooses provider and settings, then come headers and a body.
pub fn delivery(data: &[u8]) -> bool {
    let Some((choice, rest)) = cut::choice(data) else { return false };
    let provider = Provider::ALL[choice % Provider::ALL.len()];
    let variant = choice / Provider::ALL.len();
    let settings = &SETTINGS[variant % SETTINGS.len()];
    let (headers, body) = cut::request(rest);
    check_proofs(provider, &headers, body);
    let taken = check(provider, &headers, body, settings, |_| {});
    if let Some(body) = plant::planted(body, is_private) {
        check(provider, &headers, &body, settings, plant::check_clean);
    }
    taken
}

/// What a mapping never tells without being asked to, whatever its provider.
fn is_private(key: &str) -> bool {
    matches!(key, "variables" | "inputs" | "client_payload" | "email" | "user_email")
}

/// Processes a delivery and checks what it became; `told` gets all that is to be forwarded.
fn check(
    provider: Provider,
    headers: &HeaderMap,
    body: &[u8],
    settings: &Settings,
    told: fn(&[u8]),
) -> bool {
    let rules = ProjectRules::default();
    let messages = match (Delivery { headers, body }).process(provider, settings, &rules) {
        Outcome::Ignored { .. } => return false,
        Outcome::Quarantined { reason, messages } => {
            assert_ne!(reason, Unmappable::Bug, "a mapping panicked");
            messages
        }
        Outcome::Accepted(accepted) => {
            let held = Held::of(&accepted.messages);
            let counts = (held.spans.len(), held.points, held.records);
            assert_eq!(counts, (accepted.spans, accepted.points, accepted.records));
            assert_eq!(accepted.unread == 0, accepted.rest.is_empty());
            held.check_mapped();
            told(&held.raw);
            if accepted.rest.is_empty() {
                return true;
            }
            accepted.rest
        }
    };
    // Nothing is left that is to be blanked. The last digit of a number may be another.
    let kept = messages::quarantined(&messages);
    let letters = |it: &[u8]| it.iter().filter(|it| !it.is_ascii_digit()).count();
    let again = (provider.room().redact)(&kept);
    assert_eq!(letters(&again), letters(&kept), "{}", kept.escape_ascii());
    false
}

/// Signed as the provider signs it a delivery holds, and with another body it does not.
fn check_proofs(provider: Provider, headers: &HeaderMap, body: &[u8]) {
    let secrets = Secrets::new([KEY]);
    for check in provider.room().checks {
        let mut signed = headers.clone();
        check.sign(&mut signed, body, KEY, "msg-1", NOW);
        let verdict = check.verify(&signed, body, &secrets, NOW);
        // A token of an issuer is checked elsewhere.
        let holds = !matches!(check.scheme, Scheme::Oidc { .. });
        assert_eq!(verdict.is_ok(), holds, "{}: {verdict:?}", check.variable.name);
        let more = [body, b" "].concat();
        let other = check.verify(&signed, &more, &secrets, NOW);
        assert_eq!(other.is_ok(), holds && !check.scheme.covers_body(), "{other:?}");
    }
}
