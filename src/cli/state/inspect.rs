//! `state inspect`: what the local directory holds.

use serde::Serialize;

use crate::change::CellId;
use crate::config::Config;
use crate::dataflow::journal::validators_fact;
use crate::dataflow::message::Who;
use crate::fault::Fault;
use crate::follower::Facts;
use crate::identity;
use crate::io::http::validators::Validators;
use crate::io::kafka::incarnation::{self, Start};
use crate::io::kafka::topics::{self, Topic};
use crate::rules::{self, Listed};

use super::looked::{Looked, State, wrong};

/// Everything that is told.
#[derive(Debug, Serialize)]
pub struct Report {
    directory: String,
    lineage: String,
    predecessor: Option<String>,
    incarnations: Vec<Start>,
    sealed: Sealed,
    journal: Journal,
    followers: Vec<Follower>,
    state: Store,
    cells: Vec<Cell>,
    topics: Vec<Named>,
    rules: Vec<Listed>,
}

#[derive(Debug, Serialize)]
struct Sealed {
    seq: u64,
    epoch: u64,
}

#[derive(Debug, Serialize)]
struct Journal {
    /// The first batch that it holds; after `sealed`: none.
    oldest: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Follower {
    name: &'static str,
    position: u64,
    /// Batches.
    behind: u64,
}

#[derive(Debug, Default, Serialize)]
struct Store {
    position: u64,
    entries: u64,
    pages: u64,
    bytes: u64,
    /// Why nothing is known of it.
    damaged: Option<String>,
}

#[derive(Debug, Serialize)]
struct Cell {
    id: u32,
    source: String,
    cell: String,
    topic: String,
    entries: Option<u64>,
    pages: Option<u64>,
    /// Unix ms.
    due: Option<u64>,
    validators: Option<Validators>,
}

#[derive(Debug, Serialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    topic: Topic,
}

/// Looks at the directory of `config`.
///
/// # Errors
/// When there is none, a process works there, or the journal is damaged (exit 4).
pub fn inspect(config: &Config) -> Result<Report, Fault> {
    let looked = Looked::open(&config.data_dir)?;
    let sealed = looked.journal.sealed;
    let mut followers = Vec::new();
    for (name, who) in [
        ("remember", Who::Remember),
        ("publish", Who::Publish),
        ("archive", Who::Archive),
    ] {
        if let Some(position) = looked.position(who)? {
            followers.push(Follower {
                name,
                position: position.0,
                behind: sealed.seq.0.saturating_sub(position.0),
            });
        }
    }
    let (state, damaged) = match looked.state() {
        Ok(state) => (Some(state), None),
        Err(fault) => (None, Some(fault.message)),
    };
    let cells = cells(&looked, state.as_ref())?;
    let sum = |count: fn(&Cell) -> Option<u64>| cells.iter().filter_map(count).sum();
    let store = Store {
        position: state.as_ref().map_or(0, |state| state.position.0),
        entries: sum(|cell| cell.entries),
        pages: sum(|cell| cell.pages),
        bytes: bytes(&looked.path.join("state")),
        damaged,
    };
    let mut names: Vec<&str> = cells.iter().map(|cell| cell.topic.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut all = Vec::new();
    for name in names {
        if let Some(topic) = topics::recorded(&looked.facts, name)? {
            let name = name.to_owned();
            all.push(Named { name, topic });
        }
    }
    Ok(Report {
        directory: looked.path.display().to_string(),
        lineage: looked.lineage.id.clone(),
        predecessor: looked.lineage.predecessor.clone(),
        incarnations: incarnation::table(&looked.facts)?,
        sealed: Sealed {
            seq: sealed.seq.0,
            epoch: sealed.epoch.0,
        },
        journal: Journal {
            oldest: looked.journal.oldest.0,
            bytes: looked.journal.bytes,
        },
        followers,
        state: store,
        topics: all,
        rules: rules::listed(&looked.facts)?,
        cells,
    })
}

fn cells(looked: &Looked, state: Option<&State>) -> Result<Vec<Cell>, Fault> {
    let mut cells = Vec::new();
    for known in identity::known(&looked.facts)? {
        let id = CellId(known.id);
        let (mut entries, mut pages) = (None, None);
        if let Some(state) = state {
            let mut count = 0;
            for entry in state.range.walk(id).map_err(wrong)? {
                entry.map_err(wrong)?;
                count += 1;
            }
            entries = Some(count);
            pages = Some(state.pages.count(id).map_err(wrong)?.pages);
        }
        let fact = |name: String| looked.facts.get(&name);
        cells.push(Cell {
            id: known.id,
            source: known.source,
            cell: known.label,
            topic: known.topic,
            entries,
            pages,
            due: fact(format!("due/{:05}", id.0)).and_then(|text| text.parse().ok()),
            validators: fact(validators_fact(id)).and_then(|t| serde_json::from_str(&t).ok()),
        });
    }
    Ok(cells)
}

/// The files below `path`.
fn bytes(path: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else {
        return 0;
    };
    let each = entries.flatten().map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    });
    each.sum()
}

impl Report {
    /// What is wrong with the state, if anything is.
    #[must_use]
    pub fn damaged(&self) -> Option<&str> {
        self.state.damaged.as_deref()
    }

    /// As one object.
    #[must_use]
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        text
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut say = |line: String| {
            out.push_str(line.trim_end());
            out.push('\n');
        };
        say(format!("directory  {}", self.directory));
        let before = self.predecessor.as_ref();
        let before = before.map_or(String::new(), |old| format!(", in the place of {old}"));
        say(format!("lineage    {}{before}", self.lineage));
        let Sealed { seq, epoch } = self.sealed;
        say(format!("sealed     batch {seq}, epoch {epoch}"));
        let Journal { oldest, bytes } = self.journal;
        let held = match oldest > seq {
            true => "no batch".to_owned(),
            false => format!("batches {oldest} to {seq}"),
        };
        say(format!("journal    {held}, {bytes} bytes"));
        for follower in &self.followers {
            let Follower {
                name,
                position,
                behind,
            } = follower;
            let behind = match behind {
                0 => "at the end".to_owned(),
                some => format!("{some} batches behind"),
            };
            say(format!("{name:<10} at batch {position}, {behind}"));
        }
        let Store {
            entries,
            pages,
            bytes,
            ..
        } = &self.state;
        say(match &self.state.damaged {
            Some(damaged) => format!("state      {damaged}"),
            None => format!("state      {entries} entries, {pages} pages, {bytes} bytes"),
        });
        for start in &self.incarnations {
            let up_to = start
                .last
                .map_or(String::new(), |last| format!(", up to batch {last}"));
            let fenced = if start.fencing {
                ""
            } else {
                ", never at kafka"
            };
            let (n, id) = (start.incarnation.n, &start.incarnation.id);
            say(format!("start      {n} ({id}){up_to}{fenced}"));
        }
        for cell in &self.cells {
            let entries = cell
                .entries
                .map_or("?".to_owned(), |count| count.to_string());
            let validated = cell.validators.as_ref().map_or("", |_| ", with validators");
            say(format!(
                "cell       {} {} ({}) to {}: {entries} entries{validated}",
                cell.id, cell.source, cell.cell, cell.topic
            ));
        }
        for Named { name, topic } in &self.topics {
            let id = topic.id.as_deref().unwrap_or("unknown");
            let (partitions, most) = (topic.partitions, topic.max_message_bytes);
            say(format!(
                "topic      {name}: {partitions} partitions, id {id}, records up to {most} bytes"
            ));
        }
        for rule in &self.rules {
            let ignore = match rule.ignore.is_empty() {
                true => "nothing ignored".to_owned(),
                false => format!("without {}", rule.ignore.join(", ")),
            };
            say(format!(
                "rule       {}: canonical form {}, {ignore}",
                rule.number, rule.canon
            ));
        }
        out
    }
}
