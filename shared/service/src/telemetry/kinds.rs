//! The deliveries that are worth a line in the log while all is well: at the default level whoever sets up
//! a webhook sees that it arrives, and nobody pays for a line a delivery.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// How many kinds are told of. A provider has a dozen; who may sign may also make names up.
const MOST: usize = 64;

/// The longest name of a kind, in bytes.
const LONGEST: usize = 80;

/// What CI systems call the event of the button in their dialogs.
const PING: &str = "ping";

/// The kinds of deliveries that this process has told of.
#[derive(Debug, Default)]
pub(super) struct Kinds(Mutex<BTreeSet<String>>);

impl Kinds {
    /// Says in the log that a proved delivery arrived and what became of it, if it is the first of
    /// its kind or a ping. `kind` is what its header says: the proof does not cover that.
    pub(super) fn tell(&self, provider: &str, kind: &str, outcome: &str, spans: usize) {
        let kind = Self::name(kind);
        let ping = kind.eq_ignore_ascii_case(PING);
        if ping {
            tracing::info!(provider, kind, outcome, spans, "a ping arrived");
        } else if self.is_first(provider, kind) {
            tracing::info!(
                provider,
                kind,
                outcome,
                spans,
                "first delivery of its kind since the start"
            );
        }
    }

    fn is_first(&self, provider: &str, kind: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < MOST && told.insert(format!("{provider} {kind}"))
    }

    /// A name as providers write them; of anything else the log says only that it is something else.
    fn name(kind: &str) -> &str {
        let plain = |it: u8| it.is_ascii_alphanumeric() || b" -_./:+".contains(&it);
        match kind {
            "" => "unnamed",
            kind if kind.len() <= LONGEST && kind.bytes().all(plain) => kind,
            _ => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_of_once_for_each_provider() {
        let kinds = Kinds::default();
        let told = [
            ("gitlab", "Pipeline Hook"),
            ("gitlab", "Job Hook"),
            ("gitlab", "Pipeline Hook"),
            ("github", "Job Hook"),
        ]
        .map(|(provider, kind)| kinds.is_first(provider, kind));
        assert_eq!(told, [true, true, false, true]);
    }

    #[test]
    fn made_up_names_fill_neither_memory_nor_log() {
        let kinds = Kinds::default();
        let told = (0..1000).filter(|it| kinds.is_first("github", &it.to_string())).count();
        assert_eq!(told, MOST);
        let long = "x".repeat(LONGEST + 1);
        let names =
            ["", "workflow_job", "dev.tekton.event.taskrun.started.v1", "a\"b", "a\nb", "ä", &long]
                .map(Kinds::name);
        assert_eq!(
            names,
            [
                "unnamed",
                "workflow_job",
                "dev.tekton.event.taskrun.started.v1",
                "other",
                "other",
                "other",
                "other"
            ]
        );
    }
}
