//! The vocabulary of the pipeline, and the encoding of a batch.
//!
//! A batch is the changes of one cell in one epoch (or a part of them, where they are many). `dedup`
//! encodes it once; the journal stores the bytes as they are; every follower reads the same bytes.
//!
//! Body of a batch, integers little-endian:
//!
//! ```text
//! version u8 = 1
//! cell u32 | polled_at u64 (Unix ms) | topic, source, cell label: u16 length + UTF-8 each
//! change*  kind u8 | partition u32 | key hash u128 | raw u64 | canon u64 | rule u8
//!          | key: u32 length + UTF-8 | value: u32 length + bytes
//! ```

use std::fmt;

pub use deltapoll_state::word::{CellId, Epoch, Fingerprint, KeyHash, Seq};

const VERSION: u8 = 1;
const CHANGE_FIXED_BYTES: usize = 1 + 4 + 16 + 8 + 8 + 1;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The key was not there before.
    Added,
    /// The key's content differs from the last.
    Changed,
    /// The key is gone; there is a value only where `removed = "event"`.
    Removed,
}

impl Kind {
    /// The word used in headers, logs and objects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Added => "added",
            Kind::Changed => "changed",
            Kind::Removed => "removed",
        }
    }

    /// What [`Kind::as_str`] wrote.
    #[must_use]
    pub fn parse(word: &str) -> Option<Kind> {
        let all = [Kind::Added, Kind::Changed, Kind::Removed];
        all.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One change, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// What happened.
    pub kind: Kind,
    /// The partition of the topic that it belongs to (R22).
    pub partition: u32,
    /// Seeded hash of `key`.
    pub hash: KeyHash,
    /// The new value's fingerprints; all zero for a removal.
    pub print: Fingerprint,
    /// The record key.
    pub key: &'a str,
    /// The record's value as it is published (the entry's JSON); `None` = tombstone. A change that is
    /// to be forgotten without a trace in the topic (`removed = "ignore"`) is [`Change::silent`].
    pub value: Option<&'a [u8]>,
    /// Remembered, but neither published nor archived.
    pub silent: bool,
}

/// What all changes of a batch share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The cell's number in this directory.
    pub cell: CellId,
    /// When the snapshot's last byte arrived (Unix ms).
    pub polled_at: u64,
    /// The topic that the changes go to.
    pub topic: String,
    /// The source's name.
    pub source: String,
    /// The cell's var values, for example `kr,RANKED_SOLO_5x5`; never the URL.
    pub label: String,
}

/// Builds the body of a batch.
#[derive(Debug)]
pub struct Builder {
    body: Vec<u8>,
    head_bytes: usize,
    changes: u32,
}

impl Builder {
    /// An empty batch.
    #[must_use]
    pub fn new(head: &Head) -> Builder {
        let mut body = vec![VERSION];
        body.extend_from_slice(&head.cell.0.to_le_bytes());
        body.extend_from_slice(&head.polled_at.to_le_bytes());
        for text in [&head.topic, &head.source, &head.label] {
            let length = u16::try_from(text.len()).expect("names are checked to be short");
            body.extend_from_slice(&length.to_le_bytes());
            body.extend_from_slice(text.as_bytes());
        }
        Builder {
            head_bytes: body.len(),
            body,
            changes: 0,
        }
    }

    /// The body of a batch of which `rebuild` knows no change: it keeps its number.
    #[must_use]
    pub fn empty(head: &Head) -> Vec<u8> {
        Builder::new(head).body
    }

    /// Appends one change.
    pub fn push(&mut self, change: &Change<'_>) {
        let body = &mut self.body;
        let kind = match change.kind {
            Kind::Added => 0,
            Kind::Changed => 1,
            Kind::Removed => 2,
        };
        let value = if change.value.is_some() { 4 } else { 0 };
        let silent = if change.silent { 8 } else { 0 };
        body.push(kind | value | silent);
        body.extend_from_slice(&change.partition.to_le_bytes());
        body.extend_from_slice(&change.hash.0.to_le_bytes());
        body.extend_from_slice(&change.print.raw.to_le_bytes());
        body.extend_from_slice(&change.print.canon.to_le_bytes());
        body.push(change.print.rule);
        for bytes in [change.key.as_bytes(), change.value.unwrap_or_default()] {
            let length = u32::try_from(bytes.len()).expect("record_max bounds keys and values");
            body.extend_from_slice(&length.to_le_bytes());
            body.extend_from_slice(bytes);
        }
        self.changes += 1;
    }

    /// Number of changes so far.
    #[must_use]
    pub fn changes(&self) -> u32 {
        self.changes
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// The body built so far, if it has a change; the builder starts over with the same head.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        if self.changes == 0 {
            return None;
        }
        self.changes = 0;
        // Where there was one there may be another, about as long.
        let mut next = Vec::with_capacity(self.body.len() + self.body.len() / 16);
        next.extend_from_slice(&self.body[..self.head_bytes]);
        Some(std::mem::replace(&mut self.body, next))
    }
}

/// Why a batch's body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A later (or no) format.
    #[error("batch has format version {0}, this build reads {VERSION}")]
    Version(u8),
    /// The bytes end, or do not make sense, at an offset.
    #[error("batch is damaged at byte {0}")]
    Damaged(usize),
}

/// A batch read in place.
#[derive(Debug)]
pub struct Batch<'a> {
    /// What all changes share.
    pub head: Head,
    changes: Cursor<'a>,
}

impl<'a> Batch<'a> {
    /// Reads the head of `body`.
    ///
    /// # Errors
    /// When the version is unknown or the head is damaged.
    pub fn read(body: &'a [u8]) -> Result<Batch<'a>, Error> {
        let mut cursor = Cursor { body, at: 0 };
        let version = cursor.array::<1>()?[0];
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let cell = CellId(u32::from_le_bytes(cursor.array()?));
        let polled_at = u64::from_le_bytes(cursor.array()?);
        let mut text = || -> Result<String, Error> {
            let length = usize::from(u16::from_le_bytes(cursor.array()?));
            Ok(cursor.text(length)?.to_owned())
        };
        let (topic, source, label) = (text()?, text()?, text()?);
        Ok(Batch {
            head: Head {
                cell,
                polled_at,
                topic,
                source,
                label,
            },
            changes: cursor,
        })
    }

    /// The changes, in order; an error is the last item.
    pub fn changes(&self) -> impl Iterator<Item = Result<Change<'a>, Error>> + use<'a> {
        let mut cursor = self.changes.clone();
        std::iter::from_fn(move || {
            if cursor.at >= cursor.body.len() {
                return None;
            }
            let change = cursor.change();
            if change.is_err() {
                cursor.at = cursor.body.len();
            }
            Some(change)
        })
    }
}

#[derive(Clone, Debug)]
struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn slice(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let end = self
            .at
            .checked_add(length)
            .filter(|end| *end <= self.body.len());
        let end = end.ok_or(Error::Damaged(self.at))?;
        let slice = &self.body[self.at..end];
        self.at = end;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let at = self.at;
        self.slice(N)?.try_into().map_err(|_| Error::Damaged(at))
    }

    fn text(&mut self, length: usize) -> Result<&'a str, Error> {
        let at = self.at;
        std::str::from_utf8(self.slice(length)?).map_err(|_| Error::Damaged(at))
    }

    fn change(&mut self) -> Result<Change<'a>, Error> {
        let at = self.at;
        if self.body.len() - at < CHANGE_FIXED_BYTES {
            return Err(Error::Damaged(at));
        }
        let flags = self.array::<1>()?[0];
        let kind = match flags & 3 {
            0 => Kind::Added,
            1 => Kind::Changed,
            2 => Kind::Removed,
            _ => return Err(Error::Damaged(at)),
        };
        let partition = u32::from_le_bytes(self.array()?);
        let hash = KeyHash(u128::from_le_bytes(self.array()?));
        let print = Fingerprint {
            raw: u64::from_le_bytes(self.array()?),
            canon: u64::from_le_bytes(self.array()?),
            rule: self.array::<1>()?[0],
        };
        let key_bytes = u32::from_le_bytes(self.array()?) as usize;
        let key = self.text(key_bytes)?;
        let value_bytes = u32::from_le_bytes(self.array()?) as usize;
        let value = self.slice(value_bytes)?;
        let value = (flags & 4 != 0).then_some(value);
        Ok(Change {
            kind,
            partition,
            hash,
            print,
            key,
            value,
            silent: flags & 8 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            cell: CellId(7),
            polled_at: 1_700_000_000_123,
            topic: "challenger".into(),
            source: "league".into(),
            label: "kr,RANKED_SOLO_5x5".into(),
        }
    }

    fn change<'a>(key: &'a str, value: Option<&'a [u8]>, kind: Kind) -> Change<'a> {
        let print = Fingerprint {
            raw: 1,
            canon: 2,
            rule: 3,
        };
        let hash = KeyHash(u128::MAX / 3);
        Change {
            kind,
            partition: 5,
            hash,
            print,
            key,
            value,
            silent: value.is_none(),
        }
    }

    #[test]
    fn a_batch_reads_back_as_it_was_built() {
        let mut builder = Builder::new(&head());
        assert_eq!(
            builder.take(),
            None,
            "a batch without changes does not exist"
        );
        let all = [
            change("a", Some(b"{}"), Kind::Added),
            change("", Some(b""), Kind::Changed),
            change("\u{e9}", None, Kind::Removed),
        ];
        for one in &all {
            builder.push(one);
        }
        let body = builder.take().expect("three changes");
        let batch = Batch::read(&body).expect("sound");
        assert_eq!(batch.head, head());
        let read: Result<Vec<_>, _> = batch.changes().collect();
        assert_eq!(read.expect("sound"), all);
        builder.push(&all[0]);
        let body = builder.take().expect("the head is kept");
        assert_eq!(Batch::read(&body).expect("sound").head, head());
    }

    #[test]
    fn a_batch_cut_anywhere_is_damage_and_never_a_panic() {
        let mut builder = Builder::new(&head());
        builder.push(&change("key", Some(b"value"), Kind::Added));
        let whole = builder.take().expect("one change");
        for cut in 0..whole.len() {
            let Ok(batch) = Batch::read(&whole[..cut]) else {
                continue;
            };
            assert!(batch.changes().all(|c| c.is_err()), "cut at {cut}");
        }
    }
}
