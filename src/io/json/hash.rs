//! The seeded hashes of record keys and of raw bytes, and the record key itself (R33).
//!
//! All seeds come from the one seed of the lineage, so that hashes stay the same over restarts and
//! `rebuild`, and say nothing to who does not know it.

use deltapoll_state::word::KeyHash;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

/// The hash of a record key (XXH3-128).
#[must_use]
pub fn key(lineage_seed: u64, record_key: &[u8]) -> KeyHash {
    KeyHash(xxh3_128_with_seed(record_key, lineage_seed))
}

/// The fingerprint of an entry's bytes as they arrived (XXH3-64).
#[must_use]
pub fn raw(lineage_seed: u64, entry: &[u8]) -> u64 {
    xxh3_64_with_seed(entry, lineage_seed)
}

/// Builds a cell's record keys, prefix + key + suffix, in one reused buffer.
#[derive(Clone, Debug)]
pub struct RecordKey {
    /// The prefix, then what the last key made of it.
    text: Vec<u8>,
    prefix_bytes: usize,
    suffix: Vec<u8>,
}

impl RecordKey {
    /// Record keys of a cell whose `record_key` has `prefix` before the entry's key and `suffix`
    /// after it.
    #[must_use]
    pub fn new(prefix: &str, suffix: &str) -> RecordKey {
        RecordKey {
            text: prefix.as_bytes().to_vec(),
            prefix_bytes: prefix.len(),
            suffix: suffix.as_bytes().to_vec(),
        }
    }

    /// The record key of the entry whose key is `key`.
    pub fn of<'a>(&'a mut self, key: &'a [u8]) -> &'a [u8] {
        if self.prefix_bytes == 0 && self.suffix.is_empty() {
            return key;
        }
        self.text.truncate(self.prefix_bytes);
        self.text.extend_from_slice(key);
        self.text.extend_from_slice(&self.suffix);
        &self.text
    }

    /// The hash of the record key of the entry whose key is `key`.
    pub fn hash(&mut self, lineage_seed: u64, key: &[u8]) -> KeyHash {
        self::key(lineage_seed, self.of(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r33_a_record_key_is_prefix_key_suffix_and_hashed_as_a_whole() {
        let mut record = RecordKey::new("kr:", "!");
        assert_eq!(record.of(b"alice"), b"kr:alice!");
        assert_eq!(record.of(b""), b"kr:!");
        assert_eq!(record.hash(7, b"bob"), key(7, b"kr:bob!"));
        let mut plain = RecordKey::new("", "");
        assert_eq!(plain.of(b"kr:bob!"), b"kr:bob!");
        assert_eq!(plain.hash(7, b"kr:bob!"), record.hash(7, b"bob"));
        assert_ne!(plain.hash(8, b"kr:bob!"), record.hash(7, b"bob"));
    }

    #[test]
    fn hashes_are_pinned_since_directories_hold_them() {
        assert_eq!(
            key(1, b"kr:alice").0,
            195_281_988_218_117_888_991_965_452_007_700_058_319
        );
        assert_eq!(raw(1, b"{\"a\":1}"), 7_635_250_280_210_550_854);
    }
}
