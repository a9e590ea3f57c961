//! A local directory as an object store, as far as writing goes: a file is whole or absent, never
//! overwritten, and durable when it is there.
//!
//! Steps: stage the bytes beside the name, sync them, link the name to them, which fails if there is one;
//! drop the stage's name, sync the directories. What a kill leaves of that is swept at the next start.
//! object_store does much the same; here its steps can be stopped at, and what failed is known.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use deltapoll_state::fail;

/// Why a file was not written.
#[derive(Debug)]
pub enum Unwritten {
    /// There is one of that name.
    Exists,
    /// It is not there: a full disk, no rights.
    Failed(io::Error),
    /// A sync failed: after that the page cache lies, and only a restart finds out what is there.
    Unsynced(io::Error),
}

/// Writes a file below `directory`, which is made if need be.
pub fn create<'a>(
    directory: &Path,
    name: &str,
    bytes: impl Iterator<Item = &'a [u8]>,
) -> Result<(), Unwritten> {
    let file = directory.join(name);
    let made = make_parents(&file).map_err(Unwritten::Failed)?;
    let stage = stage_of(&file);
    // IMPORTANT: removed, not truncated: a kill between link and removal leaves two names of one file.
    absent(fs::remove_file(&stage)).map_err(Unwritten::Failed)?;
    let linked = write(&stage, bytes).and_then(|()| {
        fs::hard_link(&stage, &file).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Unwritten::Exists,
            _ => Unwritten::Failed(error),
        })
    });
    if linked.is_ok() {
        fail::step("object.linked");
    }
    // The next start sweeps it otherwise.
    let _ = fs::remove_file(&stage);
    linked?;
    sync(directory, name).map_err(Unwritten::Unsynced)?;
    if let Some(made) = made.filter(|made| directory.starts_with(made)) {
        sync_up(directory, &made).map_err(Unwritten::Unsynced)?;
    }
    fail::step("object.synced");
    Ok(())
}

fn write<'a>(stage: &Path, bytes: impl Iterator<Item = &'a [u8]>) -> Result<(), Unwritten> {
    let mut file = File::create_new(stage).map_err(Unwritten::Failed)?;
    for part in bytes {
        file.write_all(part).map_err(Unwritten::Failed)?;
    }
    file.sync_all().map_err(Unwritten::Unsynced)?;
    fail::step("object.staged");
    Ok(())
}

/// Makes the directories of `file`; returns the innermost that was there before, if any was made.
fn make_parents(file: &Path) -> io::Result<Option<PathBuf>> {
    let Some(parent) = file.parent().filter(|parent| !parent.is_dir()) else {
        return Ok(None);
    };
    let there = parent.ancestors().find(|path| path.is_dir());
    let there = there.map(Path::to_owned);
    fs::create_dir_all(parent)?;
    Ok(there)
}

fn stage_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("#1");
    name.into()
}

fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes files named `NAME#NUMBER` below `directory`: what a kill left of [`create`].
pub fn sweep(directory: &Path) -> io::Result<()> {
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() && is_staging(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// Syncs the file `name` and every directory from it up to `directory`.
pub fn sync(directory: &Path, name: &str) -> io::Result<()> {
    sync_up(&directory.join(name), directory)
}

fn sync_up(from: &Path, to: &Path) -> io::Result<()> {
    for path in from.ancestors() {
        File::open(path)?.sync_all()?;
        if path == to {
            break;
        }
    }
    Ok(())
}

fn is_staging(name: &str) -> bool {
    name.split_once('#')
        .is_some_and(|(_, suffix)| !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(directory: &Path, name: &str, text: &str) -> Result<(), Unwritten> {
        create(directory, name, [text.as_bytes()].into_iter())
    }

    #[test]
    fn a_stage_that_is_a_second_name_of_the_file_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "a/b", "whole").unwrap();
        // The kill came after the link.
        fs::hard_link(dir.path().join("a/b"), dir.path().join("a/b#1")).unwrap();
        let again = put(dir.path(), "a/b", "other");
        assert!(matches!(again, Err(Unwritten::Exists)), "{again:?}");
        assert_eq!(fs::read(dir.path().join("a/b")).unwrap(), b"whole");
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_and_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        // Where the directory should be there is a file.
        fs::write(dir.path().join("a"), "x").unwrap();
        let failed = put(dir.path(), "a/b", "whole");
        assert!(matches!(failed, Err(Unwritten::Failed(_))), "{failed:?}");
        fs::remove_file(dir.path().join("a")).unwrap();
        put(dir.path(), "a/b", "whole").unwrap();
        assert_eq!(fs::read(dir.path().join("a/b")).unwrap(), b"whole");
    }
}
