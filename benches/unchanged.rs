//! What does an unchanged poll cost, from the body in memory to the decision, against a library that is
//! known to be fast? And one of which a little changed, against an unchanged one?
//!
//! ```text
//! cargo bench --bench unchanged [-- --entries N] [--churn F] [--runs N]
//! ```
//!
//! The body: a ladder of `entries` players with 78-byte keys, about 200 bytes an entry, in a new order
//! for each run. Deltapoll: the list is found and cut, every byte checked (UTF-8, strings, nesting, entry
//! boundaries), keys and raw bytes are hashed, and the snapshot is merged with the state of as many keys,
//! on one worker; the state is in pages. The baseline does the first half of that: sonic-rs iterates over
//! the list lazily and checked, gets each entry's key and hashes key and entry with XXH3; it looks nothing
//! up. Of the changed ones `churn` differ from the state: they are encoded and sealed, with an fsync; what
//! is sealed counts as published. Runs take turns; what is told is medians.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use deltapoll::clock;
use deltapoll::snapshot::Verdict;
use deltapoll_state::pages::Pages;
use deltapoll_state::store::SledStore;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use sonic_rs::JsonValueTrait;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use graph::body::player_of;
use graph::{Graph, SEED, chunks};
use tell::tell_machine;
use turns::{aim, median, seconds};

#[path = "support/graph.rs"]
mod graph;
#[path = "support/tell.rs"]
mod tell;
#[path = "support/turns.rs"]
mod turns;

/// Against sonic-rs.
const AIM: f64 = 2.0;
/// Changed against unchanged.
const AIM_CHANGED: f64 = 0.8;
const CACHE_BYTES: u64 = 32 << 20;

#[derive(Parser)]
#[command(name = "unchanged")]
struct Args {
    /// Players of the ladder
    #[arg(long, default_value_t = 500_000)]
    entries: usize,
    /// The fraction of players that changes, where any do
    #[arg(long, default_value_t = 0.01)]
    churn: f64,
    /// Runs of each
    #[arg(long, default_value_t = 7, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
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
    let mut players: Vec<usize> = (0..args.entries).collect();
    let graph = Graph::open(dir.path(), &pages, 1);
    let loaded = graph.poll(1, &chunks(&texts(&players, |_| 0)));
    assert_eq!(loaded.verdict, Verdict::Sealed);
    graph.close();
    // What it remembers is in pages now, not in memory.
    let graph = Graph::open(dir.path(), &pages, 1);
    let mut random = StdRng::seed_from_u64(SEED);
    let mut took = Took::default();
    let mut bytes = 0;
    let playing = (args.entries as f64 * args.churn) as usize;
    // Other ones each time, so that as many differ from what is remembered.
    let mut games = vec![0; args.entries];
    // The first round warms up and is not told.
    for round in 0..=args.runs {
        players.shuffle(&mut random);
        let same = chunks(&texts(&players, |player| games[player]));
        for player in &players[..playing] {
            games[*player] += 1;
        }
        players.shuffle(&mut random);
        let changed = chunks(&texts(&players, |player| games[player]));
        bytes = same.iter().map(Bytes::len).sum();
        let poll = 2 + 2 * round as u64;
        let one = Took::round(&graph, poll, [&same, &changed], playing);
        if round > 0 {
            took.add(one);
        }
    }
    tell(&args, bytes, took);
}

/// The players in this order.
fn texts(players: &[usize], games: impl Fn(usize) -> usize) -> Vec<String> {
    let player = |&player: &usize| player_of(player, games(player));
    players.iter().map(player).collect()
}

/// Seconds, by round.
#[derive(Default)]
struct Took {
    cut: Vec<f64>,
    unchanged: Vec<f64>,
    changed: Vec<f64>,
    baseline: Vec<f64>,
}

impl Took {
    fn round(graph: &Graph, poll: u64, [same, changed]: [&[Bytes]; 2], playing: usize) -> Took {
        let whole = same.concat();
        let since = clock::now();
        let snapshot = graph.fetch(poll, same);
        let cut = seconds(since);
        let outcome = graph.decide(snapshot);
        let unchanged = seconds(since);
        assert_eq!(outcome.verdict, Verdict::Unchanged);
        let since = clock::now();
        let outcome = graph.poll(poll + 1, changed);
        let some_changed = seconds(since);
        assert_eq!(outcome.tally.changed, playing as u64);
        let since = clock::now();
        assert_eq!(baseline(&whole) as u64, outcome.tally.entries);
        Took {
            cut: vec![cut],
            unchanged: vec![unchanged],
            changed: vec![some_changed],
            baseline: vec![seconds(since)],
        }
    }

    fn add(&mut self, one: Took) {
        self.cut.extend(one.cut);
        self.unchanged.extend(one.unchanged);
        self.changed.extend(one.changed);
        self.baseline.extend(one.baseline);
    }
}

fn tell(args: &Args, bytes: usize, took: Took) {
    tell_machine();
    println!(
        "{} entries, {:.0} bytes each, in memory",
        args.entries,
        bytes as f64 / args.entries as f64
    );
    let (unchanged, changed) = (median(took.unchanged), median(took.changed));
    let baseline = median(took.baseline);
    for (name, took) in [
        ("unchanged, one worker", unchanged),
        ("  of which: find and scan", median(took.cut)),
        ("some changed, sealed", changed),
        ("sonic-rs, key and hashes", baseline),
    ] {
        println!(
            "{name:<26}{:>8.3} s{:>8.2} M entries/s{:>8.0} MB/s",
            took,
            args.entries as f64 / took / 1e6,
            bytes as f64 / took / 1e6
        );
    }
    println!(
        "{}",
        aim("unchanged against sonic-rs", baseline / unchanged, AIM)
    );
    let what = format!("churn {} against unchanged", args.churn);
    println!("{}", aim(&what, unchanged / changed, AIM_CHANGED));
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
