//! A receiver that is away, refuses, or is asked to take what others deliver.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use axum::{Router, response::Redirect};
use futures_util::FutureExt;
use relay::relay::Relay;
use reqwest::Client;
use serde_json::{Value, json};
use support::{
    Cluster, Sink, client, get,
    objects::{SECRET, lighthouse_job, run},
    options, paces, ready, relay, relay_with, sorted, until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[tokio::test]
async fn a_receiver_that_fails_and_is_away_for_a_while_gets_everything() {
    let (cluster, mut sink) = (Cluster::start().await, Sink::start().await);
    let relay = relay(&cluster, &sink).await;
    ready(&relay).await;
    sink.fail(3, 503);
    cluster.put(&run("TaskRun", "one", true));
    until("the first", || sink.set().len() == 1).await;
    let ids: Vec<_> = sink.got().requests.iter().map(|it| it.1.clone()).collect();
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|it| *it == ids[0] && it.starts_with("relay_")), "{ids:?}");

    sink.go_away().await;
    cluster.put(&run("TaskRun", "two", true));
    until_metric(&relay, r#"posts_total{status="none"}"#).await;
    cluster.put(&run("TaskRun", "three", true));
    sink.come_back().await;
    until("the others", || sink.set().len() == 3).await;
    assert!(sink.counts().values().all(|it| *it == 1));
    relay.stop().await;
}

async fn until_metric(relay: &Relay, name: &str) {
    while !get(relay, "/metrics").await.1.contains(name) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The value of a metric without labels.
async fn gauge(relay: &Relay, name: &str) -> usize {
    let (_, text) = get(relay, "/metrics").await;
    let line = text.lines().find_map(|it| it.strip_prefix(&format!("spanhook_relay_{name} ")));
    line.map_or(0, |it| it.parse().unwrap())
}

#[tokio::test]
async fn while_the_receiver_is_away_objects_wait_in_the_cluster_and_not_in_memory() {
    const OBJECTS: usize = 1500;
    let (cluster, mut sink) = (Cluster::start().await, Sink::start().await);
    let relay = relay(&cluster, &sink).await;
    ready(&relay).await;
    cluster.page(500);
    sink.go_away().await;
    for index in 0..OBJECTS {
        cluster.put(&lighthouse_job(&format!("job-{index}"), true));
    }
    until_metric(&relay, r#"posts_total{status="none"}"#).await;
    // The API server forgets what the watches did not take.
    cluster.expire();
    assert!(gauge(&relay, "queued_items").await <= 610);
    sink.come_back().await;
    until("all", || sink.set().len() == OBJECTS).await;
    let largest = sink.got().batches.iter().map(|it| it["items"].as_array().unwrap().len()).max();
    assert_eq!(largest, Some(100));
    assert!(sink.counts().values().all(|it| *it == 1));
    relay.stop().await;
}

#[tokio::test]
async fn what_the_receiver_refuses_for_good_costs_no_other() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    sink.poison("uid-task-13");
    for index in 0..40 {
        cluster.put(&run("TaskRun", &format!("task-{index}"), true));
    }
    let relay = relay(&cluster, &sink).await;
    until("the others", || sink.set().len() == 39).await;
    until_metric(&relay, r#"items_dropped_total{kind="TaskRun"} 1"#).await;
    assert!(!sink.set().contains("TaskRun uid-task-13"));
    relay.stop().await;
}

#[tokio::test]
async fn a_wrong_key_loses_nothing_until_it_is_mended() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "whsec_d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmc=").unwrap();
    let flag = format!("--signing-key-file={}", path.display());
    let relay = relay_with(&cluster, &sink, &[&flag]).await;
    cluster.put(&run("TaskRun", "task", true));
    until_metric(&relay, r#"posts_total{status="401"}"#).await;
    assert_eq!(sink.items(), Vec::<Value>::new());
    std::fs::write(&path, support::KEY).unwrap();
    until("the object", || sink.set().len() == 1).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_page_that_says_200_is_not_taken_for_spanhook() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    sink.answer(3, 200, "<!DOCTYPE html><title>Log in</title>");
    cluster.put(&run("TaskRun", "task", true));
    let relay = relay_with(&cluster, &sink, &["--deliveries=127.0.0.1:0"]).await;
    until("the object", || sink.set().len() == 1).await;
    let (_, metrics) = get(&relay, "/metrics").await;
    assert!(metrics.contains(r#"posts_total{status="200"} 3"#), "{metrics}");
    assert!(metrics.contains(r#"items_sent_total{kind="TaskRun"} 1"#), "{metrics}");
    // Nor does a sender of deliveries hear of it.
    sink.answer(9, 200, "<!DOCTYPE html><title>Log in</title>");
    let answer = Client::new().post(delivery(&relay, "/lighthouse")).body("{}").send().await;
    assert_eq!(answer.unwrap().status().as_u16(), 502);
    relay.stop().await;
}

#[tokio::test]
async fn what_spanhook_can_not_read_is_counted_as_that_and_not_sent_again() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    sink.answer(1, 202, r#"{"status":"quarantined","reason":"the body is no event"}"#);
    cluster.put(&run("TaskRun", "task", true));
    let relay = relay(&cluster, &sink).await;
    until_metric(&relay, r#"items_quarantined_total{kind="TaskRun"} 1"#).await;
    let (_, metrics) = get(&relay, "/metrics").await;
    assert!(!metrics.contains("items_sent_total{"), "{metrics}");
    assert_eq!(sink.got().requests.len(), 1);
    relay.stop().await;
}

#[tokio::test]
async fn a_relay_that_is_asked_to_stop_sends_what_it_has() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let relay = relay_with(&cluster, &sink, &["--batch-wait=1h"]).await;
    ready(&relay).await;
    for index in 0..7 {
        cluster.put(&run("TaskRun", &format!("task-{index}"), true));
    }
    while gauge(&relay, "queued_items").await < 7 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(sink.items(), Vec::<Value>::new());
    relay.stop().await;
    assert_eq!(sink.set().len(), 7);
}

#[tokio::test]
async fn probes_tell_alive_from_ready() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    cluster.fail(u32::MAX, 500);
    let relay = relay(&cluster, &sink).await;
    assert_eq!(get(&relay, "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(&relay, "/readyz").await.0, 503);
    cluster.fail(0, 500);
    ready(&relay).await;
    relay.stop().await;
}

fn delivery(relay: &Relay, path: &str) -> String {
    format!("http://{}{path}", relay.deliveries.unwrap())
}

#[tokio::test]
async fn cloud_events_of_tekton_are_pruned_signed_and_passed_on() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let relay = relay_with(&cluster, &sink, &["--deliveries=127.0.0.1:0"]).await;
    let http = Client::new();
    let event = json!({"taskRun": run("TaskRun", "task", true)});
    let structured = json!({
        "specversion": "1.0", "type": "dev.tekton.event.taskrun.successful.v1", "id": "1", "source": "/x",
        "data": event, "extension": SECRET,
    });
    sink.fail(2, 503);
    for body in [&event, &structured] {
        let answer = http
            .post(delivery(&relay, "/tekton"))
            .header("Ce-Type", "dev.tekton.event.taskrun.successful.v1")
            .header("Content-Type", "application/json")
            .header("Authorization", "Bearer of-the-cluster")
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
            (202, support::sink::ACCEPTED)
        );
    }
    for body in ["", "{}", "[]", r#"{"taskRun": 1}"#, "not JSON"] {
        let answer = http.post(delivery(&relay, "/tekton")).body(body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 400, "{body}");
    }
    let got = sink.got();
    let (path, id, headers, body) = &got.requests[2];
    assert_eq!(path, "/tekton");
    assert_eq!(*id, got.requests[0].1, "tries have one id");
    assert_eq!(headers["ce-type"], "dev.tekton.event.taskrun.successful.v1");
    assert!(!headers.contains_key("authorization"));
    let text = std::str::from_utf8(body).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    insta::assert_json_snapshot!(sorted(&serde_json::from_str(text).unwrap()));
    let text = std::str::from_utf8(&got.requests[3].3).unwrap();
    assert!(!text.contains(SECRET) && text.contains(r#""data":{"taskRun""#), "{text}");
}

#[tokio::test]
async fn deliveries_of_lighthouse_are_passed_on_untouched() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let relay = relay_with(&cluster, &sink, &["--deliveries=127.0.0.1:0"]).await;
    let body = "{\"Ref\" : \"refs/heads/main\",\n \"GUID\":\"g\"}\n";
    sink.fail(1, 503);
    for path in ["/lighthouse", "/lighthouse/events"] {
        let request = Client::new().post(delivery(&relay, path)).body(body);
        let answer = request
            .header("User-Agent", "LighthouseHook")
            .header("X-Lighthouse-Payload-Type", "webhook")
            .header("X-Lighthouse-Webhook-Kind", "push")
            .header("X-Lighthouse-Signature", "sha256=00")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), 202);
    }
    let got = sink.got();
    assert_eq!(got.requests.len(), 3);
    for (path, id, headers, passed) in &got.requests {
        assert_eq!((path.as_str(), id.as_str(), &passed[..]), ("/lighthouse", "", body.as_bytes()));
        assert_eq!(headers["x-lighthouse-signature"], "sha256=00");
        assert_eq!(headers["user-agent"], "LighthouseHook");
        assert!(!headers.contains_key("webhook-signature"));
    }
}

/// Says that a body comes, and is told to go on once there is a place for it.
async fn announced(relay: &Relay, path: &str, bytes: usize) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(relay.deliveries.unwrap()).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {bytes}\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    let status = String::from_utf8_lossy(&status[9..]).into_owned();
    (stream, status)
}

#[tokio::test]
async fn deliveries_that_do_not_come_hold_a_bounded_part_of_the_memory() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    for (bytes, at_once) in [(1, 64), (9_000_000, 7)] {
        let relay = relay_with(&cluster, &sink, &["--deliveries=127.0.0.1:0"]).await;
        let mut open = Vec::new();
        for _ in 0..at_once {
            let (stream, status) = announced(&relay, "/lighthouse", bytes).await;
            assert_eq!(status, "100");
            open.push(stream);
        }
        assert_eq!(announced(&relay, "/lighthouse", bytes).await.1, "503", "{bytes}");
        // Each place is free again when who had it goes away.
        open.clear();
        let delivered = async || {
            let answer = Client::new().post(delivery(&relay, "/lighthouse")).body("{}").send();
            answer.await.unwrap().status().as_u16()
        };
        while delivered().await == 503 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(delivered().await, 202);
    }
}

#[tokio::test]
async fn a_delivery_that_is_larger_than_any_can_be_is_not_read() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let relay = relay_with(&cluster, &sink, &["--deliveries=127.0.0.1:0"]).await;
    for (path, bytes) in [("/tekton", 3 << 20), ("/lighthouse", 10_000_001)] {
        assert_eq!(announced(&relay, path, bytes).await.1, "413", "{path}");
        // Nor where its size is not said: it is given up in the middle.
        let mut stream = TcpStream::connect(relay.deliveries.unwrap()).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = format!("{bytes:x}\r\n{}\r\n0\r\n\r\n", " ".repeat(bytes));
        stream.write_all(head.as_bytes()).await.unwrap();
        let sending = tokio::spawn(async move { stream.write_all(chunk.as_bytes()).await });
        until_metric(&relay, &format!(r#"{{path="{path}",status="413"}} 2"#)).await;
        sending.abort();
    }
    assert!(sink.got().requests.is_empty());
}

#[tokio::test]
async fn a_receiver_that_redirects_gets_nothing_and_nor_does_who_it_names() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = format!("http://{}", elsewhere.local_addr().unwrap());
    let redirect = Router::new().fallback(move || async move { Redirect::temporary(&other) });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, redirect).await });
    let cluster = Cluster::start().await;
    cluster.put(&run("TaskRun", "task", true));
    let options = options(&url, &[]);
    let relay = Relay::start_with(options, client(&cluster), paces()).await.unwrap();
    until_metric(&relay, r#"posts_total{status="307"}"#).await;
    assert!(elsewhere.accept().now_or_never().is_none(), "nobody came there");
    assert!(!get(&relay, "/metrics").await.1.contains("items_sent_total{"));
}

#[tokio::test]
async fn a_delivery_is_not_acknowledged_before_the_receiver_did() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let relay = relay_with(&cluster, &sink, &["--deliveries=127.0.0.1:0"]).await;
    for (status, expected) in [(401, 401), (400, 400), (404, 404)] {
        sink.fail(1, status);
        let answer = Client::new().post(delivery(&relay, "/lighthouse")).body("{}").send().await;
        assert_eq!(answer.unwrap().status().as_u16(), expected);
    }
}

#[tokio::test]
async fn an_address_in_use_or_a_missing_key_is_told_at_the_start() {
    let (cluster, sink) = (Cluster::start().await, Sink::start().await);
    let first = relay(&cluster, &sink).await;
    let mut taken = options(&sink.url(), &[]);
    taken.listen = first.listen;
    let error = Relay::start_with(taken, client(&cluster), paces()).await.unwrap_err().to_string();
    assert!(error.contains("choose another --listen"), "{error}");
    let mut without = options(&sink.url(), &[]);
    without.signing_key = None;
    let error =
        Relay::start_with(without, client(&cluster), paces()).await.unwrap_err().to_string();
    assert!(error.contains("KUBERNETES_SIGNING_KEY"), "{error}");
}
