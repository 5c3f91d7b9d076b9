//! Deliveries that something compressed on their way.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::BTreeSet, sync::Arc};

use axum::http::{HeaderValue, header::ACCEPT_ENCODING, header::CONTENT_ENCODING};
use proptest::prelude::*;
use support::{MemoryOutbox, SECRET, TOKEN, ask, gitlab, gzip, post, signed_standard, spans};
use tower::ServiceExt;

const PIPELINE: &str = include_str!("../../../events/gitlab/pipeline-failed.json");

fn zstd(body: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(body, 3).unwrap()
}

/// As a hook with a secret token sends it, and with this `Content-Encoding`.
fn with_token(coding: &str, body: Vec<u8>) -> axum::http::Request<axum::body::Body> {
    post("/", &[("x-gitlab-token", SECRET), ("content-encoding", coding)], body)
}

#[tokio::test]
async fn a_compressed_delivery_gives_the_spans_of_the_plain_one() {
    let ids = |queue: &MemoryOutbox| -> BTreeSet<Vec<u8>> {
        spans(queue).into_iter().map(|it| it.span_id).collect()
    };
    let plain = Arc::new(MemoryOutbox::default());
    let service = gitlab(&plain, &[("GITLAB_SECRET_TOKEN", SECRET)]).await;
    let (status, expected) = ask(service, with_token("identity", PIPELINE.into())).await;
    assert_eq!(status, 202);
    for (coding, body) in [
        ("gzip", gzip(PIPELINE.as_bytes())),
        ("x-gzip", gzip(PIPELINE.as_bytes())),
        ("zstd", zstd(PIPELINE.as_bytes())),
    ] {
        let queue = Arc::new(MemoryOutbox::default());
        let service = gitlab(&queue, &[("GITLAB_SECRET_TOKEN", SECRET)]).await;
        let (status, answer) = ask(service, with_token(coding, body)).await;
        assert_eq!((status, &answer), (202, &expected), "{coding}");
        assert_eq!(ids(&queue), ids(&plain), "{coding}");
    }
}

/// What is not signed is never decompressed: neither by who forges a delivery nor for who compressed
/// one that was signed before.
#[tokio::test]
async fn a_signature_covers_the_bytes_as_they_came() {
    let queue = Arc::new(MemoryOutbox::default());
    let service = gitlab(&queue, &[("GITLAB_SIGNING_TOKEN", TOKEN)]).await;
    let gzipped = |mut request: axum::http::Request<axum::body::Body>| {
        request.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        request
    };
    let packed = gzip(PIPELINE.as_bytes());
    let sent = gzipped(signed_standard("/", packed.clone()));
    assert_eq!(ask(service.clone(), sent).await.0, 202);
    let mut compressed_later = gzipped(signed_standard("/", PIPELINE));
    *compressed_later.body_mut() = packed.into();
    assert_eq!(ask(service.clone(), compressed_later).await.0, 401);
    // A header that somebody added to a plain delivery, whose signature holds.
    assert_eq!(ask(service, gzipped(signed_standard("/", PIPELINE))).await.0, 400);
    assert!(queue.dead.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_can_not_be_decompressed_says_so() {
    let queue = Arc::new(MemoryOutbox::default());
    let service = gitlab(&queue, &[("GITLAB_SECRET_TOKEN", SECRET)]).await;
    let bomb = vec![b' '; 100_001]; // one byte more than the service takes
    let mut cut = gzip(PIPELINE.as_bytes());
    cut.truncate(cut.len() / 2);
    let mut text = String::new();
    for (name, coding, body) in [
        ("a bomb", "gzip", gzip(&bomb)),
        ("another one", "zstd", zstd(&bomb)),
        ("as large as may be", "gzip", gzip(&bomb[1..])),
        ("no gzip", "gzip", PIPELINE.into()),
        ("half of it", "gzip", cut),
        ("the other one", "zstd", gzip(PIPELINE.as_bytes())),
        ("an unknown one", "br", PIPELINE.into()),
        ("two of them", "gzip, zstd", PIPELINE.into()),
    ] {
        let (status, body) = ask(service.clone(), with_token(coding, body)).await;
        text += &format!("{name}: {status} {}\n", body.trim());
    }
    insta::assert_snapshot!(text);
    // What the sender may do instead; nobody hears it who has not shown the token.
    let unknown = with_token("br", PIPELINE.into());
    let response = service.clone().oneshot(unknown).await.unwrap();
    assert_eq!(response.headers()[ACCEPT_ENCODING], "gzip, zstd");
    let stranger = post("/", &[("content-encoding", "br")], PIPELINE);
    assert_eq!(ask(service, stranger).await.0, 401);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_with_any_coding_have_an_answer(body: Vec<u8>, coding in "gzip|zstd|identity|[a-z, ]{0,9}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let status = runtime.block_on(async {
            let queue = Arc::new(MemoryOutbox::default());
            let service = gitlab(&queue, &[("GITLAB_SECRET_TOKEN", SECRET)]).await;
            ask(service, with_token(&coding, body)).await.0
        });
        prop_assert!(matches!(status, 202 | 400 | 413 | 415), "{}", status);
    }
}
