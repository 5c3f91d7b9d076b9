//! The providers, each in a room of its own.
//!
//! All that is particular to a provider is in its folder and handed out as a [`Room`], so that a
//! new one is a folder and its lines here: the only file that tells providers apart.
//! `docs/adding-a-provider.md` says what else there is to do.

/// Files of `events/`, by their names there.
macro_rules! samples {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/", $name)))),*]
    };
}

pub mod circleci;
pub mod github;
pub mod gitlab;
pub mod kubernetes;
pub mod lighthouse;
pub mod tekton;

use std::{borrow::Cow, fmt, time::Duration};

use crate::{
    check::Check,
    correlation::CorrelationId,
    delivery::{Delivery, Mapped, Unmappable},
    host::Host,
    id::TraceIds,
    job::Shape,
    otlp::encode::Limits,
    settings::{SettingsError, TRACE_IDS, Variable, Vars, WEBHOOK_METRICS},
};

/// A CI system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// `CircleCI`, cloud and server.
    Circleci,
    /// GitLab, gitlab.com and self-managed.
    Gitlab,
    /// GitHub Actions, github.com and Enterprise Server.
    Github,
    /// The objects of a Kubernetes cluster, as a relay posts them.
    Kubernetes,
    /// Tekton, by its own events.
    Tekton,
    /// Lighthouse, by what it sends its external plugins.
    Lighthouse,
}

/// How deliveries are mapped and ids derived: all that the pure half has to be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// How ids are derived.
    pub trace_ids: TraceIds,
    /// Whether webhooks give metrics beside spans.
    pub webhook_metrics: bool,
    /// What the queue takes: no variable says it, but whoever has the queue.
    pub limits: Limits,
    /// `CircleCI`'s.
    pub circleci: circleci::Settings,
    /// GitLab's.
    pub gitlab: gitlab::Settings,
    /// GitHub's.
    pub github: github::Settings,
    /// That of all that comes out of a cluster.
    pub kubernetes: kubernetes::Settings,
    /// Tekton's.
    pub tekton: tekton::Settings,
    /// Lighthouse's.
    pub lighthouse: lighthouse::Settings,
}

impl Settings {
    /// Reads `TRACE_IDS`, `WEBHOOK_METRICS` and each provider's own variables.
    pub fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        let words = [("hashed", TraceIds::Hashed), ("native", TraceIds::Native)];
        Ok(Self {
            trace_ids: TRACE_IDS.one_of(vars, words)?,
            webhook_metrics: WEBHOOK_METRICS.flag(vars)?,
            limits: Limits::default(),
            circleci: circleci::Settings::parse(vars)?,
            gitlab: gitlab::Settings::parse(vars)?,
            github: github::Settings::parse(vars)?,
            kubernetes: kubernetes::Settings::parse(vars)?,
            tekton: tekton::Settings::parse(vars)?,
            lighthouse: lighthouse::Settings::parse(vars)?,
        })
    }
}

/// What is particular to a provider, the same drawers in each room.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Its name in ids, messages, metrics and paths.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// The paths of its webhook in one process.
    pub paths: &'static [&'static str],
    /// What proves a delivery. Every one that is configured must hold, and at least one must be
    /// configured. A provider without any has no webhook.
    pub checks: &'static [Check],
    /// What to type where none is configured.
    pub unproved: &'static str,
    /// The headers that are kept of a delivery that can't be mapped; never a signature or a token.
    pub headers: &'static [&'static str],
    /// The one of them that names the event, for the log.
    pub event: &'static str,
    /// How long after it arrived a delivery is answered at the latest, the queue being tried again
    /// until then. None: what the queue's own tries gave is answered at once.
    pub patience: Option<Duration>,
    /// Its variables, those of the checks included.
    pub variables: &'static [&'static Variable],
    /// The JSON of a body that was proved as it came: it may be the field of a form.
    pub decode: for<'a> fn(&'a [u8]) -> Cow<'a, [u8]>,
    /// A delivery to telemetry: no clock, no I/O.
    pub map: for<'a> fn(&Delivery<'a>, &Settings) -> Result<Mapped<'a>, Unmappable>,
    /// How its runs are called in every store.
    pub correlation: fn(&Settings) -> &CorrelationId,
    /// Blanks what must not be kept of a payload.
    pub redact: fn(&[u8]) -> Cow<'_, [u8]>,
    /// Whether a payload is this provider's, as far as its shape tells.
    pub recognises: fn(&serde_json::Value) -> bool,
    /// The headers besides the proof that the provider sends with a payload, with a delivery's id.
    pub sends: fn(&serde_json::Value, &str) -> Vec<(&'static str, String)>,
    /// A delivery that shows whether the way is clear, at a time (RFC 3339) and with a number of its
    /// own: verified as any other, and one span at most.
    pub ping: fn(&str, u64) -> serde_json::Value,
    /// The instance of a job that names none; none where jobs never name theirs.
    pub host: fn(&Settings) -> Option<&Host>,
    /// How its jobs are told.
    pub job: Shape,
    /// Who issues its jobs' tokens.
    pub issuer: Issuer,
}

/// Name and content of a file of `events/`.
pub type Sample = (&'static str, &'static str);

/// What a demonstration sends. Apart from the [`Room`], so that no function carries it.
#[derive(Clone, Copy, Debug)]
pub struct Samples {
    /// Deliveries, in the order in which the provider would send them.
    pub deliveries: &'static [Sample],
    /// What a job of theirs reported of its build.
    pub build_events: &'static [Sample],
    /// Variables with which they belong together, and to other providers' samples.
    pub settings: &'static [(&'static str, &'static str)],
}

/// The issuer of jobs' `OpenID` Connect tokens.
#[derive(Clone, Copy, Debug)]
pub struct Issuer {
    /// The public one, whose tokens strangers get too.
    pub public: &'static str,
    /// An address that is not to be used, and what to type instead.
    pub bare: Option<&'static str>,
    /// What to type instead of that address.
    pub expected: &'static str,
    /// Whether an issuer at this address is this provider's, where the operator does not say.
    pub owns: fn(&str) -> bool,
    /// The path of the key set below the issuer; none where discovery tells it.
    pub keys: Option<&'static str>,
    /// The instance whose jobs an issuer at this host, with its port, speaks for.
    pub instance: fn(&str) -> String,
    /// How a running job comes by a token without its owner's help.
    pub grant: Grant,
}

impl Issuer {
    /// That of a provider whose jobs get no tokens of its own.
    pub(crate) const NONE: Self = Self {
        public: "",
        bare: None,
        expected: "",
        owns: |_| false,
        keys: None,
        instance: str::to_owned,
        grant: Grant::Owner,
    };
}

/// How a running job comes by its token.
#[derive(Clone, Copy, Debug)]
pub enum Grant {
    /// Its owner asks for one, by name.
    Owner,
    /// Every job has one.
    Given {
        /// The variable that holds it.
        variable: &'static str,
        /// What to check when it is refused.
        hint: &'static str,
    },
    /// The job may ask for one, for an audience.
    Asked {
        /// The variable with the address to ask, to which `audience` is added.
        address: &'static str,
        /// The variable with what proves the job there.
        token: &'static str,
        /// What to do where none is given.
        refused: &'static str,
    },
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Circleci,
        Self::Gitlab,
        Self::Github,
        Self::Kubernetes,
        Self::Tekton,
        Self::Lighthouse,
    ];

    /// What to type where one is asked for.
    pub const EXPECTED: &str = "use circleci, gitlab, github, kubernetes, tekton or lighthouse";

    /// Its room.
    #[must_use]
    pub fn room(self) -> &'static Room {
        match self {
            Self::Circleci => &circleci::ROOM,
            Self::Gitlab => &gitlab::ROOM,
            Self::Github => &github::ROOM,
            Self::Kubernetes => &kubernetes::ROOM,
            Self::Tekton => &tekton::ROOM,
            Self::Lighthouse => &lighthouse::ROOM,
        }
    }

    /// Its samples.
    #[must_use]
    pub fn samples(self) -> Samples {
        match self {
            Self::Circleci => circleci::SAMPLES,
            Self::Gitlab => gitlab::SAMPLES,
            Self::Github => github::SAMPLES,
            Self::Kubernetes => kubernetes::SAMPLES,
            Self::Tekton => tekton::SAMPLES,
            Self::Lighthouse => lighthouse::SAMPLES,
        }
    }

    /// Those that post webhooks.
    pub fn with_webhooks() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|it| !it.room().checks.is_empty())
    }

    /// The provider's name in ids, messages and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.room().name
    }

    /// The provider of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }

    /// The provider that a payload is of, as far as its shape tells.
    #[must_use]
    pub fn of_payload(json: &serde_json::Value) -> Option<Self> {
        Self::ALL.into_iter().find(|it| (it.room().recognises)(json))
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_asked_for_a_provider_is_told_all_of_them() {
        let words: Vec<_> = Provider::EXPECTED.split([' ', ',']).collect();
        for provider in Provider::ALL {
            assert!(words.contains(&provider.as_str()), "{provider}");
            assert_eq!(Provider::named(provider.as_str()), Some(provider));
        }
    }
}
