//! Do two workers help, when nothing but their work is done?
//!
//! ```text
//! cargo bench --bench workers [-- --entries N --snapshots N --churn F --runs N]
//! ```
//!
//! Bodies of one ladder are cut beforehand and stay in memory: neither reading nor cutting is measured,
//! which in a backfill are on threads of their own. They go through the real graph as stored snapshots do,
//! each with an epoch of its own; journal and state are real, what is sealed counts as published. From one
//! snapshot to the next `churn` of the entries change. The load is not measured. One worker and two take
//! turns, each time with a new directory; what is told is medians.

use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use deltapoll::clock;
use deltapoll::dataflow::message::Arrival;
use deltapoll::snapshot::{Place, Snapshot, Stored, Verdict};
use deltapoll_state::pages::Pages;
use deltapoll_state::store::SledStore;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use graph::body::player_of;
use graph::{Graph, SEED, chunks};
use turns::{aim, median, seconds};
use used::used;

#[path = "support/graph.rs"]
mod graph;
#[path = "support/turns.rs"]
mod turns;
#[path = "support/used.rs"]
#[allow(dead_code, reason = "this bench uses a part")]
mod used;

const CACHE_BYTES: u64 = 32 << 20;
const WORKERS: [usize; 2] = [1, 2];
/// Snapshots between reading and outcome; a backfill has as many.
const AHEAD: usize = 32;
const AIM: f64 = 1.7;

#[derive(Parser)]
#[command(name = "workers")]
struct Args {
    /// Players of the ladder
    #[arg(long, default_value_t = 100_000)]
    entries: usize,
    /// Bodies that are different
    #[arg(long, default_value_t = 16)]
    bodies: usize,
    /// Snapshots of a run; bodies come forwards, then backwards, and so on
    #[arg(long, default_value_t = 120)]
    snapshots: usize,
    /// The fraction of players that changes from one to the next
    #[arg(long, default_value_t = 0.01)]
    churn: f64,
    /// Runs with each number of workers
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let bodies = bodies(&args);
    let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..args.runs {
        for (runs, workers) in runs.iter_mut().zip(WORKERS) {
            runs.push(run(&args, &bodies, workers));
        }
    }
    println!(
        "{} snapshots of {} entries, churn {}, cut and in memory, no sink, seed {SEED}",
        args.snapshots, args.entries, args.churn
    );
    let all = (args.snapshots * args.entries) as f64;
    let mut rates = Vec::new();
    for (runs, workers) in runs.iter().zip(WORKERS) {
        let seconds = median(runs.iter().map(|run| run.seconds).collect());
        let cpu = median(runs.iter().map(|run| run.cpu_seconds).collect());
        rates.push(all / seconds);
        println!(
            "{workers} workers: {seconds:>7.3} s{:>8.2} M entries/s{:>8.2} CPU s per million entries",
            all / seconds / 1e6,
            cpu / all * 1e6
        );
    }
    println!("{}", aim("two against one", rates[1] / rates[0], AIM));
}

/// Bodies in chunks, each in an order of its own.
fn bodies(args: &Args) -> Vec<Vec<Bytes>> {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut players: Vec<(usize, usize)> = (0..args.entries).map(|number| (number, 0)).collect();
    let mut bodies = Vec::with_capacity(args.bodies);
    for _ in 0..args.bodies {
        let texts: Vec<String> = (players.iter().map(|&(n, games)| player_of(n, games))).collect();
        bodies.push(chunks(&texts));
        players.shuffle(&mut random);
        for _ in 0..(args.entries as f64 * args.churn) as usize {
            let player = random.random_range(0..args.entries);
            players[player].1 += 1;
        }
    }
    bodies
}

struct Run {
    seconds: f64,
    cpu_seconds: f64,
}

/// Through a new graph, until the last is decided.
fn run(args: &Args, bodies: &[Vec<Bytes>], workers: usize) -> Run {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SledStore::open(&dir.path().join("pages"), CACHE_BYTES).expect("a store");
    let pages = Pages::new(Arc::new(store));
    let graph = Graph::open(dir.path(), &pages, workers);
    let cut: Vec<Snapshot> = bodies.iter().map(|body| graph.fetch(1, body)).collect();
    let loaded = graph.decide(stored(&cut[0], 1));
    assert_eq!(loaded.verdict, Verdict::Sealed);
    let order = (1..cut.len()).chain((0..cut.len() - 1).rev()).cycle();
    let mut waiting = 0;
    let used = || used("self").expect("as on Linux").cpu_seconds;
    let (since, before) = (clock::now(), used());
    for (poll, at) in (2..).zip(order.take(args.snapshots)) {
        if waiting == AHEAD {
            assert_eq!(graph.outcome().verdict, Verdict::Sealed);
            waiting -= 1;
        }
        graph.send(Arrival::Snapshot(stored(&cut[at], poll)));
        waiting += 1;
    }
    for _ in 0..waiting {
        assert_eq!(graph.outcome().verdict, Verdict::Sealed);
    }
    let run = Run {
        seconds: seconds(since),
        cpu_seconds: used() - before,
    };
    graph.close();
    run
}

fn stored(cut: &Snapshot, poll: u64) -> Snapshot {
    Snapshot {
        poll,
        polled_at: poll,
        stored: Some(Stored {
            place: Place {
                polled_at: poll,
                name: None,
            },
            strict: false,
            gone: Vec::new(),
        }),
        ..cut.clone()
    }
}
