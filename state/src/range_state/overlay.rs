//! What was decided about one cell and is not in its pages yet.
//!
//! Notes are kept sorted by hash, 48 bytes each, their keys in chunks beside them. There are two
//! sorted lists, so that a small epoch on top of many notes does not move all of them; where both
//! have a key, the recent one counts. What a newer note replaces is set aside until it is written:
//! the newer one may not be sealed when it is (R27).

use crate::page::{put_key, take_key};
use crate::pages::Update;
use crate::range_state::Note;
use crate::word::{Epoch, Fingerprint, KeyHash};

/// `recent` is merged into `settled` when it is longer, and longer than a part of that.
const RECENT_MIN: usize = 1024;
const RECENT_PART: usize = 32;
/// Chunks of keys grow with what is held up to this.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// One note.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted {
    pub(super) hash: KeyHash,
    raw: u64,
    canon: u64,
    epoch: Epoch,
    key: KeyAt,
    rule: u8,
    gone: bool,
}

const _: () = assert!(size_of::<Noted>() == 48, "memory is bounded by this");

impl Noted {
    /// The fingerprint; `None`: the key is gone.
    #[inline]
    pub(super) fn print(&self) -> Option<Fingerprint> {
        (!self.gone).then_some(Fingerprint {
            raw: self.raw,
            canon: self.canon,
            rule: self.rule,
        })
    }
}

/// The notes of a cell.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    settled: Vec<Noted>,
    recent: Vec<Noted>,
    /// Replaced notes of keys that have a newer one.
    aside: Vec<Noted>,
    keys: Keys,
}

impl Overlay {
    /// Takes in the changes of `epoch`, of which the last one of each key counts.
    pub(super) fn note(&mut self, epoch: Epoch, mut notes: Vec<Note<'_>>) {
        notes.sort_by_key(|note| note.hash);
        notes.dedup_by(|later, earlier| {
            let same = later.hash == earlier.hash;
            if same {
                let key = if later.key.is_empty() {
                    earlier.key
                } else {
                    later.key
                };
                *earlier = Note { key, ..*later };
            }
            same
        });
        let mut fresh = Vec::with_capacity(notes.len());
        let (mut recent, mut settled) = (&self.recent[..], &self.settled[..]);
        for note in notes {
            let known = seek(&mut recent, note.hash).or(seek(&mut settled, note.hash));
            assert!(
                known.is_none_or(|k| k.epoch <= epoch),
                "epochs are noted in order"
            );
            let key = match known.map(|known| known.key) {
                Some(key) if key != KeyAt::NONE => key,
                _ => self.keys.push(note.key),
            };
            let print = note.print.unwrap_or_default();
            fresh.push(Noted {
                hash: note.hash,
                raw: print.raw,
                canon: print.canon,
                rule: print.rule,
                gone: note.print.is_none(),
                epoch,
                key,
            });
        }
        weave(&mut self.recent, fresh, &mut self.aside);
        if self.recent.len() > RECENT_MIN.max(self.settled.len() / RECENT_PART) {
            self.settle();
        }
    }

    /// Merges the two lists, and sorts what was set aside.
    pub(super) fn settle(&mut self) {
        let recent = std::mem::take(&mut self.recent);
        weave(&mut self.settled, recent, &mut self.aside);
        self.aside.sort_by_key(|note| (note.hash, note.epoch));
    }

    /// The newest note about `hash`.
    pub(super) fn find(&self, hash: KeyHash) -> Option<&Noted> {
        let find = |notes: &[Noted]| notes.binary_search_by_key(&hash, |note| note.hash);
        match find(&self.recent) {
            Ok(at) => Some(&self.recent[at]),
            Err(_) => find(&self.settled).ok().map(|at| &self.settled[at]),
        }
    }

    /// Whether `write` at `upto` leaves a note about `hash` behind.
    pub(super) fn outlives(&self, hash: KeyHash, upto: Epoch) -> bool {
        self.find(hash).is_some_and(|note| note.epoch > upto)
    }

    /// The key kept with `hash`.
    pub(super) fn key(&self, hash: KeyHash) -> Option<&[u8]> {
        self.keys.get(self.find(hash)?.key)
    }

    /// The newest note about each key, by hash.
    pub(super) fn newest(&self) -> Newest<'_> {
        Newest {
            settled: &self.settled,
            recent: &self.recent,
        }
    }

    /// What pages are to hold as of `upto`, by hash. Call [`Overlay::drop_through`] when they do.
    /// Call [`Overlay::settle`] before.
    pub(super) fn due(&self, upto: Epoch) -> impl Iterator<Item = Update<'_>> {
        assert!(self.recent.is_empty(), "settled before");
        let mut aside = &self.aside[..];
        let due = self.settled.iter().filter_map(move |note| {
            // Nothing is set aside that has no newer note.
            let own = aside
                .iter()
                .take_while(|shadowed| shadowed.hash == note.hash);
            let (own, rest) = aside.split_at(own.count());
            aside = rest;
            if note.epoch <= upto {
                return Some(note);
            }
            own.iter().rev().find(|shadowed| shadowed.epoch <= upto)
        });
        due.map(|note| Update {
            hash: note.hash,
            print: note.print(),
            key: self.keys.get(note.key).unwrap_or_default(),
        })
    }

    /// Forgets what is in the pages as of `upto`.
    pub(super) fn drop_through(&mut self, upto: Epoch) {
        self.settle();
        let old = std::mem::take(&mut self.keys);
        for notes in [&mut self.settled, &mut self.aside] {
            notes.retain(|note| note.epoch > upto);
            notes.shrink_to_fit();
        }
        // A key that was replaced shares its bytes with the newer note; twice is rare and short.
        let rest = self.settled.iter_mut().chain(&mut self.aside);
        for note in rest {
            note.key = self.keys.push(old.get(note.key).unwrap_or_default());
        }
    }

    /// Notes held, those set aside included.
    pub(super) fn len(&self) -> usize {
        self.settled.len() + self.recent.len() + self.aside.len()
    }

    /// Memory held.
    pub(super) fn bytes(&self) -> usize {
        let notes = self.settled.capacity() + self.recent.capacity() + self.aside.capacity();
        notes * size_of::<Noted>() + self.keys.bytes
    }
}

/// Merges `fresh` into `base` in place; what it replaces, of earlier epochs, goes to `aside`.
fn weave(base: &mut Vec<Noted>, fresh: Vec<Noted>, aside: &mut Vec<Noted>) {
    if base.is_empty() {
        *base = fresh;
        return;
    }
    let Some(filler) = fresh.first().copied() else {
        return;
    };
    let mut same = 0;
    let mut rest = &base[..];
    for new in &fresh {
        if let Some(known) = seek(&mut rest, new.hash) {
            same += 1;
            if known.epoch < new.epoch {
                aside.push(*known);
            }
        }
    }
    let (mut old, mut new) = (base.len(), fresh.len());
    let mut end = old + new - same;
    base.reserve_exact(end - old);
    base.resize(end, filler);
    // From the end, so that nothing is overwritten before it is moved.
    while new > 0 {
        new -= 1;
        let hash = fresh[new].hash;
        let above = base[..old].iter().rev().take_while(|note| note.hash > hash);
        let above = above.count();
        if old < end {
            base.copy_within(old - above..old, end - above);
        }
        old -= above;
        end -= above + 1;
        old -= usize::from(old > 0 && base[old - 1].hash == hash);
        base[end] = fresh[new];
    }
    assert_eq!(end, old, "every place was filled");
}

/// The note about `hash`; what comes before it is dropped from `notes`. Fast where it is near.
fn seek<'a>(notes: &mut &'a [Noted], hash: KeyHash) -> Option<&'a Noted> {
    let mut reach = 1;
    while notes.get(reach).is_some_and(|note| note.hash < hash) {
        reach *= 2;
    }
    let near = &notes[reach / 2..notes.len().min(reach)];
    let at = reach / 2 + near.partition_point(|note| note.hash < hash);
    *notes = &notes[at..];
    notes.first().filter(|note| note.hash == hash)
}

/// The newest note about each key, by hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest<'a> {
    settled: &'a [Noted],
    recent: &'a [Noted],
}

impl<'a> Newest<'a> {
    pub(super) const NONE: Newest<'static> = Newest {
        settled: &[],
        recent: &[],
    };

    #[inline]
    pub(super) fn peek(&self) -> Option<&'a Noted> {
        match (self.settled.first(), self.recent.first()) {
            (Some(settled), Some(recent)) if settled.hash < recent.hash => Some(settled),
            (settled, recent) => recent.or(settled),
        }
    }
}

impl<'a> Iterator for Newest<'a> {
    type Item = &'a Noted;

    fn next(&mut self) -> Option<&'a Noted> {
        let next = self.peek()?;
        for notes in [&mut self.settled, &mut self.recent] {
            if notes.first().is_some_and(|note| note.hash == next.hash) {
                *notes = &notes[1..];
            }
        }
        Some(next)
    }
}

/// Where a key is; packed, or a note has 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(Rust, packed(2))]
struct KeyAt {
    offset: u32,
    chunk: u16,
}

impl KeyAt {
    const NONE: KeyAt = KeyAt {
        offset: 0,
        chunk: u16::MAX,
    };
}

/// Keys, one after another, in chunks that are never moved.
#[derive(Debug, Default)]
struct Keys {
    chunks: Vec<Vec<u8>>,
    /// Capacity of all chunks.
    bytes: usize,
}

impl Keys {
    fn grow(&mut self, least: usize) {
        let chunk = Vec::with_capacity(least.max((self.bytes / 16).min(CHUNK_BYTES_MAX)));
        self.bytes += chunk.capacity();
        self.chunks.push(chunk);
    }

    fn push(&mut self, key: &[u8]) -> KeyAt {
        if key.is_empty() {
            return KeyAt::NONE;
        }
        let needed = key.len() + 5;
        let fits = |chunk: &Vec<u8>| chunk.capacity() - chunk.len() >= needed;
        if !self.chunks.last().is_some_and(fits) {
            self.grow(needed);
        }
        let chunk = self.chunks.last_mut().expect("just made");
        let offset = u32::try_from(chunk.len()).expect("a chunk holds one long key or is short");
        put_key(chunk, key);
        let chunk = u16::try_from(self.chunks.len() - 1)
            .ok()
            .filter(|at| *at < u16::MAX);
        KeyAt {
            offset,
            chunk: chunk.expect("below 64 Ki chunks: they grow"),
        }
    }

    fn get(&self, at: KeyAt) -> Option<&[u8]> {
        if at == KeyAt::NONE {
            return None;
        }
        let mut rest = &self.chunks[usize::from(at.chunk)][at.offset as usize..];
        Some(take_key(&mut rest).expect("put there"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::dice::Dice;

    fn noted(hash: u64, epoch: u64) -> Noted {
        Noted {
            hash: KeyHash(u128::from(hash)),
            raw: hash,
            canon: epoch,
            epoch: Epoch(epoch),
            key: KeyAt::NONE,
            rule: 0,
            gone: false,
        }
    }

    fn some(dice: &mut Dice, below: u64, epoch: u64) -> Vec<Noted> {
        let count = dice.below(1 + below);
        let hashes = (0..count).map(|_| (dice.below(below), ()));
        let hashes: BTreeMap<u64, ()> = hashes.collect();
        hashes.keys().map(|hash| noted(*hash, epoch)).collect()
    }

    fn told(notes: &[Noted]) -> Vec<(u128, u64)> {
        notes
            .iter()
            .map(|note| (note.hash.0, note.epoch.0))
            .collect()
    }

    #[test]
    fn a_note_is_found_from_wherever_the_last_one_was() {
        let mut dice = Dice::new(3);
        for below in [1, 2, 3, 4, 5, 8, 9, 33, 1000] {
            for _ in 0..200 {
                let notes = some(&mut dice, below, 1);
                let mut rest = &notes[..];
                for wanted in some(&mut dice, below, 1) {
                    let found = seek(&mut rest, wanted.hash).map(|note| note.hash);
                    let there = notes.iter().find(|note| note.hash == wanted.hash);
                    assert_eq!(found, there.map(|note| note.hash));
                }
            }
        }
    }

    #[test]
    fn notes_are_woven_in_order_and_what_they_replace_is_set_aside() {
        let mut dice = Dice::new(5);
        for below in [1, 2, 3, 8, 33, 1000] {
            for epoch in [1, 2].repeat(100) {
                let base = some(&mut dice, below, 1);
                let fresh = some(&mut dice, below, epoch);
                let mut expected: BTreeMap<u128, u64> = told(&base).into_iter().collect();
                let replaced = fresh
                    .iter()
                    .filter(|new| expected.contains_key(&new.hash.0));
                // What is of the same epoch is forgotten.
                let replaced = replaced.filter(|new| new.epoch > Epoch(1));
                let replaced: Vec<(u128, u64)> = replaced.map(|new| (new.hash.0, 1)).collect();
                expected.extend(told(&fresh));
                let (mut woven, mut aside) = (base, Vec::new());
                weave(&mut woven, fresh, &mut aside);
                assert_eq!(told(&woven), expected.into_iter().collect::<Vec<_>>());
                assert_eq!(told(&aside), replaced);
            }
        }
    }
}
