//! When the status is told: on a terminal a line for each source that changes in place, otherwise a
//! log line for each source every ten seconds in which something happened or a cell fails.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock;
use crate::fault::Fault;
use crate::log;

use super::words::{failing, line};
use super::{Source, Status};

const REFRESH: Duration = Duration::from_millis(250);
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Tells the status until it is dropped.
#[derive(Debug)]
pub struct Live {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts telling `status`.
///
/// # Errors
/// When no thread can be started.
pub fn start(status: Arc<Status>) -> Result<Live, Fault> {
    let (stop, stopped) = channel();
    let tell = move || {
        if log::is_live() {
            show(&status, &stopped)
        } else {
            tell(&status, &stopped)
        }
    };
    let thread = std::thread::Builder::new()
        .name("status".into())
        .spawn(tell);
    let thread = thread
        .map_err(|error| Fault::failed(format!("cannot start the status thread: {error}")))?;
    Ok(Live {
        stop: Some(stop),
        thread: Some(thread),
    })
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has already ended the process.
            drop(thread.join());
        }
    }
}

/// Whether to go on after `wait`.
fn wait(stopped: &Receiver<()>, wait: Duration) -> bool {
    stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout)
}

fn show(status: &Status, stopped: &Receiver<()>) {
    let style = ProgressStyle::with_template("{wide_msg}").expect("the template is sound");
    let add = |_: &Source| log::terminal().add(ProgressBar::no_length().with_style(style.clone()));
    let bars: Vec<_> = status.sources.iter().map(add).collect();
    loop {
        let now = clock::unix_ms();
        for (bar, source) in bars.iter().zip(&status.sources) {
            bar.set_message(line(source, now));
            bar.tick();
        }
        if !wait(stopped, REFRESH) {
            break;
        }
    }
    for bar in bars {
        bar.finish_and_clear();
    }
}

fn tell(status: &Status, stopped: &Receiver<()>) {
    let mut told = vec![(0, 0, 0); status.sources.len()];
    while wait(stopped, LOG_EVERY) {
        for (source, told) in status.sources.iter().zip(&mut told) {
            let happened = (
                source.polls.get(),
                source.published.get(),
                source.archived.get(),
            );
            if happened != *told || source.failing().next().is_some() {
                *told = happened;
                tell_source(source);
            }
        }
    }
}

fn tell_source(source: &Source) {
    tracing::info!(
        source = source.name.as_str(),
        polls = source.polls.get(),
        unchanged = source.unchanged.get(),
        failed = source.failed.get(),
        entries = source.entries.get(),
        added = source.added.get(),
        changed = source.changed.get(),
        removed = source.removed.get(),
        skipped = source.skipped.total(),
        published = source.published.get(),
        archived = source.archived.get(),
        "so far"
    );
    if let Some(failing) = failing(source, clock::unix_ms()) {
        tracing::warn!(source = source.name.as_str(), "still failing: {failing}");
    }
}
