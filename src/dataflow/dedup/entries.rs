//! The entries of one snapshot that one worker owns, in order of key hash.
//!
//! What the merge with the state needs lies in that order, 32 bytes an entry, so that it is read from
//! end to end; where the entry's bytes are stays in the chunk that it came in, and is looked up for the
//! few that differ.

use deltapoll_state::fail;
use deltapoll_state::word::KeyHash;

use crate::dataflow::message::Chunk;
use crate::kept::{PLACES, SEEN};
use crate::snapshot::{Seen, Span};

/// An entry in order: the halves of its key's hash, the fingerprint of its bytes, and its chunk and row, 32
/// bits each.
type Place = [u64; 4];

/// Entries whose bytes are brought near together: as many of some hundred bytes as the first cache has room
/// for.
pub const TOGETHER: usize = 32;
/// What comes at once from far memory.
const LINE_BYTES: usize = 64;
/// Of a long entry the rest comes by itself, when it is read from end to end.
const LINES: usize = 8;

/// About so many places are sorted together: they fit into the first cache.
const BUCKET: usize = 512;
/// Parts of a bucket, which are sorted one after the other.
const PARTS: usize = 64;
/// More buckets take longer to write than they save in sorting.
const BUCKETS_MAX: usize = 1024;

/// See the module.
pub struct Entries {
    /// What their entries are known by is in `places`.
    chunks: Vec<Chunk>,
    places: Vec<Place>,
}

impl Entries {
    /// Sorts the entries of `chunks`, which come in the order of the snapshot.
    pub fn new(mut chunks: Vec<Chunk>) -> Entries {
        let buckets = Buckets::new(&chunks);
        // Where the next one of each bucket goes: its end, once all are there.
        let mut ends = buckets.starts.clone();
        let mut places = places_for(buckets.entries);
        for (at, chunk) in (0..).zip(&mut chunks) {
            let seen = std::mem::take(&mut chunk.owned.seen);
            for (row, Seen { hash, raw }) in (at << 32..).zip(&seen) {
                let next = &mut ends[buckets.of(hash[0])];
                places[*next] = [hash[0], hash[1], *raw, row];
                *next += 1;
            }
            SEEN.put_back(seen);
        }
        let mut spare = Vec::new();
        for (start, end) in buckets.starts.iter().zip(ends) {
            let places = &mut places[*start..end];
            let parts = buckets.part(places, &mut spare);
            let mut from = 0;
            for to in parts {
                sort(&mut places[from..to]);
                from = to;
            }
            sort(&mut places[from..]);
        }
        Entries { chunks, places }
    }

    /// How many there are, those included that a later one replaces.
    pub fn len(&self) -> u32 {
        u32::try_from(self.places.len()).expect("body_max bounds the entries")
    }

    /// What the entry at `at` is known by.
    #[inline]
    pub fn seen(&self, at: u32) -> Seen {
        let [top, low, raw, _] = self.places[at as usize];
        Seen {
            hash: [top, low],
            raw,
        }
    }

    /// Whether a later entry of the snapshot has the key of the one at `at`.
    #[inline]
    pub fn is_replaced(&self, at: u32) -> bool {
        let next = self.places.get(at as usize + 1);
        next.is_some_and(|next| next[..2] == self.places[at as usize][..2])
    }

    /// Where the entry at `at` is in its piece, and its bytes.
    pub fn entry(&self, at: u32) -> (&Span, &[u8]) {
        let [.., place] = self.places[at as usize];
        let chunk = &self.chunks[(place >> 32) as usize];
        let span = &chunk.owned.spans[place as u32 as usize];
        let start = span.offset as usize;
        (span, &chunk.bytes[start..start + span.length as usize])
    }
}

impl Entries {
    /// Brings the bytes of entries into the caches that are about to be read: in order of hash each lies
    /// elsewhere, and waiting for all of them at once takes as long as waiting for a few. Of more than
    /// [`TOGETHER`] the first ones.
    pub fn bring_near(&self, entries: impl Iterator<Item = u32>) {
        // First where they are, which lies elsewhere too.
        let mut near: [&[u8]; TOGETHER] = [&[]; TOGETHER];
        for (near, at) in near.iter_mut().zip(entries) {
            *near = self.entry(at).1;
        }
        let lines = near
            .iter()
            .flat_map(|bytes| bytes.iter().step_by(LINE_BYTES).take(LINES));
        std::hint::black_box(lines.fold(0, |all, byte| all ^ byte));
    }
}

/// So many places, each of which is written over.
fn places_for(entries: usize) -> Vec<Place> {
    // The next snapshot may have a few more. New memory is zero: it is not written twice.
    let fresh = || vec![Place::default(); entries + entries / 8];
    let mut places = PLACES.take_used(entries).unwrap_or_else(fresh);
    places.resize(entries, Place::default());
    places
}

/// The memory of what is in order is used again.
impl Drop for Entries {
    fn drop(&mut self) {
        PLACES.put_back(std::mem::take(&mut self.places));
    }
}

/// By hash, and of equal ones the last of the snapshot last.
fn sort(places: &mut [Place]) {
    // By the half that tells nearly all apart.
    places.sort_unstable_by_key(|place| place[0]);
    for same in places.chunk_by_mut(|a, b| a[0] == b[0]) {
        if same.len() > 1 {
            same.sort_unstable_by(|a, b| {
                let in_order = a[3].cmp(&b[3]);
                let last_wins = if fail::broken("r06") {
                    in_order.reverse()
                } else {
                    in_order
                };
                a[1].cmp(&b[1]).then(last_wins)
            });
        }
    }
}

/// Ranges of hashes, of equal width: hashes are as good as random, so that each gets about as many.
struct Buckets {
    entries: usize,
    least: u64,
    shift: u32,
    /// Where the places of each start.
    starts: Vec<usize>,
}

impl Buckets {
    fn new(chunks: &[Chunk]) -> Buckets {
        let seen = || chunks.iter().flat_map(|chunk| &chunk.owned.seen);
        let entries: usize = chunks.iter().map(|chunk| chunk.owned.seen.len()).sum();
        let (least, most) = seen().fold((u64::MAX, 0), |(least, most), seen| {
            (least.min(seen.hash[0]), most.max(seen.hash[0]))
        });
        // Two at least: with one, the shift could be all bits.
        let count = (entries / BUCKET).clamp(2, BUCKETS_MAX).next_power_of_two();
        let bits = u64::BITS - most.saturating_sub(least).leading_zeros();
        let mut buckets = Buckets {
            entries,
            least,
            shift: bits.saturating_sub(count.ilog2()),
            starts: Vec::new(),
        };
        let mut starts = vec![0; count];
        for seen in seen() {
            starts[buckets.of(seen.hash[0])] += 1;
        }
        let mut start = 0;
        for places in &mut starts {
            start += std::mem::replace(places, start);
        }
        buckets.starts = starts;
        buckets
    }

    /// Puts the places of one bucket in order of the next few bits, and returns where each of these parts
    /// ends: some ten places are then sorted fastest one by one.
    fn part(&self, places: &mut [Place], spare: &mut Vec<Place>) -> [usize; PARTS] {
        let mut ends = [0; PARTS];
        let Some(shift) = self.shift.checked_sub(PARTS.ilog2()) else {
            return ends;
        };
        if places.len() < 2 * PARTS {
            return ends;
        }
        let part = |place: &Place| ((place[0] - self.least) >> shift) as usize % PARTS;
        for place in &*places {
            ends[part(place)] += 1;
        }
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        spare.clear();
        spare.extend_from_slice(places);
        for place in spare {
            let next = &mut ends[part(place)];
            places[*next] = *place;
            *next += 1;
        }
        ends
    }

    /// The bucket of a hash with this top half.
    #[inline]
    fn of(&self, top: u64) -> usize {
        ((top - self.least) >> self.shift) as usize
    }
}

impl Seen {
    /// The key's hash.
    #[inline]
    pub fn hash(&self) -> KeyHash {
        KeyHash(u128::from(self.hash[0]) << 64 | u128::from(self.hash[1]))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::snapshot::Owned;

    /// Chunks of entries that are one byte long and have these hashes.
    fn chunks(hashes: &[Vec<u128>]) -> Vec<Chunk> {
        let chunk = |(number, hashes): (u32, &Vec<u128>)| Chunk {
            bytes: Bytes::from(vec![number as u8; hashes.len()]),
            owned: Owned {
                seen: hashes.iter().map(|hash| seen_of(*hash)).collect(),
                spans: (0..hashes.len() as u32).map(span_at).collect(),
            },
        };
        (0..).zip(hashes).map(chunk).collect()
    }

    fn seen_of(hash: u128) -> Seen {
        Seen {
            hash: [(hash >> 64) as u64, hash as u64],
            raw: !hash as u64,
        }
    }

    fn span_at(offset: u32) -> Span {
        Span {
            offset,
            length: 1,
            key_offset: 0,
            key_length: 0,
        }
    }

    #[test]
    fn entries_are_in_order_of_hash_and_of_equal_ones_the_last_of_the_snapshot_is_last() {
        let mut seed = 1_u64;
        let mut any = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            u128::from(seed.rotate_left(31))
        };
        let shapes: [fn(u128, u128) -> u128; 5] = [
            |a, b| a << 64 | b,
            // Few different ones, that differ in either half, or in none.
            |a, b| ((a % 5) << 64) | (b % 3),
            |a, b| ((u128::from(u64::MAX) - a % 700) << 64) | (b % 2),
            |a, _| if a % 2 == 0 { 0 } else { u128::MAX },
            |_, b| b,
        ];
        for len in [0, 1, 2, 511, 3_000] {
            for shape in shapes {
                let mut part = |len| (0..len).map(|_| shape(any(), any())).collect();
                let hashes: Vec<Vec<u128>> = vec![part(len), part(len / 3), part(len / 7)];
                let mut expected: Vec<(u128, u32, u32)> = (0..)
                    .zip(&hashes)
                    .flat_map(|(number, part)| {
                        (0..).zip(part).map(move |(row, hash)| (*hash, number, row))
                    })
                    .collect();
                expected.sort_unstable();
                let entries = Entries::new(chunks(&hashes));
                assert_eq!(entries.len() as usize, expected.len());
                for (at, (hash, number, row)) in (0..).zip(&expected) {
                    let (span, bytes) = entries.entry(at);
                    let seen = entries.seen(at);
                    assert_eq!((seen.hash().0, seen.raw), (*hash, !*hash as u64));
                    assert_eq!((bytes, span.offset), (&[*number as u8][..], *row));
                    let next = expected.get(at as usize + 1);
                    let replaced = next.is_some_and(|(next, ..)| next == hash);
                    assert_eq!(entries.is_replaced(at), replaced);
                }
            }
        }
    }
}
