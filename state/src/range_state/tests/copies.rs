//! A store of any earlier time, replayed from the position that it states, is what the latest one is.

use std::fs;
use std::path::Path;

use super::*;
use crate::store::SledStore;

const KEYS: u64 = 400;
const EPOCHS: u64 = 24;

fn open(dir: &Path) -> RangeState {
    let store = SledStore::open(dir, 1 << 20).unwrap();
    RangeState::new(Pages::new(Arc::new(store)), Range::ALL)
}

/// The files as they are, of a store that is in use.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Hands the changes of an epoch to the state; only what is added carries its key.
fn note_all(state: &mut RangeState, history: &History, epoch: u64, changes: &Changes) {
    let keys: Vec<Vec<u8>> = changes.iter().map(|(hash, _)| key(*hash)).collect();
    let notes = changes.iter().zip(&keys).map(|((hash, value), key)| {
        let before = as_of_one(history, *hash, epoch - 1);
        note(*hash, *value, if before.is_none() { key } else { b"" })
    });
    state.note(CELL, Epoch(epoch), notes.collect());
}

#[test]
fn r27_r28_every_earlier_copy_of_the_store_is_right_once_it_is_replayed_from_its_position() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut dice = Dice::new(33);
    let (mut history, mut epochs) = (History::new(), Vec::new());
    let mut state = open(dir.path());
    let mut written = 0;
    for epoch in 1..=EPOCHS {
        let mut changes = BTreeMap::new();
        for _ in 0..1 + dice.below(200) {
            let hash = u128::from(dice.below(KEYS)) << 100;
            changes.insert(hash, (!dice.once_in(3)).then(|| 1 + dice.below(99)));
        }
        let changes: Changes = changes.into_iter().collect();
        note_all(&mut state, &history, epoch, &changes);
        for (hash, value) in &changes {
            history.entry(*hash).or_default().push((epoch, *value));
        }
        epochs.push(changes);
        // Written behind what is decided, stated behind what is written, flushed now and then.
        written += dice.below(epoch - written + 1);
        state.write(Epoch(written)).unwrap();
        if dice.once_in(2) {
            let position = written.to_le_bytes();
            state.pages.put_small("position", &position).unwrap();
            state.pages.store().flush().unwrap();
        }
        copy(dir.path(), &copies.path().join(epoch.to_string()));
    }
    let expected = as_of(&history, EPOCHS);
    let mut positions = Vec::new();
    for copy in 1..=EPOCHS {
        let mut state = open(&copies.path().join(copy.to_string()));
        let position = state.pages.small("position").unwrap();
        let position = position.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
        positions.push(position);
        for (epoch, changes) in (1..).zip(&epochs) {
            if epoch > position {
                note_all(&mut state, &history, epoch, changes);
            }
        }
        let found = |state: &RangeState| -> BTreeMap<u128, u64> {
            let values = values(state).into_iter();
            values.map(|(hash, raw)| (hash, raw / 1000)).collect()
        };
        assert_eq!(
            found(&state),
            expected,
            "copy {copy} from position {position}"
        );
        state.write(Epoch(EPOCHS)).unwrap();
        assert!(state.is_empty());
        assert_eq!(found(&state), expected, "the pages of copy {copy}");
        let hashes: Vec<KeyHash> = expected.keys().map(|hash| KeyHash(*hash)).collect();
        let keys = state.keys(CELL, &hashes).unwrap();
        let kept = hashes.iter().zip(keys);
        assert!(
            kept.into_iter()
                .all(|(hash, kept)| kept == Some(key(hash.0)))
        );
    }
    positions.dedup();
    assert!(
        positions.len() > 4,
        "copies of several times: {positions:?}"
    );
}
