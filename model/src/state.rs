//! What there is: directories on disk, processes, the broker, the bucket.
//!
//! Values. There are two keys of one cell, and the world is a number that grows: in world `w` the first
//! key has value `w`, the second the last even number up to `w`. So every second change of the world is
//! an epoch of two batches of one change each. Values never return, so that of two equal neighbours in
//! the topic one is there twice.
//!
//! Ghosts. What no program could know, and only properties look at: who decided a batch, on top of
//! which one ([`Batch::by`], [`Batch::after`]); all that a directory ever sealed; which starts it knew.

use crate::list::List;

/// Keys of the cell.
pub const KEYS: usize = 2;
/// Directories that can be there at once.
pub const SLOTS: usize = 2;
/// Batches that any list holds.
pub const BATCHES: usize = 8;

/// The number of a batch, from 1; 0: before the first.
pub type Seq = u8;
/// What each key is.
pub type Values = [u8; KEYS];
/// Batches in order.
pub type Batches = List<Batch, BATCHES>;

/// What the API answers in world `w`.
#[must_use]
pub fn answer(w: u8) -> Values {
    [w, w - w % 2]
}

/// What keys are after `batches`.
#[must_use]
pub fn fold(start: Values, batches: &[Batch]) -> Values {
    let mut values = start;
    for batch in batches {
        values[usize::from(batch.key)] = batch.value;
    }
    values
}

/// A batch of one change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Batch {
    /// Its number.
    pub seq: Seq,
    /// Whose key changed.
    pub key: u8,
    /// To what.
    pub value: u8,
    /// Whether it ends its epoch.
    pub last: bool,
    /// Ghost: the start that decided it.
    pub by: u8,
    /// Ghost: the `by` of the batch before it.
    pub after: u8,
}

impl Batch {
    /// Whether both are one batch. (Of a batch that is the last one published of a larger epoch, a
    /// rebuilt directory does not know that it did not end its epoch.)
    #[must_use]
    pub fn is(&self, other: &Batch) -> bool {
        (self.seq, self.by) == (other.seq, other.by)
    }
}

/// The world that an epoch was decided from, if `frames` end with the last of its batches: what rides in
/// that frame (R9).
#[must_use]
pub fn seen_by(frames: &[Batch]) -> Option<u8> {
    frames.last().filter(|batch| batch.last)?;
    let first = frames.iter().rfind(|batch| batch.key == 0);
    first.map(|batch| batch.value)
}

/// Whether `all` begins with `these` batches.
#[must_use]
pub fn begins_with(all: &[Batch], these: &[Batch]) -> bool {
    all.len() >= these.len() && all.iter().zip(these).all(|(one, other)| one.is(other))
}

/// A row of the table of incarnations (R17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// Counts the starts of a directory.
    pub n: u8,
    /// Stands for the random id.
    pub id: u8,
    /// Whether it may be in Kafka.
    pub fencing: bool,
    /// The last seq that was sealed under it; `None`: still current.
    pub last: Option<Seq>,
}

/// The small durable facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// `position/remember`.
    pub remember: Seq,
    /// `position/publish`.
    pub publish: Seq,
    /// `archive/position`.
    pub archive: Seq,
    /// `archive/TOPIC/P`: the last batch that is in an object. (Here a batch has one change, so that
    /// the next `first` follows from it.)
    pub archived: Seq,
    /// `validators/CELL`: the world whose answer they describe; 0: none.
    pub validators: u8,
    /// `incarnation/N`.
    pub table: List<Incarnation, 5>,
}

/// The state store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pages {
    /// What keys are.
    pub values: Values,
    /// The position that the store says it is at.
    pub at: Seq,
    /// The batch up to which pages may have been written, said before they are.
    pub begun: Seq,
}

/// How a process ended that must not be started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Exit code 3.
    Fenced,
    /// Exit code 4.
    Directory,
}

/// A directory on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Directory {
    /// The first batch that the journal holds, or the next one.
    pub oldest: Seq,
    /// Batches that are durable.
    pub batches: Batches,
    /// Facts that are durable.
    pub facts: Facts,
    /// Batches that are written and not synced: in the page cache at best.
    pub tail: List<Batch, 4>,
    /// A power cut took the first frame of the tail and left a later one.
    pub torn: bool,
    /// Only without R14: batches of a closed segment are in the page cache only.
    pub cached: bool,
    /// Only without R14: a power cut took them.
    pub hole: bool,
    /// The last batch of which a later batch, or the header of a segment, says that it was synced (R13);
    /// only where frames go bad.
    pub proven: Seq,
    /// A durable frame went bad, of this batch; 0: none.
    pub rotten: Seq,
    /// The pages as a process or a copy reads them.
    pub pages: Pages,
    /// The pages that are durable.
    pub flushed: Pages,
    /// How the last process ended, if nobody starts it again.
    pub ended: Option<Exit>,
    /// How often it was started.
    pub starts: u8,
    /// Ghost: something happened to it for which R13 or R16 ask for a refusal.
    pub damaged: bool,
    /// Ghost: all that was ever sealed in it.
    pub history: Batches,
    /// Ghost: the starts that it knows, as bits.
    pub known: u16,
}

/// Where a publisher is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// No producer.
    Out,
    /// The record that was read before fencing is ours.
    Judged,
    /// The fencing mark is durable.
    Marked,
    /// `init_transactions` has returned.
    Inited,
    /// The record that was read after it is ours; nothing was committed yet.
    First,
    /// Between transactions.
    Ready,
    /// All of a transaction up to this seq is delivered.
    Sent(Seq),
    /// Asked to stop before anything was committed.
    Stopped,
    /// Only without R20: does nothing any more.
    GaveUp,
}

/// The publisher of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Publisher {
    /// Where it is.
    pub step: Step,
    /// What is proven to be committed.
    pub position: Seq,
    /// Whether a transaction of this start is known to be committed.
    pub committed: bool,
    /// The producer's epoch.
    pub epoch: u8,
    /// How often it was fenced before its first commit.
    pub fenced: u8,
}

/// A running process: what a crash takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Whether it has its incarnation and its state.
    pub begun: bool,
    /// The facts as they are visible, with lazy ones.
    pub facts: Facts,
    /// Its incarnation.
    pub n: u8,
    /// And that one's id.
    pub id: u8,
    /// Ghost: this start.
    pub by: u8,
    /// What followers may read.
    pub sealed: Seq,
    /// What keys are as decided.
    pub decided: Values,
    /// What keys are as sealed.
    pub values: Values,
    /// Up to where each worker has written its pages.
    pub written: [Seq; KEYS],
    /// Brings batches to the broker.
    pub publisher: Publisher,
    /// What the archive was told.
    pub published: Option<Seq>,
    /// Where the archive began to read the journal.
    pub archive_from: Seq,
    /// The last batch that the archive knows to be in an object.
    pub archived: Seq,
}

/// A progress record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Progress {
    /// The incarnation that wrote it.
    pub n: u8,
    /// And its id.
    pub id: u8,
    /// The last batch that is committed.
    pub seq: Seq,
    /// Ghost: the start that wrote it.
    pub by: u8,
}

/// What is in a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// Changes.
    pub batches: Batches,
    /// And the record that says so.
    pub progress: Option<Progress>,
}

/// The broker, as far as it concerns our transactional id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Broker {
    /// The epoch that may write.
    pub epoch: u8,
    /// The transaction that is open in that epoch.
    pub open: Option<Transaction>,
    /// What a `read_committed` reader sees.
    pub topic: Batches,
    /// The last committed progress record.
    pub progress: Option<Progress>,
    /// A commit is on its way, of this epoch; the producer that sent it is gone.
    pub late_commit: Option<u8>,
    /// A record is on its way; nobody waits for it any more.
    pub late_record: Option<(u8, Batch)>,
}

/// An archive object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Object {
    /// Its name: the index of the first change, counted from 1.
    pub first: Seq,
    /// Its records.
    pub records: List<Batch, 6>,
}

/// The bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// What is there, in order of creation.
    pub objects: List<Object, 5>,
    /// A PUT that is on its way.
    pub late: Option<Object>,
}

/// A rebuild that is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rebuild {
    /// The progress record that it read.
    pub record: Option<Progress>,
    /// How much of the topic it read.
    pub read: Option<Seq>,
}

/// How often what may happen did happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    pub(crate) expiries: u8,
    pub(crate) copies: u8,
    pub(crate) rebuilds: u8,
    pub(crate) lost_disks: u8,
    pub(crate) rot: u8,
    pub(crate) mixes: u8,
    pub(crate) stops: u8,
}

/// Everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// What the API answers.
    pub world: u8,
    /// Directories.
    pub directories: [Option<Directory>; SLOTS],
    /// The process of each.
    pub processes: [Option<Process>; SLOTS],
    /// Kafka.
    pub broker: Broker,
    /// The object store.
    pub bucket: Bucket,
    /// Into the second slot.
    pub rebuild: Option<Rebuild>,
    /// Faults so far.
    pub spent: Spent,
    /// Ghost: starts so far.
    pub starts: u8,
    /// Ghost: what an action found out.
    pub found: Option<crate::properties::Property>,
}

impl Directory {
    /// An empty one.
    #[must_use]
    pub fn new() -> Directory {
        Directory {
            oldest: 1,
            ..Directory::default()
        }
    }

    /// The last durable batch.
    #[must_use]
    pub fn end(&self) -> Seq {
        self.oldest + length(&self.batches) - 1
    }

    /// A batch that the journal holds, synced or not.
    #[must_use]
    pub fn batch(&self, seq: Seq) -> Option<Batch> {
        let mut all = self.batches.iter().chain(self.tail.iter());
        all.find(|batch| batch.seq == seq).copied()
    }
}

/// As a seq counts.
#[must_use]
pub fn length(batches: &[Batch]) -> Seq {
    u8::try_from(batches.len()).expect("short lists")
}

impl State {
    /// One empty directory.
    #[must_use]
    pub fn start() -> State {
        State {
            directories: [Some(Directory::new()), None],
            ..State::default()
        }
    }

    pub(crate) fn directory(&mut self, at: usize) -> &mut Directory {
        self.directories[at].as_mut().expect("it is there")
    }

    pub(crate) fn process(&mut self, at: usize) -> &mut Process {
        self.processes[at].as_mut().expect("it runs")
    }

    /// Both, of a process that runs.
    pub(crate) fn both(&mut self, at: usize) -> (&mut Directory, &mut Process) {
        let directory = self.directories[at].as_mut().expect("it is there");
        (directory, self.processes[at].as_mut().expect("it runs"))
    }

    /// Remembers what an action found out; the first counts.
    pub(crate) fn find(&mut self, property: crate::properties::Property) {
        self.found.get_or_insert(property);
    }
}
