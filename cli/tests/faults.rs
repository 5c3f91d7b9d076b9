//! What a Collector can do wrong, and what `serve` does about it: nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use support::{Answer, Collector, SECRET, Serve, job, wait_until};
use tempfile::TempDir;

fn names(prefix: &str, count: usize) -> BTreeSet<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

async fn post_all(serve: &Serve, names: &BTreeSet<String>) {
    let client = reqwest::Client::new();
    for name in names {
        assert_eq!(serve.post(&client, &job(name)).await.unwrap(), 202);
    }
}

/// Sends twenty deliveries to a Collector that answers as told at first.
async fn delivered_in_spite_of(
    judge: impl Fn(usize) -> Answer + Send + Sync + 'static,
) -> Collector {
    let data = TempDir::new().unwrap();
    let collector = Collector::start(move |number, _| judge(number)).await;
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
    ];
    let serve = Serve::start(data.path(), &vars);
    let names = names("job", 20);
    post_all(&serve, &names).await;
    collector.wait_for(&names).await;
    assert_eq!(serve.status("dead_letters").await, 0);
    collector
}

#[tokio::test]
async fn a_collector_that_was_down_gets_everything_when_it_is_back() {
    let data = TempDir::new().unwrap();
    let first = Collector::start(|_, _| Answer::Take).await;
    let address = first.address;
    let serve = Serve::forwarding_to(data.path(), &first);
    first.stop();
    let names = names("down", 20);
    post_all(&serve, &names).await;
    assert_eq!(serve.status("queued").await, 20, "the queue holds what can't be delivered");
    let back = Collector::start_at(address, |_, _| Answer::Take).await;
    back.wait_for(&names).await;
}

#[tokio::test]
async fn overload_and_outages_are_waited_out() {
    for status in [429, 502, 503, 504] {
        delivered_in_spite_of(
            move |number| {
                if number <= 2 { Answer::Status(status) } else { Answer::Take }
            },
        )
        .await;
    }
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let began = std::time::Instant::now();
    delivered_in_spite_of(
        |number| {
            if number == 1 { Answer::RetryAfter(429, "2") } else { Answer::Take }
        },
    )
    .await;
    assert!(began.elapsed() >= Duration::from_secs(2), "it came back after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_slow_collector_is_asked_again() {
    delivered_in_spite_of(|number| {
        if number <= 2 { Answer::Slow(Duration::from_secs(2)) } else { Answer::Take }
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_count() {
    let collector =
        delivered_in_spite_of(|number| if number <= 2 { Answer::Cut } else { Answer::Take }).await;
    assert!(collector.requests() > 2);
}

#[tokio::test]
async fn of_many_messages_only_the_refused_one_becomes_a_dead_letter() {
    let data = TempDir::new().unwrap();
    // The first answer is slow, so that the others meet in one batch.
    let collector = Collector::start(|number, names| match number {
        1 => Answer::Slow(Duration::from_secs(2)),
        _ if names.contains("job-7") => Answer::Status(400),
        _ => Answer::Take,
    })
    .await;
    let serve = Serve::forwarding_to(data.path(), &collector);
    let mut names = names("job", 30);
    post_all(&serve, &names).await;
    names.remove("job-7");
    // The slow one said 200 without noting names; its spans are not waited for.
    wait_until(|| collector.taken().len() >= names.len() - 1, || "good spans are missing".into())
        .await;
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while serve.status("dead_letters").await != 1 {
        assert!(std::time::Instant::now() < until, "the poison message is no dead letter");
    }
    assert!(!collector.taken().contains_key("job-7"));
    assert_eq!(serve.status("queued").await, 0);
}

#[tokio::test]
async fn the_operators_mistake_keeps_everything_queued() {
    let data = TempDir::new().unwrap();
    let collector = Collector::start(|_, _| Answer::Status(401)).await;
    let serve = Serve::forwarding_to(data.path(), &collector);
    let names = names("job", 5);
    post_all(&serve, &names).await;
    wait_until(|| collector.requests() > 0, || "nothing was sent".into()).await;
    assert_eq!(serve.status("queued").await, 5);
    assert_eq!(serve.status("dead_letters").await, 0);
    drop(serve);

    // The key is mended and the process restarted.
    let mended = Collector::start(|_, _| Answer::Take).await;
    let _serve = Serve::forwarding_to(data.path(), &mended);
    mended.wait_for(&names).await;
}

#[tokio::test]
async fn what_is_no_otlp_receiver_gets_few_requests_and_then_everything_when_it_is_mended() {
    let mistakes = [
        Answer::Status(401),
        Answer::Says(200, "text/html; charset=utf-8", "<!doctype html><title>Sign in</title>"),
        Answer::Endless,
        Answer::Says(400, "text/plain", "Client sent an HTTP request to an HTTPS server.\n"),
        Answer::Says(400, "text/plain", "this is something else"),
    ];
    let tested = mistakes.map(|mistake| tokio::spawn(kept_until_mended(mistake)));
    for test in tested {
        test.await.unwrap();
    }
}

async fn kept_until_mended(mistake: Answer) {
    let data = TempDir::new().unwrap();
    let mended = Arc::new(AtomicBool::new(false));
    let works = Arc::clone(&mended);
    let collector = Collector::start(move |_, _| {
        if works.load(Ordering::Relaxed) { Answer::Take } else { mistake.clone() }
    })
    .await;
    let serve = Serve::forwarding_to(data.path(), &collector);
    let names = names("job", 50);
    post_all(&serve, &names).await;
    // More than the first one: so the second was a probe.
    wait_until(|| collector.requests() >= 3, || "it was not asked again".into()).await;
    assert_eq!((serve.status("queued").await, serve.status("dead_letters").await), (50, 0));
    let requests = collector.requests();
    assert!(requests <= 25, "{requests} requests for 50 deliveries that it does not take");
    mended.store(true, Ordering::Relaxed);
    collector.wait_for(&names).await;
    assert_eq!(serve.status("dead_letters").await, 0);
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_told_why_it_may_not() {
    let data = TempDir::new().unwrap();
    let _serve = Serve::start(data.path(), &[]);
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_spanhook"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data.path())
        .env("CIRCLECI_HOOK_SECRET", SECRET)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains("another spanhook uses"), "{said}");
}
