//! The entries of every cell, in pages, on disk.
//!
//! Reads go to the pages concerned only. Writes merge sorted updates into the pages they touch; a
//! page that grows too large is split, one that gets too small takes in the next. Whatever such a
//! step replaces, key-byte pages included, is in one atomic batch (R28): a crash leaves the pages as
//! they were before or after it. Pages never cross the range that they are written under.

mod merge;
#[cfg(test)]
mod tests;

use std::ops::AddAssign;
use std::sync::Arc;

use crate::error::Error;
use crate::fail;
use crate::page::{self, Builder, ENTRY_BYTES, Entry, Id};
use crate::range::Range;
use crate::store::{Bytes, PageStore, Pairs, Write};
use crate::word::{CellId, Fingerprint, KeyHash};

/// Pages of a ceased cell that one batch deletes.
const DELETED_AT_ONCE: usize = 4096;
/// A named value is cut at this.
const SMALL_BYTES_MAX: usize = 32 << 10;
/// Named values have this instead of cell and kind; no cell may have this number.
const SMALL: [u8; 5] = [0xff; 5];

/// What becomes of one key.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// The key's hash.
    pub hash: KeyHash,
    /// The new fingerprint; `None`: the key is gone.
    pub print: Option<Fingerprint>,
    /// The key itself, to be kept. Empty: kept before, or not to be kept.
    pub key: &'a [u8],
}

/// Another fingerprint for an entry.
pub(crate) type Revise<'a> = &'a dyn Fn(Entry) -> Option<Fingerprint>;

/// What was written to the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Pages put, those of key bytes included.
    pub pages: u64,
    /// Bytes of the pages put.
    pub bytes: u64,
}

impl AddAssign for Written {
    fn add_assign(&mut self, other: Written) {
        self.pages += other.pages;
        self.bytes += other.bytes;
    }
}

/// What a cell has in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Entries.
    pub entries: u64,
    /// Pages of entries; those of key bytes are beside them.
    pub pages: u64,
}

/// The pages of all cells; clones see the same.
#[derive(Clone, Debug)]
pub struct Pages {
    store: Arc<dyn PageStore>,
}

impl Pages {
    /// Pages in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn PageStore>) -> Pages {
        Pages { store }
    }

    /// The store itself, to be flushed from another thread.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn PageStore> {
        &self.store
    }

    /// Merges `updates` into the pages of `cell` in `range`. Durable after a flush of the store;
    /// readable at once.
    ///
    /// # Errors
    /// When a page is damaged or the store fails; a part of the updates may then be merged.
    ///
    /// # Panics
    /// When `updates` are not sorted by hash without repetition, or not in `range`.
    pub fn merge(
        &self,
        cell: CellId,
        range: Range,
        updates: &[Update<'_>],
    ) -> Result<Written, Error> {
        let (written, _) = self.merge_with(cell, range, updates, &|_| None)?;
        Ok(written)
    }

    /// Like [`Pages::merge`]; `revise` may give another fingerprint to each entry in a page that is
    /// written anyway. Returns the entries that got one, too.
    pub(crate) fn merge_with(
        &self,
        cell: CellId,
        range: Range,
        updates: &[Update<'_>],
        revise: Revise<'_>,
    ) -> Result<(Written, Vec<KeyHash>), Error> {
        merge::merge(self, cell, range, updates, revise)
    }

    /// The keys kept for `hashes`, in their order.
    ///
    /// # Errors
    /// When a page is damaged or the store fails.
    pub fn keys(&self, cell: CellId, hashes: &[KeyHash]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut held: Option<Held> = None;
        let mut keys = Vec::with_capacity(hashes.len());
        for hash in hashes {
            if !held.as_ref().is_some_and(|held| held.covers(*hash)) {
                held = self.hold(cell, *hash)?;
            }
            keys.push(match &held {
                Some(held) => held.key(*hash)?,
                None => None,
            });
        }
        Ok(keys)
    }

    /// Both pages that `hash` is in, if it is in any.
    fn hold(&self, cell: CellId, hash: KeyHash) -> Result<Option<Held>, Error> {
        let from = Range {
            first: KeyHash(0),
            last: hash,
        };
        let Some((id, entries)) = self.scan(cell, from).previous()? else {
            return Ok(None);
        };
        let keys = Id::keys(cell, id.first);
        Ok(Some(Held {
            id,
            keys: self.store.get(&keys.key())?,
            entries,
        }))
    }

    /// Cuts the page of `cell` that has entries on both sides of `boundary`, if there is one, so that
    /// none straddles a range that begins there.
    ///
    /// # Errors
    /// When a page is damaged or the store fails.
    pub fn split_at(&self, cell: CellId, boundary: KeyHash) -> Result<(), Error> {
        let Some(before) = boundary.0.checked_sub(1) else {
            return Ok(());
        };
        let Some(held) = self.hold(cell, KeyHash(before))? else {
            return Ok(());
        };
        let content = held.id.open(&held.entries)?;
        let (Ok(at) | Err(at)) = page::find(content, boundary);
        let entries: Vec<Entry> = page::entries(content).collect();
        if at == entries.len() {
            return Ok(());
        }
        let keys = held.all_keys(entries.len())?;
        let mut batch = Batch::default();
        batch.remove(&held);
        for (first, part) in [(held.id.first, 0..at), (boundary, at..entries.len())] {
            batch.put(cell, first, &entries[part.clone()], &keys[part]);
        }
        batch.apply(&*self.store)
    }

    /// [`Pages::split_at`] for all cells and for the ranges of all `workers`: to be called on open,
    /// before anyone reads a range.
    ///
    /// # Errors
    /// When a page is damaged or the store fails.
    pub fn split_for(&self, workers: usize) -> Result<(), Error> {
        for cell in self.cells()? {
            for worker in 1..workers {
                self.split_at(cell, Range::of(worker, workers).first)?;
            }
        }
        Ok(())
    }

    /// The cells that have an entry.
    ///
    /// # Errors
    /// When the store fails.
    pub fn cells(&self) -> Result<Vec<CellId>, Error> {
        let mut cells = Vec::new();
        let mut from = Some(0);
        while let Some(least) = from {
            let first = Id::entries(CellId(least), KeyHash(0)).key();
            let Some(pair) = self.store.range(&first, &SMALL[..4]).next() else {
                break;
            };
            let (key, _) = pair?;
            let cell = u32::from_be_bytes(*key.first_chunk().expect("keys are longer"));
            cells.push(CellId(cell));
            from = cell.checked_add(1);
        }
        Ok(cells)
    }

    /// How many entries `cell` has, and in how many pages.
    ///
    /// # Errors
    /// When a page is damaged or the store fails.
    pub fn count(&self, cell: CellId) -> Result<Count, Error> {
        let mut count = Count::default();
        let mut scan = self.scan(cell, Range::ALL);
        while let Some((id, bytes)) = scan.next()? {
            count.pages += 1;
            count.entries += (id.open(&bytes)?.len() / ENTRY_BYTES) as u64;
        }
        Ok(count)
    }

    /// Deletes all that is kept of `cell`; after a crash in between, a part of it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn delete_cell(&self, cell: CellId) -> Result<(), Error> {
        let first = Id::entries(cell, Range::ALL.first).key();
        let last = Id::keys(cell, Range::ALL.last).key();
        loop {
            let pairs = self.store.range(&first, &last).take(DELETED_AT_ONCE);
            let batch = pairs.map(|pair| Ok((pair?.0.to_vec(), None)));
            let batch: Vec<Write> = batch.collect::<Result<_, Error>>()?;
            if batch.is_empty() {
                return Ok(());
            }
            self.store.apply(batch)?;
        }
    }

    /// The pages of `cell` in `range`, in order.
    pub(crate) fn scan(&self, cell: CellId, range: Range) -> Scan<'_> {
        let first = Id::entries(cell, range.first).key();
        let last = Id::entries(cell, range.last).key();
        Scan {
            pairs: self.store.range(&first, &last),
        }
    }

    /// Keeps `bytes` under `name`, in place of what was there; durable after a flush.
    ///
    /// # Errors
    /// When the store fails.
    pub fn put_small(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let mut writes = self.removal_of_small(name)?;
        let key = |index: usize| {
            let index = u32::try_from(index).expect("far below 4 G pieces");
            [&small_prefix(name)[..], &index.to_be_bytes()].concat()
        };
        // One piece at least, so that an empty value is not the same as none.
        let last = bytes.len().saturating_sub(1) / SMALL_BYTES_MAX;
        for index in 0..=last {
            let from = index * SMALL_BYTES_MAX;
            let to = bytes.len().min(from + SMALL_BYTES_MAX);
            writes.push((key(index), Some(bytes[from..to].to_vec())));
        }
        self.store.apply(writes)
    }

    /// What is kept under `name`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn small(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut value: Option<Vec<u8>> = None;
        for pair in self.small_pairs(name) {
            value.get_or_insert_default().extend_from_slice(&pair?.1);
        }
        Ok(value)
    }

    /// Reads what is kept under `name` and deletes it, durably (R8).
    ///
    /// # Errors
    /// When the store fails.
    pub fn take_small(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let value = self.small(name)?;
        if value.is_some() {
            self.store.apply(self.removal_of_small(name)?)?;
            self.store.flush()?;
        }
        Ok(value)
    }

    fn small_pairs(&self, name: &str) -> Pairs<'_> {
        let prefix = small_prefix(name);
        self.store
            .range(&prefix, &[&prefix[..], &[0xff; 4]].concat())
    }

    fn removal_of_small(&self, name: &str) -> Result<Vec<Write>, Error> {
        self.small_pairs(name)
            .map(|pair| Ok((pair?.0.to_vec(), None)))
            .collect()
    }
}

/// The length makes that no name is the beginning of another.
fn small_prefix(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("names are short");
    [&SMALL[..], &[length], name.as_bytes()].concat()
}

/// Pages of entries in order.
pub(crate) struct Scan<'a> {
    pairs: Pairs<'a>,
}

impl Scan<'_> {
    /// The next page, unopened.
    pub(crate) fn next(&mut self) -> Result<Option<(Id, Bytes)>, Error> {
        self.pairs.next().transpose().map(named)
    }

    fn previous(&mut self) -> Result<Option<(Id, Bytes)>, Error> {
        self.pairs.next_back().transpose().map(named)
    }
}

fn named(pair: Option<(Bytes, Bytes)>) -> Option<(Id, Bytes)> {
    pair.map(|(key, value)| (Id::read(&key).expect("the scan is over pages"), value))
}

/// A page of entries and its key bytes.
struct Held {
    id: Id,
    entries: Bytes,
    keys: Option<Bytes>,
}

impl Held {
    fn covers(&self, hash: KeyHash) -> bool {
        let last = self
            .id
            .open(&self.entries)
            .ok()
            .and_then(|all| page::entries(all).next_back());
        last.is_some_and(|last| self.id.first <= hash && hash <= last.hash)
    }

    fn key(&self, hash: KeyHash) -> Result<Option<Vec<u8>>, Error> {
        let content = self.id.open(&self.entries)?;
        let Ok(at) = page::find(content, hash) else {
            return Ok(None);
        };
        let key = self.all_keys(content.len() / ENTRY_BYTES)?[at];
        Ok((!key.is_empty()).then(|| key.to_vec()))
    }

    fn all_keys(&self, count: usize) -> Result<Vec<&[u8]>, Error> {
        let Some(bytes) = &self.keys else {
            return Ok(vec![&[]; count]);
        };
        let id = Id::keys(self.id.cell, self.id.first);
        id.split(id.open(bytes)?, count)
    }
}

/// Writes that belong together.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    bytes: usize,
    written: Written,
}

impl Batch {
    /// Puts the page of `cell` that begins at `first` and its key bytes, each unless it would be
    /// empty.
    fn put(&mut self, cell: CellId, first: KeyHash, entries: &[Entry], keys: &[&[u8]]) {
        if !entries.is_empty() {
            let id = Id::entries(cell, first);
            let mut page = Builder::with_capacity(entries.len() * ENTRY_BYTES);
            entries.iter().for_each(|entry| page.entry(*entry));
            self.push(id, Some(page.finish(id)));
        }
        if keys.iter().any(|key| !key.is_empty()) {
            let id = Id::keys(cell, first);
            let mut page = Builder::with_capacity(keys.iter().map(|key| key.len() + 2).sum());
            keys.iter().for_each(|key| page.key(key));
            self.push(id, Some(page.finish(id)));
        }
    }

    /// Deletes a page and its key bytes; a later `put` of the same pages takes precedence.
    fn remove(&mut self, held: &Held) {
        self.push(held.id, None);
        if held.keys.is_some() {
            self.push(Id::keys(held.id.cell, held.id.first), None);
        }
    }

    fn push(&mut self, id: Id, page: Option<Vec<u8>>) {
        if let Some(page) = &page {
            self.bytes += page.len();
            self.written.pages += 1;
        }
        self.writes.push((id.key(), page));
    }

    fn apply(&mut self, store: &dyn PageStore) -> Result<(), Error> {
        if self.writes.is_empty() {
            return Ok(());
        }
        self.written.bytes += self.bytes as u64;
        self.bytes = 0;
        let writes = std::mem::take(&mut self.writes);
        if fail::broken("r28") {
            return writes
                .into_iter()
                .try_for_each(|write| store.apply(vec![write]));
        }
        store.apply(writes)
    }
}
