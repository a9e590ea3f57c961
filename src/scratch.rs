//! A directory for a copy of the state, for commands that only look: sled writes whenever it is opened.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fault::Fault;

/// In the system's directory for temporary files (`TMPDIR`), removed when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn make() -> Result<Scratch, Fault> {
        let name = format!("deltapoll-look-{:032x}", rand::random::<u128>());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).map_err(|error| {
            Fault::failed(format!(
                "cannot make {}, for a copy of the state: {error}; set TMPDIR",
                path.display()
            ))
        })?;
        Ok(Scratch(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is in the system's directory for such things.
        let _ = fs::remove_dir_all(&self.0);
    }
}
