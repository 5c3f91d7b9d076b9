//! The exporter's variables: OpenTelemetry's own, and those of circleci-hook.

use spanhook_core::settings::{SettingsError, Variable, Vars, var};

/// `OTEL_EXPORTER_OTLP_ENDPOINT`
pub static ENDPOINT: Variable = Variable::new(
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "",
    "use a whole URL, such as http://collector:4318 (HTTP) or http://collector:4317 (gRPC)",
    "base URL of the Collector; `/v1/traces` is added for HTTP",
);

/// `OTEL_EXPORTER_OTLP_PROTOCOL`
pub(crate) static PROTOCOL: Variable = Variable::new(
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "http/protobuf",
    "use http/protobuf or grpc",
    "`http/protobuf` or `grpc`",
);

/// `OTEL_EXPORTER_OTLP_HEADERS`
pub static HEADERS: Variable = Variable::secret(
    "OTEL_EXPORTER_OTLP_HEADERS",
    "use name=value,name=value with values percent-encoded, one a line, or a JSON list of them",
    "`name=value,…`, percent-encoded, one a line or a JSON list",
);

/// `OTEL_EXPORTER_OTLP_COMPRESSION`
pub(crate) static COMPRESSION: Variable = Variable::new(
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "gzip",
    "use gzip, zstd or none",
    "`gzip`, `zstd` or `none`",
);

/// `OTEL_EXPORTER_OTLP_TIMEOUT`
pub(crate) static TIMEOUT: Variable = Variable::new(
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "10000",
    "use a number of milliseconds, such as 10000",
    "milliseconds a request may take",
);

/// `OTEL_EXPORTER_OTLP_CERTIFICATE`
pub(crate) static CERTIFICATE: Variable = Variable::new(
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "",
    "give the path of a PEM file",
    "PEM file with further root certificates",
);

/// `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`
pub(crate) static CLIENT_CERTIFICATE: Variable = Variable::new(
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "",
    CERTIFICATE.expected,
    "PEM file with the client's certificate",
);

/// `OTEL_EXPORTER_OTLP_CLIENT_KEY`
pub(crate) static CLIENT_KEY: Variable = Variable::new(
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "",
    CERTIFICATE.expected,
    "PEM file with its key",
);

/// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`
pub(crate) static TRACES_ENDPOINT: Variable = Variable::new(
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "",
    ENDPOINT.expected,
    "the whole URL of traces",
);

/// `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`
pub(crate) static METRICS_ENDPOINT: Variable = Variable::new(
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "",
    ENDPOINT.expected,
    "the whole URL of metrics",
);

/// `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT`
pub(crate) static LOGS_ENDPOINT: Variable = Variable::new(
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    "",
    ENDPOINT.expected,
    "the whole URL of logs",
);

/// `CIRCLECI_OTLP_ENDPOINT`
pub(crate) static HOOK_ENDPOINT: Variable = Variable::new(
    "CIRCLECI_OTLP_ENDPOINT",
    "",
    ENDPOINT.expected,
    "circleci-hook's: a gRPC endpoint; every other `CIRCLECI_OTLP_*` is a header",
);

/// circleci-hook's prefix of headers.
pub(super) const HOOK_PREFIX: &str = "CIRCLECI_OTLP_";

/// The variables of the exporter. Each general one has a form for traces too, which wins.
#[must_use]
pub fn variables() -> [&'static Variable; 12] {
    [
        &ENDPOINT,
        &TRACES_ENDPOINT,
        &METRICS_ENDPOINT,
        &LOGS_ENDPOINT,
        &PROTOCOL,
        &HEADERS,
        &COMPRESSION,
        &TIMEOUT,
        &CERTIFICATE,
        &CLIENT_CERTIFICATE,
        &CLIENT_KEY,
        &HOOK_ENDPOINT,
    ]
}

/// The value of a variable for traces, else of the general one, and which it was.
pub(super) struct Found<'v> {
    pub(super) value: &'v str,
    pub(super) name: String,
    pub(super) variable: &'static Variable,
}

impl<'v> Found<'v> {
    /// In a variable that has no form for traces.
    pub(super) fn alone(vars: &'v Vars, variable: &'static Variable) -> Option<Self> {
        Some(Self { value: variable.get(vars)?, name: variable.name.to_owned(), variable })
    }

    pub(super) fn of(vars: &'v Vars, variable: &'static Variable) -> Option<Self> {
        let name = variable.name.replace("_OTLP_", "_OTLP_TRACES_");
        let for_traces = var(vars, &name).map(|value| Self { value, name, variable });
        for_traces.or_else(|| Self::alone(vars, variable))
    }

    pub(super) fn invalid(&self) -> SettingsError {
        self.invalid_with(self.variable.expected)
    }

    pub(super) fn invalid_with(&self, expected: &'static str) -> SettingsError {
        SettingsError::Invalid { variable: self.name.clone(), expected }
    }
}
