//! Where pages are kept: five verbs, and sled behind them, which nothing else names.
//!
//! The store is never the only copy of anything that is not published: it can be made again. A batch
//! is atomic whatever happens, and durable once [`PageStore::flush`] has returned.
//!
//! sled by itself takes three to four times what it holds: it gives back a segment when half of it is
//! garbage, and a node is written ten times before its old versions are dropped. So its files are a
//! *generation*, `<number, %010d>/`, and a flush that finds them too large copies what they hold into
//! the next one:
//!
//! * while it is copied, batches go to the old generation, and their keys are remembered;
//! * what these are now is copied again, and once more what was written during that, until batches wait
//!   for the last of it; each time the copy is made durable;
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
mod bytes;
mod directory;
mod generation;
mod look;
mod memory;
mod sum;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::bytes::Bytes;
pub use self::generation::panic_is_caught;
pub use self::memory::MemoryStore;

use self::directory::{CURRENT, current, generations, is_new, path, set_current, sync};
use self::generation::{Batch, Generation, Keys};
use self::sum::{SUM, Sum};

use crate::directory as directories;
use crate::error::Error;
use crate::fail;

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

/// How often what was written during a copy is copied again while batches still go on.
const ROUNDS: u32 = 2;
/// A generation is copied when its files are larger than this many times what it holds ...
const SPREAD_MAX: (u64, u64) = (3, 2);
/// ... and so much more.
const SPREAD_BYTES: u64 = 4 << 20;
/// Files that are smaller are not worth copying: where all pages change, each write of them is as large as
/// the store.
const SMALL_BYTES: u64 = 48 << 20;

/// A store in a directory.
#[derive(Debug)]
pub struct SledStore {
    dir: PathBuf,
    cache_bytes: u64,
    small_bytes: u64,
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
    /// While it is copied: the keys that were written since. (Their values would be as much as the
    /// store itself where many pages change.)
    meanwhile: Option<Keys>,
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
            small_bytes: SMALL_BYTES,
            current: Mutex::new(Current {
                generation,
                sum,
                meanwhile: None,
            }),
            flushing: Mutex::new(Flushing {
                bytes_max: spread_max(bytes, SMALL_BYTES),
                batch: flushed,
            }),
        })
    }

    /// Has files looked at from so many bytes on, where it would be 48 MiB: a test has less to write then.
    #[must_use]
    pub fn copying_from(mut self, bytes: u64) -> SledStore {
        self.small_bytes = bytes;
        let flushing = self.flushing.get_mut();
        flushing.unwrap_or_else(PoisonError::into_inner).bytes_max = 0;
        self
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
        self.current().meanwhile = Some(Keys::new());
        self.switch(old, self.copy(old))
    }

    /// Goes on with the copy, if there is one, and what it does not have yet.
    fn switch(&self, old: &Generation, copied: Result<Generation, Error>) -> Result<bool, Error> {
        // From here on batches wait; what came in since the last round is little.
        let mut current = self.current();
        let meanwhile = current.meanwhile.take().unwrap_or_default();
        let last = |new: Generation| old.copy_again(&new, &meanwhile).map(|()| new);
        let Ok(new) = copied.and_then(last) else {
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
        old.copy_to(&new)?;
        fail::step("store.copy.made");
        new.flush()?;
        for _ in 0..ROUNDS {
            let written = self.current().meanwhile.as_mut().map(mem::take);
            old.copy_again(&new, &written.unwrap_or_default())?;
        }
        Ok(new)
    }
}

impl PageStore for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.generation().get(key)
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        Box::new(self.generation().pairs(from..=to))
    }

    fn apply(&self, batch: Vec<Write>) -> Result<(), Error> {
        let mut current = self.current();
        let Current {
            generation,
            sum: known,
            meanwhile,
        } = &mut *current;
        let mut sum = *known;
        let mut writes = Batch::default();
        // Of several writes to one key the last one counts.
        for (key, value) in batch.into_iter().collect::<BTreeMap<_, _>>() {
            if let Some(old) = generation.get(&key)? {
                sum.remove(&key, &old);
            }
            if let Some(meanwhile) = meanwhile {
                meanwhile.insert(key.clone());
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
            meanwhile.insert(SUM.to_vec());
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
        flushing.bytes_max = spread_max(generation.held()?, self.small_bytes);
        if bytes > flushing.bytes_max && !self.renew(&generation)? {
            flushing.bytes_max = spread_max(bytes, self.small_bytes);
        }
        Ok(())
    }

    fn bytes(&self) -> Result<u64, Error> {
        self.generation().bytes()
    }
}

/// The files' size above which pairs of so many bytes are copied.
fn spread_max(bytes: u64, small_bytes: u64) -> u64 {
    let (times, parts) = SPREAD_MAX;
    small_bytes.max(bytes / parts * times + SPREAD_BYTES)
}
