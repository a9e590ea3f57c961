//! What the parts of a run count, gathered for whoever looks at the status.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::change::Seq;
use crate::dataflow::message::{Position, Who};
use crate::io::http::schedule::Attempt;
use crate::ledger::Ledger;
use crate::sinks::Counters;
use crate::snapshot::{Plan, Verdict};
use crate::status::{Polled, Status};

/// Brings counters into the status.
pub struct Mirror {
    status: Arc<Status>,
    /// By the cell's place in the plan.
    sources: Vec<String>,
    ledger: Ledger,
    counters: Counters,
    pages_written: Arc<AtomicU64>,
    /// Sealed by this run and not yet published, not yet archived: last batch, cell, changes.
    waiting: Mutex<[VecDeque<(Seq, usize, u64)>; 2]>,
}

impl Mirror {
    /// All counters of a run.
    #[must_use]
    pub fn new(
        status: Arc<Status>,
        plan: &Plan,
        ledger: Ledger,
        counters: Counters,
        pages_written: Arc<AtomicU64>,
    ) -> Mirror {
        let sources = plan.cells.iter().map(|cell| cell.source.clone()).collect();
        Mirror {
            status,
            sources,
            ledger,
            counters,
            pages_written,
            waiting: Mutex::default(),
        }
    }

    /// A cell's changes are sealed.
    pub fn sealed(&self, seq: Seq, index: usize, changes: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting[0].push_back((seq, index, changes));
        if self.counters.archive.is_some() {
            waiting[1].push_back((seq, index, changes));
        }
        drop(waiting);
        self.status.epochs.add(u64::from(changes > 0));
        self.refresh();
    }

    /// A follower has come this far.
    pub fn reached(&self, position: Position) {
        let queue = match position.who {
            Who::Remember => return,
            Who::Publish => 0,
            Who::Archive => 1,
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, index, changes)) =
            waiting[queue].pop_front_if(|(seq, _, _)| seq.0 <= position.seq)
        {
            match position.who {
                Who::Publish => self.status.published(&self.sources[index], changes),
                _ => self.status.archived(&self.sources[index], changes),
            }
        }
        drop(waiting);
        match position.who {
            Who::Publish => self.status.published.set(position.seq),
            _ => self.status.archived.set(position.seq),
        }
        self.refresh();
    }

    /// Takes over what the journal and the followers count.
    pub fn refresh(&self) {
        let journal = self.ledger.counters();
        self.status
            .batches
            .set(journal.batches.load(Ordering::Relaxed));
        self.status.syncs.set(journal.syncs.load(Ordering::Relaxed));
        self.status
            .sealed
            .set(journal.sealed.load(Ordering::Relaxed));
        self.status
            .journal_bytes
            .set(journal.bytes.load(Ordering::Relaxed));
        self.status
            .page_writes
            .set(self.pages_written.load(Ordering::Relaxed));
        if let Some(kafka) = &self.counters.kafka {
            self.status
                .transactions
                .set(kafka.transactions.load(Ordering::Relaxed));
        }
        if let Some(archive) = &self.counters.archive {
            self.status
                .objects
                .set(archive.objects.load(Ordering::Relaxed));
        }
    }
}

/// A cell's attempt is finished.
pub fn attempt(status: &Status, attempt: &Attempt) {
    status.polled(
        attempt.index,
        match &attempt.verdict {
            Verdict::Failed(reason) => Polled::Failed(reason),
            Verdict::Sealed | Verdict::Unchanged => Polled::Used(attempt.tally),
        },
    );
}
