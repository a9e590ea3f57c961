//! A look at a store, for who must not write there: sled repairs and rearranges its files when it opens
//! them, so a copy of them is opened.

use std::fs;
use std::path::Path;

use super::SledStore;
use super::directory::{CURRENT, current, files, path};
use crate::error::Error;

impl SledStore {
    /// Copies the store in `dir` to `scratch`, which the caller removes, and opens the copy; nobody may
    /// write to the store meanwhile. `None`: nothing was ever put there.
    ///
    /// # Errors
    /// As [`SledStore::open`].
    pub fn look(dir: &Path, scratch: &Path, cache_bytes: u64) -> Result<Option<SledStore>, Error> {
        let Some((number, _)) = current(dir)? else {
            return Ok(None);
        };
        let damaged = |what| Error::Store {
            path: dir.to_owned(),
            what,
        };
        let (from, to) = (path(dir, number), path(scratch, number));
        if !from.is_dir() {
            return Err(damaged(format!("has lost its directory {number:010}")));
        }
        copy(&from, &to)?;
        if from.join("blobs").is_dir() {
            copy(&from.join("blobs"), &to.join("blobs"))?;
        }
        let name = Path::new(CURRENT);
        fs::copy(dir.join(name), scratch.join(name)).map_err(Error::io("copy", &dir.join(name)))?;
        SledStore::open(scratch, cache_bytes)
            .map(Some)
            .map_err(|error| match error {
                Error::Store { what, .. } => damaged(what),
                other => other,
            })
    }
}

/// Copies the files of a directory.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(Error::io("create", to))?;
    for file in files(from)? {
        if let Some(name) = file.file_name() {
            fs::copy(&file, to.join(name)).map_err(Error::io("copy", &file))?;
        }
    }
    Ok(())
}
