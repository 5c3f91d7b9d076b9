//! What is told of it.

use jiff::Timestamp;

use super::plan::{Attempt, Plan};
use crate::terminal::printable;

/// What was done.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) since: Timestamp,
    pub(super) plan: &'a Plan,
    /// The name of the repository, where all are of one.
    pub(super) repository: Option<&'a str>,
    /// None when it was only to be said what would be done.
    pub(super) done: Option<Done<'a>>,
}

/// What GitHub was asked for.
#[derive(Debug, Default)]
pub(super) struct Done<'a> {
    /// How many it will send again.
    pub(super) asked: usize,
    /// Those that it will not, with its words.
    pub(super) refused: Vec<(&'a Attempt, String)>,
}

impl Report<'_> {
    pub(super) fn render(&self) -> String {
        let plan = self.plan;
        let mut text = match &self.done {
            None if plan.again.is_empty() => String::new(),
            None => {
                let head = "Nothing was asked for. Without --dry-run these are sent again:\n\n";
                plan.again.iter().fold(format!("{head}{HEAD}"), |text, it| text + &self.row(it))
            }
            Some(done) if done.refused.is_empty() => String::new(),
            Some(done) => {
                let rows = done
                    .refused
                    .iter()
                    .map(|(it, why)| format!("{}    because {}\n", self.row(it), printable(why)));
                format!("GitHub does not send these again:\n\n{HEAD}{}", rows.collect::<String>())
            }
        };
        if !text.is_empty() {
            text += "\n";
        }
        let total = plan.arrived + plan.spared + plan.again.len();
        text += &format!("{total:>8} deliveries of jobs and runs since {}\n", self.since);
        let mut line = |count: usize, what: &str| {
            if count > 0 {
                text += &format!("{count:>8} {what}\n");
            }
        };
        line(plan.arrived, "arrived");
        line(plan.spared, "failed, and are left: they give no span");
        match &self.done {
            None => line(plan.again.len(), "failed, and would be sent again"),
            Some(done) => {
                line(done.asked, "failed, and GitHub sends them again");
                line(done.refused.len(), "failed, and GitHub refuses to send them again");
                let rest = plan.again.len() - done.asked - done.refused.len();
                line(rest, "failed, and were not asked for");
            }
        }
        text
    }

    /// When, how it ended, what, where, which.
    fn row(&self, it: &Attempt) -> String {
        let status = match it.status_code {
            Some(code) if code > 0 => code.to_string(),
            _ => it.status.clone(),
        };
        let event = format!("{} {}", it.event, it.action.as_deref().unwrap_or_default());
        let repository = match (self.repository, it.repository_id) {
            (Some(name), _) => name.to_owned(),
            (None, id) => id.map(|it| it.to_string()).unwrap_or_default(),
        };
        let time = it.delivered_at.strftime("%Y-%m-%dT%H:%M:%SZ");
        let line = format!("{time}  {status:<9}  {event:<22}  {repository:<12}  {}", it.guid);
        format!("{}\n", printable(&line))
    }
}

const HEAD: &str =
    "delivered             status     event                   repository    delivery\n";
