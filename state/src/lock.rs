//! One process per directory (R32): an advisory lock that ends with the process, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::error::Error;

/// The lock on a directory; released when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Locks `dir`, which must exist, by its file `LOCK`.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process holds it.
    pub fn acquire(dir: &Path) -> Result<Lock, Error> {
        let path = dir.join("LOCK");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked {
                path: dir.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(Error::io("lock", &path)(source)),
        }
    }

    /// Keeps others from `dir` while it is looked at, without writing there; others may look too. `None`:
    /// it was never locked.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process works there.
    pub fn look(dir: &Path) -> Result<Option<Lock>, Error> {
        let path = dir.join("LOCK");
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(Error::io("open", &path))?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(Error::Locked {
                path: dir.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(Error::io("lock", &path)(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r32_a_directory_has_one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::acquire(dir.path()).unwrap();
        let second = Lock::acquire(dir.path()).unwrap_err();
        assert!(matches!(second, Error::Locked { .. }), "{second}");
        drop(first);
        Lock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn who_looks_keeps_out_who_works_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Lock::look(dir.path()).unwrap().is_none());
        let first = Lock::acquire(dir.path()).unwrap();
        let look = Lock::look(dir.path()).unwrap_err();
        assert!(matches!(look, Error::Locked { .. }), "{look}");
        drop(first);
        let looks = [(); 2].map(|()| Lock::look(dir.path()).unwrap().unwrap());
        assert!(Lock::acquire(dir.path()).is_err());
        drop(looks);
        Lock::acquire(dir.path()).unwrap();
    }
}
