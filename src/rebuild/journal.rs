//! The journal of a directory that is made again: facts, and the batches that the archive still needs.

use std::path::Path;

use deltapoll_state::journal::{Journal, Options, Sealed};

use crate::change::{Builder, CellId, Epoch, Head, Seq};
use crate::fault::Fault;

use super::draft::Draft;
use super::spool::Spool;

/// Synced at once, at the end of an epoch.
const SYNC_BYTES: usize = 64 << 20;

/// Founds the journal in `dir`, with every fact of `facts`, so that it ends with `sealed`. The batches in
/// `spool` are its last ones; what is between them, and of which nothing waits for the archive, is there
/// as an empty batch.
///
/// # Errors
/// When batches do not follow each other as one directory's do, or the journal cannot be written.
pub fn found(dir: &Path, facts: Draft, spool: Option<Spool>, sealed: Sealed) -> Result<(), Fault> {
    let first = spool.as_ref().and_then(Spool::first);
    let start = first.map_or(sealed, |(seq, epoch)| Sealed {
        seq: Seq(seq.0 - 1),
        epoch: Epoch(epoch.0.saturating_sub(1)),
    });
    let options = Options::default();
    let journal = Journal::found(dir, options, start, facts.into_facts()).map_err(wrong)?;
    let mut writer = Writer {
        journal,
        held: None,
        last: start,
        unsynced: 0,
    };
    let mut batches = match spool {
        Some(spool) if first.is_some() => Some(spool.batches()?),
        _ => None,
    };
    while let Some(batches) = &mut batches
        && let Some(batch) = batches.next_batch()?
    {
        // What is not known of a batch is its epoch too; that of the next will do.
        writer.fill(batch.seq, batch.epoch)?;
        writer.push(batch.epoch, batch.body)?;
    }
    writer.fill(sealed.seq.next(), sealed.epoch)?;
    writer.finish(sealed)
}

struct Writer {
    journal: Journal,
    /// A batch that waits for the next, which tells whether it is the last of its epoch.
    held: Option<Vec<u8>>,
    /// The last batch that came.
    last: Sealed,
    unsynced: usize,
}

impl Writer {
    /// Empty batches up to before `next`.
    fn fill(&mut self, next: Seq, epoch: Epoch) -> Result<(), Fault> {
        while self.last.seq.next() < next {
            self.push(epoch, empty())?;
        }
        Ok(())
    }

    fn push(&mut self, epoch: Epoch, body: Vec<u8>) -> Result<(), Fault> {
        if epoch < self.last.epoch || (self.held.is_none() && epoch == self.last.epoch) {
            return Err(Fault::directory(format!(
                "batch {} of epoch {epoch} follows one of epoch {}: somebody else wrote to the topics; \
                 set archive.url to another prefix",
                self.last.seq.next(),
                self.last.epoch
            )));
        }
        self.release(epoch > self.last.epoch)?;
        self.held = Some(body);
        self.last = Sealed {
            seq: self.last.seq.next(),
            epoch,
        };
        Ok(())
    }

    /// Appends what waits; `ends`: it is the last of its epoch.
    fn release(&mut self, ends: bool) -> Result<(), Fault> {
        let Some(body) = self.held.take() else {
            return Ok(());
        };
        let Sealed { seq, epoch } = self.last;
        let end = ends.then_some(&[][..]);
        let appended = self.journal.append(epoch, &body, end).map_err(wrong)?;
        assert_eq!(appended, seq, "batches keep their numbers");
        self.unsynced += body.len();
        if ends && self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            self.journal.sync().map_err(wrong)?;
        }
        Ok(())
    }

    fn finish(mut self, wanted: Sealed) -> Result<(), Fault> {
        self.release(true)?;
        let sealed = self.journal.sync().map_err(wrong)?;
        assert_eq!(sealed.seq, wanted.seq, "the journal ends where publish is");
        Ok(())
    }
}

/// A batch of which nothing is known but that it was there.
fn empty() -> Vec<u8> {
    let head = Head {
        cell: CellId(0),
        polled_at: 0,
        topic: String::new(),
        source: String::new(),
        label: String::new(),
    };
    Builder::empty(&head)
}

fn wrong(error: deltapoll_state::error::Error) -> Fault {
    Fault::directory(error.to_string())
}
