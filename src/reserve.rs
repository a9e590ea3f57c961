//! A reserve of disk space (R29): a file that is given up when the disk is full, so that a start finds
//! room to run its followers, whose work gives space back.
//!
//! The journal must be written before it can be shortened, and pages before their position. On a full
//! disk neither can be, and the process ends (R15). The next start then finds less free than the reserve
//! holds, deletes it, and goes on without polling; when twice as much is free, the reserve is taken again
//! and polls go on. Twice, so that a start right after that does not give it up again.
//!
//! While the process runs no poll is started either with less than the reserve free: what is sealed later
//! than the last free byte is not sealed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::config::quantity::Bytes;
use crate::fault::Fault;

/// As much as a segment of the journal, and more than a write of pages.
const BYTES: u64 = 64 << 20;
const NAME: &str = "reserve";

/// What the file system says.
pub trait Disk: Send + Sync {
    /// Bytes that may still be written in `dir`.
    ///
    /// # Errors
    /// What the operating system says.
    fn free(&self, dir: &Path) -> io::Result<u64>;
}

/// The file system itself.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Disk for System {
    fn free(&self, dir: &Path) -> io::Result<u64> {
        let found = statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// The reserve of a directory.
pub struct Reserve {
    dir: PathBuf,
    bytes: u64,
    disk: Box<dyn Disk>,
    held: AtomicBool,
    /// Whether it was said that polls wait.
    told: AtomicBool,
}

impl Reserve {
    /// Finds the reserve of `dir`, or gives it up where less than it is free: before anything is
    /// written there.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn open(dir: &Path) -> Result<Reserve, Fault> {
        Reserve::open_on(dir, BYTES, Box::new(System))
    }

    fn open_on(dir: &Path, bytes: u64, disk: Box<dyn Disk>) -> Result<Reserve, Fault> {
        let reserve = Reserve {
            dir: dir.to_owned(),
            bytes,
            disk,
            held: AtomicBool::new(false),
            told: AtomicBool::new(false),
        };
        let found = fs::metadata(reserve.path()).is_ok_and(|data| data.len() >= reserve.bytes);
        if found && reserve.free()? >= reserve.bytes {
            reserve.held.store(true, Ordering::Relaxed);
        } else if found {
            reserve.give_up()?;
            tracing::warn!(
                "the disk of {} is full: the reserve of {} is given up to bring what is sealed where it \
                 belongs; polls wait until more is free",
                dir.display(),
                Bytes(reserve.bytes)
            );
        }
        Ok(reserve)
    }

    /// Whether a poll may start: the reserve is there, and as much is free beside it. Takes the reserve
    /// where it can; says so when polls wait and when they go on.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn has_room(&self) -> Result<bool, Fault> {
        let free = self.free()?;
        let room = if self.held.load(Ordering::Relaxed) {
            free >= self.bytes
        } else {
            free >= 2 * self.bytes && self.take()?
        };
        if room == self.told.load(Ordering::Relaxed) {
            self.told.store(!room, Ordering::Relaxed);
            let (dir, free) = (self.dir.display(), free >> 20);
            if room {
                tracing::info!("the disk of {dir} has room again: polls go on");
            } else {
                tracing::warn!("the disk of {dir} has only {free} MiB free: polls wait for room");
            }
        }
        Ok(room)
    }

    fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    fn free(&self) -> Result<u64, Fault> {
        let free = self.disk.free(&self.dir);
        free.map_err(|error| self.fault("look at the disk of", &error))
    }

    fn give_up(&self) -> Result<(), Fault> {
        fs::remove_file(self.path()).map_err(|error| self.fault("remove the reserve in", &error))
    }

    /// Allocates the reserve; `false`: there is no room after all.
    fn take(&self) -> Result<bool, Fault> {
        match allocate(&self.path(), self.bytes) {
            Ok(()) => {
                self.held.store(true, Ordering::Relaxed);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.give_up()?;
                Ok(false)
            }
            Err(error) => Err(self.fault("make the reserve in", &error)),
        }
    }

    fn fault(&self, what: &str, error: &io::Error) -> Fault {
        Fault::directory(format!("cannot {what} {}: {error}", self.dir.display()))
    }
}

/// A file that takes `bytes` of the disk. Where the file system cannot allocate, it is not written
/// either: a reserve that may be compressed away is none, and polls wait for free space in any case.
fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(bytes),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// A disk that is as full as it is told.
    #[derive(Clone, Default)]
    struct Told(Arc<AtomicU64>);

    impl Disk for Told {
        fn free(&self, _: &Path) -> io::Result<u64> {
            Ok(self.0.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn r29_a_full_disk_stops_polls_a_start_gives_the_reserve_up_and_room_brings_both_back() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Told::default();
        let free = |bytes: u64| disk.0.store(bytes, Ordering::SeqCst);
        let open = || Reserve::open_on(dir.path(), 1 << 16, Box::new(disk.clone())).unwrap();
        let there = || dir.path().join(NAME).exists();
        free(2 << 16);
        let reserve = open();
        assert!(!there(), "taken when the first poll asks");
        assert!(reserve.has_room().unwrap() && there());
        assert_eq!(fs::metadata(dir.path().join(NAME)).unwrap().len(), 1 << 16);
        free((1 << 16) - 1);
        assert!(
            !reserve.has_room().unwrap(),
            "too little beside the reserve"
        );
        assert!(there(), "which is for a start");
        free(1 << 16);
        assert!(open().has_room().unwrap(), "a start with room keeps it");
        free((1 << 16) - 1);
        let reserve = open();
        assert!(!there(), "a start without room gives it up");
        free((2 << 16) - 1);
        assert!(
            !reserve.has_room().unwrap() && !there(),
            "what it gave up is not room"
        );
        free(2 << 16);
        assert!(reserve.has_room().unwrap() && there());
        assert!(open().has_room().unwrap(), "and the next start keeps it");
    }

    #[test]
    fn the_file_system_says_what_is_free() {
        let dir = tempfile::tempdir().unwrap();
        assert!(System.free(dir.path()).unwrap() > 0);
        assert!(System.free(&dir.path().join("none")).is_err());
    }
}
