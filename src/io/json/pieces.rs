//! Memory of pieces, used again: fresh pages for every body cost as much as looking at it.
//!
//! What is kept is bounded, and given back when nobody is expected to want it soon.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::cutter::PIECE_BYTES;

/// What a piece takes: an entry may end a little behind the mark.
const CAPACITY: usize = PIECE_BYTES + PIECE_BYTES / 8;
/// Kept at most: half of what `limits.staging` allows by default.
const KEPT_BYTES: usize = 128 << 20;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn kept() -> MutexGuard<'static, Vec<Vec<u8>>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An empty buffer for a piece.
#[must_use]
pub fn take() -> Vec<u8> {
    kept().pop().unwrap_or_else(|| Vec::with_capacity(CAPACITY))
}

/// A piece that is complete: its buffer comes back when nobody looks at it any more. A short one gets
/// memory of its own, since budgets count its bytes.
#[must_use]
pub fn complete(piece: Vec<u8>) -> Bytes {
    if piece.len() < PIECE_BYTES / 2 {
        let short = Bytes::copy_from_slice(&piece);
        put_back(piece);
        return short;
    }
    Bytes::from_owner(Piece(piece))
}

/// Frees what is kept.
pub fn give_back() {
    let kept = std::mem::take(&mut *kept());
    drop(kept);
}

/// Gives its buffer back.
struct Piece(Vec<u8>);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        put_back(std::mem::take(&mut self.0));
    }
}

fn put_back(mut piece: Vec<u8>) {
    // One that grew with a long entry is not worth keeping.
    if !(CAPACITY..=2 * CAPACITY).contains(&piece.capacity()) {
        return;
    }
    piece.clear();
    let mut kept = kept();
    if kept.len() < KEPT_BYTES / CAPACITY {
        kept.push(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_what_was_put_in_and_is_whole_while_anybody_has_it() {
        for length in [0, 10, PIECE_BYTES, 3 * CAPACITY] {
            let mut buffer = take();
            buffer.resize(length, b'x');
            let piece = complete(buffer);
            let part = piece.slice(..length / 2);
            drop(piece);
            let mut other = take();
            other.resize(CAPACITY, b'y');
            assert!(part.iter().all(|byte| *byte == b'x'), "{length}");
        }
        give_back();
        assert!(take().capacity() >= CAPACITY);
    }
}
