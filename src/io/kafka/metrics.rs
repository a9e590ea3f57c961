//! What the publisher counts, for whoever serves metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Counters of one publisher, since the process started.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Changes in committed transactions, progress records not counted.
    pub records: AtomicU64,
    /// Their keys and values.
    pub bytes: AtomicU64,
    /// Committed transactions.
    pub transactions: AtomicU64,
    /// The last transaction's time from its first record to the broker's answer to commit.
    pub commit_micros: AtomicU64,
    /// Producers initialised: 1 after a start without trouble, one more for each way back (R19).
    pub sessions: AtomicU64,
    /// Whether the last exchange with Kafka succeeded.
    pub reachable: AtomicBool,
}

impl Metrics {
    pub(crate) fn committed(&self, records: u64, bytes: u64, took: Duration) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.transactions.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commit_micros.store(micros, Ordering::Relaxed);
    }
}
