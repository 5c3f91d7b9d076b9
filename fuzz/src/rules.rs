//! `PROJECT_RULES`.

use spanhook_core::{
    id::{TraceId, TraceIds},
    project::Project,
    rules::{Decision, ProjectRules},
};

use crate::cut;

/// Two lines with a project's scope and its path, then the rules.
pub fn rules(data: &[u8]) -> bool {
    let Some(([scope, path], text)) = cut::lines(data) else { return false };
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let Ok(rules) = ProjectRules::parse(text) else { return false };
    let trace = |byte| TraceId::new([byte; 16]);
    for project in [Project::new(scope, path), Project::named(path)] {
        for ids in [TraceIds::Hashed, TraceIds::Native] {
            for trace in [trace(1), trace(0x80), trace(0xff)].into_iter().flatten() {
                let decision = rules.decide(Some(&project), trace, ids);
                assert_eq!(decision, rules.decide(Some(&project), trace, ids));
                assert_eq!(decision == Decision::Denied, !rules.admit(&project));
            }
        }
    }
    // Where nobody says the project only what is said of all counts, which is said of each.
    let all = [TraceIds::Hashed, TraceIds::Native];
    let unnamed = all.map(|ids| trace(1).map(|it| rules.decide(None, it, ids)));
    if rules.is_empty() {
        assert_eq!(unnamed, [Some(Decision::Keep); 2]);
    }
    if unnamed.contains(&Some(Decision::Denied)) {
        assert!(!rules.admit(&Project::named(path)), "denied to all, but not to {path}");
    }
    !rules.is_empty()
}
