//! Object stores by URL, with verbs that never overwrite.
//!
//! Guarantees: [`Objects::create`] writes an object whole or not at all, and only where there is
//! none; no error text carries a credential. Verbs block the calling thread and try once: how often
//! to try again is the caller's decision, and after an answer that leaves it open whether the object
//! was written ([`Put::Ambiguous`]) only the caller can tell from the content whose object it is.
//!
//! Steps of the fail-point build (`deltapoll_state::fail`), of a PUT to a directory: `object.staged` the
//! bytes are synced under the stage's name; `object.linked` the object has its name; `object.synced` and
//! would be there after a power cut.
//!
//! Layout: [`open`] makes a store of a URL and its options, [`trouble`] says what an error means,
//! `staging` is what a local directory needs beyond object_store.

pub mod open;
mod staging;
pub mod trouble;
#[cfg(test)]
mod wire;

use std::fmt;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    Attribute, AttributeValue, Attributes, Error, GetOptions, GetRange, GetResultPayload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use tokio::runtime::Handle;

use staging::Unwritten;
pub use trouble::{Kind, Trouble};

/// A request may take this long, whatever its size.
const PATIENCE: Duration = Duration::from_secs(30);
/// And longer by its size, at the slowest line that we put up with: object_store's own limit of 30 s
/// in all never lets a large object through.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;
/// An object of unknown size may be this large.
const GET_BYTES: u64 = 1 << 30;

/// The answer to a conditional PUT.
#[derive(Debug)]
pub enum Put {
    /// It is there, and we wrote it.
    Created,
    /// Something was there before; nothing was written.
    Exists,
    /// It may have been written, or not.
    Ambiguous(Trouble),
    /// It was not written, and never will be.
    Failed(Trouble),
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name below the prefix.
    pub name: String,
    /// The size in bytes.
    pub size: u64,
    /// When it was written (Unix ms), as the store says.
    pub modified: u64,
}

/// A prefix of an object store.
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    url: String,
    prefix: Path,
    /// The directory, for `file://`.
    directory: Option<PathBuf>,
    /// What must not be seen in an error.
    secrets: Vec<String>,
    runtime: Handle,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Objects({})", self.url)
    }
}

impl Objects {
    /// The objects of `store` itself; `url` is what they are called. `runtime` is a multi-thread
    /// runtime with I/O and time enabled.
    #[must_use]
    pub fn over(store: Arc<dyn ObjectStore>, url: impl Into<String>, runtime: Handle) -> Objects {
        Objects {
            store,
            url: url.into(),
            prefix: Path::default(),
            directory: None,
            secrets: Vec::new(),
            runtime,
        }
    }

    /// The URL without a final slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Writes an object, whole and durable, unless there is one of that name.
    #[must_use]
    pub fn create(&self, name: &str, payload: PutPayload, content_type: &'static str) -> Put {
        if let Some(directory) = &self.directory {
            return create_file(directory, name, &payload);
        }
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, AttributeValue::from(content_type));
        let options = PutOptions {
            mode: PutMode::Create,
            attributes,
            ..PutOptions::default()
        };
        let path = match self.path(name) {
            Ok(path) => path,
            Err(error) => return Put::Failed(self.trouble(&error)),
        };
        let bytes = payload.content_length() as u64;
        let put = self.store.put_opts(&path, payload, options);
        match self.wait(bytes, put) {
            Ok(_) => Put::Created,
            Err(Late::Error(Error::AlreadyExists { .. } | Error::Precondition { .. })) => {
                Put::Exists
            }
            Err(late) => match self.late(late) {
                trouble if trouble.kind == Kind::Permanent => Put::Failed(trouble),
                trouble => Put::Ambiguous(trouble),
            },
        }
    }

    /// The first `bytes` bytes of an object, fewer if it is shorter; `None`: there is no such object.
    ///
    /// # Errors
    /// When the store does not answer as it should.
    pub fn head_header(&self, name: &str, bytes: u64) -> Result<Option<Bytes>, Trouble> {
        let path = self.path(name).map_err(|error| self.trouble(&error))?;
        let read = async {
            // An empty object has no first byte: stores refuse the range.
            let meta = self.store.head(&path).await?;
            if meta.size == 0 {
                return Ok(Bytes::new());
            }
            let options = GetOptions {
                range: Some(GetRange::Bounded(0..bytes.min(meta.size))),
                ..GetOptions::default()
            };
            self.store.get_opts(&path, options).await?.bytes().await
        };
        self.absent(self.wait(bytes, read))
    }

    /// A whole object; `None`: there is no such object.
    ///
    /// # Errors
    /// When the store does not answer as it should.
    pub fn get(&self, name: &str) -> Result<Option<Bytes>, Trouble> {
        let path = self.path(name).map_err(|error| self.trouble(&error))?;
        let read = async { self.store.get(&path).await?.bytes().await };
        self.absent(self.wait(GET_BYTES, read))
    }

    /// What a listing would say of an object; `None`: there is no such object.
    ///
    /// # Errors
    /// When the store does not answer as it should.
    pub fn stat(&self, name: &str) -> Result<Option<Listed>, Trouble> {
        let path = self.path(name).map_err(|error| self.trouble(&error))?;
        let meta = self.absent(self.wait(0, self.store.head(&path)))?;
        Ok(meta.map(|meta| listed(name.to_owned(), &meta)))
    }

    /// A whole object, to be read while it arrives; `None`: there is no such object. Reads block, and an
    /// error of one says what the store said.
    ///
    /// # Errors
    /// When the store does not answer as it should.
    pub fn read(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>, Trouble> {
        let path = self.path(name).map_err(|error| self.trouble(&error))?;
        let answer = async { self.store.get(&path).await };
        let Some(answer) = self.absent(self.wait(0, answer))? else {
            return Ok(None);
        };
        Ok(Some(match answer.payload {
            GetResultPayload::File(file, _) => Box::new(file),
            GetResultPayload::Stream(chunks) => Box::new(Arriving {
                chunks,
                chunk: Bytes::new(),
                secrets: self.secrets.clone(),
                runtime: self.runtime.clone(),
            }),
        }))
    }

    /// Shows the objects under the directory `under` in no particular order, until `each` breaks.
    ///
    /// # Errors
    /// When the store does not answer as it should; some objects may have been shown by then.
    pub fn list(
        &self,
        under: &str,
        mut each: impl FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), Trouble> {
        let path = self.path(under).map_err(|error| self.trouble(&error))?;
        let mut listing = self.store.list(Some(&path));
        loop {
            let next = async { Ok(listing.next().await) };
            let Some(meta) = self.wait(0, next).map_err(|late| self.late(late))? else {
                return Ok(());
            };
            let meta = meta.map_err(|error| self.trouble(&error))?;
            let Some(parts) = meta.location.prefix_match(&self.prefix) else {
                continue;
            };
            let name = parts
                .map(|p| p.as_ref().to_owned())
                .collect::<Vec<_>>()
                .join("/");
            if each(listed(name, &meta)).is_break() {
                return Ok(());
            }
        }
    }

    /// Removes what killed PUTs left under the directory `under` of a local store. Only for the one
    /// that writes there.
    ///
    /// # Errors
    /// When a left-over cannot be removed.
    pub fn sweep(&self, under: &str) -> Result<(), Trouble> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        staging::sweep(&directory.join(under)).map_err(|error| Trouble {
            kind: Kind::Transient,
            message: format!("cannot sweep {}: {error}", directory.display()),
        })
    }

    /// Makes an object that was found, not created, as durable as a created one: of a local file that
    /// a killed or failed PUT left, nobody knows whether its name has reached the disk.
    ///
    /// # Errors
    /// When the file cannot be synced: [`Kind::Permanent`], as nothing is known after that.
    pub fn settle(&self, name: &str) -> Result<(), Trouble> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        staging::sync(directory, name).map_err(|error| Trouble {
            kind: Kind::Permanent,
            message: format!("cannot sync {}: {error}", directory.join(name).display()),
        })
    }

    fn path(&self, name: &str) -> Result<Path, Error> {
        let path = Path::parse(format!("{}/{name}", self.prefix))?;
        Ok(path)
    }

    fn wait<T>(
        &self,
        bytes: u64,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Late> {
        let patience = PATIENCE + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND);
        let limited = async { tokio::time::timeout(patience, request).await };
        match self.runtime.block_on(limited) {
            Ok(answer) => answer.map_err(Late::Error),
            Err(_) => Err(Late::Silent(patience)),
        }
    }

    fn absent<T>(&self, read: Result<T, Late>) -> Result<Option<T>, Trouble> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(Late::Error(Error::NotFound { .. })) => Ok(None),
            Err(late) => Err(self.late(late)),
        }
    }

    fn late(&self, late: Late) -> Trouble {
        match late {
            Late::Error(error) => self.trouble(&error),
            Late::Silent(patience) => Trouble {
                kind: Kind::Transient,
                message: format!("{} gave no answer within {patience:?}", self.url),
            },
        }
    }

    fn trouble(&self, error: &Error) -> Trouble {
        Trouble::of(error, &self.secrets)
    }
}

fn listed(name: String, meta: &ObjectMeta) -> Listed {
    Listed {
        name,
        size: meta.size,
        modified: u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0),
    }
}

fn create_file(directory: &std::path::Path, name: &str, payload: &PutPayload) -> Put {
    let trouble = |kind, error| Trouble {
        kind,
        message: format!("cannot write {}: {error}", directory.join(name).display()),
    };
    let bytes = payload.iter().map(|part| part.as_ref());
    match staging::create(directory, name, bytes) {
        Ok(()) => Put::Created,
        Err(Unwritten::Exists) => Put::Exists,
        Err(Unwritten::Failed(error)) => Put::Ambiguous(trouble(Kind::Transient, error)),
        Err(Unwritten::Unsynced(error)) => Put::Failed(trouble(Kind::Permanent, error)),
    }
}

/// An object on its way.
struct Arriving {
    chunks: BoxStream<'static, Result<Bytes, Error>>,
    chunk: Bytes,
    secrets: Vec<String>,
    runtime: Handle,
}

impl Read for Arriving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            let next = async { tokio::time::timeout(PATIENCE, self.chunks.next()).await };
            self.chunk = match self.runtime.block_on(next) {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(error))) => {
                    let trouble = Trouble::of(&error, &self.secrets);
                    return Err(io::Error::other(trouble.message));
                }
                Ok(None) => return Ok(0),
                Err(_) => return Err(io::Error::other(format!("nothing came for {PATIENCE:?}"))),
            };
        }
        let length = self.chunk.len().min(into.len());
        into[..length].copy_from_slice(&self.chunk.split_to(length));
        Ok(length)
    }
}

/// Why there is no answer.
enum Late {
    Error(Error),
    Silent(Duration),
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use tokio::runtime::Runtime;

    use super::*;

    fn behaves(objects: &Objects) {
        let name = "topics/t/partition=0/t+0+0000000000.avro";
        let payload = PutPayload::from_iter([Bytes::from("one "), Bytes::from("two")]);
        assert_eq!(objects.head_header(name, 4).unwrap(), None);
        assert_eq!(objects.get(name).unwrap(), None);
        let first = objects.create(name, payload, "avro/binary");
        assert!(matches!(first, Put::Created), "{first:?}");
        let again = objects.create(name, "other".into(), "avro/binary");
        assert!(matches!(again, Put::Exists), "{again:?}");
        assert_eq!(objects.get(name).unwrap().unwrap(), "one two");
        let mut read = String::new();
        let mut object = objects.read(name).unwrap().unwrap();
        object.read_to_string(&mut read).unwrap();
        assert_eq!(read, "one two");
        assert!(objects.read("topics/none").unwrap().is_none());
        assert_eq!(objects.stat(name).unwrap().unwrap().size, 7);
        assert_eq!(objects.stat("topics/none").unwrap(), None);
        assert_eq!(objects.head_header(name, 4).unwrap().unwrap(), "one ");
        assert_eq!(objects.head_header(name, 400).unwrap().unwrap(), "one two");
        let empty = objects.create("topics/empty", PutPayload::new(), "avro/binary");
        assert!(matches!(empty, Put::Created), "{empty:?}");
        assert_eq!(objects.head_header("topics/empty", 4).unwrap().unwrap(), "");
        objects.settle(name).unwrap();
        let mut names = Vec::new();
        let each = |listed: Listed| {
            assert!(listed.modified > 0);
            names.push((listed.name, listed.size));
            ControlFlow::Continue(())
        };
        objects.list("topics", each).unwrap();
        names.sort();
        assert_eq!(
            names,
            [("topics/empty".to_owned(), 0), (name.to_owned(), 7)]
        );
        objects
            .list("elsewhere", |listed| panic!("{listed:?}"))
            .unwrap();
    }

    #[test]
    fn a_store_in_memory_creates_once_and_reads_back() {
        let runtime = Runtime::new().unwrap();
        let store = Arc::new(InMemory::new());
        behaves(&Objects::over(store, "memory://", runtime.handle().clone()));
    }

    #[test]
    fn a_local_directory_creates_once_and_reads_back() {
        let runtime = Runtime::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}/not/yet there/", directory.path().display());
        let handle = runtime.handle().clone();
        let objects = Objects::open(&url, &Default::default(), handle).unwrap();
        assert!(
            !directory.path().join("not").exists(),
            "opening creates nothing"
        );
        assert!(!objects.url().ends_with('/'), "{}", objects.url());
        behaves(&objects);
        let there = directory.path().join("not/yet there/topics/empty");
        assert!(there.exists());
    }

    #[test]
    fn what_a_killed_put_left_is_swept_and_nothing_else() {
        let runtime = Runtime::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().display());
        let handle = runtime.handle().clone();
        let objects = Objects::open(&url, &Default::default(), handle).unwrap();
        objects.sweep("topics").unwrap();
        let at = directory.path().join("topics/t/partition=0");
        std::fs::create_dir_all(&at).unwrap();
        for name in ["a.avro", "a.avro#1", "b.avro#23", "c#x", "d#"] {
            std::fs::write(at.join(name), "x").unwrap();
        }
        objects.sweep("topics").unwrap();
        let left = std::fs::read_dir(&at).unwrap();
        let mut left: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.avro", "c#x", "d#"]);
    }
}
