//! What is said when the service does not do something, without any payload.

use std::{error::Error, fmt::Debug};

use aws_sdk_sqs::{
    error::{ProvideErrorMetadata, SdkError},
    types::BatchResultErrorEntry,
};

use crate::{export::innermost, queue::QueueError};

pub(super) fn refused(failed: usize, total: usize, reason: String) -> QueueError {
    QueueError::Refused { failed, total, reason }
}

pub(super) fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> &str {
    error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default()
}

/// The service's code and words, or why it could not be asked.
pub(super) fn reason<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
    R: Debug + 'static,
{
    let said = error
        .as_service_error()
        .map(|it| format!("{} {}", it.code().unwrap_or("error"), it.message().unwrap_or_default()));
    said.unwrap_or_else(|| {
        let cause = innermost(error);
        format!("{error}, {cause}; check QUEUE_URL, AWS_REGION, the network and the credentials")
    })
}

pub(super) fn entry_reason(failed: &[BatchResultErrorEntry]) -> String {
    let first = failed.first();
    first.map_or_else(|| "entries without an answer".to_owned(), |it| it.code.clone())
}
