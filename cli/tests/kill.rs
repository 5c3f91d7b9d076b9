//! SIGKILL under load, again and again: what was answered 2xx arrives.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use support::{Answer, Collector, Serve, job};
use tempfile::TempDir;

/// How often the process is killed.
const ROUNDS: usize = 50;

/// Connections that post at the same time.
const SENDERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_answered_2xx_is_lost_by_fifty_kills() {
    let data = TempDir::new().unwrap();
    // Every third request is refused for now, so that the queue is never empty.
    let collector =
        Collector::start(
            |number, _| {
                if number % 3 == 0 { Answer::Status(503) } else { Answer::Take }
            },
        )
        .await;
    let accepted = Arc::new(Mutex::new(BTreeSet::new()));
    for round in 0..ROUNDS {
        let serve = Arc::new(Serve::forwarding_to(data.path(), &collector));
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (serve, accepted) = (Arc::clone(&serve), Arc::clone(&accepted));
                tokio::spawn(async move {
                    let client = reqwest::Client::new();
                    for number in 0.. {
                        let name = format!("{round}/{sender}/{number}");
                        match serve.post(&client, &job(&name)).await {
                            Ok(202) => accepted.lock().unwrap().insert(name),
                            Ok(status) => panic!("{name} was answered {status}"),
                            Err(_) => return, // killed
                        };
                    }
                })
            })
            .collect();
        // The kill comes at another moment of the work each time.
        let before = accepted.lock().unwrap().len();
        let wanted = before + 1 + round * 7 % 60;
        support::wait_until(|| accepted.lock().unwrap().len() >= wanted, || "no progress".into())
            .await;
        signal(&serve);
        for sender in senders {
            sender.await.unwrap();
        }
        Arc::into_inner(serve).unwrap().kill();
    }
    let _serve = Serve::forwarding_to(data.path(), &collector);
    let accepted = accepted.lock().unwrap().clone();
    assert!(accepted.len() >= ROUNDS * 20, "too little load: {}", accepted.len());
    collector.wait_for(&accepted).await;
}

/// SIGKILL from outside, while senders still hold the process.
fn signal(serve: &Serve) {
    // The shell's own: not every system has it as a program.
    let kill = format!("kill -KILL {}", serve.id());
    let status = std::process::Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(status.success());
}
