//! What somebody without credentials can do to `serve`, and what a delivery can. The large ones are
//! in `tests/attacks.py`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{net::SocketAddr, time::Duration};

use support::{SECRET, Serve, job};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

const MB: usize = 1_000_000;

/// A signature of the right form, of nothing.
const FORM: &str =
    "circleci-signature: v1=0000000000000000000000000000000000000000000000000000000000000000";

fn address(serve: &Serve) -> SocketAddr {
    serve.url.strip_prefix("http://").unwrap().parse().unwrap()
}

async fn send(serve: &Serve, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address(serve)).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// All that is answered until the connection is closed.
async fn until_closed(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await; // A reset ends it as well.
    String::from_utf8(answer).unwrap()
}

async fn is_healthy(serve: &Serve) -> bool {
    let ask = reqwest::get(format!("{}/health", serve.url));
    timeout(Duration::from_secs(5), ask).await.unwrap().unwrap().status() == 200
}

#[tokio::test]
async fn what_needs_no_body_is_answered_before_one_comes() {
    let data = TempDir::new().unwrap();
    let key = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let vars = [
        ("BUILD_EVENTS_SIGNING_KEY", key),
        ("BUILD_EVENTS_TOKEN", "a-token-of-builds"),
        ("GITLAB_SIGNING_TOKEN", key),
    ];
    let serve = Serve::start(data.path(), &vars);
    let token = format!("x-gitlab-token: {SECRET}");
    let stale = "webhook-id: a\r\nwebhook-timestamp: 1\r\n\
                 webhook-signature: v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (path, length, headers, status) in [
        ("/circleci", 25 * MB, "x: no signature", 401),
        ("/circleci", 25 * MB, "circleci-signature: v2=00", 401),
        ("/circleci", 25 * MB, "circleci-signature: v1=0000", 401),
        ("/circleci", 25 * MB, "circleci-signature: v1=none", 401),
        ("/circleci", 27 * MB, FORM, 413),
        ("/gitlab", 25 * MB, &token, 401),
        ("/gitlab", 25 * MB, stale, 401),
        ("/gitlab", 25 * MB, &format!("{token}\r\n{stale}"), 401),
        ("/gitlab", 27 * MB, &token, 413),
        ("/build-events", MB, "x: no proof", 401),
        ("/build-events", MB, "authorization: Bearer guess", 401),
        ("/build-events", MB, stale, 401),
        ("/build-events", 2 * MB, "authorization: Bearer a-token-of-builds", 413),
    ] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{headers}\r\n\r\n"
        );
        // Not one byte of the body is sent.
        let answer = until_closed(send(&serve, &request).await).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path} {headers}: {answer}");
        assert!(answer.contains("connection: close"), "{path} {headers}: {answer}");
    }
    assert!(is_healthy(&serve).await);
}

#[tokio::test]
async fn a_short_body_that_is_refused_early_does_not_cost_the_connection() {
    let data = TempDir::new().unwrap();
    let serve = Serve::start(data.path(), &[]);
    let refused = "POST /circleci HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody";
    let last = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = until_closed(send(&serve, &format!("{refused}{last}")).await).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
}

/// 1,010 of them under a limit of 1,024 files stopped intake for good.
#[tokio::test]
async fn idle_connections_beyond_the_limit_of_files_do_not_stop_intake() {
    let data = TempDir::new().unwrap();
    // Nobody takes what is queued.
    let vars = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")];
    let serve = Serve::with_files(128, data.path(), &vars);
    let client = reqwest::Client::new();
    let mut idle = Vec::new();
    for number in 0..200 {
        idle.push(send(&serve, if number % 2 == 0 { "" } else { "GET / HT" }).await);
        if number % 20 == 0 {
            assert!(is_healthy(&serve).await);
            let status = serve.post(&client, &job(&number.to_string())).await.unwrap();
            assert_eq!(status, 202, "after {number} connections");
        }
    }
    assert_eq!(serve.post(&client, &job("last")).await.unwrap(), 202);
    assert_eq!(serve.status("queued").await, 11);
}

/// Forty of 25 MB took 1,020 MB.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn bodies_that_lack_one_byte_hold_no_more_memory_than_their_share() {
    let data = TempDir::new().unwrap();
    let serve = Serve::start(data.path(), &[]);
    let length = 5 * MB;
    let head =
        format!("POST /circleci HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{FORM}\r\n\r\n");
    let body = vec![b' '; length - 1];
    let mut senders = JoinSet::new();
    for _ in 0..40 {
        let mut stream = send(&serve, &head).await;
        let body = body.clone();
        senders.spawn(async move {
            let _ = stream.write_all(&body).await; // It may be sent away in the middle.
            until_closed(stream).await
        });
    }
    // A small delivery passes while the large ones hold what they may.
    let client = reqwest::Client::new();
    assert_eq!(serve.post(&client, &job("small")).await.unwrap(), 202);
    for _ in 0..20 {
        let answer = senders.join_next().await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(is_healthy(&serve).await);
    }
    let peak = serve.peak_memory();
    assert!(peak < 200 * MB as u64, "{peak} bytes");
}

/// One of 24 MB took 5.9 GB.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_delivery_of_millions_of_empty_jobs_takes_little_memory() {
    let data = TempDir::new().unwrap();
    let serve = Serve::start(data.path(), &[]);
    let jobs = vec!["{}"; 2_000_000].join(",");
    let body = format!(
        r#"{{"object_kind":"pipeline","object_attributes":{{"id":1,"status":"success"}},"builds":[{jobs}]}}"#
    );
    let request = reqwest::Client::new().post(format!("{}/gitlab", serve.url)).body(body);
    let answer = request.header("x-gitlab-token", SECRET).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let said = answer.text().await.unwrap();
    assert!(said.contains("more than 20000 jobs"), "{said}");
    assert_eq!(serve.status("dead_letters").await, 1, "it is kept");
    let peak = serve.peak_memory();
    assert!(peak < 200 * MB as u64, "{peak} bytes");
}

#[tokio::test]
async fn an_unknown_path_below_traceparent_is_answered_in_the_shells_form() {
    let data = TempDir::new().unwrap();
    let serve = Serve::start(data.path(), &[]);
    for path in
        ["/traceparent", "/traceparent/", "/traceparent//", "/traceparent/what/is/this/path/for"]
    {
        let answer = reqwest::get(format!("{}{path}", serve.url)).await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
        let text = answer.text().await.unwrap();
        assert!(
            text.lines().all(|it| it.starts_with("# ")) && text.ends_with('\n'),
            "{path}: {text}"
        );
    }
}
