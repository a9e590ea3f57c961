//! What both stores promise, and what a sled generation leaves behind.

mod replaced;

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};

use super::directory::files;
use super::*;
use crate::dice::Dice;

fn put(key: &[u8], value: &[u8]) -> Write {
    (key.to_vec(), Some(value.to_vec()))
}

fn keys(pairs: Pairs<'_>) -> Vec<Vec<u8>> {
    pairs.map(|pair| pair.unwrap().0.to_vec()).collect()
}

fn behaves(store: &dyn PageStore) {
    store
        .apply(vec![put(b"b", b"1"), put(b"d", b"2"), put(b"a", b"3")])
        .unwrap();
    store
        .apply(vec![
            (b"a".to_vec(), None),
            put(b"c", b"4"),
            put(b"b", b"5"),
        ])
        .unwrap();
    assert_eq!(store.get(b"b").unwrap().unwrap().deref(), b"5");
    assert!(store.get(b"a").unwrap().is_none());
    assert_eq!(keys(store.range(b"b", b"c")), [b"b", b"c"]);
    assert_eq!(
        store
            .range(b"a", b"cc")
            .next_back()
            .unwrap()
            .unwrap()
            .1
            .deref(),
        b"4"
    );
    assert!(store.range(b"d", b"a").next().is_none());
    store.flush().unwrap();
    assert!(store.bytes().unwrap() > 0);
}

#[test]
fn both_stores_behave_alike() {
    behaves(&MemoryStore::default());
    let dir = tempfile::tempdir().unwrap();
    behaves(&SledStore::open(dir.path(), 1 << 20).unwrap());
    let again = SledStore::open(dir.path(), 1 << 20).unwrap();
    assert_eq!(keys(again.range(b"", b"z")), [b"b", b"c", b"d"]);
}

#[test]
fn a_look_reads_what_is_there_and_writes_nothing_there() {
    let (dir, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let look = |name: &str| SledStore::look(dir.path(), &scratch.path().join(name), 1 << 20);
    assert!(look("none").unwrap().is_none());
    behaves(&SledStore::open(dir.path(), 1 << 20).unwrap());
    let read = |path: PathBuf| fs::read(path).unwrap();
    let all = || -> Vec<Vec<u8>> {
        let inside = files(&path(dir.path(), 1)).unwrap();
        let files = files(dir.path()).unwrap().into_iter().chain(inside);
        files.map(read).collect()
    };
    let before = all();
    let looked = look("some").unwrap().unwrap();
    assert_eq!(keys(looked.range(b"", b"z")), [b"b", b"c", b"d"]);
    looked.apply(vec![put(b"e", b"1")]).unwrap();
    looked.flush().unwrap();
    assert_eq!(all(), before);
    fs::remove_dir_all(path(dir.path(), 1)).unwrap();
    let error = look("lost").unwrap_err().to_string();
    assert!(error.contains("rebuild --state-only"), "{error}");
}

#[test]
fn a_store_that_is_not_one_is_an_error_that_names_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    drop(SledStore::open(dir.path(), 1 << 20).unwrap());
    fs::write(
        path(dir.path(), 1).join("conf"),
        b"certainly no configuration",
    )
    .unwrap();
    let error = SledStore::open(dir.path(), 1 << 20)
        .unwrap_err()
        .to_string();
    assert!(error.contains("state reset"), "{error}");
}

/// Pairs in a map, written in several rounds so that sled has garbage to give back.
fn churn(
    store: &SledStore,
    dice: &mut Dice,
    rounds: u64,
) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
    let mut model = std::collections::BTreeMap::new();
    for round in 0..rounds {
        let mut batch = Vec::new();
        for number in 0..500_u32 {
            if dice.once_in(2) {
                let value = (!dice.once_in(9)).then(|| vec![round as u8; 4000]);
                batch.push((number.to_be_bytes().to_vec(), value));
            }
        }
        for (key, value) in &batch {
            match value {
                Some(value) => model.insert(key.clone(), value.clone()),
                None => model.remove(key),
            };
        }
        store.apply(batch).unwrap();
        store.flush().unwrap();
    }
    model
}

fn content(store: &SledStore) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
    let pairs = store.range(b"", &[0xff; 8]).map(Result::unwrap);
    pairs
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

#[test]
fn small_files_are_left_alone_and_others_copied_at_one_and_a_half_times_what_they_hold() {
    assert_eq!(spread_max(0, SMALL_BYTES), SMALL_BYTES);
    assert_eq!(spread_max(11 << 20, SMALL_BYTES), SMALL_BYTES);
    assert_eq!(spread_max(100 << 20, SMALL_BYTES), 154 << 20);
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), 1 << 20).unwrap();
    churn(&store, &mut Dice::new(43), 20);
    assert!(store.bytes().unwrap() > spread_max(2_000_000, 0));
    assert_eq!(store.generation().number, 1, "it was not copied");
}

#[test]
fn a_store_that_spreads_is_copied_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), 1 << 20).unwrap();
    let store = store.copying_from(0);
    let mut dice = Dice::new(41);
    let model = churn(&store, &mut dice, 40);
    assert!(store.generation().number > 1, "it was copied at least once");
    assert!(store.bytes().unwrap() <= spread_max(2_000_000, 0));
    assert_eq!(content(&store), model);
    assert_eq!(
        generations(dir.path()).unwrap(),
        [store.generation().number]
    );
    drop(store);
    assert_eq!(
        content(&SledStore::open(dir.path(), 1 << 20).unwrap()),
        model
    );
}

#[test]
fn a_copy_has_what_is_written_while_it_is_made_and_old_readers_read_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), 1 << 20).unwrap();
    let mut model = churn(&store, &mut Dice::new(42), 3);
    let before = model.clone();
    let mut reader = store.range(b"", &[0xff; 8]);
    let first = reader.next().unwrap().unwrap();
    let begun = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            begun.store(true, Ordering::Release);
            for _ in 0..3 {
                assert!(store.renew(&store.generation()).unwrap());
                store.flushing.lock().unwrap().bytes_max = 0;
                store.flush().unwrap();
            }
        });
        while !begun.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        for number in 0..400_u32 {
            let key = number.to_be_bytes().to_vec();
            let value = (!number.is_multiple_of(3)).then(|| number.to_le_bytes().to_vec());
            match &value {
                Some(value) => model.insert(key.clone(), value.clone()),
                None => model.remove(&key),
            };
            store.apply(vec![(key, value)]).unwrap();
            std::thread::yield_now();
        }
    });
    assert_eq!(content(&store), model);
    drop(first);
    assert!(reader.all(|pair| pair.is_ok()), "of {} pairs", before.len());
    drop(reader);
    assert_eq!(
        generations(dir.path()).unwrap(),
        [store.generation().number]
    );
}

#[test]
fn a_copy_has_what_is_written_after_its_last_round() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), 1 << 20).unwrap();
    let mut model = churn(&store, &mut Dice::new(7), 3);
    let old = store.generation();
    store.current().meanwhile = Some(Keys::new());
    let copied = store.copy(&old);
    let gone = model.keys().next().unwrap().clone();
    let changed = model.keys().nth(1).unwrap().clone();
    model.remove(&gone);
    model.insert(changed.clone(), b"changed".to_vec());
    model.insert(b"new".to_vec(), b"there".to_vec());
    store.apply(vec![(gone, None)]).unwrap();
    store
        .apply(vec![put(&changed, b"changed"), put(b"new", b"there")])
        .unwrap();
    assert!(store.switch(&old, copied).unwrap());
    assert_eq!(content(&store), model);
    drop((old, store));
    let again = SledStore::open(dir.path(), 1 << 20).expect("its sum is that of the last batch");
    assert_eq!(content(&again), model);
}

#[test]
fn a_copy_that_fails_changes_nothing_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), 1 << 20).unwrap();
    let model = churn(&store, &mut Dice::new(44), 2);
    let number = store.generation().number;
    let next = path(dir.path(), number + 1);
    fs::write(&next, b"a file where the directory should be").unwrap();
    assert!(!store.renew(&store.generation()).unwrap());
    fs::remove_file(&next).unwrap();
    drop(store.copy(&store.generation()).unwrap());
    assert!(!next.exists(), "given up before it was named");
    assert_eq!(
        (store.generation().number, content(&store)),
        (number, model)
    );
    store.apply(vec![put(b"later", b"1")]).unwrap();
    assert!(store.get(b"later").unwrap().is_some());
}

#[test]
fn crash_during_a_copy_leaves_the_store_that_current_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), 1 << 20).unwrap();
    let model = churn(&store, &mut Dice::new(43), 2);
    let number = store.generation().number;
    let copy = store.copy(&store.generation()).unwrap();
    copy.doom(false);
    drop(copy);
    drop(store);
    let store = SledStore::open(dir.path(), 1 << 20).unwrap();
    assert_eq!(
        (store.generation().number, content(&store)),
        (number, model)
    );
    assert_eq!(
        generations(dir.path()).unwrap(),
        [number],
        "the copy is removed"
    );
    drop(store);
    fs::remove_file(dir.path().join(CURRENT)).unwrap();
    let error = SledStore::open(dir.path(), 1 << 20).unwrap_err();
    assert!(
        error.to_string().contains("lost its file CURRENT"),
        "{error}"
    );
    set_current(dir.path(), number + 1, 0).unwrap();
    let error = SledStore::open(dir.path(), 1 << 20).unwrap_err();
    assert!(error.to_string().contains("lost its directory"), "{error}");
}

#[test]
fn a_damaged_store_is_an_error_or_whole_and_never_a_panic_or_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), 1 << 20).unwrap();
    let model = churn(&store, &mut Dice::new(45), 2);
    let file = path(dir.path(), store.generation().number).join("db");
    drop(store);
    let whole = fs::read(&file).unwrap();
    let mut errors = 0;
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes
            .iter_mut()
            .skip(at)
            .take(64)
            .for_each(|byte| *byte ^= 0x55);
        fs::write(&file, bytes).unwrap();
        let read = SledStore::open(dir.path(), 1 << 20)
            .and_then(|store| store.range(b"", &[0xff; 8]).collect::<Result<Vec<_>, _>>());
        match read {
            Ok(pairs) => assert_eq!(pairs.len(), model.len(), "byte {at}"),
            Err(error) => {
                errors += 1;
                assert!(error.to_string().contains("state reset"), "{error}");
            }
        }
        assert!(!panic_is_caught());
    }
    assert!(errors > 5, "{errors}");
}

#[test]
fn r28_a_store_that_is_whole_but_older_than_what_was_flushed_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let open = || SledStore::open(dir.path(), 1 << 20);
    let store = open().unwrap();
    store.apply(vec![put(b"a", b"1")]).unwrap();
    store.flush().unwrap();
    drop(store);
    let db = path(dir.path(), 1);
    let old = tempfile::tempdir().unwrap();
    for file in files(&db).unwrap() {
        fs::copy(&file, old.path().join(file.file_name().unwrap())).unwrap();
    }
    let store = open().unwrap();
    store.apply(vec![put(b"a", b"2")]).unwrap();
    drop(store);
    drop(open().expect("what was never flushed may be there or not"));
    let store = open().unwrap();
    store.apply(vec![put(b"a", b"3")]).unwrap();
    store.flush().unwrap();
    drop(store);
    for file in files(&db).unwrap() {
        fs::remove_file(file).unwrap();
    }
    for file in files(old.path()).unwrap() {
        fs::copy(&file, db.join(file.file_name().unwrap())).unwrap();
    }
    let error = open().unwrap_err().to_string();
    assert!(
        error.contains("the last of what it held is gone"),
        "{error}"
    );
}

#[test]
fn r28_a_store_that_lost_a_pair_or_has_an_older_one_is_damaged() {
    for older in [None, Some(b"old")] {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path(), 1 << 20).unwrap();
        store
            .apply(vec![put(b"a", b"old"), put(b"b", b"1")])
            .unwrap();
        store.apply(vec![put(b"a", b"new")]).unwrap();
        store.flush().unwrap();
        let db = store.generation().db.clone();
        match older {
            Some(value) => db.insert(b"a", value).unwrap(),
            None => db.remove(b"a").unwrap(),
        };
        db.flush().unwrap();
        drop((db, store));
        let error = SledStore::open(dir.path(), 1 << 20)
            .unwrap_err()
            .to_string();
        assert!(error.contains("some of what it held is gone"), "{error}");
    }
}

#[test]
fn a_flush_may_look_at_everything_while_batches_are_applied() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), 1 << 20).unwrap();
    // So many that looking at them takes longer than a batch.
    let many = (0..20_000_u32).map(|number| put(&number.to_be_bytes(), b"value"));
    store.apply(many.collect()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..u32::MAX {
                if done.load(Ordering::Acquire) {
                    break;
                }
                store.apply(vec![put(&[0], &number.to_le_bytes())]).unwrap();
                std::thread::yield_now();
            }
        });
        let mut flushed = Ok(());
        for _ in 0..10 {
            store.flushing.lock().unwrap().bytes_max = 0;
            flushed = flushed.and(store.flush());
        }
        done.store(true, Ordering::Release);
        flushed.unwrap();
    });
    drop(store);
    SledStore::open(dir.path(), 1 << 20).unwrap();
}
