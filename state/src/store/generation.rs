//! One sled database, and its files: what sled returns as an error or a panic is an [`Error`].

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::ops::{Deref, RangeBounds};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(super) use sled::Batch;

use super::both_ends;
use super::bytes::Bytes;
use super::directory::{files, path, sync};
use super::sum::{SUM, Sum};
use crate::error::Error;
use crate::fail;

/// sled keeps up to 16 pairs in a node, writes a node as one item, and puts an item that is larger
/// than a quarter of a segment into a file of its own, which it does not sync.
const SEGMENT_BYTES: usize = 2 << 20;

/// sled looks at the size of its cache once in 64 accesses of one of its 256 parts, and a node of 16 pairs
/// that are read in order is one access: 16,384 nodes, of 80 KiB where pages are full, would stay whatever
/// the cache may hold. So one in so many pairs that are read is looked up too.
const LOOKED_UP: u32 = 2;
/// Pairs that are copied again in one batch.
const TOGETHER: usize = 256;

/// Keys that were written.
pub(super) type Keys = BTreeSet<Vec<u8>>;

/// One sled database.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) db: sled::Db,
    dir: PathBuf,
    /// After `db`, so that it is closed before its files are removed.
    doom: Doom,
}

/// What some of its pairs are.
#[derive(Default)]
struct Found {
    bytes: u64,
    sum: Sum,
    /// The sum that they should have, if it can be read, if it is among them.
    stated: Option<Option<Sum>>,
}

/// Whether to remove the files at the end, and which.
#[derive(Debug)]
struct Doom(AtomicBool, PathBuf);

impl Drop for Doom {
    fn drop(&mut self) {
        if self.0.load(Ordering::Acquire) {
            // What is left is removed by the next open.
            let _ = fs::remove_dir_all(&self.1);
            fail::step("store.copy.removed");
        }
    }
}

impl Generation {
    pub(super) fn open(dir: &Path, number: u64, cache_bytes: u64) -> Result<Generation, Error> {
        let dir = path(dir, number);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let config = sled::Config::new()
            .path(&dir)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(None);
        Ok(Generation {
            number,
            db: guard(&dir, || open_unlocked(&config))?,
            doom: Doom(AtomicBool::new(false), dir.clone()),
            dir,
        })
    }

    fn guard<T>(&self, call: impl FnOnce() -> sled::Result<T>) -> Result<T, Error> {
        guard(&self.dir, call)
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self.guard(|| self.db.get(key))?;
        Ok(value.map(Bytes::from))
    }

    /// The pairs with keys in `range`, in order.
    pub(super) fn pairs<'k>(self: &Arc<Self>, range: impl RangeBounds<&'k [u8]>) -> Reading {
        Reading(Walk::of(self.clone(), self.db.range(range)))
    }

    /// Puts all pairs into `new`, which is empty. sled lays them out densely, each value written once, if
    /// all keys come first, in order, and then, in order again, the values.
    pub(super) fn copy_to(&self, new: &Generation) -> Result<(), Error> {
        for with_value in [false, true] {
            let mut pairs = Walk::of(self, self.db.iter());
            while let Some(pair) = pairs.pair(sled::Iter::next) {
                let (key, value) = pair?;
                let value = if with_value {
                    value
                } else {
                    sled::IVec::default()
                };
                new.guard(|| new.db.insert(key, value))?;
            }
        }
        Ok(())
    }

    /// Whether the files are to be removed when nobody uses them any more.
    pub(super) fn doom(&self, doomed: bool) {
        self.doom.0.store(doomed, Ordering::Release);
    }

    /// Brings `keys` in `new` to what they are here now, and makes all of it durable.
    pub(super) fn copy_again(&self, new: &Generation, keys: &Keys) -> Result<(), Error> {
        let mut keys = keys.iter().peekable();
        while keys.peek().is_some() {
            let mut batch = Batch::default();
            for key in keys.by_ref().take(TOGETHER) {
                match self.guard(|| self.db.get(key))? {
                    Some(value) => batch.insert(&key[..], value),
                    None => batch.remove(&key[..]),
                }
            }
            new.apply(batch)?;
        }
        new.flush()
    }

    pub(super) fn apply(&self, batch: Batch) -> Result<(), Error> {
        fail::step("store.apply.before");
        self.guard(|| self.db.apply_batch(batch))?;
        fail::step("store.apply.after");
        Ok(())
    }

    pub(super) fn flush(&self) -> Result<(), Error> {
        fail::step("store.flush.before");
        self.guard(|| self.db.flush())?;
        fail::step("store.flush.flushed");
        // IMPORTANT: sled's flush is sync_file_range, which a power cut does not respect.
        let blobs = self.dir.join("blobs");
        for path in files(&self.dir)?.into_iter().chain(files(&blobs)?) {
            sync(&path)?;
        }
        sync(&blobs)?;
        sync(&self.dir)?;
        fail::step("store.flush.synced");
        Ok(())
    }

    /// Bytes of the files.
    pub(super) fn bytes(&self) -> Result<u64, Error> {
        let files = files(&self.dir)?
            .into_iter()
            .chain(files(&self.dir.join("blobs"))?);
        // sled may remove a file meanwhile.
        Ok(files
            .map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len()))
            .sum())
    }

    /// Bytes of the pairs; about, while batches are applied.
    pub(super) fn held(&self) -> Result<u64, Error> {
        let mut bytes = 0;
        self.each(|key, value| bytes += (key.len() + value.len()) as u64)?;
        Ok(bytes)
    }

    /// Bytes of the pairs, and their sum, which is the one they should have. Nobody writes meanwhile.
    pub(super) fn verify(self: &Arc<Self>) -> Result<(u64, Sum), Error> {
        let found = both_ends::visit(
            || self.pairs(..),
            |found: &mut Found, key, value| {
                if *key == SUM {
                    found.stated = Some(Sum::decode(value));
                    return;
                }
                found.bytes += (key.len() + value.len()) as u64;
                found.sum.add(key, value);
            },
        )?;
        let bytes = found.iter().map(|found| found.bytes).sum();
        let stated = found.iter().find_map(|found| found.stated);
        let stated = stated.unwrap_or(Some(Sum::default()));
        let [mut sum, rest] = found.map(|found| found.sum);
        sum.merge(rest);
        sum.batch = stated.map_or(0, |stated| stated.batch);
        if stated == Some(sum) || fail::broken("r28") {
            return Ok((bytes, sum));
        }
        Err(Error::Store {
            path: self.dir.clone(),
            what: "is damaged: some of what it held is gone".to_owned(),
        })
    }

    fn each(&self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), Error> {
        let mut pairs = Walk::of(self, self.db.iter());
        while let Some(pair) = pairs.pair(sled::Iter::next) {
            let (key, value) = pair?;
            visit(&key, &value);
        }
        Ok(())
    }
}

/// Pairs in order, while what sled keeps of them stays in its bounds.
struct Walk<G> {
    /// Before its generation, which may be the last to use the files.
    pairs: sled::Iter,
    generation: G,
    read: u32,
}

impl<G: Deref<Target = Generation>> Walk<G> {
    fn of(generation: G, pairs: sled::Iter) -> Walk<G> {
        Walk {
            pairs,
            generation,
            read: 0,
        }
    }

    fn pair(
        &mut self,
        pick: impl FnOnce(&mut sled::Iter) -> Option<sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Option<Result<(sled::IVec, sled::IVec), Error>> {
        self.read = self.read.wrapping_add(1);
        let look_up = self.read.is_multiple_of(LOOKED_UP);
        let pair = self.generation.guard(|| {
            let pair = pick(&mut self.pairs).transpose()?;
            if let (true, Some((key, _))) = (look_up, &pair) {
                self.generation.db.contains_key(key)?;
            }
            Ok(pair)
        });
        pair.transpose()
    }
}

/// Pairs of a generation, which stays while they are read.
pub(super) struct Reading(Walk<Arc<Generation>>);

impl Reading {
    fn pair(
        &mut self,
        pick: impl FnOnce(&mut sled::Iter) -> Option<sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Option<Result<(Bytes, Bytes), Error>> {
        let pair = self.0.pair(pick)?;
        Some(pair.map(|(key, value)| (key.into(), value.into())))
    }
}

impl Iterator for Reading {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pair(sled::Iter::next)
    }
}

impl DoubleEndedIterator for Reading {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.pair(sled::Iter::next_back)
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread would become an [`Error::Store`]: sled asserts some of what it
/// expects to find on disk. For a panic hook that ends the process (R15), which must not do so then.
#[must_use]
pub fn panic_is_caught() -> bool {
    GUARDED.get()
}

fn guard<T>(dir: &Path, call: impl FnOnce() -> sled::Result<T>) -> Result<T, Error> {
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(outer);
    match result {
        Ok(result) => result.map_err(|error| failure(dir, error)),
        Err(_) => Err(Error::Store {
            path: dir.to_owned(),
            what: "is damaged: what it holds makes no sense".to_owned(),
        }),
    }
}

/// Opens a store whose last user in this process may have threads that still hold its file: they let
/// go soon after it is dropped. Another process cannot have it, since the directory has a lock.
fn open_unlocked(config: &sled::Config) -> sled::Result<sled::Db> {
    const TRIES: u32 = 500;
    const PAUSE: Duration = Duration::from_millis(20);
    for _ in 0..TRIES {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                std::thread::park_timeout(PAUSE);
            }
            opened => return opened,
        }
    }
    config.open()
}

fn failure(dir: &Path, error: sled::Error) -> Error {
    match error {
        sled::Error::Io(source) => Error::io("use", dir)(source),
        other => Error::Store {
            path: dir.to_owned(),
            what: format!("cannot be used: {other}"),
        },
    }
}
