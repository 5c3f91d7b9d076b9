//! The exporter's settings, in OpenTelemetry's own variables.
//!
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>

use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use spanhook_core::{
    secret::values,
    settings::{SettingsError, Variable, Vars},
};

use super::{
    Signal,
    variables::{
        CERTIFICATE, CLIENT_CERTIFICATE, CLIENT_KEY, COMPRESSION, ENDPOINT, Found, HEADERS,
        HOOK_ENDPOINT, HOOK_PREFIX, LOGS_ENDPOINT, METRICS_ENDPOINT, PROTOCOL, TIMEOUT,
        TRACES_ENDPOINT,
    },
};

/// The environment of this process. A value that is not UTF-8 is left out: no setting can be one.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn environment() -> Vars {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Where requests go, and how.
#[derive(Clone)]
pub struct ExportSettings {
    /// For HTTP the whole address of the traces receiver, for gRPC scheme and authority.
    pub endpoint: String,
    /// The same for metrics and logs.
    others: [String; 2],
    /// OTLP's transport.
    pub protocol: Protocol,
    /// Of request bodies.
    pub compression: Compression,
    /// Added to every request. Values are secrets.
    pub headers: HeaderMap,
    /// How long one request may take.
    pub timeout: Duration,
    /// Path of a PEM file with further root certificates.
    pub certificate: Option<String>,
    /// Paths of PEM files with a client's certificate and key.
    pub client_identity: Option<(String, String)>,
}

impl fmt::Debug for ExportSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.keys().map(HeaderName::as_str).collect();
        f.debug_struct("ExportSettings")
            .field("endpoint", &shown(&self.endpoint))
            .field("protocol", &self.protocol)
            .field("compression", &self.compression)
            .field("headers", &names)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// OTLP's transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `http/protobuf`
    Http,
    /// `grpc`
    Grpc,
}

/// Compression of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// What every receiver knows.
    Gzip,
    /// Faster and smaller; the Collector knows it.
    Zstd,
}

impl ExportSettings {
    /// Where a signal goes. gRPC has one address for all of them.
    #[must_use]
    pub fn endpoint(&self, signal: Signal) -> &str {
        match (self.protocol, signal) {
            (Protocol::Grpc, _) | (_, Signal::Traces) => &self.endpoint,
            (Protocol::Http, Signal::Metrics) => &self.others[0],
            (Protocol::Http, Signal::Logs) => &self.others[1],
        }
    }

    /// Reads the `OTEL_EXPORTER_OTLP_` variables, those for traces before the general ones, and
    /// circleci-hook's after them. None when no endpoint is set.
    pub fn parse(vars: &Vars) -> Result<Option<Self>, SettingsError> {
        let both = |variable| Found::of(vars, variable);
        let hook = || Found::alone(vars, &HOOK_ENDPOINT);
        let Some(endpoint) = both(&ENDPOINT).or_else(hook) else { return Ok(None) };
        // circleci-hook spoke gRPC.
        let hook = endpoint.variable == &HOOK_ENDPOINT;
        let default = if hook { "grpc" } else { PROTOCOL.default };
        let word = |variable: &'static Variable, default| {
            let found = both(variable);
            let error = found.as_ref().map_or_else(|| variable.invalid(), Found::invalid);
            (found.map_or(default, |it| it.value), error)
        };
        let protocol = match word(&PROTOCOL, default) {
            ("http/protobuf", _) => Protocol::Http,
            ("grpc", _) => Protocol::Grpc,
            (_, error) => return Err(error),
        };
        let compression = match word(&COMPRESSION, COMPRESSION.default) {
            ("none", _) => Compression::None,
            ("gzip", _) => Compression::Gzip,
            ("zstd", _) => Compression::Zstd,
            (_, error) => return Err(error),
        };
        let (text, error) = word(&TIMEOUT, TIMEOUT.default);
        let milliseconds = text.parse().ok().filter(|it| *it > 0).ok_or(error)?;
        let endpoint = address(&endpoint, protocol)?;
        Ok(Some(Self {
            others: [
                other(vars, &METRICS_ENDPOINT, Signal::Metrics, &endpoint, protocol)?,
                other(vars, &LOGS_ENDPOINT, Signal::Logs, &endpoint, protocol)?,
            ],
            endpoint,
            protocol,
            compression,
            headers: headers(vars, both(&HEADERS))?,
            timeout: Duration::from_millis(milliseconds),
            certificate: both(&CERTIFICATE).map(|it| it.value.to_owned()),
            client_identity: client_identity(both(&CLIENT_CERTIFICATE), both(&CLIENT_KEY))?,
        }))
    }
}

/// The address of another signal: its own variable, else the general one, else beside the traces.
fn other(
    vars: &Vars,
    own: &'static Variable,
    signal: Signal,
    traces: &str,
    protocol: Protocol,
) -> Result<String, SettingsError> {
    if let Some(found) = Found::alone(vars, own) {
        // As for traces, the variable of one signal holds the whole address.
        return whole(&found);
    }
    if protocol == Protocol::Grpc {
        return Ok(traces.to_owned());
    }
    match Found::alone(vars, &ENDPOINT) {
        Some(base) => below(&base, signal),
        None => Ok(traces.replacen("/v1/traces", &format!("/v1/{}", signal.as_str()), 1)),
    }
}

/// An address without what may be a secret: a password before the host, a key in the query.
#[must_use]
pub fn shown(endpoint: &str) -> String {
    let parts = endpoint.parse::<http::Uri>().map(http::Uri::into_parts).unwrap_or_default();
    let scheme = parts.scheme.as_ref().map_or("", http::uri::Scheme::as_str);
    let authority = parts.authority.as_ref().map_or("", http::uri::Authority::as_str);
    let host = authority.rsplit('@').next().unwrap_or_default();
    let path = parts.path_and_query.as_ref().map_or("", http::uri::PathAndQuery::path);
    format!("{scheme}://{host}{path}")
}

/// A certificate is of no use without its key, nor the other way round.
fn client_identity(
    certificate: Option<Found<'_>>,
    key: Option<Found<'_>>,
) -> Result<Option<(String, String)>, SettingsError> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Ok(Some((certificate.value.to_owned(), key.value.to_owned())))
        }
        (Some(it), None) => Err(it.invalid_with("set the matching _CLIENT_KEY too")),
        (None, Some(it)) => Err(it.invalid_with("set the matching _CLIENT_CERTIFICATE too")),
    }
}

/// A whole URL, as it is.
fn whole(found: &Found<'_>) -> Result<String, SettingsError> {
    let uri: http::Uri = found.value.parse().map_err(|_| found.invalid())?;
    let web = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.host().is_some_and(|host| !host.is_empty());
    if web && host { Ok(found.value.to_owned()) } else { Err(found.invalid()) }
}

/// The address of traces; only the general variables of HTTP hold a base.
fn address(found: &Found<'_>, protocol: Protocol) -> Result<String, SettingsError> {
    if found.name != TRACES_ENDPOINT.name && protocol == Protocol::Http {
        return below(found, Signal::Traces);
    }
    whole(found)
}

/// A signal's address below a base. A base that is an address already would be answered 404.
fn below(found: &Found<'_>, signal: Signal) -> Result<String, SettingsError> {
    let base = whole(found)?;
    let path = base.trim_end_matches('/');
    if base.contains(['?', '#']) || path.ends_with("/v1/traces") {
        let expected = "use a base URL, to which /v1/traces is added; OTEL_EXPORTER_OTLP_TRACES_ENDPOINT takes a whole one";
        return Err(found.invalid_with(expected));
    }
    Ok(format!("{path}/v1/{}", signal.as_str()))
}

/// `key=value,…` with percent-encoded values; circleci-hook's are one variable each.
fn headers(vars: &Vars, given: Option<Found<'_>>) -> Result<HeaderMap, SettingsError> {
    let mut headers = HeaderMap::new();
    let Some(found) = given else {
        for (variable, value) in vars.iter().filter(|(name, _)| *name != HOOK_ENDPOINT.name) {
            let Some(name) = variable.strip_prefix(HOOK_PREFIX) else { continue };
            let name = name.replace('_', "-").to_ascii_lowercase();
            let expected = "use a header's value; its name is the variable's";
            let error = || SettingsError::Invalid { variable: variable.clone(), expected };
            let name = HeaderName::try_from(name).map_err(|_| error())?;
            headers.insert(name, secret(value).ok_or_else(error)?);
        }
        return Ok(headers);
    };
    let list = values(found.value).ok_or_else(|| found.invalid())?.join(",");
    for pair in list.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let header = pair.split_once('=').and_then(|(name, value)| {
            let name = HeaderName::try_from(name.trim()).ok()?;
            Some((name, secret(&percent_decode_str(value.trim()).decode_utf8().ok()?)?))
        });
        let (name, value) = header.ok_or_else(|| found.invalid())?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(value.trim()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(vars: &[(&str, &str)]) -> Result<Option<ExportSettings>, SettingsError> {
        ExportSettings::parse(&vars.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect())
    }

    fn endpoint(vars: &[(&str, &str)]) -> String {
        parse(vars).unwrap().unwrap().endpoint
    }

    #[test]
    fn a_general_endpoint_is_a_base_and_one_for_traces_is_whole() {
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        assert_eq!(endpoint(&[general]), "http://collector:4318/v1/traces");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://o.example.com/x?k=1");
        assert_eq!(endpoint(&[general, traces]), "https://o.example.com/x?k=1");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert_eq!(endpoint(&[general, grpc]), "http://collector:4318/");
        assert!(parse(&[]).unwrap().is_none());
    }

    #[test]
    fn circleci_hooks_variables_are_understood() {
        let settings = parse(&[
            ("CIRCLECI_OTLP_ENDPOINT", "http://localhost:4317"),
            ("CIRCLECI_OTLP_X_TEST_TEAM", "blue"),
        ])
        .unwrap()
        .unwrap();
        assert_eq!(settings.protocol, Protocol::Grpc);
        assert_eq!(settings.headers["x-test-team"], "blue");
    }

    #[test]
    fn headers_are_decoded_and_never_printed() {
        let settings = parse(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret, x-a=b=c"),
        ])
        .unwrap()
        .unwrap();
        assert_eq!(settings.headers["authorization"], "Bearer s3cret");
        assert_eq!(settings.headers["x-a"], "b=c");
        assert!(!format!("{settings:?}").contains("s3cret"));
    }

    #[test]
    fn an_endpoint_is_printed_without_its_password_and_query() {
        let url = "https://user:s3cret@o.example.com:8443/v1/traces?key=s3cret";
        let settings = parse(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)]).unwrap().unwrap();
        let printed = format!("{settings:?}");
        assert!(printed.contains("\"https://o.example.com:8443/v1/traces\""), "{printed}");
    }

    #[test]
    fn variables_for_traces_win_over_general_ones_and_these_over_circleci_hooks() {
        let settings = parse(&[
            ("CIRCLECI_OTLP_ENDPOINT", "http://hook:4317"),
            ("CIRCLECI_OTLP_X_TEAM", "hook"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=general"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-team=traces"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2500"),
        ])
        .unwrap()
        .unwrap();
        assert_eq!(settings.endpoint, "http://general:4318/v1/traces");
        assert_eq!(settings.headers.get_all("x-team").iter().collect::<Vec<_>>(), ["traces"]);
        assert_eq!(
            (settings.protocol, settings.compression, settings.timeout),
            (Protocol::Http, Compression::Zstd, Duration::from_millis(2500))
        );
    }

    #[test]
    fn every_signal_has_its_address() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/otlp/v1/traces?k=1");
        let logs = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://l/in");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        for (vars, expected) in [
            (
                vec![base],
                ["http://c:4318/v1/traces", "http://c:4318/v1/metrics", "http://c:4318/v1/logs"],
            ),
            (
                vec![base, traces, logs],
                ["https://t/otlp/v1/traces?k=1", "http://c:4318/v1/metrics", "https://l/in"],
            ),
            (
                vec![traces],
                [
                    "https://t/otlp/v1/traces?k=1",
                    "https://t/otlp/v1/metrics?k=1",
                    "https://t/otlp/v1/logs?k=1",
                ],
            ),
            (vec![base, grpc], ["http://c:4318/"; 3]),
        ] {
            let settings = parse(&vars).unwrap().unwrap();
            assert_eq!(Signal::ALL.map(|it| settings.endpoint(it)), expected);
        }
    }

    #[test]
    fn a_client_certificate_needs_its_key() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4318");
        let certificate = ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem");
        let key = ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem");
        let whole = parse(&[endpoint, certificate, key]).unwrap().unwrap();
        assert_eq!(whole.client_identity, Some(("/c.pem".into(), "/k.pem".into())));
        for alone in [certificate, key] {
            let error = parse(&[endpoint, alone]).unwrap_err().to_string();
            assert!(error.starts_with(alone.0) && error.contains("set the matching"), "{error}");
        }
    }

    #[test]
    fn a_wrong_value_is_told_what_to_type_and_not_repeated() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "\"http://c:4318\""),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/v1/traces/"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/?key=s3cret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
        ] {
            // Beside a whole address for traces the general one is still that of the others.
            let error =
                parse(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:1"), (name, value)])
                    .unwrap_err()
                    .to_string();
            assert!(error.contains(name) && error.contains("use "), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
