//! Where pages are kept: five verbs, and sled behind them. The only file that names sled.
//!
//! The store is never the only copy of anything that is not published: it can be made again. A batch
//! is atomic whatever happens, and durable once [`PageStore::flush`] has returned.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::{Bound, Deref};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;

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

/// A store in a directory.
#[derive(Debug)]
pub struct SledStore {
    db: sled::Db,
    dir: PathBuf,
}

impl SledStore {
    /// Opens the store in `dir`, which is made if it is not there. About `cache_bytes` of it are
    /// kept in memory.
    ///
    /// # Errors
    /// [`Error::Store`] when it is damaged, [`Error::Io`] when the operating system refuses.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<SledStore, Error> {
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(None);
        // sled asserts some of what it expects to find.
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let opened = opened.map_err(|_| Error::Store {
            path: dir.to_owned(),
            what: "is damaged: it cannot be opened".to_owned(),
        })?;
        let db = opened.map_err(|error| failure(dir, error))?;
        let store = SledStore {
            db,
            dir: dir.to_owned(),
        };
        store.flush()?;
        for path in [dir, dir.parent().unwrap_or(dir)] {
            sync(path)?;
        }
        Ok(store)
    }

    fn blobs(&self) -> Result<Vec<PathBuf>, Error> {
        files(&self.dir.join("blobs"))
    }
}

impl PageStore for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self
            .db
            .get(key)
            .map_err(|error| failure(&self.dir, error))?;
        Ok(value.map(|value| Bytes(Held::Sled(value))))
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        let pairs = self.db.range(from..=to);
        Box::new(pairs.map(|pair| match pair {
            Ok((key, value)) => Ok((Bytes(Held::Sled(key)), Bytes(Held::Sled(value)))),
            Err(error) => Err(failure(&self.dir, error)),
        }))
    }

    fn apply(&self, batch: Vec<Write>) -> Result<(), Error> {
        let mut writes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        let applied = self.db.apply_batch(writes);
        applied.map_err(|error| failure(&self.dir, error))
    }

    fn flush(&self) -> Result<(), Error> {
        self.db.flush().map_err(|error| failure(&self.dir, error))?;
        // IMPORTANT: sled's flush is sync_file_range, which a power cut does not respect.
        for path in files(&self.dir)? {
            sync(&path)?;
        }
        let blobs = self.blobs()?;
        for path in &blobs {
            sync(path)?;
        }
        if !blobs.is_empty() {
            sync(&self.dir.join("blobs"))?;
        }
        Ok(())
    }

    fn bytes(&self) -> Result<u64, Error> {
        let mut total = 0;
        for path in files(&self.dir)?.into_iter().chain(self.blobs()?) {
            // sled may remove a file meanwhile.
            total += fs::metadata(&path).map_or(0, |metadata| metadata.len());
        }
        Ok(total)
    }
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

/// The files, not the directories, in `dir`.
fn files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// A file that sled removed meanwhile needs no sync.
fn sync(path: &Path) -> Result<(), Error> {
    match fs::File::open(path) {
        Ok(file) => file.sync_all().map_err(Error::io("sync", path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("open", path)(error)),
    }
}

/// A store in memory, for tests and for what need not last.
#[derive(Debug, Default)]
pub struct MemoryStore {
    pairs: Mutex<Map>,
}

type Map = BTreeMap<Arc<[u8]>, Arc<[u8]>>;

impl MemoryStore {
    fn pairs(&self) -> MutexGuard<'_, Map> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PageStore for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self.pairs().get(key).cloned();
        Ok(value.map(|value| Bytes(Held::Own(value))))
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        Box::new(MemoryRange {
            store: self,
            from: Bound::Included(from.into()),
            to: Bound::Included(to.into()),
        })
    }

    fn apply(&self, batch: Vec<Write>) -> Result<(), Error> {
        let mut pairs = self.pairs();
        for (key, value) in batch {
            match value {
                Some(value) => pairs.insert(key.into(), value.into()),
                None => pairs.remove(&key[..]),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn bytes(&self) -> Result<u64, Error> {
        let pairs = self.pairs();
        Ok(pairs.iter().map(|(k, v)| (k.len() + v.len()) as u64).sum())
    }
}

/// Looks at the store anew for each pair.
struct MemoryRange<'a> {
    store: &'a MemoryStore,
    from: Bound<Arc<[u8]>>,
    to: Bound<Arc<[u8]>>,
}

impl MemoryRange<'_> {
    fn end(
        &self,
        pick: fn(&mut dyn DoubleEndedIterator<Item = Pair>) -> Option<Pair>,
    ) -> Option<Pair> {
        let (from, to) = (&self.from, &self.to);
        if let (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) =
            (from, to)
            && (a > b
                || (a == b && !matches!((from, to), (Bound::Included(_), Bound::Included(_)))))
        {
            return None;
        }
        let pairs = self.store.pairs();
        let mut range = pairs.range::<Arc<[u8]>, _>((from.clone(), to.clone()));
        pick(
            &mut range
                .by_ref()
                .map(|(key, value)| (key.clone(), value.clone())),
        )
    }
}

type Pair = (Arc<[u8]>, Arc<[u8]>);

fn own((key, value): Pair) -> Result<(Bytes, Bytes), Error> {
    Ok((Bytes(Held::Own(key)), Bytes(Held::Own(value))))
}

impl Iterator for MemoryRange<'_> {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let pair = self.end(|range| range.next())?;
        self.from = Bound::Excluded(pair.0.clone());
        Some(own(pair))
    }
}

impl DoubleEndedIterator for MemoryRange<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let pair = self.end(|range| range.next_back())?;
        self.to = Bound::Excluded(pair.0.clone());
        Some(own(pair))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_store_that_is_not_one_is_an_error_that_names_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("conf"), b"certainly no configuration").unwrap();
        let error = SledStore::open(dir.path(), 1 << 20)
            .unwrap_err()
            .to_string();
        assert!(error.contains("`deltapoll state reset`"), "{error}");
    }
}
