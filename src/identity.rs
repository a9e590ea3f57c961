//! What the directory knows it feeds (R32): every cell that it ever polled, by number, with a hash of
//! the settings that decide which records its entries become.

use deltapoll_state::fail;
use serde::{Deserialize, Serialize};

use crate::change::CellId;
use crate::config::cell::{Cell, expand};
use crate::config::fingerprint::cell_identity;
use crate::config::{Config, OnCellRemoved};
use crate::fault::Fault;
use crate::follower::Facts;

const PREFIX: &str = "cell/";

/// What is recorded of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The cell's number.
    #[serde(skip)]
    pub id: u32,
    /// The source's name.
    pub source: String,
    /// The var values.
    pub label: String,
    /// Where its changes go.
    pub topic: String,
    /// Hash of records, key, record_key, removed, format and topic.
    pub identity: u64,
}

impl Known {
    /// The fact that records the cell.
    #[must_use]
    pub fn fact(&self) -> (String, Option<String>) {
        let text = serde_json::to_string(self).expect("plain data");
        (format!("{PREFIX}{:05}", self.id), Some(text))
    }
}

/// Every cell that the directory knows.
///
/// # Errors
/// When a fact is damaged.
pub fn known(facts: &dyn Facts) -> Result<Vec<Known>, Fault> {
    let read = |(name, text): (String, String)| {
        let damaged = || Fault::directory(format!("the journal's fact {name} is damaged: {text}"));
        let mut known: Known = serde_json::from_str(&text).map_err(|_| damaged())?;
        known.id = name[PREFIX.len()..].parse().map_err(|_| damaged())?;
        Ok(known)
    };
    facts.under(PREFIX).into_iter().map(read).collect()
}

/// The cells of the configuration, and those to be removed.
#[derive(Debug)]
pub struct Assigned {
    /// With their numbers.
    pub cells: Vec<(CellId, Cell)>,
    /// No longer configured, under `on_cell_removed = "tombstone"`.
    pub gone: Vec<Known>,
}

/// The cells of the configuration with their numbers; new ones get theirs now.
///
/// # Errors
/// When a cell's settings differ from what the directory was made with, or a cell that it knows is no
/// longer configured and nothing says what to do with its entries.
pub fn assign(config: &Config, facts: &dyn Facts) -> Result<Assigned, Fault> {
    let known = known(facts)?;
    let wanted = wanted(config);
    let gone = known
        .iter()
        .filter(|k| !wanted.iter().any(|(_, w)| same_cell(k, w)));
    let gone = to_remove(config, gone.cloned().collect())?;
    let mut next = known.iter().map(|k| k.id + 1).max().unwrap_or(1);
    let mut cells = Vec::new();
    let mut new = Vec::new();
    for (cell, mut wanted) in wanted {
        wanted.id = match known.iter().find(|k| same_cell(k, &wanted)) {
            Some(known) if known.identity == wanted.identity || fail::broken("r32") => known.id,
            Some(known) => return Err(changed(known)),
            None => {
                new.push(Known { id: next, ..wanted }.fact());
                next += 1;
                next - 1
            }
        };
        cells.push((CellId(wanted.id), cell));
    }
    if !new.is_empty() {
        facts.set(new, true)?;
        fail::step("cells.assigned");
    }
    Ok(Assigned { cells, gone })
}

/// What the configuration asks for, not numbered.
#[must_use]
pub fn wanted(config: &Config) -> Vec<(Cell, Known)> {
    let mut wanted = Vec::new();
    for (name, source) in &config.source {
        let topic = config.topic(name).to_owned();
        for cell in expand(name, source) {
            let identity = cell_identity(source, &cell, &topic);
            let (source, label) = (name.clone(), cell.label.clone());
            wanted.push((
                cell,
                Known {
                    id: 0,
                    source,
                    label,
                    topic: topic.clone(),
                    identity,
                },
            ));
        }
    }
    wanted
}

fn same_cell(a: &Known, b: &Known) -> bool {
    a.source == b.source && a.label == b.label
}

/// The fault of a cell whose settings are not those that the directory was made with.
pub(crate) fn changed(known: &Known) -> Fault {
    let Known { source, .. } = known;
    Fault::directory(format!(
        "[source.{source}] differs from what this directory was made with in records, key, record_key, \
         removed, format or topic: go back to the old settings, or say `deltapoll state republish \
         {source}` to publish everything again under the new ones, or use another data_dir and name"
    ))
}

/// Which of the cells that are no longer configured are to be removed.
fn to_remove(config: &Config, gone: Vec<Known>) -> Result<Vec<Known>, Fault> {
    match config.on_cell_removed {
        Some(OnCellRemoved::Keep) => return Ok(Vec::new()),
        Some(OnCellRemoved::Tombstone) => return Ok(gone),
        None if gone.is_empty() => return Ok(gone),
        None => {}
    }
    let cell = |k: &Known| format!("{} ({})", k.source, k.label);
    let listed = gone.iter().map(cell).collect::<Vec<_>>().join("; ");
    Err(Fault::directory(format!(
        "cells that this directory knows are no longer configured: {listed}: configure them again, or \
         set on_cell_removed = \"keep\" to leave their entries in the topic as they are, or \
         \"tombstone\" to remove them from it"
    )))
}
