//! What a Deltapoll directory holds: the journal, which is the commit point, and the paged store
//! that remembers every key's fingerprints.
//!
//! Layout, in reading order:
//!
//! * [`word`]: the vocabulary: sequence numbers, epochs, hashes, fingerprints.
//! * [`range`]: which worker owns which part of the key-hash space.
//! * [`error`]: why an operation on the directory failed.
//! * [`fail`]: where tests may end the process or break a rule; for tests, too: `dice`, `fuzz`.
//! * [`directory`]: directories that a power cut does not take back; [`lock`]: one process in each.
//! * [`journal`]: sealed batches and small facts: the one place where anything is committed.
//! * [`store`]: where pages are kept: sled is named there alone.
//! * [`pages`]: the entries of every cell, in pages; `page`: what one of them holds.
//! * [`range_state`]: what one worker remembers of its range: pages, and what was decided since.

#![warn(missing_docs)]

#[cfg(any(test, feature = "fail-points"))]
pub mod dice;
pub mod directory;
pub mod error;
pub mod fail;
#[cfg(any(test, feature = "fail-points"))]
pub mod fuzz;
pub mod journal;
pub mod lock;
mod page;
pub mod pages;
pub mod range;
pub mod range_state;
pub mod store;
pub mod word;
