//! A trace as a waterfall in the terminal.

use std::fmt::Write;

use spanhook_core::semconv::RunResult;

use super::{Row, Trace, duration, not_run, role::Role};
use crate::terminal::printable;

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const BLUE: &str = "\x1b[34m";

/// Draws a trace on `width` columns.
#[must_use]
pub(crate) fn render(trace: &Trace, width: usize, color: bool) -> String {
    let width = width.clamp(60, 200);
    let names = (width / 3).clamp(20, 44);
    // A blank, the duration, the symbol and the blanks around them; at least ten columns of bars.
    let rest = width - names - 16;
    let longest = trace.spans.iter().map(|row| row.error.chars().count() + 1).max().unwrap_or(1);
    let errors = if longest == 1 { 0 } else { longest.min(24).min(rest - 10) };
    let canvas = Canvas {
        color,
        width,
        names,
        bars: rest - errors,
        errors,
        start: trace.summary.start,
        span: trace.summary.end.saturating_sub(trace.summary.start).max(1),
    };
    let mut text = canvas.header(trace);
    text += &trace.spans.iter().map(|row| canvas.row(row)).collect::<String>();
    // Last, as they have no place in time. Some jobs that never ran have a row of their own.
    let above = trace.spans.iter().filter(|row| row.role != Role::Job);
    for (name, reason) in above.flat_map(|row| &row.events).filter_map(not_run) {
        let name = clip(&format!("  – {}", printable(name)), names);
        let line = format!("{} not run: {}", pad(&name, names), printable(reason));
        let line = clip(&line, width);
        let _ = writeln!(text, "{}", canvas.paint(DIM, line.trim_end()));
    }
    for measure in &trace.measures {
        let _ = writeln!(text, "  {}", clip(&printable(&measure.to_string()), width - 2));
    }
    text
}

struct Canvas {
    color: bool,
    width: usize,
    names: usize,
    bars: usize,
    /// Columns behind the bars for what went wrong.
    errors: usize,
    start: u64,
    span: u64,
}

impl Canvas {
    fn paint(&self, style: &str, text: &str) -> String {
        if self.color { format!("{style}{text}{RESET}") } else { text.to_owned() }
    }

    fn header(&self, trace: &Trace) -> String {
        let summary = &trace.summary;
        let mut about = printable(&summary.repository);
        if !summary.reference.is_empty() {
            let _ = write!(about, " @ {}", printable(&summary.reference));
        }
        if !summary.revision.is_empty() {
            let revision: String = printable(&summary.revision).chars().take(8).collect();
            let _ = write!(about, " ({revision})");
        }
        let only_jobs = trace.spans.iter().any(|row| row.role == Role::Job);
        let result = match summary.result.as_str() {
            "" if only_jobs => "jobs only so far",
            result => result,
        };
        let (symbol, style) = mark(&summary.result, summary.result != "success", false);
        // Room for an attempt, a result of up to 12 letters, and the duration.
        let title = self.paint(BOLD, &clip(&printable(&summary.pipeline), self.width - 42));
        let attempt = match summary.attempt.as_str() {
            "" | "1" => String::new(),
            attempt => format!("  attempt {}", clip(&printable(attempt), 4)),
        };
        let verdict = match result {
            "" => String::new(),
            result => self.paint(style, &format!("{symbol} {}  ", printable(result))),
        };
        let took = duration(self.span);
        let mut text = format!("{title}{attempt}  {verdict}{took}\n");
        // A trace id is 32 letters long.
        let about = clip(&about, self.width - 41);
        let id = self.paint(DIM, &format!("trace {}", summary.id));
        let _ = writeln!(text, "{}{}{id}", about, if about.is_empty() { "" } else { "   " });
        text
    }

    fn row(&self, row: &Row) -> String {
        let (symbol, style) = match row.role {
            Role::Run | Role::PipelineRun | Role::Job => {
                mark(&row.result, row.failed, row.allowed_to_fail)
            }
            Role::Marker => ("↺", DIM),
            Role::Event => ("◆", BLUE),
            _ if row.failed => ("✗", RED),
            it if it.is_wait() => (" ", DIM),
            Role::Pull => (" ", YELLOW),
            _ => (" ", BLUE),
        };
        let indent = "  ".repeat(row.depth.min(8));
        let name = pad(&clip(&format!("{indent}{}", printable(&row.name)), self.names), self.names);
        let name = if matches!(row.role, Role::Run | Role::PipelineRun | Role::Stage) {
            self.paint(BOLD, &name)
        } else {
            name
        };
        let (before, waited, bar) = self.bar(row);
        let bar = format!(
            "{}{}{}",
            " ".repeat(before),
            self.paint(DIM, &"░".repeat(waited)),
            self.paint(style, &bar.0)
        ) + &" ".repeat(self.bars.saturating_sub(before + waited + bar.1));
        let error = if row.error.is_empty() {
            String::new()
        } else {
            format!(" {}", printable(&row.error))
        };
        // What did not run has a place in time, and no duration.
        let took = if row.role.is_moment() {
            String::new()
        } else if row.result == RunResult::Skip.as_str() {
            "skipped".to_owned()
        } else {
            duration(row.end - row.start)
        };
        let took = format!("{took:>12}");
        let line = format!(
            "{name} {bar} {took} {}{}",
            self.paint(style, symbol),
            self.paint(style, &clip(&error, self.errors))
        );
        format!("{}\n", line.trim_end())
    }

    /// Columns before the bar, columns of waiting, and the bar with its width. Its right end is
    /// drawn in eighths of a column, and it is never narrower than one of them.
    fn bar(&self, row: &Row) -> (usize, usize, (String, usize)) {
        let eighths = |time: u64| {
            let total = u128::from(self.bars as u64) * 8;
            let at = u128::from(time.saturating_sub(self.start)) * total / u128::from(self.span);
            usize::try_from(at).unwrap_or(0).min(self.bars * 8)
        };
        let begins = (eighths(row.start) / 8).min(self.bars - 1);
        let ends = eighths(row.end).max(begins * 8 + 1);
        let waits = if row.queued == 0 { begins } else { (eighths(row.queued) / 8).min(begins) };
        let (full, rest) = ((ends - begins * 8) / 8, (ends - begins * 8) % 8);
        if row.role.is_wait() {
            let width = full + usize::from(rest > 0);
            return (waits, begins - waits, ("░".repeat(width), width));
        }
        let mut bar = "█".repeat(full);
        if rest > 0 {
            bar.push(['▏', '▎', '▍', '▌', '▋', '▊', '▉'][rest - 1]);
        }
        (waits, begins - waits, (bar, full + usize::from(rest > 0)))
    }
}

fn mark(result: &str, failed: bool, allowed: bool) -> (&'static str, &'static str) {
    match result {
        "success" => ("✓", GREEN),
        _ if allowed && failed => ("!", YELLOW),
        "timeout" => ("⧖", RED),
        "cancellation" => ("⏹", YELLOW),
        "skip" => ("–", DIM),
        "failure" | "error" => ("✗", RED),
        _ => ("·", BLUE),
    }
}

fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.chars().count())))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use spanhook_core::{
        delivery::{Delivery, Outcome},
        provider::Provider,
        rules::ProjectRules,
        settings::Settings,
    };

    use spanhook_service::queue::Received;

    use super::{super::traces, *};

    const FAILED: &str = include_str!("../../../../events/gitlab/pipeline-failed.json");

    fn trace(deliveries: &[&str]) -> Trace {
        let samples = Provider::ALL.map(Provider::samples);
        let vars = samples.iter().flat_map(|it| it.settings);
        let vars = vars.map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let (settings, rules) = (Settings::parse(&vars).unwrap(), ProjectRules::default());
        let messages = |body: &&str| {
            let provider = Provider::of_payload(&serde_json::from_str(body).unwrap()).unwrap();
            let delivery = Delivery { headers: &HeaderMap::new(), body: body.as_bytes() };
            match delivery.process(provider, &settings, &rules) {
                Outcome::Accepted(accepted) => accepted.messages,
                _ => panic!("no spans"),
            }
        };
        let messages: Vec<_> = deliveries.iter().flat_map(messages).collect();
        // Twice, as a queue may deliver.
        let twice = messages.iter().chain(&messages).cloned().map(|it| Received {
            body: it.body,
            attributes: it.attributes,
            ..Received::default()
        });
        let mut found = traces(twice);
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    #[test]
    fn a_failed_pipeline_is_drawn_with_stages_queue_times_and_what_did_not_run() {
        insta::assert_snapshot!(render(&trace(&[FAILED]), 100, false));
    }

    #[test]
    fn a_failed_run_is_drawn_with_the_steps_below_their_jobs() {
        let run = trace(&[
            include_str!("../../../../events/github/workflow-job-build.json"),
            include_str!("../../../../events/github/workflow-job-test-failed.json"),
            include_str!("../../../../events/github/workflow-job-deploy-skipped.json"),
            include_str!("../../../../events/github/workflow-run-failed.json"),
        ]);
        insta::assert_snapshot!(render(&run, 100, false));
    }

    #[test]
    fn a_rerun_is_drawn_with_its_attempt_and_the_job_that_it_took_over() {
        let run = trace(&[
            include_str!("../../../../events/github/workflow-job-build-reused.json"),
            include_str!("../../../../events/github/workflow-job-test-attempt-2.json"),
            include_str!("../../../../events/github/workflow-job-deploy-attempt-2.json"),
            include_str!("../../../../events/github/workflow-run-attempt-2.json"),
        ]);
        insta::assert_snapshot!(render(&run, 100, false));
    }

    /// A run of a cluster by all that tell of it.
    const CLUSTER: [&str; 3] = [
        include_str!("../../../../events/kubernetes/batch-of-a-pull-request.json"),
        include_str!("../../../../events/tekton/taskrun-of-a-pull-request.json"),
        include_str!("../../../../events/lighthouse/pull-request-that-starts-a-run.json"),
    ];

    #[test]
    fn a_run_of_a_cluster_is_drawn_from_the_event_to_pulls_and_steps() {
        insta::assert_snapshot!(render(&trace(&CLUSTER), 100, false));
    }

    #[test]
    fn a_ping_is_told_as_one_and_has_no_result() {
        for body in [
            include_str!("../../../../events/circleci/ping.json"),
            include_str!("../../../../events/github/ping.json"),
        ] {
            let trace = trace(&[body]);
            assert_eq!((trace.summary.role, &*trace.summary.result), (Role::Ping, ""));
            let text = render(&trace, 100, false);
            assert!(text.starts_with("ping") && !text.contains("·"), "{text}");
            assert!(
                text.lines().all(|it| !it.ends_with("0 ms") || it.starts_with("ping  0 ms")),
                "{text}"
            );
        }
        assert_eq!(trace(&[FAILED]).summary.role, Role::Run);
    }

    #[test]
    fn of_several_runs_of_one_event_the_one_that_failed_is_told() {
        let other = CLUSTER[0]
            .replace("acme-shop-pr-57-pr-m4t8q", "acme-shop-pr-57-integration-q8t4m")
            .replace(r#"/job": "pr""#, r#"/job": "integration""#)
            .replace(r#""state": "failure""#, r#""state": "success""#);
        let both = trace(&[&other, CLUSTER[0], CLUSTER[2]]).summary;
        assert_eq!((&*both.pipeline, &*both.result), ("integration, pr", "failure"));
        assert_eq!(both.reference, "#57");
    }

    #[test]
    fn nothing_in_a_name_steers_the_terminal() {
        let body = FAILED.replace("integration", "\\u001b[2J\\u0007evil\\r\\n\\u009b");
        let text = render(&trace(&[&body]), 80, false);
        assert!(text.lines().all(|line| !line.contains(char::is_control)), "{text:?}");
        assert!(text.contains("evil"));
    }

    #[test]
    fn every_line_fits_the_terminal() {
        let trace = trace(&[FAILED]);
        for width in [60, 80, 100, 140] {
            let text = render(&trace, width, false);
            let longest = text.lines().skip(2).map(|line| line.chars().count()).max().unwrap();
            // An error type may stand behind the bars.
            assert!(longest <= width, "{longest} columns of {width}");
        }
    }
}
