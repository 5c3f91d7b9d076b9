//! OTLP over HTTP with protobuf. <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

use std::{io::Write, time::Duration};

use bytes::Bytes;
use http::{StatusCode, header};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Response, redirect::Policy};
use spanhook_core::settings::Variable;

use super::{
    Compression, ExportSettings, ExporterError, Outcome, Signal, advice,
    answer::{Label, acknowledgement, refusal},
    clip, innermost,
    variables::{CERTIFICATE, CLIENT_CERTIFICATE, CLIENT_KEY},
};
use crate::clock::Clock;

/// How much of an answer is read: an endless body must not hold the forwarder. A receiver's own is
/// some hundred bytes.
const ANSWER_LIMIT: usize = 64 * 1024;

/// The beginning of an HTTP client that carries secrets: a redirect would take them elsewhere.
pub fn client() -> ClientBuilder {
    #[cfg(all(feature = "ring", not(feature = "full")))]
    let _ = rustls::crypto::ring::default_provider().install_default(); // Once is enough.
    Client::builder()
        .redirect(Policy::none())
        .user_agent(concat!("spanhook/", env!("CARGO_PKG_VERSION")))
}

#[derive(Debug)]
pub(super) struct HttpExporter {
    client: Client,
    endpoints: [String; 3],
    compression: Compression,
}

impl HttpExporter {
    pub(super) fn new(settings: &ExportSettings) -> Result<Self, ExporterError> {
        let mut client = client()
            .default_headers(settings.headers.clone())
            .timeout(settings.timeout)
            .connect_timeout(settings.timeout);
        if let Some(path) = &settings.certificate {
            let roots = Certificate::from_pem_bundle(&pem(&CERTIFICATE, path)?)?;
            client = client.tls_certs_merge(roots);
        }
        if let Some((certificate, key)) = &settings.client_identity {
            let mut identity = pem(&CLIENT_CERTIFICATE, certificate)?;
            identity.extend(pem(&CLIENT_KEY, key)?);
            client = client.identity(Identity::from_pem(&identity)?);
        }
        Ok(Self {
            client: client.build()?,
            endpoints: Signal::ALL.map(|signal| settings.endpoint(signal).to_owned()),
            compression: settings.compression,
        })
    }

    pub(super) async fn export(&self, signal: Signal, request: Bytes) -> Outcome {
        let (encoding, body) = compress(self.compression, request);
        let mut post = self
            .client
            .post(&self.endpoints[signal as usize])
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .body(body);
        if let Some(encoding) = encoding {
            post = post.header(header::CONTENT_ENCODING, encoding);
        }
        match post.send().await {
            Err(error) => retry(&error),
            Ok(response) => {
                let status = response.status();
                let after = response
                    .headers()
                    .get(header::RETRY_AFTER)
                    .and_then(|value| retry_after(value.to_str().ok()?, Clock::SYSTEM));
                let kind = response.headers().get(header::CONTENT_TYPE);
                let kind = kind.and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
                match read(response).await {
                    // The answer broke off: whether the spans arrived is not known.
                    Err(error) if status.is_success() => retry(&error),
                    body => judge(status, after, &kind, &body.unwrap_or_default()),
                }
            }
        }
    }
}

pub(super) fn pem(variable: &'static Variable, path: &str) -> Result<Vec<u8>, ExporterError> {
    std::fs::read(path)
        .map_err(|error| ExporterError::Pem { variable, reason: error.kind().to_string() })
}

fn compress(compression: Compression, request: Bytes) -> (Option<&'static str>, Bytes) {
    let compressed = match compression {
        Compression::None => None,
        // Without zstd the one that every receiver knows.
        #[cfg(not(feature = "full"))]
        Compression::Zstd => gzip(&request).map(|body| ("gzip", body)),
        Compression::Gzip => gzip(&request).map(|body| ("gzip", body)),
        #[cfg(feature = "full")]
        Compression::Zstd => zstd::bulk::compress(&request, 1).ok().map(|body| ("zstd", body)),
    };
    // Compression in memory does not fail; if it did, the plain request is as good.
    compressed.map_or((None, request), |(encoding, body)| (Some(encoding), body.into()))
}

fn gzip(request: &[u8]) -> Option<Vec<u8>> {
    let buffer = Vec::with_capacity(request.len() / 8);
    let mut encoder = flate2::write::GzEncoder::new(buffer, flate2::Compression::fast());
    encoder.write_all(request).ok()?;
    encoder.finish().ok()
}

fn retry(error: &reqwest::Error) -> Outcome {
    Outcome::Retry { after: None, reason: clip(&innermost(error)) }
}

async fn read(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk[..chunk.len().min(ANSWER_LIMIT - body.len())]);
        if body.len() == ANSWER_LIMIT {
            break;
        }
    }
    Ok(body)
}

/// Seconds, or a date. <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>
fn retry_after(value: &str, clock: Clock) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let date = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(clock.since_epoch()))
}

/// What an answer says: its status, its `Retry-After`, its `Content-Type` and its body.
///
/// <https://opentelemetry.io/docs/specs/otlp/#failures-1>
#[must_use]
pub fn judge(status: StatusCode, after: Option<Duration>, kind: &str, body: &[u8]) -> Outcome {
    match status.as_u16() {
        200..=299 => taken(status, kind, body),
        429 | 502 | 503 | 504 => Outcome::Retry { after, reason: format!("HTTP {status}") },
        400 | 422 => refused(status, kind, body),
        413 => Outcome::TooLarge { reason: said(status, kind, body) },
        401 | 403 => Outcome::Misconfigured {
            reason: advice(status.as_str(), "check the credentials in OTEL_EXPORTER_OTLP_HEADERS"),
        },
        404 | 405 => Outcome::Misconfigured {
            reason: advice(
                status.as_str(),
                "check OTEL_EXPORTER_OTLP_ENDPOINT, and that the receiver takes this signal",
            ),
        },
        300..=399 => Outcome::Misconfigured {
            reason: advice(
                status.as_str(),
                "set OTEL_EXPORTER_OTLP_ENDPOINT to the address it redirects to",
            ),
        },
        415 => Outcome::Misconfigured {
            reason: advice(
                status.as_str(),
                "it does not take this encoding; set OTEL_EXPORTER_OTLP_COMPRESSION=none",
            ),
        },
        _ => Outcome::Misconfigured {
            reason: advice(status.as_str(), "check the receiver's own log"),
        },
    }
}

/// An endless body is cut at the limit, and no answer.
fn taken(status: StatusCode, kind: &str, body: &[u8]) -> Outcome {
    let whole = Some(body).filter(|it| it.len() < ANSWER_LIMIT);
    match whole.and_then(|body| acknowledgement(Label::of(kind), body)) {
        Some(answer) => Outcome::Delivered { partial: answer.partial },
        None => not_otlp(status, kind),
    }
}

/// The receiver's own refusal of the request, or somebody else's of everything.
fn refused(status: StatusCode, kind: &str, body: &[u8]) -> Outcome {
    let label = Label::of(kind);
    if refusal(label, body).is_some() {
        return Outcome::Reject { reason: said(status, kind, body) };
    }
    // Go's server, and so a Collector with TLS.
    if body.starts_with(b"Client sent an HTTP request to an HTTPS server") {
        return Outcome::Misconfigured {
            reason: advice("that it wants TLS", "use https:// in OTEL_EXPORTER_OTLP_ENDPOINT"),
        };
    }
    if label == Label::Html {
        return not_otlp(status, kind);
    }
    Outcome::Unclear { reason: said(status, kind, body) }
}

fn not_otlp(status: StatusCode, kind: &str) -> Outcome {
    let kind = if kind.is_empty() { "an unknown body" } else { kind };
    let answered = clip(&format!("{} with {kind}", status.as_str()));
    let hint = "it is no OTLP receiver; check OTEL_EXPORTER_OTLP_ENDPOINT";
    Outcome::Misconfigured { reason: advice(&answered, hint) }
}

/// A refusal carries a `google.rpc.Status`, or plain text.
fn said(status: StatusCode, kind: &str, body: &[u8]) -> String {
    let text = refusal(Label::of(kind), body)
        .filter(|message| !message.is_empty())
        .unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    clip(&format!("HTTP {status} {text}")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpListener};

    use super::*;

    #[test]
    fn every_status_has_its_outcome() {
        for code in 200..=599 {
            let status = StatusCode::from_u16(code).unwrap();
            let after = Some(Duration::from_secs(7));
            let outcome = judge(status, after, "", b"");
            let expected = match code {
                200..300 => "delivered",
                429 | 502 | 503 | 504 => "retry",
                400 | 422 => "unclear",
                413 => "too large",
                _ => "misconfigured",
            };
            let found = match outcome {
                Outcome::Delivered { .. } => "delivered",
                Outcome::Retry { after: waits, .. } => {
                    assert_eq!(waits, after);
                    "retry"
                }
                Outcome::Reject { .. } => "reject",
                Outcome::Unclear { .. } => "unclear",
                Outcome::TooLarge { .. } => "too large",
                Outcome::Misconfigured { .. } => "misconfigured",
            };
            assert_eq!(found, expected, "{code}");
        }
    }

    /// The name of what was made of a 200 and of a 400.
    fn found(status: u16, kind: &str, body: &[u8]) -> &'static str {
        match judge(StatusCode::from_u16(status).unwrap(), None, kind, body) {
            Outcome::Delivered { .. } => "delivered",
            Outcome::Reject { .. } => "rejected",
            Outcome::Unclear { .. } => "unclear",
            Outcome::Misconfigured { reason } => {
                assert!(reason.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{reason}");
                "misconfigured"
            }
            _ => "another",
        }
    }

    #[test]
    fn only_an_otlp_receivers_answer_settles_a_request() {
        let endless = vec![b' '; ANSWER_LIMIT];
        let page = b"<html>Sign in".as_slice();
        let tls = b"Client sent an HTTP request to an HTTPS server.\n".as_slice();
        let cases: &[(u16, &str, &[u8], &str)] = &[
            (200, "application/x-protobuf", b"\x0a\x00", "delivered"),
            (202, "application/json", b"{}", "delivered"),
            (204, "", b"", "delivered"),
            (200, "text/html", page, "misconfigured"),
            (200, "text/plain", b"Accepted", "misconfigured"),
            (200, "application/x-protobuf", &endless, "misconfigured"),
            (400, "application/x-protobuf", b"\x08\x03\x12\x03bad", "rejected"),
            (400, "application/json", br#"{"code":400,"message":"bad"}"#, "rejected"),
            (422, "application/json", br#"{"code":3,"message":"bad"}"#, "rejected"),
            (400, "text/plain; charset=utf-8", b"cannot unmarshal", "unclear"),
            (400, "", b"", "unclear"),
            (400, "text/plain; charset=utf-8", tls, "misconfigured"),
            (400, "text/html", page, "misconfigured"),
        ];
        for (status, kind, body, expected) in cases {
            assert_eq!(found(*status, kind, body), *expected, "{status} {kind}");
        }
    }

    #[tokio::test]
    async fn headers_and_spans_follow_no_redirect() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        elsewhere.set_nonblocking(true).unwrap();
        let redirecting = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = |it: &TcpListener| format!("http://{}", it.local_addr().unwrap());
        let (other, endpoint) = (url(&elsewhere), url(&redirecting));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = redirecting.accept().unwrap();
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).unwrap();
            let answer = format!(
                "HTTP/1.1 307 x\r\nlocation: {other}/v1/traces\r\ncontent-length: 0\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&head[..read]).to_lowercase()
        });
        let vars = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer hunter2"),
        ];
        let vars = vars.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let exporter = HttpExporter::new(&ExportSettings::parse(&vars).unwrap().unwrap()).unwrap();
        let outcome = exporter.export(Signal::Traces, Bytes::from_static(b"spans")).await;
        let Outcome::Misconfigured { reason } = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("redirects to"), "{reason}");
        assert!(server.join().unwrap().contains("authorization: bearer hunter2"));
        assert!(elsewhere.accept().is_err(), "nobody came there");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let clock = Clock::new(|| std::time::UNIX_EPOCH + Duration::from_secs(784_111_777));
        assert_eq!(retry_after("120", clock), Some(Duration::from_secs(120)));
        let date = "Sun, 06 Nov 1994 08:49:47 GMT";
        assert_eq!(retry_after(date, clock), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Sat, 06 Nov 1993 08:49:47 GMT", clock), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", clock), None);
    }

    #[test]
    fn what_a_receiver_says_fits_one_line() {
        let reason = said(StatusCode::BAD_REQUEST, "", "bad\nspan\x1b[31m".repeat(100).as_bytes());
        assert!(reason.starts_with("HTTP 400 Bad Request bad"), "{reason}");
        assert!(reason.len() <= 200 && !reason.contains(['\n', '\x1b']), "{reason}");
    }
}
