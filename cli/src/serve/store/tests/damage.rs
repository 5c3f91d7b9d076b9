//! One flipped byte anywhere: nothing but what it hits is missing, and that is told.

use std::{collections::BTreeSet, fs, path::PathBuf};

use super::*;

const LIMIT: u64 = 2 * 1024 * 1024;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    files
}

fn copy(folder: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    for file in files(folder) {
        fs::copy(&file, to.path().join(file.file_name().unwrap())).unwrap();
    }
    to
}

/// Several segments: messages that wait, some delivered, some dead, some shown.
async fn filled(folder: &Path) -> BTreeSet<String> {
    let store = Store::open_limited(folder, LIMIT).unwrap();
    let mut all = BTreeSet::new();
    for batch in 0..80 {
        let names: Vec<_> = (0..5).map(|it| format!("{batch}/{it}: {}", "x".repeat(600))).collect();
        store.send(names.iter().map(|it| message(it)).collect()).await.unwrap();
        all.extend(names);
    }
    let batch = take(&store, 60).await;
    store.delete(&batch[..20].iter().collect::<Vec<_>>()).await.unwrap();
    for message in &batch[20..40] {
        store.reject(message, "poison").await.unwrap();
    }
    store.show(placed(&batch[40..])).await.unwrap();
    for message in &batch {
        all.remove(text(message));
    }
    close(store).await;
    assert!(files(folder).len() > 3, "{:?}", files(folder));
    all
}

#[tokio::test]
async fn a_flipped_byte_costs_at_most_one_message_and_is_counted() {
    let folder = TempDir::new().unwrap();
    let all = filled(folder.path()).await;
    let mut random = 0x5EED_u64;
    let mut next = move |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % below
    };
    let mut hits = 0;
    for round in 0..120 {
        let damaged = copy(folder.path());
        let written: Vec<_> = files(damaged.path())
            .into_iter()
            .filter(|it| fs::metadata(it).unwrap().len() > 0)
            .collect();
        let file = &written[round % written.len()];
        let mut bytes = fs::read(file).unwrap();
        let at = next(bytes.len());
        bytes[at] ^= 1 << next(8);
        fs::write(file, bytes).unwrap();

        let store = Store::open_limited(damaged.path(), LIMIT).unwrap();
        let served: BTreeSet<_> =
            take(&store, 1000).await.iter().map(|it| text(it).to_owned()).collect();
        let missing = all.difference(&served).count();
        let told = store.condition().damaged;
        assert!(missing <= 1 && missing <= told, "byte {at} of {file:?}: {missing}, told {told}");
        assert!(served.iter().all(|it| it.ends_with("xxx")), "what is served is whole");
        hits += missing;
        store.send(vec![message("new")]).await.unwrap();
    }
    assert!(hits > 60, "most of the bytes are messages that wait: {hits}");
}

#[tokio::test]
async fn a_file_cut_anywhere_is_opened_with_the_rest() {
    let folder = TempDir::new().unwrap();
    let all = filled(folder.path()).await;
    for percent in [1, 30, 70, 99] {
        let cut = copy(folder.path());
        let file = &files(cut.path())[0];
        let length = fs::metadata(file).unwrap().len();
        fs::File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_len(length * percent / 100)
            .unwrap();
        let store = Store::open_limited(cut.path(), LIMIT).unwrap();
        let served = take(&store, 1000).await.len();
        assert!(served >= all.len() - 190, "{percent} %: {served} of {}", all.len());
    }
}

#[tokio::test]
async fn a_write_that_the_power_cut_in_pieces_is_no_damage() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.send(vec![message("answered")]).await.unwrap();
    store.send((0..9).map(|it| message(&format!("unanswered {it}"))).collect()).await.unwrap();
    // As the disk has it while the process runs: of the last write some sectors, not the first ones.
    let cut = copy(folder.path());
    let file = files(cut.path()).into_iter().find(|it| it.extension().is_some()).unwrap();
    let bytes = fs::read(&file).unwrap();
    let at = |text: &[u8]| bytes.windows(text.len()).position(|it| it == text).unwrap();
    for (from, to) in [("unanswered 0", "unanswered 0"), ("unanswered 2", "unanswered 6")] {
        let mut torn = bytes.clone();
        torn[at(from.as_bytes())..=at(to.as_bytes())].fill(0);
        fs::write(&file, torn).unwrap();
        for _ in 0..2 {
            let again = Store::open(cut.path()).unwrap();
            assert_eq!(again.condition().damaged, 0);
            let served = take(&again, 100).await;
            assert!(served.len() < 10 && bodies(&served)[0] == "answered");
            close(again).await;
        }
        for file in files(cut.path()).into_iter().skip(1) {
            fs::remove_file(file).unwrap();
        }
    }
}

#[tokio::test]
async fn what_goes_bad_while_it_waits_is_set_aside_and_all_others_are_served() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.send((0..20).map(|it| message(&format!("{it:04}"))).collect()).await.unwrap();
    let file = files(folder.path()).into_iter().find(|it| it.extension().is_some()).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(4).position(|it| it == b"0007").unwrap();
    bytes[at] ^= 0x10;
    fs::write(&file, bytes).unwrap();

    let batch = take(&store, 100).await;
    assert_eq!((batch.len(), store.depth(), store.condition().damaged), (19, 19, 1));
    assert!(batch.iter().all(|it| it.body != "0007"));
    store.delete(&batch.iter().collect::<Vec<_>>()).await.unwrap();
    close(store).await;
    // Nothing is needed of the file any more; it is kept for whoever wants to look.
    let store = Store::open(folder.path()).unwrap();
    assert_eq!((store.depth(), store.condition().damaged), (0, 1));
    let names: Vec<_> = files(folder.path())
        .iter()
        .filter_map(|it| it.extension()?.to_str().map(ToOwned::to_owned))
        .collect();
    assert!(names.contains(&"damaged".to_owned()), "{names:?}");
    close(store).await;
    assert_eq!(Store::open(folder.path()).unwrap().condition().damaged, 0, "told once it is gone");
}

#[tokio::test]
async fn damage_to_a_later_record_of_a_message_leaves_the_earlier_one() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.send(vec![message("a")]).await.unwrap();
    let batch = take(&store, 1).await;
    store.reject(&batch[0], "a-reason").await.unwrap();
    close(store).await;
    let file = files(folder.path()).into_iter().find(|it| it.extension().is_some()).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(8).position(|it| it == b"a-reason").unwrap();
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!((store.depth(), store.dead_letters(), store.condition().damaged), (1, 0, 0));
}

#[tokio::test]
async fn the_folder_of_an_earlier_version_is_left_alone() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("keyspaces")).unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("written by an earlier version"), "{error}");
}

#[tokio::test]
async fn the_advice_fits_the_reason() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Store::open(&file.path().join("below-a-file")).unwrap_err().to_string();
    assert!(
        error.contains("see what the disk reports") && !error.contains("permission"),
        "{error}"
    );
    let denied = advice(&io::ErrorKind::PermissionDenied.into());
    assert!(denied.starts_with("let spanhook write there"));
}
