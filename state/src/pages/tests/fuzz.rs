//! Pages that were changed in any way: what opens is what was written, and nothing makes a reader or a
//! writer panic, not even what passes its checksum.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::fuzz::{self, Interest};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/page");
const FIRST: KeyHash = KeyHash(5 << 70);

/// A page of entries and one of keys, of one cell.
fn written() -> [Vec<u8>; 2] {
    let store = Arc::new(MemoryStore::default());
    let pages = Pages::new(store.clone());
    let hashes: Vec<KeyHash> = (0..9).map(|n| KeyHash(FIRST.0 + (n << 90))).collect();
    let keys: Vec<Vec<u8>> = hashes.iter().map(|hash| key(*hash)).collect();
    let updates = hashes.iter().zip(&keys).enumerate();
    let updates = updates.map(|(n, (hash, key))| update(*hash, Some(n as u64), &key[n % 3 * 2..]));
    let range = Range {
        first: FIRST,
        last: KeyHash(u128::MAX),
    };
    pages
        .merge(CELL, range, &updates.collect::<Vec<_>>())
        .unwrap();
    ids().map(|id| store.get(&id.key()).unwrap().unwrap().to_vec())
}

fn ids() -> [Id; 2] {
    [Id::entries(CELL, FIRST), Id::keys(CELL, FIRST)]
}

/// The page that holds `content` under `id`.
fn page_of(id: Id, content: &[u8]) -> Vec<u8> {
    let mut builder = Builder::with_capacity(0);
    builder.raw(content);
    builder.finish(id)
}

#[test]
fn the_corpus_is_what_this_build_writes_under_its_page_version() {
    for (name, page) in ["entries", "keys"].iter().zip(written()) {
        let kept = std::fs::read(Path::new(CORPUS).join(name)).unwrap();
        assert!(kept == page, "{name}: another format needs another version");
    }
}

#[test]
fn fuzz_a_changed_page_is_opened_as_it_was_written_or_not_at_all() {
    let written = written();
    let count = fuzz::run("page", 91, fuzz::corpus(Path::new(CORPUS)), |input| {
        for (id, page) in ids().into_iter().zip(&written) {
            assert_eq!(id.open(input).is_ok(), input == page, "{id:?}");
        }
        Interest::None
    });
    assert!(count > 100, "{count}");
}

#[test]
fn fuzz_a_page_that_passes_its_checksum_and_makes_no_sense_is_an_error_and_no_panic() {
    let written = written();
    let mut seen = std::collections::HashSet::new();
    let count = fuzz::run("content", 92, fuzz::corpus(Path::new(CORPUS)), |input| {
        let content = input.get(9..).unwrap_or_default();
        let mut interest = Interest::None;
        for (changed, id) in ids().into_iter().enumerate() {
            let store = Arc::new(MemoryStore::default());
            let mut pair = written.clone();
            pair[changed] = page_of(id, content);
            let writes = ids().into_iter().zip(pair);
            let writes = writes.map(|(id, page)| (id.key(), Some(page)));
            store.apply(writes.collect()).unwrap();
            let outcome = format!("{:?}", use_all(&Pages::new(store), content.len()));
            if seen.len() < 300 && seen.insert(xxh3_64(outcome.as_bytes())) {
                interest = Interest::New;
            }
        }
        interest
    });
    assert!(count > 100, "{count}");
}

/// Reads everything, writes to it, splits it.
fn use_all(pages: &Pages, bytes: usize) -> Result<usize, Error> {
    let mut hashes = Vec::new();
    let mut scan = pages.scan(CELL, Range::ALL);
    while let Some((id, page)) = scan.next()? {
        let content = id.open(&page)?;
        let entries: Vec<Entry> = page::entries(content).collect();
        let mut again = Builder::with_capacity(0);
        entries.iter().for_each(|entry| again.entry(*entry));
        assert_eq!(
            again.finish(id),
            page.to_vec(),
            "what is read is what is there"
        );
        hashes.extend(entries.iter().map(|entry| entry.hash));
    }
    let keys = pages.keys(CELL, &hashes);
    if let Ok(keys) = &keys {
        let each = keys.iter().flatten().map(Vec::len).max().unwrap_or(0);
        assert!(each <= bytes.max(64), "no key is longer than its page");
    }
    let middle = hashes.get(hashes.len() / 2).copied().unwrap_or(FIRST);
    let split = pages.split_at(CELL, middle);
    let some = [update(FIRST, Some(1), b"new")];
    let merged = pages.merge(CELL, Range::ALL, &some);
    keys.and(split).and(merged)?;
    Ok(hashes.len())
}
