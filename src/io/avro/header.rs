//! What the first bytes of an archive object say about it (R25): whose it is, which changes of its
//! topic-partition it holds, and their digest.
//!
//! Reading is safe on any bytes: an object that somebody else put there must not hurt us.

use super::container::MAGIC;
use super::digest::Digest;
use crate::change::Seq;

/// A header fits into this many bytes by far (the schema is one of ours, the rest is short).
pub const HEADER_BYTES_MAX: usize = 16 << 10;

const LINEAGE: &str = "deltapoll.lineage";
const FIRST: &str = "deltapoll.first";
const LAST: &str = "deltapoll.last";
const SEQS: &str = "deltapoll.seqs";
const DIGEST: &str = "deltapoll.digest";

/// The header of an archive object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The directory's identity.
    pub lineage: String,
    /// Index of the first change within its topic-partition, from 0.
    pub first: u64,
    /// Index of the last change, inclusive.
    pub last: u64,
    /// The batch of the first change.
    pub seq_first: Seq,
    /// The batch of the last change, inclusive.
    pub seq_last: Seq,
    /// The digest of all changes.
    pub digest: Digest,
}

impl Header {
    /// Number of changes.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.last - self.first + 1
    }

    /// The metadata in the order in which it is written.
    #[must_use]
    pub fn metadata(&self) -> [(&'static str, String); 5] {
        [
            (LINEAGE, self.lineage.clone()),
            (FIRST, self.first.to_string()),
            (LAST, self.last.to_string()),
            (SEQS, format!("{}-{}", self.seq_first, self.seq_last)),
            (DIGEST, self.digest.to_string()),
        ]
    }

    /// Reads the header from an object's first bytes.
    ///
    /// # Errors
    /// Says what the bytes are instead.
    pub fn read(bytes: &[u8]) -> Result<Header, String> {
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or("it is no Avro object container file")?;
        let mut metadata = Metadata::default();
        metadata
            .read(&mut Cursor(rest))
            .ok_or("its header is damaged or too long")?;
        metadata
            .header()
            .ok_or_else(|| "it was not written by deltapoll".to_owned())
    }
}

#[derive(Default)]
struct Metadata {
    entries: Vec<(String, String)>,
}

impl Metadata {
    fn read(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        loop {
            let mut count = cursor.long()?;
            if count == 0 {
                return Some(());
            }
            if count < 0 {
                // A negative count is followed by the block's size in bytes.
                cursor.long()?;
                count = count.checked_neg()?;
            }
            for _ in 0..count {
                let key = cursor.bytes()?;
                let value = cursor.bytes()?;
                let ours = key.starts_with(b"deltapoll.");
                if let (true, Ok(key), Ok(value)) =
                    (ours, std::str::from_utf8(key), std::str::from_utf8(value))
                {
                    self.entries.push((key.to_owned(), value.to_owned()));
                }
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        let entry = self.entries.iter().find(|(key, _)| key == name)?;
        Some(&entry.1)
    }

    fn header(&self) -> Option<Header> {
        let (seq_first, seq_last) = self.get(SEQS)?.split_once('-')?;
        let header = Header {
            lineage: self.get(LINEAGE)?.to_owned(),
            first: self.get(FIRST)?.parse().ok()?,
            last: self.get(LAST)?.parse().ok()?,
            seq_first: Seq(seq_first.parse().ok()?),
            seq_last: Seq(seq_last.parse().ok()?),
            digest: Digest::parse(self.get(DIGEST)?)?,
        };
        let sound = header.first <= header.last
            && header.last < u64::MAX
            && header.seq_first <= header.seq_last;
        sound.then_some(header)
    }
}

/// Reads Avro's primitives.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn long(&mut self) -> Option<i64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((number >> 1).cast_signed() ^ -((number & 1).cast_signed()));
            }
        }
        None
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.long()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::container::{Blocks, sync_marker};
    use super::super::schema::Record;
    use super::*;
    use crate::change::{Epoch, Kind};
    use crate::config::Codec;

    fn header() -> Header {
        Header {
            lineage: "0011".into(),
            first: 7,
            last: 9,
            seq_first: Seq(3),
            seq_last: Seq(5),
            digest: Digest(12345),
        }
    }

    fn file(header: &Header) -> Vec<u8> {
        let mut blocks = Blocks::new(Codec::Deflate, sync_marker("l", "n"));
        let record = Record {
            key: "k",
            kind: Kind::Added,
            epoch: Epoch(1),
            seq: Seq(3),
            polled_at: 1,
            print: 1,
            value: None,
        };
        blocks.push(&record).unwrap();
        let metadata = header.metadata();
        let metadata: Vec<_> = metadata.iter().map(|(k, v)| (*k, v.as_str())).collect();
        blocks.file(&metadata).unwrap().concat()
    }

    #[test]
    fn r25_a_header_reads_back_from_the_first_bytes() {
        let file = file(&header());
        assert!(file.len() < HEADER_BYTES_MAX);
        assert_eq!(Header::read(&file), Ok(header()));
    }

    #[test]
    fn r25_a_header_cut_anywhere_or_changed_anywhere_is_never_a_panic() {
        let whole = file(&header());
        let end = whole
            .windows(16)
            .position(|w| w == sync_marker("l", "n"))
            .unwrap();
        for cut in 0..end {
            assert!(Header::read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..end {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = Header::read(&changed);
            }
        }
    }

    #[test]
    fn r25_foreign_bytes_are_no_header() {
        for (bytes, reason) in [
            (&b""[..], "no Avro"),
            (&b"PAR1....."[..], "no Avro"),
            (&b"Obj\x01\x00"[..], "not written by deltapoll"),
            (
                &b"Obj\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..],
                "damaged",
            ),
        ] {
            let error = Header::read(bytes).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let backwards = Header {
            first: 10,
            ..header()
        };
        assert!(Header::read(&file(&backwards)).is_err());
    }
}
