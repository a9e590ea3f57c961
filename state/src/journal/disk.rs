//! Every access of the journal to the file system: nothing else in the journal names `std::fs`.
//!
//! Each function is one step that can fail or be the last before a crash; an error names the file.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// An open file that knows its name.
#[derive(Debug)]
pub(super) struct File {
    file: fs::File,
    path: PathBuf,
}

impl File {
    /// A new, empty file for writing; what was there under that name is lost.
    pub(super) fn create(path: PathBuf) -> Result<File, Error> {
        let file = fs::File::create(&path).map_err(Error::io("create", &path))?;
        Ok(File { file, path })
    }

    pub(super) fn open(path: PathBuf) -> Result<File, Error> {
        let file = fs::File::open(&path).map_err(Error::io("open", &path))?;
        Ok(File { file, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> Result<u64, Error> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(Error::io("look at", &self.path))?.len())
    }

    /// Fills `buffer` from `offset` on; the end of the file before that is an error.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let read = self.file.read_exact_at(buffer, offset);
        read.map_err(Error::io("read", &self.path))
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(Error::io("write", &self.path))
    }

    /// fdatasync: the content, and the length that is needed to read it.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }

    /// Gives the file its final name.
    pub(super) fn rename(&mut self, path: PathBuf) -> Result<(), Error> {
        fs::rename(&self.path, &path).map_err(Error::io("rename", &self.path))?;
        self.path = path;
        Ok(())
    }
}

pub(super) fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(Error::io("remove", path))
}

/// Makes creations, renames and removals in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    let open = fs::File::open(dir).map_err(Error::io("open", dir))?;
    open.sync_all().map_err(Error::io("sync", dir))
}

/// Makes `dir`, durably, if it is not there.
pub(super) fn create_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// The names in `dir`; one that is not UTF-8 is not ours and left out.
pub(super) fn list(dir: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}
