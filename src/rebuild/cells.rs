//! Which cell a published record belongs to, and which entry it is.
//!
//! The headers `source` and `cell` say so; without them the pattern of the record key does (R33). What
//! belongs to no cell of the configuration, or could not have been published under it, is a *stranger*:
//! history may hold such records, of settings that were changed with `state republish`, and then each of
//! their keys was removed in the end. A key whose last record is a stranger means that this is not the
//! configuration that published.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use crate::change::{CellId, Fingerprint, KeyHash, Kind};
use crate::config::Removed;
use crate::dataflow::dedup::removal_event;
use crate::fault::Fault;
use crate::io::json::canonical::Canonical;
use crate::io::json::extract;
use crate::io::json::hash;
use crate::io::json::pointer::Pointer;
use crate::io::kafka::partition_of;
use crate::io::published::Published;

/// A cell as records are compared with it.
pub struct Cell {
    /// Its number.
    pub id: CellId,
    /// The source's name.
    pub source: String,
    /// The var values.
    pub label: String,
    /// The topic that its changes go to.
    pub topic: String,
    /// How its entries become records; `None`: it is known and not configured.
    pub made: Option<Made>,
    /// Under the rule in force.
    pub canonical: Canonical,
    /// The number of that rule; 0: unknown.
    pub rule: u8,
}

/// How a cell's entries become records.
pub struct Made {
    /// What the record key has before the entry's key.
    pub prefix: String,
    /// What it has after it.
    pub suffix: String,
    /// Pointers to the entry's key.
    pub keys: Vec<Pointer>,
    /// What is published when a key is gone.
    pub removed: Removed,
    /// Whether key bytes are kept.
    pub keeps_keys: bool,
}

/// What a record says of a key.
pub struct Entry {
    /// The cell.
    pub cell: CellId,
    /// The key's hash.
    pub hash: KeyHash,
    /// The fingerprint of its value; `None`: the key is gone.
    pub print: Option<Fingerprint>,
    /// Whether the key itself is kept.
    pub keeps_key: bool,
}

/// All cells, and the strangers so far.
pub struct Cells {
    seed: u64,
    cells: Vec<Cell>,
    /// Partition counts of topics, as keys are mapped.
    partitions: BTreeMap<String, u32>,
    /// Keys whose last record is a stranger, with its place in `reasons`.
    strangers: HashMap<KeyHash, usize>,
    reasons: Vec<Reason>,
    /// Whether records of cells that nobody knows may stay as they are.
    keeps_unknown: bool,
    /// For what is no cell's.
    plain: Canonical,
}

/// Why records are strangers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reason(String);

impl Cells {
    /// `keeps_unknown`: records of cells that are not among these may stay as they are.
    #[must_use]
    pub fn new(
        seed: u64,
        cells: Vec<Cell>,
        partitions: BTreeMap<String, u32>,
        keeps_unknown: bool,
    ) -> Cells {
        Cells {
            seed,
            cells,
            partitions,
            strangers: HashMap::new(),
            reasons: Vec::new(),
            keeps_unknown,
            plain: Canonical::new(&[], seed),
        }
    }

    /// What `record` says; `None`: nothing that is to be remembered.
    pub fn entry(&mut self, record: &Published<'_>) -> Option<Entry> {
        let count = self.partitions.get(record.topic).copied()?;
        if !self.cells.iter().any(|cell| cell.topic == record.topic) {
            return None;
        }
        // Under an earlier mapping: since it was raised, every key is in its new place (R22).
        if partition_of(record.key, count) != record.partition {
            return None;
        }
        let hash = hash::key(self.seed, record.key);
        match self.find(record) {
            Ok(at) => self.known(at, hash, record),
            Err(reason) => {
                self.stranger(hash, record.value.is_none(), reason);
                None
            }
        }
    }

    /// Whether keys of the cell are kept; those of one that is not configured may be needed again.
    #[must_use]
    pub fn keeps_keys(&self, cell: CellId) -> bool {
        let cell = self.cells.iter().find(|known| known.id == cell);
        let made = cell.and_then(|cell| cell.made.as_ref());
        made.is_none_or(|made| made.keeps_keys)
    }

    /// The canonical fingerprint of the record's value, whoever's it is; 0 for none.
    pub fn canon(&mut self, record: &Published<'_>) -> u64 {
        let canonical = match self.find(record) {
            Ok(at) => &mut self.cells[at].canonical,
            Err(_) => &mut self.plain,
        };
        let print = record.value.map(|value| canonical.fingerprint(value));
        print.and_then(Result::ok).unwrap_or(0)
    }

    fn known(&mut self, at: usize, hash: KeyHash, record: &Published<'_>) -> Option<Entry> {
        let seed = self.seed;
        let cell = &mut self.cells[at];
        let keeps_key = cell.made.as_ref().is_none_or(|made| made.keeps_keys);
        let mut entry = Entry {
            cell: cell.id,
            hash,
            print: None,
            keeps_key,
        };
        let value = match record.value {
            Some(value) if !is_removal(cell, record, value) => value,
            _ => {
                self.strangers.remove(&hash);
                return Some(entry);
            }
        };
        let canon = cell.canonical.fingerprint(value);
        let made = cell.made.as_ref();
        let reason = match canon {
            Err(_) => Some("a value that is not JSON"),
            Ok(_) if made.is_some_and(|made| !has_key(made, record.key, value)) => {
                Some("a value whose key is another one under this `key`")
            }
            Ok(_) => None,
        };
        if let Some(reason) = reason {
            let place = place(record);
            self.stranger(hash, false, Some(format!("{place}: {reason}")));
            // Whatever it was before, it is not that any more.
            return Some(entry);
        }
        self.strangers.remove(&hash);
        entry.print = Some(Fingerprint {
            raw: hash::raw(seed, value),
            canon: canon.unwrap_or(0),
            rule: cell.rule,
        });
        Some(entry)
    }

    /// The place of the record's cell; otherwise the reason why it has none (`None`: nobody minds).
    fn find(&self, record: &Published<'_>) -> Result<usize, Option<String>> {
        let Ok(key) = std::str::from_utf8(record.key) else {
            return Err(Some(format!("{}: a key that is not text", place(record))));
        };
        let in_topic = |cell: &Cell| cell.topic == record.topic;
        let fits = |cell: &Cell| cell.made.as_ref().is_some_and(|made| made.fits(key));
        if let Some((source, label)) = record.told.and_then(|told| told.cell) {
            let named =
                |cell: &Cell| in_topic(cell) && cell.source == source && cell.label == label;
            return match self.cells.iter().position(named) {
                Some(at) if self.cells[at].made.is_none() || fits(&self.cells[at]) => Ok(at),
                Some(_) => Err(Some(format!(
                    "{}: a key that this `record_key` does not make",
                    place(record)
                ))),
                None if self.keeps_unknown => Err(None),
                None => Err(Some(format!(
                    "topic '{}': records of the cell {source} ({label}), which is not configured",
                    record.topic
                ))),
            };
        }
        let mut all =
            (0..self.cells.len()).filter(|at| in_topic(&self.cells[*at]) && fits(&self.cells[*at]));
        match (all.next(), all.next()) {
            (Some(at), None) => Ok(at),
            (Some(_), Some(_)) => Err(Some(format!(
                "{}: a key without headers that more than one cell could have",
                place(record)
            ))),
            (None, _) if self.keeps_unknown => Err(None),
            (None, _) => Err(Some(format!(
                "topic '{}': keys that no cell's `record_key` makes",
                record.topic
            ))),
        }
    }

    fn stranger(&mut self, hash: KeyHash, gone: bool, reason: Option<String>) {
        let Some(reason) = reason.filter(|_| !gone) else {
            self.strangers.remove(&hash);
            return;
        };
        // One reason a topic and kind is enough to say; a place is that of the first.
        let kind = |text: &str| {
            text.rsplit_once(": ")
                .map_or("", |(_, kind)| kind)
                .to_owned()
        };
        let known = |known: &Reason| kind(&known.0) == kind(&reason);
        let at = self.reasons.iter().position(known).unwrap_or_else(|| {
            self.reasons.push(Reason(reason.clone()));
            self.reasons.len() - 1
        });
        self.strangers.insert(hash, at);
    }

    /// Whether the configuration could have published what was read.
    ///
    /// # Errors
    /// Names what it could not have published (exit 4).
    pub fn judge(&self) -> Result<(), Fault> {
        if self.strangers.is_empty() {
            return Ok(());
        }
        let mut counts = BTreeMap::new();
        for at in self.strangers.values() {
            *counts.entry(*at).or_insert(0_u64) += 1;
        }
        let told = |(at, count): (usize, u64)| format!("{} ({count} keys)", self.reasons[at].0);
        let told: Vec<String> = counts.into_iter().map(told).collect();
        Err(Fault::directory(format!(
            "the configuration is not the one that published last: {}; put back the settings that \
             published it, rebuild, and change them afterwards (on_cell_removed = \"keep\" leaves records of \
             cells that are not configured as they are)",
            told.join("; ")
        )))
    }
}

impl Made {
    fn fits(&self, key: &str) -> bool {
        let inner = key
            .strip_prefix(self.prefix.as_str())
            .and_then(|rest| rest.strip_suffix(self.suffix.as_str()));
        inner.is_some_and(|inner| !inner.is_empty())
    }
}

fn is_removal(cell: &Cell, record: &Published<'_>, value: &[u8]) -> bool {
    if let Some(told) = record.told {
        return told.kind == Kind::Removed;
    }
    let event = cell.made.as_ref().map(|made| made.removed) == Some(Removed::Event);
    let key = std::str::from_utf8(record.key);
    event && key.is_ok_and(|key| removal_event(key).as_bytes() == value)
}

/// Whether the entry `value` has the key that is in the record key `key`.
fn has_key(made: &Made, key: &[u8], value: &[u8]) -> bool {
    let mut same = false;
    let scanned = extract::scan(value, &made.keys, |entry| {
        same = entry.key.is_some_and(|inner| {
            let all = [made.prefix.as_bytes(), inner, made.suffix.as_bytes()];
            all.concat() == key
        });
    });
    scanned.is_ok() && same
}

fn place(record: &Published<'_>) -> String {
    format!(
        "topic '{}' partition {} offset {}",
        record.topic, record.partition, record.offset
    )
}
