//! The journal's own thread: the one writer of the journal, between the dataflow and the disk.
//!
//! Commands come through one channel and are done in order; what waits together shares one fsync
//! (group commit). Facts are visible at once and durable with the next sync; while an epoch's frames
//! are being written, facts wait for its end, because an epoch's frames are contiguous (R12).
//!
//! A failed write or fsync ends the process (R15): after it nobody knows what the disk holds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deltapoll_state::journal::{FactChange, Journal, Readers, Sealed};

use crate::change::{Epoch, Seq};
use crate::fault::Fault;
use crate::follower::{Facts, Log, Logs, SealedBatch};
use crate::stop;

/// What the journal did so far, for the status.
#[derive(Debug, Default)]
pub struct Counters {
    /// Batches appended.
    pub batches: AtomicU64,
    /// Fsyncs of the journal.
    pub syncs: AtomicU64,
    /// Bytes on disk.
    pub bytes: AtomicU64,
    /// Last sealed seq.
    pub sealed: AtomicU64,
}

type SealedCall = Box<dyn FnOnce(Sealed) + Send>;

enum Command {
    Append {
        epoch: Epoch,
        body: Vec<u8>,
        budget: Arc<AtomicUsize>,
        end: Option<Vec<FactChange>>,
    },
    Seal(SealedCall),
    Facts(Vec<FactChange>, Option<Sender<()>>),
    Lazy(Vec<FactChange>),
    Retire(Seq),
    Roll,
}

/// A handle to the journal's thread; cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    commands: Sender<Command>,
    facts: Arc<Mutex<BTreeMap<String, String>>>,
    readers: Readers,
    counters: Arc<Counters>,
}

impl Ledger {
    /// Hands `journal` to a thread of its own.
    #[must_use]
    pub fn start(journal: Journal) -> Ledger {
        let (commands, receiver) = channel();
        let facts = Arc::new(Mutex::new(journal.facts().clone()));
        let counters = Arc::new(Counters::default());
        counters
            .sealed
            .store(journal.sealed().seq.0, Ordering::Relaxed);
        counters.bytes.store(journal.bytes(), Ordering::Relaxed);
        let ledger = Ledger {
            commands,
            facts,
            readers: journal.readers(),
            counters: counters.clone(),
        };
        let mut writer = Writer {
            journal,
            counters,
            open: false,
            held: Vec::new(),
            lazy: BTreeMap::new(),
        };
        let run = move || {
            if let Err(error) = writer.run(&receiver) {
                stop::fatal(&Fault::failed(format!(
                    "the journal cannot be written: {error}"
                )));
            }
        };
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(run)
            .expect("a process that cannot start a thread cannot work");
        ledger
    }

    /// Appends a batch; `end` marks the last of its epoch, with the facts that change with it. The
    /// body's bytes are taken off `budget` once they are written.
    pub fn append(
        &self,
        epoch: Epoch,
        body: Vec<u8>,
        budget: Arc<AtomicUsize>,
        end: Option<Vec<FactChange>>,
    ) {
        // Visible at once, like any fact: validators are compared with what this says (R9).
        self.remember(end.as_deref().unwrap_or_default());
        self.send(Command::Append {
            epoch,
            body,
            budget,
            end,
        });
    }

    /// Makes what was appended durable, then calls `then` on the journal's thread.
    pub fn seal(&self, then: impl FnOnce(Sealed) + Send + 'static) {
        self.send(Command::Seal(Box::new(then)));
    }

    /// Facts that need no write of their own: written with the next frame that is, or on `flush`.
    pub fn set_lazily(&self, facts: Vec<FactChange>) {
        self.remember(&facts);
        self.send(Command::Lazy(facts));
    }

    /// Drops what all followers are past.
    pub fn retire(&self, past: Seq) {
        self.send(Command::Retire(past));
    }

    /// Ends the segment, so that what all followers are past can be dropped although it is not full.
    pub fn roll(&self) {
        self.send(Command::Roll);
    }

    /// What the journal did so far.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn send(&self, command: Command) {
        // The thread ends only with the process.
        let _ = self.commands.send(command);
    }

    fn facts(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, changes: &[FactChange]) {
        let mut facts = self.facts();
        for (name, value) in changes {
            match value {
                Some(value) => facts.insert(name.clone(), value.clone()),
                None => facts.remove(name),
            };
        }
    }
}

impl Facts for Ledger {
    fn get(&self, name: &str) -> Option<String> {
        self.facts().get(name).cloned()
    }

    fn under(&self, prefix: &str) -> Vec<(String, String)> {
        let facts = self.facts();
        let from = facts.range(prefix.to_owned()..);
        let under = from.take_while(|(name, _)| name.starts_with(prefix));
        under
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    fn set(&self, facts: Vec<FactChange>, sync: bool) -> Result<(), Fault> {
        self.remember(&facts);
        if !sync {
            self.send(Command::Facts(facts, None));
            return Ok(());
        }
        let (done, wait) = channel();
        self.send(Command::Facts(facts, Some(done)));
        wait.recv()
            .map_err(|_| Fault::failed("the journal's thread has ended"))
    }
}

impl Logs for Ledger {
    fn after(&self, position: Seq) -> Result<Box<dyn Log>, Fault> {
        Logs::after(&self.readers, position)
    }
}

/// For a journal that is only looked at.
impl Logs for Readers {
    fn after(&self, position: Seq) -> Result<Box<dyn Log>, Fault> {
        let reader = Readers::after(self, position);
        Ok(Box::new(JournalLog(
            reader.map_err(|e| Fault::directory(e.to_string()))?,
        )))
    }
}

struct JournalLog(deltapoll_state::journal::Reader);

impl Log for JournalLog {
    fn next(&mut self) -> Result<Option<SealedBatch>, Fault> {
        let frame = self.0.next().map_err(|e| Fault::directory(e.to_string()))?;
        Ok(frame.map(|f| SealedBatch {
            seq: f.seq,
            epoch: f.epoch,
            last: f.last,
            body: f.body,
        }))
    }
}

struct Writer {
    journal: Journal,
    counters: Arc<Counters>,
    /// Whether an epoch's frames are being written.
    open: bool,
    /// Facts that came meanwhile.
    held: Vec<(Vec<FactChange>, Option<Sender<()>>)>,
    lazy: BTreeMap<String, Option<String>>,
}

impl Writer {
    fn run(&mut self, commands: &Receiver<Command>) -> Result<(), deltapoll_state::error::Error> {
        while let Ok(first) = commands.recv() {
            let mut sealed = Vec::new();
            let mut synced = Vec::new();
            for command in std::iter::once(first).chain(commands.try_iter()) {
                self.apply(command, &mut sealed, &mut synced)?;
            }
            if !sealed.is_empty() || !synced.is_empty() {
                let mark = self.journal.sync()?;
                self.counters.sealed.store(mark.seq.0, Ordering::Release);
                self.counters
                    .syncs
                    .store(self.journal.syncs(), Ordering::Relaxed);
                for call in sealed {
                    call(mark);
                }
                for done in synced {
                    // Whoever asked may be gone; the fact is durable all the same.
                    let _ = done.send(());
                }
            }
            self.counters
                .bytes
                .store(self.journal.bytes(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn apply(
        &mut self,
        command: Command,
        sealed: &mut Vec<SealedCall>,
        synced: &mut Vec<Sender<()>>,
    ) -> Result<(), deltapoll_state::error::Error> {
        match command {
            Command::Append {
                epoch,
                body,
                budget,
                end,
            } => {
                self.open = end.is_none();
                let end = end.map(|facts| {
                    // IMPORTANT: what is lazy is older: of two facts with one name the last counts.
                    let mut all: Vec<_> = std::mem::take(&mut self.lazy).into_iter().collect();
                    all.extend(facts);
                    all
                });
                self.journal.append(epoch, &body, end.as_deref())?;
                budget.fetch_sub(body.len(), Ordering::AcqRel);
                self.counters.batches.fetch_add(1, Ordering::Relaxed);
                if !self.open {
                    for (facts, done) in std::mem::take(&mut self.held) {
                        if !facts.is_empty() {
                            self.journal.record(&facts)?;
                        }
                        synced.extend(done);
                    }
                }
            }
            Command::Seal(then) => sealed.push(then),
            Command::Facts(facts, done) if self.open => self.held.push((facts, done)),
            Command::Facts(facts, done) => {
                for (name, _) in &facts {
                    self.lazy.remove(name);
                }
                if done.is_some() {
                    self.record_lazy()?;
                }
                if !facts.is_empty() {
                    self.journal.record(&facts)?;
                }
                synced.extend(done);
            }
            Command::Lazy(facts) => self.lazy.extend(facts),
            Command::Retire(past) if !self.open && self.journal.retirable(past) => {
                // IMPORTANT: the positions that allow it first, or a crash in between leaves positions
                // below the oldest batch (R16).
                self.record_lazy()?;
                self.journal.retire(past)?;
            }
            Command::Roll if !self.open => self.journal.roll()?,
            // Asked again: with the next position, while the journal is too long.
            Command::Retire(_) | Command::Roll => {}
        }
        Ok(())
    }

    fn record_lazy(&mut self) -> Result<(), deltapoll_state::error::Error> {
        let lazy: Vec<_> = std::mem::take(&mut self.lazy).into_iter().collect();
        if lazy.is_empty() {
            return Ok(());
        }
        self.journal.record(&lazy)
    }
}

#[cfg(test)]
mod tests {
    use deltapoll_state::journal::Options;

    use super::*;

    #[test]
    fn r12_facts_that_ride_with_an_epoch_count_at_once_and_after_the_lazy_ones() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::start(Journal::open(dir.path(), Options::default()).unwrap());
        let fact = |value: &str| vec![("v".to_owned(), Some(value.to_owned()))];
        ledger.set_lazily(fact("older"));
        let budget = Arc::new(AtomicUsize::new(1));
        ledger.append(Epoch(1), vec![0], budget, Some(fact("newer")));
        assert_eq!(ledger.get("v").as_deref(), Some("newer"));
        ledger.set(Vec::new(), true).unwrap();
        drop(ledger);
        let journal = Journal::open(dir.path(), Options::default()).unwrap();
        assert_eq!(journal.facts()["v"], "newer");
    }
}
