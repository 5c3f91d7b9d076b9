//! AWS Lambda function: Lighthouse's deliveries to span messages in SQS.

use std::process::ExitCode;

use spanhook_core::provider::Provider;
use spanhook_service::{settings::environment, startup, telemetry::init_logs};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let vars = environment();
    init_logs(&vars);
    let service = match startup::webhook(&vars, Provider::Lighthouse).await {
        Ok(service) => service,
        Err(error) => return startup::refuse(&error),
    };
    startup::exit_code(lambda_http::run(service).await)
}
