//! What a poll allocates that brings nothing new, from the answer to the decision.
//!
//! The counter counts the whole process, so this binary holds one test. The graph, the journal and the
//! sled store are the real ones; the answer is a real response whose body comes in chunks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use deltapoll::snapshot::Verdict;
use deltapoll_state::pages::Pages;
use deltapoll_state::store::SledStore;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use graph::{Graph, SEED, chunks, player};

/// The graph without a source and a sink.
#[path = "../benches/support/graph.rs"]
mod graph;

const SMALL: usize = 50_000;
const LARGE: usize = 100_000;
/// Polls whose allocations are counted; one before them fills what is kept from poll to poll.
const COUNTED: u64 = 3;
const PER_ENTRY_MAX: f64 = 0.02;

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
