//! Where pages are kept: five verbs, and sled behind them. The only file that names sled.
//!
//! The store is never the only copy of anything that is not published: it can be made again. A batch
//! is atomic whatever happens, and durable once [`PageStore::flush`] has returned.
//!
//! sled by itself takes three to four times what it holds: it gives back a segment when half of it is
//! garbage, and a node is written ten times before its old versions are dropped. So its files are a
//! *generation*, `<number, %010d>/`, and a flush that finds them too large copies what they hold into
//! the next one:
//!
//! * while it is copied, batches go to the old generation and are remembered;
//! * these are applied to the copy, which is then made durable;
//! * the file `CURRENT` is replaced by one that names the copy: from here on it is the store;
//! * the old generation is removed when nobody reads it any more.
//!
//! sled may lose pages, or fall back to what it was, without a word when its file is damaged. So every
//! batch carries its number and a sum over all that the store holds after it, a flush writes that
//! number into `CURRENT`, and an open compares (R28).
//!
//! A crash leaves what `CURRENT` names, and perhaps another generation, which the next open removes.
//! A copy that fails (a full disk) is given up, and the store goes on as it is.
//!
//! Fail points, in order, of an open: `store.open.created` (the first generation's directory),
//! `store.open.synced` (the directory), `store.open.removed` (another generation, once for each),
//! `store.open.verified`; of a batch: `store.apply.before`, `.after`; of a flush: `store.flush.before`,
//! `.flushed` (by sled), `.synced`; whenever `CURRENT` is replaced: `store.current.written`,
//! `.renamed`, `.synced`; of a copy: `store.copy.before`, `.made`, `.synced`, `.switched`, `.removed`
//! (the old generation).

mod both_ends;
mod directory;
mod look;
mod memory;
mod sum;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::memory::MemoryStore;

use self::directory::{CURRENT, current, files, generations, is_new, path, set_current, sync};
use self::sum::Sum;

use crate::directory as directories;
use crate::error::Error;
use crate::fail;

/// A key or a value as the store holds it; cheap to clone.
#[derive(Clone)]
pub struct Bytes(Held);

#[derive(Clone)]
enum Held {
    Sled(sled::IVec),
    Own(Arc<[u8]>),
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Sled(bytes) => bytes,
            Held::Own(bytes) => bytes,
        }
    }
}

impl From<Arc<[u8]>> for Bytes {
    fn from(bytes: Arc<[u8]>) -> Bytes {
        Bytes(Held::Own(bytes))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

/// A key, and the value that it gets or `None`: it ceases.
pub type Write = (Vec<u8>, Option<Vec<u8>>);

/// Pairs of key and value in order of key.
pub type Pairs<'a> = Box<dyn DoubleEndedIterator<Item = Result<(Bytes, Bytes), Error>> + 'a>;

/// An ordered map of byte strings.
pub trait PageStore: Send + Sync + fmt::Debug {
    /// The value of `key`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// All pairs from the key `from` to the key `to`, both included.
    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_>;

    /// Writes all of `batch` or, after a crash, none of it; later batches only after earlier ones.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn apply(&self, batch: Vec<Write>) -> Result<(), Error>;

    /// Makes everything applied so far durable.
    ///
    /// # Errors
    /// When that failed; what is on disk is then unknown until the next open.
    fn flush(&self) -> Result<(), Error>;

    /// Bytes on disk.
    ///
    /// # Errors
    /// When the store cannot be looked at.
    fn bytes(&self) -> Result<u64, Error>;
}

/// sled keeps up to 16 pairs in a node, writes a node as one item, and puts an item that is larger
/// than a quarter of a segment into a file of its own, which it does not sync.
const SEGMENT_BYTES: usize = 2 << 20;
/// A generation is copied when its files are larger than this many times what it holds ...
const SPREAD_MAX: (u64, u64) = (3, 2);
/// ... and this, which a small store is not worth copying for.
const SPREAD_BYTES: u64 = 4 << 20;
/// The key of the [`Sum`]; after every other.
const SUM: [u8; 16] = [0xff; 16];

/// A store in a directory.
#[derive(Debug)]
pub struct SledStore {
    dir: PathBuf,
    cache_bytes: u64,
    current: Mutex<Current>,
    /// Held for one flush or copy at a time.
    flushing: Mutex<Flushing>,
}

/// What every verb needs, for a moment.
#[derive(Debug)]
struct Current {
    generation: Arc<Generation>,
    /// Of what it holds.
    sum: Sum,
    /// While it is copied: the batches applied since.
    meanwhile: Option<Vec<sled::Batch>>,
}

#[derive(Debug)]
struct Flushing {
    /// Up to this it is not worth asking how much is held.
    bytes_max: u64,
    /// The last batch that is durable, as `CURRENT` says.
    batch: u64,
}

impl SledStore {
    /// Opens the store in `dir`, which is made if it is not there. About `cache_bytes` of it are
    /// kept in memory.
    ///
    /// # Errors
    /// [`Error::Store`] when it is damaged, [`Error::Io`] when the operating system refuses.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<SledStore, Error> {
        directories::make(dir)?;
        let damaged = |what| Error::Store {
            path: dir.to_owned(),
            what,
        };
        let (number, flushed) = match current(dir)? {
            Some(named) if path(dir, named.0).is_dir() => named,
            Some((number, _)) => {
                return Err(damaged(format!("has lost its directory {number:010}")));
            }
            None if is_new(dir)? => {
                let first = path(dir, 1);
                fs::create_dir_all(&first).map_err(Error::io("create", &first))?;
                // IMPORTANT: durable before it is named, or a power cut leaves the name alone.
                sync(dir)?;
                fail::step("store.open.created");
                set_current(dir, 1, 0)?;
                (1, 0)
            }
            None => return Err(damaged(format!("has lost its file {CURRENT}"))),
        };
        // IMPORTANT: a process that died may have replaced `CURRENT` in the cache only: what the old one
        // names must not go before.
        sync(dir)?;
        fail::step("store.open.synced");
        for other in generations(dir)?
            .into_iter()
            .filter(|other| *other != number)
        {
            let path = path(dir, other);
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
            fail::step("store.open.removed");
        }
        let generation = Arc::new(Generation::open(dir, number, cache_bytes)?);
        let (bytes, sum) = generation.verify()?;
        if sum.batch < flushed && !fail::broken("r28") {
            return Err(damaged(
                "is damaged: the last of what it held is gone".to_owned(),
            ));
        }
        fail::step("store.open.verified");
        generation.flush()?;
        sync(dir)?;
        Ok(SledStore {
            dir: dir.to_owned(),
            cache_bytes,
            current: Mutex::new(Current {
                generation,
                sum,
                meanwhile: None,
            }),
            flushing: Mutex::new(Flushing {
                bytes_max: spread_max(bytes),
                batch: flushed,
            }),
        })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn generation(&self) -> Arc<Generation> {
        self.current().generation.clone()
    }

    /// Copies what the current generation holds into the next one and goes on with that; `false`: the
    /// copy failed, and nothing has changed.
    fn renew(&self, old: &Generation) -> Result<bool, Error> {
        fail::step("store.copy.before");
        self.current().meanwhile = Some(Vec::new());
        let copied = self.copy(old);
        // From here on batches wait; what came in since the copy began is little.
        let mut current = self.current();
        let meanwhile = current.meanwhile.take().unwrap_or_default();
        let Ok(new) = copied.and_then(|new| new.catch_up(meanwhile)) else {
            return Ok(false);
        };
        // IMPORTANT: durable before it is named, and named before the old one is doomed.
        new.doom(false);
        sync(&self.dir)?;
        fail::step("store.copy.synced");
        set_current(&self.dir, new.number, current.sum.batch)?;
        fail::step("store.copy.switched");
        current.generation.doom(true);
        current.generation = Arc::new(new);
        Ok(true)
    }

    /// sled lays a copy out densely, each value written once, if all keys come first, in order, and
    /// then, in order again, the values.
    fn copy(&self, old: &Generation) -> Result<Generation, Error> {
        let path = path(&self.dir, old.number + 1);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("remove", &path)(error));
            }
            _ => {}
        }
        let new = Generation::open(&self.dir, old.number + 1, self.cache_bytes)?;
        new.doom(true);
        for with_value in [false, true] {
            let mut pairs = old.db.iter();
            while let Some((key, value)) = old.guard(|| pairs.next().transpose())? {
                let value = if with_value {
                    value
                } else {
                    sled::IVec::default()
                };
                new.guard(|| new.db.insert(key, value))?;
            }
        }
        fail::step("store.copy.made");
        new.flush()?;
        Ok(new)
    }
}

impl PageStore for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let generation = self.generation();
        let value = generation.guard(|| generation.db.get(key))?;
        Ok(value.map(|value| Bytes(Held::Sled(value))))
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        let generation = self.generation();
        let pairs = generation.db.range(from..=to);
        Box::new(Reading { generation, pairs })
    }

    fn apply(&self, batch: Vec<Write>) -> Result<(), Error> {
        let mut current = self.current();
        let Current {
            generation,
            sum: known,
            meanwhile,
        } = &mut *current;
        let mut sum = *known;
        let mut writes = sled::Batch::default();
        // Of several writes to one key the last one counts.
        for (key, value) in batch.into_iter().collect::<BTreeMap<_, _>>() {
            if let Some(old) = generation.guard(|| generation.db.get(&key))? {
                sum.remove(&key, &old);
            }
            match value {
                Some(value) => {
                    sum.add(&key, &value);
                    writes.insert(key, value);
                }
                None => writes.remove(key),
            }
        }
        sum.batch += 1;
        writes.insert(&SUM, &sum.encode());
        if let Some(meanwhile) = meanwhile {
            meanwhile.push(writes.clone());
        }
        generation.apply(writes)?;
        *known = sum;
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        let mut flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let (generation, batch) = {
            let current = self.current();
            (current.generation.clone(), current.sum.batch)
        };
        if batch == flushing.batch {
            return Ok(());
        }
        generation.flush()?;
        // IMPORTANT: only now, or after a power cut the store seems to have lost batches.
        set_current(&self.dir, generation.number, batch)?;
        flushing.batch = batch;
        let bytes = generation.bytes()?;
        if bytes <= flushing.bytes_max {
            return Ok(());
        }
        flushing.bytes_max = spread_max(generation.held()?);
        if bytes > flushing.bytes_max && !self.renew(&generation)? {
            flushing.bytes_max = spread_max(bytes);
        }
        Ok(())
    }

    fn bytes(&self) -> Result<u64, Error> {
        self.generation().bytes()
    }
}

/// One sled database.
#[derive(Debug)]
struct Generation {
    number: u64,
    db: sled::Db,
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
    fn open(dir: &Path, number: u64, cache_bytes: u64) -> Result<Generation, Error> {
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

    /// Whether the files are to be removed when nobody uses them any more.
    fn doom(&self, doomed: bool) {
        self.doom.0.store(doomed, Ordering::Release);
    }

    /// Applies `batches` and makes all durable.
    fn catch_up(self, batches: Vec<sled::Batch>) -> Result<Generation, Error> {
        for batch in batches {
            self.apply(batch)?;
        }
        self.flush()?;
        Ok(self)
    }

    fn apply(&self, batch: sled::Batch) -> Result<(), Error> {
        fail::step("store.apply.before");
        self.guard(|| self.db.apply_batch(batch))?;
        fail::step("store.apply.after");
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
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
    fn bytes(&self) -> Result<u64, Error> {
        let files = files(&self.dir)?
            .into_iter()
            .chain(files(&self.dir.join("blobs"))?);
        // sled may remove a file meanwhile.
        Ok(files
            .map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len()))
            .sum())
    }

    /// Bytes of the pairs; about, while batches are applied.
    fn held(&self) -> Result<u64, Error> {
        let mut bytes = 0;
        self.each(|key, value| bytes += (key.len() + value.len()) as u64)?;
        Ok(bytes)
    }

    /// Bytes of the pairs, and their sum, which is the one they should have. Nobody writes meanwhile.
    fn verify(self: &Arc<Self>) -> Result<(u64, Sum), Error> {
        let all = || Reading {
            generation: self.clone(),
            pairs: self.db.iter(),
        };
        let found = both_ends::visit(all, |found: &mut Found, key, value| {
            if *key == SUM {
                found.stated = Some(Sum::decode(value));
                return;
            }
            found.bytes += (key.len() + value.len()) as u64;
            found.sum.add(key, value);
        })?;
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
        let mut pairs = self.db.iter();
        while let Some((key, value)) = self.guard(|| pairs.next().transpose())? {
            visit(&key, &value);
        }
        Ok(())
    }
}

/// Pairs of a generation, which stays while they are read.
struct Reading {
    generation: Arc<Generation>,
    pairs: sled::Iter,
}

impl Reading {
    fn pair(
        &mut self,
        pick: impl FnOnce(&mut sled::Iter) -> Option<sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Option<Result<(Bytes, Bytes), Error>> {
        let pair = self.generation.guard(|| pick(&mut self.pairs).transpose());
        let held = |(key, value)| (Bytes(Held::Sled(key)), Bytes(Held::Sled(value)));
        pair.map(|pair| pair.map(held)).transpose()
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

/// The files' size above which pairs of so many bytes are copied.
fn spread_max(bytes: u64) -> u64 {
    let (times, parts) = SPREAD_MAX;
    bytes / parts * times + SPREAD_BYTES
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
