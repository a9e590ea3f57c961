//! What one epoch holds of a cell, on its way to a snapshot.

use bytes::Bytes;

use crate::change::{KeyHash, Kind};
use crate::io::avro::schema::Record;
use crate::io::json::cutter::PIECE_BYTES;
use crate::io::json::hash;

/// See the module.
#[derive(Debug, Default)]
pub struct Gathered {
    pub polled_at: u64,
    pub pieces: Vec<Bytes>,
    pub entries: u64,
    /// Bytes of all of it.
    pub bytes: u64,
    pub gone: Vec<KeyHash>,
    piece: Vec<u8>,
}

impl Gathered {
    /// Takes a change in; of one epoch and cell no key has two.
    pub fn push(&mut self, record: &Record<'_>, seed: u64) {
        self.polled_at = self.polled_at.max(record.polled_at);
        if record.kind == Kind::Removed {
            self.gone.push(hash::key(seed, record.key.as_bytes()));
            self.bytes += size_of::<KeyHash>() as u64;
            return;
        }
        let value = record.value.unwrap_or_default();
        if !self.piece.is_empty() {
            self.piece.push(b',');
        }
        self.piece.extend_from_slice(value.as_bytes());
        self.entries += 1;
        self.bytes += value.len() as u64 + 1;
        if self.piece.len() >= PIECE_BYTES {
            self.end_piece();
        }
    }

    /// The pieces, the last one included.
    pub fn finish(mut self) -> Gathered {
        if !self.piece.is_empty() {
            self.end_piece();
        }
        self
    }

    fn end_piece(&mut self) {
        self.pieces.push(std::mem::take(&mut self.piece).into());
    }
}
