//! How far a backfill is: on a terminal a bar, otherwise a line now and then.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::clock;
use crate::log;

use super::Done;

/// Without a terminal, the time between two lines.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// See the module.
pub struct Progress {
    /// Snapshots in all, if that is known.
    of: Option<u64>,
    bytes: u64,
    total: u64,
    since: Instant,
    told: Instant,
    live: Option<ProgressBar>,
}

impl Progress {
    /// Nothing is done yet of `of` snapshots, `total` bytes as they are stored.
    pub fn new(of: Option<u64>, total: u64, since: Instant) -> Progress {
        let style = "backfill {wide_bar} {bytes}/{total_bytes}, {msg}, {eta} left";
        let style = ProgressStyle::with_template(style).expect("the template is sound");
        let live = log::is_live().then(|| {
            let bar = ProgressBar::new(total).with_style(style);
            log::terminal().add(bar)
        });
        Progress {
            of,
            bytes: 0,
            total,
            since,
            told: since,
            live,
        }
    }

    /// The snapshot after those of `done` is done, `bytes` as it is stored.
    pub fn advance(&mut self, bytes: u64, done: &Done) {
        self.bytes += bytes;
        let now = clock::now();
        let told = || {
            let seconds = now.duration_since(self.since).as_secs_f64().max(0.001);
            format!(
                "{}{} snapshots, {:.0} entries/s, {} changes",
                done.snapshots + 1,
                self.of.map(|of| format!("/{of}")).unwrap_or_default(),
                done.tally.entries as f64 / seconds,
                done.tally.changes()
            )
        };
        if let Some(live) = &self.live {
            live.set_position(self.bytes);
            live.set_message(told());
        } else if now.duration_since(self.told) >= TELL_EVERY {
            tracing::info!(
                "backfill: {}, {} of {}",
                told(),
                HumanBytes(self.bytes),
                HumanBytes(self.total)
            );
            self.told = now;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            live.finish_and_clear();
        }
    }
}
