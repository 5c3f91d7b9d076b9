//! `spanhook`: the whole pipeline in one process, and the tools around it.

mod job;
mod logs;
mod operate;
mod samples;
mod serve;
mod terminal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// CI webhooks in, OpenTelemetry traces out
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// One room for each audience.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Serve(serve::Command),
    #[command(flatten)]
    Operate(operate::Command),
    #[command(flatten)]
    Job(job::Command),
}

#[tokio::main]
async fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(command) => terminal::exit_code(command.run().await),
        Command::Operate(command) => terminal::exit_code(command.run().await),
        Command::Job(command) => command.run().await,
    }
}
