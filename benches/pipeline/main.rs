//! What does the whole process cost, from a poll to committed records?
//!
//! ```text
//! cargo bench --bench pipeline -- --bootstrap HOST:PORT
//!     [--entries N] [--churn F] [--workers W] [--rounds R]
//!     [--sink null|local|kafka|kafka+archive] [--checkpoint-min D] [--json]
//! ```
//!
//! The release binary polls `deltapoll simulate`, a ladder of `entries` players with 78-byte keys in a
//! new order each time: one round loads everything; when that is published, `rounds` more bring `churn` of
//! changes each, without a pause between polls, and one ends the run; removals are on. The sink is a real broker, which keeps
//! the two topics that a run makes (named for the time); the same and an archive in a directory; the
//! local topic log; or nothing (`null`): then what is sealed counts as published at once, which the
//! shipped program cannot do, so this program runs in its place.
//!
//! The simulation renders its bodies on the same machine: where `wall` is far above `CPU`, it was waited
//! for, and CPU seconds per million entries is the figure that says something. CPU and memory are those
//! of our process alone, from /proc.
//!
//! ```text
//! cargo bench --bench pipeline -- --bootstrap HOST:PORT --latency [--checkpoint-min D] [--runs N] [--json]
//! ```
//!
//! How long until a reader has a change: 4 cells of 300 entries, 3 of which change, polled every 100 ms,
//! beside what the disk takes for an fsync and the broker for a transaction of one record; some runs, and
//! the medians of them.
//!
//! ```text
//! cargo bench --bench pipeline -- --bootstrap HOST:PORT --sweep [--plot FILE] [--json]
//! ```
//!
//! What exactly-once costs: throughput and latency against `checkpoint.min` and partitions, beside an
//! idempotent producer; `FILE` is an SVG. It takes about twenty minutes.
//!
//! ```text
//! cargo bench --bench pipeline -- --sink null --against-unchanged [--runs N] [--json]
//! ```
//!
//! What it costs that a little changes: the first measurement, and the same without churn, by turns.
//!
//! With `--json` the text goes to standard error.
//!
//! Layout: [`program`] what is measured, [`cost`] what it takes, [`changed`] what changes take of it,
//! [`latency`] how long it takes, [`bare`] the same without us, [`sweep`] all three against settings,
//! [`plot`] its picture, [`reader`] and [`spread`] what they need.

mod bare;
#[path = "../support/broker.rs"]
mod broker;
mod changed;
mod cost;
#[path = "../support/discarding.rs"]
mod discarding;
mod latency;
mod plot;
#[path = "../support/producer.rs"]
mod producer;
mod program;
mod reader;
mod spread;
#[path = "../support/mod.rs"]
mod support;
mod sweep;
#[path = "../support/turns.rs"]
mod turns;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use serde_json::Value;

use cost::Load;
use producer::fresh_name;
use program::{Setup, Sink};
use support::machine::Machine;

const ENTRIES: u64 = 100_000;
const CHURN: f64 = 0.01;
const WORKERS: usize = 2;
const ROUNDS: u64 = 10;
const PARTITIONS: u32 = 6;
const RUNS: usize = 3;
/// The shortest that can be configured: polls follow each other.
const AT_ONCE: Duration = Duration::from_millis(1);

/// The whole pipeline.
#[derive(Parser)]
#[command(name = "pipeline")]
struct Args {
    /// Players of the ladder
    #[arg(long, default_value_t = ENTRIES)]
    entries: u64,
    /// The fraction of them that changes from poll to poll
    #[arg(long, default_value_t = CHURN)]
    churn: f64,
    #[arg(long, default_value_t = WORKERS)]
    workers: usize,
    /// Polls after the one that loads
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Where to; kafka unless told
    #[arg(long, value_enum)]
    sink: Option<Sink>,
    /// Shortest time between two seals
    #[arg(long, value_name = "D", default_value = "0s", value_parser = humantime::parse_duration)]
    checkpoint_min: Duration,
    /// A broker
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// Measure from poll to reader; what is polled is given
    #[arg(long, conflicts_with_all = ["entries", "churn", "rounds", "sink"])]
    latency: bool,
    /// Measure throughput and latency against checkpoint.min and partitions, which are given
    #[arg(long, conflicts_with_all = ["entries", "churn", "rounds", "sink", "checkpoint_min", "latency"])]
    sweep: bool,
    /// Measure the same without churn, too, by turns
    #[arg(long, conflicts_with_all = ["latency", "sweep"])]
    against_unchanged: bool,
    /// Runs of what is told as medians: --latency, and each side of --against-unchanged
    #[arg(long, default_value_t = RUNS, conflicts_with = "sweep", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// Draw the sweep as SVG
    #[arg(long, value_name = "FILE", requires = "sweep")]
    plot: Option<PathBuf>,
    /// One JSON object; the text goes to standard error
    #[arg(long)]
    json: bool,
    /// How this program calls itself: run this configuration, and publish nowhere
    #[arg(long, hide = true)]
    discarding: Option<PathBuf>,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(file) = &args.discarding {
        return discarding::run(file, args.workers, args.rounds);
    }
    let needs = args.sink.unwrap_or(Sink::Kafka).needs_broker();
    if needs && args.bootstrap.is_none() {
        // As a part of all benches, without a word of ours.
        if args.sink.is_none() && !args.latency && !args.sweep {
            return broker::not_measured("pipeline");
        }
        eprintln!("pipeline: this needs a broker: --bootstrap HOST:PORT, or --sink null or local");
        return ExitCode::from(2);
    }
    match run(&args) {
        Ok(report) => {
            if args.json {
                eprint!("{}", report.told(false));
            }
            print!("{}", report.told(args.json));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pipeline: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked, and what came of it.
struct Report {
    machine: Machine,
    title: String,
    text: String,
    json: Value,
}

impl Report {
    fn told(&self, json: bool) -> String {
        let machine = &self.machine;
        if !json {
            return format!("{}{}\n\n{}", machine.text(), self.title, self.text);
        }
        let mut report = self.json.clone();
        report["machine"] = machine.json();
        format!("{report}\n")
    }
}

fn run(args: &Args) -> io::Result<Report> {
    let dir = tempfile::tempdir()?;
    let setup = Setup {
        name: fresh_name(),
        port: 0,
        platforms: &[],
        every: AT_ONCE,
        sink: args.sink.unwrap_or(Sink::Kafka),
        bootstrap: args.bootstrap.as_deref().unwrap_or_default(),
        checkpoint_min: args.checkpoint_min,
        partitions: PARTITIONS,
        workers: args.workers,
        rounds: 0,
    };
    if args.sweep {
        return of_sweep(args, &setup);
    }
    let mut report = if args.latency {
        of_latency(&setup, args.runs, dir.path())?
    } else {
        of_cost(args, setup, dir.path())?
    };
    let min = humantime::format_duration(args.checkpoint_min);
    report.title += &format!(", {} workers, checkpoint.min {min}", args.workers);
    report.json["workers"] = args.workers.into();
    report.json["checkpoint_min_seconds"] = args.checkpoint_min.as_secs_f64().into();
    Ok(report)
}

fn of_cost(args: &Args, setup: Setup, dir: &Path) -> io::Result<Report> {
    let (machine, sink) = (Machine::look(), setup.sink.name());
    let load = Load {
        entries: args.entries,
        churn: args.churn,
    };
    let (text, mut json) = if args.against_unchanged {
        let changed = changed::measure(load, args.rounds, args.runs, &setup)?;
        (changed.text(), changed.json())
    } else {
        let cost = cost::measure(load, args.rounds, setup, dir)?;
        (cost.text(), cost.json())
    };
    json["entries"] = load.entries.into();
    json["churn"] = load.churn.into();
    json["sink"] = sink.into();
    Ok(Report {
        machine,
        title: format!(
            "{} entries, churn {}, sink {sink}",
            load.entries, load.churn
        ),
        text,
        json,
    })
}

fn of_latency(setup: &Setup, runs: usize, dir: &Path) -> io::Result<Report> {
    let machine = Machine::look();
    let runs = latency::runs(setup, runs, dir)?;
    let cells = latency::PLATFORMS.len();
    let (entries, churn) = (latency::ENTRIES, latency::CHURN);
    let every = humantime::format_duration(latency::EVERY);
    let mut json = runs.json();
    json["cells"] = cells.into();
    json["entries"] = entries.into();
    json["churn"] = churn.into();
    Ok(Report {
        machine,
        title: format!("{cells} cells of {entries} entries, churn {churn}, a poll every {every}"),
        text: runs.text(),
        json,
    })
}

fn of_sweep(args: &Args, setup: &Setup) -> io::Result<Report> {
    let machine = Machine::look();
    let sweep = sweep::sweep(setup)?;
    if let Some(file) = &args.plot {
        std::fs::write(file, plot::svg(&sweep.panels(), &machine.line()))?;
    }
    let mut json = sweep.json();
    json["workers"] = args.workers.into();
    let (entries, workers) = (sweep::LOAD.entries, args.workers);
    Ok(Report {
        machine,
        title: format!(
            "throughput: {entries} entries, all changed by every poll; {workers} workers"
        ),
        text: sweep.text(),
        json,
    })
}
