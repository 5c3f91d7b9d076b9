//! OTLP over gRPC. <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc>

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt;

use super::{
    Compression, ExportSettings, ExporterError, Outcome, Signal, advice,
    answer::{Label, acknowledgement},
    clip,
    http::pem,
    innermost,
    variables::{CERTIFICATE, CLIENT_CERTIFICATE, CLIENT_KEY},
};

fn method(signal: Signal) -> PathAndQuery {
    PathAndQuery::from_static(match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    })
}

#[derive(Debug)]
pub(super) struct GrpcExporter {
    channel: Channel,
    compression: Compression,
    metadata: MetadataMap,
    timeout: Duration,
}

impl GrpcExporter {
    pub(super) fn new(settings: &ExportSettings) -> Result<Self, ExporterError> {
        let mut endpoint = Endpoint::from_shared(settings.endpoint.clone())?
            .connect_timeout(settings.timeout)
            // A function is frozen between invocations, and what lies between it and the receiver
            // forgets connections silently. Without a ping every try would wait on the dead one.
            // Two in a request's time are what a grpc-go server puts up with.
            .http2_keep_alive_interval(settings.timeout / 2)
            .keep_alive_timeout(settings.timeout / 4)
            .user_agent(concat!("spanhook/", env!("CARGO_PKG_VERSION")))?;
        if settings.endpoint.starts_with("https") {
            let mut tls = ClientTlsConfig::new().with_native_roots();
            if let Some(path) = &settings.certificate {
                let roots = pem(&CERTIFICATE, path)?;
                tls = tls.ca_certificate(Certificate::from_pem(roots));
            }
            if let Some((certificate, key)) = &settings.client_identity {
                let certificate = pem(&CLIENT_CERTIFICATE, certificate)?;
                let key = pem(&CLIENT_KEY, key)?;
                tls = tls.identity(Identity::from_pem(certificate, key));
            }
            endpoint = endpoint.tls_config(tls)?;
        }
        Ok(Self {
            channel: endpoint.connect_lazy(),
            compression: settings.compression,
            metadata: MetadataMap::from_headers(settings.headers.clone()),
            timeout: settings.timeout,
        })
    }

    pub(super) async fn export(&self, signal: Signal, request: Bytes) -> Outcome {
        let mut client = Grpc::new(self.channel.clone());
        client = match self.compression {
            Compression::None => client,
            Compression::Gzip => client.send_compressed(CompressionEncoding::Gzip),
            Compression::Zstd => client.send_compressed(CompressionEncoding::Zstd),
        };
        let mut request = Request::new(request);
        *request.metadata_mut() = self.metadata.clone();
        let call = async {
            client.ready().await.map_err(|error| Status::unavailable(clip(&innermost(&error))))?;
            client.unary(request, method(signal), RawCodec).await
        };
        match tokio::time::timeout(self.timeout, call).await {
            Err(_) => Outcome::Retry { after: None, reason: "no answer in time".to_owned() },
            Ok(Ok(response)) => taken(response.get_ref()),
            Ok(Err(status)) => judge(&status),
        }
    }
}

fn taken(answer: &[u8]) -> Outcome {
    match acknowledgement(Label::Protobuf, answer) {
        Some(answer) => Outcome::Delivered { partial: answer.partial },
        None => Outcome::Misconfigured {
            reason: advice(
                "gRPC OK with a message that is not OTLP's",
                "it is no OTLP receiver; check OTEL_EXPORTER_OTLP_ENDPOINT",
            ),
        },
    }
}

/// <https://opentelemetry.io/docs/specs/otlp/#failures>
fn judge(status: &Status) -> Outcome {
    let reason = clip(&format!("gRPC {:?} {}", status.code(), status.message()));
    let retry_info = || {
        let details = status.get_details_retry_info();
        details.and_then(|it| it.retry_delay)
    };
    match status.code() {
        Code::Ok => Outcome::Delivered { partial: None },
        Code::ResourceExhausted if too_large(status.message()) => Outcome::TooLarge { reason },
        // Without RetryInfo the specification sees no recovery; but nothing is wrong with the
        // spans, so they are kept and tried again later.
        Code::ResourceExhausted
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unknown => Outcome::Retry { after: retry_info(), reason },
        Code::InvalidArgument => Outcome::Reject { reason },
        Code::Unauthenticated | Code::PermissionDenied => Outcome::Misconfigured {
            reason: advice(&reason, "check the credentials in OTEL_EXPORTER_OTLP_HEADERS"),
        },
        _ => Outcome::Misconfigured {
            reason: advice(&reason, "check OTEL_EXPORTER_OTLP_ENDPOINT and _PROTOCOL"),
        },
    }
}

/// grpc-go, which the Collector uses: "received message larger than max (… vs. …)".
fn too_large(message: &str) -> bool {
    message.contains("larger than max")
}

/// Requests and answers as the bytes they are.
#[derive(Clone, Copy, Debug)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_outcome() {
        for code in (0..=16).map(Code::from_i32) {
            let found = match judge(&Status::new(code, "reason")) {
                Outcome::Delivered { .. } => "delivered",
                Outcome::Retry { .. } => "retry",
                Outcome::Reject { .. } | Outcome::Unclear { .. } => "reject",
                Outcome::TooLarge { .. } => "too large",
                Outcome::Misconfigured { .. } => "misconfigured",
            };
            let expected = match i32::from(code) {
                0 => "delivered",
                1 | 2 | 4 | 8 | 10 | 11 | 14 | 15 => "retry",
                3 => "reject",
                _ => "misconfigured",
            };
            assert_eq!(found, expected, "{code:?}");
        }
        let status = Status::resource_exhausted("grpc: received message larger than max (5 vs. 4)");
        assert!(matches!(judge(&status), Outcome::TooLarge { .. }));
    }

    #[test]
    fn an_ok_with_another_services_message_is_not_delivered() {
        assert_eq!(taken(b""), Outcome::Delivered { partial: None });
        assert_eq!(taken(&[0x0a, 0x00]), Outcome::Delivered { partial: None });
        assert!(matches!(taken(b"<html>"), Outcome::Misconfigured { .. }));
    }

    #[test]
    fn a_receivers_retry_delay_is_honoured() {
        let delay = Duration::from_secs(9);
        let details = tonic_types::ErrorDetails::with_retry_info(Some(delay));
        let status = Status::with_error_details(Code::Unavailable, "busy", details);
        assert!(matches!(judge(&status), Outcome::Retry { after: Some(it), .. } if it == delay));
    }
}
