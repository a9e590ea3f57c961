//! Pages: what one value of the store holds, and under which key.
//!
//! Key: cell u32 | kind u8 (0 entries, 1 key bytes) | least key hash u128, big-endian, so that the
//! pages of a cell follow each other in order of hash. A page holds the entries from its least hash
//! up to the next page's; whether there is an entry of exactly that hash does not matter.
//!
//! ```text
//! version u8 | checksum u64 | entries: (hash u128 | raw u64 | canon u64 | rule u8)*, by hash
//! version u8 | checksum u64 | key bytes, in the order of the entries: (length varint | bytes)*
//! ```
//!
//! Integers little-endian. The checksum is XXH3-64 of what follows, seeded by the page's own key, so
//! that a page passes only where it was put. A key of length 0 is not kept.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::Error;
use crate::word::{CellId, Fingerprint, KeyHash};

/// An entry in a page of entries.
pub(crate) const ENTRY_BYTES: usize = 33;
const HEAD_BYTES: usize = 9;
const VERSION: u8 = 1;

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Entries,
    Keys,
}

/// A page's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) cell: CellId,
    pub(crate) kind: Kind,
    pub(crate) first: KeyHash,
}

impl Id {
    pub(crate) fn entries(cell: CellId, first: KeyHash) -> Id {
        Id {
            cell,
            kind: Kind::Entries,
            first,
        }
    }

    pub(crate) fn keys(cell: CellId, first: KeyHash) -> Id {
        Id {
            cell,
            kind: Kind::Keys,
            first,
        }
    }

    pub(crate) fn key(self) -> Vec<u8> {
        let mut key = Vec::with_capacity(21);
        key.extend_from_slice(&self.cell.0.to_be_bytes());
        key.push(self.kind as u8);
        key.extend_from_slice(&self.first.0.to_be_bytes());
        key
    }

    /// The name that `key` spells; `None`: it is no page's.
    pub(crate) fn read(key: &[u8]) -> Option<Id> {
        let (cell, rest) = key.split_first_chunk::<4>()?;
        let (kind, first) = rest.split_first()?;
        let kind = match kind {
            0 => Kind::Entries,
            1 => Kind::Keys,
            _ => return None,
        };
        Some(Id {
            cell: CellId(u32::from_be_bytes(*cell)),
            kind,
            first: KeyHash(u128::from_be_bytes(first.try_into().ok()?)),
        })
    }

    fn seed(self) -> u64 {
        let place = u64::from(self.cell.0) << 8 | self.kind as u64;
        place ^ self.first.top() ^ (self.first.0 as u64).rotate_left(32)
    }

    /// What the page `bytes` holds, once it is proven to be this page.
    pub(crate) fn open(self, bytes: &[u8]) -> Result<&[u8], Error> {
        let damaged = |what| Error::Page {
            cell: self.cell,
            page: self.first,
            what,
        };
        let Some((head, content)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return Err(damaged("it is too short"));
        };
        let [version, checksum @ ..] = head;
        if *checksum != xxh3_64_with_seed(content, self.seed()).to_le_bytes() {
            return Err(damaged("its checksum does not match"));
        }
        if *version != VERSION {
            return Err(damaged("another build wrote it"));
        }
        if self.kind == Kind::Entries && !content.len().is_multiple_of(ENTRY_BYTES) {
            return Err(damaged("it ends within an entry"));
        }
        Ok(content)
    }

    /// The key bytes in the opened page `content`, which has `count` of them.
    pub(crate) fn split(self, content: &[u8], count: usize) -> Result<Vec<&[u8]>, Error> {
        let mut keys = Vec::with_capacity(count);
        let mut rest = content;
        while let Some(key) = take_key(&mut rest) {
            keys.push(key);
        }
        if keys.len() == count && rest.is_empty() {
            return Ok(keys);
        }
        Err(Error::Page {
            cell: self.cell,
            page: self.first,
            what: "its keys do not match its entries",
        })
    }
}

/// Builds a page.
#[derive(Debug)]
pub(crate) struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    pub(crate) fn with_capacity(content: usize) -> Builder {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + content);
        bytes.resize(HEAD_BYTES, 0);
        bytes[0] = VERSION;
        Builder { bytes }
    }

    pub(crate) fn entry(&mut self, entry: Entry) {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..16].copy_from_slice(&entry.hash.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&entry.print.raw.to_le_bytes());
        bytes[24..32].copy_from_slice(&entry.print.canon.to_le_bytes());
        bytes[32] = entry.print.rule;
        self.bytes.extend_from_slice(&bytes);
    }

    pub(crate) fn key(&mut self, key: &[u8]) {
        put_key(&mut self.bytes, key);
    }

    /// For tests: appends what may be anything.
    #[cfg(test)]
    pub(crate) fn raw(&mut self, content: &[u8]) {
        self.bytes.extend_from_slice(content);
    }

    /// The page, to be put under `id`.
    pub(crate) fn finish(mut self, id: Id) -> Vec<u8> {
        let checksum = xxh3_64_with_seed(&self.bytes[HEAD_BYTES..], id.seed());
        self.bytes[1..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.bytes
    }
}

/// One key's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) hash: KeyHash,
    pub(crate) print: Fingerprint,
}

impl Entry {
    #[inline]
    pub(crate) fn read(bytes: &[u8; ENTRY_BYTES]) -> Entry {
        let u64_at = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("inside"));
        Entry {
            hash: hash_of(bytes),
            print: Fingerprint {
                raw: u64_at(16),
                canon: u64_at(24),
                rule: bytes[32],
            },
        }
    }
}

#[inline]
fn hash_of(bytes: &[u8; ENTRY_BYTES]) -> KeyHash {
    KeyHash(u128::from_le_bytes(*bytes.first_chunk().expect("inside")))
}

/// The entries in opened page content.
pub(crate) fn entries(
    content: &[u8],
) -> impl DoubleEndedIterator<Item = Entry> + ExactSizeIterator + Clone {
    content.as_chunks::<ENTRY_BYTES>().0.iter().map(Entry::read)
}

/// Where the entry of `hash` is in opened page content, or where it would be.
pub(crate) fn find(content: &[u8], hash: KeyHash) -> Result<usize, usize> {
    let entries = content.as_chunks::<ENTRY_BYTES>().0;
    entries.binary_search_by_key(&hash, hash_of)
}

/// Appends a key and, before it, its length.
pub(crate) fn put_key(out: &mut Vec<u8>, key: &[u8]) {
    let mut length = key.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(key);
}

/// Takes what [`put_key`] appended off the front; `None`: nothing whole is left.
pub(crate) fn take_key<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (mut length, mut shift, mut at) = (0_usize, 0, 0);
    loop {
        let byte = *rest.get(at)?;
        if shift > 28 {
            return None;
        }
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        at += 1;
        if byte < 0x80 {
            break;
        }
    }
    let end = at.checked_add(length).filter(|end| *end <= rest.len())?;
    let key = &rest[at..end];
    *rest = &rest[end..];
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(hash: u128) -> Entry {
        let print = Fingerprint {
            raw: hash as u64,
            canon: !hash as u64,
            rule: 3,
        };
        Entry {
            hash: KeyHash(hash),
            print,
        }
    }

    #[test]
    fn a_page_passes_only_where_it_was_put_and_with_every_bit_intact() {
        let id = Id::entries(CellId(7), KeyHash(5 << 70));
        assert_eq!(Id::read(&id.key()), Some(id));
        let all: Vec<Entry> = (1..5).map(|n| entry(n << 100)).collect();
        let mut builder = Builder::with_capacity(0);
        all.iter().for_each(|entry| builder.entry(*entry));
        let mut page = builder.finish(id);
        let content = id.open(&page).unwrap();
        assert_eq!(entries(content).collect::<Vec<_>>(), all);
        assert_eq!(find(content, KeyHash(3 << 100)), Ok(2));
        assert_eq!(find(content, KeyHash(3)), Err(0));
        for other in [
            Id::keys(CellId(7), id.first),
            Id::entries(CellId(8), id.first),
            Id::entries(CellId(7), KeyHash(0)),
        ] {
            assert!(other.open(&page).is_err());
        }
        for bit in 0..page.len() * 8 {
            page[bit / 8] ^= 1 << (bit % 8);
            let error = id.open(&page).unwrap_err().to_string();
            assert!(error.contains("of cell 7"), "{error}");
            page[bit / 8] ^= 1 << (bit % 8);
        }
        page[0] = VERSION + 1;
        let error = id.open(&page).unwrap_err().to_string();
        assert!(error.contains("another build wrote it"), "{error}");
    }

    #[test]
    fn key_bytes_of_any_length_read_back_and_a_cut_is_an_error() {
        let id = Id::keys(CellId(1), KeyHash(0));
        let long = vec![b'x'; 20_000];
        let keys: [&[u8]; 4] = [b"a", b"", &long, &long[..127]];
        let mut builder = Builder::with_capacity(0);
        keys.iter().for_each(|key| builder.key(key));
        let page = builder.finish(id);
        let content = id.open(&page).unwrap();
        assert_eq!(id.split(content, 4).unwrap(), keys);
        assert!(id.split(content, 3).is_err());
        for cut in 0..content.len() {
            assert!(id.split(&content[..cut], 4).is_err(), "cut at {cut}");
        }
    }
}
