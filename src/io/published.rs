//! A change as it was published: what a reader of committed records sees of it, in Kafka or in the
//! local topic log.

use crate::change::{Epoch, Kind, Seq};

/// One committed record.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
    /// Its place in the partition.
    pub offset: u64,
    /// When its snapshot arrived, as the record's own time says (Unix ms); 0: it does not.
    pub timestamp: u64,
    /// The record key.
    pub key: &'a [u8],
    /// The value; `None`: a tombstone.
    pub value: Option<&'a [u8]>,
    /// What else it says of itself; `None`: it was published without headers, or by somebody else.
    pub told: Option<Told<'a>>,
}

/// What a record says of the change that it is.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// What happened to the key.
    pub kind: Kind,
    /// The epoch of its batch.
    pub epoch: Epoch,
    /// The number of its batch.
    pub seq: Seq,
    /// When its snapshot arrived (Unix ms).
    pub polled_at: u64,
    /// Source and cell; the local topic log does not say.
    pub cell: Option<(&'a str, &'a str)>,
}

/// The kind of change that a word stands for.
#[must_use]
pub fn kind(word: &str) -> Option<Kind> {
    [Kind::Added, Kind::Changed, Kind::Removed]
        .into_iter()
        .find(|kind| kind.as_str() == word)
}
