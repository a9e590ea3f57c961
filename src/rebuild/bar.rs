//! How far long work is: on a terminal a bar, otherwise a log line now and then.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock;
use crate::log;

const TELL_EVERY: Duration = Duration::from_secs(10);

/// Progress of one piece of work; the bar goes with it.
pub struct Bar {
    what: &'static str,
    total: u64,
    done: Cell<u64>,
    told: Cell<Instant>,
    live: Option<ProgressBar>,
}

impl Bar {
    /// Work of `total` steps.
    #[must_use]
    pub fn new(what: &'static str, total: u64) -> Bar {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
        let live = log::is_live().then(|| {
            let bar = ProgressBar::new(total).with_style(style.expect("the template is sound"));
            log::terminal().add(bar.with_message(what))
        });
        Bar {
            what,
            total,
            done: Cell::new(0),
            told: Cell::new(clock::now()),
            live,
        }
    }

    /// So many steps more are done.
    pub fn advance(&self, steps: u64) {
        self.done.set(self.done.get() + steps);
        if let Some(live) = &self.live {
            live.inc(steps);
            return;
        }
        let now = clock::now();
        if now.duration_since(self.told.get()) >= TELL_EVERY {
            self.told.set(now);
            tracing::info!("{}: {} of {}", self.what, self.done.get(), self.total);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            live.finish_and_clear();
        }
    }
}
