//! What a poll allocates that brings nothing new, from the answer to the decision.
//!
//! The counter counts the whole process, so this binary holds one test. The graph, the journal and the
//! sled store are the real ones; the answer is a real response whose body comes in chunks.

use std::alloc::{GlobalAlloc, Layout, System};
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
use deltapoll::io::http::answer::{Answer, Reading, read};
use deltapoll::io::http::budget::Budget;
use deltapoll::io::json::pointer::Pointer;
use deltapoll::ledger::Ledger;
use deltapoll::rules::Rules;
use deltapoll::snapshot::{CellPlan, Outcome, Plan, Snapshot, Verdict};
use deltapoll_state::journal::{Journal, Options};
use deltapoll_state::pages::Pages;
use deltapoll_state::store::SledStore;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

const SMALL: usize = 50_000;
const LARGE: usize = 100_000;
/// Polls whose allocations are counted; one before them fills what is kept from poll to poll.
const COUNTED: u64 = 3;
const PER_ENTRY_MAX: f64 = 0.02;
const SEED: u64 = 7;
/// As hyper hands them out.
const CHUNK_BYTES: usize = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// Safety: every call goes to the system's allocator with the arguments it came with.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[test]
fn an_unchanged_poll_allocates_nothing_per_entry_and_writes_nothing() {
    for workers in [1, 2] {
        let small = unchanged_poll(SMALL, workers);
        let large = unchanged_poll(LARGE, workers);
        let per_entry = (large as f64 - small as f64) / (LARGE - SMALL) as f64;
        println!(
            "{workers} workers: {small} allocations at {SMALL} entries, {large} at {LARGE}: {:.2} per 100",
            per_entry * 100.0
        );
        assert!(
            per_entry < PER_ENTRY_MAX,
            "{workers} workers: {small} allocations at {SMALL} entries, {large} at {LARGE}"
        );
    }
}

/// The allocations of a poll of `entries` known entries in an order of its own.
fn unchanged_poll(entries: usize, workers: usize) -> u64 {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SledStore::open(&dir.path().join("pages"), 16 << 20).expect("a store");
    let pages = Pages::new(Arc::new(store));
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut players: Vec<String> = (0..entries).map(player).collect();

    let graph = Graph::open(dir.path(), &pages, workers);
    let loaded = graph.poll(1, &chunks(&players));
    assert_eq!(loaded.verdict, Verdict::Sealed);
    assert_eq!(loaded.tally.added, entries as u64);
    assert!(graph.ledger.counters().batches.load(Ordering::Relaxed) > 0);
    graph.close();
    assert!(graph.pages_written.load(Ordering::Relaxed) > 0);

    // Another graph on the same directory: what it remembers is in pages, not in memory.
    let graph = Graph::open(dir.path(), &pages, workers);
    let syncs = |graph: &Graph| graph.ledger.counters().syncs.load(Ordering::Relaxed);
    let before = syncs(&graph);
    let mut allocations = 0;
    for poll in 0..=COUNTED {
        players.shuffle(&mut rng);
        let body = chunks(&players);
        let counted = ALLOCATIONS.load(Ordering::Relaxed);
        let outcome = graph.poll(2 + poll, &body);
        if poll > 0 {
            allocations += ALLOCATIONS.load(Ordering::Relaxed) - counted;
        }
        assert_eq!(outcome.verdict, Verdict::Unchanged);
        assert_eq!(outcome.tally.entries, entries as u64);
    }
    let counters = graph.ledger.counters();
    assert_eq!(counters.batches.load(Ordering::Relaxed), 0, "no batch");
    assert_eq!(syncs(&graph), before, "no fsync");
    graph.close();
    assert_eq!(graph.pages_written.load(Ordering::Relaxed), 0, "no page");
    allocations / COUNTED
}

/// An entry of the league API, with its 78-byte key.
fn player(number: usize) -> String {
    format!(
        "{{\"puuid\":\"{number:0>78}\",\"leaguePoints\":{},\"rank\":\"I\",\"wins\":{},\"losses\":{},\
         \"veteran\":false,\"inactive\":false,\"freshBlood\":true,\"hotStreak\":false}}",
        number % 2000,
        number % 311,
        number % 293
    )
}

fn chunks(players: &[String]) -> Vec<Bytes> {
    let body = Bytes::from(format!("{{\"entries\":[{}]}}", players.join(",")));
    let starts = (0..body.len()).step_by(CHUNK_BYTES);
    starts
        .map(|at| body.slice(at..body.len().min(at + CHUNK_BYTES)))
        .collect()
}

/// The real graph, with a follower that takes everything as published.
struct Graph {
    runtime: tokio::runtime::Runtime,
    arrivals: Sender<Arrival>,
    waker: Waker,
    outcomes: Receiver<Outcome>,
    positions: Receiver<Position>,
    ledger: Ledger,
    pages_written: Arc<AtomicU64>,
}

impl Graph {
    fn open(dir: &Path, pages: &Pages, workers: usize) -> Graph {
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
    fn poll(&self, poll: u64, body: &[Bytes]) -> Outcome {
        let snapshot = self.runtime.block_on(fetch(poll, body));
        self.send(Arrival::Snapshot(snapshot));
        let outcome = self.outcomes.recv_timeout(PATIENCE);
        outcome.expect("every poll has an outcome")
    }

    fn close(&self) {
        self.send(Arrival::Close);
        let mut waiting = vec![Who::Remember, Who::Publish];
        while !waiting.is_empty() {
            let at = self.positions.recv_timeout(PATIENCE).expect("an answer");
            waiting.retain(|who| !at.last || *who != at.who);
        }
        self.ledger.set(Vec::new(), true).expect("flushes");
    }

    fn send(&self, arrival: Arrival) {
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
