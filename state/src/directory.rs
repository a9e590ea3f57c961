//! Directories that a power cut does not take back, with all that was made durable in them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::error::Error;

/// Makes `dir`, and what is missing above it, durably.
///
/// # Errors
/// When the operating system refuses, or something that is no directory is in the way.
pub fn make(dir: &Path) -> Result<(), Error> {
    make_quietly(dir).map_err(Error::io("create", dir))
}

/// [`make`], for callers that have their own errors.
pub(crate) fn make_quietly(dir: &Path) -> io::Result<()> {
    let parent = match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        // The root.
        None => return Ok(()),
    };
    let made = !dir.is_dir();
    if made {
        if !parent.is_dir() {
            make_quietly(parent)?;
        }
        match fs::create_dir(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists || !dir.is_dir() => {
                return Err(error);
            }
            _ => {}
        }
    }
    // IMPORTANT: also where it was there, or a power cut takes a directory, with all that was synced in
    // it, whose maker died between the two steps.
    match fs::File::open(parent).and_then(|parent| parent.sync_all()) {
        // Who may not look into it did not make it; or its file system never changes, as that of an
        // image in which `dir` is a mount point.
        Err(error)
            if !made
                && matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::InvalidInput
                ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_at_any_depth_and_a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        for _ in 0..2 {
            make(&deep).unwrap();
            assert!(deep.is_dir());
        }
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = make(&path).unwrap_err().to_string();
            let named = format!("cannot create {}: ", path.display());
            assert!(error.starts_with(&named), "{error}");
        }
    }
}
