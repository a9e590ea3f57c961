//! Every access of the journal to the file system: nothing else in the journal names `std::fs`.
//!
//! [`Disk`] and [`Content`] are the verbs. Each is one step to the journal, which can fail or be the last
//! before a crash, and works on whole buffers or a whole name. [`System`] is the operating system; tests have a disk that
//! forgets, at a power cut, what was not synced. [`Dir`] and [`File`] put their name into every error.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::directory;
use crate::error::Error;

/// A file system, by the verbs that the journal needs.
pub(super) trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn Content>>;

    /// Gives a file another name, in place of what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory, durably, if it is not there.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names in `dir`; one that is not UTF-8 is not ours and left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Reading what is there.
    Read,
    /// Writing over what is there.
    Over,
    /// Writing an empty one, in place of what was there.
    New,
}

/// An open file of a [`Disk`].
pub(super) trait Content: fmt::Debug + Send {
    fn bytes(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on; the end of the file before that is an error.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `parts`, one behind the other, from `offset` on.
    fn write(&self, parts: &[&[u8]], offset: u64) -> io::Result<()>;

    /// Gives back what is behind the first `bytes`.
    fn cut(&self, bytes: u64) -> io::Result<()>;

    /// Makes the content durable, and the length that is needed to read it.
    fn sync(&self) -> io::Result<()>;
}

/// The operating system.
#[derive(Debug)]
pub(super) struct System;

impl Disk for System {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn Content>> {
        let file = match how {
            How::Read => fs::File::open(path),
            How::Over => fs::File::options().write(true).open(path),
            How::New => fs::File::create(path),
        };
        Ok(Box::new(file?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// The name is gone when this returns. What the file held is given back by a thread of its own: for
    /// a segment that takes 20 ms, for which nothing should wait.
    fn remove(&self, path: &Path) -> io::Result<()> {
        let held = fs::File::open(path);
        fs::remove_file(path)?;
        if let Ok(held) = held {
            let thread = std::thread::Builder::new().name("journal-free".into());
            // Where there is no thread it is given back here.
            let _ = thread.spawn(move || drop(held));
        }
        Ok(())
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        directory::make_quietly(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }
}

impl Content for fs::File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write(&self, parts: &[&[u8]], mut offset: u64) -> io::Result<()> {
        for part in parts {
            self.write_all_at(part, offset)?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A directory on a disk; clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Dir {
    disk: Arc<dyn Disk>,
    path: Arc<Path>,
}

impl Dir {
    /// The directory `path`, which is made if it is not there.
    pub(super) fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Dir, Error> {
        disk.make_dir(path).map_err(Error::io("create", path))?;
        Ok(Dir {
            disk,
            path: path.into(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A new, empty file for writing; what was there under that name is lost.
    pub(super) fn create(&self, name: &str) -> Result<File, Error> {
        self.file(name, "create", How::New)
    }

    /// The file `name`, for writing over what is there.
    pub(super) fn over(&self, name: &str) -> Result<File, Error> {
        self.file(name, "open", How::Over)
    }

    /// The file `name`, for reading.
    pub(super) fn read(&self, name: &str) -> Result<File, Error> {
        self.file(name, "open", How::Read)
    }

    fn file(&self, name: &str, what: &'static str, how: How) -> Result<File, Error> {
        let path = self.path.join(name);
        let content = self.disk.open(&path, how);
        let content = content.map_err(Error::io(what, &path))?;
        Ok(File { content, path })
    }

    /// Gives `file` another name.
    pub(super) fn rename(&self, file: &mut File, name: &str) -> Result<(), Error> {
        let path = self.path.join(name);
        let renamed = self.disk.rename(&file.path, &path);
        renamed.map_err(Error::io("rename", &file.path))?;
        file.path = path;
        Ok(())
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path.join(name);
        self.disk.remove(&path).map_err(Error::io("remove", &path))
    }

    /// Makes creations, renames and removals durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        let synced = self.disk.sync_dir(&self.path);
        synced.map_err(Error::io("sync", &self.path))
    }

    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let names = self.disk.list(&self.path);
        names.map_err(Error::io("list", &self.path))
    }
}

/// An open file that knows its name.
#[derive(Debug)]
pub(super) struct File {
    content: Box<dyn Content>,
    path: PathBuf,
}

impl File {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> Result<u64, Error> {
        let bytes = self.content.bytes();
        bytes.map_err(Error::io("look at", &self.path))
    }

    /// Fills `buffer` from `offset` on; the end of the file before that is an error.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let read = self.content.read(buffer, offset);
        read.map_err(Error::io("read", &self.path))
    }

    /// Writes all of `parts`, one behind the other, from `offset` on.
    pub(super) fn write(&self, parts: &[&[u8]], offset: u64) -> Result<(), Error> {
        let written = self.content.write(parts, offset);
        written.map_err(Error::io("write", &self.path))
    }

    /// Gives back what is behind the first `bytes`.
    pub(super) fn cut(&self, bytes: u64) -> Result<(), Error> {
        let cut = self.content.cut(bytes);
        cut.map_err(Error::io("cut", &self.path))
    }

    /// Makes the content durable, and the length that is needed to read it.
    pub(super) fn sync(&self) -> Result<(), Error> {
        let synced = self.content.sync();
        synced.map_err(Error::io("sync", &self.path))
    }
}
