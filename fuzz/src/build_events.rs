//! Build events of a job, of one who is trusted and of one who is not.

use std::sync::LazyLock;

use spanhook_core::{
    build_event::{PROVIDER, Sender, map},
    delivery::Accepted,
    job::{Claim, Job},
    provider::Provider,
    rules::ProjectRules,
    settings::Settings,
};

use crate::{NOW, cut, messages::Held, plant};

/// A job that a token proves.
pub(crate) static JOB: LazyLock<Job> = LazyLock::new(|| {
    let text = |it: &str| Some(it.to_owned());
    let claim = Claim {
        host: text("gitlab.example.com"),
        run_id: text("2722508965"),
        job_id: text("15651125844"),
        project: text("acme/web/shop"),
        ..Claim::default()
    };
    Job::new(Provider::Gitlab, &claim).unwrap_or_else(|error| panic!("{error}"))
});

/// The first byte chooses the sender, the rest is the body.
pub fn build_events(data: &[u8]) -> bool {
    let Some((choice, body)) = cut::choice(data) else { return false };
    let sender = [Sender::Trusted, Sender::Job(&JOB), Sender::Confined("signature")][choice % 3];
    let Some(held) = mapped(body, sender) else { return false };
    if let Sender::Job(job) = sender {
        let own = job.place(&Settings::default()).trace;
        assert!(held.spans.iter().all(|it| it.trace_id == own.as_bytes()), "in its own run");
    }
    if let Some(body) = plant::planted(body, is_private) {
        // A field whose value is not what its type allows may cost the event.
        mapped(&body, sender).iter().for_each(|it| plant::check_clean(&it.raw));
    }
    true
}

fn is_private(key: &str) -> bool {
    matches!(key, "password" | "token" | "author" | "email" | "api_key" | "Authorization")
}

fn mapped(body: &[u8], sender: Sender<'_>) -> Option<Held> {
    let settings = Settings::default();
    let batch = map(body, NOW * 1_000_000_000, &settings, sender).ok()?;
    let accepted = Accepted::of(PROVIDER, batch.telemetry, &settings, &ProjectRules::default());
    let accepted = accepted.unwrap_or_else(|decision| panic!("no rules, but {decision:?}"));
    let held = Held::of(&accepted.messages);
    assert_eq!(
        (held.spans.len(), held.points, held.records),
        (accepted.spans, accepted.points, accepted.records)
    );
    held.check_mapped();
    Some(held)
}
