//! What one worker remembers of its range: pages, overlaid by what was decided since.
//!
//! A key's value is that of its newest note, else that of its page. [`RangeState::write`] brings
//! notes into pages, but never one ahead of the epoch it is given, which must be sealed (R27); what is
//! written is readable from the pages at once and leaves the overlay.
//!
//! Safety of the position that the caller makes durable after a write and a flush:
//! * a note leaves the overlay only when its value, or an older one with a newer sealed note behind
//!   it, is in the pages: so the pages are never behind the position;
//! * a value of a later epoch stays in the overlay and is not written: so the pages never show what
//!   is not sealed.

mod overlay;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;

pub use self::walk::Walk;

use self::overlay::Overlay;
use crate::error::Error;
use crate::fail;
use crate::page::Entry;
use crate::pages::{Pages, Update, Written};
use crate::range::Range;
use crate::word::{CellId, Epoch, Fingerprint, KeyHash};

/// Refreshed fingerprints kept; more are not worth their memory, they are only computed again.
const REFRESHED_MAX: usize = 65_536;
/// Updates handed to the pages at once.
const UPDATES_AT_ONCE: usize = 8192;

/// A decision about one key.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    /// The key's hash.
    pub hash: KeyHash,
    /// The fingerprint of its new value; `None`: the key is gone.
    pub print: Option<Fingerprint>,
    /// The key itself, if it is to be kept. Empty: not to be kept, or kept before.
    pub key: &'a [u8],
}

/// Fingerprints of a cell that describe the same content as those in its pages.
type Refreshed = BTreeMap<KeyHash, Fingerprint>;

/// The state of one range, owned by one worker (R7).
#[derive(Debug)]
pub struct RangeState {
    pages: Pages,
    range: Range,
    cells: BTreeMap<CellId, Overlay>,
    refreshed: BTreeMap<CellId, Refreshed>,
    refreshed_count: usize,
}

impl RangeState {
    /// The state of `range` as `pages` have it. Call [`Pages::split_for`] before.
    #[must_use]
    pub fn new(pages: Pages, range: Range) -> RangeState {
        RangeState {
            pages,
            range,
            cells: BTreeMap::new(),
            refreshed: BTreeMap::new(),
            refreshed_count: 0,
        }
    }

    /// The range.
    #[must_use]
    pub fn range(&self) -> Range {
        self.range
    }

    /// Every key of `cell` in this range, by hash.
    ///
    /// # Errors
    /// When the store fails; a damaged page is an error of the iterator.
    pub fn walk(&self, cell: CellId) -> Result<Walk<'_>, Error> {
        let scan = self.pages.scan(cell, self.range);
        let overlaid = !fail::broken("r07");
        let notes = self.cells.get(&cell).filter(|_| overlaid);
        let notes = notes.map(Overlay::newest);
        Ok(Walk::new(scan, notes, self.refreshed.get(&cell)))
    }

    /// The key that has this hash, if keys of the cell are kept.
    ///
    /// # Errors
    /// When a page is damaged or the store fails.
    pub fn key(&self, cell: CellId, hash: KeyHash) -> Result<Option<Vec<u8>>, Error> {
        if let Some(key) = self.cells.get(&cell).and_then(|overlay| overlay.key(hash)) {
            return Ok(Some(key.to_vec()));
        }
        Ok(self.pages.keys(cell, &[hash])?.pop().flatten())
    }

    /// [`RangeState::key`] of many hashes, in their order; fastest when they are sorted.
    ///
    /// # Errors
    /// When a page is damaged or the store fails.
    pub fn keys(&self, cell: CellId, hashes: &[KeyHash]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let overlay = self.cells.get(&cell);
        let noted = |hash: &KeyHash| overlay.and_then(|overlay| overlay.key(*hash));
        let rest: Vec<KeyHash> = hashes
            .iter()
            .copied()
            .filter(|h| noted(h).is_none())
            .collect();
        let mut rest = self.pages.keys(cell, &rest)?.into_iter();
        let keys = hashes.iter().map(|hash| match noted(hash) {
            Some(key) => Some(key.to_vec()),
            None => rest.next().flatten(),
        });
        Ok(keys.collect())
    }

    /// Takes in the changes of an epoch that was decided, or of a batch that is replayed; of several
    /// about one key the last one counts.
    ///
    /// # Panics
    /// When a hash is not in this range, or has a note of a later epoch.
    pub fn note(&mut self, cell: CellId, epoch: Epoch, notes: Vec<Note<'_>>) {
        if notes.is_empty() {
            return;
        }
        if let Some(refreshed) = self.refreshed.get_mut(&cell)
            && !fail::broken("r27")
        {
            let before = refreshed.len();
            for note in &notes {
                refreshed.remove(&note.hash);
            }
            self.refreshed_count -= before - refreshed.len();
        }
        assert!(notes.iter().all(|note| self.range.contains(note.hash)));
        self.cells.entry(cell).or_default().note(epoch, notes);
    }

    /// Remembers a fingerprint that is new while the content of `hash` is what it was: seen by
    /// [`RangeState::walk`] from now on, and written when its page is written for another reason (R27).
    /// The next note about the key ends it.
    pub fn refresh(&mut self, cell: CellId, hash: KeyHash, print: Fingerprint) {
        let refreshed = self.refreshed.entry(cell).or_default();
        if self.refreshed_count < REFRESHED_MAX || refreshed.contains_key(&hash) {
            self.refreshed_count += usize::from(refreshed.insert(hash, print).is_none());
        }
    }

    /// Merges the newest value as of `upto`, which is sealed, of each noted key into the pages, in
    /// atomic batches of bounded size. It is readable from them at once, and durable after a flush of
    /// the store.
    ///
    /// # Errors
    /// When a page is damaged or the store fails.
    pub fn write(&mut self, upto: Epoch) -> Result<Written, Error> {
        let upto = if fail::broken("r27") {
            Epoch(u64::MAX)
        } else {
            upto
        };
        let mut written = Written::default();
        for (cell, overlay) in &mut self.cells {
            let refreshed = self.refreshed.get(cell);
            let revised = write_cell(&self.pages, self.range, *cell, overlay, refreshed, upto);
            let (more, revised) = revised?;
            written += more;
            overlay.drop_through(upto);
            if let Some(refreshed) = self.refreshed.get_mut(cell) {
                revised.iter().for_each(|hash| {
                    refreshed.remove(hash);
                });
                self.refreshed_count -= revised.len();
            }
        }
        self.cells.retain(|_, overlay| overlay.len() > 0);
        self.refreshed.retain(|_, refreshed| !refreshed.is_empty());
        Ok(written)
    }

    /// Forgets all that is noted about `cell`; its pages are another matter
    /// ([`Pages::delete_cell`]).
    pub fn forget(&mut self, cell: CellId) {
        self.cells.remove(&cell);
        let refreshed = self.refreshed.remove(&cell);
        self.refreshed_count -= refreshed.map_or(0, |refreshed| refreshed.len());
    }

    /// Notes in the overlay.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.values().map(Overlay::len).sum()
    }

    /// Whether everything is in the pages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Memory of the overlay.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.cells.values().map(Overlay::bytes).sum()
    }
}

fn write_cell(
    pages: &Pages,
    range: Range,
    cell: CellId,
    overlay: &mut Overlay,
    refreshed: Option<&Refreshed>,
    upto: Epoch,
) -> Result<(Written, Vec<KeyHash>), Error> {
    let mut written = Written::default();
    let mut revised = Vec::new();
    overlay.settle();
    let overlay = &*overlay;
    // A refreshed fingerprint is that of the newest value: not for a page that gets an older one.
    let revise = |entry: Entry| {
        let print = refreshed?.get(&entry.hash)?;
        (!overlay.outlives(entry.hash, upto)).then_some(*print)
    };
    let mut due = overlay.due(upto);
    loop {
        let updates: Vec<Update<'_>> = due.by_ref().take(UPDATES_AT_ONCE).collect();
        if updates.is_empty() {
            return Ok((written, revised));
        }
        let (more, some) = pages.merge_with(cell, range, &updates, &revise)?;
        written += more;
        revised.extend(some);
    }
}
