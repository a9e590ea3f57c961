//! What a Deltapoll directory holds: the journal, which is the commit point, and the paged store
//! that remembers every key's fingerprints.
//!
//! Layout, in reading order:
//!
//! * [`word`]: the vocabulary: sequence numbers, epochs, hashes, fingerprints.
//! * [`range`]: which worker owns which part of the key-hash space.
//! * [`error`]: why an operation on the directory failed.
//! * [`lock`]: one process per directory.
//! * [`journal`]: sealed batches and small facts: the one place where anything is committed.

#![warn(missing_docs)]

#[cfg(test)]
mod dice;
pub mod error;
pub mod journal;
pub mod lock;
pub mod range;
pub mod word;
