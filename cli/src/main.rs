//! `spanhook`: the whole pipeline in one process, and the tools around it.

mod check;
mod ci;
mod demo;
mod event;
mod exec;
mod forwarding;
mod inspect;
mod logs;
mod redeliver;
mod redrive;
mod report;
mod samples;
mod send;
mod serve;
mod stats;
mod store;
mod terminal;
mod traceparent;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// CI webhooks in, OpenTelemetry traces out
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive webhooks, keep them safe and forward their spans, all in one process
    Serve(serve::Serve),
    /// Show the whole way with sample deliveries, in the terminal and on a local page
    Demo(demo::Demo),
    /// Sign deliveries and post them as a provider would
    Send(send::Send),
    /// Print the trace context of a job, as the endpoint would
    Traceparent(traceparent::Traceparent),
    /// Show what queue and dead-letter messages hold
    Inspect(inspect::Inspect),
    /// Put dead letters back into the queue, those that can be mapped by now included
    Redrive(redrive::Redrive),
    /// Have GitHub send again what did not arrive
    Redeliver(redeliver::Redeliver),
    /// Check the settings, and with a URL a deployment, hop by hop
    Check(check::Check),
    /// Post what a job knows of its build: how it ended, sizes, numbers, moments
    Event(event::Event),
    /// Post the sizes and the compile time of a bundler's build
    Stats(stats::Stats),
    /// Run a command as a span of the running job
    Exec(exec::Exec),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(command) => command.run().await,
        Command::Demo(command) => command.run().await,
        Command::Send(command) => command.run().await,
        Command::Traceparent(command) => command.run().await,
        Command::Inspect(command) => command.run().await,
        Command::Redrive(command) => command.run().await,
        Command::Redeliver(command) => command.run().await,
        Command::Check(command) => command.run().await,
        Command::Event(command) => command.run().await,
        Command::Stats(command) => command.run().await,
        // Its exit code is that of the command it ran.
        Command::Exec(command) => return command.run().await,
    };
    terminal::exit_code(result)
}
