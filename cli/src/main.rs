//! `spanhook`: the whole pipeline in one process, and the tools around it.

mod help;
mod job;
#[cfg(feature = "pipeline")]
mod operate;
#[cfg(feature = "pipeline")]
mod serve;
#[cfg(test)]
#[cfg(feature = "pipeline")]
mod settings;
mod terminal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// CI webhooks in, OpenTelemetry traces out
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100, help_template = help::template())]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// One room for each audience.
#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "pipeline")]
    #[command(flatten)]
    Serve(serve::Command),
    #[cfg(feature = "pipeline")]
    #[command(flatten)]
    Operate(operate::Command),
    #[command(flatten)]
    Job(job::Command),
}

#[cfg_attr(feature = "pipeline", tokio::main)]
#[cfg_attr(not(feature = "pipeline"), tokio::main(flavor = "current_thread"))]
async fn main() -> ExitCode {
    match Arguments::parse().command {
        #[cfg(feature = "pipeline")]
        Command::Serve(command) => terminal::exit_code(command.run().await),
        #[cfg(feature = "pipeline")]
        Command::Operate(command) => terminal::exit_code(command.run().await),
        Command::Job(command) => command.run().await,
    }
}
