//! Do two cores do twice as much as one?
//!
//! ```text
//! cargo bench --bench workers [-- --entries N --snapshots N --churn F --runs N]
//! ```
//!
//! Bodies of one ladder stay in memory. One worker with one reader on one core, then two and two on two
//! cores, read them ahead as a backfill does its files (cut, scanned, hashed), and decide them in order, each in
//! an epoch of its own, through the real graph; journal and state are real, what is sealed counts as
//! published. From one snapshot to the next `churn` of the entries change. The load is not measured. The two
//! take turns, each time in a process of its own, bound to its cores (`taskset`), with a new directory; what
//! is told is medians.

use std::process::Command;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use deltapoll::clock;
use deltapoll::dataflow::message::Arrival;
use deltapoll::snapshot::{Place, Snapshot, Stored, Verdict};
use deltapoll_state::pages::Pages;
use deltapoll_state::store::SledStore;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use graph::body::{answer, player_of, runtime};
use graph::{Graph, SEED, chunks, snapshot};
use tell::tell_machine;
use turns::{aim, median, seconds};
use used::used;

#[path = "support/graph.rs"]
mod graph;
#[path = "support/tell.rs"]
mod tell;
#[path = "support/turns.rs"]
mod turns;
#[path = "support/used.rs"]
#[allow(dead_code, reason = "this bench uses a part")]
mod used;

const CACHE_BYTES: u64 = 32 << 20;
const WORKERS: [usize; 2] = [1, 2];
/// Snapshots between reading and outcome; a backfill has as many.
const AHEAD: usize = 32;
/// Of them, read and not yet handed in, beside those at hand.
const READ_AHEAD: usize = 4;
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
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// One run with so many workers, as this bench starts it
    #[arg(long, hide = true)]
    only: Option<usize>,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    if let Some(workers) = args.only {
        let run = run(&args, bodies(&args), workers);
        println!("{} {}", run.seconds, run.cpu_seconds);
        return;
    }
    let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..args.runs {
        for (runs, workers) in runs.iter_mut().zip(WORKERS) {
            runs.push(bound(workers));
        }
    }
    tell_machine();
    println!(
        "{} snapshots of {} entries, churn {}, in memory, no sink, seed {SEED}",
        args.snapshots, args.entries, args.churn
    );
    let all = (args.snapshots * args.entries) as f64;
    let mut rates = Vec::new();
    for (runs, workers) in runs.iter().zip(WORKERS) {
        let seconds = median(runs.iter().map(|run| run.seconds).collect());
        let cpu = median(runs.iter().map(|run| run.cpu_seconds).collect());
        rates.push(all / seconds);
        println!(
            "{workers} on as many cores: {seconds:>7.3} s{:>8.2} M entries/s{:>8.2} CPU s per million entries",
            all / seconds / 1e6,
            cpu / all * 1e6
        );
    }
    println!("{}", aim("two against one", rates[1] / rates[0], AIM));
}

/// One run in a process of its own, which may use so many cores.
fn bound(workers: usize) -> Run {
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(format!("0-{}", workers - 1));
    command.arg(std::env::current_exe().expect("this program"));
    command.args(std::env::args().skip(1));
    let output = command.arg("--only").arg(workers.to_string()).output();
    let output = output.expect("taskset is there (util-linux)");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut numbers = told
        .split_whitespace()
        .map(|word| word.parse().expect("a number"));
    let mut next = || numbers.next().expect("two numbers");
    Run {
        seconds: next(),
        cpu_seconds: next(),
    }
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
fn run(args: &Args, bodies: Vec<Vec<Bytes>>, workers: usize) -> Run {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SledStore::open(&dir.path().join("pages"), CACHE_BYTES).expect("a store");
    let pages = Pages::new(Arc::new(store));
    let graph = Graph::open(dir.path(), &pages, workers);
    let loaded = graph.decide(stored(graph.fetch(1, &bodies[0]), 1));
    assert_eq!(loaded.verdict, Verdict::Sealed);
    let used = || used("self").expect("as on Linux").cpu_seconds;
    let (since, before) = (clock::now(), used());
    let order = (1..bodies.len()).chain((0..bodies.len() - 1).rev()).cycle();
    let order: Vec<usize> = order.take(args.snapshots).collect();
    let mut waiting = 0;
    for (poll, snapshot) in (2..).zip(read_ahead(bodies, order, workers)) {
        if waiting == AHEAD {
            assert_eq!(graph.outcome().verdict, Verdict::Sealed);
            waiting -= 1;
        }
        let snapshot = snapshot.recv().expect("a reader sends what it reads");
        graph.send(Arrival::Snapshot(stored(snapshot, poll)));
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

/// Reads the bodies in this order on as many threads as there are workers; each snapshot comes by itself.
fn read_ahead(
    bodies: Vec<Vec<Bytes>>,
    order: Vec<usize>,
    workers: usize,
) -> impl Iterator<Item = Receiver<Snapshot>> {
    let bodies = Arc::new(bodies);
    // Whose turn it is gets the next place; no more of them are read than may wait.
    let (turns, readers) = sync_channel::<(usize, _)>(READ_AHEAD);
    let readers = Arc::new(Mutex::new(readers));
    for _ in 0..workers {
        let (bodies, readers) = (bodies.clone(), readers.clone());
        std::thread::spawn(move || {
            let runtime = runtime();
            loop {
                let next = readers.lock().expect("no reader panics").recv();
                let Ok((at, sender)) = next else { return };
                let answer = runtime.block_on(answer(&bodies[at], None, workers));
                let sender: std::sync::mpsc::SyncSender<Snapshot> = sender;
                // Nobody waits when the run has failed.
                drop(sender.send(snapshot(1, answer)));
            }
        });
    }
    let (places, received) = sync_channel(READ_AHEAD);
    std::thread::spawn(move || {
        for at in order {
            let (sender, receiver) = sync_channel(1);
            if turns.send((at, sender)).is_err() || places.send(receiver).is_err() {
                return;
            }
        }
    });
    received.into_iter()
}

fn stored(snapshot: Snapshot, poll: u64) -> Snapshot {
    Snapshot {
        poll,
        polled_at: poll,
        stored: Some(Stored {
            place: Place {
                polled_at: poll,
                name: None,
            },
            gone: Vec::new(),
        }),
        ..snapshot
    }
}
