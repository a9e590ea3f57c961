//! What entries are known by: hashes key and raw bytes, and says which worker owns them, while the entry is
//! in the cache. Nothing is allocated per entry.

use bytes::Bytes;
use deltapoll_state::{fail, range};

use crate::snapshot::{Owned, Piece, Seen, Span};

use super::Pointer;
use super::cutter::Take;
use super::extract::{self, Counts, Entry};
use super::hash::{self, RecordKey};
use super::pieces;

/// Entries of a piece for which its columns keep room: more than a usual piece has.
const ROOM_MAX: usize = 1 << 15;

/// What a cell's entries are known by.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Pointers to the entry's key; the first that is there.
    pub keys: Vec<Pointer>,
    /// What the record key has before the entry's key.
    pub key_prefix: String,
    /// What the record key has after it.
    pub key_suffix: String,
    /// Seed of all hashes, from the lineage.
    pub seed: u64,
    /// How many share the keys.
    pub workers: usize,
}

/// Scans the pieces of one body.
#[derive(Debug)]
pub struct Scanner<'s> {
    scan: &'s Scan,
    record_key: RecordKey,
    /// What each worker owns of the piece at hand.
    shares: Vec<Owned>,
    counts: Counts,
    pieces: Vec<Piece>,
    bytes: u64,
}

impl Scan {
    /// For who looks at entries and remembers nothing: entries with one of these keys, as they are, on one
    /// worker.
    #[must_use]
    pub fn of_keys(keys: Vec<Pointer>) -> Scan {
        Scan {
            keys,
            key_prefix: String::new(),
            key_suffix: String::new(),
            seed: 0,
            workers: 1,
        }
    }

    /// Scans a body of this cell.
    #[must_use]
    pub fn begin(&self) -> Scanner<'_> {
        Scanner {
            scan: self,
            record_key: RecordKey::new(&self.key_prefix, &self.key_suffix),
            shares: (0..self.workers).map(|_| Owned::with_any_room()).collect(),
            counts: Counts::default(),
            pieces: Vec::new(),
            bytes: 0,
        }
    }
}

impl Scanner<'_> {
    /// Takes a piece that was cut in another way than by a [`super::cutter::Cutter`].
    ///
    /// # Errors
    /// What is malformed, and where in the piece: the body cannot be used.
    pub fn take(&mut self, piece: Bytes) -> Result<(), String> {
        let number = self.pieces.len();
        match extract::scan(&piece, &self.scan.keys, |entry| self.entry(entry)) {
            Err(_) if fail::broken("r03") => {}
            Err(malformed) => return Err(format!("piece {number}: {malformed}")),
            Ok(_) => self.piece(piece),
        }
        Ok(())
    }

    /// Memory of what was found, beside the pieces' bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All pieces, in order.
    #[must_use]
    pub fn finish(self) -> Vec<Piece> {
        self.pieces
    }
}

impl Take for Scanner<'_> {
    fn entry(&mut self, entry: Entry<'_>) {
        self.counts.entries += 1;
        let Some(key) = entry.key else {
            self.counts.keyless += 1;
            return;
        };
        let seed = self.scan.seed;
        let hash = self.record_key.hash(seed, key);
        let share = &mut self.shares[range::owner(hash, self.scan.workers)];
        share.seen.push(Seen {
            hash: [hash.top(), hash.0 as u64],
            raw: hash::raw(seed, entry.bytes),
        });
        share.spans.push(Span {
            offset: entry.offset,
            length: entry.len,
            key_offset: entry.key_offset.unwrap_or(0),
            key_length: entry.key_offset.map_or(0, |_| key.len() as u32),
        });
    }

    fn piece(&mut self, bytes: Bytes) {
        let mut owned = Vec::with_capacity(self.shares.len());
        for share in &mut self.shares {
            let complete = if pieces::is_usual(bytes.len()) {
                // The next piece has about as many.
                let entries = share.seen.len();
                let next = Owned::with_room(entries + entries / 16, entries + entries / 8);
                std::mem::replace(share, next)
            } else {
                share.moved()
            };
            self.bytes += complete.bytes();
            owned.push(complete);
        }
        self.pieces.push(Piece {
            bytes,
            counts: std::mem::take(&mut self.counts),
            owned,
        });
    }
}

impl Owned {
    /// What is in it, in memory of about the size that it needs until the snapshot is decided.
    fn moved(&mut self) -> Owned {
        let entries = self.seen.len();
        let mut copy = Owned::with_room(entries, entries);
        copy.seen.append(&mut self.seen);
        copy.spans.append(&mut self.spans);
        // A piece may be one line of 256 MiB.
        self.seen.shrink_to(ROOM_MAX);
        self.spans.shrink_to(ROOM_MAX);
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::super::cutter::{Cutter, PIECE_BYTES};
    use super::*;

    /// What is charged for the columns of a body of so many entries with `padding` bytes, and its pieces.
    fn scanned(entries: usize, padding: usize) -> (u64, Vec<Piece>) {
        let keys = vec![Pointer::parse("/id").unwrap()];
        let scan = Scan::of_keys(keys);
        let mut scanner = scan.begin();
        let mut cutter = Cutter::new(&Pointer::parse("").unwrap(), PIECE_BYTES, &scan.keys);
        let entry = |id: usize| format!("{{\"id\":\"{id}\",\"x\":\"{}\"}}", "x".repeat(padding));
        let all: Vec<String> = (0..entries).map(entry).collect();
        let body = format!("[{}]", all.join(","));
        cutter.push(body.as_bytes(), &mut scanner).unwrap();
        cutter.finish().unwrap();
        (scanner.bytes(), scanner.finish())
    }

    #[test]
    fn r29_columns_are_charged_about_what_they_need_whatever_was_scanned_before() {
        // Many columns of each size are kept for the next.
        for (entries, padding) in [
            (60_000, 20),
            (3_000, 3_000),
            (400, 20),
            (60_000, 20),
            (9_000, 300),
        ] {
            for _ in 0..3 {
                let (charged, pieces) = scanned(entries, padding);
                let found: usize = pieces.iter().map(|piece| piece.owned[0].seen.len()).sum();
                assert_eq!(found, entries);
                let needed = (entries * (size_of::<Seen>() + size_of::<Span>())) as u64;
                let first = pieces[0].owned[0].bytes();
                assert!(charged >= needed);
                // The first grows as it has to, or has whatever room it has.
                assert!(charged - first <= 5 * needed / 2, "{charged} for {needed}");
            }
        }
    }
}
