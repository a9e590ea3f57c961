//! What crosses the graph. Everything is moved, never serialised, within one process; serde is what
//! timely's exchange asks for.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use deltapoll_state::journal::Sealed;

use crate::change::{Epoch, Seq};
use crate::snapshot::{PollId, Snapshot, Tally};

/// To `poll`, from outside the graph.
#[derive(Debug)]
pub enum Arrival {
    /// A poll succeeded.
    Snapshot(Snapshot),
    /// The epoch in the graph is decided and handed to the journal: the next may come.
    Decided {
        /// Which.
        epoch: Epoch,
        /// Whether a snapshot of it could not be used.
        failed: bool,
    },
    /// No snapshot comes after this: save what is in memory and say so.
    Close,
}

/// From `poll` to `extract`, on worker `to`.
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
    Manifest(Manifest),
    /// Whole entries of a snapshot.
    Piece {
        /// The snapshot's cell and poll.
        of: PollRef,
        /// Place of the piece in the snapshot, from 0.
        number: u32,
        /// The entries, separated by commas.
        bytes: Bytes,
    },
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

/// What a snapshot consists of (R3).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The snapshot.
    pub of: PollRef,
    /// Whether it is the whole cell.
    pub complete: bool,
    /// Hashes of keys that it says are gone, in order: those that the worker owns.
    pub gone: Vec<u128>,
    /// How many pieces there are.
    pub pieces: u32,
    /// When the last byte arrived (Unix ms).
    pub polled_at: u64,
    /// The validators fact; for worker 0 only.
    pub validators: Option<String>,
    /// How far the cell has come with it, as a fact; for worker 0 only.
    pub place: Option<String>,
}

/// From `extract` to `dedup`, on worker `to`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Extracted {
    /// The worker that this goes to.
    pub to: usize,
    /// What it is.
    pub item: ExtractedItem,
}

/// See [`Extracted`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ExtractedItem {
    /// As it came.
    Manifest(Manifest),
    /// The entries of one piece whose keys this worker owns.
    Chunk(Chunk),
    /// One per piece, to every worker.
    Trailer(Trailer),
    /// As it came.
    Close,
}

/// The entries of one piece that one worker owns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Chunk {
    /// The snapshot.
    pub of: PollRef,
    /// The piece.
    pub number: u32,
    /// The piece's bytes, which the offsets point into.
    pub bytes: Bytes,
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

/// Where an entry of a chunk is, and its key: 16 bytes.
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

/// How a piece fared (R3).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trailer {
    /// The snapshot.
    pub of: PollRef,
    /// The piece.
    pub number: u32,
    /// Entries and keyless entries, or what is malformed.
    pub outcome: Result<Counts, String>,
}

/// See [`Trailer`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Entries in the piece.
    pub entries: u64,
    /// Entries without a usable key.
    pub keyless: u64,
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
    /// The counts, or why the snapshot is not used (all workers say the same).
    pub outcome: Result<Tally, String>,
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
