//! Reads frames of one segment in order, through a buffer, never past a given limit.

use memchr::memmem;

use crate::error::Error;
use crate::journal::disk::File;
use crate::journal::frame::{self, HEAD_BYTES, MAGIC, MAGIC_AT, View};

/// Bytes read at once; a larger frame is read whole.
const CHUNK_BYTES: usize = 256 << 10;
/// So much memory is kept for the next frame, which is mostly as large as this one.
const KEPT_BYTES: usize = 2 << 20;

/// A segment's file, and a part of it in memory.
#[derive(Debug)]
pub(super) struct Cursor {
    file: File,
    salt: u64,
    buffer: Vec<u8>,
    /// Where `buffer` begins in the file.
    start: u64,
    /// So many bytes of `buffer` are of the file.
    read: usize,
}

impl Cursor {
    pub(super) fn new(file: File, salt: u64) -> Cursor {
        Cursor {
            file,
            salt,
            buffer: Vec::new(),
            start: 0,
            read: 0,
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The valid frame at `at` and the offset after it; `None`: there is none that ends by `limit`.
    pub(super) fn frame(&mut self, at: u64, limit: u64) -> Result<Option<(View<'_>, u64)>, Error> {
        let salt = self.salt;
        let Some(head) = self.slice(at, HEAD_BYTES as u64, limit)? else {
            return Ok(None);
        };
        let head = head.first_chunk().expect("as long as asked for");
        let Some((_, total)) = frame::head(head, salt, at) else {
            return Ok(None);
        };
        let bytes = self.slice(at, total, limit)?;
        let frame = bytes.and_then(|bytes| frame::decode(bytes, salt, at));
        Ok(frame.map(|frame| (frame, at + total)))
    }

    /// Whether a valid frame after `bad` proves that the file had been durable beyond `bad` (R13).
    pub(super) fn proves_damage(&mut self, bad: u64, limit: u64) -> Result<bool, Error> {
        let overlap = MAGIC.len() as u64 - 1;
        let mut at = bad + 1 + MAGIC_AT as u64;
        while at + overlap < limit {
            let length = (limit - at).min(CHUNK_BYTES as u64);
            let chunk = self.slice(at, length, limit)?.expect("within the limit");
            let hits: Vec<u64> = memmem::find_iter(chunk, &MAGIC)
                .map(|index| at + index as u64 - MAGIC_AT as u64)
                .collect();
            for start in hits {
                if self.proof_at(start, bad, limit)? {
                    return Ok(true);
                }
            }
            at += length - overlap;
        }
        Ok(false)
    }

    fn proof_at(&mut self, start: u64, bad: u64, limit: u64) -> Result<bool, Error> {
        let salt = self.salt;
        let Some(head) = self.slice(start, HEAD_BYTES as u64, limit)? else {
            return Ok(false);
        };
        // The cheap part first: batches may be full of bytes that look like heads.
        let head = head.first_chunk().expect("as long as asked for");
        match frame::head(head, salt, start) {
            Some((head, _)) if bad < head.synced && head.synced <= start => {
                Ok(self.frame(start, limit)?.is_some())
            }
            _ => Ok(false),
        }
    }

    /// `length` bytes from `at` on; `None`: they would end beyond `limit`.
    fn slice(&mut self, at: u64, length: u64, limit: u64) -> Result<Option<&[u8]>, Error> {
        let end = match at.checked_add(length) {
            Some(end) if end <= limit => end,
            _ => return Ok(None),
        };
        let read_to = self.start + self.read as u64;
        if at < self.start || end > read_to {
            let fill = memory((limit - at).min(length.max(CHUNK_BYTES as u64)));
            // Of a frame the first part was read to see how long it is.
            let kept = if (self.start..read_to).contains(&at) {
                memory(read_to - at)
            } else {
                0
            };
            self.buffer.copy_within(self.read - kept..self.read, 0);
            (self.start, self.read) = (at, 0);
            if self.buffer.len() > fill.max(KEPT_BYTES) {
                self.buffer.truncate(fill);
                self.buffer.shrink_to_fit();
            }
            if self.buffer.len() < fill {
                self.buffer.reserve_exact(fill - self.buffer.len());
                self.buffer.resize(fill, 0);
            }
            self.file
                .read(&mut self.buffer[kept..fill], at + kept as u64)?;
            self.read = fill;
        }
        let from = memory(at - self.start);
        Ok(Some(&self.buffer[from..from + memory(length)]))
    }
}

fn memory(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a frame fits into memory")
}
