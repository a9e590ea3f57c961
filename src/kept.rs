//! Memory that is used again, from one body to the next: fresh pages cost as much as looking at what is
//! put there, since the kernel clears them.
//!
//! What is kept is bounded, and given back when nobody is expected to want it soon. Of vectors of other sizes
//! than are asked for, the oldest make room.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::snapshot::{Seen, Span};

/// The bytes of pieces: half of what `limits.staging` allows by default.
pub static PIECES: Kept<u8> = Kept::new(128 << 20, 1 << 20);
/// What the entries of pieces are known by.
pub static SEEN: Kept<Seen> = Kept::new(24 << 20, 1 << 20);
/// Where the entries of pieces are.
pub static SPANS: Kept<Span> = Kept::new(16 << 20, 1 << 20);
/// The entries of snapshots in order of hash; see `dataflow::dedup::entries`.
pub static PLACES: Kept<[u64; 4]> = Kept::new(40 << 20, 40 << 20);

/// Less is not worth keeping: the allocator has it at hand.
const LEAST_BYTES: usize = 4 << 10;
/// How many are looked at for one that fits, newest first.
const LOOKED_AT: usize = 8;

/// Vectors that nobody uses now.
pub struct Kept<T> {
    bytes_max: usize,
    /// Of one of them.
    each_max: usize,
    free: Mutex<Free<T>>,
}

struct Free<T> {
    /// Oldest first.
    vectors: VecDeque<Vec<T>>,
    bytes: usize,
}

/// Frees all that is kept.
pub fn give_back() {
    PIECES.give_back();
    SEEN.give_back();
    SPANS.give_back();
    PLACES.give_back();
}

impl<T> Kept<T> {
    /// Keeps so many bytes at most, and no vector that is larger than `each_max`.
    const fn new(bytes_max: usize, each_max: usize) -> Kept<T> {
        Kept {
            bytes_max,
            each_max,
            free: Mutex::new(Free::new()),
        }
    }

    /// An empty one with room for `needed`; if none is kept, a new one with room for `fresh`.
    pub fn take(&self, needed: usize, fresh: usize) -> Vec<T> {
        let Some(mut vector) = self.take_used(needed) else {
            return Vec::with_capacity(fresh);
        };
        vector.clear();
        vector
    }

    /// One that is kept and has room for `needed`, and not for more than twice as many, which budgets would
    /// count. What it had last is still in it.
    pub fn take_used(&self, needed: usize) -> Option<Vec<T>> {
        if needed * size_of::<T>() < LEAST_BYTES {
            return None;
        }
        self.free()
            .take(|capacity| (needed..=2 * needed).contains(&capacity))
    }

    /// An empty one with whatever room it has.
    pub fn take_any(&self) -> Vec<T> {
        let mut vector = self.free().take(|_| true).unwrap_or_default();
        vector.clear();
        vector
    }

    /// Nobody uses this one any more.
    pub fn put_back(&self, vector: Vec<T>) {
        let bytes = bytes_of(&vector);
        if !(LEAST_BYTES..=self.each_max).contains(&bytes) {
            return;
        }
        let mut gone = Vec::new();
        let mut free = self.free();
        while free.bytes + bytes > self.bytes_max {
            gone.extend(free.pop_oldest());
        }
        free.bytes += bytes;
        free.vectors.push_back(vector);
        // Nobody waits for what the allocator does.
        drop(free);
        drop(gone);
    }

    fn give_back(&self) {
        let free = std::mem::replace(&mut *self.free(), Free::new());
        drop(free);
    }

    fn free(&self) -> MutexGuard<'_, Free<T>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Free<T> {
    const fn new() -> Free<T> {
        Free {
            vectors: VecDeque::new(),
            bytes: 0,
        }
    }

    /// The newest that fits.
    fn take(&mut self, fits: impl Fn(usize) -> bool) -> Option<Vec<T>> {
        let mut newest = self.vectors.iter().rev().take(LOOKED_AT);
        let nth = newest.position(|vector| fits(vector.capacity()))?;
        let vector = self.vectors.remove(self.vectors.len() - 1 - nth)?;
        self.bytes -= bytes_of(&vector);
        Some(vector)
    }

    fn pop_oldest(&mut self) -> Option<Vec<T>> {
        let vector = self.vectors.pop_front()?;
        self.bytes -= bytes_of(&vector);
        Some(vector)
    }
}

fn bytes_of<T>(vector: &Vec<T>) -> usize {
    vector.capacity() * size_of::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    fn at(vector: &[u8]) -> usize {
        vector.as_ptr() as usize
    }

    #[test]
    fn what_is_kept_comes_again_where_it_fits() {
        let kept: Kept<u8> = Kept::new(100 * KIB, 64 * KIB);
        let mut first = kept.take(60 * KIB, 64 * KIB);
        first.push(1);
        let place = at(&first);
        kept.put_back(first);
        // Neither what is smaller nor what is more than half as small.
        assert_ne!(at(&kept.take(65 * KIB, 65 * KIB)), place);
        assert_ne!(at(&kept.take(31 * KIB, 31 * KIB)), place);
        // A little more than the last time.
        let again = kept.take(61 * KIB, 64 * KIB);
        assert_eq!((at(&again), again.len()), (place, 0));
        kept.put_back(again);
        assert_eq!(at(&kept.take_any()), place);
        assert_eq!(kept.free().bytes, 0);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_makes_room() {
        let kept: Kept<u8> = Kept::new(100 * KIB, 64 * KIB);
        // One that is too small, and one that is too large.
        kept.put_back(Vec::with_capacity(10));
        kept.put_back(Vec::with_capacity(65 * KIB));
        assert_eq!(kept.free().bytes, 0);
        for size in [40, 50, 30] {
            kept.put_back(Vec::with_capacity(size * KIB));
        }
        assert_eq!(kept.free().bytes, 80 * KIB);
        assert!(
            kept.take_used(40 * KIB)
                .is_some_and(|kept| kept.capacity() == 50 * KIB)
        );
        assert!(kept.take_used(40 * KIB).is_none());
        kept.give_back();
        assert_eq!(kept.free().bytes, 0);
        assert_eq!(kept.take_any().capacity(), 0);
    }
}
