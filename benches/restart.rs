//! After a crash, how long until it publishes again?
//!
//! ```text
//! cargo bench --bench restart -- --bootstrap HOST:PORT [--entries N] [--workers W]
//! ```
//!
//! The release binary loads a ladder of `entries` players with 78-byte keys and publishes it. Then every
//! player changes, while Kafka cannot be reached: the changes are sealed, not published, and the process
//! is killed. What is measured is the next start, with Kafka there: from its begin to the answer to its
//! first transaction with changes, and the share of each phase, as the program tells it.

mod support;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;
use deltapoll::clock;

use support::machine::Machine;
use support::{Killed, LOOK, PATH, Simulation};

/// How long any part may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A start after a crash.
#[derive(Parser)]
#[command(name = "restart")]
struct Args {
    /// Players of the ladder
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// A broker
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: String,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("restart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<String> {
    let dir = tempfile::tempdir()?;
    let api = Simulation::start(args.entries, 1.0, dir.path())?;
    let name = format!("restart-{}", clock::unix_ms());
    configure(&name, api.port, &args.bootstrap, dir.path())?;
    let mut load = start(args, dir.path(), "load", &["--rounds", "1"])?;
    let status = load.0.wait()?;
    if !status.success() {
        return Err(io::Error::other(output(dir.path(), "load")));
    }
    // Nobody listens there: what is sealed stays in the journal.
    configure(&name, api.port, "127.0.0.1:1", dir.path())?;
    let sealing = start(args, dir.path(), "sealing", &["--rounds", "1"])?;
    // Said when its outcome is known: it is sealed.
    wait_for(dir.path(), "sealing", "first poll done")?;
    drop(sealing);
    configure(&name, api.port, &args.bootstrap, dir.path())?;
    let begun = clock::now();
    let again = start(args, dir.path(), "again", &[])?;
    let said = wait_for(dir.path(), "again", "first transaction")?;
    let took = begun.elapsed();
    drop(again);
    let mut text = format!(
        "{}\n{} keys in the state, as many changes sealed and not published, {} workers\n\
         publishing again {:.3} s after the start\n",
        Machine::look().text(),
        args.entries,
        args.workers,
        took.as_secs_f64()
    );
    for line in said.lines() {
        for told in ["started in", "publishing goes on", "first transaction"] {
            if let Some(at) = line.find(told) {
                writeln!(text, "  {}", &line[at..]).expect("strings take everything");
            }
        }
    }
    Ok(text)
}

fn start(args: &Args, dir: &Path, output: &str, more: &[&str]) -> io::Result<Killed> {
    let file = fs::File::create(dir.join(output))?;
    let process = Command::new(env!("CARGO_BIN_EXE_deltapoll"))
        .current_dir(dir)
        .args(["--workers", &args.workers.to_string(), "run"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    Ok(Killed(process))
}

fn output(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_default()
}

/// What the process said up to a line with `words`.
fn wait_for(dir: &Path, name: &str, words: &str) -> io::Result<String> {
    let deadline = clock::now() + PATIENCE;
    loop {
        let said = output(dir, name);
        if said.contains(words) {
            return Ok(said);
        }
        if clock::now() > deadline {
            return Err(io::Error::other(format!(
                "it never said '{words}':\n{said}"
            )));
        }
        clock::pause(LOOK);
    }
}

fn configure(name: &str, port: u16, bootstrap: &str, dir: &Path) -> io::Result<()> {
    let text = format!(
        "name = {name:?}\n\
         data_dir = \"data\"\n\
         [source.challenger]\n\
         url = \"http://127.0.0.1:{port}{PATH}\"\n\
         every = \"1h\"\n\
         records = \"/entries\"\n\
         key = [\"/puuid\"]\n\
         topic = {name:?}\n\
         [kafka]\n\
         bootstrap = {bootstrap:?}\n\
         properties = {{ \"compression.type\" = \"lz4\" }}\n\
         create = {{ partitions = 6, replication = 1 }}\n"
    );
    fs::write(dir.join("deltapoll.toml"), text)
}
