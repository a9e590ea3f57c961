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

    /// Another file, `bytes` as it is stored, is done, and what all of them came to.
    pub fn advance(&mut self, bytes: u64, done: &Done) {
        self.bytes += bytes;
        let now = clock::now();
        if let Some(live) = &self.live {
            live.set_position(self.bytes);
            live.set_message(self.counts(done, now));
        } else if now.duration_since(self.told) >= TELL_EVERY {
            tracing::info!("backfill: {}", self.line(done, now));
            self.told = now;
        }
    }

    /// What is told where there is no bar.
    fn line(&self, done: &Done, now: Instant) -> String {
        let (bytes, total) = (HumanBytes(self.bytes), HumanBytes(self.total));
        format!("{}, {bytes} of {total}", self.counts(done, now))
    }

    fn counts(&self, done: &Done, now: Instant) -> String {
        let seconds = now.duration_since(self.since).as_secs_f64().max(0.001);
        let of = self.of.map(|of| format!("/{of}")).unwrap_or_default();
        let set_aside = match done.bad {
            0 => String::new(),
            bad => format!(", {bad} files set aside"),
        };
        format!(
            "{}{of} snapshots, {:.0} entries/s, {} changes{set_aside}",
            done.snapshots,
            done.tally.entries as f64 / seconds,
            done.tally.changes()
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            live.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::snapshot::Tally;

    use super::*;

    #[test]
    fn progress_tells_snapshots_rate_changes_and_bytes_and_what_was_set_aside() {
        let since = clock::now();
        let mut progress = Progress::new(Some(12), 8 << 20, since);
        let mut done = Done {
            snapshots: 3,
            tally: Tally {
                entries: 900,
                added: 4,
                changed: 1,
                ..Tally::default()
            },
            ..Done::default()
        };
        progress.advance(2 << 20, &done);
        let later = since + Duration::from_secs(2);
        assert_eq!(
            progress.line(&done, later),
            "3/12 snapshots, 450 entries/s, 5 changes, 2.00 MiB of 8.00 MiB"
        );
        done.bad = 2;
        progress.of = None;
        progress.advance(1 << 20, &done);
        assert_eq!(
            progress.line(&done, later),
            "3 snapshots, 450 entries/s, 5 changes, 2 files set aside, 3.00 MiB of 8.00 MiB"
        );
    }
}
