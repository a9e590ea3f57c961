//! What do many keys take: disk, memory, and the time until a start asks its first question?
//!
//! ```text
//! cargo bench --bench state [-- --cells 10,20] [--keys N] [--workers N] [--churn F] [--rounds N]
//! ```
//!
//! An API in this process makes up its answers while it sends them, so that they need no memory: cells of
//! `keys` keys of 78 bytes each, about 214 bytes an entry, in a new order each time. For each number of
//! cells three processes follow each other on one directory, removals on, what is sealed counts as
//! published: one loads all cells; one asks for all of them once more, and nothing has changed; one sees
//! `rounds` answers of each cell, of which `churn` changes each time.
//!
//! Disk: the state's files at the end of a process. Memory: the most that a process had, with what it
//! always needs and with bodies on their way (`limits.staging`), and the same less one body. The last two
//! sizes give lines on which [`FAR`] keys lie.
//!
//! Layout: [`api`] the answers, [`stage`] the processes.

mod api;
#[path = "../support/discarding.rs"]
mod discarding;
mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use stage::{Setup, Stage, stage};
use support::machine::Machine;

/// What an entry of a page is made of: hashes and fingerprints, and the key.
const STORED_BYTES: f64 = 33.0 + api::KEY_BYTES as f64;
const DISK_AIM: f64 = 1.6 * STORED_BYTES;
const MEMORY_AIM: f64 = 90.0;
/// Of 10 million keys, in seconds.
const START_AIM: f64 = 2.0;
/// Where it is told without being measured.
const FAR: f64 = 100e6;

#[derive(Parser)]
#[command(name = "state")]
struct Args {
    /// Numbers of cells, smallest first
    #[arg(long, value_delimiter = ',', default_value = "10,20")]
    cells: Vec<usize>,
    /// Keys of each cell
    #[arg(long, default_value_t = 1_000_000)]
    keys: usize,
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// The fraction of keys that changes from answer to answer, in the end
    #[arg(long, default_value_t = 0.01)]
    churn: f64,
    /// Answers of each cell then
    #[arg(long, default_value_t = 3)]
    rounds: u64,
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
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("state: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All about one number of cells.
struct Measured {
    keys: f64,
    stages: [Stage; 3],
}

fn run(args: &Args) -> io::Result<()> {
    print!("{}", Machine::look().text());
    println!(
        "cells of {} keys, {} workers, churn {} in the end\n",
        args.keys, args.workers, args.churn
    );
    println!("                  seconds   to the first   peak memory, B a key    state on");
    println!("    keys             in all      poll, ms     all   less a body   disk, B a key");
    let mut all = Vec::new();
    for cells in &args.cells {
        let measured = measure(args, *cells)?;
        measured.tell();
        all.push(measured);
    }
    println!(
        "\naims: disk {DISK_AIM:.0} B a key, memory {MEMORY_AIM:.0} B a key, start {START_AIM} s of 10 M keys"
    );
    if let [.., one, two] = &all[..] {
        extrapolate(one, two);
    }
    Ok(())
}

fn measure(args: &Args, cells: usize) -> io::Result<Measured> {
    let dir = tempfile::tempdir()?;
    let api = api::Api::start(args.keys)?;
    let setup = Setup {
        cells,
        workers: args.workers,
        dir: dir.path(),
        api: &api,
    };
    let load = stage(&setup, 1)?;
    let unchanged = stage(&setup, 1)?;
    api.churn(args.churn);
    let churned = stage(&setup, args.rounds)?;
    Ok(Measured {
        keys: (cells * args.keys) as f64,
        stages: [load, unchanged, churned],
    })
}

const STAGES: [&str; 3] = ["load", "same", "churn"];

impl Measured {
    fn tell(&self) {
        for (name, stage) in STAGES.iter().zip(&self.stages) {
            println!(
                "{:>7.1} M  {name:<7}{:>8.1}{:>14.0}{:>8.0}{:>14.0}{:>16.1}",
                self.keys / 1e6,
                stage.seconds,
                stage.to_first_poll * 1e3,
                stage.peak_bytes / self.keys,
                (stage.peak_bytes - stage.body_bytes) / self.keys,
                stage.disk_bytes / self.keys,
            );
        }
    }
}

/// Where the line through both sizes is, far away.
fn extrapolate(one: &Measured, two: &Measured) {
    println!(
        "\nat {:.0} M keys, on a line through the last two:",
        FAR / 1e6
    );
    for (at, name) in STAGES.iter().enumerate() {
        let far = |of: fn(&Stage) -> f64| {
            let (a, b) = (of(&one.stages[at]), of(&two.stages[at]));
            b + (b - a) / (two.keys - one.keys) * (FAR - two.keys)
        };
        println!(
            "  {name:<7} first poll after {:.2} s, peak memory {:.2} GB, state {:.2} GB",
            far(|stage| stage.to_first_poll),
            far(|stage| stage.peak_bytes) / 1e9,
            far(|stage| stage.disk_bytes) / 1e9
        );
    }
}
