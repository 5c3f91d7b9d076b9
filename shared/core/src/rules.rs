//! Which projects' runs are kept, and which share of them.
//!
//! The decision is a function of the rules, the project and the trace id, so every delivery of a
//! run and its traceparent come to the same one, wherever they are judged.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;
use wildmatch::WildMatch;

use crate::{
    id::{TraceId, TraceIds},
    otlp::Telemetry,
    project::Project,
    settings::PROJECT_RULES,
};

/// Rules of projects, as `PROJECT_RULES` holds them. The default keeps everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProjectRules {
    allow: Vec<WildMatch>,
    deny: Vec<WildMatch>,
    /// The longest pattern first: it is the one that says most.
    share: Vec<(WildMatch, f64)>,
}

/// Rules that can't be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{}", self.expected())]
pub enum BadRules {
    /// It is not the JSON object that it should be.
    Shape,
    /// A share outside 0 to 1.
    Share,
    /// A pattern that no name of a project fits, and so a rule that would never hold.
    Pattern,
}

impl BadRules {
    /// What to type instead.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Self::Shape => PROJECT_RULES.expected,
            Self::Pattern => {
                "use paths of projects, such as acme/shop or gitlab.example.com/acme/*, without a scheme and without a slash at an end"
            }
            Self::Share => "use shares from 0 (none) to 1 (all)",
        }
    }
}

/// What the rules say of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Its spans are emitted.
    Keep,
    /// Its project is on the deny list, or not on the allow list.
    Denied,
    /// It is not in its project's share.
    NotSampled,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    allow: Vec<String>,
    deny: Vec<String>,
    share: BTreeMap<String, f64>,
}

impl ProjectRules {
    /// Reads `{"allow": [pattern], "deny": [pattern], "share": {pattern: number}}`, every part
    /// optional. A pattern is a project's name with `*` for any text and `?` for one character,
    /// in upper or lower case.
    pub fn parse(text: &str) -> Result<Self, BadRules> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        // A list would be read as the fields in their order.
        if !text.starts_with('{') {
            return Err(BadRules::Shape);
        }
        let written: Written = serde_json::from_str(text).map_err(|_| BadRules::Shape)?;
        if !written.share.values().all(|share| (0.0..=1.0).contains(share)) {
            return Err(BadRules::Share);
        }
        let Written { allow, deny, share } = &written;
        if !allow.iter().chain(deny).chain(share.keys()).all(|it| may_fit(it)) {
            return Err(BadRules::Pattern);
        }
        let patterns = |list: Vec<String>| list.iter().map(|it| pattern(it)).collect();
        let mut share: Vec<_> = written.share.into_iter().collect();
        share.sort_by_key(|(text, _)| Reverse(text.len()));
        Ok(Self {
            allow: patterns(written.allow),
            deny: patterns(written.deny),
            share: share.into_iter().map(|(text, share)| (pattern(&text), share)).collect(),
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Judges a run. Of no project, as a caller of the traceparent endpoint may leave it, only what
    /// is said of `*` counts.
    ///
    /// The share is decided as OpenTelemetry's consistent probability samplers do: on the last 56
    /// bits of the trace id, so a Collector that samples on keeps a subset of the same runs. Ids
    /// in the provider's own form are not random there, and are hashed first.
    /// <https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/>
    #[must_use]
    pub fn decide(&self, project: Option<&Project>, trace: TraceId, ids: TraceIds) -> Decision {
        let names = names(project);
        if !self.allows(&names) {
            return Decision::Denied;
        }
        self.sample(&names, trace, ids)
    }

    /// Whether a project is traced at all; one that is not known only where every one is.
    #[must_use]
    pub fn admit(&self, project: &Project) -> bool {
        self.allows(&names(Some(project)))
    }

    fn allows(&self, names: &[String]) -> bool {
        let any = |patterns: &[WildMatch]| patterns.iter().any(|it| fits(it, names));
        let allowed = names.is_empty() || self.allow.is_empty() || any(&self.allow);
        allowed && !any(&self.deny)
    }

    fn sample(&self, names: &[String], trace: TraceId, ids: TraceIds) -> Decision {
        match self.share.iter().find(|(pattern, _)| fits(pattern, names)) {
            Some((_, share)) if !sampled(*share, trace, ids) => Decision::NotSampled,
            _ => Decision::Keep,
        }
    }

    /// Takes from what one project gave the runs that are not kept, and says whether there is
    /// something left. A project that is switched off gives nothing; of one that is sampled all
    /// metrics and logs are kept: they are few, and a share of them would be no measurement.
    pub fn keep(&self, telemetry: &mut Telemetry<'_>, ids: TraceIds) -> Decision {
        if self.is_empty() {
            return Decision::Keep;
        }
        let names = names(Some(&telemetry.project));
        if !self.allows(&names) {
            return Decision::Denied;
        }
        let sampled = |id| self.sample(&names, id, ids) == Decision::Keep;
        telemetry.traces.retain(|trace| sampled(trace.id));
        let Telemetry { traces, metrics, logs, .. } = telemetry;
        if traces.is_empty() && metrics.is_empty() && logs.is_empty() {
            return Decision::NotSampled;
        }
        Decision::Keep
    }
}

/// A project that is not known to the sender has an empty name, which only fits what fits
/// everything.
fn names(project: Option<&Project>) -> Vec<String> {
    match project {
        None => Vec::new(),
        Some(project) if project.is_unknown() => vec![String::new()],
        Some(project) => project.names().collect(),
    }
}

/// Whether one of the names fits; without a name only what fits everything does.
fn fits(pattern: &WildMatch, names: &[String]) -> bool {
    match names {
        [] => pattern.matches(""),
        names => names.iter().any(|name| pattern.matches(name)),
    }
}

/// Whether a project may have a name that fits.
fn may_fit(pattern: &str) -> bool {
    let text = pattern.trim();
    let slash = text.starts_with('/') || text.ends_with('/');
    !text.is_empty() && !slash && !text.contains("://")
}

fn pattern(text: &str) -> WildMatch {
    WildMatch::new_case_insensitive(text.trim())
}

/// Whether the last 56 bits of the id reach the threshold of the share: the specification keeps
/// what is not below it.
fn sampled(share: f64, trace: TraceId, ids: TraceIds) -> bool {
    const ALL: u64 = 1 << 56;
    let mut bytes = *trace.as_bytes();
    if ids == TraceIds::Native {
        let digest = Sha256::digest(bytes);
        bytes.copy_from_slice(&digest[..16]);
    }
    let randomness = bytes[9..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a share is 0 to 1, so this is 0 to 2^56"
    )]
    let threshold = ((1.0 - share) * ALL as f64) as u64;
    randomness >= threshold
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        job::{Claim, Job},
        provider::Provider,
        settings::Settings,
    };
    use proptest::prelude::*;

    fn trace(last: u64) -> TraceId {
        let mut bytes = [0xAB; 16];
        bytes[8..].copy_from_slice(&last.to_be_bytes());
        TraceId::new(bytes).unwrap()
    }

    fn rules(text: &str) -> ProjectRules {
        ProjectRules::parse(text).unwrap()
    }

    #[test]
    fn lists_and_shares_decide_by_the_projects_name() {
        let rules = rules(
            r#"{"allow": ["acme/*", "widgets/site"], "deny": ["acme/Secret-*"],
                "share": {"*": 0, "acme/shop": 1, "acme/s*": 0}}"#,
        );
        for (project, expected) in [
            ("acme/shop", Decision::Keep),
            ("ACME/Shop", Decision::Keep),
            ("acme/site", Decision::NotSampled),
            ("acme/secret-plans", Decision::Denied),
            ("widgets/site", Decision::NotSampled),
            ("widgets/sites", Decision::Denied),
            ("", Decision::Denied),
        ] {
            let decision = rules.decide(Some(&Project::named(project)), trace(1), TraceIds::Hashed);
            assert_eq!(decision, expected, "{project}");
        }
    }

    #[test]
    fn a_pattern_fits_a_whole_path_with_or_without_its_scope() {
        let shop = Project::new("gitlab.example.com", "acme/web/shop");
        for (pattern, expected) in [
            ("web/*", Decision::Keep),
            ("shop", Decision::Keep),
            ("*/web/shop", Decision::Denied),
            ("acme/*", Decision::Denied),
            ("gitlab.example.com/*", Decision::Denied),
        ] {
            let rules = rules(&format!(r#"{{"deny": ["{pattern}"]}}"#));
            assert_eq!(
                rules.decide(Some(&shop), trace(1), TraceIds::Hashed),
                expected,
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_caller_that_names_no_project_is_judged_by_everyones_share() {
        let decide = |text| rules(text).decide(None, trace(1), TraceIds::Hashed);
        assert_eq!(decide(r#"{"allow": ["acme/*"], "deny": ["*"]}"#), Decision::Denied);
        assert_eq!(decide(r#"{"allow": ["acme/*"], "deny": ["acme/x"]}"#), Decision::Keep);
        assert_eq!(decide(r#"{"share": {"*": 0, "acme/*": 1}}"#), Decision::NotSampled);
        assert_eq!(decide(r#"{"share": {"acme/*": 0}}"#), Decision::Keep);
    }

    #[test]
    fn the_share_follows_the_specifications_threshold() {
        // `th:8` is a half: kept is what has the first of the 56 bits set.
        let half = rules(r#"{"share": {"*": 0.5}}"#);
        let decide =
            |last| half.decide(Some(&Project::named("a/b")), trace(last), TraceIds::Hashed);
        assert_eq!(decide(0x0080_0000_0000_0000), Decision::Keep);
        assert_eq!(decide(0xFFFF_FFFF_FFFF_FFFF), Decision::Keep);
        assert_eq!(decide(0xFF7F_FFFF_FFFF_FFFF), Decision::NotSampled);
        assert_eq!(decide(0), Decision::NotSampled);
    }

    #[test]
    fn rules_that_can_not_be_used_are_refused() {
        for (text, expected) in [
            ("acme/*", BadRules::Shape),
            ("[]", BadRules::Shape),
            (r#"{"denied": []}"#, BadRules::Shape),
            (r#"{"deny": "acme/*"}"#, BadRules::Shape),
            (r#"{"share": 0.5}"#, BadRules::Shape),
            (r#"{"deny": [""]}"#, BadRules::Pattern),
            (r#"{"deny": ["acme/shop/"]}"#, BadRules::Pattern),
            (r#"{"allow": ["https://gitlab.com/acme/*"]}"#, BadRules::Pattern),
            (r#"{"share": {"/acme": 1}}"#, BadRules::Pattern),
            (r#"{"share": {"*": 1.5}}"#, BadRules::Share),
            (r#"{"share": {"*": -0.1}}"#, BadRules::Share),
        ] {
            assert_eq!(ProjectRules::parse(text), Err(expected), "{text}");
        }
        assert!(rules(" ").is_empty() && rules("{}").is_empty());
    }

    proptest! {
        #[test]
        fn all_and_nothing_are_exact(last: u64, native: bool) {
            let ids = if native { TraceIds::Native } else { TraceIds::Hashed };
            let decide = |text| rules(text).decide(Some(&Project::named("a/b")), trace(last), ids);
            prop_assert_eq!(decide(r#"{"share": {"*": 1}}"#), Decision::Keep);
            prop_assert_eq!(decide(r#"{"share": {"*": 0}}"#), Decision::NotSampled);
        }

        #[test]
        fn a_larger_share_keeps_what_a_smaller_one_kept(last: u64, a in 0.0..1.0, b in 0.0..1.0) {
            let keeps = |share: f64| {
                let rules = rules(&format!(r#"{{"share": {{"*": {share}}}}}"#));
                rules.decide(Some(&Project::named("a/b")), trace(last), TraceIds::Hashed) == Decision::Keep
            };
            prop_assert!(!keeps(f64::min(a, b)) || keeps(f64::max(a, b)));
        }
    }

    #[test]
    fn the_share_is_a_share_of_runs_with_hashed_and_with_native_ids() {
        let tenth = rules(r#"{"share": {"*": 0.1}}"#);
        for ids in [TraceIds::Hashed, TraceIds::Native] {
            let settings = Settings { trace_ids: ids, ..Settings::default() };
            let kept = (1..=20_000_u64)
                .filter(|run| {
                    let claim = Claim { run_id: Some(run.to_string()), ..Claim::default() };
                    let job = Job::new(Provider::Gitlab, &claim).unwrap();
                    let id = job.place(&settings).trace;
                    tenth.decide(Some(&Project::named("a/b")), id, ids) == Decision::Keep
                })
                .count();
            assert!((1_850..2_150).contains(&kept), "{ids:?}: {kept}");
        }
    }
}
