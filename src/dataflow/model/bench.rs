//! The real graph between a journal on disk and a follower that collects what it is given.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deltapoll_state::journal::{Journal, Options};
use deltapoll_state::pages::Pages;
use deltapoll_state::store::{MemoryStore, PageStore};
use tempfile::TempDir;

use super::script::{Poll, Published, Settings};
use crate::change::{Batch, CellId, Seq};
use crate::dataflow::dedup::misses::Misses;
use crate::dataflow::journal::Sealing;
use crate::dataflow::message::{Arrival, Position, Who};
use crate::dataflow::poll::{Inbox, Waker};
use crate::dataflow::retire::Retiring;
use crate::dataflow::{Alone, Common, start};
use crate::fault::Fault;
use crate::follower::{Facts, Follower, Logs};
use crate::io::json::hash;
use crate::io::json::pointer::Pointer;
use crate::ledger::Ledger;
use crate::rules::Rules;
use crate::snapshot::{CellPlan, Outcome, Place, Plan, Snapshot, Stored, Tally, Verdict};

/// Why a spoiled snapshot is not used.
pub const SPOILED: &str = "not UTF-8";
const SEED: u64 = 7;
const PATIENCE: Duration = Duration::from_secs(20);

/// What survives a restart, and the graph that runs on it.
pub struct Bench {
    dir: TempDir,
    settings: Settings,
    pages: Pages,
    published: Arc<Mutex<Topic>>,
    graph: Option<Graph>,
    polls: u64,
}

/// What the followers made durable elsewhere.
#[derive(Default)]
struct Topic {
    position: Seq,
    changes: Vec<Published>,
}

struct Graph {
    plan: Arc<Plan>,
    workers: usize,
    arrivals: Sender<Arrival>,
    waker: Waker,
    outcomes: Receiver<Outcome>,
    positions: Receiver<Position>,
    ledger: Ledger,
}

impl Bench {
    pub fn new(settings: &Settings, workers: usize) -> Bench {
        let mut bench = Bench {
            dir: tempfile::tempdir().expect("a directory"),
            settings: settings.clone(),
            pages: Pages::new(Arc::new(MemoryStore::default())),
            published: Arc::default(),
            graph: None,
            polls: 0,
        };
        bench.open(workers);
        bench
    }

    fn open(&mut self, workers: usize) {
        let options = Options {
            segment_bytes: 16 << 10,
        };
        let journal = Journal::open(&self.dir.path().join("journal"), options).expect("opens");
        let start_mark = journal.sealed();
        let ledger = Ledger::start(journal);
        let plan = Arc::new(plan(&self.settings, &ledger));
        let remembered = ledger
            .get(Who::Remember.fact())
            .map_or(0, |text| text.parse().expect("a number"));
        self.pages.split_for(workers).expect("splits");
        let (arrivals, inbox) = channel();
        let (ready, waker) = channel();
        let (outcome, outcomes) = channel();
        let (position, positions) = channel();
        let unwritten = Arc::new(AtomicUsize::new(0));
        let common = Common {
            plan: plan.clone(),
            pages: self.pages.clone(),
            logs: Arc::new(ledger.clone()),
            remembered: Seq(remembered),
            misses: Misses::take(&self.pages, workers).expect("misses"),
            pages_written: Arc::default(),
            unwritten: unwritten.clone(),
        };
        let mut at = BTreeMap::from([(Who::Remember, Seq(remembered))]);
        at.insert(
            Who::Publish,
            self.published.lock().expect("no panic").position,
        );
        let alone = Alone {
            inbox: Inbox {
                arrivals: inbox,
                last: start_mark.epoch,
                min: Duration::ZERO,
                ready: Box::new(move |waker| drop(ready.send(waker))),
            },
            arrivals: arrivals.clone(),
            sealing: Sealing {
                ledger: ledger.clone(),
                plan: plan.clone(),
                unwritten,
                start: start_mark,
                outcome: Arc::new(move |one, _| drop(outcome.send(one))),
            },
            publish: Box::new(Collector {
                logs: ledger.clone(),
                topic: self.published.clone(),
            }),
            archive: None,
            retiring: Retiring {
                ledger: ledger.clone(),
                positions: at,
                reached: Arc::new(move |at| {
                    let _ = position.send(at);
                }),
            },
        };
        start(workers, common, alone);
        let waker = waker.recv_timeout(PATIENCE).expect("the graph starts");
        self.graph = Some(Graph {
            plan,
            workers,
            arrivals,
            waker,
            outcomes,
            positions,
            ledger,
        });
    }

    /// Settings for the next restart.
    pub fn configure(&mut self, settings: &Settings) {
        self.settings = settings.clone();
    }

    /// Closes the graph and opens another: after a clean exit on the same files, after a crash on
    /// what the files were before it.
    pub fn restart(&mut self, workers: usize, crash: bool) {
        let before = crash.then(|| (copy_journal(self.dir.path()), copy_pages(&self.pages)));
        self.close();
        if let Some((dir, pages)) = before {
            (self.dir, self.pages) = (dir, pages);
        }
        self.open(workers);
    }

    pub fn close(&mut self) {
        let graph = self.graph.take().expect("a graph");
        graph.send(Arrival::Close);
        let mut waiting = vec![Who::Remember, Who::Publish];
        while !waiting.is_empty() {
            let at = graph
                .positions
                .recv_timeout(PATIENCE)
                .expect("followers answer the last mark");
            waiting.retain(|who| !at.last || *who != at.who);
        }
        graph.ledger.set(Vec::new(), true).expect("flushes");
    }

    /// Hands in the snapshots, waits for their outcomes and until what is sealed is published.
    pub fn poll(&mut self, polls: &[Poll]) -> Vec<Outcome> {
        let graph = self.graph.as_ref().expect("a graph");
        let first = self.polls + 1;
        let mut outcomes = Vec::new();
        for poll in polls {
            self.polls += 1;
            let pieces = match poll.pieces(&graph.plan.scan(poll.cell, graph.workers)) {
                Ok(pieces) => pieces,
                // As `io` does: no snapshot is made of it.
                Err(reason) => {
                    assert!(reason.contains(SPOILED), "{reason}");
                    outcomes.push(Outcome {
                        index: poll.cell,
                        poll: self.polls,
                        verdict: Verdict::Failed(SPOILED.into()),
                        tally: Tally::default(),
                    });
                    continue;
                }
            };
            graph.send(Arrival::Snapshot(Snapshot {
                index: poll.cell,
                poll: self.polls,
                complete: poll.complete,
                polled_at: self.polls,
                pieces,
                validators: None,
                stored: stored(poll, self.polls),
            }));
        }
        while outcomes.len() < polls.len() {
            let outcome = graph.outcomes.recv_timeout(PATIENCE);
            outcomes.push(outcome.expect("every poll has an outcome"));
        }
        outcomes.sort_by_key(|outcome| outcome.poll);
        for (poll, outcome) in (first..).zip(&outcomes) {
            assert_eq!(outcome.poll, poll, "one outcome for each poll (R1)");
        }
        let sealed = graph.ledger.counters().sealed.load(Ordering::Acquire);
        while self.published.lock().expect("no panic").position < Seq(sealed) {
            graph
                .positions
                .recv_timeout(PATIENCE)
                .expect("what is sealed is published");
        }
        outcomes
    }

    /// What was published since the last call.
    pub fn published(&self) -> Vec<Published> {
        std::mem::take(&mut self.published.lock().expect("no panic").changes)
    }
}

impl Graph {
    fn send(&self, arrival: Arrival) {
        self.arrivals.send(arrival).expect("the graph runs");
        (self.waker)();
    }
}

/// A snapshot that says what is gone was stored.
fn stored(poll: &Poll, at: u64) -> Option<Stored> {
    let gone = poll.gone();
    (!gone.is_empty()).then(|| Stored {
        place: Place {
            polled_at: at,
            name: None,
        },
        gone: gone
            .iter()
            .map(|key| hash::key(SEED, key.as_bytes()))
            .collect(),
    })
}

struct Collector {
    logs: Ledger,
    topic: Arc<Mutex<Topic>>,
}

impl Follower for Collector {
    fn advance(&mut self, upto: Seq) -> Result<Seq, Fault> {
        let mut topic = self.topic.lock().expect("no panic");
        let mut log = self.logs.after(topic.position)?;
        while topic.position < upto {
            let sealed = log.next()?.expect("sealed up to here");
            assert_eq!(sealed.seq, topic.position.next(), "batches are dense");
            let batch = Batch::read(&sealed.body).expect("sound");
            let cell = batch.head.cell.0 as usize - 1;
            for change in batch.changes().map(|change| change.expect("sound")) {
                let value = change
                    .value
                    .map(|value| String::from_utf8(value.to_vec()).expect("UTF-8"));
                if !change.silent {
                    topic
                        .changes
                        .push((cell, change.key.to_owned(), change.kind.as_str(), value));
                }
            }
            topic.position = sealed.seq;
        }
        Ok(topic.position)
    }
}

fn plan(settings: &Settings, facts: &dyn Facts) -> Plan {
    let rule = Rules::number(facts, &settings.ignore).expect("a rule");
    let cell = |index: usize| CellPlan {
        id: CellId(index as u32 + 1),
        source: "model".into(),
        label: format!("c{index}"),
        topic: "model".into(),
        partitions: 3,
        key_prefix: format!("c{index}:"),
        key_suffix: String::new(),
        keys: vec![Pointer::parse("/id").expect("a pointer")],
        rule,
        removed: settings.removed,
        removed_after: settings.removed_after,
        record_max: settings.record_max,
    };
    let cells = (0..settings.cells).map(cell).collect();
    Plan {
        cells,
        seed: SEED,
        rules: Arc::new(Rules::read(facts).expect("rules")),
    }
}

/// A copy of the journal as it is now: what a kill leaves behind.
fn copy_journal(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    let to = copy.path().join("journal");
    std::fs::create_dir(&to).expect("a directory");
    let mut files: Vec<_> = std::fs::read_dir(dir.join("journal"))
        .expect("a journal")
        .flatten()
        .collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        match std::fs::copy(file.path(), to.join(file.file_name())) {
            // The oldest segment was retired meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            copied => assert!(copied.is_ok(), "{copied:?}"),
        }
    }
    copy
}

fn copy_pages(pages: &Pages) -> Pages {
    let copy = MemoryStore::default();
    let pairs = pages.store().range(&[], &[0xff; 64]);
    let writes = pairs.map(|pair| {
        let (key, value) = pair.expect("reads");
        (key.to_vec(), Some(value.to_vec()))
    });
    copy.apply(writes.collect()).expect("writes");
    Pages::new(Arc::new(copy))
}
