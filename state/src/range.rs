//! Ranges of the key-hash space: contiguous, one owner each, together the whole space.
//!
//! Owner of a key = (top 64 bits x workers) >> 64, so that the number of workers may change between
//! two runs without any key's hash changing.

use crate::word::KeyHash;

/// A contiguous part of the key-hash space, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least key hash of the range.
    pub first: KeyHash,
    /// The greatest key hash of the range.
    pub last: KeyHash,
}

impl Range {
    /// The whole space.
    pub const ALL: Range = Range {
        first: KeyHash(0),
        last: KeyHash(u128::MAX),
    };

    /// The range that `worker` of `workers` owns.
    ///
    /// # Panics
    /// When `worker` is not below `workers`.
    #[must_use]
    pub fn of(worker: usize, workers: usize) -> Range {
        assert!(worker < workers, "worker {worker} of {workers}");
        let bound = |w: usize| ((w as u128) << 64).div_ceil(workers as u128) << 64;
        let last = if worker + 1 == workers {
            u128::MAX
        } else {
            bound(worker + 1) - 1
        };
        Range {
            first: KeyHash(bound(worker)),
            last: KeyHash(last),
        }
    }

    /// Whether `hash` lies in this range.
    #[must_use]
    pub fn contains(self, hash: KeyHash) -> bool {
        self.first <= hash && hash <= self.last
    }
}

/// The worker that owns `hash`.
#[must_use]
pub fn owner(hash: KeyHash, workers: usize) -> usize {
    ((u128::from(hash.top()) * workers as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_has_exactly_the_owner_whose_range_contains_it() {
        for workers in 1..=7 {
            for worker in 0..workers {
                let range = Range::of(worker, workers);
                for hash in [range.first, range.last] {
                    assert_eq!(owner(hash, workers), worker, "{hash:?} of {workers}");
                }
                if worker > 0 {
                    assert_eq!(Range::of(worker - 1, workers).last.0 + 1, range.first.0);
                }
            }
        }
    }
}
