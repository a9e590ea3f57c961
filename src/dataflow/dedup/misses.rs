//! How many complete snapshots in a row lacked a key (R8): a sparse map, keys with misses only.
//!
//! After a crash all misses are 0, which only delays a removal. On clean exit they are saved; on open
//! they are read and deleted, synced, before the first snapshot is decided: what was saved once must
//! not come back after a crash, when keys may have been seen since.

use std::collections::HashMap;

use deltapoll_state::fail;
use deltapoll_state::pages::Pages;
use deltapoll_state::range::Range;

use crate::change::{CellId, KeyHash};
use crate::fault::Fault;
use crate::stop;

const NAME: &str = "misses";
const ENTRY_BYTES: usize = 4 + 16 + 4;

/// The misses of one worker's range.
#[derive(Clone, Debug, Default)]
pub struct Misses(HashMap<CellId, HashMap<KeyHash, u32>>);

impl Misses {
    /// The misses of a cell, if it has any.
    pub fn of(&mut self, cell: CellId) -> &mut HashMap<KeyHash, u32> {
        self.0.entry(cell).or_default()
    }

    /// Whether the cell has any.
    #[must_use]
    pub fn has(&self, cell: CellId) -> bool {
        self.0.get(&cell).is_some_and(|misses| !misses.is_empty())
    }

    /// Reads what a clean exit saved, and deletes it: one value for each worker of this run.
    ///
    /// # Errors
    /// When the store cannot be read or synced.
    pub fn take(pages: &Pages, workers: usize) -> Result<Vec<Misses>, Fault> {
        let stored = |error: deltapoll_state::error::Error| Fault::directory(error.to_string());
        let mut all = vec![Misses::default(); workers];
        let mut any = false;
        // A run with more workers may have saved more; none had more than this.
        for saved_by in 0..WORKERS_MAX {
            let name = format!("{NAME}/{saved_by}");
            let Some(bytes) = pages.take_small(&name).map_err(stored)? else {
                continue;
            };
            for entry in bytes.chunks_exact(ENTRY_BYTES) {
                let (cell, rest) = entry.split_at(4);
                let (hash, count) = rest.split_at(16);
                let cell = CellId(u32::from_le_bytes(cell.try_into().expect("4 bytes")));
                let hash = KeyHash(u128::from_le_bytes(hash.try_into().expect("16 bytes")));
                let count = u32::from_le_bytes(count.try_into().expect("4 bytes"));
                any = true;
                for (worker, misses) in all.iter_mut().enumerate() {
                    if Range::of(worker, workers).contains(hash) {
                        misses.of(cell).insert(hash, count);
                    }
                }
            }
        }
        if any {
            pages.store().flush().map_err(stored)?;
            fail::step("misses.taken");
        }
        Ok(all)
    }

    /// Saves the misses of `worker`'s range; `remember` flushes the store after it.
    pub fn save(&self, pages: &Pages, worker: usize) {
        let mut bytes = Vec::new();
        for (cell, misses) in &self.0 {
            for (hash, count) in misses {
                bytes.extend_from_slice(&cell.0.to_le_bytes());
                bytes.extend_from_slice(&hash.0.to_le_bytes());
                bytes.extend_from_slice(&count.to_le_bytes());
            }
        }
        if bytes.is_empty() {
            return;
        }
        if let Err(error) = pages.put_small(&format!("{NAME}/{worker}"), &bytes) {
            stop::fatal(&Fault::directory(error.to_string()));
        }
        fail::step("misses.saved");
    }
}

/// The most workers that `--workers` accepts.
pub const WORKERS_MAX: usize = 256;
