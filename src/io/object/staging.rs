//! What a local directory needs beyond object_store: left-over staging files are swept, and a file
//! that was found is synced, its directories included.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Removes files named `NAME#NUMBER` below `directory`: object_store stages a PUT under such a name
/// and links it, so that a kill in between leaves it behind.
pub fn sweep(directory: &Path) -> io::Result<()> {
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
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
    let file = directory.join(name);
    for path in file.ancestors() {
        File::open(path)?.sync_all()?;
        if path == directory {
            break;
        }
    }
    Ok(())
}

fn is_staging(name: &str) -> bool {
    name.split_once('#')
        .is_some_and(|(_, suffix)| !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_digit()))
}
