//! From records to pages: of each key the last value counts.
//!
//! Records come in any order of keys, but those of one key in their order: so the newest of some hundred
//! thousand are gathered and merged into the pages together, which bounds the memory whatever the number
//! of keys.

use std::collections::BTreeMap;

use deltapoll_state::pages::{Pages, Update};
use deltapoll_state::range::Range;

use crate::change::{CellId, Fingerprint, KeyHash};
use crate::fault::Fault;

/// Gathered entries and their keys may take about this much memory.
const GATHERED_BYTES: usize = 64 << 20;
/// What an entry takes beside its key.
const ENTRY_BYTES: usize = 96;
/// Updates that the pages get at a time.
const AT_ONCE: usize = 8192;

type Latest = BTreeMap<KeyHash, (Option<Fingerprint>, Vec<u8>)>;

/// Entries on their way into pages.
pub struct Entries<'a> {
    pages: &'a Pages,
    cells: BTreeMap<CellId, Latest>,
    bytes: usize,
}

impl Entries<'_> {
    /// Nothing yet.
    #[must_use]
    pub fn new(pages: &Pages) -> Entries<'_> {
        Entries {
            pages,
            cells: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// The newest value of a key so far; `None`: it is gone. An empty key is not kept.
    ///
    /// # Errors
    /// When the pages cannot be written.
    pub fn take(
        &mut self,
        cell: CellId,
        hash: KeyHash,
        print: Option<Fingerprint>,
        key: &[u8],
    ) -> Result<(), Fault> {
        let key = if print.is_some() { key } else { &[] };
        let latest = self.cells.entry(cell).or_default();
        if latest.insert(hash, (print, key.to_vec())).is_none() {
            self.bytes += ENTRY_BYTES + key.len();
        }
        if self.bytes >= GATHERED_BYTES {
            self.write()?;
        }
        Ok(())
    }

    /// Merges what is gathered into the pages; the caller flushes.
    ///
    /// # Errors
    /// When the pages cannot be written.
    pub fn write(&mut self) -> Result<(), Fault> {
        self.bytes = 0;
        for (cell, latest) in std::mem::take(&mut self.cells) {
            let mut updates = latest.iter().map(|(hash, (print, key))| Update {
                hash: *hash,
                print: *print,
                key,
            });
            loop {
                let some: Vec<Update<'_>> = updates.by_ref().take(AT_ONCE).collect();
                if some.is_empty() {
                    break;
                }
                let merged = self.pages.merge(cell, Range::ALL, &some);
                merged.map_err(|error| Fault::directory(error.to_string()))?;
            }
        }
        Ok(())
    }
}
