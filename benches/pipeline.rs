//! What does the whole process cost, from a poll to committed records?
//!
//! ```text
//! cargo bench --bench pipeline -- --bootstrap HOST:PORT
//!     [--entries N] [--churn F] [--workers W] [--rounds R] [--sink kafka|local] [--json]
//! ```
//!
//! The release binary polls `deltapoll simulate`, a ladder of `entries` players with 78-byte keys in a
//! new order each time, without a pause between polls: one round loads everything, `rounds` more bring
//! `churn` of changes each, and one ends the run; removals are on. The sink is a real broker, which keeps the two topics that a
//! run makes (named for the time), or the local topic log.
//!
//! The simulation renders its bodies on the same machine: where `wall` is far above `CPU`, it was waited
//! for, and CPU seconds per million entries is the figure that says something. CPU and memory are those
//! of our process alone, from /proc. A poll ends where the next one begins; `end` is the last one with
//! all that is left to publish and to write.

mod support;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

use clap::Parser;
use deltapoll::clock;

use support::{Killed, LOOK, PATH, Simulation};

const ENTRIES: u64 = 100_000;
const CHURN: f64 = 0.01;
const WORKERS: usize = 2;
const ROUNDS: u64 = 10;
const PARTITIONS: u32 = 6;
/// Linux says so to every program.
const TICKS_PER_SECOND: f64 = 100.0;

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
    #[arg(long, value_enum, default_value_t = Sink::Kafka)]
    sink: Sink,
    /// A broker, for --sink kafka
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Sink {
    Kafka,
    Local,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.sink == Sink::Kafka && args.bootstrap.is_none() {
        eprintln!(
            "pipeline: the sink kafka needs a broker: --bootstrap HOST:PORT, or --sink local"
        );
        return ExitCode::from(2);
    }
    match run(&args) {
        Ok(report) => {
            let text = if args.json {
                report.json(&args)
            } else {
                report.text(&args)
            };
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pipeline: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<Report> {
    let dir = tempfile::tempdir()?;
    let api = Simulation::start(args.entries, args.churn, dir.path())?;
    // The ladder is made with the first request.
    let body_bytes = api.get(PATH)?.len() as u64;
    let config = dir.path().join("deltapoll.toml");
    fs::write(&config, configuration(args, api.port, dir.path()))?;
    let output = fs::File::create(dir.path().join("output"))?;
    let process = Command::new(env!("CARGO_BIN_EXE_deltapoll"))
        .args(["--config".as_ref(), config.as_os_str()])
        .args(["--workers", &args.workers.to_string(), "run"])
        .args(["--rounds", &(args.rounds + 2).to_string()])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    let mut process = Killed(process);
    let looks = watch(&mut process.0, &api)?;
    let status = process.0.wait()?;
    if !status.success() {
        let output = fs::read_to_string(dir.path().join("output"))?;
        return Err(io::Error::other(format!("{status}:\n{output}")));
    }
    let state_bytes = bytes_under(&dir.path().join("data/state"))?;
    let mut report =
        Report::new(args, &looks).ok_or_else(|| io::Error::other("the run was not seen"))?;
    (report.body_bytes, report.state_bytes) = (body_bytes, state_bytes);
    Ok(report)
}

fn configuration(args: &Args, port: u16, dir: &Path) -> String {
    let name = format!("bench-{}", clock::unix_ms());
    let data_dir = dir.join("data");
    let mut text = format!(
        "name = {name:?}\n\
         data_dir = {data_dir:?}\n\
         [source.challenger]\n\
         url = \"http://127.0.0.1:{port}{PATH}\"\n\
         every = \"1ms\"\n\
         records = \"/entries\"\n\
         key = [\"/puuid\"]\n\
         topic = {name:?}\n"
    );
    if let (Sink::Kafka, Some(bootstrap)) = (args.sink, &args.bootstrap) {
        write!(
            text,
            "[kafka]\n\
             bootstrap = {bootstrap:?}\n\
             properties = {{ \"compression.type\" = \"lz4\" }}\n\
             create = {{ partitions = {PARTITIONS}, replication = 1 }}\n"
        )
        .expect("strings take everything");
    }
    text
}

/// The process as it was at one time.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    requests: u64,
    cpu_seconds: f64,
    peak_bytes: u64,
}

/// Looks until the process has ended; an ended process that nobody waited for still has its CPU time.
fn watch(process: &mut Child, api: &Simulation) -> io::Result<Vec<Look>> {
    let proc = format!("/proc/{}", process.id());
    let mut looks: Vec<Look> = Vec::new();
    loop {
        let stat = fs::read_to_string(format!("{proc}/stat"))?;
        let status = fs::read_to_string(format!("{proc}/status"))?;
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
        let (Some(user), Some(system)) = (ticks(11), ticks(12)) else {
            return Err(io::Error::other("/proc/PID/stat is not as on Linux"));
        };
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        let last = looks.last();
        looks.push(Look {
            at: clock::now(),
            requests: api
                .requests()
                .unwrap_or(last.map_or(0, |look| look.requests)),
            cpu_seconds: (user + system) / TICKS_PER_SECOND,
            peak_bytes: peak.map_or(last.map_or(0, |look| look.peak_bytes), |kib| kib * 1024),
        });
        if fields[0] == "Z" {
            return Ok(looks);
        }
        clock::pause(LOOK);
    }
}

fn bytes_under(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => bytes_under(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}

/// A part of the run.
struct Part {
    polls: u64,
    wall_seconds: f64,
    cpu_seconds: f64,
}

struct Report {
    load: Part,
    polls: Part,
    end: Part,
    peak_bytes: u64,
    /// One answer of the API: held in memory as a whole, and not our doing.
    body_bytes: u64,
    state_bytes: u64,
}

impl Report {
    /// `None`: the process asked nothing that was seen.
    fn new(args: &Args, looks: &[Look]) -> Option<Report> {
        let before = looks.first()?.requests;
        let nth = |n: u64| looks.iter().find(|look| look.requests >= before + n);
        let (first, second) = (nth(1)?, nth(2)?);
        let (ending, last) = (nth(args.rounds + 2)?, looks.last()?);
        let part = |polls, from: &Look, to: &Look| Part {
            polls,
            wall_seconds: to.at.duration_since(from.at).as_secs_f64(),
            cpu_seconds: to.cpu_seconds - from.cpu_seconds,
        };
        Some(Report {
            load: part(1, first, second),
            polls: part(args.rounds, second, ending),
            end: part(1, ending, last),
            peak_bytes: last.peak_bytes,
            body_bytes: 0,
            state_bytes: 0,
        })
    }

    fn text(&self, args: &Args) -> String {
        let mut text = format!(
            "{} entries, churn {}, {} workers, sink {:?}\n\n\
             part    polls   wall/poll   CPU/poll    entries/s   CPU s per million\n",
            args.entries, args.churn, args.workers, args.sink
        );
        for (name, part) in [
            ("load", &self.load),
            ("polls", &self.polls),
            ("end", &self.end),
        ] {
            let polls = part.polls as f64;
            writeln!(
                text,
                "{name:<6}{:>7}{:>10.3} s{:>9.3} s{:>13.0}{:>20.2}",
                part.polls,
                part.wall_seconds / polls,
                part.cpu_seconds / polls,
                part.entries(args) / part.wall_seconds,
                part.cpu_seconds / part.entries(args) * 1e6,
            )
            .expect("strings take everything");
        }
        text + &format!(
            "\npeak memory {:.1} MB: {:.1} MB beside the body; state {:.1} bytes a key\n",
            self.peak_bytes as f64 / 1e6,
            self.peak_bytes.saturating_sub(self.body_bytes) as f64 / 1e6,
            self.state_bytes as f64 / args.entries as f64,
        )
    }

    fn json(&self, args: &Args) -> String {
        let part = |part: &Part| {
            serde_json::json!({
                "polls": part.polls,
                "wall_seconds": part.wall_seconds,
                "cpu_seconds": part.cpu_seconds,
                "entries_per_second": part.entries(args) / part.wall_seconds,
                "cpu_seconds_per_million": part.cpu_seconds / part.entries(args) * 1e6,
            })
        };
        let report = serde_json::json!({
            "entries": args.entries,
            "churn": args.churn,
            "workers": args.workers,
            "sink": format!("{:?}", args.sink).to_lowercase(),
            "load": part(&self.load),
            "rounds": part(&self.polls),
            "end": part(&self.end),
            "peak_bytes": self.peak_bytes,
            "body_bytes": self.body_bytes,
            "state_bytes_per_key": self.state_bytes as f64 / args.entries as f64,
        });
        format!("{report}\n")
    }
}

impl Part {
    fn entries(&self, args: &Args) -> f64 {
        (self.polls * args.entries) as f64
    }
}
