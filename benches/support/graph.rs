//! The real graph, journal and store, with bodies from memory and a follower that takes everything as
//! published: for what a poll costs by itself.

#![allow(dead_code, reason = "whoever uses it uses a part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
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
use deltapoll::io::http::answer::{Answer, Reading, read};
use deltapoll::io::http::budget::Budget;
use deltapoll::io::json::pointer::Pointer;
use deltapoll::ledger::Ledger;
use deltapoll::rules::Rules;
use deltapoll::snapshot::{CellPlan, Outcome, Plan, Snapshot};
use deltapoll_state::journal::{Journal, Options};
use deltapoll_state::pages::Pages;

/// Of all hashes, and of what is random.
pub const SEED: u64 = 7;
/// As hyper hands them out.
const CHUNK_BYTES: usize = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// An entry of the league API, with its 78-byte key.
pub fn player(number: usize) -> String {
    format!(
        "{{\"puuid\":\"{number:0>78}\",\"leaguePoints\":{},\"rank\":\"I\",\"wins\":{},\"losses\":{},\
         \"veteran\":false,\"inactive\":false,\"freshBlood\":true,\"hotStreak\":false}}",
        number % 2000,
        number % 311,
        number % 293
    )
}

/// An answer with these entries, in the chunks in which a client gets it.
pub fn chunks(players: &[String]) -> Vec<Bytes> {
    let body = Bytes::from(format!("{{\"entries\":[{}]}}", players.join(",")));
    let starts = (0..body.len()).step_by(CHUNK_BYTES);
    starts
        .map(|at| body.slice(at..body.len().min(at + CHUNK_BYTES)))
        .collect()
}

/// The real graph, with a follower that takes everything as published.
pub struct Graph {
    runtime: tokio::runtime::Runtime,
    arrivals: Sender<Arrival>,
    waker: Waker,
    outcomes: Receiver<Outcome>,
    positions: Receiver<Position>,
    pub ledger: Ledger,
    pub pages_written: Arc<AtomicU64>,
}

impl Graph {
    /// Opens it in `dir`, over `pages`.
    pub fn open(dir: &Path, pages: &Pages, workers: usize) -> Graph {
        let journal = Journal::open(&dir.join("journal"), Options::default()).expect("opens");
        let sealed = journal.sealed();
        let ledger = Ledger::start(journal);
        let plan = Arc::new(plan(&ledger));
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
                min: Duration::ZERO,
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
            publish: Box::new(Published),
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
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        Graph {
            runtime: runtime.expect("a runtime"),
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
        self.runtime.block_on(fetch(poll, body))
    }

    /// From the snapshot to the outcome.
    pub fn decide(&self, snapshot: Snapshot) -> Outcome {
        self.send(Arrival::Snapshot(snapshot));
        let outcome = self.outcomes.recv_timeout(PATIENCE);
        outcome.expect("every poll has an outcome")
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

async fn fetch(poll: u64, body: &[Bytes]) -> Snapshot {
    let chunks: Vec<Result<Bytes, std::io::Error>> = body.iter().cloned().map(Ok).collect();
    let chunks = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let reading = Reading {
        records: Pointer::parse("/entries").expect("a pointer"),
        body_max: 1 << 30,
        timeout: Duration::from_secs(600),
        seed: SEED,
        config: 1,
    };
    let mut reservation = Budget::new(1 << 30).reserve(0).await;
    let response = axum::http::Response::new(chunks);
    let answer = read(response.into(), &reading, None, false, &mut reservation).await;
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

struct Published;

impl Follower for Published {
    fn advance(&mut self, upto: Seq) -> Result<Seq, Fault> {
        Ok(upto)
    }
}

fn plan(facts: &dyn Facts) -> Plan {
    let cell = CellPlan {
        id: CellId(1),
        source: "league".into(),
        label: String::new(),
        topic: "league".into(),
        partitions: 3,
        key_prefix: "kr:".into(),
        key_suffix: String::new(),
        keys: vec![Pointer::parse("/puuid").expect("a pointer")],
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
