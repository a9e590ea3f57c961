//! How fast does a backfill go, and do two workers help?
//!
//! ```text
//! cargo bench --bench backfill [-- --entries N --snapshots N --churn F --runs N]
//! cargo bench --bench backfill -- --small
//! ```
//!
//! Snapshots of one ladder, each entry about 190 bytes with a 78-byte key, in a new order each time, are
//! written uncompressed into the temporary directory; of `churn` of them the points change from one
//! snapshot to the next. The release binary reads them into the local topic log, with one worker and
//! with two by turns; what is told is the median of the runs, until the last snapshot was sealed, the
//! first one (all added) included. `--small`: 10,000 snapshots of 300 entries.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use deltapoll::clock;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use support::machine::Machine;
use support::used::used;
use support::{LOOK, SEED};

mod support;

/// 2026-08-01T00:00:00Z, in Unix seconds: when the first snapshot was polled.
const BEGIN: usize = 1_785_542_400;
const WORKERS: [usize; 2] = [1, 2];

#[derive(Parser)]
#[command(name = "backfill")]
struct Args {
    /// Players of the ladder
    #[arg(long, default_value_t = 100_000)]
    entries: usize,
    /// Snapshots of it
    #[arg(long, default_value_t = 40)]
    snapshots: usize,
    /// The fraction of players that changes from one to the next
    #[arg(long, default_value_t = 0.01)]
    churn: f64,
    /// Runs with each number of workers
    #[arg(long, default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// 10,000 snapshots of 300 entries
    #[arg(long)]
    small: bool,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    if args.small {
        (args.entries, args.snapshots) = (300, 10_000);
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("backfill: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let bytes = write_snapshots(args, dir.path())?;
    println!("{}", Machine::look().text());
    println!(
        "{} snapshots of {} entries, churn {}, {:.0} bytes an entry, seed {SEED}",
        args.snapshots,
        args.entries,
        args.churn,
        bytes as f64 / (args.snapshots * args.entries) as f64
    );
    let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..args.runs {
        for (runs, workers) in runs.iter_mut().zip(WORKERS) {
            runs.push(backfill(dir.path(), workers)?);
        }
    }
    let all = (args.snapshots * args.entries) as f64;
    let mut rates = Vec::new();
    for (runs, workers) in runs.iter_mut().zip(WORKERS) {
        let seconds = median(runs.iter().map(|run| run.seconds));
        let cpu = median(runs.iter().map(|run| run.cpu_seconds));
        rates.push(all / seconds);
        println!(
            "{workers} workers: {:>6.3} s, {:>5.2} M entries/s, {:>6.0} snapshots/s, {:.2} CPU s per million \
             entries",
            seconds,
            all / seconds / 1e6,
            args.snapshots as f64 / seconds,
            cpu / all * 1e6
        );
    }
    println!("two against one: {:.2}", rates[1] / rates[0]);
    Ok(())
}

struct Run {
    seconds: f64,
    cpu_seconds: f64,
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn backfill(dir: &Path, workers: usize) -> io::Result<Run> {
    let data = dir.join("data");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    let output = dir.join("output");
    let mut process = Command::new(env!("CARGO_BIN_EXE_deltapoll"))
        .current_dir(dir)
        .args([
            "--workers",
            &workers.to_string(),
            "backfill",
            "snapshots/{time}.json",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&output)?)
        .spawn()?;
    let cpu_seconds = cpu_at_end(process.id())?;
    let status = process.wait()?;
    let told = fs::read_to_string(&output)?;
    let seconds = told.lines().find_map(|line| {
        let (_, rest) = line
            .split_once("backfill: ")?
            .1
            .split_once(" entries in ")?;
        rest.split_once(" s ")?.0.parse().ok()
    });
    match seconds.filter(|_| status.success()) {
        Some(seconds) => Ok(Run {
            seconds,
            cpu_seconds,
        }),
        None => Err(io::Error::other(format!("{status}:\n{told}"))),
    }
}

/// Waits until the process has ended.
fn cpu_at_end(process: u32) -> io::Result<f64> {
    loop {
        let used = used(&process.to_string())?;
        if used.ended {
            return Ok(used.cpu_seconds);
        }
        clock::pause(LOOK);
    }
}

/// Writes the configuration and all snapshots; returns the bytes of these.
fn write_snapshots(args: &Args, dir: &Path) -> io::Result<u64> {
    let text = "name = \"bench\"\ndata_dir = \"data\"\n[source.ladder]\nurl = \"http://127.0.0.1:1/\"\n\
                records = \"/entries\"\nkey = [\"/puuid\"]\n";
    fs::write(dir.join("deltapoll.toml"), text)?;
    fs::create_dir(dir.join("snapshots"))?;
    let mut random = StdRng::seed_from_u64(SEED);
    let mut players: Vec<(String, [u32; 3])> = (0..args.entries)
        .map(|_| {
            let key = (0..78).map(|_| char::from(random.random_range(b'a'..=b'z')));
            (
                key.collect(),
                std::array::from_fn(|_| random.random_range(0..1000)),
            )
        })
        .collect();
    let mut bytes = 0;
    for number in 0..args.snapshots {
        players.shuffle(&mut random);
        for _ in 0..(args.entries as f64 * args.churn) as usize {
            let player = random.random_range(0..args.entries);
            players[player].1[0] += 1;
        }
        let path = dir.join(format!("snapshots/{}.json", BEGIN + number));
        let mut file = io::BufWriter::new(fs::File::create(&path)?);
        write!(file, "{{\"tier\":\"CHALLENGER\",\"entries\":[")?;
        for (at, (key, [points, wins, losses])) in players.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(
                file,
                "{comma}{{\"puuid\":\"{key}\",\"leaguePoints\":{points},\"rank\":\"I\",\"wins\":{wins},\
                 \"losses\":{losses},\"veteran\":false,\"hotStreak\":false}}"
            )?;
        }
        write!(file, "]}}")?;
        file.flush()?;
        bytes += fs::metadata(&path)?.len();
    }
    Ok(bytes)
}
