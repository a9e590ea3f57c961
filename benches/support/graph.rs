//! The real graph, journal and store, with bodies from memory and a follower that takes everything as
//! published: for what a poll costs by itself.

#![allow(dead_code, reason = "whoever uses it uses a part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use deltapoll::change::{CellId, Seq};
use deltapoll::config::Removed;
use deltapoll::dataflow::dedup::misses::Misses;
use deltapoll::dataflow::journal::Sealing;
use deltapoll::dataflow::message::{Arrival, Position, Who};
use deltapoll::dataflow::poll::{Inbox, Waker};
use deltapoll::dataflow::retire::Retiring;
use deltapoll::dataflow::{Alone, Common, start};
use deltapoll::fault::Fault;
use deltapoll::follower::{Facts, Follower};
use deltapoll::io::http::answer::Answer;
use deltapoll::ledger::Ledger;
use deltapoll::rules::Rules;
use deltapoll::snapshot::{CellPlan, Outcome, Plan, Snapshot};
use deltapoll_state::journal::{self, Journal};
use deltapoll_state::pages::Pages;

#[allow(unused_imports, reason = "whoever uses it uses a part")]
pub use body::{SEED, chunks, player};

pub mod body;

const PATIENCE: Duration = Duration::from_secs(600);
/// What changes are for, unless something else is asked.
const TOPIC: &str = "league";

/// How a graph differs from the simplest.
pub struct Shape {
    pub workers: usize,
    /// Shortest time between two seals.
    pub min: Duration,
    pub topic: String,
    pub partitions: u32,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            workers: 1,
            min: Duration::ZERO,
            topic: TOPIC.into(),
            partitions: 3,
        }
    }
}

/// The real graph, with a follower that takes everything as published.
pub struct Graph {
    runtime: tokio::runtime::Runtime,
    workers: usize,
    arrivals: Sender<Arrival>,
    waker: Waker,
    outcomes: Receiver<Outcome>,
    positions: Receiver<Position>,
    pub ledger: Ledger,
    pub pages_written: Arc<AtomicU64>,
}

impl Graph {
    /// Opens it in `dir`, over `pages`; what is sealed counts as published.
    pub fn open(dir: &Path, pages: &Pages, workers: usize) -> Graph {
        let shape = Shape {
            workers,
            ..Shape::default()
        };
        Graph::publishing(dir, pages, shape, |_| Box::new(Published))
    }

    /// Opens it in `dir`, over `pages`, with the follower that publishes.
    pub fn publishing(
        dir: &Path,
        pages: &Pages,
        shape: Shape,
        publish: impl FnOnce(&Ledger) -> Box<dyn Follower>,
    ) -> Graph {
        let workers = shape.workers;
        let journal =
            Journal::open(&dir.join("journal"), journal::Options::default()).expect("opens");
        let sealed = journal.sealed();
        let ledger = Ledger::start(journal);
        let plan = Arc::new(plan(&ledger, &shape));
        let publish = publish(&ledger);
        let position = |who: Who| {
            let fact = ledger.get(who.fact());
            Seq(fact.map_or(0, |text| text.parse().expect("a number")))
        };
        let at = [Who::Remember, Who::Publish].map(|who| (who, position(who)));
        pages.split_for(workers).expect("splits");
        let (arrivals, inbox) = channel();
        let (ready, waker) = channel();
        let (outcome, outcomes) = channel();
        let (reached, positions) = channel();
        let unwritten = Arc::new(AtomicUsize::new(0));
        let pages_written = Arc::new(AtomicU64::new(0));
        let common = Common {
            plan: plan.clone(),
            pages: pages.clone(),
            logs: Arc::new(ledger.clone()),
            remembered: at[0].1,
            misses: Misses::take(pages, workers).expect("misses"),
            pages_written: pages_written.clone(),
            unwritten: unwritten.clone(),
        };
        let alone = Alone {
            inbox: Inbox {
                arrivals: inbox,
                last: sealed.epoch,
                min: shape.min,
                ready: Box::new(move |waker| drop(ready.send(waker))),
            },
            arrivals: arrivals.clone(),
            sealing: Sealing {
                ledger: ledger.clone(),
                plan,
                unwritten,
                start: sealed,
                outcome: Arc::new(move |one, _| drop(outcome.send(one))),
            },
            publish,
            archive: None,
            retiring: Retiring {
                ledger: ledger.clone(),
                positions: BTreeMap::from(at),
                reached: Arc::new(move |at| {
                    // Nobody waits for positions but at the end.
                    let _ = reached.send(at);
                }),
            },
        };
        start(workers, common, alone);
        let waker = waker.recv_timeout(PATIENCE).expect("the graph starts");
        Graph {
            runtime: body::runtime(),
            workers,
            arrivals,
            waker,
            outcomes,
            positions,
            ledger,
            pages_written,
        }
    }

    /// From the answer to the outcome.
    pub fn poll(&self, poll: u64, body: &[Bytes]) -> Outcome {
        self.decide(self.fetch(poll, body))
    }

    /// From the answer to the snapshot.
    pub fn fetch(&self, poll: u64, body: &[Bytes]) -> Snapshot {
        snapshot(
            poll,
            self.runtime
                .block_on(body::answer(body, None, self.workers)),
        )
    }

    /// From the snapshot to the outcome.
    pub fn decide(&self, snapshot: Snapshot) -> Outcome {
        self.send(Arrival::Snapshot(snapshot));
        self.outcome()
    }

    /// The outcome of what was sent, in its order.
    pub fn outcome(&self) -> Outcome {
        let outcome = self.outcomes.recv_timeout(PATIENCE);
        outcome.expect("every poll has an outcome")
    }

    /// Waits until all that is sealed is published.
    pub fn published(&self) {
        let sealed = self.ledger.counters().sealed.load(Ordering::Acquire);
        loop {
            let at = self.positions.recv_timeout(PATIENCE).expect("an answer");
            if at.who == Who::Publish && at.seq >= sealed {
                return;
            }
        }
    }

    /// Writes what is only in memory.
    pub fn close(&self) {
        self.send(Arrival::Close);
        let mut waiting = vec![Who::Remember, Who::Publish];
        while !waiting.is_empty() {
            let at = self.positions.recv_timeout(PATIENCE).expect("an answer");
            waiting.retain(|who| !at.last || *who != at.who);
        }
        self.ledger.set(Vec::new(), true).expect("flushes");
    }

    pub fn send(&self, arrival: Arrival) {
        self.arrivals.send(arrival).expect("the graph runs");
        (self.waker)();
    }
}

/// The snapshot that an answer is.
pub fn snapshot(poll: u64, answer: Answer) -> Snapshot {
    let Answer::Body {
        pieces, validators, ..
    } = answer
    else {
        panic!("a body: {answer:?}");
    };
    Snapshot {
        index: 0,
        poll,
        complete: true,
        polled_at: poll,
        pieces,
        validators: Some(validators.body),
        stored: None,
    }
}

/// Takes everything as published.
struct Published;

impl Follower for Published {
    fn advance(&mut self, upto: Seq) -> Result<Seq, Fault> {
        Ok(upto)
    }
}

pub fn plan(facts: &dyn Facts, shape: &Shape) -> Plan {
    let scan = body::scan(1);
    let cell = CellPlan {
        id: CellId(1),
        source: "league".into(),
        label: String::new(),
        topic: shape.topic.clone(),
        partitions: shape.partitions,
        key_prefix: scan.key_prefix,
        key_suffix: scan.key_suffix,
        keys: scan.keys,
        rule: Rules::number(facts, &[]).expect("a rule"),
        removed: Removed::Tombstone,
        removed_after: 2,
        record_max: 1 << 20,
    };
    Plan {
        cells: vec![cell],
        seed: SEED,
        rules: Arc::new(Rules::read(facts).expect("rules")),
    }
}
