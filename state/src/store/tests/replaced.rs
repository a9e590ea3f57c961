//! A store whose files are those of another time, cut, garbage or gone: it is refused, or it holds
//! exactly what it held, at the end or at the time that all of it comes from.

use std::collections::BTreeMap;

use super::*;

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// All files, by their path in the store's directory.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn read_into(files: &mut Files, dir: &Path, below: &Path) {
    for entry in fs::read_dir(dir.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            read_into(files, dir, &path);
        } else {
            files.insert(path, fs::read(entry.path()).unwrap());
        }
    }
}

fn files_of(dir: &Path) -> Files {
    let mut files = Files::new();
    read_into(&mut files, dir, Path::new(""));
    files
}

/// What a store of these files holds.
fn content_of(files: &Files) -> Result<Content, Error> {
    let dir = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let store = SledStore::open(dir.path(), 1 << 20)?;
    let pairs = store.range(b"", &[0xfe; 8]).map(|pair| {
        let (key, value) = pair?;
        Ok((key.to_vec(), value.to_vec()))
    });
    pairs.collect()
}

/// A store at several times, closed at each: its files and what it held.
fn times() -> Vec<(Files, Content)> {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(46);
    let mut content = Content::new();
    let mut times = Vec::new();
    for time in 0..4_u8 {
        let store = SledStore::open(dir.path(), 1 << 20).unwrap();
        for _ in 0..3 {
            let mut batch = Vec::new();
            for number in 0..120_u32 {
                if dice.once_in(3) {
                    let value = (!dice.once_in(9)).then(|| vec![time; 2000]);
                    batch.push((number.to_be_bytes().to_vec(), value));
                }
            }
            for (key, value) in batch.iter().cloned() {
                match value {
                    Some(value) => content.insert(key, value),
                    None => content.remove(&key),
                };
            }
            store.apply(batch).unwrap();
        }
        if time == 2 {
            assert!(
                store.renew(&store.generation()).unwrap(),
                "another generation"
            );
        }
        store.flush().unwrap();
        drop(store);
        times.push((files_of(dir.path()), content.clone()));
    }
    times
}

/// Refused with the remedy, or `expected`.
fn check(what: &str, files: &Files, expected: &[&Content]) -> bool {
    match content_of(files) {
        Ok(content) => {
            assert!(
                expected.contains(&&content),
                "{what}: {} pairs",
                content.len()
            );
            true
        }
        Err(error) => {
            let text = error.to_string();
            let said = matches!(error, Error::Io { .. }) || text.contains("state reset");
            assert!(said, "{what}: {text}");
            false
        }
    }
}

#[test]
fn r28_an_earlier_copy_of_the_whole_store_is_what_it_was_then() {
    for (files, content) in times() {
        assert_eq!(content_of(&files).unwrap(), content);
    }
    assert_eq!(content_of(&Files::new()).unwrap(), Content::new());
}

#[test]
fn r28_a_store_with_some_files_of_another_time_is_refused_or_whole() {
    let times = times();
    let (mut refused, mut whole) = (0, 0);
    for (from, (old, then)) in times.iter().enumerate() {
        for (at, (now, content)) in times.iter().enumerate() {
            for path in now.keys().chain(old.keys()) {
                let mut files = now.clone();
                match old.get(path) {
                    Some(bytes) => files.insert(path.clone(), bytes.clone()),
                    None => files.remove(path),
                };
                let what = format!("{} of {from} in {at}", path.display());
                // A newer database in an older store is what a crash before `CURRENT` leaves.
                let expected = [content, if from > at { then } else { content }];
                if check(&what, &files, &expected) {
                    whole += 1;
                } else {
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 5 && whole > 5, "{refused} refused, {whole} whole");
}

#[test]
fn r28_a_store_with_a_file_that_is_cut_garbage_or_gone_is_refused_or_whole() {
    let times = times();
    let (files, content) = times.last().unwrap();
    let mut dice = Dice::new(47);
    let mut refused = 0;
    for (path, bytes) in files {
        let length = bytes.len();
        let mut others: Vec<Option<Vec<u8>>> = vec![None];
        let mut cuts = vec![0, 1, length / 2, length.saturating_sub(1)];
        cuts.extend((0..8).map(|_| dice.below(length as u64 + 1) as usize));
        others.extend(cuts.into_iter().map(|cut| Some(bytes[..cut].to_vec())));
        others.push(Some(vec![0; length]));
        others.push(Some((0..length).map(|_| dice.word() as u8).collect()));
        for (number, other) in others.into_iter().enumerate() {
            let mut files = files.clone();
            match other {
                Some(bytes) => files.insert(path.clone(), bytes),
                None => files.remove(path),
            };
            let what = format!("{}, {number}", path.display());
            refused += usize::from(!check(&what, &files, &[content]));
        }
    }
    assert!(refused > 10, "{refused}");
}

/// The input is a list of patches, since a database is larger than an input: where, and what.
fn patched(database: &[u8], input: &[u8]) -> Vec<u8> {
    let mut bytes = database.to_vec();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    for patch in input.chunks(5) {
        let (at, new) = patch.split_at(patch.len().min(3));
        let at = at.iter().fold(0, |at, byte| at << 8 | usize::from(*byte)) % used;
        for (byte, new) in bytes[at..].iter_mut().zip(new) {
            *byte = *new;
        }
    }
    bytes
}

#[test]
fn fuzz_a_store_whose_database_was_changed_is_refused_or_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), 1 << 20).unwrap();
    let mut content = Content::new();
    for round in 0..4_u8 {
        let batch = (0..60_u8).map(|key| put(&[key], &vec![round; usize::from(key) * 7]));
        let batch: Vec<Write> = batch.skip(usize::from(round)).collect();
        content.extend(
            batch
                .iter()
                .map(|(key, value)| (key.clone(), value.clone().unwrap())),
        );
        store.apply(batch).unwrap();
        store.flush().unwrap();
    }
    drop(store);
    let files = files_of(dir.path());
    let path = path(Path::new(""), 1).join("db");
    let inputs = vec![vec![0; 10], vec![0xff; 5], b"\x00\x10\x00\xff\xff".to_vec()];
    let mut refused = 0;
    let count = crate::fuzz::run("database", 93, inputs, |input| {
        let mut files = files.clone();
        let database = patched(&files[&path], input);
        files.insert(path.clone(), database);
        let whole = check("a patched database", &files, &[&content]);
        refused += u64::from(!whole);
        crate::fuzz::Interest::None
    });
    assert!(count > 5, "{count}");
    println!("{refused} of {count} refused");
}
