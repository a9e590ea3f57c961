//! Pages against a map: random merges, removals and splits, and a store that stops half-way.

mod fuzz;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::dice::Dice;
use crate::store::{MemoryStore, SledStore};

type Model = BTreeMap<KeyHash, (Fingerprint, Vec<u8>)>;

const CELL: CellId = CellId(7);

fn print(value: u64) -> Fingerprint {
    Fingerprint {
        raw: value,
        canon: !value,
        rule: value as u8,
    }
}

fn memory() -> Pages {
    Pages::new(Arc::new(MemoryStore::default()))
}

fn key(hash: KeyHash) -> Vec<u8> {
    format!("key {:x}", hash.0).into_bytes()
}

fn update<'a>(hash: KeyHash, value: Option<u64>, key: &'a [u8]) -> Update<'a> {
    Update {
        hash,
        print: value.map(print),
        key,
    }
}

fn apply(model: &mut Model, updates: &[Update<'_>]) {
    for update in updates {
        match update.print {
            None => drop(model.remove(&update.hash)),
            Some(print) => {
                let new = (print, update.key.to_vec());
                model.entry(update.hash).or_insert(new).0 = print;
            }
        }
    }
}

fn content(pages: &Pages, cell: CellId) -> Result<Vec<Entry>, Error> {
    let mut scan = pages.scan(cell, Range::ALL);
    let mut all = Vec::new();
    while let Some((id, bytes)) = scan.next()? {
        let entries: Vec<Entry> = page::entries(id.open(&bytes)?).collect();
        assert!(!entries.is_empty() && entries[0].hash >= id.first, "{id:?}");
        all.extend(entries);
    }
    assert!(
        all.is_sorted_by(|a, b| a.hash < b.hash),
        "pages do not overlap"
    );
    Ok(all)
}

fn check(pages: &Pages, cell: CellId, model: &Model) {
    let expected = model.iter().map(|(hash, (print, _))| Entry {
        hash: *hash,
        print: *print,
    });
    assert_eq!(content(pages, cell).unwrap(), expected.collect::<Vec<_>>());
    let hashes: Vec<KeyHash> = model.keys().copied().collect();
    let kept = model
        .values()
        .map(|(_, key)| (!key.is_empty()).then(|| key.clone()));
    assert_eq!(pages.keys(cell, &hashes).unwrap(), kept.collect::<Vec<_>>());
}

/// No page has entries on both sides of a boundary, or more than it should.
fn check_pages(pages: &Pages, cell: CellId, workers: usize) {
    let mut scan = pages.scan(cell, Range::ALL);
    while let Some((id, bytes)) = scan.next().unwrap() {
        let entries: Vec<Entry> = page::entries(id.open(&bytes).unwrap()).collect();
        let owner = |entry: &Entry| crate::range::owner(entry.hash, workers);
        assert_eq!(owner(&entries[0]), owner(&entries[entries.len() - 1]));
        assert!(entries.len() <= merge::ENTRIES_MAX);
    }
}

#[test]
fn model_random_merges_removals_and_splits_agree_with_a_map() {
    let mut dice = Dice::new(21);
    let mut word = || KeyHash(u128::from(dice.word()) << 64 | u128::from(dice.word()));
    let pool: Vec<KeyHash> = (0..4000).map(|_| word()).collect();
    for keyless in [false, true] {
        let (pages, mut model) = (memory(), Model::new());
        let mut workers = 1;
        for round in 0..250_u64 {
            if dice.once_in(10) {
                workers = 1 + dice.below(4) as usize;
                pages.split_for(workers).unwrap();
                check(&pages, CELL, &model);
            }
            // Few, or many, or nearly only removals.
            let (count, removals) = match dice.below(6) {
                0 => (2000, 3),
                1 => (3000, 1),
                _ => (1 + dice.below(60), 3),
            };
            let mut changes = BTreeMap::new();
            for _ in 0..count {
                let hash = pool[dice.below(pool.len() as u64) as usize];
                let value = (!dice.once_in(removals)).then_some(round);
                changes.insert(hash, (value, if keyless { Vec::new() } else { key(hash) }));
            }
            let updates = changes
                .iter()
                .map(|(hash, (value, key))| update(*hash, *value, key));
            let updates: Vec<Update<'_>> = updates.collect();
            for worker in 0..workers {
                let range = Range::of(worker, workers);
                let own: Vec<Update<'_>> = updates
                    .iter()
                    .copied()
                    .filter(|u| range.contains(u.hash))
                    .collect();
                pages.merge(CELL, range, &own).unwrap();
            }
            apply(&mut model, &updates);
            check(&pages, CELL, &model);
            check_pages(&pages, CELL, workers);
        }
        assert!(model.len() > 100, "{}", model.len());
        let removals: Vec<Update<'_>> = model.keys().map(|h| update(*h, None, b"")).collect();
        pages.split_for(1).unwrap();
        pages.merge(CELL, Range::ALL, &removals).unwrap();
        assert_eq!(pages.store().bytes().unwrap(), 0, "nothing is left behind");
    }
}

/// A store that fails after some batches.
#[derive(Debug)]
struct Failing {
    inner: Arc<MemoryStore>,
    left: AtomicUsize,
}

impl PageStore for Failing {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.inner.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        self.inner.range(from, to)
    }

    fn apply(&self, batch: Vec<Write>) -> Result<(), Error> {
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        left.map_err(|_| Error::Missing {
            path: "power".into(),
        })?;
        self.inner.apply(batch)
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn bytes(&self) -> Result<u64, Error> {
        self.inner.bytes()
    }
}

#[test]
fn crash_r28_between_any_two_batches_every_key_has_its_old_or_its_new_value() {
    let hash = |n: u64| KeyHash(u128::from(n) << 110);
    let long = |n: u64| [key(hash(n)), vec![b'.'; 900]].concat();
    let keys: Vec<Vec<u8>> = (0..6000).map(long).collect();
    let with = |numbers: &mut dyn Iterator<Item = u64>, value: Option<u64>| {
        let update = |n: u64| update(hash(n), value, &keys[n as usize]);
        numbers.map(update).collect::<Vec<_>>()
    };
    let mut before = Model::new();
    let first = with(&mut (0..6000).step_by(2), Some(1));
    apply(&mut before, &first);
    // Adds between what is there, changes, and removes whole pages.
    let mut second = with(&mut (0..3000), Some(2));
    second.extend(with(&mut (3000..5990).step_by(2), None));
    let mut after = before.clone();
    apply(&mut after, &second);
    let mut crashes = 0;
    for batches in 0.. {
        let inner = Arc::new(MemoryStore::default());
        Pages::new(inner.clone())
            .merge(CELL, Range::ALL, &first)
            .unwrap();
        let left = AtomicUsize::new(batches);
        let pages = Pages::new(Arc::new(Failing {
            inner: inner.clone(),
            left,
        }));
        let merged = pages.merge(CELL, Range::ALL, &second);
        let found = content(&pages, CELL).unwrap();
        let found: BTreeMap<KeyHash, Fingerprint> =
            found.iter().map(|e| (e.hash, e.print)).collect();
        for number in 0..6000 {
            let hash = hash(number);
            let of = |model: &Model| model.get(&hash).map(|(print, _)| *print);
            let (found, old, new) = (found.get(&hash).copied(), of(&before), of(&after));
            assert!(
                found == old || found == new,
                "key {number} after {batches} batches"
            );
        }
        let hashes: Vec<KeyHash> = found.keys().copied().collect();
        let kept = pages.keys(CELL, &hashes).unwrap();
        for (hash, kept) in hashes.iter().zip(kept) {
            assert_eq!(kept.unwrap(), long((hash.0 >> 110) as u64));
        }
        if merged.is_ok() {
            break;
        }
        crashes += 1;
        // The restart does it all again.
        pages.merge(CELL, Range::ALL, &second).unwrap_err();
        let restarted = Pages::new(inner);
        restarted.merge(CELL, Range::ALL, &second).unwrap();
        check(&restarted, CELL, &after);
    }
    assert!(crashes > 2, "{crashes}: the merge needs several batches");
}

#[test]
fn a_merge_that_changes_nothing_writes_nothing() {
    let pages = memory();
    let updates: Vec<Update<'_>> = (0..500)
        .map(|n| update(KeyHash(n << 100), Some(1), b"k"))
        .collect();
    assert!(pages.merge(CELL, Range::ALL, &updates).unwrap().pages > 8);
    assert_eq!(
        pages.merge(CELL, Range::ALL, &updates).unwrap(),
        Written::default()
    );
    let absent = [update(KeyHash(1), None, b"")];
    assert_eq!(
        pages.merge(CELL, Range::ALL, &absent).unwrap(),
        Written::default()
    );
}

#[test]
fn a_change_rewrites_one_page_and_no_key_bytes() {
    let pages = memory();
    let updates: Vec<Update<'_>> = (0..5000)
        .map(|n| update(KeyHash(n << 100), Some(1), b"some key"))
        .collect();
    pages.merge(CELL, Range::ALL, &updates).unwrap();
    let one = [update(KeyHash(777 << 100), Some(2), b"some key")];
    assert_eq!(pages.merge(CELL, Range::ALL, &one).unwrap().pages, 1);
}

#[test]
fn cells_are_listed_and_deleted_apart() {
    let pages = memory();
    for cell in [0, 7, 300] {
        let updates: Vec<Update<'_>> = (0..400)
            .map(|n| update(KeyHash(n << 110), Some(n as u64), b"k"))
            .collect();
        pages.merge(CellId(cell), Range::ALL, &updates).unwrap();
    }
    pages.put_small("misses", b"x").unwrap();
    let cells = |pages: &Pages| {
        pages
            .cells()
            .unwrap()
            .iter()
            .map(|c| c.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(cells(&pages), [0, 7, 300]);
    pages.delete_cell(CELL).unwrap();
    assert_eq!(cells(&pages), [0, 300]);
    assert_eq!(content(&pages, CellId(0)).unwrap().len(), 400);
    assert_eq!(pages.keys(CELL, &[KeyHash(0)]).unwrap(), [None]);
}

#[test]
fn a_damaged_page_is_named_by_cell_and_page() {
    let store = Arc::new(MemoryStore::default());
    let pages = Pages::new(store.clone());
    pages
        .merge(CELL, Range::ALL, &[update(KeyHash(5), Some(1), b"k")])
        .unwrap();
    for id in [Id::entries(CELL, KeyHash(0)), Id::keys(CELL, KeyHash(0))] {
        let mut bytes = store.get(&id.key()).unwrap().unwrap().to_vec();
        bytes[9] ^= 1;
        store.apply(vec![(id.key(), Some(bytes))]).unwrap();
        let error = pages.keys(CELL, &[KeyHash(5)]).unwrap_err();
        let named = Error::Page {
            cell: CELL,
            page: KeyHash(0),
            what: "its checksum does not match",
        };
        assert_eq!(error.to_string(), named.to_string());
        pages.delete_cell(CELL).unwrap();
        pages
            .merge(CELL, Range::ALL, &[update(KeyHash(5), Some(1), b"k")])
            .unwrap();
    }
}

#[test]
fn r08_a_named_value_of_any_length_is_taken_once_and_durably() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Pages::new(Arc::new(SledStore::open(dir.path(), 1 << 20).unwrap()));
    let long: Vec<u8> = (0..100_000_u32).map(|n| (n / 7) as u8).collect();
    for value in [&long[..], b"short", b"", &long[..SMALL_BYTES_MAX]] {
        let pages = open();
        pages.put_small("misses", &long).unwrap();
        pages.put_small("misses", value).unwrap();
        pages.put_small("misses of another", b"other").unwrap();
        pages.store().flush().unwrap();
        drop(pages);
        let pages = open();
        assert_eq!(pages.take_small("misses").unwrap().as_deref(), Some(value));
        drop(pages);
        let pages = open();
        assert_eq!(pages.take_small("misses").unwrap(), None);
        assert_eq!(pages.small("misses of another").unwrap().unwrap(), b"other");
    }
}
