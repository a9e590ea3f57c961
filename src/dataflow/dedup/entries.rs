//! The entries of one snapshot that one worker owns, in order of key hash.
//!
//! The rows stay in the chunks that they came in; what is sorted is where they are, 16 bytes each.

use deltapoll_state::fail;
use deltapoll_state::word::KeyHash;

use crate::dataflow::message::{Chunk, Row};

/// Where a row is, with the half of its hash that tells nearly all of them apart.
#[derive(Clone, Copy, Debug)]
struct Place {
    top: u64,
    chunk: u32,
    row: u32,
}

const _: () = assert!(size_of::<Place>() == 16, "there is one for every entry");

/// See the module.
pub struct Entries {
    chunks: Vec<Chunk>,
    places: Vec<Place>,
}

impl Entries {
    /// Sorts the entries of `chunks`, which come in any order.
    pub fn new(mut chunks: Vec<Chunk>) -> Entries {
        // The order of places is then the order of the snapshot: the last of equal hashes counts (R6).
        chunks.sort_unstable_by_key(|chunk| chunk.number);
        let mut places = Vec::with_capacity(chunks.iter().map(|chunk| chunk.rows.len()).sum());
        for (at, chunk) in (0..).zip(&chunks) {
            places.extend((0..).zip(&chunk.rows).map(|(row, entry)| Place {
                top: entry.hash[0],
                chunk: at,
                row,
            }));
        }
        // By the half that is at hand first: nearly no two places agree in it.
        places.sort_unstable_by_key(|place| place.top);
        let low = |place: &Place| chunks[place.chunk as usize].rows[place.row as usize].hash[1];
        for same in places.chunk_by_mut(|a, b| a.top == b.top) {
            if same.len() > 1 {
                same.sort_unstable_by(|a, b| {
                    let in_order = (a.chunk, a.row).cmp(&(b.chunk, b.row));
                    let last_wins = if fail::broken("r06") {
                        in_order.reverse()
                    } else {
                        in_order
                    };
                    low(a).cmp(&low(b)).then(last_wins)
                });
            }
        }
        Entries { chunks, places }
    }

    /// How many there are, those included that a later one replaces.
    pub fn len(&self) -> u32 {
        u32::try_from(self.places.len()).expect("body_max bounds the entries")
    }

    /// The row of the entry at `at`.
    #[inline]
    pub fn row(&self, at: u32) -> &Row {
        let place = self.places[at as usize];
        &self.chunks[place.chunk as usize].rows[place.row as usize]
    }

    /// Whether a later entry of the snapshot has the key of the one at `at`.
    #[inline]
    pub fn is_replaced(&self, at: u32) -> bool {
        let next = self.places.get(at as usize + 1);
        next.is_some_and(|next| {
            next.top == self.places[at as usize].top && self.row(at + 1).hash == self.row(at).hash
        })
    }

    /// The row of the entry at `at`, and its bytes.
    pub fn entry(&self, at: u32) -> (&Row, &[u8]) {
        let row = self.row(at);
        let bytes = &self.chunks[self.places[at as usize].chunk as usize].bytes;
        let start = row.offset as usize;
        (row, &bytes[start..start + row.length as usize])
    }
}

impl Row {
    /// The key's hash.
    #[inline]
    pub fn hash(&self) -> KeyHash {
        KeyHash(u128::from(self.hash[0]) << 64 | u128::from(self.hash[1]))
    }
}
