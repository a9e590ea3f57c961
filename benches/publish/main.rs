//! How near does publishing come to a bare producer?
//!
//! ```text
//! cargo bench --bench publish -- --bootstrap HOST:PORT [--records N] [--transaction N] [--runs N]
//! ```
//!
//! Deltapoll: the follower alone, from batches that are sealed in a journal (and in the page cache) to the
//! answer to the last commit; an epoch, and so a transaction, holds `transaction` records: about what is
//! sent in a second. The baselines have the same records in memory, use an idempotent producer with the
//! same settings, no transactions, and take until the last acknowledgement: without headers a loop of
//! `rd_kafka_produce_batch`, which cannot set any; with headers a loop of `producev`, six headers each.
//! The same loop in transactions of the same size says what transactions cost. All take turns, each into a
//! topic that was made for this run of the bench; what is told is medians. CPU is this process', with
//! librdkafka's threads.
//!
//! Layout: [`sealed`] the journal, [`bare`] the baselines.

mod bare;
#[path = "../support/body.rs"]
#[allow(dead_code, reason = "this bench uses a part")]
mod body;
#[path = "../support/broker.rs"]
mod broker;
#[path = "../support/producer.rs"]
mod producer;
#[path = "../support/publisher.rs"]
mod publisher;
mod sealed;
#[path = "../support/tell.rs"]
mod tell;
#[path = "../support/turns.rs"]
mod turns;
#[path = "../support/used.rs"]
#[allow(dead_code, reason = "this bench uses a part")]
mod used;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use deltapoll::clock;
use deltapoll::io::kafka::partition_of;

use body::player;
use producer::{Kind, fresh_name};
use tell::tell_machine;
use turns::{aim, median, seconds};
use used::used;

const PARTITIONS: u32 = 6;
/// Records that are different.
const DISTINCT: usize = 100_000;
const AIM: f64 = 0.9;

#[derive(Parser)]
#[command(name = "publish")]
struct Args {
    /// A broker
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// Records of a run
    #[arg(long, default_value_t = 2_000_000)]
    records: usize,
    /// Records of a transaction
    #[arg(long, default_value_t = 400_000)]
    transaction: usize,
    /// Runs of each
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn broker(&self) -> &str {
        self.bootstrap.as_deref().expect("asked for first")
    }
}

/// What is published.
struct Record {
    partition: u32,
    key: String,
    value: String,
}

/// What one run took.
#[derive(Clone, Copy)]
struct Run {
    seconds: f64,
    cpu_seconds: f64,
}

/// What is measured, by turns.
const NAMES: [&str; 5] = [
    "deltapoll, no headers",
    "bare produce_batch",
    "deltapoll, headers",
    "bare producev, headers",
    "the same, transactions",
];

fn main() -> ExitCode {
    let args = Args::parse();
    if args.bootstrap.is_none() {
        return broker::not_measured("publish");
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("publish: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    let records: Vec<Record> = (0..DISTINCT).map(record).collect();
    let mut runs: [Vec<Run>; NAMES.len()] = std::array::from_fn(|_| Vec::new());
    for _ in 0..args.runs {
        for (which, runs) in runs.iter_mut().enumerate() {
            runs.push(one(args, &records, which)?);
        }
    }
    tell_machine();
    println!(
        "{} records of {} bytes, {PARTITIONS} partitions, transactions of {}",
        args.records,
        records[0].key.len() + records[0].value.len(),
        args.transaction
    );
    let count = args.records as f64;
    let rate = |runs: &[Run]| count / median(runs.iter().map(|run| run.seconds).collect());
    for (name, runs) in NAMES.iter().zip(&runs) {
        let cpu = median(runs.iter().map(|run| run.cpu_seconds).collect());
        println!(
            "{name:<24}{:>9.3} M records/s{:>8.2} CPU s per million",
            rate(runs) / 1e6,
            cpu / count * 1e6
        );
    }
    let ratio = |of: usize, to: usize| rate(&runs[of]) / rate(&runs[to]);
    println!(
        "{}",
        aim("no headers, against produce_batch", ratio(0, 1), AIM)
    );
    println!("{}", aim("headers, against producev", ratio(2, 3), AIM));
    println!(
        "bare producev, transactions against none: {:.2}",
        ratio(4, 3)
    );
    Ok(())
}

fn record(number: usize) -> Record {
    let key = format!("{number:0>78}");
    Record {
        partition: partition_of(key.as_bytes(), PARTITIONS),
        key,
        value: player(number),
    }
}

/// One run of what is `which`th of [`NAMES`], in a topic of its own.
fn one(args: &Args, records: &[Record], which: usize) -> io::Result<Run> {
    let name = fresh_name();
    let config = publisher::config(&name, args.broker(), PARTITIONS, which == 2);
    let dir = tempfile::tempdir()?;
    let ours = which == 0 || which == 2;
    let sealed = sealed::seal(dir.path(), &name, records, args, ours);
    let mut publisher = publisher::publisher(config, &sealed.ledger).map_err(io::Error::other)?;
    let bare = bare::Bare {
        bootstrap: args.broker(),
        topic: &name,
        records,
        count: args.records,
    };
    match which {
        1 => bare.batches(),
        3 => bare.loops(Kind::Idempotent, args.transaction),
        4 => bare.loops(Kind::Transactional, args.transaction),
        _ => sealed::publish(&mut publisher, &sealed.marks).map_err(io::Error::other),
    }
}

/// What `work` takes.
fn measure<E: From<io::Error>>(work: impl FnOnce() -> Result<(), E>) -> Result<Run, E> {
    let (since, before) = (clock::now(), used("self")?.cpu_seconds);
    work()?;
    Ok(Run {
        seconds: seconds(since),
        cpu_seconds: used("self")?.cpu_seconds - before,
    })
}
