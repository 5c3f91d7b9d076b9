//! What a CI job uses: it tells of its build, and never fails because of it.

pub(crate) mod ci;
mod event;
mod exec;
pub(crate) mod report;
mod stats;
mod traceparent;

use std::process::ExitCode;

use clap::Subcommand;

use crate::terminal::exit_code;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Post what a job knows of its build: how it ended, sizes, numbers, moments
    Event(event::Event),
    /// Post the sizes and the compile time of a bundler's build
    Stats(stats::Stats),
    /// Run a command as a span of the running job
    Exec(exec::Exec),
    /// Print the trace context of a job, as the endpoint would
    Traceparent(traceparent::Traceparent),
}

impl Command {
    pub(crate) async fn run(self) -> ExitCode {
        match self {
            Self::Event(command) => exit_code(command.run().await),
            Self::Stats(command) => exit_code(command.run().await),
            Self::Traceparent(command) => exit_code(command.run()),
            // Its exit code is that of the command it ran.
            Self::Exec(command) => command.run().await,
        }
    }
}
