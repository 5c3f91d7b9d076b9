//! The commands by who uses them, which clap's own list does not show.

use clap::{Command, Subcommand};

use crate::job;
#[cfg(feature = "pipeline")]
use crate::{operate, serve};

/// The template of the tool's help.
pub(crate) fn template() -> String {
    let rooms = [
        #[cfg(feature = "pipeline")]
        ("The whole pipeline in one process", commands::<serve::Command>()),
        #[cfg(feature = "pipeline")]
        ("For who runs it", commands::<operate::Command>()),
        ("In a CI job", commands::<job::Command>()),
    ];
    let rooms = rooms.map(|(title, commands)| format!("{title}:\n{commands}\n")).concat();
    format!("{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{rooms}Options:\n{{options}}")
}

/// A line for each command of a room.
fn commands<Room: Subcommand>() -> String {
    let room = Room::augment_subcommands(Command::new("spanhook"));
    let line = |it: &Command| {
        let about = it.get_about().map(ToString::to_string).unwrap_or_default();
        format!("  {:<12} {about}\n", it.get_name())
    };
    room.get_subcommands().map(line).collect()
}

#[cfg(all(test, feature = "pipeline"))]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_help_shows_three_audiences_and_every_command_once() {
        let mut tool = crate::Arguments::command();
        let help = tool.render_help().to_string();
        for command in tool.get_subcommands().filter(|it| it.get_name() != "help") {
            let line = format!("\n  {:<12} ", command.get_name());
            assert_eq!(help.matches(&line).count(), 1, "{line} in {help}");
        }
        insta::assert_snapshot!(help, @r"
        CI webhooks in, OpenTelemetry traces out

        Usage: spanhook <COMMAND>

        The whole pipeline in one process:
          serve        Receive webhooks, keep them safe and forward their spans, all in one process
          demo         Show the whole way with sample deliveries, in the terminal and on a local page

        For who runs it:
          send         Sign deliveries and post them as a provider would
          inspect      Show what queue and dead-letter messages hold
          redrive      Put dead letters back into the queue, those that can be mapped by now included
          redeliver    Have GitHub send again what did not arrive
          check        Check the settings, and with a URL a deployment, hop by hop

        In a CI job:
          event        Post what a job knows of its build: how it ended, sizes, numbers, moments
          stats        Post the sizes and the compile time of a bundler's build
          exec         Run a command as a span of the running job
          traceparent  Print the trace context of a job, as the endpoint would

        Options:
          -h, --help     Print help
          -V, --version  Print version
        ");
    }
}
