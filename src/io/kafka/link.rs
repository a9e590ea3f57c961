//! Whether Kafka is reachable: one log line per change of that, none per retry.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::clock;
use crate::io::kafka::metrics::Metrics;

/// Trouble shorter than this is not worth a line.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The state of the connection as the log tells it.
pub(crate) struct Link {
    down_since: Option<Instant>,
    metrics: Arc<Metrics>,
}

impl Link {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Link {
        Link {
            down_since: None,
            metrics,
        }
    }

    /// Kafka does not answer, for the reason `why`.
    pub(crate) fn down(&mut self, why: &str) {
        self.metrics.reachable.store(false, Ordering::Relaxed);
        if self.down_since.is_none() {
            self.down_since = Some(clock::now());
            tracing::warn!("publishing waits for kafka and goes on by itself: {why}");
        }
    }

    /// Kafka answered.
    pub(crate) fn up(&mut self) {
        self.metrics.reachable.store(true, Ordering::Relaxed);
        if let Some(since) = self.down_since.take() {
            let waited = clock::now().duration_since(since).as_secs();
            tracing::info!("kafka answers again after {waited}s; publishing goes on");
        }
    }
}

/// Pauses that double, up to a limit; each a part of that, by chance.
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Backoff {
        Backoff { next: first, max }
    }

    /// Pauses, in steps that look at `stopped`.
    pub(crate) fn pause(&mut self, stopped: impl Fn() -> bool) {
        const STEP: Duration = Duration::from_millis(50);
        // Two instances that fence each other must not keep step (R19).
        let until = clock::now() + self.next.mul_f64(rand::random_range(0.5..1.0));
        self.next = (self.next * 2).min(self.max);
        loop {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() || stopped() {
                return;
            }
            clock::pause(left.min(STEP));
        }
    }
}
