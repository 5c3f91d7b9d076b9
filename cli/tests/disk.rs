//! What a disk can refuse, and what `serve` does about it: 503 while it lasts, and then as before.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use support::{Answer, Collector, Serve, job};
use tempfile::TempDir;

async fn status(serve: &Serve, path: &str) -> u16 {
    reqwest::get(format!("{}{path}", serve.url)).await.unwrap().status().as_u16()
}

async fn wait_for(serve: &Serve, path: &str, wanted: u16) {
    let until = Instant::now() + Duration::from_secs(60);
    while status(serve, path).await != wanted {
        assert!(Instant::now() < until, "{path} is not answered {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Posts and remembers what was taken.
async fn post(
    serve: &Serve,
    client: &reqwest::Client,
    name: &str,
    taken: &mut BTreeSet<String>,
) -> u16 {
    let status = serve.post(client, &job(name)).await.unwrap();
    if status == 202 {
        taken.insert(name.to_owned());
    }
    status
}

/// Sets a limit of the running process, and returns the one before.
fn limit(serve: &Serve, resource: Resource, current: Option<u64>) -> Option<u64> {
    let process = Pid::from_raw(serve.id().try_into().unwrap());
    // The child has inherited ours.
    let maximum = getrlimit(resource).maximum;
    prlimit(process, resource, Rlimit { current, maximum }).unwrap().current
}

/// A process that gets an error instead of a signal for a file that is too large.
fn serve_without_signal(data: &Path, collector: &Collector) -> Serve {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_spanhook")]);
    Serve::start_by(command, data, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)])
}

#[tokio::test]
async fn intake_works_again_by_itself_after_the_disk_refused_writes() {
    let data = TempDir::new().unwrap();
    let collector = Collector::start(|_, _| Answer::Take).await;
    let serve = serve_without_signal(data.path(), &collector);
    let (client, mut taken) = (reqwest::Client::new(), BTreeSet::new());
    assert_eq!(post(&serve, &client, "before", &mut taken).await, 202);

    let unlimited = limit(&serve, Resource::Fsize, Some(0));
    for number in 0..5 {
        assert_eq!(post(&serve, &client, &format!("during-{number}"), &mut taken).await, 503);
    }
    assert_eq!((status(&serve, "/ready").await, status(&serve, "/health").await), (503, 200));

    limit(&serve, Resource::Fsize, unlimited);
    // Without another delivery: whoever asks `/ready` before sending some gets to know.
    wait_for(&serve, "/ready", 200).await;
    assert_eq!(post(&serve, &client, "after", &mut taken).await, 202);
    collector.wait_for(&taken).await;
}

#[tokio::test]
async fn intake_goes_on_when_no_file_can_be_opened() {
    let data = TempDir::new().unwrap();
    let collector = Collector::start(|_, _| Answer::Take).await;
    let serve = Serve::forwarding_to(data.path(), &collector);
    let (client, mut taken) = (reqwest::Client::new(), BTreeSet::new());
    assert_eq!(post(&serve, &client, "before", &mut taken).await, 202);
    let usual = limit(&serve, Resource::Nofile, Some(0));
    // Over the connection that is open.
    for number in 0..5 {
        assert_eq!(post(&serve, &client, &format!("during-{number}"), &mut taken).await, 202);
    }
    limit(&serve, Resource::Nofile, usual);
    assert_eq!(post(&serve, &client, "after", &mut taken).await, 202);
    collector.wait_for(&taken).await;
}

/// A file system of 16 MiB, where the test may mount one.
struct Small(TempDir);

impl Small {
    fn mount() -> Self {
        let folder = TempDir::new().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m", "spanhook-test"])
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(mount.status.success(), "{mount:?}");
        Self(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test]
#[ignore = "needs the right to mount a tmpfs"]
async fn a_full_disk_stops_intake_but_not_forwarding_until_there_is_room() {
    let disk = Small::mount();
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let judge = move |_, _: &BTreeSet<String>| {
        if is_up.load(Ordering::Relaxed) { Answer::Take } else { Answer::Status(503) }
    };
    let collector = Collector::start(judge).await;
    let serve = Serve::forwarding_to(&disk.0.path().join("data"), &collector);
    let (client, mut taken) = (reqwest::Client::new(), BTreeSet::new());
    for number in 0..20 {
        assert_eq!(post(&serve, &client, &format!("before-{number}"), &mut taken).await, 202);
    }
    // Somebody else fills the disk to the last byte.
    let filler = disk.0.path().join("filler");
    let full = fs::write(&filler, vec![1; 20 * 1024 * 1024]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(post(&serve, &client, "during", &mut taken).await, 503);
    assert_eq!((status(&serve, "/ready").await, status(&serve, "/health").await), (503, 200));

    up.store(true, Ordering::Relaxed);
    collector.wait_for(&taken).await;
    let until = Instant::now() + Duration::from_secs(60);
    while serve.status("queued").await > 0 {
        assert!(Instant::now() < until, "what was delivered is not forgotten");
    }
    assert_eq!(status(&serve, "/ready").await, 503);

    fs::remove_file(filler).unwrap();
    wait_for(&serve, "/ready", 200).await;
    assert_eq!(post(&serve, &client, "after", &mut taken).await, 202);
    collector.wait_for(&taken).await;
}
