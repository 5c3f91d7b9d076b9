//! AWS Lambda function: span messages from SQS to an OpenTelemetry Collector.

use std::process::ExitCode;

use lambda_runtime::service_fn;
use spanhook_service::{settings::environment, startup, telemetry::init_logs};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let vars = environment();
    init_logs(&vars);
    let forwarder = match startup::forwarder(&vars).await {
        Ok(forwarder) => forwarder,
        Err(error) => return startup::refuse(&error),
    };
    let handle = service_fn(|event| forwarder.handle(event));
    startup::exit_code(lambda_runtime::run(handle).await)
}
