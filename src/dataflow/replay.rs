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
        let keeps_keys = cell.is_some_and(|cell| cell.keeps_keys());
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
