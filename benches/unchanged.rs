//! What does an unchanged poll cost, from the body in memory to the decision, against a library that is
//! known to be fast?
//!
//! ```text
//! cargo bench --bench unchanged [-- --entries N] [--runs N]
//! ```
//!
//! The body: a ladder of `entries` players with 78-byte keys, about 200 bytes an entry, in a new order
//! for each run. Deltapoll: the list is found and cut, every byte checked (UTF-8, strings, nesting, entry
//! boundaries), keys and raw bytes are hashed, and the snapshot is merged with the state of as many keys,
//! on one worker; the state is in pages. The baseline does the first half of that: sonic-rs iterates over
//! the list lazily and checked, gets each entry's key and hashes key and entry with XXH3; it looks nothing
//! up. Runs take turns; what is told is medians.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use clap::Parser;
use deltapoll::clock;
use deltapoll::snapshot::Verdict;
use deltapoll_state::pages::Pages;
use deltapoll_state::store::SledStore;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use sonic_rs::JsonValueTrait;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use graph::{Graph, SEED, chunks, player};

#[path = "support/graph.rs"]
mod graph;

const CACHE_BYTES: u64 = 32 << 20;

#[derive(Parser)]
#[command(name = "unchanged")]
struct Args {
    /// Players of the ladder
    #[arg(long, default_value_t = 500_000)]
    entries: usize,
    /// Runs of each
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let dir = tempfile::tempdir().expect("a directory");
    let store = SledStore::open(&dir.path().join("pages"), CACHE_BYTES).expect("a store");
    let pages = Pages::new(Arc::new(store));
    let mut players: Vec<String> = (0..args.entries).map(player).collect();
    let graph = Graph::open(dir.path(), &pages, 1);
    let loaded = graph.poll(1, &chunks(&players));
    assert_eq!(loaded.verdict, Verdict::Sealed);
    graph.close();
    // What it remembers is in pages now, not in memory.
    let graph = Graph::open(dir.path(), &pages, 1);
    let mut random = StdRng::seed_from_u64(SEED);
    let (mut ours, mut cuts, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    // The first round warms up and is not told.
    for round in 0..=args.runs {
        players.shuffle(&mut random);
        let body = chunks(&players);
        bytes = body.iter().map(Bytes::len).sum();
        let whole = body.concat();
        let since = clock::now();
        let snapshot = graph.fetch(2 + round as u64, &body);
        let cut = seconds(since);
        let outcome = graph.decide(snapshot);
        let took = seconds(since);
        assert_eq!(outcome.verdict, Verdict::Unchanged);
        let since = clock::now();
        assert_eq!(baseline(&whole), args.entries);
        let baseline = seconds(since);
        if round > 0 {
            ours.push(took);
            cuts.push(cut);
            theirs.push(baseline);
        }
    }
    let (ours, cut, theirs) = (median(ours), median(cuts), median(theirs));
    println!(
        "{} entries, {:.0} bytes each, in memory, unchanged",
        args.entries,
        bytes as f64 / args.entries as f64
    );
    for (name, took) in [
        ("deltapoll, one worker", ours),
        ("  of which: find and cut", cut),
        ("sonic-rs, key and hashes", theirs),
    ] {
        println!(
            "{name:<26}{:>8.3} s{:>8.2} M entries/s{:>8.0} MB/s",
            took,
            args.entries as f64 / took / 1e6,
            bytes as f64 / took / 1e6
        );
    }
    println!("ratio {:.2}", theirs / ours);
}

/// How many entries it found.
fn baseline(body: &[u8]) -> usize {
    let list = sonic_rs::get(body, ["entries"].iter()).expect("there is a list");
    let mut entries = 0;
    for entry in sonic_rs::to_array_iter(list.as_raw_str()) {
        let entry = entry.expect("it is JSON");
        let key = entry.get("puuid").expect("it has a key");
        let key = key.as_str().expect("it is text");
        black_box(xxh3_128_with_seed(key.as_bytes(), SEED));
        black_box(xxh3_64_with_seed(entry.as_raw_str().as_bytes(), SEED));
        entries += 1;
    }
    entries
}

fn seconds(since: Instant) -> f64 {
    clock::now().duration_since(since).as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
