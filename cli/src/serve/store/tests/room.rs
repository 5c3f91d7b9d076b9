//! A queue that grows has an end, and what was delivered makes room again.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use super::*;

const LIMIT: u64 = 1024 * 1024;

fn on_disk(folder: &Path) -> u64 {
    fs::read_dir(folder).unwrap().map(|it| it.unwrap().metadata().unwrap().blocks() * 512).sum()
}

fn large(number: usize) -> Message {
    message(&format!("{number} {}", "x".repeat(8 * 1024)))
}

#[tokio::test]
async fn a_full_queue_refuses_before_the_disk_does_and_takes_again_when_it_was_emptied() {
    let folder = TempDir::new().unwrap();
    let store = Store::open_limited(folder.path(), LIMIT).unwrap();
    let mut taken = 0;
    while store.send(vec![large(taken)]).await.is_ok() {
        taken += 1;
    }
    // A file takes whole blocks.
    let bytes = on_disk(folder.path());
    assert!(bytes <= LIMIT + 128 * 1024 && taken > 100, "{taken} messages, {bytes} bytes");
    let condition = store.condition();
    assert!(condition.full && !condition.failed && condition.capacity == LIMIT);
    assert_eq!(store.depth(), taken, "what was taken is not lost");

    let batch = take(&store, 20).await;
    store.reject(&batch[0], "poison").await.unwrap();
    store.delete(&batch[1..].iter().collect::<Vec<_>>()).await.unwrap();
    loop {
        let batch = take(&store, 20).await;
        if batch.is_empty() {
            break;
        }
        store.delete(&batch.iter().collect::<Vec<_>>()).await.unwrap();
    }
    assert!(!store.condition().full);
    store.send(vec![large(0)]).await.unwrap();
    assert_eq!((store.depth(), store.dead_letters()), (1, 1));
}

#[tokio::test]
async fn what_stays_for_long_does_not_keep_what_was_delivered_on_disk() {
    let folder = TempDir::new().unwrap();
    let store = Store::open_limited(folder.path(), LIMIT).unwrap();
    store.dead_letter(vec![message("letter")]).await.unwrap();
    for number in 0..400 {
        store.send(vec![large(number)]).await.unwrap();
        let batch = take(&store, 1).await;
        store.delete(&[&batch[0]]).await.unwrap();
        assert!(on_disk(folder.path()) < LIMIT / 2, "after {number}");
    }
    assert_eq!(store.dead()[0].body, "letter");
    close(store).await;
    let store = Store::open_limited(folder.path(), LIMIT).unwrap();
    assert_eq!((text(&store.dead()[0]), store.depth()), ("letter", 0));
}

#[tokio::test]
async fn the_folder_and_its_files_are_for_their_owner() {
    let above = TempDir::new().unwrap();
    let folder = above.path().join("a/queue");
    let _store = Store::open(&folder).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in fs::read_dir(&folder).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

#[tokio::test]
async fn what_is_shown_makes_room_for_what_waits() {
    let folder = TempDir::new().unwrap();
    let store = Store::open_limited(folder.path(), LIMIT).unwrap();
    for number in 0..400 {
        let attributes = BTreeMap::from([("trace_id".to_owned(), format!("{number:032x}"))]);
        store.send(vec![Message { attributes, ..large(number) }]).await.unwrap();
        let batch = take(&store, 1).await;
        store.show(placed(&batch)).await.unwrap();
    }
    let shown = store.traces(usize::MAX);
    assert_eq!(shown[0].0, format!("{:032x}", 399), "the newest is shown");
    assert!(shown.len() > 10 && shown.len() < 40, "{} of a quarter of the limit", shown.len());
    assert!(!store.condition().full && on_disk(folder.path()) < LIMIT);
}
