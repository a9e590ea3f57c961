//! Waiting for another process.

use std::time::{Duration, Instant};

/// Long enough for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Probes until there is an answer; fails naming `what` after `deadline`.
pub fn wait_until<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
