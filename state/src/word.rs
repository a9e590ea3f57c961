//! The vocabulary of the state: newtypes for what may be confused.

use std::fmt;

/// Dense number of a batch, from 1; 0 means "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The sequence number that follows.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Logical time of the dataflow: Unix milliseconds, forced above the last sealed one; 0 means
/// "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A cell's number, given once by its directory and kept for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId(pub u32);

/// Hash of a record key, seeded by the lineage (XXH3-128).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u128);

impl KeyHash {
    /// The part that decides which range the key is in.
    #[must_use]
    pub fn top(self) -> u64 {
        (self.0 >> 64) as u64
    }
}

/// What is remembered of an entry's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// Hash of the entry's bytes as they arrived (seeded XXH3-64).
    pub raw: u64,
    /// Hash of the entry's canonical content.
    pub canon: u64,
    /// Number of the rule that `canon` was made under; 0 = unknown.
    pub rule: u8,
}
