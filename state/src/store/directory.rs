//! The directory of a store: its generations, `<number, %010d>/`, and the file `CURRENT`, which names
//! one of them and the last batch that was flushed; it is replaced, durably, as a whole.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::fail;

pub(super) const CURRENT: &str = "CURRENT";

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}"))
}

/// The generation that `CURRENT` names, and the last batch that was flushed.
pub(super) fn current(dir: &Path) -> Result<Option<(u64, u64)>, Error> {
    let path = dir.join(CURRENT);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text
            .trim_end()
            .split_once(' ')
            .and_then(|(number, batch)| Some((number.parse().ok()?, batch.parse().ok()?)))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", &path)(error)),
    }
}

/// Whether nothing was ever put into `dir`; a crash may have left an empty first generation.
pub(super) fn is_new(dir: &Path) -> Result<bool, Error> {
    for number in generations(dir)? {
        let path = path(dir, number);
        if fs::read_dir(&path)
            .map_err(Error::io("list", &path))?
            .next()
            .is_some()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn set_current(dir: &Path, number: u64, batch: u64) -> Result<(), Error> {
    let (path, new) = (dir.join(CURRENT), dir.join("CURRENT.new"));
    let write = || {
        let mut file = fs::File::create(&new)?;
        writeln!(file, "{number:010} {batch}")?;
        file.sync_all()?;
        fail::step("store.current.written");
        fs::rename(&new, &path)
    };
    write().map_err(Error::io("write", &path))?;
    fail::step("store.current.renamed");
    sync(dir)?;
    fail::step("store.current.synced");
    Ok(())
}

/// The generations in `dir`, whole or not.
pub(super) fn generations(dir: &Path) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let name = entry.map_err(Error::io("list", dir))?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        numbers.extend(number.filter(|number| path(dir, *number) == dir.join(&name)));
    }
    Ok(numbers)
}

/// The files, not the directories, in `dir`.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
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
pub(super) fn sync(path: &Path) -> Result<(), Error> {
    match fs::File::open(path) {
        Ok(file) => file.sync_all().map_err(Error::io("sync", path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("open", path)(error)),
    }
}
