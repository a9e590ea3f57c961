//! Journal: where an epoch is sealed, on worker 0.
//!
//! Batches are handed to the journal's thread as they come (one epoch is decided at a time, so its
//! frames are contiguous, R12); the last one is held back until the frontier has passed the epoch and
//! carries the facts that change with it: validators, and how far each cell has come. An epoch without
//! changes touches neither the journal nor the disk. What is sealed goes on as a mark, at the epoch that it
//! ends; every poll gets its outcome, once, when it is sealed or unchanged (R1).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::scheduling::SyncActivator;

use deltapoll_state::fail;
use deltapoll_state::journal::{FactChange, Sealed};

use crate::change::{Epoch, Seq};
use crate::follower::Facts;
use crate::ledger::Ledger;
use crate::snapshot::{Outcome, Place, Plan, Tally, Verdict, validates};

use super::message::{Decided, Mark, PollRef, Share};

/// What `journal` needs on worker 0.
pub struct Sealing {
    /// The journal.
    pub ledger: Ledger,
    /// The cells.
    pub plan: Arc<Plan>,
    /// Counts the bytes given to the journal and not yet written.
    pub unwritten: Arc<AtomicUsize>,
    /// What was sealed when the process started: followers may be behind it.
    pub start: Sealed,
    /// Told each poll's outcome, with the last batch of its epoch if it has any, on the worker's or the
    /// journal's thread.
    pub outcome: Arc<dyn Fn(Outcome, Option<Seq>) + Send + Sync>,
}

impl Sealing {
    fn append(&self, epoch: Epoch, body: Vec<u8>, end: Option<Vec<FactChange>>) {
        self.unwritten.fetch_add(body.len(), Ordering::AcqRel);
        let unwritten = self.unwritten.clone();
        self.ledger.append(epoch, body, unwritten, end);
    }
}

/// The fact that holds a cell's validators (R9).
#[must_use]
pub fn validators_fact(cell: crate::change::CellId) -> String {
    format!("validators/{}", cell.0)
}

/// Builds the operator; `sealing` is there on worker 0 only. `next` is called when an epoch is
/// decided: `poll` may release the next.
pub fn journal<'scope>(
    decided: StreamVec<'scope, u64, Decided>,
    sealing: Option<Sealing>,
    next: impl Fn() + 'static,
) -> StreamVec<'scope, u64, Mark> {
    let scope = decided.scope();
    let workers = scope.peers();
    decided.unary_frontier(
        Exchange::new(|_: &Decided| 0),
        "Journal",
        move |first, info| {
            let waker = scope.worker().sync_activator_for(info.address.to_vec());
            let mut journal = sealing.map(|sealing| Journal::new(sealing, workers, waker));
            let mut first = Some(first);
            move |(input, frontier), output| {
                let first = first.take();
                let Some(journal) = &mut journal else { return };
                if let Some(first) = first {
                    let mark = Mark::new(journal.sealing.start, 0, false);
                    output.session(&first).give(mark);
                }
                input.for_each(|time, data| {
                    let capability = time.retain_least(0).expect("a message has a time");
                    journal.take(capability, data.drain(..));
                });
                journal.finish(|epoch| !frontier.frontier().less_equal(&epoch), &next);
                for (capability, mark) in journal.marks() {
                    output.session(&capability).give(mark);
                }
            }
        },
    )
}

struct Journal {
    sealing: Sealing,
    workers: usize,
    open: BTreeMap<u64, Open>,
    /// Epochs on their way to the disk, in order.
    sealing_epochs: BTreeMap<u64, Capability<u64>>,
    sealed: Receiver<(Epoch, Sealed)>,
    sealed_sender: Sender<(Epoch, Sealed)>,
    waker: SyncActivator,
    bytes: u64,
    closed: bool,
}

/// An epoch that the frontier has not passed.
struct Open {
    capability: Capability<u64>,
    /// The last batch so far; all before it are with the journal's thread.
    held: Option<Vec<u8>>,
    shares: BTreeMap<PollRef, Shares>,
    closed: usize,
}

#[derive(Default)]
struct Shares {
    workers: usize,
    tally: Tally,
    validators: Option<String>,
    place: Option<String>,
}

impl Journal {
    fn new(sealing: Sealing, workers: usize, waker: SyncActivator) -> Journal {
        let (sealed_sender, sealed) = channel();
        Journal {
            sealing,
            workers,
            open: BTreeMap::new(),
            sealing_epochs: BTreeMap::new(),
            sealed,
            sealed_sender,
            waker,
            bytes: 0,
            closed: false,
        }
    }

    fn take(&mut self, capability: Capability<u64>, data: impl Iterator<Item = Decided>) {
        let epoch = *capability.time();
        let open = self.open.entry(epoch).or_insert_with(|| Open {
            capability,
            held: None,
            shares: BTreeMap::new(),
            closed: 0,
        });
        for decided in data {
            match decided {
                Decided::Batch(body) => {
                    self.bytes += body.len() as u64;
                    // IMPORTANT: what is held back does not count, or one batch as large as the budget
                    // would keep away the very batch after which it is written.
                    self.sealing
                        .unwritten
                        .fetch_sub(body.len(), Ordering::AcqRel);
                    if let Some(body) = open.held.replace(body) {
                        self.sealing.append(Epoch(epoch), body, None);
                    }
                }
                Decided::Share(share) => open.shares.entry(share.of).or_default().add(share),
                Decided::Closed => open.closed += 1,
            }
        }
        assert!(self.open.len() == 1, "one epoch is decided at a time");
    }

    fn finish(&mut self, passed: impl Fn(u64) -> bool, next: &impl Fn()) {
        while let Some(entry) = self.open.first_entry() {
            let epoch = *entry.key();
            if !passed(epoch) {
                break;
            }
            let open = entry.remove();
            self.finish_epoch(Epoch(epoch), open);
            next();
        }
    }

    fn finish_epoch(&mut self, epoch: Epoch, open: Open) {
        let sealing = &self.sealing;
        let closing = open.closed == self.workers;
        let mut facts = Vec::new();
        let mut outcomes = Vec::new();
        for (of, shares) in open.shares {
            assert_eq!(
                shares.workers, self.workers,
                "a share of each worker for {of:?}"
            );
            let cell = &sealing.plan.cells[of.index];
            facts.extend(shares.validators_change(validators_fact(cell.id), &sealing.ledger));
            // How far the cell has come.
            facts.push((Place::fact(cell.id), shares.place.clone()));
            outcomes.push(shares.outcome(of));
        }
        match open.held {
            Some(body) => {
                sealing.append(epoch, body, Some(facts));
                self.sealing_epochs.insert(epoch.0, open.capability);
                self.seal(epoch, outcomes);
            }
            None => {
                if !facts.is_empty() {
                    sealing.ledger.set_lazily(facts);
                }
                outcomes
                    .into_iter()
                    .for_each(|outcome| (sealing.outcome)(outcome, None));
                if closing {
                    self.sealing_epochs.insert(epoch.0, open.capability);
                    self.seal(epoch, Vec::new());
                }
            }
        }
        self.closed |= closing;
    }

    fn seal(&self, epoch: Epoch, outcomes: Vec<Outcome>) {
        let (sender, waker) = (self.sealed_sender.clone(), self.waker.clone());
        let outcome = self.sealing.outcome.clone();
        self.sealing.ledger.seal(move |sealed| {
            // Before the mark: who counts has to know of an epoch before it is published, and `publish`
            // may take it along with the one before.
            outcomes
                .into_iter()
                .for_each(|one| outcome(one, Some(sealed.seq)));
            // IMPORTANT: send, then wake: the other way round the operator may look too early. A
            // worker that is gone takes the process with it.
            let _ = sender.send((epoch, sealed));
            let _ = waker.activate();
        });
    }

    /// What was sealed since the last call.
    fn marks(&mut self) -> Vec<(Capability<u64>, Mark)> {
        let mut marks = Vec::new();
        for (epoch, sealed) in self.sealed.try_iter() {
            let capability = self.sealing_epochs.remove(&epoch.0);
            let capability = capability.expect("an epoch is sealed once");
            let last = self.closed && self.sealing_epochs.is_empty() && self.open.is_empty();
            marks.push((capability, Mark::new(sealed, self.bytes, last)));
        }
        marks
    }
}

impl Shares {
    fn add(&mut self, share: Share) {
        self.workers += 1;
        self.tally.add(&share.tally);
        self.validators = self.validators.take().or(share.validators);
        self.place = self.place.take().or(share.place);
    }

    /// How the cell's validators change with the epoch, if they do (R9).
    fn validators_change(&self, fact: String, facts: &Ledger) -> Option<FactChange> {
        let describes = validates(&self.tally) || fail::broken("r09");
        let new = self.validators.clone().filter(|_| describes);
        (facts.get(&fact) != new).then_some((fact, new))
    }

    fn outcome(self, of: PollRef) -> Outcome {
        let verdict = match self.tally.changes() {
            0 => Verdict::Unchanged,
            _ => Verdict::Sealed,
        };
        Outcome {
            index: of.index,
            poll: of.poll,
            verdict,
            tally: self.tally,
        }
    }
}

#[cfg(test)]
mod tests {
    use deltapoll_state::journal::{Journal, Options};

    use super::*;

    #[test]
    fn r27_a_mark_never_names_a_batch_of_a_later_epoch_than_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::start(Journal::open(dir.path(), Options::default()).unwrap());
        let (busy, is_busy) = channel();
        let (go_on, may_go_on) = channel();
        // The journal's thread is kept busy, so that two epochs wait and share one fsync.
        ledger.seal(move |_| {
            busy.send(()).unwrap();
            may_go_on.recv().unwrap();
        });
        is_busy.recv().unwrap();
        let (sender, sealed) = channel();
        for epoch in [1, 2] {
            ledger.append(
                Epoch(epoch),
                vec![0],
                Arc::new(AtomicUsize::new(1)),
                Some(vec![]),
            );
            let sender = sender.clone();
            ledger.seal(move |sealed| sender.send(sealed).unwrap());
        }
        go_on.send(()).unwrap();
        let both: Vec<Sealed> = sealed.iter().take(2).collect();
        assert_eq!(both[0], both[1], "one fsync sealed both");
        let mark = Mark::new(both[0], 0, false);
        assert_eq!(
            (mark.seq, mark.epoch),
            (2, 2),
            "pages are written up to the epoch of the batch"
        );
    }
}
