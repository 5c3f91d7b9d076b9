//! Which part of the way a process goes.

use clap::ValueEnum;
use spanhook_core::settings::{SettingsError, Variable, Vars};
use spanhook_service::{export::ENDPOINT, settings::QUEUE_URL};

use super::queue::is_shared;

/// `SPANHOOK_ROLE`
pub(crate) static ROLE: Variable = Variable::new(
    "SPANHOOK_ROLE",
    "all",
    "use all, receive or forward",
    "what a process does, as `--role`: `receive` webhooks, `forward` spans, or `all` of it; but for `all` it needs `QUEUE_URL`",
);

/// What a process does of it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Receive and forward
    All,
    /// Take webhooks, build events and questions for trace contexts
    Receive,
    /// Send spans to the Collector
    Forward,
}

impl Role {
    pub(crate) fn parse(vars: &Vars) -> Result<Self, SettingsError> {
        let words = [("all", Self::All), ("receive", Self::Receive), ("forward", Self::Forward)];
        ROLE.one_of(vars, words)
    }

    pub(super) fn receives(self) -> bool {
        self != Self::Forward
    }

    pub(super) fn forwards(self) -> bool {
        self != Self::Receive
    }

    /// Half of the way needs somebody who goes the other half; and what several processes share is
    /// shown by none of them.
    pub(crate) fn check(self, vars: &Vars, has_target: bool) -> Result<(), SettingsError> {
        if !is_shared(vars) && self != Self::All {
            return Err(QUEUE_URL.missing_with(
                "set it to the URL of the SQS queue that receivers and forwarders share, or use --role all",
            ));
        }
        if is_shared(vars) && self.forwards() && !has_target {
            return Err(ENDPOINT.missing_with(
                "set it to the Collector's address, such as http://collector:4318: with QUEUE_URL there is no page of traces",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_role_needs_is_said() {
        let queue = Some("https://sqs.eu-west-1.amazonaws.com/1/spans");
        for (role, queue, target, expected) in [
            (Role::All, None, false, ""),
            (Role::All, None, true, ""),
            (Role::Receive, None, true, "QUEUE_URL is not set"),
            (Role::Forward, None, true, "QUEUE_URL is not set"),
            (Role::All, queue, true, ""),
            (Role::All, queue, false, "OTEL_EXPORTER_OTLP_ENDPOINT is not set"),
            (Role::Receive, queue, false, ""),
            (Role::Receive, queue, true, ""),
            (Role::Forward, queue, false, "OTEL_EXPORTER_OTLP_ENDPOINT is not set"),
            (Role::Forward, queue, true, ""),
        ] {
            let vars = queue.map(|url| ("QUEUE_URL".to_owned(), url.to_owned()));
            let said = role.check(&vars.into_iter().collect(), target);
            let said = said.err().map(|it| it.to_string()).unwrap_or_default();
            assert!(
                if expected.is_empty() { said.is_empty() } else { said.starts_with(expected) },
                "{role:?} {queue:?} {target}: {said}"
            );
        }
    }

    #[test]
    fn a_role_is_read_from_its_variable() {
        let read = |text: &str| Role::parse(&[(ROLE.name.to_owned(), text.to_owned())].into());
        assert_eq!(Role::parse(&Vars::new()), Ok(Role::All));
        assert_eq!(read("receive"), Ok(Role::Receive));
        assert_eq!(read("forward"), Ok(Role::Forward));
        assert_eq!(read("both"), Err(ROLE.invalid()));
    }
}
