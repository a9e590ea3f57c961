//! What a set of pairs is known by, whatever their order, as of a batch.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The key of a store's sum; after every other.
pub(super) const SUM: [u8; 16] = [0xff; 16];

/// Identifies a set of pairs, whatever their order, as of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    count: u64,
    hashes: u64,
    /// The number of the batch.
    pub(super) batch: u64,
}

impl Sum {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.count = self.count.wrapping_add(1);
        self.hashes = self.hashes.wrapping_add(hash(key, value));
    }

    pub(super) fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.count = self.count.wrapping_sub(1);
        self.hashes = self.hashes.wrapping_sub(hash(key, value));
    }

    /// Adds the pairs of another set.
    pub(super) fn merge(&mut self, other: Sum) {
        self.count = self.count.wrapping_add(other.count);
        self.hashes = self.hashes.wrapping_add(other.hashes);
    }

    pub(super) fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (at, word) in [self.count, self.hashes, self.batch].iter().enumerate() {
            bytes[at * 8..][..8].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Sum> {
        let (words, []) = bytes.as_chunks::<8>() else {
            return None;
        };
        let words: [[u8; 8]; 3] = words.try_into().ok()?;
        let [count, hashes, batch] = words.map(u64::from_le_bytes);
        Some(Sum {
            count,
            hashes,
            batch,
        })
    }
}

fn hash(key: &[u8], value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_64(key))
}
