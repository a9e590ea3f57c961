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

use super::cutter::Cutter;
use super::extract::{self, Counts};
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
    let mut cutter = Cutter::new(&pointer(records), piece_bytes);
    let mut pieces = Vec::new();
    for chunk in chunks {
        cutter.push(chunk, &mut pieces)?;
    }
    cutter.finish(&mut pieces)?;
    Ok(pieces)
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
