//! AWS Lambda function: what jobs and providers export as OTLP, to messages in SQS.

use std::process::ExitCode;

use spanhook_service::{settings::environment, startup, telemetry::init_logs};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let vars = environment();
    init_logs(&vars);
    let service = match startup::otlp(&vars).await {
        Ok(service) => service,
        Err(error) => return startup::refuse(&error),
    };
    startup::exit_code(lambda_http::run(service).await)
}
