//! The bytes of pieces: their memory is used again.

use bytes::Bytes;

use crate::kept::PIECES;

use super::cutter::PIECE_BYTES;

/// What a piece takes: an entry may end a little behind the mark.
const CAPACITY: usize = PIECE_BYTES + PIECE_BYTES / 8;

/// An empty buffer for a piece.
#[must_use]
pub fn take() -> Vec<u8> {
    PIECES.take(CAPACITY, CAPACITY)
}

/// Whether a piece of this length is as most of a large body are.
#[must_use]
pub fn is_usual(length: usize) -> bool {
    (PIECE_BYTES / 2..=2 * PIECE_BYTES).contains(&length)
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

fn put_back(piece: Vec<u8>) {
    // One that grew with a long entry is not worth keeping.
    if (CAPACITY..=2 * CAPACITY).contains(&piece.capacity()) {
        PIECES.put_back(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_what_was_put_in_and_is_whole_while_anybody_has_it() {
        for length in [0, 10, PIECE_BYTES, 3 * CAPACITY] {
            let mut buffer = take();
            assert!(buffer.is_empty());
            buffer.resize(length, b'x');
            let piece = complete(buffer);
            let part = piece.slice(..length / 2);
            drop(piece);
            let mut other = take();
            other.resize(CAPACITY, b'y');
            assert!(part.iter().all(|byte| *byte == b'x'), "{length}");
        }
    }
}
