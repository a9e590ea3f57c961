//! What crosses the graph. Everything is moved, never serialised, within one process; serde is what
//! timely's exchange asks for.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use deltapoll_state::journal::Sealed;

use crate::change::Seq;
use crate::io::json::extract::Counts;
use crate::snapshot::{Owned, PollId, Snapshot, Tally};

/// To `poll`, from outside the graph.
#[derive(Debug)]
pub enum Arrival {
    /// A poll succeeded.
    Snapshot(Snapshot),
    /// The epoch in the graph is decided and handed to the journal: the next may come.
    Decided,
    /// No snapshot comes after this: save what is in memory and say so.
    Close,
}

/// From `poll` to `dedup`, on worker `to`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Polled {
    /// The worker that this goes to.
    pub to: usize,
    /// What it is.
    pub item: PolledItem,
}

/// See [`Polled`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PolledItem {
    /// Goes to every worker, once per snapshot (R3).
    Part(Part),
    /// The last message of all.
    Close,
}

/// Which snapshot something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PollRef {
    /// The cell's place in the plan.
    pub index: usize,
    /// The poll.
    pub poll: PollId,
}

/// All that one worker gets of a snapshot (R3): in one message, so that none of it can be missing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The snapshot.
    pub of: PollRef,
    /// Whether it is the whole cell.
    pub complete: bool,
    /// Entries of the whole snapshot.
    pub counts: Counts,
    /// Those that the worker owns, piece by piece, in order.
    pub chunks: Vec<Chunk>,
    /// Hashes of keys that it says are gone, in order: those that the worker owns.
    pub gone: Vec<u128>,
    /// When the last byte arrived (Unix ms).
    pub polled_at: u64,
    /// The validators fact; for worker 0 only.
    pub validators: Option<String>,
    /// How far the cell has come with it, as a fact; for worker 0 only.
    pub place: Option<String>,
}

/// The entries of one piece that one worker owns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Chunk {
    /// The piece's bytes, which the spans point into.
    pub bytes: Bytes,
    /// The entries.
    pub owned: Owned,
}

/// From `dedup` on every worker to `journal` on worker 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Decided {
    /// An encoded batch.
    Batch(Vec<u8>),
    /// What one worker found in one snapshot, once for each worker and snapshot.
    Share(Share),
    /// One worker has saved what it had in memory.
    Closed,
}

/// One worker's share of a decided snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Share {
    /// The snapshot.
    pub of: PollRef,
    /// How the entries fared.
    pub tally: Tally,
    /// The validators fact; from worker 0 only.
    pub validators: Option<String>,
    /// How far the cell has come, as a fact; from worker 0 only.
    pub place: Option<String>,
}

/// From `journal` to the followers: sealed up to here.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// The last sealed batch.
    pub seq: u64,
    /// Its epoch.
    pub epoch: u64,
    /// Bytes of batches sealed since the process started.
    pub bytes: u64,
    /// Nothing comes after this: write what waits.
    pub last: bool,
}

impl Mark {
    /// IMPORTANT: of `sealed` alone. One fsync may seal several epochs; a mark that named the last
    /// batch of all beside the epoch of one would have `remember` report batches that it did not write.
    #[must_use]
    pub fn new(sealed: Sealed, bytes: u64, last: bool) -> Mark {
        Mark {
            seq: sealed.seq.0,
            epoch: sealed.epoch.0,
            bytes,
            last,
        }
    }

    /// The last sealed batch.
    #[must_use]
    pub fn seq(&self) -> Seq {
        Seq(self.seq)
    }
}

/// From a follower to `retire`: durable up to here.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Position {
    /// Which follower.
    pub who: Who,
    /// The last batch that it has made durable.
    pub seq: u64,
    /// Answers a mark that was the last.
    pub last: bool,
}

/// The followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Who {
    /// State.
    Remember,
    /// Kafka or the local topic log.
    Publish,
    /// Objects.
    Archive,
}

impl Who {
    /// The name of the follower's position among the facts.
    #[must_use]
    pub fn fact(self) -> &'static str {
        match self {
            Who::Remember => "position/remember",
            Who::Publish => "position/publish",
            Who::Archive => "archive/position",
        }
    }
}
