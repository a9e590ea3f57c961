//! What a run takes, part by part: it loads, polls, and ends.
//!
//! A poll ends where the next one begins; `end` is the last one with all that is left to publish and to
//! write.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Instant;

use deltapoll::clock;
use serde_json::{Value, json};

use crate::program::{Program, Setup};
use crate::support::used::used;
use crate::support::{LOOK, PATH, Simulation, bytes_under};

/// What is polled.
#[derive(Clone, Copy)]
pub struct Load {
    pub entries: u64,
    pub churn: f64,
}

/// Measures a run of one cell: a poll that loads, `rounds` more, and one that ends the run. `setup`'s
/// port and rounds are set here.
pub fn measure(load: Load, rounds: u64, mut setup: Setup, dir: &Path) -> io::Result<Cost> {
    let api = Simulation::start(load.entries, load.churn, dir)?;
    // The ladder is made with the first request.
    let body_bytes = api.get(PATH)?.len() as u64;
    (setup.port, setup.rounds) = (api.port, rounds + 2);
    let program = Program::start(&setup, dir)?;
    let looks = watch(program.process.0.id(), &api)?;
    let said = program.end()?;
    let mut cost = Cost::new(load, rounds, &looks)
        .ok_or_else(|| io::Error::other(format!("the run was not seen:\n{said}")))?;
    cost.body_bytes = body_bytes;
    cost.state_bytes = bytes_under(&dir.join("data/state"))?;
    cost.transactions = number_before(&said, " transactions");
    Ok(cost)
}

/// The process as it was at one time.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    requests: u64,
    cpu_seconds: f64,
    peak_bytes: u64,
}

/// Looks until the process has ended.
fn watch(pid: u32, api: &Simulation) -> io::Result<Vec<Look>> {
    let pid = pid.to_string();
    let mut looks: Vec<Look> = Vec::new();
    loop {
        let used = used(&pid)?;
        let last = looks.last();
        let look = Look {
            at: clock::now(),
            requests: api
                .requests()
                .unwrap_or(last.map_or(0, |look| look.requests)),
            cpu_seconds: used.cpu_seconds,
            peak_bytes: used
                .peak_bytes
                .unwrap_or(last.map_or(0, |look| look.peak_bytes)),
        };
        looks.push(look);
        if used.ended {
            return Ok(looks);
        }
        clock::pause(LOOK);
    }
}

/// The number that stands before `words`.
fn number_before(text: &str, words: &str) -> Option<u64> {
    let before = &text[..text.rfind(words)?];
    before.rsplit(' ').next()?.parse().ok()
}

/// A part of the run.
pub struct Part {
    polls: u64,
    wall_seconds: f64,
    cpu_seconds: f64,
}

impl Part {
    fn entries(&self, load: Load) -> f64 {
        (self.polls * load.entries) as f64
    }
}

/// What a run took.
pub struct Cost {
    load: Load,
    first: Part,
    polls: Part,
    end: Part,
    peak_bytes: u64,
    /// One answer of the API: held in memory as a whole, and not our doing.
    body_bytes: u64,
    state_bytes: u64,
    /// As the program tells; `None`: it does not.
    pub transactions: Option<u64>,
}

impl Cost {
    /// `None`: the process asked nothing that was seen.
    fn new(load: Load, rounds: u64, looks: &[Look]) -> Option<Cost> {
        let before = looks.first()?.requests;
        let nth = |n: u64| looks.iter().find(|look| look.requests >= before + n);
        let (first, second) = (nth(1)?, nth(2)?);
        let (ending, last) = (nth(rounds + 2)?, looks.last()?);
        let part = |polls, from: &Look, to: &Look| Part {
            polls,
            wall_seconds: to.at.duration_since(from.at).as_secs_f64(),
            cpu_seconds: to.cpu_seconds - from.cpu_seconds,
        };
        Some(Cost {
            load,
            first: part(1, first, second),
            polls: part(rounds, second, ending),
            end: part(1, ending, last),
            peak_bytes: last.peak_bytes,
            body_bytes: 0,
            state_bytes: 0,
            transactions: None,
        })
    }

    /// Entries after those of the first poll; the same a second from there to the end; CPU seconds for
    /// a million of them.
    pub fn after_load(&self) -> (u64, f64, f64) {
        let (polls, end) = (&self.polls, &self.end);
        let entries = polls.entries(self.load) + end.entries(self.load);
        (
            entries as u64,
            entries / (polls.wall_seconds + end.wall_seconds),
            (polls.cpu_seconds + end.cpu_seconds) / entries * 1e6,
        )
    }

    pub fn text(&self) -> String {
        let mut text =
            String::from("part    polls   wall/poll   CPU/poll    entries/s   CPU s per million\n");
        for (name, part) in [
            ("load", &self.first),
            ("polls", &self.polls),
            ("end", &self.end),
        ] {
            let (polls, entries) = (part.polls as f64, part.entries(self.load));
            writeln!(
                text,
                "{name:<6}{:>7}{:>10.3} s{:>9.3} s{:>13.0}{:>20.2}",
                part.polls,
                part.wall_seconds / polls,
                part.cpu_seconds / polls,
                entries / part.wall_seconds,
                part.cpu_seconds / entries * 1e6,
            )
            .expect("strings take everything");
        }
        text + &format!(
            "\npeak memory {:.1} MB: {:.1} MB beside the body; state {:.1} bytes a key\n",
            self.peak_bytes as f64 / 1e6,
            self.peak_bytes.saturating_sub(self.body_bytes) as f64 / 1e6,
            self.state_bytes as f64 / self.load.entries as f64,
        )
    }

    pub fn json(&self) -> Value {
        let part = |part: &Part| {
            let entries = part.entries(self.load);
            json!({
                "polls": part.polls,
                "wall_seconds": part.wall_seconds,
                "cpu_seconds": part.cpu_seconds,
                "entries_per_second": entries / part.wall_seconds,
                "cpu_seconds_per_million": part.cpu_seconds / entries * 1e6,
            })
        };
        json!({
            "load": part(&self.first),
            "rounds": part(&self.polls),
            "end": part(&self.end),
            "peak_bytes": self.peak_bytes,
            "body_bytes": self.body_bytes,
            "state_bytes_per_key": self.state_bytes as f64 / self.load.entries as f64,
            "transactions": self.transactions,
        })
    }
}
