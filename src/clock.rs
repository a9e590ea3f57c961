//! The only place that asks the operating system what time it is, or waits.

#![expect(clippy::disallowed_methods, reason = "this is the clock")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A point in monotonic time.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Blocks this thread, for back-off on threads that may block.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
