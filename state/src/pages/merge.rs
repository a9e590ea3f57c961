//! The merge of sorted updates into pages: which pages a step takes in, and what it makes of them.

use crate::error::Error;
use crate::page::{self, ENTRY_BYTES, Entry, Id};
use crate::pages::{Batch, Held, Pages, Revise, SMALL, Update, Written};
use crate::range::Range;
use crate::store::Bytes;
use crate::word::{CellId, KeyHash};

/// Entries of a page that comes from a split: about 4 KiB.
const ENTRIES: usize = 124;
/// A page with more is split.
pub(super) const ENTRIES_MAX: usize = ENTRIES + ENTRIES / 2;
/// A page with fewer takes in the next one.
const ENTRIES_MIN: usize = ENTRIES / 4;
/// Updates that one atomic step takes in.
const STEP_UPDATES_MAX: usize = 4096;
/// Key bytes that one atomic step takes in; one key more may be on top.
const STEP_KEY_BYTES_MAX: usize = 1 << 20;
/// Steps gather in a batch up to this.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// See [`Pages::merge_with`].
pub(super) fn merge(
    pages: &Pages,
    cell: CellId,
    range: Range,
    updates: &[Update<'_>],
    revise: Revise<'_>,
) -> Result<(Written, Vec<KeyHash>), Error> {
    assert!(
        updates.is_sorted_by(|a, b| a.hash < b.hash),
        "sorted by hash"
    );
    let ends = updates.first().into_iter().chain(updates.last());
    assert!(
        ends.map(|update| update.hash)
            .all(|hash| range.contains(hash))
    );
    assert_ne!(cell.0.to_be_bytes(), SMALL[..4], "not a cell's number");
    let mut merge = Merge {
        pages,
        cell,
        range,
        batch: Batch::default(),
        revise,
        revised: Vec::new(),
    };
    let mut rest = updates;
    while !rest.is_empty() {
        let taken = merge.step(rest)?;
        rest = &rest[taken..];
    }
    merge.batch.apply(&*pages.store)?;
    Ok((merge.batch.written, merge.revised))
}

/// An entry on its way into new pages, and where its key is.
#[derive(Clone, Copy)]
struct Slot {
    entry: Entry,
    /// Its place among the entries of the old pages.
    old: Option<u32>,
    /// Its place among the updates.
    update: Option<u32>,
}

/// What one step makes of the pages it takes in.
#[derive(Default)]
struct Step {
    old: Vec<(Id, Bytes)>,
    /// Entries in `old`.
    count: usize,
    slots: Vec<Slot>,
    /// What `revise` changed.
    revised: Vec<KeyHash>,
    /// Some entry is another.
    changed: bool,
    /// Some key came or went.
    membership: bool,
}

/// A merge under way.
struct Merge<'a> {
    pages: &'a Pages,
    cell: CellId,
    range: Range,
    batch: Batch,
    revise: Revise<'a>,
    /// What `revise` changed in pages that are in the batch, or were.
    revised: Vec<KeyHash>,
}

impl Merge<'_> {
    /// Merges the first of `updates` into the page that covers it, with all others that belong
    /// there, and on into the next pages for as long as the result is too small for a page. Returns
    /// how many updates it took.
    fn step(&mut self, updates: &[Update<'_>]) -> Result<usize, Error> {
        let limit = self.limit(updates);
        let before = Range {
            first: self.range.first,
            last: updates[0].hash,
        };
        let floor = self.pages.scan(self.cell, before).previous()?;
        let start = floor.map_or(self.range.first, |(id, _)| id.first);
        let from = Range {
            first: start,
            last: self.range.last,
        };
        let mut scan = self.pages.scan(self.cell, from);
        let mut step = Step::default();
        let mut taken = 0;
        let mut next = scan.next()?;
        if next.as_ref().is_some_and(|(id, _)| id.first == start) {
            let page = next.take().expect("just seen");
            next = scan.next()?;
            taken += step.absorb(
                Some(page),
                &updates[..limit],
                taken,
                next.as_ref(),
                self.revise,
            )?;
        } else {
            taken += step.absorb(None, &updates[..limit], taken, next.as_ref(), self.revise)?;
        }
        let whole = |taken: usize| taken < limit || limit == updates.len();
        while step.slots.len() < ENTRIES_MIN && next.is_some() && whole(taken) {
            let page = next.take();
            next = scan.next()?;
            taken += step.absorb(page, &updates[..limit], taken, next.as_ref(), self.revise)?;
        }
        drop(scan);
        self.finish(start, step, updates)?;
        // IMPORTANT: steps look at the store, so what the next one may touch must be in it.
        if !whole(taken) || self.batch.bytes >= BATCH_BYTES_MAX {
            self.batch.apply(&*self.pages.store)?;
        }
        Ok(taken)
    }

    /// How many of `updates` may go into one step.
    fn limit(&self, updates: &[Update<'_>]) -> usize {
        let mut bytes = 0;
        let fitting = updates.iter().take(STEP_UPDATES_MAX).take_while(|update| {
            let fits = bytes < STEP_KEY_BYTES_MAX;
            bytes += update.key.len();
            fits
        });
        fitting.count()
    }

    fn finish(&mut self, start: KeyHash, step: Step, updates: &[Update<'_>]) -> Result<(), Error> {
        let entries: Vec<Entry> = step.slots.iter().map(|slot| slot.entry).collect();
        let pieces = match entries.len() {
            0..=ENTRIES_MAX => 1,
            many => many.div_ceil(ENTRIES),
        };
        if step.old.len() == 1 && pieces == 1 && !step.membership {
            if step.changed {
                self.batch.put(self.cell, start, &entries, &[]);
                self.revised.extend(step.revised);
            }
            return Ok(());
        }
        let held = self.keys_of(&step)?;
        let mut old_keys = Vec::with_capacity(step.count);
        for held in &held {
            let count = held.id.open(&held.entries)?.len() / ENTRY_BYTES;
            old_keys.extend(held.all_keys(count)?);
        }
        let keys: Vec<&[u8]> = step
            .slots
            .iter()
            .map(|s| s.key(&old_keys, updates))
            .collect();
        for held in &held {
            self.batch.remove(held);
        }
        for piece in 0..pieces {
            let part = piece * entries.len() / pieces..(piece + 1) * entries.len() / pieces;
            let first = if piece == 0 {
                start
            } else {
                entries[part.start].hash
            };
            self.batch
                .put(self.cell, first, &entries[part.clone()], &keys[part]);
        }
        self.revised.extend(step.revised);
        Ok(())
    }

    fn keys_of(&self, step: &Step) -> Result<Vec<Held>, Error> {
        let held = step.old.iter().map(|(id, entries)| {
            let keys = self.pages.store.get(&Id::keys(id.cell, id.first).key())?;
            Ok(Held {
                id: *id,
                entries: entries.clone(),
                keys,
            })
        });
        held.collect()
    }
}

impl Slot {
    fn key<'a>(&self, old: &[&'a [u8]], updates: &[Update<'a>]) -> &'a [u8] {
        let new = self.update.map_or(&[][..], |at| updates[at as usize].key);
        match self.old {
            Some(at) if new.is_empty() => old[at as usize],
            _ => new,
        }
    }
}

impl Step {
    /// Merges one page, or none, with those of `updates` from `from` on that are below `next`.
    /// Returns how many these are.
    fn absorb(
        &mut self,
        page: Option<(Id, Bytes)>,
        updates: &[Update<'_>],
        from: usize,
        next: Option<&(Id, Bytes)>,
        revise: Revise<'_>,
    ) -> Result<usize, Error> {
        let rest = &updates[from..];
        let below = next.map_or(rest.len(), |(next, _)| {
            rest.partition_point(|update| update.hash < next.first)
        });
        let mut at = from;
        let end = from + below;
        if let Some((id, bytes)) = page {
            for entry in page::entries(id.open(&bytes)?) {
                while at < end && updates[at].hash < entry.hash {
                    self.take(None, Some((at, &updates[at])), revise);
                    at += 1;
                }
                if at < end && updates[at].hash == entry.hash {
                    self.take(Some(entry), Some((at, &updates[at])), revise);
                    at += 1;
                } else {
                    self.take(Some(entry), None, revise);
                }
            }
            self.old.push((id, bytes));
        }
        for (at, update) in updates.iter().enumerate().take(end).skip(at) {
            self.take(None, Some((at, update)), revise);
        }
        Ok(below)
    }

    /// Takes in one key: its entry in the old page, or its update, or both.
    fn take(
        &mut self,
        old: Option<Entry>,
        update: Option<(usize, &Update<'_>)>,
        revise: Revise<'_>,
    ) {
        let old_at = old.map(|_| index(self.count));
        self.count += usize::from(old.is_some());
        let entry = match update {
            Some((_, update)) => update.print.map(|print| Entry {
                hash: update.hash,
                print,
            }),
            None => old,
        };
        self.membership |= old.is_some() != entry.is_some();
        self.changed |= old != entry;
        let Some(mut entry) = entry else {
            return;
        };
        if let Some(print) = revise(entry) {
            entry.print = print;
            self.revised.push(entry.hash);
        }
        self.slots.push(Slot {
            entry,
            old: old_at,
            update: update.map(|(at, _)| index(at)),
        });
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a step is bounded")
}
