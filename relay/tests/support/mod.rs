//! A relay between a cluster and a receiver that are both made up.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part, and fails by panicking")]

pub(crate) mod cluster;
pub(crate) mod objects;
pub(crate) mod sink;

use std::{
    collections::BTreeMap,
    sync::Once,
    time::{Duration, Instant},
};

use clap::Parser;
use kube::Client;
use relay::{
    options::Options,
    post::Pace,
    relay::{Paces, Relay},
    watch::WatchPace,
};
use serde_json::Value;

pub(crate) use cluster::Cluster;
pub(crate) use sink::Sink;

/// Signs and verifies.
pub(crate) const KEY: &str = "whsec_cmVsYXktcmVsYXktcmVsYXktcmVsYXktcmVsYXk=";

/// Waits for something to become true, and fails where it does not.
pub(crate) async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_true() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a relay between the two is started with.
pub(crate) fn options(sink: &str, more: &[&str]) -> Options {
    let endpoint = format!("--endpoint={sink}");
    let fixed = [
        "spanhook-relay",
        &endpoint,
        "--cluster=test",
        "--listen=127.0.0.1:0",
        "--backfill=87600h",
        "--batch-wait=20ms",
        "--flush=10s",
    ];
    let flag = |it: &str| it.split('=').next().map(ToOwned::to_owned);
    let is_given = |it: &str| more.iter().any(|more| flag(more) == flag(it));
    let fixed = fixed.into_iter().filter(|it| !is_given(it));
    let mut options = Options::try_parse_from(fixed.chain(more.iter().copied())).unwrap();
    options.signing_key = Some(KEY.to_owned());
    options
}

/// Faster than a person would want it.
pub(crate) fn paces() -> Paces {
    let pace = Pace { first: Duration::from_millis(10), most: Duration::from_millis(50) };
    Paces { post: pace, watch: WatchPace { absent: Duration::from_millis(50), failed: pace } }
}

/// Every HTTP client needs a provider of cryptography, and a process may have two linked in.
pub(crate) fn choose_provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// The same whatever order this build of `serde_json` keeps.
pub(crate) fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let each: BTreeMap<_, _> =
                fields.iter().map(|(key, it)| (key.clone(), sorted(it))).collect();
            Value::Object(each.into_iter().collect())
        }
        Value::Array(list) => list.iter().map(sorted).collect(),
        value => value.clone(),
    }
}

pub(crate) fn client(cluster: &Cluster) -> Client {
    choose_provider();
    let mut config = kube::Config::new(cluster.url().parse().unwrap());
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

pub(crate) async fn relay(cluster: &Cluster, sink: &Sink) -> Relay {
    relay_with(cluster, sink, &[]).await
}

pub(crate) async fn relay_with(cluster: &Cluster, sink: &Sink, more: &[&str]) -> Relay {
    Relay::start_with(options(&sink.url(), more), client(cluster), paces()).await.unwrap()
}

/// Status and text of what the relay serves.
pub(crate) async fn get(relay: &Relay, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://{}{path}", relay.listen)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Waits until the relay has listed what there is.
pub(crate) async fn ready(relay: &Relay) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while get(relay, "/readyz").await.0 != 200 {
        assert!(Instant::now() < deadline, "the relay is not ready");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
