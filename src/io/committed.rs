//! A committed record of a topic as it is read back, the same from Kafka and from the local topic log.

use crate::change::{Epoch, Kind, Seq};
use crate::io::line::Line;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Committed<'a> {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) key: &'a [u8],
    /// `None` = tombstone.
    pub(crate) value: Option<&'a [u8]>,
    /// The record's own time (Unix ms).
    pub(crate) at: u64,
    /// What it says of itself; `None`: it has no headers, or not ours.
    pub(crate) stamp: Option<Stamp>,
}

/// What a record's headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) kind: Kind,
    pub(crate) epoch: Epoch,
    pub(crate) seq: Seq,
    pub(crate) polled_at: u64,
}

impl Stamp {
    /// Makes it of texts by name.
    pub(crate) fn read<'a>(text: impl Fn(&str) -> Option<&'a str>) -> Option<Stamp> {
        let number = |name| text(name)?.parse::<u64>().ok();
        Some(Stamp {
            kind: Kind::parse(text("change")?)?,
            epoch: Epoch(number("epoch")?),
            seq: Seq(number("seq")?),
            polled_at: number("polled_at")?,
        })
    }

    /// Makes it of what a line of the local topic log says.
    pub(crate) fn of(line: &Line<'_>) -> Option<Stamp> {
        Some(Stamp {
            kind: Kind::parse(line.change?)?,
            epoch: Epoch(line.epoch?),
            seq: Seq(line.seq?),
            polled_at: line.polled_at?,
        })
    }
}

/// The part of a partition that is read: from `first` on, up to and without `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) partition: u32,
    pub(crate) first: u64,
    pub(crate) next: u64,
}

impl Span {
    /// Offsets in it; at least as many as records.
    pub(crate) fn offsets(self) -> u64 {
        self.next.saturating_sub(self.first)
    }
}
