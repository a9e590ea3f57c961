//! What passes between asking and deciding: snapshots one way, outcomes the other.
//!
//! `io` makes snapshots, of bodies that were read to their end and are sound (R3), and never sees the
//! dataflow; the dataflow sees what it found and never a client.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::change::{CellId, KeyHash};
use crate::config::Removed;
use crate::io::json::extract::Counts;
use crate::io::json::pointer::Pointer;
use crate::io::json::scan::Scan;
use crate::kept::{SEEN, SPANS};
use crate::rules::Rules;

/// Number of a poll within this process; answers of an abandoned poll are told apart by it (R1).
pub type PollId = u64;

/// What reading its snapshots and `dedup` must know of a cell.
#[derive(Debug)]
pub struct CellPlan {
    /// The cell's number in this directory.
    pub id: CellId,
    /// The source's name.
    pub source: String,
    /// The var values, joined by commas.
    pub label: String,
    /// Where the changes go.
    pub topic: String,
    /// Partition count of the topic, as recorded with the directory (R22).
    pub partitions: u32,
    /// What the record key has before the entry's key.
    pub key_prefix: String,
    /// What the record key has after it.
    pub key_suffix: String,
    /// Pointers to the entry's key; the first that is there.
    pub keys: Vec<Pointer>,
    /// Number of the fingerprint rule in force (R10).
    pub rule: u8,
    /// What is published when a key is gone.
    pub removed: Removed,
    /// Complete snapshots in a row that lack a key before it is removed.
    pub removed_after: u32,
    /// Bytes a record may have: key + value + headers + overhead.
    pub record_max: usize,
}

impl CellPlan {
    /// Whether key bytes are remembered: only removals that are published need them.
    #[must_use]
    pub fn keeps_keys(&self) -> bool {
        self.removed != Removed::Ignore && self.removed_after > 0
    }
}

/// All cells of this run, and what they share.
#[derive(Debug)]
pub struct Plan {
    /// The cells, in order of the configuration; a cell's place here is its `index` in messages.
    pub cells: Vec<CellPlan>,
    /// Seed of all hashes, from the lineage.
    pub seed: u64,
    /// The fingerprint rules that this directory ever used, by number.
    pub rules: Arc<Rules>,
}

impl Plan {
    /// How the snapshots of the cell at `index` are scanned, for so many workers.
    #[must_use]
    pub fn scan(&self, index: usize, workers: usize) -> Scan {
        let cell = &self.cells[index];
        Scan {
            keys: cell.keys.clone(),
            key_prefix: cell.key_prefix.clone(),
            key_suffix: cell.key_suffix.clone(),
            seed: self.seed,
            workers,
        }
    }
}

/// Some entries of a snapshot, and what they are known by.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Whole entries separated by commas.
    pub bytes: Bytes,
    /// How many there are.
    pub counts: Counts,
    /// For each worker the entries whose keys it owns.
    pub owned: Vec<Owned>,
}

/// The entries of a piece that one worker owns.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Owned {
    /// What the entries are known by, in the order of the piece.
    pub seen: Vec<Seen>,
    /// Where they are, in the same order.
    pub spans: Vec<Span>,
}

/// What a snapshot's entry is known by: 24 bytes without a gap.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Key hash in two halves, the top half first: 8-byte alignment keeps it small.
    pub hash: [u64; 2],
    /// Fingerprint of the raw bytes.
    pub raw: u64,
}

/// Where an entry of a piece is, and its key: 16 bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Span {
    /// Where the entry starts.
    pub offset: u32,
    /// How long it is.
    pub length: u32,
    /// Where in the entry the text of its key starts.
    pub key_offset: u32,
    /// How long the key is; 0: it is written with escapes.
    pub key_length: u32,
}

impl Owned {
    /// An empty one with room for so many entries; if none is kept, a new one with room for `fresh`.
    #[must_use]
    pub fn with_room(entries: usize, fresh: usize) -> Owned {
        Owned {
            seen: SEEN.take(entries, fresh),
            spans: SPANS.take(entries, fresh),
        }
    }

    /// An empty one with whatever room it has.
    #[must_use]
    pub fn with_any_room() -> Owned {
        Owned {
            seen: SEEN.take_any(),
            spans: SPANS.take_any(),
        }
    }

    /// Memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let seen = self.seen.capacity() * size_of::<Seen>();
        let spans = self.spans.capacity() * size_of::<Span>();
        (seen + spans) as u64
    }
}

/// Its memory is used again.
impl Drop for Owned {
    fn drop(&mut self) {
        SEEN.put_back(std::mem::take(&mut self.seen));
        SPANS.put_back(std::mem::take(&mut self.spans));
    }
}

/// What a successful poll returned.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The cell's place in [`Plan::cells`].
    pub index: usize,
    /// The poll that asked.
    pub poll: PollId,
    /// Whether it is the whole cell; a partial one never removes.
    pub complete: bool,
    /// When the last byte arrived (Unix ms).
    pub polled_at: u64,
    /// Its entries, in the order they arrived.
    pub pieces: Vec<Piece>,
    /// Fact that takes effect with the seal, unless an entry was skipped or a removal is pending (R9).
    pub validators: Option<String>,
    /// Where it was stored, if nobody was asked for it: it gets an epoch of its own (R1).
    pub stored: Option<Stored>,
}

/// What is special about a snapshot that was stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// How far its cell has come with it.
    pub place: Place,
    /// Keys that it says are gone. One that it has an entry of is not.
    pub gone: Vec<KeyHash>,
}

/// How far a cell has come: the newest snapshot that was decided. Ordered by time, then name. The fact
/// changes with the epoch, so that a backfill goes on with neither gap nor duplicate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When it was polled (Unix ms).
    pub polled_at: u64,
    /// Its name, if it was stored.
    pub name: Option<String>,
}

impl Place {
    /// The name of the fact.
    #[must_use]
    pub fn fact(cell: CellId) -> String {
        format!("polled/{:05}", cell.0)
    }

    /// Reads the fact.
    #[must_use]
    pub fn read(fact: &str) -> Option<Place> {
        let (polled_at, name) = match fact.split_once(' ') {
            Some((polled_at, name)) => (polled_at, Some(name.to_owned())),
            None => (fact, None),
        };
        let polled_at = polled_at.parse().ok()?;
        Some(Place { polled_at, name })
    }

    /// The fact.
    #[must_use]
    pub fn write(&self) -> String {
        match &self.name {
            Some(name) => format!("{} {name}", self.polled_at),
            None => self.polled_at.to_string(),
        }
    }
}

impl Snapshot {
    /// How far its cell has come with it.
    #[must_use]
    pub fn place(&self) -> Place {
        match &self.stored {
            Some(stored) => stored.place.clone(),
            None => Place {
                polled_at: self.polled_at,
                name: None,
            },
        }
    }
}

/// How the entries of one poll fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Entries in the body, duplicates and skipped ones included.
    pub entries: u64,
    /// Keys that were not there before.
    pub added: u64,
    /// Keys whose content differs.
    pub changed: u64,
    /// Keys that are gone.
    pub removed: u64,
    /// Keys found missing, not yet often enough to be removed.
    pub missing: u64,
    /// Entries without a usable key: they make the snapshot partial (R5).
    pub keyless: u64,
    /// Entries skipped because they are not JSON inside.
    pub malformed: u64,
    /// Entries skipped because their record would be too large.
    pub oversized: u64,
    /// Entries that came with a key that a later entry of the snapshot had too.
    pub duplicates: u64,
}

impl Tally {
    /// Adds what another worker counted.
    pub fn add(&mut self, other: &Tally) {
        self.entries += other.entries;
        self.added += other.added;
        self.changed += other.changed;
        self.removed += other.removed;
        self.missing += other.missing;
        self.keyless += other.keyless;
        self.malformed += other.malformed;
        self.oversized += other.oversized;
        self.duplicates += other.duplicates;
    }

    /// Number of changes.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.added + self.changed + self.removed
    }

    /// Entries that were not used.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.keyless + self.malformed + self.oversized
    }
}

/// What became of a snapshot; one message per poll id, back to whoever polls (R1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The cell's place in [`Plan::cells`].
    pub index: usize,
    /// The poll that asked.
    pub poll: PollId,
    /// Sealed, unchanged, or why it was not used.
    pub verdict: Verdict,
    /// How the entries fared; all zero for a failed poll.
    pub tally: Tally,
}

/// See [`Outcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The changes are sealed.
    Sealed,
    /// There was nothing to seal.
    Unchanged,
    /// The snapshot was not used, for this reason.
    Failed(String),
}

impl Outcome {
    /// Whether the snapshot's validators describe what the state holds (R9).
    #[must_use]
    pub fn validates(&self) -> bool {
        !matches!(self.verdict, Verdict::Failed(_)) && validates(&self.tally)
    }
}

/// Whether a snapshot with this tally may be skipped when it comes again (R9): nothing was skipped and
/// no removal is pending.
#[must_use]
pub fn validates(tally: &Tally) -> bool {
    tally.skipped() == 0 && tally.missing == 0
}
