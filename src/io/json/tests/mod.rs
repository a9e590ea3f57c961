//! Tests of the JSON modules together: bad input, random documents against serde_json, and the
//! vectors of the canonical form.

mod bad;
mod document;
mod fuzz;
mod keys;
mod random;
mod reference;
mod vectors;

use bytes::Bytes;

use super::cutter::{Cutter, Take};
use super::extract::{self, Counts, Entry};
use super::{Malformed, Pointer};

fn pointer(text: &str) -> Pointer {
    Pointer::parse(text).expect("a pointer")
}

/// Cuts `chunks`, as they arrive.
fn cut<'a>(
    records: &str,
    piece_bytes: usize,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<Bytes>, Malformed> {
    cut_with(records, piece_bytes, &[pointer("/id")], chunks)
}

/// The same, finding keys: the entries are those that `extract` finds in each piece.
fn cut_with<'a>(
    records: &str,
    piece_bytes: usize,
    keys: &[Pointer],
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<Bytes>, Malformed> {
    let mut cutter = Cutter::new(&pointer(records), piece_bytes, keys);
    let mut taken = Taken {
        keys,
        entries: Vec::new(),
        pieces: Vec::new(),
    };
    for chunk in chunks {
        cutter.push(chunk, &mut taken)?;
    }
    cutter.finish()?;
    assert!(taken.entries.is_empty(), "entries without a piece");
    Ok(taken.pieces)
}

struct Taken<'k> {
    keys: &'k [Pointer],
    entries: Vec<Seen>,
    pieces: Vec<Bytes>,
}

/// What is told of an entry: where it is, its bytes, its key and where that is.
type Seen = (u32, Vec<u8>, Option<Vec<u8>>, Option<u32>);

fn seen(entry: &Entry<'_>) -> Seen {
    assert_eq!(entry.len as usize, entry.bytes.len());
    let key = entry.key.map(<[u8]>::to_vec);
    (entry.offset, entry.bytes.to_vec(), key, entry.key_offset)
}

impl Take for Taken<'_> {
    fn entry(&mut self, entry: Entry<'_>) {
        self.entries.push(seen(&entry));
    }

    fn piece(&mut self, bytes: Bytes) {
        let mut again = Vec::new();
        let counts = extract::scan(&bytes, self.keys, |entry| again.push(seen(&entry)));
        let shown = String::from_utf8_lossy(&bytes);
        assert!(counts.is_ok(), "{counts:?}: {shown}");
        assert_eq!(std::mem::take(&mut self.entries), again, "{shown}");
        self.pieces.push(bytes);
    }
}

/// The texts of a piece's entries, and its counts.
fn entries(piece: &[u8], keys: &[Pointer]) -> Result<(Vec<Vec<u8>>, Counts), Malformed> {
    let mut texts = Vec::new();
    let counts = extract::scan(piece, keys, |entry| {
        let start = entry.offset as usize;
        assert_eq!(entry.bytes, &piece[start..start + entry.len as usize]);
        texts.push(entry.bytes.to_vec());
    })?;
    assert_eq!(counts.entries, texts.len() as u64);
    Ok((texts, counts))
}

/// All entries of a body that arrives in one chunk.
fn all(records: &str, body: &str) -> Result<Vec<String>, Malformed> {
    let mut texts = Vec::new();
    for piece in cut(records, 16, [body.as_bytes()])? {
        texts.extend(entries(&piece, &[])?.0);
    }
    let text = |bytes| String::from_utf8(bytes).expect("checked by scan");
    Ok(texts.into_iter().map(text).collect())
}

fn fault(records: &str, body: &str) -> String {
    all(records, body).expect_err(body).to_string()
}
