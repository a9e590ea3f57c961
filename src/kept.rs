//! Memory that is used again, from one body to the next: fresh pages cost as much as looking at what is
//! put there, since the kernel clears them.
//!
//! What is kept is bounded, and given back when nobody is expected to want it soon.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::snapshot::{Seen, Span};

/// The bytes of pieces: half of what `limits.staging` allows by default.
pub static PIECES: Kept<u8> = Kept::new(128 << 20);
/// What the entries of pieces are known by.
pub static SEEN: Kept<Seen> = Kept::new(24 << 20);
/// Where the entries of pieces are.
pub static SPANS: Kept<Span> = Kept::new(16 << 20);
/// The entries of snapshots in order of hash; see `dataflow::dedup::entries`.
pub static PLACES: Kept<[u64; 4]> = Kept::new(32 << 20);

/// Less is not worth keeping: the allocator has it at hand.
const LEAST_BYTES: usize = 4 << 10;

/// Vectors that nobody uses now.
pub struct Kept<T> {
    bytes_max: usize,
    free: Mutex<Free<T>>,
}

struct Free<T> {
    vectors: Vec<Vec<T>>,
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
    /// Keeps so many bytes at most.
    const fn new(bytes_max: usize) -> Kept<T> {
        let free = Free {
            vectors: Vec::new(),
            bytes: 0,
        };
        Kept {
            bytes_max,
            free: Mutex::new(free),
        }
    }

    /// One that has room for `capacity`, with whatever is still in it. One that is kept and has less room is
    /// freed: the next will be larger.
    pub fn take(&self, capacity: usize) -> Vec<T> {
        let kept = self.free().pop();
        kept.filter(|kept| kept.capacity() >= capacity)
            .unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    /// Nobody uses this one any more.
    pub fn put_back(&self, vector: Vec<T>) {
        let bytes = bytes_of(&vector);
        if bytes < LEAST_BYTES {
            return;
        }
        let mut free = self.free();
        if free.bytes + bytes <= self.bytes_max {
            free.bytes += bytes;
            free.vectors.push(vector);
        }
    }

    fn give_back(&self) {
        let free = std::mem::replace(
            &mut *self.free(),
            Free {
                vectors: Vec::new(),
                bytes: 0,
            },
        );
        drop(free);
    }

    fn free(&self) -> MutexGuard<'_, Free<T>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Free<T> {
    fn pop(&mut self) -> Option<Vec<T>> {
        let vector = self.vectors.pop()?;
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

    #[test]
    fn what_is_kept_comes_again_if_it_is_large_enough_and_is_bounded() {
        let kept: Kept<u8> = Kept::new(100 << 10);
        let address = |vector: &Vec<u8>| vector.as_ptr() as usize;
        let first = kept.take(64 << 10);
        assert_eq!(first.capacity(), 64 << 10);
        let at = address(&first);
        kept.put_back(first);
        // Too much beside the first; too little to be kept.
        kept.put_back(Vec::with_capacity(64 << 10));
        kept.put_back(Vec::with_capacity(10));
        let again = kept.take(1);
        assert_eq!(address(&again), at);
        assert_eq!(kept.take(1).capacity(), 1);
        kept.put_back(again);
        assert_eq!(kept.take(65 << 10).capacity(), 65 << 10);
        assert_eq!(kept.free().bytes, 0);
        kept.put_back(Vec::with_capacity(64 << 10));
        kept.give_back();
        assert_eq!(kept.take(1).capacity(), 1);
        assert_eq!(kept.free().bytes, 0);
    }
}
