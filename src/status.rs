//! What happened so far: counters that all parts share, for the live line, the log, the last summary
//! and whoever asks.
//!
//! Counters only say; nothing is decided by them, so they are relaxed. Error texts are kept without
//! secrets (G5).
//!
//! Layout: this file the counters, [`words`] how they are told, [`live`] when.

pub mod live;
pub mod words;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::clock;
use crate::config::cell::expand;
use crate::config::{Config, secret};
use crate::snapshot::Tally;

/// A number that many threads raise.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Raises it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Makes it `n`.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// What it is.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Serialize for Counter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.get())
    }
}

/// The whole run.
#[derive(Debug, Serialize)]
pub struct Status {
    /// When it started (Unix ms).
    pub started_at: u64,
    /// In order of name.
    pub sources: Vec<Source>,
    /// Epochs sealed.
    pub epochs: Counter,
    /// Batches sealed.
    pub batches: Counter,
    /// Fsyncs of the journal.
    pub syncs: Counter,
    /// Kafka transactions committed.
    pub transactions: Counter,
    /// Archive objects made.
    pub objects: Counter,
    /// Pages of the state written.
    pub page_writes: Counter,
    /// The last sealed seq.
    pub sealed: Counter,
    /// The last published seq.
    pub published: Counter,
    /// The last archived seq.
    pub archived: Counter,
    /// Bytes of the journal on disk.
    pub journal_bytes: Counter,
    /// For each cell by its place in the plan: its source, and its place there.
    #[serde(skip)]
    places: Vec<(usize, usize)>,
}

/// One source.
#[derive(Debug, Default, Serialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Finished attempts.
    pub polls: Counter,
    /// Of these, those that found no change.
    pub unchanged: Counter,
    /// Of these, those that failed.
    pub failed: Counter,
    /// Entries looked at.
    pub entries: Counter,
    /// Keys added.
    pub added: Counter,
    /// Keys changed.
    pub changed: Counter,
    /// Keys removed.
    pub removed: Counter,
    /// Entries that were not used.
    pub skipped: Skipped,
    /// Changes published.
    pub published: Counter,
    /// Changes archived.
    pub archived: Counter,
    /// In order of their vars.
    pub cells: Vec<Cell>,
}

/// Entries that were not used, by cause.
#[derive(Debug, Default, Serialize)]
pub struct Skipped {
    /// Without a usable key.
    pub keyless: Counter,
    /// Not JSON inside.
    pub malformed: Counter,
    /// Their record would be too large.
    pub oversized: Counter,
}

impl Skipped {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.keyless.get() + self.malformed.get() + self.oversized.get()
    }
}

/// One cell.
#[derive(Debug, Default, Serialize)]
pub struct Cell {
    /// Its var values.
    pub label: String,
    /// When the last good poll ended (Unix ms); 0: there was none.
    pub last_good: Counter,
    /// Failed attempts since the last good one.
    pub failures: Counter,
    /// Why the last failed attempt failed.
    pub last_error: Words,
    /// When it is polled next (Unix ms); 0: not known.
    pub next_due: Counter,
}

/// A text that changes.
#[derive(Debug, Default)]
pub struct Words(Mutex<Option<String>>);

impl Words {
    /// The text.
    #[must_use]
    pub fn get(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, text: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug)]
pub enum Polled<'a> {
    /// Its snapshot was used, or is known to be the same as the last.
    Used(Tally),
    /// Its snapshot was stored, and is used: nobody was asked.
    Stored(Tally),
    /// It failed, for this reason.
    Failed(&'a str),
}

impl Status {
    /// All zero, with the sources and cells of `config`.
    #[must_use]
    pub fn new(config: &Config) -> Arc<Status> {
        let mut places = Vec::new();
        let mut sources = Vec::new();
        for (name, source) in &config.source {
            let labels = expand(name, source).into_iter().map(|cell| cell.label);
            let cells: Vec<_> = labels
                .map(|label| Cell {
                    label,
                    ..Cell::default()
                })
                .collect();
            places.extend((0..cells.len()).map(|cell| (sources.len(), cell)));
            sources.push(Source {
                name: name.clone(),
                cells,
                ..Source::default()
            });
        }
        Arc::new(Status {
            started_at: clock::unix_ms(),
            sources,
            epochs: Counter::default(),
            batches: Counter::default(),
            syncs: Counter::default(),
            transactions: Counter::default(),
            objects: Counter::default(),
            page_writes: Counter::default(),
            sealed: Counter::default(),
            published: Counter::default(),
            archived: Counter::default(),
            journal_bytes: Counter::default(),
            places,
        })
    }

    /// Counts a finished attempt of the cell at `index` (its place among all cells: sources in order
    /// of name, each one's cells as [`expand`] gives them), and logs it where it is news: the first,
    /// the first that failed, the first that was good again.
    pub fn polled(&self, index: usize, polled: Polled<'_>) {
        let (source, cell) = self.cell(index);
        source.polls.add(1);
        match polled {
            Polled::Used(counts) => {
                source.count(&counts);
                cell.good(&source.name, &counts);
            }
            Polled::Stored(counts) => source.count(&counts),
            Polled::Failed(reason) => {
                source.failed.add(1);
                cell.failed(&source.name, reason);
            }
        }
    }

    /// Says when the cell at `index` is polled next (Unix ms).
    pub fn due(&self, index: usize, at: u64) {
        self.cell(index).1.next_due.set(at);
    }

    /// Counts changes of `source` that were published.
    pub fn published(&self, source: &str, changes: u64) {
        self.sources
            .iter()
            .filter(|s| s.name == source)
            .for_each(|s| s.published.add(changes));
    }

    /// Counts changes of `source` that were archived.
    pub fn archived(&self, source: &str, changes: u64) {
        self.sources
            .iter()
            .filter(|s| s.name == source)
            .for_each(|s| s.archived.add(changes));
    }

    /// Counts pages of the state that were written.
    pub fn pages_written(&self, pages: u64) {
        self.page_writes.add(pages);
    }

    /// How many sealed batches are not published yet.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.sealed.get().saturating_sub(self.published.get())
    }

    /// Everything, with the lag.
    ///
    /// # Panics
    /// Never: numbers and texts can always be written.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).expect("numbers and texts");
        value["lag"] = self.lag().into();
        value
    }

    fn cell(&self, index: usize) -> (&Source, &Cell) {
        let (source, cell) = self.places[index];
        (&self.sources[source], &self.sources[source].cells[cell])
    }
}

impl Source {
    fn count(&self, counts: &Tally) {
        if counts.added + counts.changed + counts.removed == 0 {
            self.unchanged.add(1);
        }
        self.entries.add(counts.entries);
        self.added.add(counts.added);
        self.changed.add(counts.changed);
        self.removed.add(counts.removed);
        self.skipped.keyless.add(counts.keyless);
        self.skipped.malformed.add(counts.malformed);
        self.skipped.oversized.add(counts.oversized);
    }

    /// The cells whose last attempt failed.
    pub fn failing(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| cell.failures.get() > 0)
    }
}

impl Cell {
    /// How long ago the last good poll was.
    #[must_use]
    pub fn age(&self, now: u64) -> Option<Duration> {
        let at = self.last_good.get();
        (at > 0).then(|| Duration::from_millis(now.saturating_sub(at)))
    }

    fn good(&self, source: &str, counts: &Tally) {
        let first = self.last_good.get() == 0;
        let failures = self.failures.get();
        let now = clock::unix_ms();
        let away = self.age(now);
        self.last_good.set(now);
        self.failures.set(0);
        let cell = self.label.as_str();
        if failures > 0 {
            let away = away.map_or("never".to_owned(), words::ago);
            tracing::info!(
                source,
                cell,
                failures,
                last_good = away,
                "polls are good again"
            );
        } else if first {
            let Tally {
                entries,
                added,
                changed,
                removed,
                ..
            } = *counts;
            tracing::info!(
                source,
                cell,
                entries,
                added,
                changed,
                removed,
                "first poll done"
            );
        }
    }

    fn failed(&self, source: &str, reason: &str) {
        let reason = secret::redact(reason);
        self.last_error.set(&reason);
        self.failures.add(1);
        if self.failures.get() == 1 {
            let last_good = self
                .age(clock::unix_ms())
                .map_or("never".to_owned(), words::ago);
            let cell = self.label.as_str();
            tracing::warn!(
                source,
                cell,
                last_good,
                "poll failed, polling goes on: {reason}"
            );
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::parse;

    pub(crate) fn config() -> Config {
        let text = "name = \"n\"\n[source.alpha]\nurl = \"http://h/{v}\"\nkey = [\"/id\"]\n\
                    vars = { v = [\"a\", \"b\"] }\nrecord_key = \"{v}:{key}\"\n\
                    [source.beta]\nurl = \"http://h\"\nkey = [\"/id\"]\n";
        parse(text, "test").unwrap()
    }

    #[test]
    fn attempts_count_for_the_source_of_their_cell() {
        let status = Status::new(&config());
        let counts = Tally {
            entries: 3,
            added: 2,
            oversized: 1,
            ..Tally::default()
        };
        status.polled(0, Polled::Used(counts));
        status.polled(0, Polled::Used(Tally::default()));
        status.polled(1, Polled::Failed("it is away"));
        status.polled(2, Polled::Used(counts));
        let alpha = &status.sources[0];
        assert_eq!(
            (alpha.polls.get(), alpha.unchanged.get(), alpha.failed.get()),
            (3, 1, 1)
        );
        assert_eq!(
            (
                alpha.entries.get(),
                alpha.added.get(),
                alpha.skipped.total()
            ),
            (3, 2, 1)
        );
        let failing: Vec<_> = alpha.failing().map(|cell| cell.label.as_str()).collect();
        assert_eq!(failing, ["b"]);
        assert_eq!(status.sources[1].polls.get(), 1);
        status.polled(1, Polled::Used(counts));
        assert_eq!(alpha.failing().count(), 0);
        assert_eq!(
            alpha.cells[1].last_error.get().unwrap(),
            "it is away",
            "still worth knowing"
        );
    }

    #[test]
    fn the_status_as_json_has_the_lag_and_no_secret() {
        let status = Status::new(&config());
        secret::keep("s3cr3t-token");
        status.polled(0, Polled::Failed("refused s3cr3t-token"));
        status.sealed.set(7);
        status.published.set(5);
        status.published("beta", 4);
        status.due(2, 12);
        let json = status.to_json();
        assert_eq!(json["lag"], 2);
        assert_eq!(
            json["sources"][0]["cells"][0]["last_error"],
            "refused [redacted]"
        );
        assert_eq!(json["sources"][1]["published"], 4);
        assert_eq!(json["sources"][1]["cells"][0]["next_due"], 12);
        assert_eq!(
            json["sources"][1]["cells"][0]["last_error"],
            serde_json::Value::Null
        );
    }
}
