//! Which proofs are accepted for which project.

use serde::Deserialize;
use thiserror::Error;
use wildmatch::WildMatch;

use super::settings::ACCESS;
use crate::{live::LiveError, settings::Variable};

/// How a caller proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The OIDC token of a CI job.
    Oidc,
    /// A signature of the body.
    Signature,
    /// A secret that is sent as it is.
    Bearer,
    /// Not at all.
    None,
}

impl Proof {
    /// Its name in `ACCESS`, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oidc => "oidc",
            Self::Signature => "signature",
            Self::Bearer => "bearer",
            Self::None => "none",
        }
    }
}

/// The rules of `ACCESS`: the first whose pattern fits the project decides; where none fits, nobody
/// may.
#[derive(Clone, Debug, PartialEq)]
pub struct Access(Vec<Rule>);

#[derive(Clone, Debug, PartialEq)]
struct Rule {
    projects: WildMatch,
    /// Whether its pattern is `*`: no other fits an event without a project.
    all: bool,
    by: Vec<Accepted>,
    /// Where the jobs of these projects may write.
    traces: Traces,
}

/// Into which traces a job's token may write what it exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Traces {
    /// That of its own run.
    #[default]
    Own,
    /// Every one: it sends for others.
    Any,
}

/// A proof that a rule accepts; of a job's token, perhaps only one instance's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Accepted {
    proof: Proof,
    host: Option<String>,
}

/// Rules that can't be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{}", self.expected())]
pub enum BadAccess {
    /// It is not the JSON list that it should be.
    Shape,
    /// A proof that there is not.
    Proof,
}

impl BadAccess {
    /// What to type instead.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Self::Shape => ACCESS.expected,
            Self::Proof => "use the proofs oidc, oidc:<host>, signature, bearer and none",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    projects: String,
    by: Vec<String>,
    #[serde(default)]
    traces: Traces,
}

impl Access {
    /// Reads `[{"projects": pattern, "by": [proof]}]`. A pattern is `owner/name`, or the project's
    /// id at the provider, with `*` for any text and `?` for one character, in upper or lower case.
    /// `oidc:gitlab.com` accepts only the tokens of that instance, for a name may belong to others
    /// elsewhere. With `"traces": "any"` the jobs of its projects may export spans of any run.
    pub fn parse(text: &str) -> Result<Self, BadAccess> {
        let written: Vec<Written> = serde_json::from_str(text).map_err(|_| BadAccess::Shape)?;
        let rule = |it: Written| {
            let by = it.by.iter().map(|by| Accepted::parse(by)).collect::<Option<_>>();
            let text = it.projects.trim();
            let all = text.starts_with('*') && text.trim_matches('*').is_empty();
            let projects = WildMatch::new_case_insensitive(text);
            by.map(|by| Rule { projects, all, by, traces: it.traces }).ok_or(BadAccess::Proof)
        };
        written.into_iter().map(rule).collect::<Result<_, _>>().map(Self)
    }

    /// Accepts these proofs for every project.
    #[must_use]
    pub fn everywhere(by: &[Proof]) -> Self {
        let by = by.iter().map(|proof| Accepted { proof: *proof, host: None }).collect();
        let projects = WildMatch::new("*");
        Self(vec![Rule { projects, all: true, by, traces: Traces::Own }])
    }

    /// Whether any rule accepts this proof for some project.
    #[must_use]
    pub fn mentions(&self, proof: Proof) -> bool {
        self.0.iter().flat_map(|rule| &rule.by).any(|it| it.proof == proof)
    }

    /// Whether every project accepts this proof: all rules do, up to one that fits every project.
    /// Where none fits, nobody may.
    pub(super) fn accepts_everywhere(&self, proof: Proof) -> bool {
        let last = self.0.iter().position(|rule| rule.all);
        let deciding = last.and_then(|last| self.0.get(..=last)).unwrap_or_default();
        let accepts = |rule: &Rule| rule.by.iter().any(|it| it.proof == proof && it.host.is_none());
        !deciding.is_empty() && deciding.iter().all(accepts)
    }

    /// Whether these rules take the token of any job on this host where they would not take
    /// anybody at all: of a host that everybody can have a project on, that is not meant.
    pub(super) fn welcomes_all_of(&self, host: &str) -> bool {
        // The second is nobody's name, and fits `*/*` too.
        let any = |proof| ["", "\u{1}/\u{1}"].iter().any(|it| self.accepts(&[it], proof, host));
        any(Proof::Oidc) && !any(Proof::None)
    }

    /// Whether the first rule that fits one of a project's names accepts the proof, of a job on
    /// `host`. No name, as of an event without a project, fits only `*`.
    pub(super) fn accepts(&self, names: &[&str], proof: Proof, host: &str) -> bool {
        self.rule(names).is_some_and(|rule| rule.accepts(proof, host))
    }

    /// Whether the rule that accepts a job's token lets it write into every trace.
    pub(super) fn frees(&self, names: &[&str], host: &str) -> bool {
        let frees = |rule: &Rule| rule.traces == Traces::Any && rule.accepts(Proof::Oidc, host);
        self.rule(names).is_some_and(frees)
    }

    /// The first rule that fits one of a project's names.
    fn rule(&self, names: &[&str]) -> Option<&Rule> {
        self.0.iter().find(|rule| names.iter().any(|name| rule.projects.matches(name)))
    }
}

impl Rule {
    fn accepts(&self, proof: Proof, host: &str) -> bool {
        let accepted = |it: &Accepted| {
            it.proof == proof && it.host.as_ref().is_none_or(|it| it.eq_ignore_ascii_case(host))
        };
        self.by.iter().any(accepted)
    }
}

impl Accepted {
    fn parse(text: &str) -> Option<Self> {
        let (name, host) = match text.trim().split_once(':') {
            Some((name, host)) => (name, Some(host.to_owned())),
            None => (text.trim(), None),
        };
        let all = [Proof::Oidc, Proof::Signature, Proof::Bearer, Proof::None];
        let proof = all.into_iter().find(|it| it.as_str() == name)?;
        (host.is_none() || proof == Proof::Oidc).then_some(Self { proof, host })
    }
}

/// Reads `ACCESS` for [`crate::live::Live`].
pub(super) fn access(variable: &'static Variable, text: &str) -> Result<Access, LiveError> {
    Access::parse(text).map_err(|error| variable.invalid_with(error.expected()).into())
}
