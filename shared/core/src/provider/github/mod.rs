//! GitHub Actions: jobs' identity and ids. Its deliveries are not mapped yet.

mod ids;
mod job;
mod settings;

pub use self::settings::Settings;
use super::{Issuer, Room};
use crate::delivery::Mapped;

pub(super) static ROOM: Room = Room {
    name: "github",
    title: "GitHub",
    paths: &[],
    checks: &[],
    unproved: "",
    headers: &[],
    event: "",
    variables: &[&settings::HOST],
    map: |_, _| Ok(Mapped::Ignored("GitHub's deliveries are not mapped yet")),
    redact: |body| body.into(),
    recognises: |_| false,
    sends: |_, _| Vec::new(),
    host: |settings| Some(&settings.github.host),
    job: job::SHAPE,
    issuer: Issuer {
        public: "https://token.actions.githubusercontent.com",
        bare: None,
        expected: "",
        // Enterprise Server issues at `/_services/token`.
        owns: |issuer| {
            issuer.starts_with("https://token.actions.") || issuer.ends_with("/_services/token")
        },
        keys: None,
        instance: |host| match host.strip_prefix("token.actions.").unwrap_or(host) {
            "githubusercontent.com" => "github.com".to_owned(),
            host => host.to_owned(),
        },
    },
};
