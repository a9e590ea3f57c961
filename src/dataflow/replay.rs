//! Replay: what was sealed and is not yet in the pages, read back into the overlay (R28).

use std::collections::BTreeMap;

use deltapoll_state::range_state::{Note, RangeState};

use crate::change::{Batch, CellId, Epoch, Fingerprint, KeyHash, Kind, Seq};
use crate::fault::Fault;
use crate::follower::Logs;
use crate::snapshot::Plan;

/// This many changes are noted at a time: noting merges, and merging one by one would be quadratic.
const NOTED_TOGETHER: usize = 1 << 16;

type Latest = BTreeMap<KeyHash, (Option<Fingerprint>, Vec<u8>)>;

/// Notes what the journal holds after `position` for this worker's range.
pub fn replay(
    state: &mut RangeState,
    plan: &Plan,
    logs: &dyn Logs,
    position: Seq,
) -> Result<(), Fault> {
    let mut log = logs.after(position)?;
    let mut latest: BTreeMap<CellId, Latest> = BTreeMap::new();
    let mut count = 0;
    let mut epoch = Epoch(0);
    let range = state.range();
    while let Some(sealed) = log.next()? {
        let damaged =
            |error| Fault::directory(format!("batch {} of the journal: {error}", sealed.seq));
        let batch = Batch::read(&sealed.body).map_err(damaged)?;
        let cell = plan.cells.iter().find(|cell| cell.id == batch.head.cell);
        // A cell that is not configured now may be again: its keys cannot be found out later.
        let keeps_keys = cell.is_none_or(|cell| cell.keeps_keys());
        epoch = sealed.epoch;
        let of_cell = latest.entry(batch.head.cell).or_default();
        for change in batch.changes() {
            let change = change.map_err(damaged)?;
            if !range.contains(change.hash) {
                continue;
            }
            let gone = change.kind == Kind::Removed;
            let key = if gone || !keeps_keys {
                Vec::new()
            } else {
                change.key.into()
            };
            of_cell.insert(change.hash, ((!gone).then_some(change.print), key));
            count += 1;
        }
        if count >= NOTED_TOGETHER {
            note(state, epoch, std::mem::take(&mut latest));
            count = 0;
        }
    }
    note(state, epoch, latest);
    Ok(())
}

fn note(state: &mut RangeState, epoch: Epoch, latest: BTreeMap<CellId, Latest>) {
    for (cell, latest) in latest {
        let notes = latest.iter().map(|(hash, (print, key))| Note {
            hash: *hash,
            print: *print,
            key,
        });
        state.note(cell, epoch, notes.collect());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use deltapoll_state::journal::{Journal, Options};
    use deltapoll_state::pages::Pages;
    use deltapoll_state::range::Range;
    use deltapoll_state::store::MemoryStore;

    use super::*;
    use crate::change::{Builder, Change, Head};
    use crate::follower::Facts;
    use crate::ledger::Ledger;
    use crate::rules::Rules;

    #[test]
    fn r28_replay_keeps_the_keys_of_a_cell_that_is_not_configured_at_the_moment() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::start(Journal::open(dir.path(), Options::default()).unwrap());
        let mut batch = Builder::new(&Head {
            cell: CellId(7),
            polled_at: 1,
            topic: "t".into(),
            source: "s".into(),
            label: String::new(),
        });
        batch.push(&Change {
            kind: Kind::Added,
            partition: 0,
            hash: KeyHash(1),
            print: Fingerprint::default(),
            key: "k",
            value: Some(b"{}"),
            silent: false,
        });
        let body = batch.take().unwrap();
        let unwritten = Arc::new(body.len().into());
        ledger.append(Epoch(1), body, unwritten, Some(vec![]));
        ledger.set(vec![], true).unwrap();
        let plan = Plan {
            cells: Vec::new(),
            seed: 0,
            rules: Arc::new(Rules::default()),
        };
        let pages = Pages::new(Arc::new(MemoryStore::default()));
        let mut state = RangeState::new(pages, Range::ALL);
        replay(&mut state, &plan, &ledger, Seq(0)).unwrap();
        state.write(Epoch(1)).unwrap();
        let key = state.key(CellId(7), KeyHash(1)).unwrap();
        assert_eq!(key.as_deref(), Some(&b"k"[..]), "a removal will need it");
    }
}
