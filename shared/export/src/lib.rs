//! OTLP export: one request out, one [`Outcome`] back; and the two things that this and everything
//! above it asks of the machine, the time and the environment.
//!
//! Apart from the service, so that the tool in a CI job has it without the cloud's SDK.
//!
//! `opentelemetry-otlp` is the wrong tool for a forwarder: it takes decoded spans of one resource,
//! and reports neither a partial success nor the status of a refusal. Requests are forwarded here
//! as the bytes they are.
//!
//! <https://opentelemetry.io/docs/specs/otlp/>

mod answer;
pub mod clock;
#[cfg(feature = "full")]
mod grpc;
mod http;
mod settings;
mod variables;

use std::time::Duration;

use bytes::Bytes;
use spanhook_core::settings::Variable;
use thiserror::Error;

pub use http::{client, judge};
pub use settings::{Compression, ExportSettings, Protocol, environment, shown};
pub use spanhook_core::otlp::Signal;
pub use variables::{ENDPOINT, HEADERS, variables};

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it. It may have refused some spans, which must not be sent again.
    Delivered {
        /// What it refused.
        partial: Option<Partial>,
    },
    /// Not now.
    Retry {
        /// When the receiver wants to be asked again.
        after: Option<Duration>,
        /// Why, for the log.
        reason: String,
    },
    /// Never: something in the request is wrong.
    Reject {
        /// What the receiver said.
        reason: String,
    },
    /// Refused, but not in the words of OTLP: something in the request is wrong, or the endpoint is
    /// no OTLP receiver.
    Unclear {
        /// What was said.
        reason: String,
    },
    /// The request is larger than the receiver takes.
    TooLarge {
        /// What the receiver said.
        reason: String,
    },
    /// The operator's mistake, not the request's.
    Misconfigured {
        /// What to mend.
        reason: String,
    },
}

/// A partial success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// How many spans, points or records were refused.
    pub rejected: u64,
    /// Why, in the receiver's words.
    pub message: String,
}

/// Something that takes OTLP export requests.
pub trait Export: Send + Sync + 'static {
    /// Sends one request and waits for the answer.
    fn export(&self, signal: Signal, request: Bytes) -> impl Future<Output = Outcome> + Send;
}

/// An exporter that can't be set up.
#[derive(Debug, Error)]
pub enum ExporterError {
    /// A certificate or key file.
    #[error("{} names a file that can't be used ({reason}); {}", .variable.name, .variable.expected)]
    Pem {
        /// The variable that names it.
        variable: &'static Variable,
        /// What is wrong with it.
        reason: String,
    },
    /// The HTTP client.
    #[error("the HTTP client can't be set up: {0}")]
    Http(#[from] reqwest::Error),
    /// The gRPC channel.
    #[cfg(feature = "full")]
    #[error("the gRPC channel can't be set up: {0}; check OTEL_EXPORTER_OTLP_ENDPOINT")]
    Grpc(#[from] tonic::transport::Error),
    /// The tool of a CI job leaves gRPC out.
    #[cfg(not(feature = "full"))]
    #[error(
        "this build of spanhook has no gRPC; set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf and OTEL_EXPORTER_OTLP_ENDPOINT to the receiver's port for HTTP, such as http://collector:4318"
    )]
    NoGrpc,
}

/// Exports over the protocol that the settings name, with one client for its life.
#[derive(Debug)]
pub struct Exporter(Client);

#[derive(Debug)]
enum Client {
    Http(http::HttpExporter),
    #[cfg(feature = "full")]
    Grpc(Box<grpc::GrpcExporter>),
}

impl Exporter {
    /// Connects with the first request.
    pub fn new(settings: &ExportSettings) -> Result<Self, ExporterError> {
        Ok(Self(match settings.protocol {
            Protocol::Http => Client::Http(http::HttpExporter::new(settings)?),
            #[cfg(not(feature = "full"))]
            Protocol::Grpc => return Err(ExporterError::NoGrpc),
            #[cfg(feature = "full")]
            Protocol::Grpc => Client::Grpc(Box::new(grpc::GrpcExporter::new(settings)?)),
        }))
    }
}

impl Export for Exporter {
    async fn export(&self, signal: Signal, request: Bytes) -> Outcome {
        match &self.0 {
            Client::Http(http) => http.export(signal, request).await,
            #[cfg(feature = "full")]
            Client::Grpc(grpc) => grpc.export(signal, request).await,
        }
    }
}

/// The innermost cause says what happened; the outer ones repeat the address, whose query may hold
/// a key.
#[must_use]
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// A receiver's words, fit for one line of a log.
fn clip(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).take(200).collect()
}

/// What an operator has to mend when a receiver refuses for reasons beyond the request.
fn advice(status: &str, hint: &str) -> String {
    format!("the receiver answered {status}: {hint}")
}
