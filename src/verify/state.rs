//! The state's side: pages, and over them what was sealed and is not in them yet (R27, R28).
//!
//! sled writes whenever it is opened: what is read is a copy, in the system's directory for temporary
//! files, that is removed at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltapoll_state::error::Error;
use deltapoll_state::pages::Pages;
use deltapoll_state::range::Range;
use deltapoll_state::range_state::RangeState;
use deltapoll_state::store::SledStore;

use crate::change::{CellId, Fingerprint, KeyHash, Kind as Change, Seq};
use crate::config::Config;
use crate::dataflow::message::Who;
use crate::directory::{self, Expected};
use crate::fault::Fault;
use crate::identity;
use crate::scratch::Scratch;

use super::report::{Finding, Kind, Report};
use super::scope::Scope;
use super::standing::Standing;

const CACHE_BYTES: u64 = 8 << 20;

/// See the module.
pub struct State {
    /// Before the copy's files.
    pages: Option<Pages>,
    _copy: Scratch,
    /// The topics of cells.
    cells: BTreeMap<CellId, String>,
    /// Up to here batches are in the pages.
    remembered: Seq,
}

impl State {
    /// Copies and opens the pages, and checks that they belong to the journal.
    pub fn open(config: &Config, standing: &Standing) -> Result<State, Fault> {
        let remembered = standing.facts.seq(Who::Remember.fact())?;
        let remembered = remembered.unwrap_or(Seq(0));
        let path = config.data_dir.join("state");
        let expected = Expected {
            path: &path,
            lineage: &standing.lineage.id,
            remembered,
            sealed: standing.end,
            opened: directory::opened(&standing.facts)?,
        };
        let copy = Scratch::make()?;
        let pages = if path.is_dir() {
            SledStore::look(&path, copy.path(), CACHE_BYTES).map_err(damaged)?
        } else {
            None
        };
        let pages = match pages {
            Some(store) => {
                let pages = Pages::new(Arc::new(store));
                expected.check(&pages)?;
                Some(pages)
            }
            None if remembered == Seq(0) => None,
            None => {
                let what = format!("is missing, the journal says it was at batch {remembered}");
                return Err(expected.wrong(&what));
            }
        };
        let known = identity::known(&standing.facts)?.into_iter();
        Ok(State {
            pages,
            _copy: copy,
            cells: known.map(|cell| (CellId(cell.id), cell.topic)).collect(),
            remembered,
        })
    }

    /// The topics that it has keys of.
    pub fn topics(&self) -> impl Iterator<Item = &String> {
        self.cells.values()
    }

    /// Counts the entries; cells that nobody knows are told.
    pub fn survey(&self, report: &mut Report) -> Result<u64, Fault> {
        let mut all = 0_u64;
        if let Some(pages) = &self.pages {
            for cell in pages.cells().map_err(damaged)? {
                let mut count = 0;
                walk(pages, cell, |_, _| count += 1)?;
                all += count;
                if !self.cells.contains_key(&cell) {
                    report.add(Kind::Cell, || Finding {
                        what: format!("cell {} has {count} entries", cell.0),
                        ..Finding::default()
                    });
                }
            }
        }
        report.read(format!(
            "state: {all} keys as of batch {}, and what the journal holds since",
            self.remembered
        ));
        Ok(all)
    }

    /// Shows every key in `range` with its fingerprint, by topic; then what the journal says of keys
    /// since, in order, `None` where one is gone.
    pub fn each(
        &self,
        scope: &Scope,
        standing: &Standing,
        range: Range,
        visit: &mut dyn FnMut(usize, KeyHash, Option<Fingerprint>),
    ) -> Result<(), Fault> {
        if let Some(pages) = &self.pages {
            for (cell, topic) in &self.cells {
                let Some(topic) = scope.topic(topic) else {
                    continue;
                };
                walk(pages, *cell, |hash, print| {
                    if range.contains(hash) {
                        visit(topic, hash, Some(print));
                    }
                })?;
            }
        }
        standing.changes(self.remembered, standing.sealed, &mut |head, _, change| {
            let topic = scope.topic(self.cells.get(&head.cell).unwrap_or(&head.topic));
            if let Some(topic) = topic.filter(|_| range.contains(change.hash)) {
                let print = (change.kind != Change::Removed).then_some(change.print);
                visit(topic, change.hash, print);
            }
            Ok(())
        })
    }

    /// The key that has this hash, if the pages keep it.
    pub fn key(&self, topic: &str, hash: KeyHash) -> Result<Option<String>, Fault> {
        let Some(pages) = &self.pages else {
            return Ok(None);
        };
        for (cell, _) in self.cells.iter().filter(|(_, of)| *of == topic) {
            let keys = pages.keys(*cell, &[hash]).map_err(damaged)?;
            if let Some(key) = keys.into_iter().flatten().next() {
                return Ok(Some(String::from_utf8_lossy(&key).into_owned()));
            }
        }
        Ok(None)
    }
}

fn walk(
    pages: &Pages,
    cell: CellId,
    mut visit: impl FnMut(KeyHash, Fingerprint),
) -> Result<(), Fault> {
    let state = RangeState::new(pages.clone(), Range::ALL);
    for entry in state.walk(cell).map_err(damaged)? {
        let (hash, print) = entry.map_err(damaged)?;
        visit(hash, print);
    }
    Ok(())
}

fn damaged(error: Error) -> Fault {
    Fault::directory(error.to_string())
}
