mod damage;
mod room;

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::{gallery::KEPT_TRACES, *};

fn message(name: &str) -> Message {
    let attributes = BTreeMap::from([("trace_id".to_owned(), "ab".repeat(16))]);
    Message { body: name.to_owned().into(), attributes, group: String::new() }
}

async fn take(store: &Store, max: usize) -> Vec<Received> {
    store.receive(max, Instant::now()).await
}

fn text(message: &Received) -> &str {
    std::str::from_utf8(&message.body).unwrap()
}

fn bodies(batch: &[Received]) -> Vec<&str> {
    batch.iter().map(text).collect()
}

/// Returns once the writer has ended with its last handle and let go of the folder.
async fn close(store: Store) {
    let folder = store.inner.reader.folder().to_owned();
    drop(store);
    while segments::lock(&folder).unwrap().is_none() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn messages_come_in_order_once_and_again_only_when_they_are_due() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.send(vec![message("a"), message("b"), message("c")]).await.unwrap();
    let batch = take(&store, 2).await;
    assert_eq!(bodies(&batch), ["a", "b"]);
    assert_eq!(bodies(&take(&store, 9).await), ["c"]);
    assert!(take(&store, 9).await.is_empty(), "all are hidden");
    store.back_off(&[(&batch[1], Duration::ZERO)]).await.unwrap();
    store.delete(&[&batch[0]]).await.unwrap();
    let again = take(&store, 9).await;
    assert_eq!((bodies(&again), again[0].receive_count), (vec!["b"], 2));
    assert_eq!(store.depth(), 2);
}

#[tokio::test]
async fn what_rests_is_woken_once_nothing_else_is_there() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.send(vec![message("a"), message("b")]).await.unwrap();
    let batch = take(&store, 9).await;
    let hour = Duration::from_secs(3600);
    store.back_off(&[(&batch[0], hour), (&batch[1], hour)]).await.unwrap();
    store.send(vec![message("c")]).await.unwrap();
    store.wake();
    let new = take(&store, 9).await;
    assert_eq!(bodies(&new), ["c"], "what is new goes before what was refused");
    store.delete(&[&new[0]]).await.unwrap();
    store.wake();
    assert_eq!(bodies(&take(&store, 9).await), ["a", "b"]);
}

#[tokio::test]
async fn a_batch_is_no_more_than_one_request() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let large = |it: usize| {
        // Nothing that compresses.
        let noise = (0..300_000_u64)
            .map(|at| ((at * at).wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]);
        let attributes = BTreeMap::new();
        Message { body: noise.skip(it).collect(), attributes, group: String::new() }
    };
    store.send((0..20).map(large).collect()).await.unwrap();
    let mut seen = 0;
    while seen < 20 {
        let batch = take(&store, 1000).await;
        let bytes: usize = batch.iter().map(|it| it.body.len()).sum();
        assert!(bytes <= REQUEST_LIMIT && bytes >= BATCH_BYTES.min(300_000), "{bytes}");
        seen += batch.len();
    }
}

#[tokio::test]
async fn what_was_not_deleted_is_there_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.send((0..100).map(|it| message(&it.to_string())).collect()).await.unwrap();
    let batch = take(&store, 60).await;
    store.delete(&batch.iter().take(40).collect::<Vec<_>>()).await.unwrap();
    store.reject(&batch[50], "poison").await.unwrap();
    close(store).await;
    let store = Store::open(folder.path()).unwrap();
    assert_eq!((store.depth(), store.dead_letters()), (59, 1));
    assert_eq!(take(&store, 1000).await.len(), 59);
    let dead = store.dead();
    assert_eq!((text(&dead[0]), dead[0].attributes["reason"].as_str()), ("50", "poison"));
}

#[tokio::test]
async fn a_second_store_on_the_same_folder_is_refused() {
    let folder = TempDir::new().unwrap();
    let _store = Store::open(folder.path()).unwrap();
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Locked(_))));
}

fn placed(batch: &[Received]) -> Vec<(&Received, Vec<String>)> {
    batch.iter().map(|it| (it, vec![it.attributes["trace_id"].clone()])).collect()
}

#[tokio::test]
async fn the_oldest_traces_make_room_for_new_ones() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let of = |number: usize| {
        let attributes = BTreeMap::from([("trace_id".to_owned(), format!("{number:032x}"))]);
        Message { body: format!("body {number}").into(), attributes, group: String::new() }
    };
    store.send((0..KEPT_TRACES + 5).map(of).collect()).await.unwrap();
    loop {
        let batch = take(&store, 400).await;
        if batch.is_empty() {
            break;
        }
        store.show(placed(&batch)).await.unwrap();
    }
    let check = |store: &Store| {
        let traces = store.traces(usize::MAX);
        assert_eq!((traces.len(), store.depth()), (KEPT_TRACES, 0));
        assert_eq!(traces[0].0, format!("{:032x}", KEPT_TRACES + 4), "newest first");
        assert_eq!(store.trace(&format!("{:032x}", 0)).count(), 0, "the oldest is gone");
        assert_eq!(store.trace(&traces[0].0).count(), 1);
    };
    check(&store);
    close(store).await;
    check(&Store::open(folder.path()).unwrap());
}

#[tokio::test]
async fn the_same_message_twice_is_kept_once() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.send(vec![message("same"), message("same"), message("other")]).await.unwrap();
    let batch = take(&store, 9).await;
    store.show(placed(&batch)).await.unwrap();
    assert_eq!(store.trace(&"ab".repeat(16)).count(), 2);
    assert_eq!(store.traces(9).len(), 1);
}
