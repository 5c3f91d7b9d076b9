//! Several processes on one queue: what was answered 2xx arrives, whichever of them ends, and how.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeSet,
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::Duration,
};

use spanhook_tests::{Parts, eventually, parts_alone, sqs::Sqs};
use support::{Answer, Collector, Serve, job};
use tempfile::TempDir;

/// As the templates set it: a message outlives a long outage.
const RECEIVES: u32 = 1000;

/// Connections that post to each process at the same time.
const SENDERS: usize = 4;

/// A queue and a Collector, and processes on them.
struct Deployment {
    sqs: Sqs,
    collector: Collector,
    data: TempDir,
}

impl Deployment {
    async fn start(
        parts: &Parts,
        judge: impl Fn(usize, &BTreeSet<String>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self {
            sqs: Sqs::start_patient(parts, RECEIVES).await,
            collector: Collector::start(judge).await,
            data: TempDir::new().unwrap(),
        }
    }

    fn vars(&self) -> Vec<(&str, &str)> {
        let mut vars = self.sqs.vars();
        vars.extend([
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "eu-west-1"),
        ]);
        vars
    }

    fn serve(&self, role: &str) -> Serve {
        self.serve_to(role, &self.collector)
    }

    /// A process with a role. A receiver knows no Collector.
    fn serve_to(&self, role: &str, collector: &Collector) -> Serve {
        let mut vars = self.vars();
        vars.push(("SPANHOOK_ROLE", role));
        if role != "receive" {
            vars.push(("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url));
        }
        let serve = Serve::start(&self.data.path().join("unused"), &vars);
        assert!(!self.data.path().join("unused").exists(), "nothing is kept on its disk");
        serve
    }

    /// What `serve` says to variables with which it does not start.
    fn refused(&self, change: &[(&str, &str)]) -> String {
        let done = Command::new(env!("CARGO_BIN_EXE_spanhook"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(self.data.path())
            .env_clear()
            .env("CIRCLECI_HOOK_SECRET", support::SECRET)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &self.collector.url)
            .envs(self.vars())
            .envs(change.iter().copied())
            .output();
        let Output { status, stderr, .. } = done.unwrap();
        assert!(!status.success());
        String::from_utf8(stderr).unwrap()
    }

    /// Nothing waits, nothing is in flight, and nothing is a dead letter.
    async fn is_empty(&self) {
        eventually("the queue's end", async || self.sqs.count(&self.sqs.queue).await == (0, 0))
            .await;
        assert_eq!(self.sqs.count(&self.sqs.dead_letters).await, (0, 0));
    }
}

fn names(accepted: &Mutex<BTreeSet<String>>) -> BTreeSet<String> {
    accepted.lock().unwrap().clone()
}

/// Posts to a process until it ends or enough was accepted; gives what was answered 202.
async fn load(
    serve: Arc<Serve>,
    name: &str,
    accepted: Arc<Mutex<BTreeSet<String>>>,
    enough: usize,
) {
    let senders = (0..SENDERS).map(|sender| {
        let (serve, accepted) = (Arc::clone(&serve), Arc::clone(&accepted));
        let name = format!("{name}/{sender}");
        tokio::spawn(async move {
            let client = reqwest::Client::new();
            for number in 0.. {
                if accepted.lock().unwrap().len() >= enough {
                    return;
                }
                let name = format!("{name}/{number}");
                match serve.post(&client, &job(&name)).await {
                    Ok(202) => accepted.lock().unwrap().insert(name),
                    // The queue is slow for a moment: the sender is asked to try again.
                    Ok(503) => false,
                    Ok(status) => panic!("{name} was answered {status}"),
                    Err(_) => return, // killed
                };
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SPANHOOK_PARTS"]
async fn of_two_replicas_one_is_killed_under_load_and_nothing_is_lost_or_stuck() {
    // Every third request is refused for now and the others take a while, so messages are in flight.
    let judge = |number: usize, _: &BTreeSet<String>| {
        if number.is_multiple_of(3) {
            Answer::Status(503)
        } else {
            Answer::TakeAfter(Duration::from_secs(2))
        }
    };
    let here = Deployment::start(&parts_alone(), judge).await;
    // One of its own for the one that is killed tells what that one has under way.
    let doomed = Collector::start(judge).await;
    let first = Arc::new(here.serve_to("all", &doomed));
    let second = Arc::new(here.serve("all"));
    let accepted = Arc::default();
    let enough = 600;
    let loads = [(&first, "first"), (&second, "second")].map(|(serve, name)| {
        tokio::spawn(load(Arc::clone(serve), name, Arc::clone(&accepted), enough))
    });
    eventually("load", async || accepted.lock().unwrap().len() > enough / 2).await;
    let begun = doomed.requests();
    let sends = || doomed.requests() > begun && doomed.under_way() > 0;
    support::wait_until(sends, || "it sends nothing".into()).await;
    let kill = Command::new("sh").args(["-c", &format!("kill -KILL {}", first.id())]).status();
    assert!(kill.unwrap().success());
    for load in loads {
        load.await.unwrap();
    }
    support::wait_until(|| doomed.broken_off() > 0, || "it had nothing under way".into()).await;
    let accepted = names(&accepted);
    let from = |name: &str| accepted.iter().filter(|it| it.starts_with(name)).count();
    assert!(from("first") > 50 && from("second") > 50, "{} {}", from("first"), from("second"));
    // What the killed one had comes back when its lease ends.
    let arrived = |name: &String| [&doomed, &here.collector].map(|it| it.times(name));
    eventually("arriving", async || {
        accepted.iter().all(|name| arrived(name).iter().sum::<usize>() > 0)
    })
    .await;
    here.is_empty().await;
    let twice = accepted.iter().filter(|name| arrived(name).iter().sum::<usize>() > 1).count();
    println!("{} accepted, {twice} arrived more than once", accepted.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SPANHOOK_PARTS"]
async fn receivers_and_forwarders_may_be_apart() {
    let here = Deployment::start(&parts_alone(), |_, _| Answer::Take).await;
    let (receiver, accepted) = (Arc::new(here.serve("receive")), Arc::default());
    load(Arc::clone(&receiver), "apart", Arc::clone(&accepted), 200).await;
    assert_eq!(here.collector.requests(), 0, "a receiver sends nothing to a Collector");
    let waiting = here.sqs.count(&here.sqs.queue).await;
    assert!(waiting.0 >= 200 && waiting.1 == 0, "{waiting:?}");

    let forwarders = [here.serve("forward"), here.serve("forward")];
    let client = reqwest::Client::new();
    assert_eq!(forwarders[0].post(&client, &job("x")).await.unwrap(), 404);
    here.collector.wait_for(&names(&accepted)).await;
    here.is_empty().await;
    // Counted by both: what the queue holds is said by each of them.
    for serve in [&*receiver, &forwarders[0]] {
        let page = reqwest::get(&serve.url).await.unwrap();
        assert_eq!(page.status().as_u16(), 200);
        eventually("counting", async || serve.status("queued").await == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SPANHOOK_PARTS"]
async fn what_is_stopped_gives_back_what_it_has_not_sent() {
    // It says nothing for longer than a stop may take.
    let judge = |_: usize, _: &BTreeSet<String>| Answer::Slow(Duration::from_secs(60));
    let here = Deployment::start(&parts_alone(), judge).await;
    let serve = Arc::new(here.serve("all"));
    load(Arc::clone(&serve), "stopped", Arc::default(), 30).await;
    eventually("a receive", async || here.sqs.count(&here.sqs.queue).await.1 > 0).await;
    let before = here.sqs.count(&here.sqs.queue).await;
    Arc::into_inner(serve).unwrap().terminate();
    let after = here.sqs.count(&here.sqs.queue).await;
    assert_eq!(after, (before.0 + before.1, 0), "{before:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SPANHOOK_PARTS"]
async fn an_outage_of_the_collector_is_waited_out() {
    let here = Deployment::start(&parts_alone(), |number, _| {
        if number <= 4 { Answer::Status(503) } else { Answer::Take }
    })
    .await;
    let receiver = Arc::new(here.serve("receive"));
    let accepted = Arc::default();
    load(receiver, "outage", Arc::clone(&accepted), 300).await;
    let _forwarder = here.serve("forward");
    here.collector.wait_for(&names(&accepted)).await;
    here.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SPANHOOK_PARTS"]
async fn without_its_queue_a_process_does_not_start_or_is_not_ready() {
    let here = Deployment::start(&parts_alone(), |_, _| Answer::Take).await;
    let gone = format!("{}-gone", here.sqs.queue);
    for (change, said) in [
        (vec![("QUEUE_URL", gone.as_str())], "the queue of QUEUE_URL can't be used"),
        (
            vec![("DEAD_LETTER_QUEUE_URL", gone.as_str())],
            "the queue of DEAD_LETTER_QUEUE_URL can't be used",
        ),
        (vec![("DEAD_LETTER_QUEUE_URL", "")], "DEAD_LETTER_QUEUE_URL is not set"),
        (vec![("QUEUE_URL", "spans")], "QUEUE_URL can't be used; set it to the URL"),
        (vec![("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")], "check QUEUE_URL, AWS_REGION"),
        (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "")], "there is no page of traces"),
        (vec![("QUEUE_URL", ""), ("SPANHOOK_ROLE", "forward")], "QUEUE_URL is not set"),
    ] {
        let text = here.refused(&change);
        assert!(text.contains(said), "{change:?}: {text}");
    }

    let serve = here.serve("receive");
    let ready = async || reqwest::get(format!("{}/ready", serve.url)).await.unwrap().status();
    assert_eq!(ready().await, 200);
    let Deployment { sqs, .. } = here;
    sqs.stop().await;
    let client = reqwest::Client::new();
    assert_eq!(serve.post(&client, &job("lost")).await.unwrap(), 503);
    eventually("being not ready", async || ready().await == 503).await;
    let health = reqwest::get(format!("{}/health", serve.url)).await.unwrap();
    assert_eq!(health.status(), 200, "a new start would not help at once");
}
