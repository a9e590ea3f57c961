//! What a run takes, part by part: it loads, polls, and ends.
//!
//! A poll ends where the next one begins; `end` is the last one with all that is left to publish and to
//! write. After the load the API waits until the process does nothing any more, so that what was still to be
//! published does not count as polls. Not so where `checkpoint.min` paces the polls: nothing is left behind
//! then, and waiting would take from what they have to wait.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use deltapoll::clock;
use serde_json::{Value, json};

use crate::program::{Program, Setup};
use crate::support::used::used;
use crate::support::{LOOK, PATH, Simulation, bytes_under};

/// A client that waits for longer gives up.
const HOLD: Duration = Duration::from_secs(25);
/// Who uses hardly any CPU for so long does nothing, unless a broker is slow: one that was just started takes
/// a second to let the first transaction begin.
const IDLE: Duration = Duration::from_secs(2);
const IDLE_CPU_SECONDS: f64 = 0.045;
/// `checkpoint.min` from here on paces polls.
const PACED: Duration = Duration::from_secs(1);
/// What a run leaves on disk, and where.
const DISK: [(&str, &str); 4] = [
    ("state", "data/state"),
    ("journal", "data/journal"),
    ("topics", "data/topics"),
    ("archive", "archive"),
];

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
    let is_held = setup.checkpoint_min < PACED;
    if is_held {
        let (asked, _) = api.polls().ok_or_else(unseen)?;
        api.hold_after(Some(asked + 1))?;
    }
    let program = Program::start(&setup, dir)?;
    let (looks, idle) = watch(program.process.0.id(), &api, is_held)?;
    let said = program.end()?;
    if is_held && idle.is_none() {
        return Err(unseen());
    }
    let mut cost = Cost::new(load, rounds, &looks, idle)
        .ok_or_else(|| io::Error::other(format!("the run was not seen:\n{said}")))?;
    cost.body_bytes = body_bytes;
    for (name, place) in DISK {
        let place = dir.join(place);
        if place.exists() {
            cost.disk.push((name, bytes_under(&place)?));
        }
    }
    cost.changes = changes(&said).map(|changes| changes.saturating_sub(load.entries));
    cost.transactions = number_before(&said, " transactions");
    Ok(cost)
}

fn unseen() -> io::Error {
    io::Error::other("the simulation does not say which polls it answered")
}

/// The process as it was at one time.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    /// Polls that were answered.
    answered: u64,
    cpu_seconds: f64,
    peak_bytes: u64,
}

/// When a process that was held was idle, and when it was let go.
#[derive(Clone, Copy)]
struct Idle {
    since: Look,
    until: Look,
}

/// Looks until the process has ended. `is_held`: the poll after the one that loads is held; it is let go when
/// the process is idle.
fn watch(pid: u32, api: &Simulation, is_held: bool) -> io::Result<(Vec<Look>, Option<Idle>)> {
    let pid = pid.to_string();
    let mut looks: Vec<Look> = Vec::new();
    // Since when it waits for its second answer, and since when it uses no CPU.
    let (mut held, mut quiet) = (None, None);
    let mut idle = None;
    loop {
        let used = used(&pid)?;
        let last = looks.last();
        let polls = api.polls();
        let look = Look {
            at: clock::now(),
            answered: polls.map_or(last.map_or(0, |look| look.answered), |(_, answered)| {
                answered
            }),
            cpu_seconds: used.cpu_seconds,
            peak_bytes: used
                .peak_bytes
                .unwrap_or(last.map_or(0, |look| look.peak_bytes)),
        };
        looks.push(look);
        if used.ended {
            return Ok((looks, idle));
        }
        let is_loaded = look.answered > looks[0].answered
            && polls.is_some_and(|(asked, answered)| asked > answered);
        if is_held && idle.is_none() && is_loaded {
            let held = *held.get_or_insert(look.at);
            let mut since = *quiet.get_or_insert(look);
            if look.cpu_seconds > since.cpu_seconds + IDLE_CPU_SECONDS {
                since = look;
                quiet = Some(look);
            }
            if look.at.duration_since(since.at) >= IDLE {
                idle = Some(Idle { since, until: look });
                api.hold_after(None)?;
            } else if look.at.duration_since(held) > HOLD {
                let what = format!("busy for {HOLD:?} after the load: use fewer entries");
                return Err(io::Error::other(what));
            }
        }
        clock::pause(LOOK);
    }
}

/// Changes of all polls, as the row of the program's last table says: source, polls, unchanged, failed,
/// entries, added, changed, removed.
fn changes(said: &str) -> Option<u64> {
    let mut rows = said.lines().rev();
    let row = rows.find(|line| line.starts_with("challenger "))?;
    let numbers: Vec<u64> = row
        .split_whitespace()
        .skip(5)
        .take(3)
        .map(|number| number.parse().ok())
        .collect::<Option<_>>()?;
    (numbers.len() == 3).then(|| numbers.iter().sum())
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
    /// By what it is for.
    disk: Vec<(&'static str, u64)>,
    /// After those of the first poll, as the program tells; `None`: it does not.
    changes: Option<u64>,
    /// As the program tells; `None`: it does not.
    pub transactions: Option<u64>,
}

impl Cost {
    /// `None`: the process asked nothing that was seen.
    fn new(load: Load, rounds: u64, looks: &[Look], idle: Option<Idle>) -> Option<Cost> {
        let before = looks.first()?.answered;
        let nth = |n: u64| looks.iter().find(|look| look.answered >= before + n);
        let (first, second) = (nth(1)?, nth(2)?);
        let (loaded, let_go) = match &idle {
            Some(idle) => (&idle.since, &idle.until),
            None => (second, second),
        };
        let (ending, last) = (nth(rounds + 2)?, looks.last()?);
        let part = |polls, from: &Look, to: &Look| Part {
            polls,
            wall_seconds: to.at.duration_since(from.at).as_secs_f64(),
            cpu_seconds: to.cpu_seconds - from.cpu_seconds,
        };
        Some(Cost {
            load,
            first: part(1, first, loaded),
            polls: part(rounds, let_go, ending),
            end: part(1, ending, last),
            peak_bytes: last.peak_bytes,
            body_bytes: 0,
            disk: Vec::new(),
            changes: None,
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
        let changes = self
            .changes_per_second()
            .map_or("?".into(), |n| format!("{n:.0}"));
        let disk = self.disk.iter();
        let disk: Vec<String> = disk
            .map(|(name, bytes)| format!("{name} {:.1} MB", *bytes as f64 / 1e6))
            .collect();
        text + &format!(
            "\nin all {:.2} CPU s per million; after the load {changes} changes/s\n\
             peak memory {:.1} MB: {:.1} MB beside the body\n\
             on disk: {}; state {:.1} bytes a key\n",
            self.cpu_per_million_in_all(),
            self.peak_bytes as f64 / 1e6,
            self.peak_bytes.saturating_sub(self.body_bytes) as f64 / 1e6,
            disk.join(", "),
            self.state_bytes_per_key(),
        )
    }

    fn changes_per_second(&self) -> Option<f64> {
        let seconds = self.polls.wall_seconds + self.end.wall_seconds;
        self.changes.map(|changes| changes as f64 / seconds)
    }

    /// CPU seconds per million entries, of load, polls and end.
    fn cpu_per_million_in_all(&self) -> f64 {
        let parts = [&self.first, &self.polls, &self.end];
        let cpu: f64 = parts.iter().map(|part| part.cpu_seconds).sum();
        let entries: f64 = parts.iter().map(|part| part.entries(self.load)).sum();
        cpu / entries * 1e6
    }

    fn state_bytes_per_key(&self) -> f64 {
        let state = self.disk.iter().find(|(name, _)| *name == "state");
        state.map_or(0, |(_, bytes)| *bytes) as f64 / self.load.entries as f64
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
            "state_bytes_per_key": self.state_bytes_per_key(),
            "disk_bytes": self.disk.iter().copied().collect::<BTreeMap<_, _>>(),
            "changes_per_second": self.changes_per_second(),
            "cpu_seconds_per_million_in_all": self.cpu_per_million_in_all(),
            "transactions": self.transactions,
        })
    }
}
