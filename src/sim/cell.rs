//! One cell of the league: its ladder, rendered ahead on a thread of its own, and the version that
//! it serves now.
//!
//! Guarantee: a version's line is in the versions file, written by one write(2), before the first
//! of its bytes is handed to a connection. Versions that are skipped, or only rendered ahead, have
//! no line. An empty answer is a version of its own.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use tokio::sync::mpsc;

use super::ladder::{Ladder, Rules};
use super::render::{self, Names, Renderer, Version};
use super::{Advance, Options};
use crate::clock;

/// One version waits in the channel and one in the thread's hand: two ahead, since at 500,000
/// entries each is 100 MB.
const AHEAD: usize = 1;

/// One cell. Whoever asks holds it alone.
#[derive(Debug)]
pub(super) struct Cell {
    names: Names,
    advance: Advance,
    first: u64,
    since: Instant,
    /// Added to the number that the interval asks for: advances by hand, and empty answers.
    extra: u64,
    rendered: mpsc::Receiver<Version>,
    skip_to: Arc<AtomicU64>,
    current: Option<Version>,
    is_empty: bool,
    empties: u64,
    frozen: bool,
    versions: Option<Arc<File>>,
    served: u64,
}

/// What a cell has done so far.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct CellStats {
    cell: String,
    tier: &'static str,
    version: Option<u64>,
    pub(super) versions: u64,
}

impl Cell {
    pub(super) fn start(
        names: Names,
        rules: Rules,
        options: &Options,
        versions: Option<Arc<File>>,
    ) -> io::Result<Cell> {
        let lines = versions.is_some();
        let renderer = Renderer::new(
            names.clone(),
            options.field_order,
            options.order,
            lines,
            options.seed,
        );
        let skip_to = Arc::new(AtomicU64::new(options.first_version));
        let (sender, rendered) = mpsc::channel(AHEAD);
        let wanted = Arc::clone(&skip_to);
        thread::Builder::new()
            .name(format!("sim {}", names.platform))
            .spawn(move || render_ahead(rules, renderer, &wanted, &sender))?;
        Ok(Cell {
            names,
            advance: options.advance,
            first: options.first_version,
            since: clock::now(),
            extra: 0,
            rendered,
            skip_to,
            current: None,
            is_empty: false,
            empties: 0,
            frozen: false,
            versions,
            served: 0,
        })
    }

    /// The version that this request gets. Its line is written when this returns.
    pub(super) async fn version(&mut self, empty: bool) -> io::Result<Version> {
        let empty = empty || self.empties > 0;
        self.empties = self.empties.saturating_sub(1);
        let due = self.due(empty);
        if self.current.as_ref().is_none_or(|now| now.number < due) {
            let mut version = self.render(due).await?;
            if empty {
                version = render::empty(&self.names, version.number, self.versions.is_some());
            }
            self.record(&mut version).await?;
            self.served += 1;
            self.is_empty = empty;
            self.current = Some(version);
        }
        Ok(self
            .current
            .clone()
            .expect("a version was just made current"))
    }

    /// The next answer is `count` versions on.
    pub(super) fn skip(&mut self, count: u64) {
        self.extra = self.extra.saturating_add(count);
    }

    /// The next `count` answers are empty ladders.
    pub(super) fn set_empty(&mut self, count: u64) {
        self.empties = count;
    }

    /// Every answer is the same version from now on, or no longer.
    pub(super) fn set_frozen(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    pub(super) fn stats(&self) -> CellStats {
        CellStats {
            cell: format!("{},{}", self.names.platform, self.names.queue),
            tier: self.names.tier,
            version: self.current.as_ref().map(|version| version.number),
            versions: self.served,
        }
    }

    /// The number of the version that is due. By interval, an empty answer and the answer after it
    /// are one version on each.
    fn due(&mut self, empty: bool) -> u64 {
        let now = self.current.as_ref().map(|version| version.number);
        if let Some(now) = now.filter(|_| self.frozen && !empty && !self.is_empty) {
            return now;
        }
        match self.advance {
            Advance::PerRequest => {
                let skipped = std::mem::take(&mut self.extra);
                now.map_or(self.first, |now| now + 1)
                    .saturating_add(skipped)
            }
            Advance::Every(interval) => {
                let elapsed = clock::now().duration_since(self.since).as_nanos();
                let ticks = elapsed / interval.as_nanos().max(1);
                let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
                let due = self.first.saturating_add(ticks).saturating_add(self.extra);
                match now {
                    Some(now) if (empty || self.is_empty) && due <= now => {
                        self.extra += now + 1 - due;
                        now + 1
                    }
                    _ => due,
                }
            }
        }
    }

    /// That version, or the next one where its line could not be written.
    async fn render(&mut self, number: u64) -> io::Result<Version> {
        self.skip_to.store(number, Ordering::Relaxed);
        loop {
            match self.rendered.recv().await {
                Some(version) if version.number >= number => return Ok(version),
                Some(_) => {}
                None => return Err(io::Error::other("the rendering thread has died")),
            }
        }
    }

    async fn record(&self, version: &mut Version) -> io::Result<()> {
        let (Some(file), Some(line)) = (self.versions.clone(), version.line.take()) else {
            return Ok(());
        };
        // IMPORTANT: awaited before the bytes are handed out, or a checker could meet bytes that
        // no line explains.
        tokio::task::spawn_blocking(move || (&*file).write_all(&line))
            .await
            .map_err(io::Error::other)?
    }
}

/// Plays and renders until nobody listens.
fn render_ahead(
    rules: Rules,
    mut renderer: Renderer,
    skip_to: &AtomicU64,
    rendered: &mpsc::Sender<Version>,
) {
    let mut ladder = Ladder::new(rules);
    for number in 0.. {
        if number > 0 {
            ladder.advance();
        }
        if number < skip_to.load(Ordering::Relaxed) {
            if rendered.is_closed() {
                return;
            }
            continue;
        }
        if rendered
            .blocking_send(renderer.render(&ladder, number))
            .is_err()
        {
            return;
        }
    }
}
