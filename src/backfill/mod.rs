//! Backfill: stored snapshots through the same graph, into the same state, with the same promises.
//!
//! Each snapshot is an epoch of its own (R1), decided in order of time; how far each cell has come is
//! sealed with what changed, so that a backfill that was killed goes on with neither gap nor duplicate.
//! A pending removal (R8) is forgotten by a kill, as it is live: it is only delayed.
//!
//! Layout, in reading order:
//!
//! * [`pattern`]: what names say: cell and time.
//! * [`places`]: where they are stored, and what is there.
//! * [`inputs`]: which snapshots there are, in which order.
//! * [`read`]: a file, decompressed, cut into pieces and scanned.
//! * [`avro`]: the entries of an Avro object file.
//! * [`archive`]: the changes in an archive of ours, epoch by epoch.
//! * [`ahead`]: reading ahead, in order, within the memory that is allowed.
//! * [`feed`]: handing in, and waiting for what becomes of it.
//! * [`progress`]: how far it is, for people.
//! * [`letters`]: the list of files that could not be used.
//! * [`count`]: what a backfill would read, without doing it.

pub mod ahead;
pub mod archive;
pub mod avro;
pub mod count;
pub mod feed;
pub mod inputs;
pub mod letters;
pub mod pattern;
pub mod places;
pub mod progress;
pub mod read;

use std::fmt;
use std::time::Duration;

use indicatif::HumanBytes;

use crate::follower::Facts;
use crate::snapshot::{Place, Tally};

use inputs::Inputs;

/// What to do with a file that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnBad {
    /// Stop there, name it; what came before it is sealed.
    #[default]
    Stop,
    /// Write its name and the reason into DATA_DIR/dead-letters.ndjson, and go on without it.
    SetAside,
}

/// A backfill to be done.
#[derive(Debug)]
pub struct Work {
    /// What is read.
    pub inputs: Inputs,
    /// What becomes of files that cannot be used.
    pub on_bad: OnBad,
    /// Whether polling begins when it is done.
    pub then_run: bool,
}

impl Inputs {
    /// Leaves out what the state is past. `cell` gives the number of a cell by its place among all.
    pub fn after(&mut self, facts: &dyn Facts, cell: impl Fn(usize) -> crate::change::CellId) {
        let before = self.files.len();
        self.files.retain(|file| {
            let come = facts.get(&Place::fact(cell(file.index)));
            let come = come.and_then(|fact| Place::read(&fact));
            come.is_none_or(|come| come < file.place)
        });
        self.past = (before - self.files.len()) as u64;
    }
}

/// What a backfill did.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Snapshots decided.
    pub snapshots: u64,
    /// Of these, those that found no change.
    pub unchanged: u64,
    /// Snapshots that were to be read, if that was known.
    pub of: Option<u64>,
    /// Bytes of them, after decompression.
    pub bytes: u64,
    /// How their entries fared.
    pub tally: Tally,
    /// Files that were set aside.
    pub bad: u64,
    /// How long it took, until the last was sealed.
    pub took: Duration,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        let seconds = self.took.as_secs_f64().max(0.001);
        write!(
            f,
            "{}{} snapshots ({} without a change), {} entries in {:.1} s ({:.0}/s, {}): +{} ~{} -{}",
            self.snapshots,
            self.of.map(|of| format!(" of {of}")).unwrap_or_default(),
            self.unchanged,
            tally.entries,
            seconds,
            tally.entries as f64 / seconds,
            HumanBytes(self.bytes),
            tally.added,
            tally.changed,
            tally.removed,
        )?;
        let counted = [
            (tally.keyless, "entries without a key"),
            (tally.malformed, "malformed entries"),
            (tally.oversized, "entries too large"),
            (
                tally.duplicates,
                "entries replaced by a later one of their snapshot",
            ),
            (self.bad, "files set aside"),
        ];
        for (count, what) in counted.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}
