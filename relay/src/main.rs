//! `spanhook-relay`: tells spanhook what has ended in a cluster.

use std::process::ExitCode;

use relay::{
    options::Options,
    relay::{Relay, init_logs, until_signal},
};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::read().with_environment();
    init_logs();
    match Relay::start(options).await {
        Ok(relay) => {
            until_signal().await;
            relay.stop().await;
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
