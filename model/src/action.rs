//! What may happen next. Each action says which rules it follows.

use std::fmt;

use crate::state::{SLOTS, Seq, State};
use crate::{Bounds, broker, bucket, faults, journal, process, rebuild};

const NAMES: [&str; SLOTS] = ["A", "B"];

/// A step of somebody; `at` is the directory's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "Display says what each is")]
pub enum Action {
    Open {
        at: usize,
    },
    Begin {
        at: usize,
    },
    Poll {
        at: usize,
        new: bool,
    },
    Sync {
        at: usize,
    },
    SyncFails {
        at: usize,
    },
    Stop {
        at: usize,
    },
    End {
        at: usize,
    },
    WritePages {
        at: usize,
        worker: usize,
    },
    Flush {
        at: usize,
    },
    Retire {
        at: usize,
    },
    ReadProgress {
        at: usize,
    },
    MarkFencing {
        at: usize,
    },
    Init {
        at: usize,
    },
    ReadAgain {
        at: usize,
    },
    Produce {
        at: usize,
        upto: Seq,
    },
    ProduceUnanswered {
        at: usize,
        upto: Seq,
    },
    Commit {
        at: usize,
    },
    CommitUnanswered {
        at: usize,
    },
    CommitLate {
        at: usize,
    },
    LateCommit,
    LateRecord,
    Expire,
    Put {
        at: usize,
        upto: Seq,
    },
    PutLate {
        at: usize,
        upto: Seq,
    },
    LatePut,
    RecordArchived {
        at: usize,
    },
    Kill {
        at: usize,
        keep: usize,
        pages: bool,
    },
    PowerCut {
        at: usize,
        keep: usize,
        pages: bool,
        torn: bool,
    },
    Copy {
        tail: bool,
        pages: bool,
    },
    LoseDisk,
    Rot {
        seq: Seq,
    },
    Mix {
        from: usize,
        to: usize,
    },
    RebuildRecord,
    RebuildTopic,
    RebuildFinish,
}

impl Action {
    /// Whether it is nobody's duty: a fault, or somebody's idea.
    #[must_use]
    pub fn is_fault(self) -> bool {
        matches!(
            self,
            Action::ProduceUnanswered { .. }
                | Action::CommitUnanswered { .. }
                | Action::CommitLate { .. }
                | Action::LateCommit
                | Action::LateRecord
                | Action::Expire
                | Action::PutLate { .. }
                | Action::LatePut
                | Action::Kill { .. }
                | Action::SyncFails { .. }
                | Action::Stop { .. }
                | Action::PowerCut { .. }
                | Action::Copy { .. }
                | Action::LoseDisk
                | Action::Rot { .. }
                | Action::Mix { .. }
        )
    }

    fn slot(self) -> Option<usize> {
        match self {
            Action::Open { at }
            | Action::Begin { at }
            | Action::Poll { at, .. }
            | Action::Sync { at }
            | Action::SyncFails { at }
            | Action::Stop { at }
            | Action::End { at }
            | Action::WritePages { at, .. }
            | Action::Flush { at }
            | Action::Retire { at }
            | Action::ReadProgress { at }
            | Action::MarkFencing { at }
            | Action::Init { at }
            | Action::ReadAgain { at }
            | Action::Produce { at, .. }
            | Action::ProduceUnanswered { at, .. }
            | Action::Commit { at }
            | Action::CommitUnanswered { at }
            | Action::CommitLate { at }
            | Action::Put { at, .. }
            | Action::PutLate { at, .. }
            | Action::RecordArchived { at }
            | Action::Kill { at, .. }
            | Action::PowerCut { at, .. } => Some(at),
            _ => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.slot() {
            write!(f, "{}: ", NAMES[at])?;
        }
        match self {
            Action::Open { .. } => f.write_str("opens its journal [R13 R14 R16]"),
            Action::Begin { .. } => f.write_str("opens an incarnation, replays [R17 R28]"),
            Action::Poll { new: false, .. } => f.write_str("polls, decides, appends [R1 R9 R12]"),
            Action::Poll { new: true, .. } => {
                f.write_str("the world moves; polls, decides, appends [R1 R9 R12]")
            }
            Action::Sync { .. } => f.write_str("fsync: seals [R12]"),
            Action::SyncFails { .. } => f.write_str("fsync fails [R15]"),
            Action::Stop { .. } => f.write_str("is asked to stop before Kafka answered [R31]"),
            Action::End { .. } => f.write_str("ends [R31]"),
            Action::WritePages { worker, .. } => {
                write!(f, "worker {worker} writes its pages [R27]")
            }
            Action::Flush { .. } => f.write_str("flushes pages, then their position [R27]"),
            Action::Retire { .. } => f.write_str("rolls and retires [R14 R30]"),
            Action::ReadProgress { .. } => f.write_str("reads progress [R18]"),
            Action::MarkFencing { .. } => f.write_str("marks that it may fence [R17]"),
            Action::Init { .. } => f.write_str("init_transactions [R18 R19]"),
            Action::ReadAgain { .. } => f.write_str("reads progress to the end [R17 R18 R19]"),
            Action::Produce { upto, .. } => write!(f, "produces up to {upto} [R21]"),
            Action::ProduceUnanswered { upto, .. } => {
                write!(
                    f,
                    "produces up to {upto}, the last record is on its way [R19 R21]"
                )
            }
            Action::Commit { .. } => f.write_str("commits [R21]"),
            Action::CommitUnanswered { .. } => f.write_str("commits, the answer is lost [R19]"),
            Action::CommitLate { .. } => f.write_str("asks for a commit that is on its way [R19]"),
            Action::LateCommit => f.write_str("broker: a late commit arrives [R19]"),
            Action::LateRecord => f.write_str("broker: a late record arrives [R19]"),
            Action::Expire => f.write_str("broker: the transaction expires [R19]"),
            Action::Put { upto, .. } => write!(f, "puts an object up to {upto} [R24 R25]"),
            Action::PutLate { upto, .. } => {
                write!(f, "puts an object up to {upto}, which is on its way [R25]")
            }
            Action::LatePut => f.write_str("bucket: a late PUT arrives [R25]"),
            Action::RecordArchived { .. } => f.write_str("records what is archived [R24]"),
            Action::Kill { keep, pages, .. } => {
                write!(f, "killed; {keep} unsynced frames are left")?;
                f.write_str(if *pages { "" } else { ", only flushed pages" })
            }
            Action::PowerCut {
                keep, pages, torn, ..
            } => {
                write!(f, "power cut; {keep} unsynced frames are left")?;
                f.write_str(if *torn { ", behind a torn one" } else { "" })?;
                f.write_str(if *pages { "" } else { ", only flushed pages" })
            }
            Action::Copy { tail, pages } => {
                f.write_str("A is copied to B")?;
                f.write_str(if *tail { ", unsynced frames too" } else { "" })?;
                f.write_str(if *pages { "" } else { ", only flushed pages" })
            }
            Action::LoseDisk => f.write_str("the disk of A is lost"),
            Action::Rot { seq } => write!(f, "a durable frame of A goes bad, batch {seq} [R13]"),
            Action::Mix { from, to } => {
                let (from, to) = (NAMES[*from], NAMES[*to]);
                write!(
                    f,
                    "the state of {from} is put into {to}, the rest of {from} is gone [R16]"
                )
            }
            Action::RebuildRecord => f.write_str("rebuild of B reads the record [R35]"),
            Action::RebuildTopic => f.write_str("rebuild of B reads the topic [R35]"),
            Action::RebuildFinish => f.write_str("rebuild of B looks again, ends [R35]"),
        }
    }
}

/// An action, and what there is after it.
pub type Successor = (Action, State);

/// Everything that may happen next.
pub fn successors(state: &State, bounds: &Bounds, out: &mut Vec<Successor>) {
    for at in 0..SLOTS {
        process::successors(state, bounds, at, out);
        journal::successors(state, bounds, at, out);
        broker::successors(state, bounds, at, out);
        bucket::successors(state, bounds, at, out);
        faults::successors(state, bounds, at, out);
    }
    broker::late(state, out);
    bucket::late(state, out);
    faults::of_all(state, bounds, out);
    rebuild::successors(state, bounds, out);
}
