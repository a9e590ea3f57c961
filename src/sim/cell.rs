//! One ladder's versions, in the order they are served.

use std::fs::File;
use std::io::Write;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::json;

use super::ladder::{Ladder, Version};
use super::{Advance, Options};
use crate::clock;

/// Versions that are ready before anybody asks.
const AHEAD: usize = 1;

/// The file that every version is written to before it is served.
pub type Versions = Arc<Mutex<File>>;

/// A ladder as it is served.
pub struct Cell {
    name: String,
    tier: String,
    advance: Advance,
    ahead: Receiver<Version>,
    versions: Option<Versions>,
    started: Instant,
    current: Option<Version>,
    /// Versions taken from the ladder.
    taken: u64,
    /// Different bodies served one after another; the number that is written.
    served: u64,
    /// Whether the last body was the empty ladder's.
    was_empty: bool,
    /// Answers for which the ladder is empty.
    pub empty: u64,
    /// Whether the ladder stands still.
    pub frozen: bool,
    /// Versions that must be skipped to.
    pub skip: u64,
}

impl Cell {
    /// Starts rendering ahead.
    ///
    /// # Panics
    /// When a thread cannot be started.
    #[must_use]
    pub fn new(
        options: &Options,
        (platform, tier, queue): (&str, &str, &str),
        versions: Option<Versions>,
    ) -> Cell {
        let (sender, ahead) = sync_channel(AHEAD);
        let mut ladder = Ladder::new(options, platform, tier, queue);
        let render = move || {
            // Ends when the cell is gone.
            while sender.send(ladder.render()).is_ok() {
                ladder.advance();
            }
        };
        std::thread::Builder::new()
            .name("render".into())
            .spawn(render)
            .expect("a process that cannot start a thread cannot work");
        Cell {
            name: format!("{platform},{queue}"),
            tier: tier.to_owned(),
            advance: options.advance,
            ahead,
            versions,
            started: clock::now(),
            current: None,
            taken: 0,
            served: 0,
            was_empty: false,
            empty: 0,
            frozen: false,
            skip: 0,
        }
    }

    /// The number of the last body served.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.served
    }

    /// The answer to the next request, written to the file if it is new. May block while a version is
    /// being rendered.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn take(&mut self) -> std::io::Result<Version> {
        if self.empty > 0 {
            self.empty -= 1;
            return self.serve_empty();
        }
        let wanted = match self.advance {
            _ if self.current.is_none() => 1,
            _ if self.frozen => self.taken,
            Advance::PerRequest => self.taken + 1,
            Advance::Every(interval) => {
                let passed = clock::now().duration_since(self.started).as_nanos();
                let due = passed / interval.as_nanos().max(1) + 1;
                u64::try_from(due).unwrap_or(u64::MAX).max(self.taken)
            }
        };
        let wanted = wanted + std::mem::take(&mut self.skip);
        let new = wanted > self.taken || self.was_empty;
        while self.taken < wanted {
            self.current = self.ahead.recv().ok();
            self.taken += 1;
        }
        self.was_empty = false;
        let version = self.current.clone().expect("a version was taken");
        if new {
            self.write(&version)?;
        }
        Ok(version)
    }

    /// An answer without anybody in it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn serve_empty(&mut self) -> std::io::Result<Version> {
        let version = Ladder::empty(&self.tier);
        if !self.was_empty {
            self.write(&version)?;
        }
        self.was_empty = true;
        Ok(version)
    }

    fn write(&mut self, version: &Version) -> std::io::Result<()> {
        self.served += 1;
        let Some(versions) = &self.versions else {
            return Ok(());
        };
        let text = |range: &std::ops::Range<usize>| {
            String::from_utf8_lossy(&version.body[range.clone()]).into_owned()
        };
        let entries = version
            .entries
            .iter()
            .map(|(puuid, range)| (puuid.clone(), text(range)));
        let entries: serde_json::Map<_, _> = entries.map(|(k, v)| (k, v.into())).collect();
        let line = json!({
            "cell": self.name, "tier": self.tier, "version": self.served, "entries": entries,
        });
        // One write, so that a kill cannot leave half a line behind what was served.
        let mut file = versions.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{line}\n").as_bytes())
    }
}
