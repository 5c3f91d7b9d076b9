//! What those use who run the pipeline.

mod check;
mod inspect;
mod progress;
pub(crate) mod redeliver;
mod redrive;
pub(crate) mod send;

use clap::Subcommand;

use crate::terminal::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign deliveries and post them as a provider would
    Send(send::Send),
    /// Show what queue and dead-letter messages hold
    Inspect(inspect::Inspect),
    /// Put dead letters back into the queue, those that can be mapped by now included
    Redrive(redrive::Redrive),
    /// Have GitHub send again what did not arrive
    Redeliver(redeliver::Redeliver),
    /// Check the settings, and with a URL a deployment, hop by hop
    Check(check::Check),
}

impl Command {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Send(command) => command.run().await,
            Self::Inspect(command) => command.run().await,
            Self::Redrive(command) => command.run().await,
            Self::Redeliver(command) => command.run().await,
            Self::Check(command) => command.run().await,
        }
    }
}
