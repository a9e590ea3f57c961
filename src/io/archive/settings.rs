//! What the archive follower is told, and what it tells while it works.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::change::Seq;
use crate::config::{Codec, Roll};

/// What waits in all topic-partitions together may use this much memory before the fullest rolls: a
/// few objects of the default size, whatever the number of partitions.
const HELD_BYTES_MAX: usize = 256 << 20;

/// Settings of the archive follower.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When an object is closed and uploaded.
    pub roll: Roll,
    /// Compression within objects.
    pub codec: Codec,
    /// Identity of the directory's history.
    pub lineage: String,
    /// Where to begin if this directory has never archived: changes up to here are left out.
    pub start: Seq,
    /// Memory for what waits, all topic-partitions together. Default 256 MiB.
    pub held_bytes_max: usize,
}

impl Settings {
    /// Settings with the default memory limit, beginning with the first change.
    #[must_use]
    pub fn new(roll: Roll, codec: Codec, lineage: impl Into<String>) -> Settings {
        Settings {
            roll,
            codec,
            lineage: lineage.into(),
            start: Seq(0),
            held_bytes_max: HELD_BYTES_MAX,
        }
    }
}

/// Wishes from other threads; looked at when `advance` has read all it may, and while it retries.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    flush: AtomicBool,
    relieve: AtomicBool,
}

impl Control {
    /// No more retries: `advance` tries each object once more and returns with what it has.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// The next `advance` rolls and uploads all that waits.
    pub fn flush(&self) {
        self.flush.store(true, Ordering::Release);
    }

    /// The next `advance` rolls what holds back the position (R29: the journal is full).
    pub fn relieve(&self) {
        self.relieve.store(true, Ordering::Release);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn take_flush(&self) -> bool {
        self.flush.swap(false, Ordering::AcqRel)
    }

    pub(super) fn take_relieve(&self) -> bool {
        self.relieve.swap(false, Ordering::AcqRel)
    }
}

/// Whether the store takes what we bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The last request was answered.
    Good,
    /// Network or overload: being retried.
    Unreachable,
    /// Credentials, rights or bucket: being retried, but somebody has to act.
    Refused,
}

/// Numbers since the start of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Objects that are there.
    pub objects: AtomicU64,
    /// Changes in them.
    pub records: AtomicU64,
    /// Their size.
    pub bytes: AtomicU64,
    /// When the last was put (Unix ms); 0: none was.
    pub last_upload: AtomicU64,
    health: AtomicU8,
}

impl Metrics {
    /// Whether the store takes what we bring.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Good,
            1 => Health::Unreachable,
            _ => Health::Refused,
        }
    }

    /// Returns what it was before.
    pub(super) fn set_health(&self, health: Health) -> Health {
        let before = self.health();
        self.health.store(health as u8, Ordering::Relaxed);
        before
    }

    pub(super) fn count(&self, records: u64, bytes: u64, now: u64) {
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last_upload.store(now, Ordering::Relaxed);
    }
}

/// Time as the follower sees it; tests bring their own.
pub trait Time: Send + Sync {
    /// Unix time in milliseconds.
    fn unix_ms(&self) -> u64;
    /// A point in monotonic time.
    fn now(&self) -> Instant;
    /// Blocks this thread.
    fn pause(&self, duration: Duration);
}

/// The time of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Time for System {
    fn unix_ms(&self) -> u64 {
        crate::clock::unix_ms()
    }

    fn now(&self) -> Instant {
        crate::clock::now()
    }

    fn pause(&self, duration: Duration) {
        crate::clock::pause(duration);
    }
}
