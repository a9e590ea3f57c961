//! The state of a range against a map of every value each key ever had.

mod copies;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::dice::Dice;
use crate::page::{Id, Kind};
use crate::range::owner;
use crate::store::{MemoryStore, PageStore};

const CELL: CellId = CellId(3);

fn print(value: u64) -> Fingerprint {
    Fingerprint {
        raw: value * 1000,
        canon: value,
        rule: 1,
    }
}

fn note<'a>(hash: u128, value: Option<u64>, key: &'a [u8]) -> Note<'a> {
    Note {
        hash: KeyHash(hash),
        print: value.map(print),
        key,
    }
}

fn memory() -> Pages {
    Pages::new(Arc::new(MemoryStore::default()))
}

fn state() -> RangeState {
    RangeState::new(memory(), Range::ALL)
}

fn values(state: &RangeState) -> Vec<(u128, u64)> {
    let walk = state.walk(CELL).unwrap();
    walk.map(|item| item.map(|(hash, print)| (hash.0, print.raw)).unwrap())
        .collect()
}

/// What a restart finds: the pages alone.
fn paged(state: &RangeState) -> Vec<(u128, u64)> {
    values(&RangeState::new(state.pages.clone(), Range::ALL))
}

#[test]
fn nothing_follows_an_error_within_a_walk() {
    let store = Arc::new(MemoryStore::default());
    let mut state = RangeState::new(Pages::new(store.clone()), Range::ALL);
    let notes = || (1..=1_000).map(|n| note(n << 100, Some(n as u64), b"key"));
    state.note(CELL, Epoch(1), notes().collect());
    state.write(Epoch(1)).unwrap();
    let pages = store.range(&[], &[0xff]).map(|pair| pair.unwrap());
    let of_entries = |key: &[u8]| Id::read(key).is_some_and(|id| id.kind == Kind::Entries);
    let mut pages = pages.filter(|(key, _)| of_entries(key));
    let (second, bytes) = pages.nth(1).expect("two pages");
    drop(pages);
    let mut bytes = bytes.to_vec();
    bytes[20] ^= 1;
    store.apply(vec![(second.to_vec(), Some(bytes))]).unwrap();
    // What is in memory only would come after the pages.
    state.note(CELL, Epoch(2), vec![note(2_000 << 100, Some(1), b"key")]);
    let mut walk = state.walk(CELL).unwrap();
    let sound = walk.by_ref().take_while(Result::is_ok).count();
    assert!((1..1_000).contains(&sound), "{sound}");
    assert!(walk.next().is_none());
    let mut walk = state.walk(CELL).unwrap();
    for n in 1..=sound as u128 {
        assert_eq!(walk.peek().unwrap(), Some(KeyHash(n << 100)));
        assert_eq!(walk.peek().unwrap(), Some(KeyHash(n << 100)));
        assert_eq!(*walk.advance(), print(n as u64));
    }
    assert!(walk.peek().is_err());
    assert_eq!(walk.peek().unwrap(), None);
}

#[test]
fn r27_a_value_that_is_not_sealed_hides_the_sealed_one_from_nobody_but_readers() {
    let mut state = state();
    state.note(CELL, Epoch(1), vec![note(5, Some(1), b"five")]);
    state.note(CELL, Epoch(2), vec![note(5, Some(2), b"")]);
    state.note(CELL, Epoch(3), vec![note(5, None, b"")]);
    assert_eq!(values(&state), []);
    for (sealed, expected) in [
        (0, vec![]),
        (1, vec![(5, 1000)]),
        (2, vec![(5, 2000)]),
        (3, vec![]),
    ] {
        state.write(Epoch(sealed)).unwrap();
        assert_eq!(paged(&state), expected, "sealed {sealed}");
        assert_eq!(
            values(&state),
            [],
            "what was decided last is what dedup sees"
        );
        if sealed == 2 {
            let key = state.pages.keys(CELL, &[KeyHash(5)]).unwrap();
            assert_eq!(key, [Some(b"five".to_vec())]);
        }
    }
    assert!(state.is_empty());
}

#[test]
fn of_a_batch_that_is_not_sorted_the_last_change_of_a_key_counts() {
    let mut state = state();
    let notes = vec![
        note(9, Some(1), b"nine"),
        note(2, Some(2), b"two"),
        note(9, Some(3), b""),
    ];
    state.note(CELL, Epoch(1), notes);
    assert_eq!(values(&state), [(2, 2000), (9, 3000)]);
    assert_eq!(state.key(CELL, KeyHash(9)).unwrap().unwrap(), b"nine");
    state.write(Epoch(1)).unwrap();
    assert_eq!(state.len(), 0);
    let keys = state
        .keys(CELL, &[KeyHash(2), KeyHash(4), KeyHash(9)])
        .unwrap();
    assert_eq!(keys, [Some(b"two".to_vec()), None, Some(b"nine".to_vec())]);
}

#[test]
fn r27_a_refreshed_fingerprint_is_written_only_beside_its_own_value_and_with_others() {
    let mut state = state();
    let refreshed = Fingerprint {
        raw: 1001,
        ..print(1)
    };
    state.note(
        CELL,
        Epoch(1),
        vec![note(1, Some(1), b""), note(2, Some(1), b"")],
    );
    state.write(Epoch(1)).unwrap();
    state.refresh(CELL, KeyHash(1), refreshed);
    state.refresh(CELL, KeyHash(2), refreshed);
    state.refresh(CELL, KeyHash(7), refreshed);
    assert_eq!(values(&state), [(1, 1001), (2, 1001)]);
    assert_eq!(state.write(Epoch(2)).unwrap(), Written::default());
    assert_eq!(
        paged(&state),
        [(1, 1000), (2, 1000)],
        "nothing changed, nothing is written"
    );
    // A change of another key of the page, and a change that is not sealed.
    state.note(CELL, Epoch(3), vec![note(3, Some(3), b"")]);
    state.note(CELL, Epoch(4), vec![note(2, Some(4), b"")]);
    state.refresh(
        CELL,
        KeyHash(2),
        Fingerprint {
            raw: 4001,
            ..print(4)
        },
    );
    state.write(Epoch(3)).unwrap();
    assert_eq!(paged(&state), [(1, 1001), (2, 1000), (3, 3000)]);
    assert_eq!(values(&state), [(1, 1001), (2, 4001), (3, 3000)]);
    state.write(Epoch(4)).unwrap();
    assert_eq!(paged(&state), [(1, 1001), (2, 4001), (3, 3000)]);
    assert_eq!(
        state.refreshed_count, 1,
        "only the one of a key that is not there"
    );
    state.forget(CELL);
    assert_eq!(state.refreshed_count, 0);
}

#[test]
fn r27_a_note_ends_a_refreshed_fingerprint() {
    let mut state = state();
    state.note(CELL, Epoch(1), vec![note(1, Some(1), b"")]);
    state.refresh(
        CELL,
        KeyHash(1),
        Fingerprint {
            raw: 1001,
            ..print(1)
        },
    );
    state.note(CELL, Epoch(2), vec![note(1, Some(2), b"")]);
    assert_eq!(values(&state), [(1, 2000)]);
    state.write(Epoch(2)).unwrap();
    assert_eq!((paged(&state), state.refreshed_count), (vec![(1, 2000)], 0));
}

#[test]
fn refreshed_fingerprints_are_bounded() {
    let mut state = state();
    for hash in 0..REFRESHED_MAX as u128 + 10 {
        state.refresh(CellId((hash % 3) as u32), KeyHash(hash), print(1));
    }
    let held: usize = state.refreshed.values().map(BTreeMap::len).sum();
    assert_eq!(
        (held, state.refreshed_count),
        (REFRESHED_MAX, REFRESHED_MAX)
    );
}

#[test]
fn a_million_notes_with_keys_of_78_bytes_stay_below_130_bytes_each() {
    const COUNT: u128 = 1_000_000;
    let mut state = state();
    let key = [b'k'; 78];
    // One epoch, then small ones.
    for (epoch, from, to) in [(1, 0, COUNT * 9 / 10), (2, COUNT * 9 / 10, COUNT)] {
        let step = if epoch == 1 { to } else { COUNT / 100 };
        for (index, first) in (from..to).step_by(step as usize).enumerate() {
            let last = to.min(first + step);
            let hash = |n: u128| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let notes = (first..last)
                .map(|n| note(hash(n), Some(1), &key))
                .collect();
            state.note(CELL, Epoch(epoch + index as u64), notes);
        }
    }
    assert_eq!(state.len(), COUNT as usize);
    let each = state.bytes() as f64 / COUNT as f64;
    assert!(each < 130.0, "{each}");
}

type Changes = Vec<(u128, Option<u64>)>;

/// Every value that a key had, by epoch; the last is what readers see.
type History = BTreeMap<u128, Vec<(u64, Option<u64>)>>;

fn as_of(history: &History, epoch: u64) -> BTreeMap<u128, u64> {
    let value = |(hash, values): (&u128, &Vec<(u64, Option<u64>)>)| {
        let newest = values.iter().rev().find(|(noted, _)| *noted <= epoch)?;
        Some((*hash, newest.1?))
    };
    history.iter().filter_map(value).collect()
}

struct World {
    pages: Pages,
    states: Vec<RangeState>,
    history: History,
    /// Raw fingerprints that are not those of the notes.
    refreshed: BTreeMap<u128, u64>,
    epoch: u64,
    written: u64,
}

fn key(hash: u128) -> Vec<u8> {
    format!("key {hash}").into_bytes()
}

impl World {
    fn open(&mut self, workers: usize) {
        self.pages.split_for(workers).unwrap();
        let state = |worker| RangeState::new(self.pages.clone(), Range::of(worker, workers));
        self.states = (0..workers).map(state).collect();
    }

    /// Hands some changes of `epoch` to their owners.
    fn note(&mut self, epoch: u64, changes: &[(u128, Option<u64>)]) {
        let workers = self.states.len();
        let keys: Vec<Vec<u8>> = changes.iter().map(|(hash, _)| key(*hash)).collect();
        for worker in 0..workers {
            let own = changes.iter().zip(&keys);
            let own = own.filter(|((hash, _), _)| owner(KeyHash(*hash), workers) == worker);
            let notes = own.map(|((hash, value), key)| {
                // Only what is added carries its key.
                let before = as_of_one(&self.history, *hash, epoch - 1);
                note(*hash, *value, if before.is_none() { key } else { b"" })
            });
            let notes = notes.collect();
            self.states[worker].note(CELL, Epoch(epoch), notes);
        }
    }

    /// The same content in other bytes, if the key is there.
    fn refresh(&mut self, hash: u128, offset: u64) {
        if let Some(value) = as_of_one(&self.history, hash, u64::MAX) {
            let raw = value * 1000 + offset;
            let worker = owner(KeyHash(hash), self.states.len());
            let print = Fingerprint {
                raw,
                ..print(value)
            };
            self.states[worker].refresh(CELL, KeyHash(hash), print);
            self.refreshed.insert(hash, raw);
        }
    }

    fn check(&self) {
        let mut found = BTreeMap::new();
        for state in &self.states {
            for item in state.walk(CELL).unwrap() {
                let (hash, print) = item.unwrap();
                assert!(found.insert(hash.0, print.raw).is_none());
                assert_eq!(print.canon, print.raw / 1000);
            }
        }
        let mut expected = as_of(&self.history, u64::MAX);
        for (hash, value) in &mut expected {
            *value = self.refreshed.get(hash).copied().unwrap_or(*value * 1000);
        }
        assert_eq!(found, expected);
    }

    fn check_pages(&self) {
        let walk = RangeState::new(self.pages.clone(), Range::ALL);
        let walk = walk.walk(CELL).unwrap().map(Result::unwrap);
        let found: BTreeMap<u128, u64> = walk.map(|(hash, print)| (hash.0, print.canon)).collect();
        let expected = as_of(&self.history, self.written);
        assert_eq!(found, expected);
        let hashes: Vec<KeyHash> = found.keys().map(|hash| KeyHash(*hash)).collect();
        let keys = self.pages.keys(CELL, &hashes).unwrap();
        assert!(
            hashes
                .iter()
                .zip(keys)
                .all(|(hash, kept)| kept == Some(key(hash.0)))
        );
    }

    fn check_key(&self, hash: u128) {
        let state = &self.states[owner(KeyHash(hash), self.states.len())];
        if as_of_one(&self.history, hash, u64::MAX).is_some() {
            assert_eq!(state.key(CELL, KeyHash(hash)).unwrap(), Some(key(hash)));
        }
    }
}

fn as_of_one(history: &History, hash: u128, epoch: u64) -> Option<u64> {
    let values = history.get(&hash)?;
    values.iter().rev().find(|(noted, _)| *noted <= epoch)?.1
}

#[test]
fn model_random_notes_writes_walks_and_crashes_agree_with_every_value_ever_decided() {
    let mut dice = Dice::new(31);
    let mut word = || u128::from(dice.word()) << 64 | u128::from(dice.word());
    let pool: Vec<u128> = (0..3000).map(|_| word()).collect();
    let mut world = World {
        pages: memory(),
        states: Vec::new(),
        history: History::new(),
        refreshed: BTreeMap::new(),
        epoch: 0,
        written: 0,
    };
    world.open(1);
    let mut epochs: Vec<(u64, Changes)> = Vec::new();
    for _ in 0..400 {
        match dice.below(8) {
            0..=2 => {
                world.epoch += 1 + dice.below(3);
                let count = if dice.once_in(8) {
                    2500
                } else {
                    1 + dice.below(40)
                };
                let mut changes = Changes::new();
                for _ in 0..count {
                    let hash = pool[dice.below(pool.len() as u64) as usize];
                    changes.push((hash, (!dice.once_in(3)).then(|| 1 + dice.below(99))));
                }
                changes.dedup_by_key(|change| change.0);
                let mut seen = BTreeMap::new();
                changes.retain(|(hash, _)| seen.insert(*hash, ()).is_none());
                let half = dice.below(changes.len() as u64 + 1) as usize;
                world.note(world.epoch, &changes[..half]);
                world.note(world.epoch, &changes[half..]);
                for (hash, value) in &changes {
                    world
                        .history
                        .entry(*hash)
                        .or_default()
                        .push((world.epoch, *value));
                    world.refreshed.remove(hash);
                }
                epochs.push((world.epoch, changes));
            }
            3 => {
                for _ in 0..50 {
                    let hash = pool[dice.below(pool.len() as u64) as usize];
                    world.refresh(hash, dice.below(1000));
                }
            }
            4 | 5 => {
                world.written += dice.below(world.epoch - world.written + 1);
                for state in &mut world.states {
                    state.write(Epoch(world.written)).unwrap();
                }
                world.check_pages();
            }
            6 => world.check_key(pool[dice.below(pool.len() as u64) as usize]),
            _ => {
                // A crash: some epochs were not sealed; those after the position are replayed, in
                // batches, although the pages may be ahead.
                let sealed = world.written + dice.below(world.epoch - world.written + 1);
                let position = dice.below(world.written + 1);
                world.open(1 + dice.below(4) as usize);
                epochs.retain(|(epoch, _)| *epoch <= sealed);
                for values in world.history.values_mut() {
                    values.retain(|(epoch, _)| *epoch <= sealed);
                }
                for (epoch, changes) in &epochs {
                    if *epoch > position {
                        changes
                            .chunks(7)
                            .for_each(|batch| world.note(*epoch, batch));
                    }
                }
                // The pages may be ahead: they are what they were, until the next write.
                world.check_pages();
                world.epoch = world.epoch.max(sealed) + 1;
                world.refreshed.clear();
                for state in &world.states {
                    for item in state.walk(CELL).unwrap() {
                        let (hash, print) = item.unwrap();
                        world.refreshed.insert(hash.0, print.raw);
                    }
                }
            }
        }
        world.check();
    }
    for state in &mut world.states {
        state.write(Epoch(world.epoch)).unwrap();
        assert!(state.is_empty());
    }
    world.written = world.epoch;
    world.check_pages();
    world.check();
}
