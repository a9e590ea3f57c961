//! What a Deltapoll directory holds: the journal, which is the commit point, and the paged store
//! that remembers every key's fingerprints.
//!
//! Layout, in reading order:
//!
//! * [`word`]: the vocabulary: sequence numbers, epochs, hashes, fingerprints.
//! * [`range`]: which worker owns which part of the key-hash space.

pub mod range;
pub mod word;
